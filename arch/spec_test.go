package arch_test

import (
	"math"
	"slices"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
)

// TestParameters wants the parameter counts that the model cards and the
// safetensors indexes of these checkpoints state.
func TestParameters(t *testing.T) {
	for _, c := range []struct {
		name   string
		config object
		want   int64
	}{
		{"SmolLM2-135M", llama(object{
			"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
			"num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": true,
		}), 134_515_008},
		{"Llama-2-7B", llama(object{
			"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000,
		}), 6_738_415_616},
		{"Llama-3.2-1B", llama(object{
			"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
			"num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256, "tie_word_embeddings": true,
		}), 1_235_814_400},
		{"Qwen2.5-0.5B", qwen2(object{
			"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
			"num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": true,
		}), 494_032_768},
		{"Qwen3-8B", qwen3(object{
			"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32,
			"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
		}), 8_190_735_360},
		{"Mistral-7B", mistral(object{
			"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
			"num_key_value_heads": 8, "vocab_size": 32000,
		}), 7_241_732_096},
		{"Phi-3-mini", phi3(object{
			"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32064,
		}), 3_821_079_552},
		{"Gemma-3-1B", gemma3(object{
			"hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26, "num_key_value_heads": 1, "vocab_size": 262144,
		}), 999_885_952},
		{"Mixtral-8x7B", mixtral(object{
			"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
			"num_key_value_heads": 8, "vocab_size": 32000,
		}), 46_702_792_704},
		{"Qwen3-30B-A3B", qwen3moe(object{
			"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48, "num_attention_heads": 32,
			"num_key_value_heads": 4, "vocab_size": 151936, "norm_topk_prob": true,
		}), 30_532_122_624},
		{"Gemma-2-2B", gemma2(object{
			"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8, "vocab_size": 256000,
		}), 2_614_341_888},
	} {
		s, err := arch.Parse(text(t, c.config))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := s.Parameters(); got != c.want {
			t.Errorf("%s has %d parameters, want %d", c.name, got, c.want)
		}
	}
}

// TestWeights wants each (role, layer) and each name once, matrices where the
// role says so, and the names of a full checkpoint in order.
func TestWeights(t *testing.T) {
	s, err := arch.Parse(text(t, qwen3(object{"attention_bias": true, "num_hidden_layers": 1})))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	type place struct {
		role  arch.Role
		layer int
	}
	seen := map[place]bool{}
	for _, w := range s.Weights() {
		names = append(names, w.Name)
		if seen[place{w.Role, w.Layer}] {
			t.Errorf("role %v of layer %d comes twice", w.Role, w.Layer)
		}
		seen[place{w.Role, w.Layer}] = true
		if w.Role.IsMatrix() != (len(w.Shape) == 2) {
			t.Errorf("%s of role %v has shape %v", w.Name, w.Role, w.Shape)
		}
	}
	want := []string{
		"model.embed_tokens.weight",
		"model.layers.0.input_layernorm.weight",
		"model.layers.0.self_attn.q_proj.weight",
		"model.layers.0.self_attn.k_proj.weight",
		"model.layers.0.self_attn.v_proj.weight",
		"model.layers.0.self_attn.q_proj.bias",
		"model.layers.0.self_attn.k_proj.bias",
		"model.layers.0.self_attn.v_proj.bias",
		"model.layers.0.self_attn.q_norm.weight",
		"model.layers.0.self_attn.k_norm.weight",
		"model.layers.0.self_attn.o_proj.weight",
		"model.layers.0.self_attn.o_proj.bias",
		"model.layers.0.post_attention_layernorm.weight",
		"model.layers.0.mlp.gate_proj.weight",
		"model.layers.0.mlp.up_proj.weight",
		"model.layers.0.mlp.down_proj.weight",
		"model.norm.weight",
		"lm_head.weight",
	}
	if !slices.Equal(names, want) {
		t.Errorf("names are\n%q, want\n%q", names, want)
	}
}

func TestRoleNames(t *testing.T) {
	for r := arch.TokenEmbd; r <= arch.LMHead; r++ {
		if got, ok := arch.ParseRole(r.String()); !ok || got != r {
			t.Errorf("ParseRole(%q) is %v, %v; want %v", r.String(), got, ok, uint8(r))
		}
	}
	for _, s := range []string{"", "Role(0)", "Q", "qq"} {
		if r, ok := arch.ParseRole(s); ok {
			t.Errorf("ParseRole(%q) is %v, want none", s, r)
		}
	}
	if got := arch.Role(200).String(); got != "Role(200)" {
		t.Errorf("an unknown role prints as %q", got)
	}
}

// TestLlama3 compares with the figures of Llama 3.1: high frequencies stay, low
// ones are divided by the factor, those between blend.
func TestLlama3(t *testing.T) {
	plain := arch.RoPE{Theta: 500000, Type: "default"}
	scaled := arch.RoPE{Theta: 500000, Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalContext: 8192}
	a, b := plain.InvFreq(128), scaled.InvFreq(128)
	for i := range a {
		wavelen := 2 * math.Pi / float64(a[i])
		ratio := float64(a[i]) / float64(b[i])
		switch {
		case wavelen < 8192/4:
			if ratio != 1 {
				t.Errorf("pair %d of wavelength %.0f was divided by %v, want 1", i, wavelen, ratio)
			}
		case wavelen > 8192:
			if math.Abs(ratio-8) > 1e-6 {
				t.Errorf("pair %d of wavelength %.0f was divided by %v, want 8", i, wavelen, ratio)
			}
		default:
			smooth := (8192/wavelen - 1) / 3
			if want := 1 / ((1-smooth)/8 + smooth); math.Abs(ratio-want) > 1e-5 {
				t.Errorf("pair %d of wavelength %.0f was divided by %v, want %v", i, wavelen, ratio, want)
			}
		}
	}
}

func TestRoPETable(t *testing.T) {
	r := arch.RoPE{Theta: 10000, Type: "linear", Factor: 2}
	cos, sin := r.Table(5, 4)
	if len(cos) != 10 || len(sin) != 10 {
		t.Fatalf("tables have %d and %d entries, want 10", len(cos), len(sin))
	}
	for p := range 5 {
		for i, f := range []float64{0.5, 0.005} {
			c, s := float64(cos[p*2+i]), float64(sin[p*2+i])
			if a := float64(p) * f; math.Abs(c-math.Cos(a)) > 1e-7 || math.Abs(s-math.Sin(a)) > 1e-7 {
				t.Errorf("position %d, pair %d: cos %v, sin %v of the angle %v", p, i, c, s, a)
			}
		}
	}
}
