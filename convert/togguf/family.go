package togguf

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// family says how llama.cpp knows an architecture.
type family struct {
	// name is general.architecture, and the prefix of the model's keys.
	name string
	// interleaved: rows of q and k are stored with each head's rotary pairs side
	// by side, as ggml's RoPE NORM wants them (llama_model_rope_type).
	interleaved bool
	// vocabSize and ropeDim: the keys vocab_size and rope.dimension_count are
	// written (conversion/llama.py, set_gguf_parameters).
	vocabSize, ropeDim bool
	// ignoresWindow: llama.cpp's model attends to everything, so that the
	// context ends with the window.
	ignoresWindow bool
	// check, where not nil, refuses what llama.cpp's model cannot be told.
	check func(spec *arch.Spec) error
}

// families is the table of architectures, by config.json's class name.
var families = map[string]family{
	"Gemma2ForCausalLM":   {name: "gemma2", check: checkGemma2},
	"Gemma3ForCausalLM":   {name: "gemma3", check: checkGemma3},
	"LlamaForCausalLM":    {name: "llama", interleaved: true, vocabSize: true, ropeDim: true},
	"MixtralForCausalLM":  {name: "llama", interleaved: true, vocabSize: true, ropeDim: true, ignoresWindow: true},
	"MistralForCausalLM":  {name: "llama", interleaved: true, vocabSize: true, ropeDim: true, ignoresWindow: true},
	"Phi3ForCausalLM":     {name: "phi3", ropeDim: true, ignoresWindow: true, check: checkPhi3},
	"Qwen2ForCausalLM":    {name: "qwen2"},
	"Qwen3ForCausalLM":    {name: "qwen3"},
	"Qwen3MoeForCausalLM": {name: "qwen3moe", check: checkExperts},
}

func refuse(format string, a ...any) error {
	return &tensor.UnsupportedError{What: fmt.Sprintf(format, a...) + " in GGUF", Hint: "llama.cpp's model of the architecture has no such thing"}
}

// gemmaScalar is what llama.cpp divides scores by the square root of: the
// head's width, but for the model of 27B, which it knows by its layers
// (src/models/gemma2.cpp, gemma3.cpp).
func gemmaScalar(spec *arch.Spec, layersOf27B int) int {
	if spec.Layers == layersOf27B {
		return spec.Hidden / spec.Heads
	}
	return spec.HeadDim
}

func checkGemma2(spec *arch.Spec) error {
	switch {
	case spec.AttnSoftcap == 0 || spec.LogitSoftcap == 0:
		return refuse("Gemma 2 without soft caps")
	case !spec.Tied || spec.QKVBias:
		return refuse("Gemma 2 with biases or a head of its own")
	case spec.QueryScalar != float64(gemmaScalar(spec, 46)):
		return refuse("Gemma 2 with query_pre_attn_scalar %v", spec.QueryScalar)
	case pattern(spec) != 2:
		return refuse("Gemma 2 whose layers do not slide by turns")
	}
	return nil
}

func checkGemma3(spec *arch.Spec) error {
	switch {
	case spec.AttnSoftcap != 0 || spec.QKVBias:
		return refuse("Gemma 3 with biases or soft caps of scores")
	case spec.LocalRoPE.Type != "default":
		return refuse("Gemma 3 with RoPE scaling %q of sliding layers", spec.LocalRoPE.Type)
	case spec.QueryScalar != float64(gemmaScalar(spec, 62)):
		return refuse("Gemma 3 with query_pre_attn_scalar %v", spec.QueryScalar)
	case pattern(spec) == 0:
		return refuse("Gemma 3 whose sliding layers follow no period")
	}
	return nil
}

func checkExperts(spec *arch.Spec) error {
	if !spec.NormTopK {
		return refuse("Qwen3 MoE with norm_topk_prob false")
	}
	return nil
}

func checkPhi3(spec *arch.Spec) error {
	if spec.HeadDim*spec.Heads != spec.Hidden || spec.QKVBias || spec.OBias {
		return refuse("Phi-3 with biases, or heads that do not fill hidden_size")
	}
	return nil
}

// pattern is the period whose last layer sees everything, 0 where there is none.
func pattern(spec *arch.Spec) int {
	for period := 1; period <= spec.Layers+1; period++ {
		fits := true
		for l := range spec.Layers {
			slides := l < len(spec.Sliding) && spec.Sliding[l]
			fits = fits && slides == ((l+1)%period != 0)
		}
		if fits {
			return period
		}
	}
	return 0
}

// names are the tensors' names by role; those of layers stand behind "blk.N."
// (gguf-py, tensor_mapping.py).
var names = map[arch.Role]string{
	arch.TokenEmbd: "token_embd.weight", arch.FinalNorm: "output_norm.weight", arch.LMHead: "output.weight",
	arch.AttnNorm: "attn_norm.weight", arch.AttnQ: "attn_q.weight", arch.AttnK: "attn_k.weight", arch.AttnV: "attn_v.weight",
	arch.AttnO: "attn_output.weight", arch.AttnQBias: "attn_q.bias", arch.AttnKBias: "attn_k.bias", arch.AttnVBias: "attn_v.bias",
	arch.AttnOBias: "attn_output.bias", arch.QNorm: "attn_q_norm.weight", arch.KNorm: "attn_k_norm.weight",
	arch.PostAttnNorm: "post_attention_norm.weight", arch.PostFFNNorm: "post_ffw_norm.weight",
	arch.Router: "ffn_gate_inp.weight", arch.ExpertGate: "ffn_gate_exps.weight", arch.ExpertUp: "ffn_up_exps.weight", arch.ExpertDown: "ffn_down_exps.weight",
	arch.FFNNorm: "ffn_norm.weight", arch.FFNGate: "ffn_gate.weight", arch.FFNUp: "ffn_up.weight", arch.FFNDown: "ffn_down.weight",
}

