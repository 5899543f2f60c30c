package arch

import (
	"fmt"
	"math"

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
	TokenEmbd    Role = iota + 1 // [vocab, hidden]
	AttnNorm                     // [hidden], before attention
	AttnQ                        // [heads·head_dim, hidden]
	AttnK                        // [kv_heads·head_dim, hidden]
	AttnV                        // [kv_heads·head_dim, hidden]
	AttnO                        // [hidden, heads·head_dim]
	AttnQBias                    // [heads·head_dim]
	AttnKBias                    // [kv_heads·head_dim]
	AttnVBias                    // [kv_heads·head_dim]
	AttnOBias                    // [hidden]
	QNorm                        // [head_dim], RMSNorm of each query head
	KNorm                        // [head_dim], RMSNorm of each key head
	FFNNorm                      // [hidden], before the MLP
	PostAttnNorm                 // [hidden], of what attention adds (Gemma)
	PostFFNNorm                  // [hidden], of what the MLP adds (Gemma)
	FFNGate                      // [intermediate, hidden]
	FFNUp                        // [intermediate, hidden]
	FFNDown                      // [hidden, intermediate]
	Router                       // [experts, hidden], scores of the experts
	ExpertGate                   // [expert width, hidden], of one expert
	ExpertUp                     // [expert width, hidden]
	ExpertDown                   // [hidden, expert width]
	FinalNorm                    // [hidden], before the head
	LMHead                       // [vocab, hidden]; absent when tied to TokenEmbd
)

var roleNames = [...]string{
	TokenEmbd: "embed", AttnNorm: "attn_norm",
	AttnQ: "q", AttnK: "k", AttnV: "v", AttnO: "o",
	AttnQBias: "q_bias", AttnKBias: "k_bias", AttnVBias: "v_bias", AttnOBias: "o_bias",
	QNorm: "q_norm", KNorm: "k_norm", FFNNorm: "ffn_norm",
	PostAttnNorm: "post_attn_norm", PostFFNNorm: "post_ffn_norm",
	FFNGate: "gate", FFNUp: "up", FFNDown: "down",
	Router: "router", ExpertGate: "expert_gate", ExpertUp: "expert_up", ExpertDown: "expert_down",
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
	case TokenEmbd, AttnQ, AttnK, AttnV, AttnO, FFNGate, FFNUp, FFNDown, Router, ExpertGate, ExpertUp, ExpertDown, LMHead:
		return true
	}
	return false
}

// Weight is one weight of the forward pass: mostly a tensor of the checkpoint,
// else rows of one, or one with a constant added. [Weight.In] finds it.
type Weight struct {
	Role Role
	// Layer counts from 0; -1 for weights outside the layers.
	Layer int
	// Expert counts from 0, of the roles of experts.
	Expert int
	// Name is the weight's name, that of the tensor in a Hugging Face checkpoint
	// unless Stored says otherwise.
	Name  string
	Shape tensor.Shape
	// Stored names the tensor whose rows from Row on are the weight, where a
	// checkpoint packs several into one; StoredRows is how many it has.
	Stored          string
	Row, StoredRows int
	// Plus is added to what is stored: 1 for the norms of Gemma, which multiply
	// by 1+w.
	Plus float32
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

	// What follows is off where it is zero.
	NormPlusOne  bool    // norms multiply by 1+w; see [Weight.Plus]
	PostNorms    bool    // RMSNorm of what attention and the MLP add to the residual stream
	GELU         bool    // the MLP's gate is GELU in its tanh form, not SiLU
	Packed       bool    // the checkpoint packs q, k and v, and gate and up
	EmbedScale   float32 // multiplies the embeddings
	QueryScalar  float64 // scores are divided by its square root, not by head_dim's
	AttnSoftcap  float32 // scores become cap·tanh(score/cap)
	LogitSoftcap float32 // logits become cap·tanh(logit/cap)
	// Window is how many positions, itself included, a query of a sliding layer
	// sees; Sliding says which layers are.
	Window  int
	Sliding []bool
	// Experts is how many MLPs a layer has, 0 for one that all tokens pass;
	// ExpertsUsed how many a token passes, by the softmax of the router's scores;
	// ExpertWidth the width of each. NormTopK divides the weights of those used
	// by their sum.
	Experts, ExpertsUsed, ExpertWidth int
	NormTopK                          bool
	// RotaryDim is the number of each head's leading elements that RoPE turns;
	// 0 means all.
	RotaryDim int

	RoPE RoPE
	// LocalRoPE is that of the sliding layers, nil where it is RoPE too.
	LocalRoPE *RoPE
	// DType is the type the checkpoint's config names ("bfloat16"); may be
	// empty. Informative: the stored tensors say what they are.
	DType string

	BOS int // id, -1 when the config names none
	EOS []int
	PAD int // id, -1 when the config names none
}

