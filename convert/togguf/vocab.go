package togguf

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tensor"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// vocabulary adds the tokenizer.* keys (conversion/base.py _set_vocab_*, gguf-py
// SpecialVocab). A checkpoint without a tokenizer gets the model "none".
func (k *keys) vocabulary(spec *arch.Spec, f family, o Options) error {
	data, err := o.read(modeldir.TokenizerFile)
	if err != nil {
		return err
	}
	if data == nil {
		k.add("tokenizer.ggml.model", "none")
		if !f.vocabSize {
			k.add(f.name+".vocab_size", uint32(spec.Vocab))
		}
		return nil
	}
	t, err := tokenizer.Parse(data)
	if err != nil {
		return fmt.Errorf("read tokenizer.json: %w", err)
	}
	g, err := t.GGUF(spec.Vocab)
	if err != nil {
		return fmt.Errorf("write the tokenizer: %w", err)
	}
	if err := scoresOf(&g, o); err != nil {
		return err
	}
	k.add("tokenizer.ggml.model", g.Model)
	k.add("tokenizer.ggml.pre", g.Pre)
	k.add("tokenizer.ggml.tokens", g.Tokens)
	if g.Scores != nil {
		k.add("tokenizer.ggml.scores", g.Scores)
	}
	k.add("tokenizer.ggml.token_type", g.Types)
	if g.Merges != nil {
		k.add("tokenizer.ggml.merges", g.Merges)
	}
	if g.AddSpacePrefix != nil {
		k.add("tokenizer.ggml.add_space_prefix", *g.AddSpacePrefix)
	}
	return k.special(spec, t, o)
}

// scoresOf takes the scores that tokenizer.model has for the same tokens.
func scoresOf(g *tokenizer.GGUF, o Options) error {
	if g.Scores == nil {
		return nil
	}
	b, err := o.read("tokenizer.model")
	if err != nil || b == nil {
		return err
	}
	pieces, err := tokenizer.ParseSentencePiece(b)
	if err != nil {
		return fmt.Errorf("read tokenizer.model: %w", err)
	}
	for i, p := range pieces[:min(len(pieces), len(g.Tokens))] {
		if g.Tokens[i] != p.Text {
			return nil // of another vocabulary: scores would not go together
		}
	}
	for i, p := range pieces[:min(len(pieces), len(g.Tokens))] {
		g.Scores[i] = p.Score
	}
	return nil
}

// specialKinds are the tokens with a purpose, by the names configurations and
// GGUF have for them.
var specialKinds = []struct{ name, key string }{
	{"bos", "bos"}, {"eos", "eos"}, {"unk", "unknown"}, {"sep", "seperator"}, // sic
	{"pad", "padding"}, {"cls", "cls"}, {"mask", "mask"},
}

// special adds the ids of special tokens, which of them are added to a text,
// and the chat templates.
func (k *keys) special(spec *arch.Spec, t *tokenizer.Tokenizer, o Options) error {
	b, err := o.read(modeldir.TokenizerConfigFile)
	if err != nil {
		return err
	}
	root := map[string]json.RawMessage{}
	if b != nil {
		if err := json.Unmarshal(b, &root); err != nil {
			return &tensor.FormatError{Offset: -1, Field: modeldir.TokenizerConfigFile, Err: err}
		}
	}
	var config map[string]json.RawMessage
	if err := json.Unmarshal(o.Config, &config); err != nil {
		return &tensor.FormatError{Offset: -1, Field: "config.json", Err: err}
	}
	var inner map[string]json.RawMessage
	_ = json.Unmarshal(config["text_config"], &inner) // has none, mostly

	ids := map[string]int32{}
	for _, s := range specialKinds {
		id, ok := tokenOf(t, root[s.name+"_token"])
		if !ok {
			id, ok = idOf(config[s.name+"_token_id"])
		}
		if !ok {
			id, ok = idOf(inner[s.name+"_token_id"])
		}
		if ok && int(id) < spec.Vocab {
			ids[s.name] = id
			k.add("tokenizer.ggml."+s.key+"_token_id", uint32(id))
		}
	}
	// Without the key llama.cpp takes id 11 for the end of a text of gpt2 models.
	if _, ok := ids["eos"]; !ok && len(spec.EOS) > 0 && spec.EOS[0] < spec.Vocab {
		k.add("tokenizer.ggml.eos_token_id", uint32(spec.EOS[0]))
	}
	before, after := t.Template()
	add := map[string]bool{
		"bos": len(before) > 0 && before[0] == idOr(ids, "bos"),
		"eos": len(after) > 0 && after[len(after)-1] == idOr(ids, "eos"),
	}
	for _, s := range specialKinds[:2] {
		// transformers, too, lets the flag overrule the template.
		var flag *bool
		if raw := root["add_"+s.name+"_token"]; len(raw) > 0 && json.Unmarshal(raw, &flag) == nil && flag != nil {
			add[s.name] = *flag && idOr(ids, s.name) >= 0
		}
		k.add("tokenizer.ggml.add_"+s.name+"_token", add[s.name])
	}
	return k.templates(b, o)
}

func idOr(ids map[string]int32, name string) int32 {
	if id, ok := ids[name]; ok {
		return id
	}
	return -1
}

// tokenOf finds the id of a token that tokenizer_config.json names.
func tokenOf(t *tokenizer.Tokenizer, raw json.RawMessage) (int32, bool) {
	var text modeldir.TokenText
	if len(raw) == 0 || json.Unmarshal(raw, &text) != nil || text == "" {
		return 0, false
	}
	return t.ID(string(text))
}

// idOf reads an id of config.json; lists, as of several ends, have none.
func idOf(raw json.RawMessage) (int32, bool) {
	var id *int32
	if len(raw) == 0 || json.Unmarshal(raw, &id) != nil || id == nil || *id < 0 {
		return 0, false
	}
	return *id, true
}

// notInName is what names of templates have no place for in keys.
var notInName = regexp.MustCompile(`[^A-Za-z0-9]`)

// templates adds the chat templates: the file of its own, else what
// tokenizer_config.json has.
func (k *keys) templates(tokenizerConfig []byte, o Options) error {
	all := map[string]string{}
	if tokenizerConfig != nil {
		c, err := modeldir.ParseTokenizerConfig(tokenizerConfig)
		if err != nil {
			return fmt.Errorf("read %s: %w", modeldir.TokenizerConfigFile, err)
		}
		for name, text := range c.Templates {
			all[name] = text
		}
	}
	b, err := o.read(modeldir.ChatTemplateFile)
	if err != nil {
		return err
	}
	if b != nil {
		all["default"] = string(b)
	}
	var named []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		plain := notInName.ReplaceAllString(name, "_")
		if name != "default" && plain != "" && !slices.Contains(named, plain) {
			named = append(named, plain)
			k.add("tokenizer.chat_template."+plain, all[name])
		}
	}
	if len(named) > 0 {
		k.add("tokenizer.chat_templates", named)
	}
	k.text("tokenizer.chat_template", all["default"])
	return nil
}
