package tokenizer

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// GGUF gives the tokenizer.ggml.* keys that make llama.cpp encode as t does:
// the inverse of [FromGGUF], and what its convert_hf_to_gguf.py writes
// (get_vocab_base and _set_vocab_llama_hf in conversion/base.py, v0.5.0) but for
// scores. Tokens are those below vocab, the rows of the model's embedding; ids
// that no token has become unused tokens named [PAD<id>]. The special ids BOS,
// EOS, UNK and PAD are -1: no tokenizer.json names them.
//
// Byte-level BPE becomes model gpt2 with the .pre that stands for its
// pre-tokenizer. BPE with byte fallback becomes model llama, whose scores fall
// in the order of the merges: llama.cpp joins the pair with the best score. (Its
// converter, where there is no tokenizer.model, writes -1000 for all, and texts
// are cut wrongly.)
func (t *Tokenizer) GGUF(vocab int) (GGUF, error) {
	g := GGUF{BOS: -1, EOS: -1, UNK: -1, PAD: -1}
	switch {
	case t.model.byteMode:
		pre, err := t.pre()
		if err != nil {
			return GGUF{}, err
		}
		g.Model, g.Pre = "gpt2", pre
	case t.model.byteFallback:
		prefix, err := t.sentencePieceSpace()
		if err != nil {
			return GGUF{}, err
		}
		g.Model, g.Pre, g.AddSpacePrefix = "llama", "default", &prefix
	default:
		return GGUF{}, &tensor.UnsupportedError{What: "a tokenizer that is neither byte-level BPE nor BPE with byte fallback", Hint: "GGUF files of this module hold one of these"}
	}
	for id := range vocab {
		text, kind := t.ggufToken(int32(id))
		g.Tokens, g.Types = append(g.Tokens, text), append(g.Types, kind)
	}
	if g.Model == "llama" {
		g.Scores = t.scores(g.Types)
	} else {
		g.Merges = t.ggufMerges()
	}
	return g, g.check()
}

// ggufToken is the text and the type of one id.
func (t *Tokenizer) ggufToken(id int32) (string, int32) {
	if a, ok := t.added.byID[id]; ok {
		switch {
		case !t.model.byteMode && isByteToken(a.Content):
			return a.Content, ggufByte
		case a.Special || looksSpecial(a.Content):
			return a.Content, ggufControl
		}
		// llama.cpp looks for these in the text as it is, before it becomes ▁.
		return strings.ReplaceAll(a.Content, "▁", " "), ggufUserDefined
	}
	text, ok := t.model.token(id)
	switch {
	case !ok || text == "":
		return fmt.Sprintf("[PAD%d]", id), ggufUnused
	case !t.model.byteMode && id == t.model.unkID:
		return text, ggufUnknown
	case !t.model.byteMode && isByteToken(text):
		return text, ggufByte
	}
	return text, ggufNormal
}

// looksSpecial reports whether an added token that is not marked special must be
// a control token all the same, as some models have them (conversion/base.py,
// does_token_look_special).
func looksSpecial(text string) bool {
	switch text {
	case "<pad>", "<mask>", "<2mass>", "[@BOS@]":
		return true
	}
	between := func(first, last string) bool { return strings.HasPrefix(text, first) && strings.HasSuffix(text, last) }
	return between("<|", "|>") || between("<｜", "｜>") || between("<unused", ">")
}

// scores ranks the tokens that merges make, in the order of their first merges,
// and behind them the others by id. Control and user-defined tokens get what the
// converter gives them; bytes and the unknown token 0.
func (t *Tokenizer) scores(types []int32) []float32 {
	scores := make([]float32, len(types))
	ranked := make([]bool, len(types))
	next := float32(0)
	rank := func(id int32) {
		if int(id) < len(types) && !ranked[id] && types[id] == ggufNormal {
			scores[id], ranked[id] = -next, true
			next++
		}
	}
	for _, m := range t.model.merges {
		if id, ok := t.model.vocab[t.model.tokens[m.left]+t.model.tokens[m.right]]; ok {
			rank(id)
		}
	}
	for id, kind := range types {
		switch kind {
		case ggufNormal:
			rank(int32(id))
		case ggufControl, ggufUserDefined:
			scores[id] = -1000
		case ggufUnused:
			scores[id] = -10000
		}
	}
	return scores
}

