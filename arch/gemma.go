package arch

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Gemma's configs leave out what is the default of its class
// (configuration_gemma2, configuration_gemma3).
func prepareGemma2(c *config) {
	c.fill(gemmaDefaults("2304", "9216", "26", "8", "4", "256000", "8192", "4096"))
	c.fill(map[string]any{
		"rope_theta": json.Number("10000"), "final_logit_softcapping": json.Number("30"), "attn_logit_softcapping": json.Number("50"),
	})
}

func prepareGemma3(c *config) {
	c.localRoPE = true
	c.fill(gemmaDefaults("2304", "9216", "26", "8", "4", "262208", "131072", "4096"))
	c.fill(map[string]any{"rope_theta": json.Number("1000000"), "rope_local_base_freq": json.Number("10000")})
}

func gemmaDefaults(hidden, intermediate, layers, heads, kvHeads, vocab, context, window json.Number) map[string]any {
	return map[string]any{
		"hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers, "num_attention_heads": heads,
		"num_key_value_heads": kvHeads, "vocab_size": vocab, "max_position_embeddings": context, "sliding_window": window,
		"head_dim": json.Number("256"), "query_pre_attn_scalar": json.Number("256"), "tie_word_embeddings": true,
		"rms_norm_eps": json.Number("1e-06"),
	}
}

// gemma is what all Gemmas have: norms by 1+w before and behind attention and
// MLP, embeddings times √hidden, GELU, scores over √query_pre_attn_scalar, soft
// caps (modeling_gemma2, modeling_gemma3). The embedding's factor is float32
// here and in llama.cpp; transformers and mlx-lm round it to bfloat16 with
// models of that type.
func (c *config) gemma(s *Spec) error {
	s.NormPlusOne, s.PostNorms, s.GELU = true, true, true
	s.EmbedScale = float32(math.Sqrt(float64(s.Hidden)))
	s.QueryScalar = c.number("query_pre_attn_scalar", 256)
	s.AttnSoftcap = float32(c.number("attn_logit_softcapping", 0))
	s.LogitSoftcap = float32(c.number("final_logit_softcapping", 0))
	bias := c.boolean("attention_bias", false)
	s.QKVBias, s.OBias = bias, bias
	if c.err == nil && (s.QueryScalar <= 0 || s.AttnSoftcap < 0 || s.LogitSoftcap < 0) {
		return &tensor.FormatError{Offset: -1, Field: "config.json", Err: fmt.Errorf("query_pre_attn_scalar is %v, soft caps are %v and %v: want positive numbers", s.QueryScalar, s.AttnSoftcap, s.LogitSoftcap)}
	}
	for _, key := range []string{"hidden_activation", "hidden_act"} {
		act := c.text(key, "gelu_pytorch_tanh")
		if key == "hidden_act" && c.has("hidden_activation") {
			continue // which transformers prefers
		}
		if act != "gelu_pytorch_tanh" {
			return &tensor.UnsupportedError{What: fmt.Sprintf("%s %q", key, act), Hint: "only gelu_pytorch_tanh"}
		}
	}
	return c.err
}

// gemma2: layers slide by turns, the first does.
func gemma2(c *config, s *Spec) error {
	c.layerTypes(s, 2)
	return c.gemma(s)
}

// gemma3: heads of q and k have norms, the sliding layers a RoPE of their own,
// and every sixth layer sees all.
func gemma3(c *config, s *Spec) error {
	s.Architecture, s.ModelType, s.QKNorm = "Gemma3ForCausalLM", "gemma3_text", true
	if local := c.number("rope_local_base_freq", 10000); s.LocalRoPE == nil {
		s.LocalRoPE = &RoPE{Theta: local, Type: "default"}
		if err := c.checkTheta(s.LocalRoPE); err != nil {
			return err
		}
	}
	period := c.integer("_sliding_window_pattern", c.integer("sliding_window_pattern", 6))
	if period < 1 {
		c.fail("sliding_window_pattern", "a positive number")
		return c.err
	}
	c.layerTypes(s, period)
	return c.gemma(s)
}
