package toonnx_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
	"github.com/llama-pajamas/llama-pajamas/convert/toonnx"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/target"
)

// The configurations of models whose sizes are known.
var configs = map[string]string{
	"SmolLM2-135M": `{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 576, "intermediate_size": 1536,
		"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192,
		"rms_norm_eps": 1e-05, "rope_theta": 100000, "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2}`,
	"Qwen3-8B": `{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 12288,
		"num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 40960,
		"rms_norm_eps": 1e-06, "rope_theta": 1000000, "tie_word_embeddings": false, "bos_token_id": 151643, "eos_token_id": 151645}`,
}

// TestSizes plans real models and wants data files as large as the exact sum of
// what the recipe's forms need, within a percent, and the shares of a 16-bit
// file that the recipes promise. Every graph is one its provider takes whole.
func TestSizes(t *testing.T) {
	for _, c := range []struct {
		target, recipe string
		low, high      float64 // share of 16 bits a parameter, either model
		block          int64   // of Qwen3-8B
	}{
		{"tensorrt", "int8", 0.50, 0.52, 0},
		{"tensorrt", "int4", 0.29, 0.33, 128},
		{"tensorrt", "int4-v16", 0.29, 0.345, 128},
		{"tensorrt", "int4-offsets", 0.30, 0.34, 128},
		{"tensorrt", "int4-mixed", 0.33, 0.38, 128},
		{"coreml", "int8", 0.50, 0.52, 0},
		{"coreml", "int4", 0.34, 0.38, 32},
		{"cuda", "int8", 0.53, 0.54, 0},
		{"cuda", "int4", 0.32, 0.38, 0},
		{"cpu", "int8", 0.53, 0.54, 0},
		{"cpu", "int4", 0.32, 0.38, 0},
	} {
		for model, config := range configs {
			t.Run(fmt.Sprintf("%s/%s/%s", c.target, c.recipe, model), func(t *testing.T) {
				spec, err := arch.Parse([]byte(config))
				if err != nil {
					t.Fatal(err)
				}
				rec, err := recipe.Load(c.target, c.recipe)
				if err != nil {
					t.Fatal(err)
				}
				art, err := toonnx.Build(spec, rec, toonnx.Options{MaxContext: 2048})
				if err != nil {
					t.Fatal(err)
				}
				var exact float64
				for _, w := range spec.Weights() {
					n, _ := w.Shape.Elements()
					bits := 32.0
					if w.Role.IsMatrix() {
						bits = toonnx.Form(spec, rec, w).FloorBits(w.Shape[1])
					}
					exact += bits / 8 * float64(n)
				}
				if got := float64(art.Data.Size); math.Abs(got/exact-1) > 0.01 {
					t.Errorf("%.0f bytes of data, the recipe's forms need %.0f", got, exact)
				}
				if share := float64(art.Data.Size) / (2 * float64(spec.Parameters())); share < c.low || share > c.high {
					t.Errorf("%.1f %% of 16 bits, want %.1f to %.1f %%", 100*share, 100*c.low, 100*c.high)
				}
				place, err := target.Find(c.target)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range []*onnx.Model{art.Model, art.Prefill} {
					if m == nil {
						continue
					}
					if err := place.Place(m).Err(); err != nil {
						t.Error(err)
					}
					if model == "Qwen3-8B" && c.block > 0 {
						checkBlocks(t, m, c.block)
					}
				}
			})
		}
	}
}

// checkBlocks wants 4-bit weights in blocks of one length along K, the second
// dimension of the stored [K, N] counted from behind.
func checkBlocks(t *testing.T, m *onnx.Model, block int64) {
	t.Helper()
	values := onnx.Infer(m)
	seen := 0
	for _, n := range m.Graph.Nodes {
		if n.Op != "DequantizeLinear" || values[n.Input(0)].Elem != onnx.I4 {
			continue
		}
		seen++
		if b, a := n.Attr("block_size"), n.Attr("axis"); b == nil || b.I != block || a == nil || a.I != 0 {
			t.Errorf("%s: block and axis are not %d and 0", n.Label(), block)
		}
	}
	if seen == 0 {
		t.Error("no 4-bit weights")
	}
}

// TestStatic wants numbers for every extent of CoreML's graphs, ranks of 4 at
// most, and the operators of its list alone.
func TestStatic(t *testing.T) {
	for model, config := range configs {
		spec, err := arch.Parse([]byte(config))
		if err != nil {
			t.Fatal(err)
		}
		rec, err := recipe.Load("coreml", "int8")
		if err != nil {
			t.Fatal(err)
		}
		art, err := toonnx.Build(spec, rec, toonnx.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for tokens, m := range map[int64]*onnx.Model{1: art.Model, 64: art.Prefill} {
			if got := m.Graph.Inputs[0].Shape.String(); got != fmt.Sprintf("[1, %d]", tokens) {
				t.Errorf("%s: %s has shape %s, want %d tokens", model, m.Graph.Inputs[0].Name, got, tokens)
			}
			for name, v := range onnx.Infer(m) {
				dims, ok := v.Shape.Ints()
				if !ok || len(dims) > 4 || slices.Contains(dims, 0) {
					t.Errorf("%s, %d tokens: %s has shape %v", model, tokens, name, v.Shape)
				}
			}
			for _, n := range m.Graph.Nodes {
				if n.Domain != "" || strings.Contains("Shape Range Expand ScatterND Pow Neg Where Equal", n.Op) {
					t.Errorf("%s, %d tokens: %s", model, tokens, n.Label())
				}
			}
		}
	}
}