// ggufMerges lists "left right"; a space within a part is spelled Ġ, as in the
// vocabulary.
func (t *Tokenizer) ggufMerges() []string {
	list := make([]string, len(t.model.merges))
	part := func(id int32) string { return strings.ReplaceAll(t.model.tokens[id], " ", "Ġ") }
	for i, m := range t.model.merges {
		list[i] = part(m.left) + " " + part(m.right)
	}
	return list
}

// sentencePieceSpace checks that text is prepared as llama.cpp prepares it for
// its model llama, spaces becoming ▁ and nothing else, and says whether one is
// put in front.
func (t *Tokenizer) sentencePieceSpace() (prefix bool, err error) {
	odd := &tensor.UnsupportedError{What: "a tokenizer with byte fallback that does more to a text than mark its spaces with ▁", Hint: "llama.cpp has no such tokenizer"}
	text := func(s string) string {
		if t.normalize != nil {
			s = t.normalize(s)
		}
		return s
	}
	metaspace := false
	for _, st := range t.stages {
		if sp, ok := st.(splitStage); ok && sp.matcher == matcher(literalMatcher(" ")) && t.normalize != nil {
			continue // Gemma: no space is left to cut at
		}
		m, ok := st.(metaspaceStage)
		if !ok || m.replacement != '▁' || metaspace {
			return false, odd
		}
		metaspace, prefix = true, m.scheme != "never"
	}
	const probe = "aB  ﬁ Å\n9"
	got, want := text(probe), probe
	if !metaspace {
		prefix = strings.HasPrefix(got, "▁")
		if want = strings.ReplaceAll(probe, " ", "▁"); prefix {
			want = "▁" + want
		}
	}
	if got != want {
		return false, odd
	}
	return prefix, nil
}

// pre finds the name of the pre-tokenizer.
func (t *Tokenizer) pre() (string, error) {
	own, err := preSteps(nil, t.config.preTokenizer)
	if err != nil {
		return "", err
	}
	for _, p := range preTokenizers() {
		steps, err := preSteps(nil, p.json())
		if err != nil {
			return "", err
		}
		if p.ignoreMerges == t.model.ignoreMerges && slices.Equal(own, steps) && p.names[0] != "default" {
			return p.names[0], nil
		}
	}
	return "", &tensor.UnsupportedError{
		What: fmt.Sprintf("pre-tokenizer %.200s for GGUF", t.config.preTokenizer),
		Hint: "llama.cpp has a name for each pre-tokenizer it knows, and this module knows none for this one",
	}
}

// escapeBreaks writes line breaks in patterns as escapes, as most files have
// them.
var escapeBreaks = strings.NewReplacer("\r", `\r`, "\n", `\n`)

// preSteps spells a pre-tokenizer as a list of steps that can be compared.
func preSteps(list []string, raw json.RawMessage) ([]string, error) {
	var p struct {
		partType
		Pretokenizers []json.RawMessage
		Pattern       pattern
		Behavior      string
		Invert        bool
		byteLevelFlags
		IndividualDigits bool `json:"individual_digits"`
	}
	p.UseRegex = true
	if len(raw) == 0 || string(raw) == "null" {
		return list, nil
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, &tensor.FormatError{Offset: -1, Field: "pre_tokenizer", Err: err}
	}
	switch {
	case p.Type == "Sequence":
		for _, one := range p.Pretokenizers {
			var err error
			if list, err = preSteps(list, one); err != nil {
				return nil, err
			}
		}
		return list, nil
	case p.Type == "Split" && p.Pattern.Regex != nil && p.Behavior == "Isolated" && !p.Invert:
		return append(list, "split "+escapeBreaks.Replace(*p.Pattern.Regex)), nil
	case p.Type == "Digits" && p.IndividualDigits:
		return append(list, `split \p{N}`), nil
	case p.Type == "ByteLevel" && !p.AddPrefixSpace:
		if p.UseRegex {
			list = append(list, "split "+gpt2Pattern)
		}
		return append(list, "bytes"), nil
	}
	return append(list, string(raw)), nil // equals no step known
}

type byteLevelFlags struct {
	AddPrefixSpace bool `json:"add_prefix_space"`
	UseRegex       bool `json:"use_regex"`
}