// packed are the names of tensors that hold several weights, by the role of each.
var packed = map[arch.Role]string{
	arch.AttnQ: "attn_qkv.weight", arch.AttnK: "attn_qkv.weight", arch.AttnV: "attn_qkv.weight",
	arch.FFNGate: "ffn_up.weight", arch.FFNUp: "ffn_up.weight",
}

// The tensors of RoPE scaling: divisors of llama3, of longrope's two kinds.
const (
	ropeFreqs = "rope_freqs.weight"
	ropeLong  = "rope_factors_long.weight"
	ropeShort = "rope_factors_short.weight"
)

// TensorName is the name of the tensor that holds a weight in a GGUF file.
func TensorName(w arch.Weight) (string, error) {
	name, ok := names[w.Role]
	if w.Stored != "" {
		name, ok = packed[w.Role]
	}
	if !ok {
		return "", &tensor.UnsupportedError{What: fmt.Sprintf("weight %q (%v) in GGUF", w.Name, w.Role)}
	}
	if w.Layer >= 0 {
		name = fmt.Sprintf("blk.%d.%s", w.Layer, name)
	}
	return name, nil
}

// entry is one tensor of the file.
type entry struct {
	name   string
	weight arch.Weight   // Role 0 for divisors of RoPE; of a packed tensor all of it
	parts  []arch.Weight // the weights it holds
	values []float32     // of one that is no weight
}

// entries lists the tensors in the order of llama_model_quantize's files: those
// outside the layers, then layer by layer, each by name.
func entries(spec *arch.Spec) ([]entry, error) {
	var list []entry
	stacked := map[string]int{} // places of tensors that hold all experts
	for _, w := range spec.Weights() {
		name, err := TensorName(w)
		if err != nil {
			return nil, err
		}
		if isExpert(w.Role) {
			if i, ok := stacked[name]; ok {
				list[i].parts = append(list[i].parts, w)
				continue
			}
			stacked[name] = len(list)
			all := w
			all.Shape = append(tensor.Shape{spec.Experts}, w.Shape...)
			list = append(list, entry{name: name, weight: all, parts: []arch.Weight{w}})
			continue
		}
		if w.Row > 0 {
			last := &list[len(list)-1]
			last.parts = append(last.parts, w)
			continue
		}
		e := entry{name: name, weight: arch.StoredAs([]arch.Weight{w})[0], parts: []arch.Weight{w}}
		if w.Stored != "" && w.Role == arch.AttnQ {
			e.weight.Role = arch.AttnV // whose precision llama.cpp gives it
		}
		list = append(list, e)
	}
	divisors := func(name string, values []float32) {
		list = append(list, entry{name: name, weight: arch.Weight{Layer: -1, Shape: tensor.Shape{len(values)}}, values: values})
	}
	switch r := spec.RoPE; r.Type {
	case "llama3":
		divisors(ropeFreqs, ropeFactors(r, spec.HeadDim))
	case "longrope":
		divisors(ropeLong, narrow(r.LongFactors))
		divisors(ropeShort, narrow(r.ShortFactors))
	}
	slices.SortFunc(list, func(a, b entry) int {
		if d := a.weight.Layer - b.weight.Layer; d != 0 {
			return d
		}
		return strings.Compare(a.name, b.name)
	})
	return list, nil
}

func isExpert(r arch.Role) bool {
	return r == arch.ExpertGate || r == arch.ExpertUp || r == arch.ExpertDown
}

func narrow(x []float64) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(v)
	}
	return out
}

// headDim is the number of consecutive rows of a weight that are interleaved, 0
// for weights that are stored as they are.
func (f family) headDim(spec *arch.Spec, r arch.Role) int {
	if !f.interleaved {
		return 0
	}
	switch r {
	case arch.AttnQ, arch.AttnK, arch.AttnQBias, arch.AttnKBias:
		return spec.HeadDim
	}
	return 0
}

// ropeFactors is what rope_freqs holds, [head_dim/2]: by how much llama3 scaling
// divides each frequency (conversion/llama.py, generate_extra_tensors, which
// however takes original_max_position_embeddings from the wrong place and
// mostly has 8192 by default).
func ropeFactors(r arch.RoPE, headDim int) []float32 {
	old := float64(r.OriginalContext)
	out := make([]float32, headDim/2)
	for i, f := range (arch.RoPE{Theta: r.Theta}).InvFreq(headDim) {
		turns := old * float64(f) / (2 * math.Pi) // within the original context
		switch {
		case turns > r.HighFreqFactor:
			out[i] = 1
		case turns < r.LowFreqFactor:
			out[i] = float32(r.Factor)
		default:
			smooth := (turns - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
			out[i] = float32(1 / ((1-smooth)/r.Factor + smooth))
		}
	}
	return out
}
