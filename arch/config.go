package arch

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// config reads keys of config.json and keeps the first error, so that a parser
// reads top to bottom. used notes the keys a parser honoured.
type config struct {
	m    map[string]any
	used map[string]bool
	err  error
}

func (c *config) fail(key, want string) {
	if c.err == nil {
		c.err = &tensor.FormatError{Offset: -1, Field: "config.json: " + key, Err: fmt.Errorf("%v is not %s", c.m[key], want)}
	}
}

// class is the first entry of architectures.
func (c *config) class() (string, error) {
	if list, ok := c.m["architectures"].([]any); ok && len(list) > 0 {
		if s, ok := list[0].(string); ok {
			return s, nil
		}
	}
	return "", &tensor.FormatError{Offset: -1, Field: "config.json: architectures", Err: fmt.Errorf("names no architecture")}
}

// has reports whether key is there and not null.
func (c *config) has(key string) bool { return c.m[key] != nil }

func (c *config) number(key string, def float64) float64 {
	c.used[key] = true
	v, ok := c.m[key]
	if !ok || v == nil {
		return def
	}
	n, ok := v.(json.Number)
	if ok {
		if f, err := n.Float64(); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
			return f
		}
	}
	c.fail(key, "a number")
	return def
}

func (c *config) integer(key string, def int) int {
	f := c.number(key, float64(def))
	if f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		c.fail(key, "a whole number")
		return def
	}
	return int(f)
}

func (c *config) boolean(key string, def bool) bool {
	c.used[key] = true
	v, ok := c.m[key]
	if !ok || v == nil {
		return def
	}
	b, ok := v.(bool)
	if !ok {
		c.fail(key, "true or false")
		return def
	}
	return b
}

func (c *config) text(key, def string) string {
	c.used[key] = true
	v, ok := c.m[key]
	if !ok || v == nil {
		return def
	}
	s, ok := v.(string)
	if !ok {
		c.fail(key, "a string")
		return def
	}
	return s
}

// ids reads a token id or a list of them.
func (c *config) ids(key string) []int {
	c.used[key] = true
	one := func(v any) (int, bool) {
		n, ok := v.(json.Number)
		if !ok {
			return 0, false
		}
		i, err := n.Int64()
		return int(i), err == nil && i >= 0 && i < 1<<31
	}
	switch v := c.m[key].(type) {
	case nil:
		return nil
	case []any:
		var out []int
		for _, e := range v {
			i, ok := one(e)
			if !ok {
				c.fail(key, "a list of token ids")
				return nil
			}
			out = append(out, i)
		}
		return out
	default:
		i, ok := one(v)
		if !ok {
			// Some exports write -1 for "none".
			if n, isNum := v.(json.Number); isNum && n.String() == "-1" {
				return nil
			}
			c.fail(key, "a token id or a list of them")
			return nil
		}
		return []int{i}
	}
}

// sizes reads what all decoders share.
func (c *config) sizes(s *Spec) error {
	s.Hidden = c.integer("hidden_size", 0)
	s.Intermediate = c.integer("intermediate_size", 0)
	s.Layers = c.integer("num_hidden_layers", 0)
	s.Heads = c.integer("num_attention_heads", 0)
	s.KVHeads = c.integer("num_key_value_heads", s.Heads)
	s.Vocab = c.integer("vocab_size", 0)
	s.MaxContext = c.integer("max_position_embeddings", 2048)
	s.NormEps = float32(c.number("rms_norm_eps", 1e-6))
	s.Tied = c.boolean("tie_word_embeddings", false)
	if s.Heads > 0 {
		even := 0 // stays 0, which check refuses, where the heads do not fit
		if s.Hidden%s.Heads == 0 {
			even = s.Hidden / s.Heads
		}
		s.HeadDim = c.integer("head_dim", even)
	}
	s.DType = c.text("torch_dtype", c.text("dtype", ""))
	if act := c.text("hidden_act", "silu"); act != "silu" && act != "swish" {
		return &tensor.UnsupportedError{What: fmt.Sprintf("hidden_act %q", act), Hint: "only silu"}
	}
	return c.err
}

func (c *config) tokens(s *Spec) error {
	s.BOS, s.PAD = -1, -1
	if ids := c.ids("bos_token_id"); len(ids) > 0 {
		s.BOS = ids[0]
	}
	if ids := c.ids("pad_token_id"); len(ids) > 0 {
		s.PAD = ids[0]
	}
	s.EOS = c.ids("eos_token_id")
	return c.err
}

