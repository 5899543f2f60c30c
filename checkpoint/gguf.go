package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// ggufArch says what a value of general.architecture is in Hugging Face terms.
type ggufArch struct {
	class, modelType string
	// permuted: q and k rows are stored with each head's rotary pairs side by
	// side, as ggml's RoPE NORM wants them (llama_model_rope_type).
	permuted bool
	// biased: q, k and v always have biases, so that config.json says nothing.
	biased bool
	// lessOne: norms are stored with the 1 added that the model adds.
	lessOne bool
	// names of layer tensors that differ from [ggufLayer].
	names map[string]string
}

var ggufArchs = map[string]ggufArch{
	"gemma2": {class: "Gemma2ForCausalLM", modelType: "gemma2", lessOne: true, names: gemmaNames},
	"gemma3": {class: "Gemma3ForCausalLM", modelType: "gemma3_text", lessOne: true, names: gemmaNames},
	"llama":  {class: "LlamaForCausalLM", modelType: "llama", permuted: true},
	"phi3": {class: "Phi3ForCausalLM", modelType: "phi3", names: map[string]string{
		"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj",
	}},
	"qwen2":    {class: "Qwen2ForCausalLM", modelType: "qwen2", biased: true},
	"qwen3":    {class: "Qwen3ForCausalLM", modelType: "qwen3"},
	"qwen3moe": {class: "Qwen3MoeForCausalLM", modelType: "qwen3_moe"},
}

// expertNames are the layer tensors of mixtures of experts; those of experts are
// stacked, [experts, rows, columns].
var expertNames = map[string]map[string]string{
	"MixtralForCausalLM": {
		"ffn_gate_inp": "block_sparse_moe.gate", "ffn_gate_exps": "block_sparse_moe.experts.%d.w1",
		"ffn_up_exps": "block_sparse_moe.experts.%d.w3", "ffn_down_exps": "block_sparse_moe.experts.%d.w2",
	},
	"Qwen3MoeForCausalLM": {
		"ffn_gate_inp": "mlp.gate", "ffn_gate_exps": "mlp.experts.%d.gate_proj",
		"ffn_up_exps": "mlp.experts.%d.up_proj", "ffn_down_exps": "mlp.experts.%d.down_proj",
	},
}

var gemmaNames = map[string]string{
	"post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
}

// ggufGlobals and ggufLayer map GGUF tensor names to Hugging Face ones, without
// the .weight or .bias both end in (gguf-py tensor_mapping.py).
var ggufGlobals = map[string]string{
	"token_embd":  "model.embed_tokens",
	"output_norm": "model.norm",
	"output":      "lm_head",
}

var ggufLayer = map[string]string{
	"attn_norm":   "input_layernorm",
	"attn_q":      "self_attn.q_proj",
	"attn_k":      "self_attn.k_proj",
	"attn_v":      "self_attn.v_proj",
	"attn_output": "self_attn.o_proj",
	"attn_q_norm": "self_attn.q_norm",
	"attn_k_norm": "self_attn.k_norm",
	"ffn_norm":    "post_attention_layernorm",
	"ffn_gate":    "mlp.gate_proj",
	"ffn_up":      "mlp.up_proj",
	"ffn_down":    "mlp.down_proj",
}

// The tensors of RoPE scaling, which are in the config: divisors of llama3 and
// of longrope.
const (
	ropeFreqs = "rope_freqs.weight"
	ropeLong  = "rope_factors_long.weight"
	ropeShort = "rope_factors_short.weight"
)

var layerTensor = regexp.MustCompile(`^blk\.(\d{1,4})\.([a-z_]+)\.(weight|bias)$`)

// hfName translates the name of a tensor of class, a Hugging Face architecture; ok
// is false for names of other models. Stacked ones have a %d in them.
func (a ggufArch) hfName(class, name string) (hf string, ok bool) {
	if m := layerTensor.FindStringSubmatch(name); m != nil {
		if part := cmp.Or(a.names[m[2]], expertNames[class][m[2]], ggufLayer[m[2]]); part != "" {
			return "model.layers." + m[1] + "." + part + "." + m[3], true
		}
		return "", false
	}
	base, kind, _ := strings.Cut(name, ".")
	if part := ggufGlobals[base]; part != "" && (kind == "weight" || kind == "bias") {
		return part + "." + kind, true
	}
	return "", false
}

