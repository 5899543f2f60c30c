package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// ggufConfig is the config.json rebuilt from a GGUF file's keys.
type ggufConfig struct {
	Architectures []string     `json:"architectures"`
	AttentionBias *bool        `json:"attention_bias,omitempty"`
	BOS           *int         `json:"bos_token_id"`
	EOS           *int         `json:"eos_token_id"`
	HeadDim       int          `json:"head_dim"`
	HiddenAct     string       `json:"hidden_act"`
	HiddenSize    int          `json:"hidden_size"`
	Intermediate  int          `json:"intermediate_size"`
	MaxPositions  int          `json:"max_position_embeddings"`
	MLPBias       bool         `json:"mlp_bias"`
	ModelType     string       `json:"model_type"`
	Heads         int          `json:"num_attention_heads"`
	Layers        int          `json:"num_hidden_layers"`
	KVHeads       int          `json:"num_key_value_heads"`
	PAD           *int         `json:"pad_token_id"`
	NormEps       json.Number  `json:"rms_norm_eps"`
	RopeScaling   *ropeScaling `json:"rope_scaling"`
	RopeTheta     json.Number  `json:"rope_theta"`
	Tied          bool         `json:"tie_word_embeddings"`
	DType         string       `json:"torch_dtype"`
	VocabSize     int          `json:"vocab_size"`

	// What only some architectures have.
	HiddenActivation string      `json:"hidden_activation,omitempty"`
	SlidingWindow    int         `json:"sliding_window,omitempty"`
	WindowPattern    int         `json:"sliding_window_pattern,omitempty"`
	QueryScalar      int         `json:"query_pre_attn_scalar,omitempty"`
	AttnSoftcap      json.Number `json:"attn_logit_softcapping,omitempty"`
	LogitSoftcap     json.Number `json:"final_logit_softcapping,omitempty"`
	LocalTheta       json.Number `json:"rope_local_base_freq,omitempty"`
	PartialRotary    json.Number `json:"partial_rotary_factor,omitempty"`
	Experts          int         `json:"num_experts,omitempty"`
	LocalExperts     int         `json:"num_local_experts,omitempty"`
	ExpertsUsed      int         `json:"num_experts_per_tok,omitempty"`
	ExpertWidth      int         `json:"moe_intermediate_size,omitempty"`
	NormTopK         bool        `json:"norm_topk_prob,omitempty"`

	arch string // general.architecture
}

// ropeScaling is config.json's rope_scaling.
type ropeScaling struct {
	Type            string      `json:"rope_type"`
	Factor          json.Number `json:"factor,omitempty"`
	LowFreqFactor   json.Number `json:"low_freq_factor,omitempty"`
	HighFreqFactor  json.Number `json:"high_freq_factor,omitempty"`
	OriginalContext int         `json:"original_max_position_embeddings,omitempty"`

	AttentionFactor json.Number   `json:"attention_factor,omitempty"`
	BetaFast        json.Number   `json:"beta_fast,omitempty"`
	BetaSlow        json.Number   `json:"beta_slow,omitempty"`
	ShortFactor     []json.Number `json:"short_factor,omitempty"`
	LongFactor      []json.Number `json:"long_factor,omitempty"`
}

// ggufKeys reads the keys of one architecture and keeps the first error.
type ggufKeys struct {
	r    *gguf.Reader
	arch string // prefix of the model's own keys
	used map[string]bool
	err  error
}

func (k *ggufKeys) keep(err error) {
	if k.err == nil {
		k.err = err
	}
}

// value finds a key of the model, marking it as honoured.
func (k *ggufKeys) value(key string) (gguf.Value, bool) {
	k.used[key] = true
	v, ok := k.r.Value(k.arch + "." + key)
	if ok && v.Type == gguf.Array {
		k.keep(&tensor.UnsupportedError{What: fmt.Sprintf("GGUF key %s with a value for each layer", v.Key)})
		return v, false
	}
	return v, ok
}

func (k *ggufKeys) integer(key string) (int, bool) {
	v, ok := k.value(key)
	if !ok {
		return 0, false
	}
	n, err := v.Int()
	k.keep(err)
	return int(n), err == nil
}

