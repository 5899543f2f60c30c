package tinymodel

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Variant is one tiny checkpoint.
type Variant struct {
	// Name is short and fits a folder or test name, such as "llama3-tied".
	Name string
	// Config is what config.json holds.
	Config map[string]any
	// Generation is what generation_config.json holds.
	Generation map[string]any
	// DType is the stored type of every weight: F32, F16 or BF16.
	DType tensor.DType
	// Shards is the number of safetensors files; above 1 they have an index.
	Shards int
	// InvFreq stores the rotary_emb.inv_freq buffers that Llama 2 checkpoints
	// of transformers before 4.32 carry and every reader must pass over.
	InvFreq bool
	// ChatTemplate is written as chat_template.jinja; empty for base models.
	ChatTemplate string
	// TemplateInConfig puts ChatTemplate into tokenizer_config.json instead, as
	// transformers before 4.50 did.
	TemplateInConfig bool
}

// ConfigJSON is the text of config.json.
func (v Variant) ConfigJSON() []byte {
	b, err := json.MarshalIndent(v.Config, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("tinymodel: config of %s: %v", v.Name, err)) // a literal of this package
	}
	return b
}

// ByName finds one of [Variants] or [Mixtures].
func ByName(name string) (Variant, error) {
	for _, v := range append(Variants(), Mixtures()...) {
		if v.Name == name {
			return v, nil
		}
	}
	return Variant{}, fmt.Errorf("no tiny checkpoint is named %q", name)
}

// chatML is the template of SmolLM2 and Qwen without tools.
const chatML = `{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`