// openGGUF opens a GGUF file, or all shards of one that is split.
func openGGUF(path string, o Options) (_ *Checkpoint, err error) {
	shards, err := openShards(path)
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{path: path, format: GGUF, closer: shards}
	defer func() {
		if err != nil {
			shards.Close()
		}
	}()
	c.id = strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	k := &ggufKeys{r: shards[0]}
	cfg, err := k.config(shards.find)
	if err != nil {
		return nil, err
	}
	if c.config, err = encodeJSON(cfg); err != nil {
		return nil, err
	}
	for _, r := range shards {
		if err := c.addGGUFTensors(r, cfg); err != nil {
			return nil, err
		}
		if err := c.addSource(r.Path()); err != nil {
			return nil, err
		}
	}
	c.setTensors(c.tensors)
	if vocab, ok := k.integer("vocab_size"); ok && vocab != cfg.VocabSize {
		o.Logger.Warn("vocab_size differs from the embedding's rows, which count", "file", path, "vocab_size", vocab, "rows", cfg.VocabSize)
	}
	return c, c.addGGUFSupport(k, cfg)
}

// GGUF is the file that a GGUF checkpoint was read from, the first of several,
// with all keys; nil for other checkpoints. It is open as long as c is.
func (c *Checkpoint) GGUF() *gguf.Reader {
	all, ok := c.closer.(closers) // with an adapter
	if !ok {
		all = closers{c.closer}
	}
	for _, one := range all {
		if s, ok := one.(ggufShards); ok {
			return s[0]
		}
	}
	return nil
}

// onlyModel reports whether a GGUF file has its folder to itself, so that the
// licence beside it must be its own. In a folder of many models it may be
// anybody's.
func onlyModel(path string) bool {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return false
	}
	for _, e := range entries {
		name := strings.ToLower(e.Name())
		if strings.HasSuffix(name, ".safetensors") || (strings.HasSuffix(name, ".gguf") && e.Name() != filepath.Base(path)) {
			return false
		}
	}
	return true
}

