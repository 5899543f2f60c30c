package arch_test

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

type object = map[string]any

// llama is a small Llama config with set over it; a nil value drops the key.
func llama(set object) object { return with("LlamaForCausalLM", "llama", set) }
func qwen2(set object) object { return with("Qwen2ForCausalLM", "qwen2", set) }
func qwen3(set object) object { return with("Qwen3ForCausalLM", "qwen3", set) }

func mistral(set object) object  { return with("MistralForCausalLM", "mistral", set) }
func mixtral(set object) object  { return with("MixtralForCausalLM", "mixtral", set) }
func qwen3moe(set object) object { return with("Qwen3MoeForCausalLM", "qwen3_moe", set) }
func phi3(set object) object     { return with("Phi3ForCausalLM", "phi3", set) }
func gemma3(set object) object {
	c := with("Gemma3ForCausalLM", "gemma3_text", set)
	delete(c, "hidden_act")
	return c
}
func gemma2(set object) object {
	c := with("Gemma2ForCausalLM", "gemma2", set)
	c["hidden_act"] = "gelu_pytorch_tanh"
	return c
}

func with(class, modelType string, set object) object {
	c := object{
		"architectures": []string{class}, "model_type": modelType,
		"hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 2, "num_attention_heads": 4,
		"vocab_size": 512, "rms_norm_eps": 1e-5, "hidden_act": "silu",
	}
	maps.Copy(c, set)
	for k, v := range c {
		if v == nil {
			delete(c, k)
		}
	}
	return c
}