// size is a key that must be there.
func (k *ggufKeys) size(key string) int {
	n, ok := k.integer(key)
	if !ok {
		k.keep(&tensor.FormatError{Path: k.r.Path(), Offset: -1, Field: "key " + k.arch + "." + key, Err: errors.New("is missing")})
	}
	return n
}

func (k *ggufKeys) float(key string) (float64, bool) {
	v, ok := k.value(key)
	if !ok {
		return 0, false
	}
	f, err := v.Float()
	if err == nil && (math.IsNaN(f) || math.IsInf(f, 0)) {
		err = &tensor.FormatError{Path: k.r.Path(), Offset: -1, Field: "key " + v.Key, Err: fmt.Errorf("is %v", f)}
	}
	k.keep(err)
	return f, err == nil
}

// text reads a string of any prefix, "" where it is missing.
func (k *ggufKeys) text(key string) string {
	v, ok := k.r.Value(key)
	if !ok {
		return ""
	}
	s, err := v.Text()
	k.keep(err)
	return s
}

// tokenID reads tokenizer.ggml.NAME_token_id, -1 where it is missing or, as
// some files write for "none", beyond 32 bits.
func (k *ggufKeys) tokenID(name string) int {
	v, ok := k.r.Value("tokenizer.ggml." + name + "_token_id")
	if !ok {
		return -1
	}
	n, err := v.Int()
	k.keep(err)
	if n < 0 || n > math.MaxInt32 {
		return -1
	}
	return int(n)
}

// config rebuilds config.json. find looks a tensor up by its GGUF name.
func (k *ggufKeys) config(find func(string) (*tensor.Tensor, bool)) (*ggufConfig, error) {
	k.used = map[string]bool{}
	k.arch = k.text("general.architecture")
	if typ := k.text("general.type"); typ != "" && typ != "model" {
		return nil, &tensor.UnsupportedError{What: fmt.Sprintf("GGUF file of general.type %q", typ), Hint: "give the language model's own file"}
	}
	a, ok := ggufArchs[k.arch]
	if k.err == nil && !ok {
		return nil, &tensor.UnsupportedError{What: fmt.Sprintf("GGUF architecture %q", k.arch), Hint: "known are " + strings.Join(slices.Sorted(maps.Keys(ggufArchs)), ", ")}
	}
	has := func(name string) bool { _, ok := find(name); return ok }
	cfg := &ggufConfig{
		Architectures: []string{a.class},
		ModelType:     a.modelType,
		HiddenAct:     "silu",
		MLPBias:       has("blk.0.ffn_up.bias"),
		Tied:          !has("output.weight"),
		DType:         k.dtype(),
		BOS:           idOrNil(k.tokenID("bos")),
		EOS:           idOrNil(k.tokenID("eos")),
		PAD:           idOrNil(k.tokenID("padding")),
		arch:          k.arch,
	}
	if !a.biased {
		bias := has("blk.0.attn_q.bias")
		cfg.AttentionBias = &bias
	}
	k.sizes(cfg)
	k.rope(cfg, find)
	k.family(cfg, find)
	embd, ok := find("token_embd.weight")
	if !ok || len(embd.Shape) != 2 {
		k.keep(&tensor.FormatError{Path: k.r.Path(), Offset: -1, Field: "tensor token_embd.weight", Err: errors.New("is missing or no matrix: the file holds no language model")})
	} else {
		cfg.VocabSize = embd.Shape[0]
	}
	k.refuseUnhonoured()
	return cfg, k.err
}