// Variants lists the tiny checkpoints. Their vocabulary is that of
// stories260K's tokenizer, 512 ids, padded in some.
func Variants() []Variant {
	return []Variant{
		// Llama 2: multi-head attention, untied head, MLP width no multiple
		// of 32, buffers of old transformers.
		{
			Name: "llama2", DType: tensor.F16, InvFreq: true,
			Config: llama(map[string]any{
				"hidden_size": 64, "intermediate_size": 172, "num_attention_heads": 4,
				"max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_scaling": nil,
			}),
		},
		// Llama 3.1: grouped queries, llama3 RoPE scaling, several end tokens,
		// three shards.
		{
			Name: "llama3", DType: tensor.BF16, Shards: 3,
			Config: llama(map[string]any{
				"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2,
				"max_position_embeddings": 512, "rope_theta": 500000.0, "eos_token_id": []int{2, 13},
				"rope_scaling": map[string]any{
					"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
					"original_max_position_embeddings": 64,
				},
			}),
			Generation: map[string]any{"bos_token_id": 1, "eos_token_id": []int{2, 13}, "do_sample": true, "temperature": 0.6, "top_p": 0.9},
		},
		// Llama 3.2 1B: the same, tied, config of transformers 5.
		{
			Name: "llama3-tied", DType: tensor.F32,
			Config: llama(map[string]any{
				"hidden_size": 96, "intermediate_size": 160, "num_attention_heads": 6, "num_key_value_heads": 2,
				"head_dim": 16, "max_position_embeddings": 1024, "tie_word_embeddings": true, "rope_theta": nil,
				"rope_parameters": map[string]any{
					"rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0,
					"high_freq_factor": 2.0, "original_max_position_embeddings": 32,
				},
			}, "torch_dtype", "rope_theta"),
		},
		// Biases on all four projections; head_dim no multiple of 16.
		{
			Name: "llama-bias", DType: tensor.F32,
			Config: llama(map[string]any{
				"hidden_size": 48, "intermediate_size": 128, "num_attention_heads": 6, "num_key_value_heads": 3,
				"attention_bias": true,
			}),
		},
		// One key head, linear RoPE scaling, widths no multiple of 16.
		{
			Name: "llama-linear", DType: tensor.F32,
			Config: llama(map[string]any{
				"hidden_size": 40, "intermediate_size": 100, "num_attention_heads": 5, "num_key_value_heads": 1,
				"rope_scaling": map[string]any{"type": "linear", "factor": 2.0},
			}),
		},
		// SmolLM2: tied, three query heads for each key head.
		{
			Name: "smollm2", DType: tensor.BF16, ChatTemplate: chatML,
			Config: llama(map[string]any{
				"hidden_size": 96, "intermediate_size": 256, "num_attention_heads": 6, "num_key_value_heads": 2,
				"max_position_embeddings": 2048, "rope_theta": 100000.0, "tie_word_embeddings": true,
				"rope_interleaved": false, "is_llama_config": true, "pad_token_id": 2,
			}),
		},
		// Qwen2.5 small: q, k, v biases, tied, padded vocabulary, sliding
		// window named but off.
		{
			Name: "qwen2", DType: tensor.BF16, ChatTemplate: chatML, TemplateInConfig: true,
			Config: qwen2(map[string]any{
				"hidden_size": 64, "intermediate_size": 144, "num_attention_heads": 4, "num_key_value_heads": 2,
				"tie_word_embeddings": true, "vocab_size": 544,
			}),
		},
		// Qwen2.5 large: untied, config of transformers 5.
		{
			Name: "qwen2-untied", DType: tensor.F16, Shards: 2,
			Config: qwen2(map[string]any{
				"hidden_size": 64, "intermediate_size": 172, "num_attention_heads": 8, "num_key_value_heads": 2,
				"rope_parameters": map[string]any{"rope_type": "default", "rope_theta": 1000000.0},
				"layer_types":     []string{"full_attention", "full_attention"}, "dtype": "float16",
			}, "torch_dtype", "rope_theta"),
		},
		// Qwen3 small: q/k norm, heads wider than hidden/heads, tied.
		{
			Name: "qwen3", DType: tensor.BF16, ChatTemplate: chatML,
			Config: qwen3(map[string]any{
				"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2,
				"head_dim": 32, "tie_word_embeddings": true,
			}),
		},
		// Qwen3 large as the language part of a bigger model: text_config,
		// narrow heads, one of four shards holding little.
		{
			Name: "qwen3-text", DType: tensor.F32, Shards: 4,
			Config: nest(qwen3(map[string]any{
				"hidden_size": 80, "intermediate_size": 136, "num_attention_heads": 4, "num_key_value_heads": 4,
				"head_dim": 8, "rope_parameters": map[string]any{"rope_type": "default", "rope_theta": 5000000.0},
			}, "torch_dtype", "rope_theta")),
		},
		// Mistral 7B 0.1: every layer slides; heads wider than hidden/heads.
		{
			Name: "mistral", DType: tensor.BF16,
			Config: merge(map[string]any{
				"architectures": []string{"MistralForCausalLM"}, "model_type": "mistral", "rope_theta": 10000.0,
			}, map[string]any{
				"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
				"head_dim": 32, "sliding_window": 12,
			}, nil),
		},
		// Qwen3 with the context stretched by yarn.
		{
			Name: "qwen3-yarn", DType: tensor.BF16,
			Config: qwen3(map[string]any{
				"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
				"head_dim": 32, "max_position_embeddings": 256,
				"rope_scaling": map[string]any{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 8.0},
			}),
		},
		// Gemma 2: soft caps, layers slide by turns, queries scaled by another
		// width than the head's.
		{
			Name: "gemma2", DType: tensor.BF16,
			Config: gemma(map[string]any{
				"architectures": []string{"Gemma2ForCausalLM"}, "model_type": "gemma2", "rope_theta": 10000.0,
				"query_pre_attn_scalar": 8, "sliding_window": 9, "num_key_value_heads": 2, "head_dim": 16,
				"attn_logit_softcapping": 2.5, "final_logit_softcapping": 10.5,
			}),
		},
		// Gemma 3: q/k norm, a RoPE of their own for sliding layers, one key
		// head.
		{
			Name: "gemma3", DType: tensor.BF16,
			Config: gemma(map[string]any{
				"architectures": []string{"Gemma3ForCausalLM"}, "model_type": "gemma3_text", "rope_theta": 1000000.0,
				"rope_local_base_freq": 100.0, "query_pre_attn_scalar": 32, "sliding_window": 10, "sliding_window_pattern": 2,
				"num_key_value_heads": 1, "head_dim": 32, "attn_logit_softcapping": nil, "final_logit_softcapping": nil,
				"rope_scaling": map[string]any{"rope_type": "linear", "factor": 8.0},
			}),
		},
		// Phi-3: packed projections, every layer slides.
		{
			Name: "phi3", DType: tensor.F16,
			Config: phi3(map[string]any{
				"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "sliding_window": 11,
				"original_max_position_embeddings": 512,
			}),
		},
		// Phi-4 mini: RoPE turns three quarters of each head, by other
		// frequencies in runs beyond 48 positions; tied, grouped queries.
		{
			Name: "phi4", DType: tensor.BF16,
			Config: phi3(map[string]any{
				"hidden_size": 128, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2,
				"tie_word_embeddings": true, "partial_rotary_factor": 0.75, "sliding_window": 262144,
				"original_max_position_embeddings": 48,
				"rope_scaling": map[string]any{
					"type":         "longrope",
					"short_factor": []float64{1, 1.05, 1.1, 1.2, 1.25, 1.3, 1.4, 1.5, 1.5, 1.6, 1.7, 1.9},
					"long_factor":  []float64{1, 1.3, 1.9, 2.7, 4.5, 7, 11, 16, 20, 25, 30, 33.5},
				},
			}),
		},
	}
}

