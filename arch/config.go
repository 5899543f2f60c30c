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
	// What the architecture honours beside the common keys.
	partialRoPE, localRoPE bool
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
	return c.err
}

// activation refuses any of the MLP but SiLU, which most parsers want.
func (c *config) activation() error {
	if act := c.text("hidden_act", "silu"); act != "silu" && act != "swish" {
		return &tensor.UnsupportedError{What: fmt.Sprintf("hidden_act %q", act), Hint: "only silu"}
	}
	return c.err
}

// fill gives a key the value that its architecture has by default: configs
// leave such keys out.
func (c *config) fill(defaults map[string]any) {
	for k, v := range defaults {
		if c.m[k] == nil {
			c.m[k] = v
		}
	}
}

// floats reads a list of numbers.
func (c *config) floats(key string) []float64 {
	c.used[key] = true
	list, ok := c.m[key].([]any)
	if !ok {
		c.fail(key, "a list of numbers")
		return nil
	}
	out := make([]float64, len(list))
	for i, v := range list {
		n, ok := v.(json.Number)
		f, err := n.Float64()
		if !ok || err != nil || math.IsInf(f, 0) {
			c.fail(key, "a list of numbers")
			return nil
		}
		out[i] = f
	}
	return out
}

// window makes all layers sliding where the config names a window shorter than
// the context; a longer one hides nothing.
func (c *config) window(s *Spec) {
	n := c.integer("sliding_window", 0)
	if n < 0 {
		c.fail("sliding_window", "a number of positions")
	}
	if n > 0 && n < s.MaxContext && s.Layers > 0 && s.Layers <= maxLayers {
		s.Window, s.Sliding = n, slices.Repeat([]bool{true}, s.Layers)
	}
}