func (k *ggufKeys) sizes(cfg *ggufConfig) {
	cfg.HiddenSize = k.size("embedding_length")
	cfg.Intermediate = k.size("feed_forward_length")
	cfg.Layers = k.size("block_count")
	cfg.MaxPositions = k.size("context_length")
	cfg.Heads = k.size("attention.head_count")
	cfg.KVHeads = cfg.Heads
	if n, ok := k.integer("attention.head_count_kv"); ok {
		cfg.KVHeads = n
	}
	for _, n := range []int{cfg.Heads, cfg.KVHeads, cfg.HiddenSize} {
		if n <= 0 || n > 1<<24 {
			k.keep(&tensor.FormatError{Path: k.r.Path(), Offset: -1, Field: "keys of " + k.arch, Err: fmt.Errorf("%d heads, %d key heads, width %d: not the sizes of a model", cfg.Heads, cfg.KVHeads, cfg.HiddenSize)})
			return
		}
	}
	cfg.HeadDim = cfg.HiddenSize / cfg.Heads
	if n, ok := k.integer("attention.key_length"); ok {
		cfg.HeadDim = n
	}
	for _, key := range []string{"attention.value_length", "rope.dimension_count"} {
		n, ok := k.integer(key)
		if k.arch == "phi3" && key == "rope.dimension_count" && ok && n > 0 && n < cfg.HeadDim {
			cfg.PartialRotary = json.Number(strconv.FormatFloat(float64(n)/float64(cfg.HeadDim), 'g', -1, 64))
			continue
		}
		if ok && n != cfg.HeadDim {
			k.keep(&tensor.UnsupportedError{What: fmt.Sprintf("GGUF key %s.%s = %d where the heads have %d", k.arch, key, n, cfg.HeadDim)})
		}
	}
	if cfg.HeadDim <= 0 || cfg.HeadDim > 1<<16 || cfg.HeadDim%2 != 0 {
		k.keep(&tensor.FormatError{Path: k.r.Path(), Offset: -1, Field: "key " + k.arch + ".attention.key_length", Err: fmt.Errorf("heads of %d elements: want an even number", cfg.HeadDim)})
		cfg.HeadDim = 2
	}
	eps, ok := k.float("attention.layer_norm_rms_epsilon")
	if !ok {
		k.keep(&tensor.FormatError{Path: k.r.Path(), Offset: -1, Field: "key " + k.arch + ".attention.layer_norm_rms_epsilon", Err: errors.New("is missing")})
	}
	cfg.NormEps = float32Number(eps)
}

// rope rebuilds rope_theta and rope_scaling. llama3 scaling has no key: it is
// the tensor of frequency divisors.
func (k *ggufKeys) rope(cfg *ggufConfig, find func(string) (*tensor.Tensor, bool)) {
	theta, ok := k.float("rope.freq_base")
	if !ok {
		theta = 10000
	}
	cfg.RopeTheta = float32Number(theta)
	typ := ""
	if v, ok := k.value("rope.scaling.type"); ok {
		var err error
		typ, err = v.Text()
		k.keep(err)
	}
	factor, hasFactor := k.float("rope.scaling.factor")
	if old, ok := k.float("rope.scale_linear"); ok && !hasFactor && old != 0 && old != 1 { // files of 2023
		typ, factor = "linear", old
	}
	orig, _ := k.integer("rope.scaling.original_context_length")
	k.used["rope.scaling.finetuned"] = true
	if _, ok := find(ropeLong); ok && k.arch == "phi3" {
		k.longrope(cfg, orig, find)
		return
	}
	if typ != "" && typ != "none" {
		cfg.RopeScaling = &ropeScaling{Type: typ, Factor: float32Number(factor), OriginalContext: orig}
	}
	if typ == "yarn" {
		k.yarn(cfg.RopeScaling, factor)
	}
	t, ok := find(ropeFreqs)
	if !ok || k.err != nil {
		return
	}
	if cfg.RopeScaling != nil {
		k.keep(&tensor.UnsupportedError{What: fmt.Sprintf("tensor %s beside RoPE scaling %q", ropeFreqs, typ)})
		return
	}
	var err error
	cfg.RopeScaling, err = llama3Scaling(t, theta, cfg.HeadDim)
	k.keep(err)
}