// Mixtures lists those with several experts in place of the MLP, which not every
// format takes.
func Mixtures() []Variant {
	return []Variant{
		// Mixtral: eight experts, two used.
		{
			Name: "mixtral", DType: tensor.BF16,
			Config: merge(map[string]any{
				"architectures": []string{"MixtralForCausalLM"}, "model_type": "mixtral", "rope_theta": 1000000.0, "sliding_window": nil,
				"num_local_experts": 8, "num_experts_per_tok": 2, "output_router_logits": false, "router_aux_loss_coef": 0.02,
			}, map[string]any{
				"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2,
			}, nil),
		},
		// Qwen3 30B-A3B: narrow experts, q/k norm.
		{
			Name: "qwen3-moe", DType: tensor.BF16,
			Config: qwen3(map[string]any{
				"architectures": []string{"Qwen3MoeForCausalLM"}, "model_type": "qwen3_moe",
				"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
				"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 32, "norm_topk_prob": true,
				"decoder_sparse_step": 1, "mlp_only_layers": []int{}, "output_router_logits": false, "router_aux_loss_coef": 0.001,
			}),
		},
	}
}

// gemma is a Gemma config of transformers 4 with set over it.
func gemma(set map[string]any) map[string]any {
	return merge(map[string]any{
		"hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": true, "attention_bias": false,
		"hidden_size": 64, "intermediate_size": 160, "num_attention_heads": 4, "rms_norm_eps": 1e-6,
	}, set, []string{"hidden_act"})
}

func phi3(set map[string]any) map[string]any {
	return merge(map[string]any{
		"architectures": []string{"Phi3ForCausalLM"}, "model_type": "phi3", "rope_theta": 10000.0, "rope_scaling": nil,
		"attention_bias": false, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "pad_token_id": 2,
	}, set, nil)
}

// llama is a LlamaConfig of transformers 4 with set over its defaults and the
// keys of drop left out.
func llama(set map[string]any, drop ...string) map[string]any {
	return merge(map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama",
		"attention_bias": false, "mlp_bias": false, "pretraining_tp": 1, "rope_theta": 10000.0,
	}, set, drop)
}

func qwen2(set map[string]any, drop ...string) map[string]any {
	return merge(map[string]any{
		"architectures": []string{"Qwen2ForCausalLM"}, "model_type": "qwen2", "rope_theta": 1000000.0,
		"use_sliding_window": false, "sliding_window": 128, "max_window_layers": 2,
	}, set, drop)
}

func qwen3(set map[string]any, drop ...string) map[string]any {
	return merge(map[string]any{
		"architectures": []string{"Qwen3ForCausalLM"}, "model_type": "qwen3", "rope_theta": 1000000.0,
		"attention_bias": false, "rope_scaling": nil,
		"use_sliding_window": false, "sliding_window": nil, "max_window_layers": 2,
	}, set, drop)
}

func merge(family, set map[string]any, drop []string) map[string]any {
	c := map[string]any{
		"hidden_act": "silu", "num_hidden_layers": 2, "vocab_size": 512, "max_position_embeddings": 512,
		"rms_norm_eps": 1e-5, "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2,
		"initializer_range": 0.02, "use_cache": true, "attention_dropout": 0.0, "torch_dtype": "float32",
	}
	maps.Copy(c, family)
	maps.Copy(c, set)
	for _, k := range drop {
		delete(c, k)
	}
	return c
}

// nest moves a config under text_config, where multi-modal checkpoints keep
// the language model.
func nest(c map[string]any) map[string]any {
	class := c["architectures"]
	delete(c, "architectures")
	return map[string]any{"architectures": class, "model_type": c["model_type"], "text_config": c}
}
