package mlxlm

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tensor"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// config is what this package reads of config.json.
type config struct {
	Layers     int               `json:"num_hidden_layers"`
	Heads      int               `json:"num_attention_heads"`
	KVHeads    int               `json:"num_key_value_heads"`
	HeadDim    int               `json:"head_dim"`
	Hidden     int               `json:"hidden_size"`
	Vocab      int               `json:"vocab_size"`
	MaxContext int               `json:"max_position_embeddings"`
	EOS        modeldir.TokenIDs `json:"eos_token_id"`
	Quant      json.RawMessage   `json:"quantization"`
	Text       *config           `json:"text_config"`
}

// maxConfigBytes bounds config.json: an entry for each quantized layer is some
// hundred bytes.
const maxConfigBytes = 8 << 20

func readConfig(dir string) (*config, error) {
	path := filepath.Join(dir, "config.json")
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("no MLX model in %s: %w", dir, err)
	}
	if info.Size() > maxConfigBytes {
		return nil, &tensor.FormatError{Path: path, Offset: -1, Err: fmt.Errorf("of %d bytes is no configuration", info.Size())}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := parseConfig(data)
	if err != nil {
		return nil, &tensor.FormatError{Path: path, Offset: -1, Err: err}
	}
	return c, nil
}

// parseConfig reads config.json; a model with a text part is that part.
func parseConfig(data []byte) (*config, error) {
	var c config
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, err
	}
	if t := c.Text; t != nil {
		t.Quant, t.Text = c.Quant, nil
		if len(t.EOS) == 0 {
			t.EOS = c.EOS
		}
		c = *t
	}
	return &c, nil
}

// cacheBytesPerToken is keys and values of 16 bits, 0 where the sizes are not
// told.
func (c *config) cacheBytesPerToken() int64 {
	kv, dim := c.KVHeads, c.HeadDim
	if kv == 0 {
		kv = c.Heads
	}
	if dim == 0 && c.Heads > 0 {
		dim = c.Hidden / c.Heads
	}
	const most = 1 << 20
	if c.Layers < 0 || kv < 0 || dim < 0 || c.Layers > most || kv > most || dim > most {
		return 0
	}
	return int64(c.Layers) * int64(kv) * int64(dim) * 2 * 2
}

// IsFolder reports whether dir looks like a folder that mlx-lm runs: a config
// and safetensors files.
func IsFolder(dir string) bool {
	found, err := filepath.Glob(filepath.Join(dir, "model*.safetensors"))
	_, statErr := os.Stat(filepath.Join(dir, "config.json"))
	return err == nil && statErr == nil && len(found) > 0
}

// OpenText reads the folder's small files and its tokenizer. Folder.Model is
// config.json's path.
func OpenText(dir string) (*modeldir.Folder, *tokenizer.Tokenizer, error) {
	c, err := readConfig(dir)
	if err != nil {
		return nil, nil, err
	}
	folder, err := modeldir.OpenFiles(dir)
	if err != nil {
		return nil, nil, err
	}
	folder.Model = filepath.Join(dir, "config.json")
	if len(folder.Generation.EOS) == 0 {
		folder.Generation.EOS = c.EOS
	}
	tok, err := tokenizer.Load(dir)
	return folder, tok, err
}

// checkWeights reads the headers of the weight files and refuses packed weights
// whose sizes do not fit together. It returns the bytes of all.
func checkWeights(dir string, c *config) (int64, error) {
	var files []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries { // as mlx-lm finds them
		if name := e.Name(); strings.HasPrefix(name, "model") && strings.HasSuffix(name, ".safetensors") {
			files = append(files, filepath.Join(dir, name))
		}
	}
	if len(files) == 0 {
		return 0, fmt.Errorf("there is no model*.safetensors in %s", dir)
	}
	set, err := safetensors.OpenFiles(files...)
	if err != nil {
		return 0, err
	}
	defer set.Close()
	quant, err := parseQuant(c.Quant)
	if err != nil {
		return 0, &tensor.FormatError{Path: filepath.Join(dir, "config.json"), Offset: -1, Field: "quantization", Err: err}
	}
	var total int64
	byName := map[string]*tensor.Tensor{}
	for _, t := range set.Tensors() {
		total += t.Bytes
		byName[t.Name] = t
	}
	for name, scales := range byName {
		module, ok := strings.CutSuffix(name, ".scales")
		if !ok {
			continue
		}
		if err := quant.of(module).check(module, byName, scales); err != nil {
			return 0, &tensor.FormatError{Path: dir, Offset: -1, Field: fmt.Sprintf("tensor %.100q", module+".weight"), Err: err}
		}
	}
	return total, nil
}

// packing is how weights are packed.
type packing struct {
	Group int    `json:"group_size"`
	Bits  int    `json:"bits"`
	Mode  string `json:"mode"`
}

// quantization is the object of config.json: a packing, and for some modules
// another one.
type quantization struct {
	packing
	modules map[string]packing
}

func parseQuant(data json.RawMessage) (quantization, error) {
	q := quantization{modules: map[string]packing{}}
	if len(data) == 0 || string(data) == "null" {
		return q, nil
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return q, err
	}
	if err := json.Unmarshal(data, &q.packing); err != nil {
		return q, err
	}
	for key, raw := range all {
		var p packing
		if len(raw) > 0 && raw[0] == '{' {
			if err := json.Unmarshal(raw, &p); err != nil {
				return q, fmt.Errorf("%s: %w", key, err)
			}
			q.modules[key] = p
		}
	}
	return q, nil
}

func (q *quantization) of(module string) packing {
	p, ok := q.modules[module]
	if !ok {
		return q.packing
	}
	if p.Mode == "" {
		p.Mode = q.Mode
	}
	return p
}

// check compares a packed weight [out, in*bits/32] with its scales
// [out, in/group].
func (p packing) check(module string, all map[string]*tensor.Tensor, scales *tensor.Tensor) error {
	w, ok := all[module+".weight"]
	switch {
	case !ok:
		return errors.New("is missing, but has scales")
	case p.Bits <= 0 || p.Group <= 0:
		return errors.New("has scales, but config.json tells no bits and group size for it")
	case w.Type != "U32":
		return fmt.Errorf("has scales but is of type %s, not U32", w.Type)
	case len(w.Shape) < 2 || len(w.Shape) != len(scales.Shape):
		return fmt.Errorf("has shape %v and scales %v", w.Shape, scales.Shape)
	}
	last := len(w.Shape) - 1
	for i := range last {
		if w.Shape[i] != scales.Shape[i] {
			return fmt.Errorf("has shape %v and scales %v", w.Shape, scales.Shape)
		}
	}
	if words, groups := w.Shape[last], scales.Shape[last]; words > 1<<32 || groups > 1<<32 || p.Bits > 32 || p.Group > 1<<16 || words*32 != groups*p.Group*p.Bits {
		return fmt.Errorf("has rows of %d words and %d groups: not %d bits in groups of %d", words, groups, p.Bits, p.Group)
	}
	return nil
}
