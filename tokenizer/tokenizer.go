package tokenizer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Tokenizer encodes text to token ids and decodes ids to text.
type Tokenizer struct {
	config    config // the parts of tokenizer.json as they were read
	model     *bpe
	added     *addedVocab
	normalize normalizer // nil: none
	stages    []stage    // pre-tokenizers
	template  []int32    // token ids, and templateText where the text's tokens go
	decoders  decoderChain
	cache     *wordCache
	encoders  sync.Pool // *encoder
	size      int       // 1 + largest id
}

// Load reads dir/tokenizer.json.
func Load(dir string) (*Tokenizer, error) {
	path := filepath.Join(dir, "tokenizer.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read tokenizer: %w", err)
	}
	t, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("read tokenizer %s: %w", path, err)
	}
	return t, nil
}

// EncodeOptions says how [Tokenizer.Encode] treats special tokens.
type EncodeOptions struct {
	// AddSpecial adds the tokens of the tokenizer's template, such as a BOS.
	AddSpecial bool
	// ParseSpecial turns text that spells a special (control) token into that
	// token, as Python `tokenizers` always does; with false such text stays text.
	// Added tokens that are not special are recognised either way.
	ParseSpecial bool
}

// Encode gives the token ids of text.
func (t *Tokenizer) Encode(text string, o EncodeOptions) []int32 {
	return t.Append(nil, text, o)
}

// Append appends the token ids of text to dst.
func (t *Tokenizer) Append(dst []int32, text string, o EncodeOptions) []int32 {
	if !utf8.ValidString(text) {
		text = string([]rune(text)) // each bad byte becomes U+FFFD
	}
	e := t.encoders.Get().(*encoder)
	defer t.encoders.Put(e)
	e.dst, e.parseSpecial = dst, o.ParseSpecial
	for _, id := range t.template {
		switch {
		case id == templateText:
			e.cut(&t.added.raw, text, (*encoder).normalizedText, true)
		case o.AddSpecial:
			e.dst = append(e.dst, id)
		}
	}
	dst, e.dst = e.dst, nil
	return dst
}

// encoder holds the scratch memory of one call of Append.
type encoder struct {
	t            *Tokenizer
	dst          []int32
	parseSpecial bool

	spans      []span
	prev, next []int32
	heap       mergeQueue
	spelled    []byte // a word in the printable characters of its bytes
}

// normalizedText encodes a part of the text between added tokens.
func (e *encoder) normalizedText(s string, first bool) {
	if e.t.normalize != nil {
		// Where white space is stripped off, the text no longer begins at the
		// text's first character, which is what Metaspace's "first" asks for.
		if r, _ := utf8.DecodeRuneInString(s); e.t.config.stripsLeft && unicode.IsSpace(r) {
			first = false
		}
		s = e.t.normalize(s)
	}
	e.cut(&e.t.added.normalized, s, (*encoder).pieces, first)
}

// pieces encodes text that holds no added tokens.
func (e *encoder) pieces(s string, first bool) { e.piece(0, s, first) }

// VocabSize is one more than the largest token id. A model's embedding table may
// have more rows than that (padding).
func (t *Tokenizer) VocabSize() int { return t.size }

// ID gives the id of a token, spelled as in the vocabulary (byte-level tokens in
// their printable characters).
func (t *Tokenizer) ID(token string) (int32, bool) {
	if id, ok := t.added.byText[token]; ok {
		return id, true
	}
	id, ok := t.model.vocab[token]
	return id, ok
}

// Token gives the spelling of a token in the vocabulary; see [Tokenizer.Decode]
// for its text.
func (t *Tokenizer) Token(id int32) (string, bool) {
	if a, ok := t.added.byID[id]; ok {
		return a.Content, true
	}
	return t.model.token(id)
}

func (m *bpe) token(id int32) (string, bool) {
	if id < 0 || int(id) >= len(m.tokens) {
		return "", false
	}
	s := m.tokens[id]
	if s == "" {
		_, ok := m.vocab[""]
		return "", ok && m.vocab[""] == id
	}
	return s, true
}

// IsSpecial says whether id is a special (control) token.
func (t *Tokenizer) IsSpecial(id int32) bool {
	a, ok := t.added.byID[id]
	return ok && a.Special
}

// AddedTokens lists the added tokens, special and other, by id.
func (t *Tokenizer) AddedTokens() []AddedToken { return slices.Clone(t.added.list) }

// SpecialTokens lists the special tokens by id.
func (t *Tokenizer) SpecialTokens() []AddedToken {
	var list []AddedToken
	for _, a := range t.added.list {
		if a.Special {
			list = append(list, a)
		}
	}
	return list
}

// Template gives the ids that [EncodeOptions].AddSpecial puts before and behind
// the tokens of a text.
func (t *Tokenizer) Template() (before, after []int32) {
	i := slices.Index(t.template, templateText)
	if i < 0 {
		return slices.Clone(t.template), nil
	}
	return slices.Clone(t.template[:i]), slices.Clone(t.template[i+1:])
}

func sortAdded(list []AddedToken) {
	slices.SortFunc(list, func(a, b AddedToken) int { return int(a.ID) - int(b.ID) })
}

// templateText stands in a template for the tokens of the text itself.
const templateText = -1