// yarn reads the rest of that scaling. llama.cpp multiplies cosines and sines by
// 0.1·ln(factor)+1 itself, and by attn_factor.
func (k *ggufKeys) yarn(r *ropeScaling, factor float64) {
	if f, ok := k.float("rope.scaling.yarn_beta_fast"); ok {
		r.BetaFast = float32Number(f)
	}
	if f, ok := k.float("rope.scaling.yarn_beta_slow"); ok {
		r.BetaSlow = float32Number(f)
	}
	if f, ok := k.float("rope.scaling.attn_factor"); ok && f != 1 && factor > 1 {
		r.AttentionFactor = json.Number(strconv.FormatFloat(f*(0.1*math.Log(factor)+1), 'g', -1, 64))
	}
	// What files of the converter hold beside, llama.cpp does not use.
	for _, key := range []string{"rope.scaling.yarn_attn_factor", "rope.scaling.yarn_log_multiplier"} {
		if f, ok := k.float(key); ok && f != 0 && f != 1 {
			k.keep(&tensor.UnsupportedError{What: fmt.Sprintf("GGUF key %s.%s = %v", k.arch, key, f)})
		}
	}
}

// longrope reads the factors of Phi-3, which are tensors.
func (k *ggufKeys) longrope(cfg *ggufConfig, original int, find func(string) (*tensor.Tensor, bool)) {
	r := &ropeScaling{Type: "longrope", OriginalContext: original}
	if f, ok := k.float("rope.scaling.attn_factor"); ok {
		r.AttentionFactor = float32Number(f)
	}
	read := func(name string) []json.Number {
		t, ok := find(name)
		if !ok || t.Elements() > 1<<16 {
			k.keep(&tensor.FormatError{Path: k.r.Path(), Offset: -1, Field: "tensor " + name, Err: errors.New("is missing or no list of factors")})
			return nil
		}
		x := make([]float32, t.Elements())
		k.keep(t.ReadWeights(x, 0))
		out := make([]json.Number, len(x))
		for i, v := range x {
			out[i] = float32Number(float64(v))
		}
		return out
	}
	r.ShortFactor, r.LongFactor = read(ropeShort), read(ropeLong)
	cfg.RopeScaling = r
}

// family reads what only some architectures have.
func (k *ggufKeys) family(cfg *ggufConfig, find func(string) (*tensor.Tensor, bool)) {
	window := func() {
		if n, ok := k.integer("attention.sliding_window"); ok && n > 0 {
			cfg.SlidingWindow = n
		}
	}
	// llama.cpp knows the model of 27B by its layers, and divides its scores by
	// another root (src/models/gemma2.cpp, gemma3.cpp).
	scalar := func(layersOf27B int) {
		cfg.QueryScalar = cfg.HeadDim
		if cfg.Layers == layersOf27B {
			cfg.QueryScalar = cfg.HiddenSize / cfg.Heads
		}
	}
	softcap := func(key string, def float64) json.Number {
		f, ok := k.float(key)
		if !ok {
			f = def
		}
		if f == 0 {
			return ""
		}
		return float32Number(f)
	}
	if k.arch == "gemma2" || k.arch == "gemma3" {
		cfg.HiddenAct, cfg.HiddenActivation = "gelu_pytorch_tanh", "gelu_pytorch_tanh"
		window()
		cfg.LogitSoftcap = softcap("final_logit_softcapping", map[string]float64{"gemma2": 30}[k.arch])
	}
	n, _ := k.integer("expert_count")
	used, _ := k.integer("expert_used_count")
	if n > 0 && (k.arch == "llama" || k.arch == "qwen3moe") {
		cfg.ExpertsUsed = used
		cfg.LocalExperts, cfg.NormTopK = n, true // llama.cpp's models know nothing else
		if k.arch == "llama" {
			cfg.Architectures, cfg.ModelType = []string{"MixtralForCausalLM"}, "mixtral"
		}
	} else if n > 0 {
		k.keep(&tensor.UnsupportedError{What: fmt.Sprintf("GGUF key %s.expert_count = %d", k.arch, n)})
	}
	switch k.arch {
	case "qwen3moe":
		cfg.Experts, cfg.LocalExperts = n, 0
		cfg.ExpertWidth = k.size("expert_feed_forward_length")
	case "gemma2":
		scalar(46)
		cfg.AttnSoftcap = softcap("attn_logit_softcapping", 50)
	case "gemma3":
		scalar(62)
		if cfg.SlidingWindow == 0 { // every layer sees all
			cfg.SlidingWindow, cfg.WindowPattern = cfg.MaxPositions, 1
			return
		}
		cfg.LocalTheta = "10000.0"
		if f, ok := k.float("rope.freq_base_swa"); ok {
			cfg.LocalTheta = float32Number(f)
		}
		cfg.WindowPattern = 6
		if n, ok := k.integer("attention.sliding_window_pattern"); ok {
			cfg.WindowPattern = n
		}
	case "phi3":
		window()
	}
}