// layerTypes reads which layers slide: layer_types (transformers 5), else every
// one but each period-th.
func (c *config) layerTypes(s *Spec, period int) {
	s.Window = c.integer("sliding_window", 0)
	if s.Window < 0 {
		c.fail("sliding_window", "a number of positions")
	}
	if s.Window <= 0 || s.Window >= s.MaxContext {
		s.Window = max(1, s.MaxContext)
	}
	c.used["layer_types"] = true
	list, ok := c.m["layer_types"].([]any)
	if !ok {
		s.Sliding = make([]bool, min(max(s.Layers, 0), maxLayers))
		for l := range s.Sliding {
			s.Sliding[l] = (l+1)%period != 0
		}
		return
	}
	if len(list) != s.Layers || s.Layers > maxLayers {
		c.fail("layer_types", fmt.Sprintf("a list of %d types", s.Layers))
		return
	}
	s.Sliding = make([]bool, s.Layers)
	for l, v := range list {
		s.Sliding[l] = v == "sliding_attention"
		if !s.Sliding[l] && v != "full_attention" {
			c.fail("layer_types", "a list of full_attention and sliding_attention")
			return
		}
	}
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
// (transformers 5), of the layers that do not slide where they differ.
func (c *config) rope(s *Spec) error {
	s.RoPE.Theta = c.number("rope_theta", 10000)
	partial := c.number("partial_rotary_factor", 1)
	if partial == 1 {
		c.used["partial_rotary_factor"] = false
	}
	key := "rope_parameters"
	if !c.has(key) {
		key = "rope_scaling"
	}
	c.used["rope_parameters"], c.used["rope_scaling"] = true, true
	s.RoPE.Type = "default"
	if c.has(key) {
		m, ok := c.m[key].(map[string]any)
		if !ok {
			c.fail(key, "an object")
			return c.err
		}
		if full, nested := m["full_attention"].(map[string]any); nested {
			m = full
			local, ok := c.m[key].(map[string]any)["sliding_attention"].(map[string]any)
			if !ok || !c.localRoPE {
				return &tensor.UnsupportedError{What: key + " by layer type"}
			}
			s.LocalRoPE = &RoPE{Theta: 10000}
			if err := c.scaling(s, s.LocalRoPE, key, local, 1); err != nil {
				return err
			}
		}
		partial = c.sub(m).number("partial_rotary_factor", partial)
		dim, err := c.rotaryDim(s, partial)
		if err != nil {
			return err
		}
		s.RotaryDim = dim
		return c.scaling(s, &s.RoPE, key, m, partial)
	}
	dim, err := c.rotaryDim(s, partial)
	if err != nil {
		return err
	}
	s.RotaryDim = dim
	return c.checkTheta(&s.RoPE)
}

// sub reads keys of an object inside the config.
func (c *config) sub(m map[string]any) *config { return &config{m: m, used: map[string]bool{}} }

// rotaryDim is the number of elements that partial rotary embedding turns, 0
// for all.
func (c *config) rotaryDim(s *Spec, partial float64) (int, error) {
	if partial == 1 {
		return 0, nil
	}
	if !c.partialRoPE {
		return 0, &tensor.UnsupportedError{What: fmt.Sprintf("config.json: partial_rotary_factor %v", partial), Hint: "only 1"}
	}
	dim := int(float64(s.HeadDim) * partial)
	if !(partial > 0 && partial < 1) || dim < 2 || dim%2 != 0 {
		return 0, &tensor.FormatError{Offset: -1, Field: "config.json: partial_rotary_factor", Err: fmt.Errorf("%v of heads of %d: want an even number of elements", partial, s.HeadDim)}
	}
	return dim, nil
}

// scaling reads one object of RoPE parameters into r.
func (c *config) scaling(s *Spec, r *RoPE, key string, m map[string]any, partial float64) error {
	sub := c.sub(m)
	if f := sub.number("partial_rotary_factor", partial); f != partial {
		return &tensor.UnsupportedError{What: fmt.Sprintf("config.json: %s: partial_rotary_factor %v", key, f), Hint: "only 1"}
	}
	r.Theta = sub.number("rope_theta", r.Theta)
	r.Type = sub.text("rope_type", sub.text("type", "default"))
	bad := func(format string, a ...any) error {
		return &tensor.FormatError{Offset: -1, Field: "config.json: " + key, Err: fmt.Errorf(format, a...)}
	}
	original := func(def int) int {
		return sub.integer("original_max_position_embeddings", c.integer("original_max_position_embeddings", def))
	}
	wantsFactor := true
	switch r.Type {
	case "default":
		wantsFactor = false
	case "linear":
		r.Factor = sub.number("factor", 0)
	case "llama3":
		r.Factor = sub.number("factor", 0)
		r.LowFreqFactor = sub.number("low_freq_factor", 0)
		r.HighFreqFactor = sub.number("high_freq_factor", 0)
		r.OriginalContext = original(0)
		if sub.err == nil && (r.LowFreqFactor <= 0 || r.HighFreqFactor <= r.LowFreqFactor || r.OriginalContext <= 0) {
			return bad("llama3 scaling wants 0 < low_freq_factor < high_freq_factor and original_max_position_embeddings")
		}
	case "yarn":
		r.Factor = sub.number("factor", 0)
		r.OriginalContext = original(s.MaxContext)
		r.BetaFast, r.BetaSlow = sub.number("beta_fast", 32), sub.number("beta_slow", 1)
		r.WholePairs = sub.boolean("truncate", true)
		r.Scale = sub.number("attention_factor", sub.yarnScale(r.Factor))
		if sub.err == nil && (r.BetaSlow <= 0 || r.BetaFast <= r.BetaSlow || r.OriginalContext <= 0 || r.Theta <= 1 || !(r.Scale > 0)) {
			return bad("yarn scaling wants 0 < beta_slow < beta_fast, rope_theta above 1 and positive numbers")
		}
	case "longrope", "su":
		wantsFactor = false
		r.Type = "longrope"
		r.ShortFactors, r.LongFactors = sub.floats("short_factor"), sub.floats("long_factor")
		r.OriginalContext = original(s.MaxContext)
		factor := sub.number("factor", float64(s.MaxContext)/float64(max(1, r.OriginalContext)))
		scale := 1.0
		if factor > 1 {
			scale = math.Sqrt(1 + math.Log(factor)/math.Log(float64(max(2, r.OriginalContext))))
		}
		r.Scale = sub.number("attention_factor", scale)
		if err := longropeProblem(r, int(float64(s.HeadDim)*partial)/2); sub.err == nil && err != nil {
			return bad("%w", err)
		}
	default:
		return &tensor.UnsupportedError{What: fmt.Sprintf("RoPE scaling %q (config.json: %s)", r.Type, key), Hint: "known are default, linear, llama3, yarn, longrope"}
	}
	if sub.err != nil {
		return sub.err
	}
	if wantsFactor && r.Factor <= 0 {
		return bad("factor is %v, want a positive number", r.Factor)
	}
	return c.checkTheta(r)
}

// yarnScale is the factor of cosines and sines that yarn gives by default.
func (c *config) yarnScale(factor float64) float64 {
	scale := func(m float64) float64 {
		if factor <= 1 {
			return 1
		}
		return 0.1*m*math.Log(factor) + 1
	}
	if m, all := c.number("mscale", 0), c.number("mscale_all_dim", 0); m != 0 && all != 0 {
		return scale(m) / scale(all)
	}
	return scale(1)
}

// longropeProblem says what is wrong with factors of pairs.
func longropeProblem(r *RoPE, pairs int) error {
	if len(r.ShortFactors) != pairs || len(r.LongFactors) != pairs {
		return fmt.Errorf("longrope has %d short and %d long factors, want %d of each", len(r.ShortFactors), len(r.LongFactors), pairs)
	}
	for i := range pairs {
		if !(r.ShortFactors[i] > 0) || !(r.LongFactors[i] > 0) {
			return fmt.Errorf("factor %d of longrope is not positive", i)
		}
	}
	if r.OriginalContext <= 0 || !(r.Scale > 0) {
		return fmt.Errorf("longrope wants a positive original_max_position_embeddings and attention_factor")
	}
	return nil
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
