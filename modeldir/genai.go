package modeldir

import (
	"encoding/json"
	"fmt"
	"strings"
)

// GenAI is genai_config.json, the configuration of onnxruntime-genai: the
// names of a graph's inputs and outputs and the sizes of its cache. Source:
// onnxruntime-genai 0.18, src/config.h and the builder's make_genai_config.
// Fields this module does not use are not kept.
type GenAI struct {
	Model  GenAIModel  `json:"model"`
	Search GenAISearch `json:"search"`
}

// GenAIModel is the "model" object.
type GenAIModel struct {
	Type          string       `json:"type"`
	BOS           TokenIDs     `json:"bos_token_id,omitempty"`
	EOS           TokenIDs     `json:"eos_token_id,omitempty"`
	Pad           TokenIDs     `json:"pad_token_id,omitempty"`
	VocabSize     int          `json:"vocab_size"`
	ContextLength int          `json:"context_length"`
	Decoder       GenAIDecoder `json:"decoder"`
}

// GenAIDecoder is the "model.decoder" object.
type GenAIDecoder struct {
	Filename       string              `json:"filename"`
	HeadSize       int                 `json:"head_size"`
	HiddenSize     int                 `json:"hidden_size"`
	Heads          int                 `json:"num_attention_heads"`
	Layers         int                 `json:"num_hidden_layers"`
	KVHeads        int                 `json:"num_key_value_heads"`
	SessionOptions GenAISessionOptions `json:"session_options"`
	Inputs         GenAIInputs         `json:"inputs"`
	Outputs        GenAIOutputs        `json:"outputs"`
	SlidingWindow  json.RawMessage     `json:"sliding_window,omitempty"`
	Pipeline       json.RawMessage     `json:"pipeline,omitempty"`
}

// GenAISessionOptions is the "session_options" object. An empty list of
// providers means the CPU.
type GenAISessionOptions struct {
	LogID           string            `json:"log_id,omitempty"`
	ProviderOptions []json.RawMessage `json:"provider_options"`
	// ExactProducts is "1" where activations of 8 bits are multiplied. genai
	// passes keys it does not know to the session; on x86 without VNNI products
	// saturate without this one, and with VNNI it costs speed alone.
	ExactProducts string `json:"session.x64quantprecision,omitempty"`
}

// GenAIInputs names the graph's inputs; the cache names hold one %d, the
// layer's number.
type GenAIInputs struct {
	InputIDs      string `json:"input_ids,omitempty"`
	AttentionMask string `json:"attention_mask,omitempty"`
	PositionIDs   string `json:"position_ids,omitempty"`
	PastKey       string `json:"past_key_names,omitempty"`
	PastValue     string `json:"past_value_names,omitempty"`
}

// GenAIOutputs names the graph's outputs.
type GenAIOutputs struct {
	Logits       string `json:"logits,omitempty"`
	PresentKey   string `json:"present_key_names,omitempty"`
	PresentValue string `json:"present_value_names,omitempty"`
}

// GenAISearch is the "search" object, as far as genai honours it.
type GenAISearch struct {
	DoSample          bool    `json:"do_sample"`
	EarlyStopping     bool    `json:"early_stopping"`
	MaxLength         int     `json:"max_length"`
	MinLength         int     `json:"min_length"`
	NumBeams          int     `json:"num_beams"`
	NumReturn         int     `json:"num_return_sequences"`
	LengthPenalty     float64 `json:"length_penalty"`
	NoRepeatNgram     int     `json:"no_repeat_ngram_size"`
	ShareBuffer       bool    `json:"past_present_share_buffer"`
	RepetitionPenalty float64 `json:"repetition_penalty"`
	Temperature       float64 `json:"temperature"`
	TopK              int     `json:"top_k"`
	TopP              float64 `json:"top_p"`
}

// The names genai assumes where its file gives none.
var defaultInputs = GenAIInputs{
	InputIDs: "input_ids", AttentionMask: "attention_mask", PositionIDs: "position_ids",
	PastKey: "past_key_values.%d.key", PastValue: "past_key_values.%d.value",
}
var defaultOutputs = GenAIOutputs{
	Logits: "logits", PresentKey: "present.%d.key", PresentValue: "present.%d.value",
}