// rope reads rope_theta and rope_scaling (transformers 4) or rope_parameters
// (transformers 5).
func (c *config) rope(s *Spec) error {
	r := &s.RoPE
	r.Type = "default"
	r.Theta = c.number("rope_theta", 10000)
	key := "rope_parameters"
	if !c.has(key) {
		key = "rope_scaling"
	}
	c.used["rope_parameters"], c.used["rope_scaling"] = true, true
	if !c.has(key) {
		return c.checkTheta(r)
	}
	m, ok := c.m[key].(map[string]any)
	if !ok {
		c.fail(key, "an object")
		return c.err
	}
	if _, nested := m["full_attention"].(map[string]any); nested {
		return &tensor.UnsupportedError{What: key + " by layer type"}
	}
	sub := &config{m: m, used: map[string]bool{}}
	if f := sub.number("partial_rotary_factor", 1); f != 1 {
		return &tensor.UnsupportedError{What: fmt.Sprintf("config.json: %s: partial_rotary_factor %v", key, f), Hint: "only 1"}
	}
	r.Theta = sub.number("rope_theta", r.Theta)
	r.Type = sub.text("rope_type", sub.text("type", "default"))
	switch r.Type {
	case "default":
	case "linear":
		r.Factor = sub.number("factor", 0)
	case "llama3":
		r.Factor = sub.number("factor", 0)
		r.LowFreqFactor = sub.number("low_freq_factor", 0)
		r.HighFreqFactor = sub.number("high_freq_factor", 0)
		r.OriginalContext = sub.integer("original_max_position_embeddings", c.integer("original_max_position_embeddings", 0))
		if sub.err == nil && (r.LowFreqFactor <= 0 || r.HighFreqFactor <= r.LowFreqFactor || r.OriginalContext <= 0) {
			return &tensor.FormatError{Offset: -1, Field: "config.json: " + key, Err: fmt.Errorf("llama3 scaling wants 0 < low_freq_factor < high_freq_factor and original_max_position_embeddings")}
		}
	default:
		return &tensor.UnsupportedError{What: fmt.Sprintf("RoPE scaling %q (config.json: %s)", r.Type, key), Hint: "known are default, linear, llama3"}
	}
	if sub.err != nil {
		return sub.err
	}
	if r.Type != "default" && r.Factor <= 0 {
		return &tensor.FormatError{Offset: -1, Field: "config.json: " + key, Err: fmt.Errorf("factor is %v, want a positive number", r.Factor)}
	}
	return c.checkTheta(r)
}

func (c *config) checkTheta(r *RoPE) error {
	if c.err == nil && r.Theta <= 0 {
		return &tensor.FormatError{Offset: -1, Field: "config.json: rope_theta", Err: fmt.Errorf("%v is not a positive number", r.Theta)}
	}
	return c.err
}

// neutral lists keys that change the forward pass of some decoder, each with
// the values that mean "off". A key here that no parser has honoured must be
// off: the model would otherwise be converted without it.
var neutral = map[string][]any{
	"partial_rotary_factor":           {1.0},
	"rotary_pct":                      {1.0},
	"rope_interleaved":                {false},
	"clip_qkv":                        {},
	"logit_scale":                     {1.0},
	"logits_scaling":                  {1.0},
	"embedding_multiplier":            {1.0},
	"residual_multiplier":             {1.0},
	"attention_multiplier":            {},
	"attn_logit_softcapping":          {},
	"final_logit_softcapping":         {},
	"query_pre_attn_scalar":           {},
	"use_qk_norm":                     {false},
	"qk_layernorm":                    {false},
	"use_sliding_window":              {false},
	"sliding_window":                  {},
	"attention_chunk_size":            {},
	"no_rope_layers":                  {},
	"num_experts":                     {0.0},
	"num_local_experts":               {0.0},
	"n_routed_experts":                {0.0},
	"mlp_bias":                        {false},
	"attention_bias":                  {false},
	"use_bias":                        {false},
	"alibi":                           {false},
	"use_bidirectional_attention":     {false},
	"is_encoder_decoder":              {false},
	"add_cross_attention":             {false},
	"parallel_attn":                   {false},
	"use_parallel_residual":           {false},
	"num_nextn_predict_layers":        {0.0},
	"attention_output_gate":           {false},
	"attn_output_gate":                {false},
	"position_embedding_type":         {"rotary", "rope", "absolute"},
	"embedding_scale":                 {1.0},
	"normalize_embedding":             {false},
	"hidden_size_per_layer_input":     {0.0},
	"num_kv_shared_layers":            {0.0},
	"scale_attn_by_inverse_layer_idx": {false},
}

// refuseUnhonoured is the last check of every parser.
func (c *config) refuseUnhonoured() error {
	for _, key := range slices.Sorted(maps.Keys(neutral)) {
		off := neutral[key]
		v, ok := c.m[key]
		if !ok || v == nil || c.used[key] {
			continue
		}
		if n, isNum := v.(json.Number); isNum {
			f, err := n.Float64()
			if err != nil {
				c.fail(key, "a number")
				return c.err
			}
			v = f
		}
		isOff := false
		for _, o := range off {
			isOff = isOff || o == v
		}
		if !isOff {
			return &tensor.UnsupportedError{What: fmt.Sprintf("config.json: %s = %v", key, c.m[key]), Hint: "this value changes the model's arithmetic and is not implemented for its architecture"}
		}
	}
	if list, ok := c.m["layer_types"].([]any); ok && !c.used["layer_types"] {
		for _, t := range list {
			if t != "full_attention" {
				return &tensor.UnsupportedError{What: fmt.Sprintf("config.json: layer_types has %v", t), Hint: "only full_attention"}
			}
		}
	}
	return nil
}
