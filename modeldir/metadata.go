package modeldir

// File names inside a model folder.
const (
	ModelFile            = "model.onnx"
	DataFile             = "model.onnx.data"
	PrefillFile          = "model_prefill.onnx"
	RecipeFile           = "recipe.json" // what the artifact was made by
	SelfTestFile         = "selftest.json"
	MetadataFile         = "metadata.json"
	GenAIConfigFile      = "genai_config.json"
	GenerationConfigFile = "generation_config.json"
	ChatTemplateFile     = "chat_template.jinja"
	TokenizerFile        = "tokenizer.json"
	TokenizerConfigFile  = "tokenizer_config.json"
)

// MetadataVersion is the schema number of [Metadata]. Readers refuse a higher
// one.
const MetadataVersion = 1

// Metadata is metadata.json: what an artifact is, what it was made from, and
// what was measured about it.
type Metadata struct {
	SchemaVersion int          `json:"schema_version"`
	Tool          Tool         `json:"tool"`
	Target        TargetSpecs  `json:"target_specs"`
	Source        Source       `json:"source"`
	Architecture  Architecture `json:"architecture"`
	Hints         Hints        `json:"hints"`
	Bits          []RoleBits   `json:"bits_per_role"`
	Size          Size         `json:"size"`
	Fidelity      *Fidelity    `json:"fidelity,omitempty"`
	Files         []FileRecord `json:"files"`
}

// Tool says which program wrote the artifact.
type Tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// TargetSpecs says what the artifact is for.
type TargetSpecs struct {
	Format            string `json:"format"`             // "onnx"
	ExecutionProvider string `json:"execution_provider"` // "CPUExecutionProvider"; "any" for base
	Target            string `json:"target"`             // folder name: "cpu", "base"
	Precision         string `json:"precision"`          // "int4", "int8", "fp16", "fp32"
	Recipe            string `json:"recipe"`
	Opset             int    `json:"opset"`
	MinORTVersion     string `json:"min_onnxruntime"`
	BlockLength       int    `json:"block_length,omitempty"`
	Symmetric         bool   `json:"symmetric"`
	ActivationType    string `json:"activation_type"` // "float32", "float16"
	// IntegerInputs says which matrices multiply activations of 8 bits, how the
	// steps of those are found, and why; "" where none does.
	IntegerInputs string `json:"integer_inputs,omitempty"`
	ScaleType     string `json:"scale_type,omitempty"`
	Calibration   string `json:"calibration,omitempty"`
	Dialect       string `json:"dialect"` // "fused" or "standard"
	// Prefill names a second graph over the same data file that evaluates many
	// tokens at once, where [ModelFile] takes one: PrefillFile, or "" where one
	// graph serves both. How many tokens, and how long the cache is, the shapes
	// of its inputs tell.
	Prefill string `json:"prefill_model,omitempty"`
	// RanOnDevice says whether the artifact was run on the hardware it is for.
	RanOnDevice string `json:"ran_on_device"` // "yes" or "not run on the device"
}

// Source says what was converted.
type Source struct {
	ID       string       `json:"id"`
	Format   string       `json:"format"` // "huggingface", "gguf"
	Revision string       `json:"revision,omitempty"`
	Files    []FileRecord `json:"files"`
}

// FileRecord names a file by content. Name is relative, with forward slashes.
type FileRecord struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256,omitempty"`
}

// Architecture holds the facts a runtime or a reader wants at hand.
type Architecture struct {
	Name          string  `json:"name"`
	ModelType     string  `json:"model_type"`
	Hidden        int     `json:"hidden_size"`
	Intermediate  int     `json:"intermediate_size"`
	Layers        int     `json:"num_hidden_layers"`
	Heads         int     `json:"num_attention_heads"`
	KVHeads       int     `json:"num_key_value_heads"`
	HeadDim       int     `json:"head_dim"`
	Vocab         int     `json:"vocab_size"`
	MaxContext    int     `json:"max_context"`
	RoPETheta     float64 `json:"rope_theta"`
	RoPEScaling   string  `json:"rope_scaling,omitempty"`
	NormEps       float64 `json:"rms_norm_eps"`
	TiedEmbedding bool    `json:"tied_embedding"`
	Parameters    int64   `json:"parameters"`
}

// Hints are the facts graph passes are driven by, as derived from the config.
type Hints struct {
	AttentionType string `json:"attention_type"` // "mha", "gqa", "mqa"
	GQARatio      int    `json:"gqa_ratio"`
	MaxContext    int    `json:"max_context"`
	Batch         int    `json:"batch"`
	KVCache       string `json:"kv_cache"` // element type of the cache: "float32"
	// CacheForm is who keeps the cache: "grow" (present is past and the new
	// rows), "shared" (one buffer of fixed length is both), "host" (present is
	// the new rows alone); "" in files of older versions.
	CacheForm string `json:"kv_cache_form,omitempty"`
	// Context is the length of the cache where the graph fixes it, PrefillChunk
	// the number of tokens the prefill graph takes where it fixes that.
	Context      int    `json:"fixed_context,omitempty"`
	PrefillChunk int    `json:"prefill_chunk,omitempty"`
	Logits       string `json:"logits"` // "last" or "all"
}

// RoleBits says what a weight role became. Layers is empty for all layers.
type RoleBits struct {
	Role   string `json:"role"`
	Layers []int  `json:"layers,omitempty"`
	Bits   int    `json:"bits"`
	Scheme string `json:"scheme"`
}

// Size of an artifact. Bits per weight = bytes of the weight files × 8 /
// parameters; the floor is the same sum over the packed integers and scales
// the recipe asks for, without norms, tables and padding.
type Size struct {
	WeightBytes        int64   `json:"weight_bytes"`
	GraphBytes         int64   `json:"graph_bytes"`
	BitsPerWeight      float64 `json:"bits_per_weight"`
	BitsPerWeightFloor float64 `json:"bits_per_weight_floor"`
	// BodyBitsPerWeight is the floor of the layers' matrices alone, without
	// embedding and head, over their own parameters.
	BodyBitsPerWeight float64 `json:"body_bits_per_weight,omitempty"`
}

// Fidelity holds what verify measured against the fp32 graph.
type Fidelity struct {
	Reference       string  `json:"reference"` // what was compared with
	Text            string  `json:"text"`
	Tokens          int     `json:"tokens"`
	Definition      string  `json:"definition,omitempty"` // how the text is cut: "windows:512"
	Arithmetic      string  `json:"arithmetic,omitempty"` // "" for the provider's own
	KLMean          float64 `json:"kl_mean"`
	KLStdErr        float64 `json:"kl_stderr,omitempty"`
	KLMax           float64 `json:"kl_max"`
	Top1Agreement   float64 `json:"top1_agreement"`
	Top5Agreement   float64 `json:"top5_agreement,omitempty"`
	Perplexity      float64 `json:"perplexity"`
	PerplexityRatio float64 `json:"perplexity_ratio"`
	// PerplexityRatioStdErr is the ratio's standard error.
	PerplexityRatioStdErr float64 `json:"perplexity_ratio_stderr,omitempty"`
	MaxAbsDelta           float64 `json:"max_abs_logit_delta"`
	// Scope is "whole model", "layer by layer" or "9 layers at a time": what was
	// in memory at once, not what was compared.
	Scope  string  `json:"scope"`
	Ranges []Range `json:"float16_ranges,omitempty"`
}

// Range is the largest magnitude seen in one fp16-typed tensor.
type Range struct {
	Tensor string  `json:"tensor"`
	MaxAbs float64 `json:"max_abs"`
	Limit  float64 `json:"limit"`
}
