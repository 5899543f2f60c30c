package tomlx

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
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
	liftRoPE(c, spec)
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
func liftRoPE(c map[string]any, spec *arch.Spec) {
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
}

// quantization is the block that tells the loader how modules are packed. A
// mixture names each module, as mlx-lm does.
func (o Options) quantization(pieces []plan.Piece) map[string]any {
	q := map[string]any{"group_size": o.Group, "bits": o.Bits, "mode": "affine"}
	if o.Recipe == "" {
		return q
	}
	for _, p := range pieces {
		if f := p.Output.Form; f.Affine {
			q[strings.TrimSuffix(p.Weight.Name, ".weight")] = map[string]any{"group_size": f.Block, "bits": f.Bits, "mode": "affine"}
		}
	}
	return q
}

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
