package checkpoint

import (
	"fmt"
	"slices"
	"sync"

	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/tensor"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// tokenControl is a type in tokenizer.ggml.token_type (llama.h, enum
// llama_token_type).
const tokenControl = 3

// endTexts are the control tokens at which llama.cpp ends a generation whatever
// the id keys say (llama-vocab.cpp, special_eog_ids).
var endTexts = []string{
	"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>",
	"<EOT>", "_<EOT>", "<|eom_id|>", "<eos>", "</s>", "<｜end▁of▁sentence｜>",
}

// addGGUFSupport rebuilds the files that a Hugging Face folder has beside its
// weights. All but the template are made when asked for.
func (c *Checkpoint) addGGUFSupport(k *ggufKeys, cfg *ggufConfig) error {
	vocab := sync.OnceValues(func() (*ggufVocab, error) { return readVocab(k.r) })
	template := k.text("tokenizer.chat_template")
	if k.err != nil {
		return k.err
	}
	if template != "" {
		c.addSupport(fixed("chat_template.jinja", []byte(template)))
	}
	tokens, ok := k.r.Value("tokenizer.ggml.tokens")
	if !ok {
		return nil
	}
	if tokens.Count > int64(cfg.VocabSize) {
		return &tensor.FormatError{Path: k.r.Path(), Offset: -1, Field: "key tokenizer.ggml.tokens", Err: fmt.Errorf("has %d tokens, but the embedding has %d rows", tokens.Count, cfg.VocabSize)}
	}
	build := func(name string, make func(*ggufVocab) ([]byte, error)) {
		c.addSupport(SupportFile{Name: name, Data: func() ([]byte, error) {
			v, err := vocab()
			if err != nil {
				return nil, fmt.Errorf("rebuild %s: %w", name, err)
			}
			b, err := make(v)
			if err != nil {
				return nil, fmt.Errorf("rebuild %s from %s: %w", name, c.path, err)
			}
			return b, nil
		}})
	}
	build("tokenizer.json", func(v *ggufVocab) ([]byte, error) {
		t, err := tokenizer.FromGGUF(v.GGUF)
		if err != nil {
			return nil, err
		}
		return t.JSON()
	})
	build("tokenizer_config.json", func(v *ggufVocab) ([]byte, error) { return v.tokenizerConfig(template, cfg.MaxPositions) })
	build("generation_config.json", func(v *ggufVocab) ([]byte, error) { return v.generationConfig() })
	return nil
}

// ggufVocab holds the tokenizer.ggml.* keys.
type ggufVocab struct {
	tokenizer.GGUF
	ends []int // eos, eot, eom; -1 where there is none
}

// readVocab reads the keys; arrays may be some megabytes.
func readVocab(r *gguf.Reader) (*ggufVocab, error) {
	k := &ggufKeys{r: r}
	v := &ggufVocab{GGUF: tokenizer.GGUF{
		Model: k.text("tokenizer.ggml.model"), Pre: k.text("tokenizer.ggml.pre"),
		BOS: k.tokenID("bos"), EOS: k.tokenID("eos"), UNK: k.tokenID("unknown"), PAD: k.tokenID("padding"),
		AddBOS: k.flag("tokenizer.ggml.add_bos_token"), AddEOS: k.flag("tokenizer.ggml.add_eos_token"),
		AddSpacePrefix: k.flag("tokenizer.ggml.add_space_prefix"),
	}}
	v.ends = []int{v.EOS, k.tokenID("eot"), k.tokenID("eom")}
	if a, ok := r.Value("tokenizer.ggml.tokens"); ok {
		tokens, err := a.Strings()
		k.keep(err)
		v.Tokens = tokens
	}
	if a, ok := r.Value("tokenizer.ggml.merges"); ok {
		merges, err := a.Strings()
		k.keep(err)
		v.Merges = merges
	}
	if a, ok := r.Value("tokenizer.ggml.scores"); ok {
		scores, err := a.Floats()
		k.keep(err)
		v.Scores = scores
	}
	if a, ok := r.Value("tokenizer.ggml.token_type"); ok {
		types, err := a.Ints()
		k.keep(err)
		v.Types = make([]int32, len(types))
		for i, t := range types {
			v.Types[i] = int32(t)
		}
	}
	if k.err != nil {
		return nil, k.err
	}
	return v, v.check(r.Path())
}

// check refuses arrays that do not belong together.
func (v *ggufVocab) check(path string) error {
	bad := func(key, format string, a ...any) error {
		return &tensor.FormatError{Path: path, Offset: -1, Field: "key tokenizer.ggml." + key, Err: fmt.Errorf(format, a...)}
	}
	n := len(v.Tokens)
	if v.Types != nil && len(v.Types) != n {
		return bad("token_type", "has %d entries for %d tokens", len(v.Types), n)
	}
	if v.Scores != nil && len(v.Scores) != n {
		return bad("scores", "has %d entries for %d tokens", len(v.Scores), n)
	}
	for _, id := range []struct {
		name string
		id   int
	}{{"bos", v.BOS}, {"eos", v.EOS}, {"unknown", v.UNK}, {"padding", v.PAD}, {"eot", v.ends[1]}, {"eom", v.ends[2]}} {
		if id.id >= n {
			return bad(id.name+"_token_id", "is %d, but there are %d tokens", id.id, n)
		}
	}
	return nil
}

// flag reads an optional bool.
func (k *ggufKeys) flag(key string) *bool {
	v, ok := k.r.Value(key)
	if !ok {
		return nil
	}
	b, err := v.Bool()
	k.keep(err)
	return &b
}

// text of a token, nil for none.
func (v *ggufVocab) text(id int) *string {
	if id < 0 {
		return nil
	}
	return &v.Tokens[id]
}

func (v *ggufVocab) tokenizerConfig(template string, maxLength int) ([]byte, error) {
	return encodeJSON(struct {
		AddBOS    *bool   `json:"add_bos_token,omitempty"`
		AddEOS    *bool   `json:"add_eos_token,omitempty"`
		BOS       *string `json:"bos_token"`
		Template  string  `json:"chat_template,omitempty"`
		CleanUp   bool    `json:"clean_up_tokenization_spaces"`
		EOS       *string `json:"eos_token"`
		MaxLength int     `json:"model_max_length"`
		PAD       *string `json:"pad_token"`
		Class     string  `json:"tokenizer_class"`
		UNK       *string `json:"unk_token"`
	}{
		AddBOS: v.AddBOS, AddEOS: v.AddEOS, BOS: v.text(v.BOS), EOS: v.text(v.EOS), PAD: v.text(v.PAD), UNK: v.text(v.UNK),
		Template: template, MaxLength: maxLength, Class: "PreTrainedTokenizerFast",
	})
}

// endIDs lists the tokens that end a generation: the eos, eot and eom keys, then
// control tokens known by their text.
func (v *ggufVocab) endIDs() []int {
	var ids []int
	for _, id := range v.ends {
		if id >= 0 && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	for id, t := range v.Types {
		if t == tokenControl && slices.Contains(endTexts, v.Tokens[id]) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (v *ggufVocab) generationConfig() ([]byte, error) {
	return encodeJSON(struct {
		BOS *int  `json:"bos_token_id,omitempty"`
		EOS []int `json:"eos_token_id,omitempty"`
		PAD *int  `json:"pad_token_id,omitempty"`
	}{idOrNil(v.BOS), v.endIDs(), idOrNil(v.PAD)})
}