// ParseGenAI reads genai_config.json, fills in the default names and checks
// what a loader relies on.
func ParseGenAI(data []byte) (*GenAI, error) {
	var g GenAI
	if err := json.Unmarshal(data, &g); err != nil {
		return nil, jsonError(err)
	}
	d := &g.Model.Decoder
	fill := func(s *string, def string) {
		if *s == "" {
			*s = def
		}
	}
	fill(&d.Inputs.InputIDs, defaultInputs.InputIDs)
	fill(&d.Inputs.AttentionMask, defaultInputs.AttentionMask)
	fill(&d.Inputs.PositionIDs, defaultInputs.PositionIDs)
	fill(&d.Inputs.PastKey, defaultInputs.PastKey)
	fill(&d.Inputs.PastValue, defaultInputs.PastValue)
	fill(&d.Outputs.Logits, defaultOutputs.Logits)
	fill(&d.Outputs.PresentKey, defaultOutputs.PresentKey)
	fill(&d.Outputs.PresentValue, defaultOutputs.PresentValue)
	return &g, g.check()
}

// DefaultNames returns the input and output names genai and this module's
// converter use, for graphs that come without a genai_config.json.
func DefaultNames() (GenAIInputs, GenAIOutputs) { return defaultInputs, defaultOutputs }

func (g *GenAI) check() error {
	d := &g.Model.Decoder
	for _, f := range []struct {
		name  string
		value int
	}{
		{"model.vocab_size", g.Model.VocabSize}, {"model.context_length", g.Model.ContextLength},
		{"model.decoder.head_size", d.HeadSize}, {"model.decoder.num_hidden_layers", d.Layers},
		{"model.decoder.num_key_value_heads", d.KVHeads}, {"model.decoder.num_attention_heads", d.Heads},
	} {
		if f.value < 0 || f.value > 1<<31-1 {
			return fieldError(f.name, "%d is not a size", f.value)
		}
	}
	for name, pattern := range map[string]string{
		"model.decoder.inputs.past_key_names": d.Inputs.PastKey, "model.decoder.inputs.past_value_names": d.Inputs.PastValue,
		"model.decoder.outputs.present_key_names": d.Outputs.PresentKey, "model.decoder.outputs.present_value_names": d.Outputs.PresentValue,
	} {
		if strings.Count(pattern, "%") != 1 || !strings.Contains(pattern, "%d") {
			return fieldError(name, "%q must hold %%d once, for the layer's number", pattern)
		}
	}
	if f := d.Filename; strings.ContainsAny(f, "/\\:") || f == ".." {
		return fieldError("model.decoder.filename", "%q must be a plain file name", f)
	}
	return nil
}

// LayerName puts the number of a layer into a cache name pattern.
func LayerName(pattern string, layer int) string {
	return strings.Replace(pattern, "%d", fmt.Sprint(layer), 1)
}

// TokenIDs is one id or a list of ids in JSON; null and -1 read as none. One
// id is written as a number, as most readers expect.
type TokenIDs []int32

// UnmarshalJSON accepts a number, a list of numbers or null.
func (t *TokenIDs) UnmarshalJSON(data []byte) error {
	*t = nil
	if string(data) == "null" {
		return nil
	}
	var many []int32
	if len(data) == 0 || data[0] != '[' {
		many = make([]int32, 1)
		if err := json.Unmarshal(data, &many[0]); err != nil {
			return err
		}
	} else if err := json.Unmarshal(data, &many); err != nil {
		return err
	}
	for _, id := range many {
		if id >= 0 {
			*t = append(*t, id)
		}
	}
	return nil
}

// MarshalJSON writes a number for one id, else a list.
func (t TokenIDs) MarshalJSON() ([]byte, error) {
	switch len(t) {
	case 0:
		return []byte("null"), nil
	case 1:
		return json.Marshal(t[0])
	}
	return json.Marshal([]int32(t))
}
