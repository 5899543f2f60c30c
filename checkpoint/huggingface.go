package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// maxSupportBytes bounds a file that is read whole. The largest real ones are
// tokenizer.json files of some 35 MB.
const maxSupportBytes = 256 << 20

// openFolder opens a folder: a Hugging Face one by its safetensors files, else
// its only GGUF file.
func openFolder(dir string, o Options) (*Checkpoint, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var weights, ggufs, pickles []string
	for _, e := range entries {
		name := e.Name()
		switch {
		case strings.HasSuffix(name, ".safetensors"):
			weights = append(weights, name)
		case strings.HasSuffix(strings.ToLower(name), ".gguf"):
			ggufs = append(ggufs, name)
		case isPickle(name):
			pickles = append(pickles, name)
		}
	}
	index := filepath.Join(dir, safetensors.IndexName)
	if _, err := os.Stat(index); err == nil {
		return openHF(dir, []string{index}, o)
	}
	switch {
	case len(weights) > 0:
		paths, err := chooseWeights(dir, weights)
		if err != nil {
			return nil, err
		}
		return openHF(dir, paths, o)
	case len(ggufs) == 1:
		return openGGUFFolder(dir, ggufs[0], o)
	case len(ggufs) > 1:
		if first, ok := firstShard(ggufs); ok {
			return openGGUFFolder(dir, first, o)
		}
		return nil, fmt.Errorf("the folder holds %d GGUF files (%s): name one of them", len(ggufs), strings.Join(ggufs[:min(4, len(ggufs))], ", "))
	case len(pickles) > 0:
		return nil, pickleErr(pickles[0])
	}
	return nil, errors.New("the folder holds no model: no .safetensors files and no .gguf file")
}

var shardName = regexp.MustCompile(`^(.*)-(\d{5,6})-of-(\d{5,6})\.safetensors$`)

// chooseWeights decides which of a folder's safetensors files make up the model
// where there is no index: model.safetensors, the only file, or a complete
// series of shards.
func chooseWeights(dir string, names []string) ([]string, error) {
	if len(names) == 1 && strings.HasPrefix(names[0], "adapter_") {
		return nil, &tensor.UnsupportedError{What: "adapter " + names[0], Hint: "merge it into its base model first, with peft's merge_and_unload, and save that"}
	}
	if slices.Contains(names, "model.safetensors") {
		return []string{filepath.Join(dir, "model.safetensors")}, nil
	}
	if len(names) == 1 && shardName.FindStringSubmatch(names[0]) == nil {
		return []string{filepath.Join(dir, names[0])}, nil
	}
	var paths []string
	prefix, total := "", 0
	for _, n := range names { // ReadDir sorts: shards come in order
		m := shardName.FindStringSubmatch(n)
		if m == nil {
			continue
		}
		count, _ := strconv.Atoi(m[3])
		if paths != nil && (m[1] != prefix || count != total) {
			return nil, fmt.Errorf("the folder holds shards of several checkpoints (%s, %s) and no %s", filepath.Base(paths[0]), n, safetensors.IndexName)
		}
		prefix, total = m[1], count
		paths = append(paths, filepath.Join(dir, n))
	}
	if paths == nil {
		return nil, fmt.Errorf("the folder holds %d safetensors files and no %s: name one of them", len(names), safetensors.IndexName)
	}
	if len(paths) != total {
		return nil, &tensor.FormatError{Path: dir, Offset: -1, Field: "shards", Err: fmt.Errorf("%d of %d are here and there is no %s: download the rest", len(paths), total, safetensors.IndexName)}
	}
	return paths, nil
}

// isPickle reports whether a file name is one that torch.save writes weights
// under.
func isPickle(name string) bool {
	name = strings.ToLower(name)
	switch filepath.Ext(name) {
	case ".pth", ".pt", ".ckpt", ".pkl", ".pickle":
		return true
	case ".bin":
		return strings.HasPrefix(name, "pytorch_model") || strings.HasPrefix(name, "model") || strings.HasPrefix(name, "consolidated")
	}
	return false
}

func pickleErr(name string) error {
	return &tensor.UnsupportedError{
		What: fmt.Sprintf("pickle checkpoint %s", name),
		Hint: "loading a pickle can run code; take the model's safetensors files, or write them with transformers' save_pretrained",
	}
}

