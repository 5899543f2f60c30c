package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// parser reads what an architecture has beside the common keys.
type parser struct {
	// prepare, where not nil, comes first: defaults, what is honoured.
	prepare func(*config)
	parse   func(*config, *Spec) error
}

// parsers is the table of known architectures, by config.json's class name.
var parsers = map[string]parser{
	"Gemma2ForCausalLM":              {prepareGemma2, gemma2},
	"Gemma3ForCausalLM":              {prepareGemma3, gemma3},
	"Gemma3ForConditionalGeneration": {prepareGemma3, gemma3}, // its language model
	"LlamaForCausalLM":               {nil, llama},
	"MistralForCausalLM":             {nil, mistral},
	"MixtralForCausalLM":             {nil, mixtral},
	"Qwen3MoeForCausalLM":            {nil, qwen3moe},
	"Phi3ForCausalLM":                {preparePhi3, phi3},
	"Qwen2ForCausalLM":               {nil, qwen2},
	"Qwen3ForCausalLM":               {nil, qwen3},
}

// Known lists the architectures that [Parse] accepts, sorted.
func Known() []string { return slices.Sorted(maps.Keys(parsers)) }

// Parse reads a Hugging Face config.json, in the form of transformers 4 or 5.
// Broken input is a [tensor.FormatError]; an architecture or a config value
// this package does not honour is a [tensor.UnsupportedError].
func Parse(configJSON []byte) (*Spec, error) {
	c, err := readConfig(configJSON)
	if err != nil {
		return nil, err
	}
	class, err := c.class()
	if err != nil {
		return nil, err
	}
	if err := refusePrequantized(c); err != nil {
		return nil, err
	}
	p, ok := parsers[class]
	if !ok {
		return nil, &tensor.UnsupportedError{
			What: fmt.Sprintf("architecture %q", class),
			Hint: "known are " + strings.Join(Known(), ", "),
		}
	}
	if p.prepare != nil {
		p.prepare(c)
	}
	s := &Spec{Kind: Decoder, Architecture: class, ModelType: c.text("model_type", "")}
	for _, step := range []func(*Spec) error{c.sizes, c.tokens, c.rope} {
		if err := step(s); err != nil {
			return nil, err
		}
	}
	if err := p.parse(c, s); err != nil {
		return nil, err
	}
	if err := c.refuseUnhonoured(); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

// readConfig decodes the object and lifts text_config, where multi-modal and
// transformers 5 configs keep the language model, to the root.
func readConfig(b []byte) (*config, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return nil, &tensor.FormatError{Offset: -1, Field: "config.json", Err: fmt.Errorf("not a JSON object: %w", err)}
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, &tensor.FormatError{Offset: d.InputOffset(), Field: "config.json", Err: errors.New("more text after the JSON object")}
	}
	if t, ok := m["text_config"].(map[string]any); ok {
		root := maps.Clone(t)
		for k, v := range m {
			if _, has := root[k]; !has || k == "architectures" {
				root[k] = v
			}
		}
		m = root
	}
	return &config{m: m, used: map[string]bool{}}, nil
}

// refusePrequantized names the quantization of a checkpoint whose weights are
// already packed by another tool.
func refusePrequantized(c *config) error {
	for _, key := range []string{"quantization_config", "compression_config", "quantization"} {
		q, ok := c.m[key].(map[string]any)
		if !ok {
			continue
		}
		method, _ := q["quant_method"].(string)
		if method == "" {
			method = "unnamed"
		}
		return &tensor.UnsupportedError{
			What: fmt.Sprintf("checkpoint already quantized by %s (config.json has %s)", strings.ToUpper(method), key),
			Hint: "convert the original 16-bit or 32-bit checkpoint instead; quantizing twice loses quality",
		}
	}
	return nil
}

// maxLayers is far above any model.
const maxLayers = 1 << 12

// check refuses sizes no forward pass can have.
func (s *Spec) check() error {
	bad := func(format string, a ...any) error {
		return &tensor.FormatError{Offset: -1, Field: "config.json", Err: fmt.Errorf(format, a...)}
	}
	if s.HeadDim == 0 && s.Heads > 0 {
		return bad("hidden_size (%d) is not a multiple of num_attention_heads (%d), and there is no head_dim", s.Hidden, s.Heads)
	}
	// Far above any model; products and their sum stay inside an int64.
	for _, f := range []struct {
		name     string
		v, limit int
	}{
		{"hidden_size", s.Hidden, 1 << 20}, {"intermediate_size", s.Intermediate, 1 << 22}, {"num_hidden_layers", s.Layers, maxLayers},
		{"num_attention_heads", s.Heads, 1 << 12}, {"num_key_value_heads", s.KVHeads, 1 << 12}, {"head_dim", s.HeadDim, 1 << 12},
		{"vocab_size", s.Vocab, 1 << 24}, {"max_position_embeddings", s.MaxContext, 1 << 24},
	} {
		if f.v <= 0 || f.v > f.limit {
			return bad("%s is %d, want 1 to %d", f.name, f.v, f.limit)
		}
	}
	if s.Heads%s.KVHeads != 0 {
		return bad("num_attention_heads (%d) is not a multiple of num_key_value_heads (%d)", s.Heads, s.KVHeads)
	}
	if s.Window < 0 || s.Sliding != nil && (s.Window == 0 || len(s.Sliding) != s.Layers) {
		return bad("sliding_window is %d for %d layers, want a positive number", s.Window, s.Layers)
	}
	if s.HeadDim%2 != 0 {
		return bad("head_dim is %d: rotary embedding wants an even number", s.HeadDim)
	}
	if !(s.NormEps > 0 && s.NormEps < 1) {
		return bad("rms_norm_eps is %v, want a small positive number", s.NormEps)
	}
	return nil
}
