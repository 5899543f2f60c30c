package tomlx

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// config writes config.json as mlx-lm wants it. Its models read keys at the root
// alone, most know nothing of transformers 5's rope_parameters, and some
// defaults are not Hugging Face's (llama: tie_word_embeddings true; qwen2:
// rope_theta 1e6): what the model's arithmetic depends on is written out.
func (o Options) config(spec *arch.Spec, pieces []plan.Piece) ([]byte, error) {
	var source map[string]any
	if err := decode(o.Config, &source); err != nil {
		return nil, &tensor.FormatError{Offset: -1, Field: "config.json", Err: err}
	}
	c := source
	if text, ok := source["text_config"].(map[string]any); ok {
		c = maps.Clone(text)
		for k, v := range source {
			if _, has := c[k]; !has {
				c[k] = v
			}
		}
	}
	for _, k := range []string{"_name_or_path", "text_config", "vision_config", "audio_config"} {
		delete(c, k)
	}
	c["architectures"] = []string{spec.Architecture}
	c["model_type"] = spec.ModelType
	c["tie_word_embeddings"] = spec.Tied
	c["torch_dtype"] = typeName(o.Type)
	if _, ok := c["dtype"]; ok {
		c["dtype"] = typeName(o.Type)
	}
	for k, v := range map[string]any{
		"hidden_size": spec.Hidden, "intermediate_size": spec.Intermediate, "num_hidden_layers": spec.Layers,
		"num_attention_heads": spec.Heads, "num_key_value_heads": spec.KVHeads, "head_dim": spec.HeadDim,
		"vocab_size": spec.Vocab, "max_position_embeddings": spec.MaxContext,
		"rms_norm_eps": json.Number(strconv.FormatFloat(float64(spec.NormEps), 'g', -1, 32)),
	} {
		if c[k] == nil {
			c[k] = v
		}
	}
	if err := liftRoPE(c, spec); err != nil {
		return nil, err
	}
	if err := family(c, spec); err != nil {
		return nil, err
	}
	if eos, ok := o.endTokens(); ok {
		c["eos_token_id"] = eos
	}
	if o.Quantizes() {
		q := o.quantization(pieces)
		c["quantization"], c["quantization_config"] = q, q
	}
	return encode(c)
}

// liftRoPE puts what rope_parameters says (transformers 5; Gemma 3 has one for
// each kind of layer) where transformers 4 and mlx-lm keep it.
func liftRoPE(c map[string]any, spec *arch.Spec) error {
	p, _ := c["rope_parameters"].(map[string]any)
	if full, ok := p["full_attention"].(map[string]any); ok {
		if local, ok := p["sliding_attention"].(map[string]any); ok && c["rope_local_base_freq"] == nil {
			c["rope_local_base_freq"] = local["rope_theta"]
		}
		p = full
	}
	if c["rope_theta"] == nil {
		c["rope_theta"] = json.Number(strconv.FormatFloat(spec.RoPE.Theta, 'f', -1, 64))
		if !strings.Contains(string(c["rope_theta"].(json.Number)), ".") {
			c["rope_theta"] = c["rope_theta"].(json.Number) + ".0"
		}
	}
	if kind, _ := p["rope_type"].(string); kind != "" && kind != "default" && c["rope_scaling"] == nil {
		c["rope_scaling"] = p
	}
	if spec.RotaryDim > 0 && c["partial_rotary_factor"] == nil {
		c["partial_rotary_factor"] = p["partial_rotary_factor"]
	}
	r := spec.RoPE
	scaling, _ := c["rope_scaling"].(map[string]any)
	switch r.Type {
	case "yarn":
		// Its loader has another default, and knows no other way to round and
		// scale.
		scaling = maps.Clone(scaling)
		scaling["original_max_position_embeddings"] = r.OriginalContext
		c["rope_scaling"] = scaling
		if !r.WholePairs || scaling["attention_factor"] != nil {
			return &tensor.UnsupportedError{What: "yarn RoPE scaling with truncate false or an attention_factor in MLX"}
		}
	case "longrope":
		scaling = maps.Clone(scaling)
		scaling["type"] = "longrope"
		c["rope_scaling"], c["original_max_position_embeddings"] = scaling, r.OriginalContext
		if scaling["attention_factor"] != nil || scaling["factor"] != nil {
			return &tensor.UnsupportedError{What: "longrope with a factor or an attention_factor in MLX"}
		}
	}
	return nil
}