// openHF opens the folder dir with the given weight files, or the one index.
func openHF(dir string, paths []string, o Options) (_ *Checkpoint, err error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{path: dir, format: HuggingFace}
	c.id, c.revision = hubName(abs)
	c.config, err = readSmall(filepath.Join(dir, "config.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errors.New("there is no config.json beside the weights: download it from where they came from")
	}
	if err != nil {
		return nil, err
	}
	var set *safetensors.Set
	if strings.HasSuffix(paths[0], ".json") {
		set, err = safetensors.OpenIndex(paths[0])
	} else {
		set, err = safetensors.OpenFiles(paths...)
	}
	if err != nil {
		return nil, err
	}
	c.closer = set
	defer func() {
		if err != nil {
			set.Close()
		}
	}()
	if idx := set.Index(); idx != nil && idx.TotalSize >= 0 && idx.TotalSize != set.Bytes() {
		o.Logger.Warn("index total_size differs from the tensors' bytes", "file", paths[0], "total_size", idx.TotalSize, "bytes", set.Bytes())
	}
	c.setTensors(set.Tensors())
	if err := c.listFolder(dir, set, paths); err != nil {
		return nil, err
	}
	return c, nil
}

// listFolder fills the support and source files.
func (c *Checkpoint) listFolder(dir string, set *safetensors.Set, paths []string) error {
	if err := c.addFolderSupport(dir, isSupport); err != nil {
		return err
	}
	if err := c.addTemplate(); err != nil {
		return err
	}
	files := []string{filepath.Join(dir, "config.json")}
	if strings.HasSuffix(paths[0], ".json") {
		files = append(files, paths[0])
	}
	for _, r := range set.Shards() {
		files = append(files, r.Path())
	}
	for _, p := range files {
		if err := c.addSource(p); err != nil {
			return err
		}
	}
	return nil
}

// addFolderSupport adds the folder's files whose names are wanted.
func (c *Checkpoint) addFolderSupport(dir string, wanted func(name string) bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() || !wanted(name) {
			continue
		}
		c.addSupport(SupportFile{Name: name, Data: func() ([]byte, error) { return readSmall(path) }})
	}
	return nil
}

// supportNames are copied as they are. tokenizer.model and added_tokens.json
// are for readers other than this module.
var supportNames = []string{
	"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
	"vocab.json", "merges.txt", "generation_config.json", "chat_template.jinja",
}

// isSupport reports whether a file belongs beside a converted model.
func isSupport(name string) bool { return slices.Contains(supportNames, name) || isLegal(name) }

// isLegal reports whether a file is a licence or the model's card. Licences
// come as LICENSE, LICENSE.txt, LICENCE.md, NOTICE, USE_POLICY.md and so on.
func isLegal(name string) bool {
	up := strings.ToUpper(name)
	for _, p := range []string{"LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "COPYING"} {
		if strings.HasPrefix(up, p) {
			return true
		}
	}
	return name == "README.md"
}

// readSmall reads a whole file within [maxSupportBytes].
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSupportBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > maxSupportBytes {
		return nil, &tensor.FormatError{Path: path, Offset: maxSupportBytes, Err: errors.New("larger than any file of its kind")}
	}
	return b, nil
}

// addTemplate makes chat_template.jinja of the other two places where Hugging
// Face keeps a chat template, where the file itself is not there:
// chat_template.json, and chat_template in tokenizer_config.json, a string or a
// list of named ones of which "default" is taken. transformers prefers the file
// as well (tokenization_utils_base.py, from_pretrained).
func (c *Checkpoint) addTemplate() error {
	if _, ok := c.SupportFile("chat_template.jinja"); ok {
		return nil
	}
	for _, name := range []string{"chat_template.json", "tokenizer_config.json"} {
		b, err := readSmall(filepath.Join(c.path, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		text, err := templateOf(b)
		if err != nil {
			return &tensor.FormatError{Path: filepath.Join(c.path, name), Offset: -1, Field: "chat_template", Err: err}
		}
		if text != "" {
			c.addSupport(fixed("chat_template.jinja", []byte(text)))
			return nil
		}
	}
	return nil
}

// templateOf returns the chat_template member of a JSON object, "" where it has
// none.
func templateOf(b []byte) (string, error) {
	var root struct {
		Template json.RawMessage `json:"chat_template"`
	}
	if err := json.Unmarshal(b, &root); err != nil {
		return "", fmt.Errorf("the file is not a JSON object: %w", err)
	}
	if len(root.Template) == 0 || bytes.Equal(root.Template, []byte("null")) {
		return "", nil
	}
	var text string
	if json.Unmarshal(root.Template, &text) == nil {
		return text, nil
	}
	var named []struct{ Name, Template string }
	if err := json.Unmarshal(root.Template, &named); err != nil {
		return "", errors.New("is neither a string nor a list of named templates")
	}
	for _, n := range named {
		if n.Name == "default" {
			return n.Template, nil
		}
	}
	return "", nil // which one to use is not ours to guess
}

// fixed is a support file whose content is known already.
func fixed(name string, b []byte) SupportFile {
	return SupportFile{Name: name, Data: func() ([]byte, error) { return b, nil }}
}

// hubName finds the model's name and revision from where its folder lies:
// .../models--OWNER--NAME/snapshots/REVISION in the hub cache, or a folder that
// the hub client downloaded into, which notes the commit under
// .cache/huggingface/download.
func hubName(dir string) (id, revision string) {
	parent := filepath.Dir(dir)
	repo := filepath.Base(filepath.Dir(parent))
	if rest, ok := strings.CutPrefix(repo, "models--"); ok && filepath.Base(parent) == "snapshots" {
		return strings.Replace(rest, "--", "/", 1), filepath.Base(dir)
	}
	b, err := readSmall(filepath.Join(dir, ".cache", "huggingface", "download", "config.json.metadata"))
	if err == nil {
		line, _, _ := strings.Cut(string(b), "\n")
		if line = strings.TrimSpace(line); commitHash.MatchString(line) {
			revision = line
		}
	}
	return filepath.Base(dir), revision
}

var commitHash = regexp.MustCompile(`^[0-9a-f]{40}$`)
