package arch

import (
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Kind says how a model turns inputs into outputs. Decoders are what this
// release handles; encoders, vision towers and vocoders get kinds of their own.
type Kind uint8

// The kinds.
const (
	Decoder Kind = iota + 1
)

// Role says what a weight is for. Planners, recipes and hints speak of roles,
// never of tensor names.
type Role uint8

// The weight roles of a decoder. Shapes are in Hugging Face order, [out, in]
// for matrices.
const (
	TokenEmbd Role = iota + 1 // [vocab, hidden]
	AttnNorm                  // [hidden], before attention
	AttnQ                     // [heads·head_dim, hidden]
	AttnK                     // [kv_heads·head_dim, hidden]
	AttnV                     // [kv_heads·head_dim, hidden]
	AttnO                     // [hidden, heads·head_dim]
	AttnQBias                 // [heads·head_dim]
	AttnKBias                 // [kv_heads·head_dim]
	AttnVBias                 // [kv_heads·head_dim]
	AttnOBias                 // [hidden]
	QNorm                     // [head_dim], RMSNorm of each query head
	KNorm                     // [head_dim], RMSNorm of each key head
	FFNNorm                   // [hidden], before the MLP
	FFNGate                   // [intermediate, hidden]
	FFNUp                     // [intermediate, hidden]
	FFNDown                   // [hidden, intermediate]
	FinalNorm                 // [hidden], before the head
	LMHead                    // [vocab, hidden]; absent when tied to TokenEmbd
)

var roleNames = [...]string{
	TokenEmbd: "embed", AttnNorm: "attn_norm",
	AttnQ: "q", AttnK: "k", AttnV: "v", AttnO: "o",
	AttnQBias: "q_bias", AttnKBias: "k_bias", AttnVBias: "v_bias", AttnOBias: "o_bias",
	QNorm: "q_norm", KNorm: "k_norm", FFNNorm: "ffn_norm",
	FFNGate: "gate", FFNUp: "up", FFNDown: "down",
	FinalNorm: "final_norm", LMHead: "head",
}

// String is the short name that recipes use, such as "q" or "down".
func (r Role) String() string {
	if int(r) < len(roleNames) && roleNames[r] != "" {
		return roleNames[r]
	}
	return fmt.Sprintf("Role(%d)", uint8(r))
}

// ParseRole is the inverse of [Role.String].
func ParseRole(s string) (Role, bool) {
	for i, n := range roleNames {
		if n != "" && n == s {
			return Role(i), true
		}
	}
	return 0, false
}

// IsMatrix reports whether weights of this role are matrices, that is what
// recipes quantize; norms and biases are vectors and stay as they are.
func (r Role) IsMatrix() bool {
	switch r {
	case TokenEmbd, AttnQ, AttnK, AttnV, AttnO, FFNGate, FFNUp, FFNDown, LMHead:
		return true
	}
	return false
}

// Weight is one tensor of the checkpoint.
type Weight struct {
	Role Role
	// Layer counts from 0; -1 for weights outside the layers.
	Layer int
	// Name is the tensor's name in a Hugging Face checkpoint.
	Name  string
	Shape tensor.Shape
}

// Spec is one decoder: sizes in elements, constants as the config states them.
type Spec struct {
	Kind Kind
	// Architecture is the class in config.json, such as "LlamaForCausalLM".
	Architecture string
	// ModelType is config.json's model_type, such as "llama".
	ModelType string

	Hidden       int // width of the residual stream
	Intermediate int // width of the MLP
	Layers       int
	Heads        int // query heads
	KVHeads      int // key and value heads; divides Heads
	HeadDim      int // may differ from Hidden/Heads
	Vocab        int // rows of the embedding, padding rows included
	MaxContext   int // positions the model was trained for
	NormEps      float32
	Tied         bool // the head is the embedding
	QKVBias      bool
	OBias        bool
	QKNorm       bool // RMSNorm over head_dim of every query and key head before RoPE

	RoPE RoPE
	// DType is the type the checkpoint's config names ("bfloat16"); may be
	// empty. Informative: the stored tensors say what they are.
	DType string

	BOS int // id, -1 when the config names none
	EOS []int
	PAD int // id, -1 when the config names none
}

// Weights lists every weight in checkpoint order: embedding, layers, final
// norm, head.
func (s *Spec) Weights() []Weight {
	h, q, kv := s.Hidden, s.Heads*s.HeadDim, s.KVHeads*s.HeadDim
	ws := make([]Weight, 0, 3+s.Layers*14)
	ws = append(ws, Weight{TokenEmbd, -1, "model.embed_tokens.weight", tensor.Shape{s.Vocab, h}})
	for l := range s.Layers {
		add := func(r Role, name string, shape ...int) {
			ws = append(ws, Weight{r, l, fmt.Sprintf("model.layers.%d.%s", l, name), shape})
		}
		add(AttnNorm, "input_layernorm.weight", h)
		add(AttnQ, "self_attn.q_proj.weight", q, h)
		add(AttnK, "self_attn.k_proj.weight", kv, h)
		add(AttnV, "self_attn.v_proj.weight", kv, h)
		if s.QKVBias {
			add(AttnQBias, "self_attn.q_proj.bias", q)
			add(AttnKBias, "self_attn.k_proj.bias", kv)
			add(AttnVBias, "self_attn.v_proj.bias", kv)
		}
		if s.QKNorm {
			add(QNorm, "self_attn.q_norm.weight", s.HeadDim)
			add(KNorm, "self_attn.k_norm.weight", s.HeadDim)
		}
		add(AttnO, "self_attn.o_proj.weight", h, q)
		if s.OBias {
			add(AttnOBias, "self_attn.o_proj.bias", h)
		}
		add(FFNNorm, "post_attention_layernorm.weight", h)
		add(FFNGate, "mlp.gate_proj.weight", s.Intermediate, h)
		add(FFNUp, "mlp.up_proj.weight", s.Intermediate, h)
		add(FFNDown, "mlp.down_proj.weight", h, s.Intermediate)
	}
	ws = append(ws, Weight{FinalNorm, -1, "model.norm.weight", tensor.Shape{h}})
	if !s.Tied {
		ws = append(ws, Weight{LMHead, -1, "lm_head.weight", tensor.Shape{s.Vocab, h}})
	}
	return ws
}

// Parameters is the number of weights, a tied head counted once.
func (s *Spec) Parameters() int64 {
	var n int64
	for _, w := range s.Weights() {
		e, _ := w.Shape.Elements()
		n += e
	}
	return n
}