// family writes out what mlx-lm's model of the architecture needs. What it does
// not do is refused, but for windows that it ignores: up to the window's length
// answers are the same, and the context ends there.
func family(c map[string]any, spec *arch.Spec) error {
	ignored := spec.Window > 0 && spec.Architecture != "Gemma3ForCausalLM" && slices.Contains(spec.Sliding, true) && spec.Window < spec.MaxContext
	if ignored {
		if spec.RoPE.Type == "longrope" {
			return &tensor.UnsupportedError{What: fmt.Sprintf("a sliding window beside longrope in MLX (%s)", spec.Architecture)}
		}
		c["max_position_embeddings"] = spec.Window
	}
	number := func(v float64) json.Number { return json.Number(strconv.FormatFloat(v, 'g', -1, 64)) }
	switch spec.Architecture {
	case "Gemma2ForCausalLM":
		if spec.AttnSoftcap == 0 || spec.LogitSoftcap == 0 || spec.QKVBias || !spec.Tied {
			return &tensor.UnsupportedError{What: "Gemma 2 without soft caps, with biases or with a head of its own in MLX"}
		}
		c["query_pre_attn_scalar"] = number(spec.QueryScalar)
		c["attn_logit_softcapping"], c["final_logit_softcapping"] = number(float64(spec.AttnSoftcap)), number(float64(spec.LogitSoftcap))
	case "Gemma3ForCausalLM":
		if spec.AttnSoftcap != 0 || spec.LogitSoftcap != 0 || spec.QKVBias || spec.LocalRoPE.Type != "default" {
			return &tensor.UnsupportedError{What: "Gemma 3 with soft caps, biases or scaling of the sliding layers' RoPE in MLX"}
		}
		period := slices.Index(spec.Sliding, false) + 1
		for l, sliding := range spec.Sliding {
			if period == 0 || sliding != ((l+1)%period != 0) {
				return &tensor.UnsupportedError{What: "Gemma 3 whose sliding layers follow no period in MLX"}
			}
		}
		c["query_pre_attn_scalar"], c["sliding_window"], c["sliding_window_pattern"] = number(spec.QueryScalar), spec.Window, period
		c["rope_local_base_freq"] = number(spec.LocalRoPE.Theta)
	}
	return nil
}

// quantization is the block that tells the loader how modules are packed. A
// mixture names each module, as mlx-lm does.
func (o Options) quantization(pieces []plan.Piece) map[string]any {
	q := map[string]any{"group_size": o.Group, "bits": o.Bits, "mode": "affine"}
	if o.Recipe == "" {
		for _, p := range pieces { // whose bits are mlx-lm's choice, not the user's
			if f := p.Output.Form; f.Affine && p.Weight.Role == arch.Router && isQwen3MoE(p.Weight) {
				q[modulePath(p.Weight)] = map[string]any{"group_size": f.Block, "bits": f.Bits}
			}
		}
		return q
	}
	for _, p := range pieces {
		if f := p.Output.Form; f.Affine {
			w := p.Weight
			if w.Row > 0 || w.Expert > 0 {
				continue // of a tensor that its first part names
			}
			q[modulePath(w)] = map[string]any{"group_size": f.Block, "bits": f.Bits, "mode": "affine"}
		}
	}
	return q
}

// isQwen3MoE reports whether a router is of that model, which packs it apart from
// the rest (qwen3_moe.py, quant_predicate).
func isQwen3MoE(w arch.Weight) bool { return strings.HasSuffix(w.Name, ".mlp.gate.weight") }

// encode writes JSON as mlx-lm does: keys sorted, four spaces.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return b.Bytes(), nil
}

// decode reads JSON and keeps numbers as they are spelled.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(v)
}