// WindowOf is how many positions a query of layer l sees; 0 means all.
func (s *Spec) WindowOf(l int) int {
	if l < len(s.Sliding) && s.Sliding[l] {
		return s.Window
	}
	return 0
}

// RoPEOf is the rotary embedding of layer l.
func (s *Spec) RoPEOf(l int) RoPE {
	if s.LocalRoPE != nil && s.WindowOf(l) > 0 {
		return *s.LocalRoPE
	}
	return s.RoPE
}

// Rotary is the number of a head's elements that RoPE turns.
func (s *Spec) Rotary() int {
	if s.RotaryDim > 0 {
		return s.RotaryDim
	}
	return s.HeadDim
}

// AttnScale is what products of queries and keys are multiplied by.
func (s *Spec) AttnScale() float64 {
	if s.QueryScalar > 0 {
		return 1 / math.Sqrt(s.QueryScalar)
	}
	return 1 / math.Sqrt(float64(s.HeadDim))
}

// Weights lists every weight in checkpoint order: embedding, layers, final
// norm, head.
func (s *Spec) Weights() []Weight {
	h, q, kv := s.Hidden, s.Heads*s.HeadDim, s.KVHeads*s.HeadDim
	plus := float32(0)
	if s.NormPlusOne {
		plus = 1
	}
	ws := make([]Weight, 0, 3+s.Layers*16)
	ws = append(ws, Weight{Role: TokenEmbd, Layer: -1, Name: "model.embed_tokens.weight", Shape: tensor.Shape{s.Vocab, h}})
	for l := range s.Layers {
		name := func(part string) string { return fmt.Sprintf("model.layers.%d.%s", l, part) }
		add := func(r Role, part string, shape ...int) {
			ws = append(ws, Weight{Role: r, Layer: l, Name: name(part), Shape: shape})
		}
		norm := func(r Role, part string, width int) {
			add(r, part, width)
			ws[len(ws)-1].Plus = plus
		}
		pack := func(part string, n int) { // the last n weights
			list, row := ws[len(ws)-n:], 0
			for i := range list {
				list[i].Stored, list[i].Row = name(part), row
				row += list[i].Shape[0]
			}
			for i := range list {
				list[i].StoredRows = row
			}
		}
		norm(AttnNorm, "input_layernorm.weight", h)
		add(AttnQ, "self_attn.q_proj.weight", q, h)
		add(AttnK, "self_attn.k_proj.weight", kv, h)
		add(AttnV, "self_attn.v_proj.weight", kv, h)
		if s.Packed {
			pack("self_attn.qkv_proj.weight", 3)
		}
		if s.QKVBias {
			add(AttnQBias, "self_attn.q_proj.bias", q)
			add(AttnKBias, "self_attn.k_proj.bias", kv)
			add(AttnVBias, "self_attn.v_proj.bias", kv)
		}
		if s.QKNorm {
			norm(QNorm, "self_attn.q_norm.weight", s.HeadDim)
			norm(KNorm, "self_attn.k_norm.weight", s.HeadDim)
		}
		add(AttnO, "self_attn.o_proj.weight", h, q)
		if s.OBias {
			add(AttnOBias, "self_attn.o_proj.bias", h)
		}
		if s.PostNorms {
			norm(PostAttnNorm, "post_attention_layernorm.weight", h)
			norm(FFNNorm, "pre_feedforward_layernorm.weight", h)
		} else {
			norm(FFNNorm, "post_attention_layernorm.weight", h)
		}
		if s.Experts > 0 {
			names := expertNames[s.Architecture]
			add(Router, names.router, s.Experts, h)
			for e := range s.Experts {
				at := len(ws)
				part := func(name string) string { return fmt.Sprintf(names.expert, e, name) }
				add(ExpertGate, part(names.gate), s.ExpertWidth, h)
				add(ExpertUp, part(names.up), s.ExpertWidth, h)
				add(ExpertDown, part(names.down), h, s.ExpertWidth)
				for i := range ws[at:] {
					ws[at+i].Expert = e
				}
			}
			continue
		}
		add(FFNGate, "mlp.gate_proj.weight", s.Intermediate, h)
		add(FFNUp, "mlp.up_proj.weight", s.Intermediate, h)
		if s.Packed {
			pack("mlp.gate_up_proj.weight", 2)
		}
		add(FFNDown, "mlp.down_proj.weight", h, s.Intermediate)
		if s.PostNorms {
			norm(PostFFNNorm, "post_feedforward_layernorm.weight", h)
		}
	}
	ws = append(ws, Weight{Role: FinalNorm, Layer: -1, Name: "model.norm.weight", Shape: tensor.Shape{h}, Plus: plus})
	if !s.Tied {
		ws = append(ws, Weight{Role: LMHead, Layer: -1, Name: "lm_head.weight", Shape: tensor.Shape{s.Vocab, h}})
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
