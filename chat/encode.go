package chat

import (
	"strings"

	"github.com/llama-pajamas/llama-pajamas/chattemplate"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// How text that spells a control token stays text.
//
// A template's own "<|im_end|>" must become the token, a user's must not. Both
// are text once rendered, so the user's are marked before: a mark, one
// private-use character that occurs nowhere in the conversation, goes into the
// middle of every spelling of a special token inside a message. After
// rendering, the marks say which spellings to leave alone; they are taken out
// and the text is encoded in stretches that end at true special tokens: those
// that hold a marked spelling without recognising special tokens, the others
// with. Special tokens divide the text for the tokenizer anyway, so the ids of
// each stretch are the same as within the whole text. Where no message spells
// a special token, nearly always, the whole text is encoded at once.

// protector marks spellings of special tokens.
type protector struct {
	specials []string // texts of the tokenizer's special tokens
	mark     string   // "" while nothing is marked
	replacer *strings.Replacer
}

// marks are tried in turn; noncharacters and private-use characters that a
// conversation is unlikely to hold.
var marks = []string{"\uE7F3", "\uE7F4", "\uE7F5", "\U000FFFF0", "\U000FFFF1", "\U0010FFF0", "\U0010FFF1"}

// protect returns the values with all spellings marked, the same values where
// there are none. others are texts the mark must not occur in either.
func (p *protector) protect(values []chattemplate.Value, others ...string) []chattemplate.Value {
	found := false
	for _, v := range values {
		eachString(v, func(s string) {
			for _, t := range p.specials {
				found = found || strings.Contains(s, t)
			}
		})
	}
	if !found {
		return values
	}
	p.choose(values, others)
	var pairs []string
	for _, t := range p.specials {
		pairs = append(pairs, t, p.marked(t))
	}
	// Of several tokens that begin at one place the replacer takes the first
	// in the list that fits; a mark inside any of them is enough.
	p.replacer = strings.NewReplacer(pairs...)
	out := make([]chattemplate.Value, len(values))
	for i, v := range values {
		out[i] = mapStrings(v, p.replacer.Replace)
	}
	return out
}

// choose picks a mark that occurs nowhere.
func (p *protector) choose(values []chattemplate.Value, others []string) {
	for _, m := range marks {
		used := false
		for _, o := range others {
			used = used || strings.Contains(o, m)
		}
		for _, v := range values {
			eachString(v, func(s string) { used = used || strings.Contains(s, m) })
		}
		if p.mark = m; !used {
			return
		}
	}
}

// marked is a special token's text with the mark behind its first character.
func (p *protector) marked(text string) string {
	for i := range text {
		if i > 0 {
			return text[:i] + p.mark + text[i:]
		}
	}
	return text + p.mark
}

// encode gives the ids of a rendered text, and the text without marks.
func (p *protector) encode(tok *tokenizer.Tokenizer, rendered string) (ids []int32, text string) {
	trusted := tokenizer.EncodeOptions{ParseSpecial: true}
	if p.mark == "" || !strings.Contains(rendered, p.mark) {
		return tok.Encode(rendered, trusted), rendered
	}
	start := 0 // of the text not encoded yet
	for start < len(rendered) {
		i := strings.Index(rendered[start:], p.mark)
		if i < 0 {
			ids = tok.Append(ids, rendered[start:], trusted)
			break
		}
		// The stretch around the mark: from the end of the last special token
		// before it to the beginning of the next one behind it.
		from := start + p.lastSpecialEnd(rendered[start:start+i])
		to := start + i + p.nextSpecial(rendered[start+i:])
		ids = tok.Append(ids, rendered[start:from], trusted)
		ids = tok.Append(ids, strings.ReplaceAll(rendered[from:to], p.mark, ""), tokenizer.EncodeOptions{})
		start = to
	}
	return ids, strings.ReplaceAll(rendered, p.mark, "")
}

// lastSpecialEnd is the end of the last special token in s, 0 if it has none.
func (p *protector) lastSpecialEnd(s string) int {
	end := 0
	for _, t := range p.specials {
		if i := strings.LastIndex(s, t); i >= 0 {
			end = max(end, i+len(t))
		}
	}
	return end
}

// nextSpecial is the beginning of the first special token in s, its length if
// it has none.
func (p *protector) nextSpecial(s string) int {
	at := len(s)
	for _, t := range p.specials {
		if i := strings.Index(s, t); i >= 0 {
			at = min(at, i)
		}
	}
	return at
}

// eachString calls f for every string in a value, keys of dicts included.
func eachString(v chattemplate.Value, f func(string)) {
	switch v := v.(type) {
	case chattemplate.Str:
		f(string(v))
	case *chattemplate.List:
		for i := range v.Len() {
			eachString(v.At(i), f)
		}
	case *chattemplate.Dict:
		for i := range v.Len() {
			eachString(v.Key(i), f)
			eachString(v.Value(i), f)
		}
	}
}

// mapStrings is a copy of a value with f applied to every string; keys of
// dicts stay, as templates look them up. (A key printed by a template, as in a
// tool's schema, is then not marked: tools come from the program, not from
// whoever writes the messages.)
func mapStrings(v chattemplate.Value, f func(string) string) chattemplate.Value {
	switch v := v.(type) {
	case chattemplate.Str:
		return chattemplate.Str(f(string(v)))
	case *chattemplate.List:
		out := chattemplate.NewList()
		for i := range v.Len() {
			out.Append(mapStrings(v.At(i), f))
		}
		return out
	case *chattemplate.Dict:
		out := chattemplate.NewDict()
		for i := range v.Len() {
			if key, ok := v.Key(i).(chattemplate.Str); ok {
				out.Set(string(key), mapStrings(v.Value(i), f))
			}
		}
		return out
	}
	return v
}
