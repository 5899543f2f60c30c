package checkpoint

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/format/gguf"
)

// GGUFShards opens a GGUF file, or all files of one that is split, the first
// with all keys. The caller closes them.
func GGUFShards(path string) ([]*gguf.Reader, error) {
	shards, err := openShards(path)
	return shards, err
}

// OpenText opens what a GGUF file of any architecture, known here or not, has in
// place of the files beside a Hugging Face model's weights: tokenizer.json,
// tokenizer_config.json, generation_config.json and the chat template, as
// [Checkpoint.SupportFile]. There are no tensors and no config.
func OpenText(path string) (_ *Checkpoint, err error) {
	shards, err := openShards(path)
	if err != nil {
		return nil, fmt.Errorf("open the tokenizer of %s: %w", path, err)
	}
	c := &Checkpoint{path: path, format: GGUF, closer: shards, id: strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))}
	k := &ggufKeys{r: shards[0], used: map[string]bool{}}
	k.arch = k.text("general.architecture")
	cfg := &ggufConfig{VocabSize: math.MaxInt}
	if n, ok := k.integer("context_length"); ok {
		cfg.MaxPositions = n
	}
	if t, ok := shards.find("token_embd.weight"); ok && len(t.Shape) == 2 {
		cfg.VocabSize = t.Shape[0]
	}
	if err := c.addGGUFSupport(k, cfg); err != nil {
		shards.Close()
		return nil, fmt.Errorf("open the tokenizer of %s: %w", path, err)
	}
	return c, nil
}