// llama3Scaling finds the parameters whose divisors a rope_freqs tensor holds
// (conversion/llama.py generate_extra_tensors). The divisors fix only ratios;
// all known models use 1 and 4 as frequency factors.
func llama3Scaling(t *tensor.Tensor, theta float64, dim int) (*ropeScaling, error) {
	refuse := &tensor.UnsupportedError{What: "tensor " + ropeFreqs + " whose values are not those of llama3 RoPE scaling"}
	if t.Elements() != int64(dim/2) {
		return nil, refuse
	}
	got := make([]float32, dim/2)
	if err := t.ReadFloat32(got, 0); err != nil {
		return nil, err
	}
	plain := arch.RoPE{Theta: theta, Type: "default"}.InvFreq(dim)
	factor := float64(slices.Max(got))
	if !(factor > 1 && factor < 1e6) {
		return nil, refuse
	}
	for orig := 8192; orig <= 1<<20; orig *= 2 {
		// 8192 first, then the other powers of two from 1024.
		for _, o := range []int{orig, orig / 8} {
			r := arch.RoPE{Theta: theta, Type: "llama3", Factor: factor, LowFreqFactor: 1, HighFreqFactor: 4, OriginalContext: o}
			if sameDivisors(got, plain, r.InvFreq(dim)) {
				return &ropeScaling{Type: "llama3", Factor: float32Number(factor), LowFreqFactor: "1.0", HighFreqFactor: "4.0", OriginalContext: o}, nil
			}
		}
	}
	return nil, refuse
}

func sameDivisors(got, plain, scaled []float32) bool {
	for i, d := range got {
		want := float64(plain[i]) / float64(scaled[i])
		if !(math.Abs(float64(d)-want) <= 1e-4*want) {
			return false
		}
	}
	return true
}

// refuseUnhonoured refuses keys of the model that nothing above read, unless
// their value means "off": a key says something about the forward pass.
func (k *ggufKeys) refuseUnhonoured() {
	// Known to say nothing about the arithmetic.
	for _, key := range []string{"vocab_size", "tensor_data_layout"} {
		k.used[key] = true
	}
	for _, v := range k.r.Values() {
		key, ok := strings.CutPrefix(v.Key, k.arch+".")
		if !ok || k.used[key] {
			continue
		}
		off := v.Type == gguf.Array && v.Count == 0
		switch f, err := v.Float(); {
		case err == nil:
			off = f == 0
		case v.Type == gguf.Bool:
			b, err := v.Bool()
			off = err == nil && !b
		}
		if !off {
			k.keep(&tensor.UnsupportedError{What: fmt.Sprintf("GGUF key %s = %s", v.Key, v.Summary(60)), Hint: "it may change the model's arithmetic and is not implemented"})
		}
	}
}

// dtype is the float type nearest to what the file stores; block-quantized
// files have float16 scales.
func (k *ggufKeys) dtype() string {
	v, ok := k.r.Value("general.file_type")
	if !ok {
		return "float16"
	}
	n, err := v.Int()
	k.keep(err)
	switch n { // llama.h, enum llama_ftype
	case 0:
		return "float32"
	case 32:
		return "bfloat16"
	}
	return "float16"
}

func idOrNil(id int) *int {
	if id < 0 {
		return nil
	}
	return &id
}

// float32Number prints a value that the file holds as float32 as shortly as it
// can be: 1e-05, not 9.999999747378752e-06.
func float32Number(f float64) json.Number {
	return json.Number(strconv.FormatFloat(f, 'g', -1, 32))
}

// encodeJSON prints v as Hugging Face files are printed: two spaces, no HTML
// escapes.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode JSON: %w", err)
	}
	return b.Bytes(), nil
}
