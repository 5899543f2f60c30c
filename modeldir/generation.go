package modeldir

import "encoding/json"

// Generation is generation_config.json: what the model's makers advise for
// sampling, and the list of tokens that end an answer. A nil field was not in
// the file. Source: transformers 5, GenerationConfig.
type Generation struct {
	BOS               TokenIDs `json:"bos_token_id,omitempty"`
	EOS               TokenIDs `json:"eos_token_id,omitempty"`
	Pad               TokenIDs `json:"pad_token_id,omitempty"`
	DoSample          *bool    `json:"do_sample,omitempty"`
	Temperature       *float64 `json:"temperature,omitempty"`
	TopK              *int     `json:"top_k,omitempty"`
	TopP              *float64 `json:"top_p,omitempty"`
	MinP              *float64 `json:"min_p,omitempty"`
	RepetitionPenalty *float64 `json:"repetition_penalty,omitempty"`
	MaxNewTokens      *int     `json:"max_new_tokens,omitempty"`
}

// ParseGeneration reads generation_config.json.
func ParseGeneration(data []byte) (Generation, error) {
	var g Generation
	if err := json.Unmarshal(data, &g); err != nil {
		return Generation{}, jsonError(err)
	}
	return g, nil
}

// TokenizerConfig is what this module reads of tokenizer_config.json: the
// texts of the named tokens, which chat templates refer to, and the template
// itself where no file of its own holds it.
type TokenizerConfig struct {
	BOSToken TokenText `json:"bos_token"`
	EOSToken TokenText `json:"eos_token"`
	UnkToken TokenText `json:"unk_token"`
	PadToken TokenText `json:"pad_token"`
	AddBOS   *bool     `json:"add_bos_token"`
	AddEOS   *bool     `json:"add_eos_token"`
	MaxLen   float64   `json:"model_max_length"`

	// Templates maps a template's name to its text; the plain form has the
	// name "default".
	Templates chatTemplates `json:"chat_template"`
}

// ParseTokenizerConfig reads tokenizer_config.json.
func ParseTokenizerConfig(data []byte) (TokenizerConfig, error) {
	var c TokenizerConfig
	if err := json.Unmarshal(data, &c); err != nil {
		return TokenizerConfig{}, jsonError(err)
	}
	return c, nil
}

// TokenText is a token's text in tokenizer_config.json, where it is a string,
// an AddedToken object with a "content", or null.
type TokenText string

// UnmarshalJSON accepts the three forms.
func (t *TokenText) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '{' {
		var added struct {
			Content string `json:"content"`
		}
		if err := json.Unmarshal(data, &added); err != nil {
			return err
		}
		*t = TokenText(added.Content)
		return nil
	}
	var s *string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	*t = ""
	if s != nil {
		*t = TokenText(*s)
	}
	return nil
}

// chatTemplates accepts one template or transformers' list of named ones.
type chatTemplates map[string]string

func (c *chatTemplates) UnmarshalJSON(data []byte) error {
	*c = nil
	if len(data) > 0 && data[0] == '[' {
		var list []struct {
			Name     string `json:"name"`
			Template string `json:"template"`
		}
		if err := json.Unmarshal(data, &list); err != nil {
			return err
		}
		*c = make(chatTemplates, len(list))
		for _, t := range list {
			(*c)[t.Name] = t.Template
		}
		return nil
	}
	var one *string
	if err := json.Unmarshal(data, &one); err != nil {
		return err
	}
	if one != nil {
		*c = chatTemplates{"default": *one}
	}
	return nil
}