func text(t testing.TB, c object) []byte {
	t.Helper()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParse(t *testing.T) {
	base := arch.Spec{
		Kind: arch.Decoder, Architecture: "LlamaForCausalLM", ModelType: "llama",
		Hidden: 64, Intermediate: 172, Layers: 2, Heads: 4, KVHeads: 4, HeadDim: 16,
		Vocab: 512, MaxContext: 2048, NormEps: 1e-5,
		RoPE: arch.RoPE{Theta: 10000, Type: "default"}, BOS: -1, PAD: -1,
	}
	llama3 := object{
		"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1, "high_freq_factor": 4,
		"original_max_position_embeddings": 8192,
	}
	llama3Want := arch.RoPE{Theta: 500000, Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalContext: 8192}
	for _, c := range []struct {
		name   string
		config object
		want   func(*arch.Spec)
	}{
		{"bare", llama(nil), func(*arch.Spec) {}},
		{"sizes", llama(object{
			"num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 4096, "tie_word_embeddings": true,
			"torch_dtype": "bfloat16",
		}), func(s *arch.Spec) {
			s.KVHeads, s.HeadDim, s.MaxContext, s.Tied, s.DType = 2, 32, 4096, true, "bfloat16"
		}},
		{"head_dim frees hidden_size", llama(object{"hidden_size": 66, "head_dim": 8}), func(s *arch.Spec) { s.Hidden, s.HeadDim = 66, 8 }},
		{"dtype of transformers 5", llama(object{"dtype": "float16"}), func(s *arch.Spec) { s.DType = "float16" }},
		{"nulls are defaults", llama(object{
			"num_key_value_heads": json.RawMessage("null"), "head_dim": json.RawMessage("null"), "rope_scaling": json.RawMessage("null"),
			"sliding_window": json.RawMessage("null"), "bos_token_id": json.RawMessage("null"), "eos_token_id": json.RawMessage("null"),
		}), func(*arch.Spec) {}},
		{"one end token", llama(object{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": -1}), func(s *arch.Spec) { s.BOS, s.EOS = 1, []int{2} }},
		{"end tokens", llama(object{"eos_token_id": []int{2, 5}, "pad_token_id": 0}), func(s *arch.Spec) { s.EOS, s.PAD = []int{2, 5}, 0 }},
		{"numbers written as floats", llama(object{"hidden_size": json.RawMessage("64.0"), "rope_theta": json.RawMessage("1e4")}), func(*arch.Spec) {}},
		{"linear scaling", llama(object{"rope_scaling": object{"type": "linear", "factor": 2.5}}), func(s *arch.Spec) {
			s.RoPE = arch.RoPE{Theta: 10000, Type: "linear", Factor: 2.5}
		}},
		{"llama3 scaling", llama(object{"rope_theta": 500000.0, "rope_scaling": llama3}), func(s *arch.Spec) { s.RoPE = llama3Want }},
		{"llama3 scaling, transformers 5", llama(object{"rope_parameters": plus(llama3, "rope_theta", 500000.0)}), func(s *arch.Spec) { s.RoPE = llama3Want }},
		{"rope_parameters win", llama(object{
			"rope_theta": 1.0, "rope_scaling": object{"type": "linear", "factor": 2},
			"rope_parameters": object{"rope_type": "default", "rope_theta": 7.0},
		}), func(s *arch.Spec) { s.RoPE.Theta = 7 }},
		{"empty rope_scaling", llama(object{"rope_scaling": object{}}), func(*arch.Spec) {}},
		{"biases of Llama", llama(object{"attention_bias": true}), func(s *arch.Spec) { s.QKVBias, s.OBias = true, true }},
		{"text_config", object{
			"architectures": []string{"LlamaForCausalLM"}, "model_type": "outer", "tie_word_embeddings": true,
			"text_config": llama(object{"architectures": []string{"Other"}}),
		}, func(s *arch.Spec) { s.Tied = true }},
		{"neutral values", llama(object{
			"rope_interleaved": false, "mlp_bias": false, "logit_scale": 1.0, "num_experts": 0, "partial_rotary_factor": 1,
			"layer_types": []string{"full_attention", "full_attention"}, "use_sliding_window": false,
		}), func(*arch.Spec) {}},
		{"unknown keys", llama(object{"initializer_range": 0.02, "use_cache": true, "auto_map": object{}}), func(*arch.Spec) {}},
		{"Qwen2", qwen2(object{"use_sliding_window": false, "sliding_window": 32768, "max_window_layers": 28}), func(s *arch.Spec) {
			s.Architecture, s.ModelType, s.QKVBias = "Qwen2ForCausalLM", "qwen2", true
		}},
		{"Qwen3", qwen3(object{"hidden_size": 66}), func(s *arch.Spec) {
			s.Architecture, s.ModelType, s.QKNorm, s.HeadDim, s.Hidden = "Qwen3ForCausalLM", "qwen3", true, 128, 66
		}},
		{"Qwen3 with biases", qwen3(object{"attention_bias": true, "head_dim": 32}), func(s *arch.Spec) {
			s.Architecture, s.ModelType, s.QKNorm, s.HeadDim, s.QKVBias, s.OBias = "Qwen3ForCausalLM", "qwen3", true, 32, true, true
		}},
		{"Mistral", mistral(object{"sliding_window": 64}), func(s *arch.Spec) {
			s.Architecture, s.ModelType, s.Window, s.Sliding = "MistralForCausalLM", "mistral", 64, []bool{true, true}
		}},
		{"Mistral without a window", mistral(object{"sliding_window": json.RawMessage("null")}), func(s *arch.Spec) {
			s.Architecture, s.ModelType = "MistralForCausalLM", "mistral"
		}},
		{"Mistral with a window that hides nothing", mistral(object{"sliding_window": 4096}), func(s *arch.Spec) {
			s.Architecture, s.ModelType = "MistralForCausalLM", "mistral"
		}},
		{"yarn", llama(object{"rope_scaling": object{"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 512}}), func(s *arch.Spec) {
			s.RoPE = arch.RoPE{Theta: 10000, Type: "yarn", Factor: 4, OriginalContext: 512, BetaFast: 32, BetaSlow: 1, WholePairs: true, Scale: 0.1*math.Log(4) + 1}
		}},
		{"yarn, all keys", llama(object{"rope_scaling": object{
			"type": "yarn", "factor": 4, "beta_fast": 16, "beta_slow": 2, "truncate": false, "attention_factor": 1.5,
		}}), func(s *arch.Spec) {
			s.RoPE = arch.RoPE{Theta: 10000, Type: "yarn", Factor: 4, OriginalContext: 2048, BetaFast: 16, BetaSlow: 2, Scale: 1.5}
		}},
		{"yarn of DeepSeek", llama(object{"rope_scaling": object{"type": "yarn", "factor": 4, "mscale": 2, "mscale_all_dim": 1}}), func(s *arch.Spec) {
			s.RoPE = arch.RoPE{Theta: 10000, Type: "yarn", Factor: 4, OriginalContext: 2048, BetaFast: 32, BetaSlow: 1, WholePairs: true,
				Scale: (0.2*math.Log(4) + 1) / (0.1*math.Log(4) + 1)}
		}},
		{"Phi-3", phi3(object{"sliding_window": 63}), func(s *arch.Spec) {
			s.Architecture, s.ModelType, s.Packed, s.Window, s.Sliding = "Phi3ForCausalLM", "phi3", true, 63, []bool{true, true}
		}},
		{"Phi-4", phi3(object{
			"partial_rotary_factor": 0.5, "original_max_position_embeddings": 512, "sliding_window": 262144,
			"rope_scaling": object{"type": "longrope", "short_factor": []float64{1, 1, 1, 2}, "long_factor": []float64{1, 2, 3, 4}},
		}), func(s *arch.Spec) {
			s.Architecture, s.ModelType, s.Packed, s.RotaryDim = "Phi3ForCausalLM", "phi3", true, 8
			s.RoPE = arch.RoPE{Theta: 10000, Type: "longrope", OriginalContext: 512, Scale: math.Sqrt(1 + math.Log(4)/math.Log(512)),
				ShortFactors: []float64{1, 1, 1, 2}, LongFactors: []float64{1, 2, 3, 4}}
		}},
		{"Gemma 3", gemma3(object{"head_dim": 32, "num_key_value_heads": 1, "sliding_window": 128, "sliding_window_pattern": 2, "rope_scaling": object{"rope_type": "linear", "factor": 8}}), func(s *arch.Spec) {
			gemma(s, "Gemma3ForCausalLM", "gemma3_text")
			s.KVHeads, s.HeadDim, s.MaxContext, s.Window, s.Sliding, s.QKNorm = 1, 32, 131072, 128, []bool{true, false}, true
			s.RoPE = arch.RoPE{Theta: 1000000, Type: "linear", Factor: 8}
			s.LocalRoPE = &arch.RoPE{Theta: 10000, Type: "default"}
		}},
		{"Gemma 3, transformers 5", gemma3(object{
			"layer_types": []string{"full_attention", "sliding_attention"}, "tie_word_embeddings": false, "final_logit_softcapping": 20,
			"rope_parameters": object{"full_attention": object{"rope_type": "default", "rope_theta": 5.0}, "sliding_attention": object{"rope_type": "default", "rope_theta": 7.0}},
		}), func(s *arch.Spec) {
			gemma(s, "Gemma3ForCausalLM", "gemma3_text")
			s.HeadDim, s.MaxContext, s.Window, s.Sliding, s.QKNorm = 256, 131072, 4096, []bool{false, true}, true
			s.RoPE.Theta, s.LocalRoPE, s.Tied, s.LogitSoftcap = 5, &arch.RoPE{Theta: 7, Type: "default"}, false, 20
		}},
		{"Mixtral", mixtral(object{"sliding_window": json.RawMessage("null")}), func(s *arch.Spec) {
			s.Architecture, s.ModelType, s.Experts, s.ExpertsUsed, s.ExpertWidth, s.NormTopK = "MixtralForCausalLM", "mixtral", 8, 2, 172, true
		}},
		{"Qwen3 MoE", qwen3moe(object{"num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 48, "norm_topk_prob": true, "mlp_only_layers": []int{}, "decoder_sparse_step": 1}), func(s *arch.Spec) {
			s.Architecture, s.ModelType, s.QKNorm, s.HeadDim = "Qwen3MoeForCausalLM", "qwen3_moe", true, 128
			s.Experts, s.ExpertsUsed, s.ExpertWidth, s.NormTopK = 16, 4, 48, true
		}},
		{"Gemma 2", gemma2(nil), func(s *arch.Spec) {
			gemma(s, "Gemma2ForCausalLM", "gemma2")
			s.HeadDim, s.MaxContext, s.Window, s.Sliding, s.AttnSoftcap, s.LogitSoftcap = 256, 8192, 4096, []bool{true, false}, 50, 30
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := arch.Parse(text(t, c.config))
			if err != nil {
				t.Fatal(err)
			}
			want := base
			c.want(&want)
			if diff := cmp.Diff(&want, got); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
		})
	}
}

// gemma sets what all Gemmas have. num_key_value_heads of these configs is left
// to the class.
func gemma(s *arch.Spec, class, modelType string) {
	s.Architecture, s.ModelType, s.Tied, s.KVHeads = class, modelType, true, 4
	s.NormPlusOne, s.PostNorms, s.GELU, s.EmbedScale, s.QueryScalar = true, true, true, 8, 256
}

func plus(m object, key string, v any) object {
	m = maps.Clone(m)
	m[key] = v
	return m
}

// guarded has every key of the guard list with a value that changes the
// arithmetic of some model.
var guarded = object{
	"partial_rotary_factor": 0.5, "rotary_pct": 0.25, "rope_interleaved": true, "clip_qkv": 8.0, "logit_scale": 0.0625,
	"logits_scaling": 8.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_multiplier": 0.0078125,
	"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 256, "use_qk_norm": true,
	"qk_layernorm": true, "use_sliding_window": true, "sliding_window": 4096, "attention_chunk_size": 8192,
	"no_rope_layers": []int{1, 0}, "num_experts": 8, "num_local_experts": 8, "n_routed_experts": 64, "mlp_bias": true,
	"use_bias": true, "alibi": true, "use_bidirectional_attention": true, "is_encoder_decoder": true,
	"add_cross_attention": true, "attention_bias": true, "parallel_attn": true, "use_parallel_residual": true, "num_nextn_predict_layers": 1,
	"attention_output_gate": true, "attn_output_gate": true, "position_embedding_type": "relative_key",
	"embedding_scale": 8.0, "normalize_embedding": true, "hidden_size_per_layer_input": 256, "num_kv_shared_layers": 15,
	"scale_attn_by_inverse_layer_idx": true,
}

// TestUnsupported lists valid configs whose arithmetic is not done here. Each
// must be refused by a message that names the thing.
func TestUnsupported(t *testing.T) {
	cases := []struct {
		name   string
		config object
		want   string
	}{
		{"architecture", with("MambaForCausalLM", "mamba", nil), `architecture "MambaForCausalLM"`},
		{"experts of Llama", llama(object{"num_local_experts": 8}), "num_local_experts"},
		{"experts in some layers", qwen3moe(object{"mlp_only_layers": []int{0}}), "mlp_only_layers"},
		{"experts in every other layer", qwen3moe(object{"decoder_sparse_step": 2}), "decoder_sparse_step 2"},
		{"GPTQ", llama(object{"quantization_config": object{"quant_method": "gptq", "bits": 4}}), "GPTQ"},
		{"AWQ in text_config", object{"architectures": []string{"LlamaForCausalLM"}, "text_config": llama(object{"quantization_config": object{"quant_method": "awq"}})}, "AWQ"},
		{"compressed", llama(object{"compression_config": object{}}), "compression_config"},
		{"MLX", llama(object{"quantization": object{"bits": 4, "group_size": 64}}), "already quantized"},
		{"activation", llama(object{"hidden_act": "gelu"}), `hidden_act "gelu"`},
		{"dynamic", llama(object{"rope_scaling": object{"type": "dynamic", "factor": 4}}), `RoPE scaling "dynamic"`},
		{"rope by layer type", llama(object{"rope_parameters": object{"full_attention": object{"rope_theta": 1}}}), "rope_parameters by layer type"},
		{"partial RoPE, nested", llama(object{"rope_parameters": object{"partial_rotary_factor": 0.5}}), "partial_rotary_factor 0.5"},
		{"sliding layers", llama(object{"layer_types": []string{"full_attention", "sliding_attention"}}), "sliding_attention"},
		{"Qwen2 sliding window", qwen2(object{"use_sliding_window": true, "sliding_window": 128}), "sliding_window"},
		{"Qwen3 sliding window", qwen3(object{"use_sliding_window": true, "sliding_window": 128}), "sliding_window"},
		{"partial RoPE of Llama", llama(object{"partial_rotary_factor": 0.75}), "partial_rotary_factor 0.75"},
		{"Gemma with SiLU", gemma3(object{"hidden_activation": "silu"}), `hidden_activation "silu"`},
		{"Gemma, bidirectional", gemma3(object{"use_bidirectional_attention": true}), "use_bidirectional_attention"},
		{"Qwen3 with MLP bias", qwen3(object{"mlp_bias": true}), "mlp_bias"},
	}
	for key, v := range guarded {
		config := llama(object{key: v})
		if key == "attention_bias" { // which llama honours
			config = qwen2(object{key: v})
		}
		cases = append(cases, struct {
			name   string
			config object
			want   string
		}{"guarded " + key, config, key})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := arch.Parse(text(t, c.config))
			var unsupported *tensor.UnsupportedError
			if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want an UnsupportedError with %q", err, c.want)
			}
		})
	}
}

// TestGuardListIsTested keeps guarded complete.
func TestGuardListIsTested(t *testing.T) {
	if diff := cmp.Diff(slices.Sorted(maps.Keys(guarded)), arch.GuardedKeys()); diff != "" {
		t.Errorf("keys (-tested +guarded):\n%s", diff)
	}
}

func TestBroken(t *testing.T) {
	for _, c := range []struct {
		name, config, want string
	}{
		{"empty", "", "not a JSON object"},
		{"no object", "[1]", "not a JSON object"},
		{"null", "null", "names no architecture"},
		{"truncated", `{"architectures": ["Llama`, "not a JSON object"},
		{"two objects", `{} {}`, "more text after"},
		{"no architecture", `{}`, "names no architecture"},
		{"architectures of another type", `{"architectures": "LlamaForCausalLM"}`, "names no architecture"},
		{"architectures of numbers", `{"architectures": [3]}`, "names no architecture"},
	} {
		t.Run(c.name, func(t *testing.T) { wantFormatError(t, []byte(c.config), c.want) })
	}
	for _, c := range []struct {
		name   string
		config object
		want   string
	}{
		{"hidden_size missing", llama(object{"hidden_size": nil}), "hidden_size"},
		{"hidden_size of text", llama(object{"hidden_size": "64"}), "hidden_size: 64 is not a number"},
		{"hidden_size a fraction", llama(object{"hidden_size": 64.5}), "64.5 is not a whole number"},
		{"hidden_size negative", llama(object{"hidden_size": -64}), "hidden_size is -64"},
		{"hidden_size huge", llama(object{"hidden_size": 1 << 30}), "hidden_size is 1073741824, want 1 to 1048576"},
		{"number beyond float64", llama(object{"hidden_size": json.RawMessage("1e999")}), "hidden_size"},
		{"no layers", llama(object{"num_hidden_layers": 0}), "num_hidden_layers is 0"},
		{"too many layers", llama(object{"num_hidden_layers": 5000}), "num_hidden_layers is 5000"},
		{"no heads", llama(object{"num_attention_heads": 0}), "num_attention_heads is 0"},
		{"kv heads", llama(object{"num_key_value_heads": 3}), "num_attention_heads (4) is not a multiple of num_key_value_heads (3)"},
		{"no kv heads", llama(object{"num_key_value_heads": 0}), "num_key_value_heads is 0"},
		{"hidden and heads", llama(object{"hidden_size": 66}), "hidden_size (66) is not a multiple of num_attention_heads (4)"},
		{"odd head_dim", llama(object{"head_dim": 15}), "head_dim is 15"},
		{"no vocabulary", llama(object{"vocab_size": nil}), "vocab_size is 0"},
		{"eps 0", llama(object{"rms_norm_eps": 0}), "rms_norm_eps is 0"},
		{"eps 1", llama(object{"rms_norm_eps": 1}), "rms_norm_eps is 1"},
		{"tie of text", llama(object{"tie_word_embeddings": "yes"}), "tie_word_embeddings: yes is not true or false"},
		{"activation of a number", llama(object{"hidden_act": 3}), "hidden_act: 3 is not a string"},
		{"eos of text", llama(object{"eos_token_id": "</s>"}), "eos_token_id: </s> is not a token id"},
		{"eos negative", llama(object{"eos_token_id": []int{2, -3}}), "is not a list of token ids"},
		{"theta 0", llama(object{"rope_theta": 0}), "rope_theta: 0 is not a positive number"},
		{"rope_scaling a list", llama(object{"rope_scaling": []int{1}}), "rope_scaling: [1] is not an object"},
		{"linear without factor", llama(object{"rope_scaling": object{"type": "linear"}}), "factor is 0"},
		{"factor of text", llama(object{"rope_scaling": object{"type": "linear", "factor": "2"}}), "factor: 2 is not a number"},
		{"yarn bounds", llama(object{"rope_scaling": object{"type": "yarn", "factor": 4, "beta_fast": 1, "beta_slow": 1}}), "beta_slow < beta_fast"},
		{"longrope without factors", phi3(object{"rope_scaling": object{"type": "longrope"}}), "short_factor"},
		{"longrope of another width", phi3(object{"rope_scaling": object{"type": "su", "short_factor": []int{1}, "long_factor": []int{1}}}), "1 short and 1 long factors, want 8"},
		{"longrope with a factor of 0", phi3(object{"partial_rotary_factor": 0.125, "rope_scaling": object{"type": "su", "short_factor": []int{1}, "long_factor": []int{0}}}), "not positive"},
		{"partial RoPE of an odd number", phi3(object{"partial_rotary_factor": 0.2}), "even number of elements"},
		{"window negative", mistral(object{"sliding_window": -1}), "sliding_window: -1"},
		{"layer_types too short", gemma3(object{"layer_types": []string{"full_attention"}}), "list of 2 types"},
		{"layer_types of others", gemma3(object{"layer_types": []string{"full_attention", "linear_attention"}}), "full_attention and sliding_attention"},
		{"pattern of 0", gemma3(object{"sliding_window_pattern": 0}), "sliding_window_pattern"},
		{"no experts", mixtral(object{"num_local_experts": 0}), "0 experts"},
		{"more experts used than there are", mixtral(object{"num_experts_per_tok": 9}), "9 used"},
		{"soft cap negative", gemma2(object{"final_logit_softcapping": -1}), "soft caps"},
		{"llama3 bounds", llama(object{"rope_scaling": object{
			"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4, "original_max_position_embeddings": 64,
		}}), "low_freq_factor < high_freq_factor"},
		{"llama3 without length", llama(object{"rope_scaling": object{
			"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
		}}), "original_max_position_embeddings"},
	} {
		t.Run(c.name, func(t *testing.T) { wantFormatError(t, text(t, c.config), c.want) })
	}
}

// wantFormatError wants a FormatError of one line that contains want.
func wantFormatError(t *testing.T, config []byte, want string) {
	t.Helper()
	_, err := arch.Parse(config)
	var broken *tensor.FormatError
	if !errors.As(err, &broken) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error is %v, want a FormatError of one line with %q", err, want)
	}
}

// FuzzParse wants no panic, typed errors of one line, and specs whose weights
// can be counted.
func FuzzParse(f *testing.F) {
	for _, c := range []object{
		llama(nil), llama(object{"rope_scaling": object{"rope_type": "llama3", "factor": 8}}), qwen2(nil), qwen3(object{"head_dim": 32}),
		{"text_config": llama(nil)}, mistral(object{"sliding_window": 8}), gemma2(nil), gemma3(object{"head_dim": 8}), mixtral(nil), qwen3moe(object{"num_experts": 4}),
		phi3(object{"partial_rotary_factor": 0.5, "rope_scaling": object{"type": "longrope", "short_factor": []int{1, 1, 1, 1}, "long_factor": []int{1, 2, 3, 4}}}),
		llama(object{"rope_scaling": object{"type": "yarn", "factor": 4}}), llama(object{"eos_token_id": []int{1, 2}, "layer_types": []string{"x"}, "sliding_window": 3}),
	} {
		f.Add(text(f, c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := arch.Parse(b)
		var broken *tensor.FormatError
		var unsupported *tensor.UnsupportedError
		if err != nil {
			if !errors.As(err, &broken) && !errors.As(err, &unsupported) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if s.Layers > 64 || s.Experts > 64 {
			return // slow, and no different
		}
		if s.Parameters() <= 0 {
			t.Fatalf("%d parameters in %+v", s.Parameters(), s)
		}
		for _, w := range s.Weights() {
			if n, ok := w.Shape.Elements(); !ok || n <= 0 {
				t.Fatalf("weight %s has shape %v", w.Name, w.Shape)
			}
		}
	})
}
