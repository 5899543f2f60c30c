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
}

// families is the table of architectures, by config.json's class name.
var families = map[string]family{
	"LlamaForCausalLM": {"llama", true, true, true},
	"Qwen2ForCausalLM": {"qwen2", false, false, false},
	"Qwen3ForCausalLM": {"qwen3", false, false, false},
}

// names are the tensors' names by role; those of layers stand behind "blk.N."
// (gguf-py, tensor_mapping.py).
var names = map[arch.Role]string{
	arch.TokenEmbd: "token_embd.weight", arch.FinalNorm: "output_norm.weight", arch.LMHead: "output.weight",
	arch.AttnNorm: "attn_norm.weight", arch.AttnQ: "attn_q.weight", arch.AttnK: "attn_k.weight", arch.AttnV: "attn_v.weight",
	arch.AttnO: "attn_output.weight", arch.AttnQBias: "attn_q.bias", arch.AttnKBias: "attn_k.bias", arch.AttnVBias: "attn_v.bias",
	arch.AttnOBias: "attn_output.bias", arch.QNorm: "attn_q_norm.weight", arch.KNorm: "attn_k_norm.weight",
	arch.FFNNorm: "ffn_norm.weight", arch.FFNGate: "ffn_gate.weight", arch.FFNUp: "ffn_up.weight", arch.FFNDown: "ffn_down.weight",
}

// ropeFreqs is the tensor that stands for llama3 RoPE scaling.
const ropeFreqs = "rope_freqs.weight"

// TensorName is the name a weight has in a GGUF file.
func TensorName(w arch.Weight) (string, error) {
	name, ok := names[w.Role]
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
	weight arch.Weight // Role 0 for rope_freqs
}

// entries lists the tensors in the order of llama_model_quantize's files: those
// outside the layers, then layer by layer, each by name.
func entries(spec *arch.Spec) ([]entry, error) {
	var list []entry
	for _, w := range spec.Weights() {
		name, err := TensorName(w)
		if err != nil {
			return nil, err
		}
		list = append(list, entry{name, w})
	}
	if spec.RoPE.Type == "llama3" {
		list = append(list, entry{ropeFreqs, arch.Weight{Layer: -1, Shape: tensor.Shape{spec.HeadDim / 2}}})
	}
	slices.SortFunc(list, func(a, b entry) int {
		if d := a.weight.Layer - b.weight.Layer; d != 0 {
			return d
		}
		return strings.Compare(a.name, b.name)
	})
	return list, nil
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