// openGGUFFolder opens the one model in a folder; licence and card beside it
// are taken for the model's.
func openGGUFFolder(dir, name string, o Options) (*Checkpoint, error) {
	c, err := openGGUF(filepath.Join(dir, name), o)
	if err != nil {
		return nil, err
	}
	if err := c.addFolderSupport(dir, isLegal); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// addGGUFTensors adds a file's tensors under their Hugging Face names.
func (c *Checkpoint) addGGUFTensors(r *gguf.Reader, cfg *ggufConfig) error {
	for _, t := range r.Tensors() {
		if t.Name == ropeFreqs || cfg.arch == "phi3" && (t.Name == ropeLong || t.Name == ropeShort) {
			continue // is in the config
		}
		name, ok := ggufArchs[cfg.arch].hfName(cfg.Architectures[0], t.Name)
		if !ok {
			return &tensor.UnsupportedError{
				What: fmt.Sprintf("tensor %.100q in a GGUF file of architecture %q", t.Name, cfg.arch),
				Hint: "the model has a part that this release does not know, and would be wrong without it",
			}
		}
		heads := 0
		switch {
		case !ggufArchs[cfg.arch].permuted:
		case strings.Contains(name, ".self_attn.q_proj."):
			heads = cfg.Heads
		case strings.Contains(name, ".self_attn.k_proj."):
			heads = cfg.KVHeads
		}
		if heads > 0 {
			rows, cols := rowsCols(t.Shape)
			if rows != heads*cfg.HeadDim {
				return &tensor.FormatError{Path: r.Path(), Offset: -1, Field: fmt.Sprintf("tensor %q", t.Name), Err: fmt.Errorf("has shape %v, but the keys say %d heads of %d", t.Shape, heads, cfg.HeadDim)}
			}
			t.Reader = &headRows{src: t.Reader, heads: heads, dim: cfg.HeadDim, cols: cols}
		}
		if ggufArchs[cfg.arch].lessOne && strings.HasSuffix(name, "norm.weight") {
			t.Type, t.Reader = tensor.F32.String(), lessOne{t.Reader}
		}
		if strings.Contains(name, "%d") {
			if len(t.Shape) != 3 {
				return &tensor.FormatError{Path: r.Path(), Offset: -1, Field: fmt.Sprintf("tensor %q", t.Name), Err: fmt.Errorf("has shape %v, want that of stacked experts", t.Shape)}
			}
			for e := range t.Shape[0] {
				one := &tensor.Tensor{Name: fmt.Sprintf(name, e), Shape: t.Shape[1:], Type: t.Type, Bytes: t.Bytes / int64(t.Shape[0])}
				n := one.Elements()
				one.Reader = tensor.Section{Reader: t.Reader, First: int64(e) * n, N: n}
				c.tensors = append(c.tensors, one)
			}
			continue
		}
		t.Name = name
		c.tensors = append(c.tensors, t)
	}
	return nil
}

// lessOne reads norms as Gemma's checkpoints hold them, 1 less than what is
// multiplied. [Checkpoint.Tensor] adds it again.
type lessOne struct{ tensor.Reader }

// ReadFloat32 implements [tensor.Reader].
func (r lessOne) ReadFloat32(dst []float32, offset int64) error {
	err := r.Reader.ReadFloat32(dst, offset)
	for i := range dst {
		dst[i]--
	}
	return err
}

// rowsCols is the shape of a matrix, or of a bias as one of width 1.
func rowsCols(s tensor.Shape) (rows, cols int) {
	switch len(s) {
	case 1:
		return s[0], 1
	case 2:
		return s[0], s[1]
	}
	return -1, 0
}

// ggufShards are the files of one model, the first with all keys.
type ggufShards []*gguf.Reader

var ggufShardName = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

// firstShard returns the first file of names where they are one split model.
func firstShard(names []string) (string, bool) {
	slices.Sort(names)
	for i, n := range names {
		m := ggufShardName.FindStringSubmatch(n)
		if m == nil || n != fmt.Sprintf("%s-%05d-of-%05d.gguf", ggufShardName.FindStringSubmatch(names[0])[1], i+1, len(names)) {
			return "", false
		}
	}
	return names[0], true
}

// openShards opens path, and where its split.count says so the shards beside
// it (llama-gguf-split: NAME-00001-of-00003.gguf).
func openShards(path string) (_ ggufShards, err error) {
	r, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	count := int64(1)
	if v, ok := r.Value("split.count"); ok {
		if count, err = v.Int(); err != nil {
			r.Close()
			return nil, err
		}
	}
	if count <= 1 {
		return ggufShards{r}, nil
	}
	r.Close()
	m := ggufShardName.FindStringSubmatch(filepath.Base(path))
	if m == nil || m[3] != fmt.Sprintf("%05d", count) {
		return nil, &tensor.FormatError{Path: path, Offset: -1, Field: "key split.count", Err: fmt.Errorf("is %d, but the file is not named NAME-00001-of-%05d.gguf: the other shards cannot be found", count, count)}
	}
	var shards ggufShards
	defer func() {
		if err != nil {
			shards.Close()
		}
	}()
	seen := map[string]bool{}
	for i := range count {
		r, err := gguf.Open(filepath.Join(filepath.Dir(path), fmt.Sprintf("%s-%05d-of-%05d.gguf", m[1], i+1, count)))
		if err != nil {
			return nil, fmt.Errorf("shard %d of %d: %w", i+1, count, err)
		}
		shards = append(shards, r)
		for _, t := range r.Infos() {
			if seen[t.Name] {
				return nil, &tensor.FormatError{Path: r.Path(), Offset: t.Offset, Field: fmt.Sprintf("tensor %.100q", t.Name), Err: errors.New("is in another shard too")}
			}
			seen[t.Name] = true
		}
	}
	if v, ok := shards[0].Value("split.tensors.count"); ok {
		if n, err := v.Int(); err != nil || n != int64(len(seen)) {
			return nil, &tensor.FormatError{Path: path, Offset: -1, Field: "key split.tensors.count", Err: errors.Join(err, fmt.Errorf("is %s, but the shards hold %d tensors", strconv.FormatInt(n, 10), len(seen)))}
		}
	}
	return shards, nil
}

// find returns a tensor of any shard by its GGUF name.
func (s ggufShards) find(name string) (*tensor.Tensor, bool) {
	for _, r := range s {
		if t, ok := r.Tensor(name); ok {
			return t, true
		}
	}
	return nil, false
}

// Close implements [io.Closer].
func (s ggufShards) Close() error {
	var errs []error
	for _, r := range s {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

var _ io.Closer = ggufShards(nil)

// readable reports whether tensors of the stored type convert to float32.
func readable(typ string) bool {
	if d, ok := tensor.ParseDType(typ); ok {
		return d.IsFloat()
	}
	t, ok := ggml.ParseType(typ)
	return ok && t.Decodes()
}
