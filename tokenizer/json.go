package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// config is a tokenizer.json without its model: the raw JSON of each part, and
// the added tokens in the order of the file.
type config struct {
	normalizer, preTokenizer, postProcessor, decoder, padding json.RawMessage

	added []AddedToken
	// stripsLeft: the normalizer takes white space off the front.
	stripsLeft bool
}

// Parse reads a Hugging Face tokenizer.json.
func Parse(tokenizerJSON []byte) (*Tokenizer, error) {
	p := &jsonScanner{data: tokenizerJSON}
	var (
		c config
		m modelParser
	)
	err := p.object(func(key string) error {
		raw := (*json.RawMessage)(nil)
		switch key {
		case "model":
			return m.parse(p)
		case "added_tokens":
			return c.parseAdded(p)
		case "normalizer":
			raw = &c.normalizer
		case "pre_tokenizer":
			raw = &c.preTokenizer
		case "post_processor":
			raw = &c.postProcessor
		case "decoder":
			raw = &c.decoder
		case "padding":
			raw = &c.padding
		case "version", "truncation":
			v, err := p.skip()
			if err != nil {
				return err
			}
			return checkPlain(key, v)
		default:
			return &tensor.UnsupportedError{What: fmt.Sprintf("key %q of tokenizer.json", key)}
		}
		v, err := p.skip()
		*raw = slices.Clone(v) // the caller's bytes are not kept
		return err
	})
	if err == nil && p.peek() != 0 {
		err = errors.New("something follows the JSON object")
	}
	if err == nil {
		err = m.resolve(tokenizerJSON)
	}
	if err != nil {
		return nil, wrapFormat(p, "tokenizer.json", err)
	}
	return build(c, m.bpe)
}

// wrapFormat makes err a FormatError with the place in the input, unless it is
// typed already.
func wrapFormat(p *jsonScanner, field string, err error) error {
	var format *tensor.FormatError
	var unsupported *tensor.UnsupportedError
	if errors.As(err, &format) || errors.As(err, &unsupported) {
		return err
	}
	return p.fail(field, err)
}

// checkPlain refuses versions unknown and truncation, which would cut texts.
func checkPlain(key string, value []byte) error {
	switch {
	case key == "version" && string(value) != `"1.0"`:
		return &tensor.UnsupportedError{What: fmt.Sprintf("version %s of tokenizer.json", value), Hint: `this module reads "1.0"`}
	case key == "truncation" && string(value) != "null":
		return &tensor.UnsupportedError{What: "truncation in tokenizer.json", Hint: "set it to null"}
	}
	return nil
}

// modelParser reads the "model" object.
type modelParser struct {
	bpe      *bpe
	kind     string
	hasKind  bool
	hasVocab bool
	mergesAt int // where the merges are, if they came before the vocabulary
	hasMerge bool
}

func (m *modelParser) parse(p *jsonScanner) error {
	m.bpe = &bpe{}
	return p.object(func(key string) error {
		switch key {
		case "vocab":
			if m.hasKind && m.kind != "BPE" || p.peek() != '{' {
				_, err := p.skip() // another kind of model: named below
				return err
			}
			m.hasVocab = true
			return m.vocab(p)
		case "merges":
			m.hasMerge = true
			if !m.hasVocab {
				p.peek()
				m.mergesAt = p.pos
				_, err := p.skip()
				return err
			}
			return m.merges(p)
		}
		raw, err := p.skip()
		if err != nil {
			return err
		}
		return m.setting(key, raw)
	})
}

// setting handles a small member of the model.
func (m *modelParser) setting(key string, raw []byte) error {
	var (
		text *string
		flag *bool
		err  error
	)
	switch key {
	case "type":
		m.hasKind = true
		if err := json.Unmarshal(raw, &m.kind); err != nil {
			return fmt.Errorf("model type: %w", err)
		}
		if m.kind != "BPE" {
			return unsupportedModel(m.kind)
		}
	case "unk_token":
		if err = json.Unmarshal(raw, &text); text != nil {
			m.bpe.unkToken, m.bpe.hasUnk = *text, true
		}
	case "continuing_subword_prefix", "end_of_word_suffix":
		if err = json.Unmarshal(raw, &text); text != nil && *text != "" {
			return &tensor.UnsupportedError{What: fmt.Sprintf("%s %q of the tokenizer", key, *text)}
		}
	case "dropout":
		if s := string(raw); s != "null" && s != "0" && s != "0.0" {
			return &tensor.UnsupportedError{What: "dropout " + s + " of the tokenizer", Hint: "dropout is for training; set it to null"}
		}
	case "fuse_unk", "byte_fallback", "ignore_merges":
		if err = json.Unmarshal(raw, &flag); flag != nil {
			*map[string]*bool{"fuse_unk": &m.bpe.fuseUnk, "byte_fallback": &m.bpe.byteFallback, "ignore_merges": &m.bpe.ignoreMerges}[key] = *flag
		}
	default:
		return &tensor.UnsupportedError{What: fmt.Sprintf("key %q of the tokenizer's model", key)}
	}
	if err != nil {
		return fmt.Errorf("model %s: %w", key, err)
	}
	return nil
}

func unsupportedModel(kind string) error {
	return &tensor.UnsupportedError{What: fmt.Sprintf("tokenizer model %q", kind), Hint: "this module does BPE"}
}

// resolve ends the reading of the model.
func (m *modelParser) resolve(data []byte) error {
	switch {
	case m.bpe == nil:
		return errors.New(`there is no "model"`)
	case !m.hasVocab || !m.hasMerge:
		return &tensor.UnsupportedError{What: "a tokenizer model without a vocabulary object and merges", Hint: "this module does BPE"}
	case m.mergesAt > 0:
		return m.merges(&jsonScanner{data: data, pos: m.mergesAt})
	}
	return nil
}

func (m *modelParser) vocab(p *jsonScanner) error {
	var (
		arena []byte // the tokens one after another, so that they share one string
		ends  []int
		ids   []int32
	)
	err := p.list('{', '}', func() error {
		var err error
		if arena, err = p.str(arena); err != nil {
			return err
		}
		ends = append(ends, len(arena))
		if err := p.expect(':'); err != nil {
			return err
		}
		id, err := p.id()
		ids = append(ids, id)
		return err
	})
	if err != nil {
		return wrapFormat(p, "model.vocab", err)
	}
	all := string(arena)
	names := make([]string, len(ends))
	start := 0
	for i, end := range ends {
		names[i] = all[start:end]
		start = end
	}
	if err := m.bpe.setVocab(names, ids); err != nil {
		return wrapFormat(p, "model.vocab", err)
	}
	return nil
}

// merges reads the merges: strings "left right" or pairs ["left", "right"].
func (m *modelParser) merges(p *jsonScanner) error {
	var buf []byte
	err := p.list('[', ']', func() error {
		var err error
		buf = buf[:0]
		cut := 0
		if p.peek() == '[' {
			n := 0
			err = p.list('[', ']', func() error {
				cut, n = len(buf), n+1
				buf, err = p.str(buf)
				return err
			})
			if err == nil && n != 2 {
				err = fmt.Errorf("merge %d has %d parts, want 2", len(m.bpe.merges), n)
			}
			if err != nil {
				return err
			}
			return m.addMerge(buf[:cut], buf[cut:])
		}
		if buf, err = p.str(buf); err != nil || bytes.HasPrefix(buf, []byte("#version")) {
			return err
		}
		left, right, ok := bytes.Cut(buf, []byte(" "))
		if !ok || bytes.IndexByte(right, ' ') >= 0 {
			return fmt.Errorf("merge %d is %q, want two tokens with a space between", len(m.bpe.merges), buf)
		}
		return m.addMerge(left, right)
	})
	if err != nil {
		return wrapFormat(p, "model.merges", err)
	}
	return nil
}

func (m *modelParser) addMerge(left, right []byte) error {
	l, ok1 := m.bpe.vocab[string(left)]
	r, ok2 := m.bpe.vocab[string(right)]
	if !ok1 || !ok2 {
		return fmt.Errorf("merge %d of %q and %q: not both are in the vocabulary", len(m.bpe.merges), left, right)
	}
	m.bpe.merges = append(m.bpe.merges, merge{l, r})
	return nil
}

// addedTokenJSON is an item of added_tokens.
type addedTokenJSON struct {
	ID         int64  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

func (c *config) parseAdded(p *jsonScanner) error {
	raw, err := p.skip()
	if err != nil {
		return err
	}
	var list []addedTokenJSON
	if err := strictJSON(raw, &list, "added_tokens"); err != nil {
		return wrapFormat(p, "added_tokens", err)
	}
	for _, a := range list {
		c.added = append(c.added, AddedToken{
			Content: a.Content, SingleWord: a.SingleWord, LStrip: a.LStrip, RStrip: a.RStrip,
			Normalized: a.Normalized, Special: a.Special,
		})
	}
	return nil
}

// strictJSON is json.Unmarshal that makes a member unknown to v an
// UnsupportedError.
func strictJSON(raw []byte, v any, what string) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		return nil
	}
	if _, field, ok := strings.Cut(err.Error(), "unknown field "); ok {
		return &tensor.UnsupportedError{What: fmt.Sprintf("member %s of %s in tokenizer.json", field, what)}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// JSON gives a tokenizer.json that Python `tokenizers` reads and encodes with as
// t does.
func (t *Tokenizer) JSON() ([]byte, error) {
	c, m := &t.config, t.model
	b := []byte(`{"version":"1.0","truncation":null,"padding":`)
	b = appendRaw(b, c.padding)
	b = append(b, `,"added_tokens":[`...)
	for i, a := range t.added.list {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"id":%d,"content":`, a.ID)
		b = appendJSONString(b, a.Content)
		b = fmt.Appendf(b, `,"single_word":%t,"lstrip":%t,"rstrip":%t,"normalized":%t,"special":%t}`,
			a.SingleWord, a.LStrip, a.RStrip, a.Normalized, a.Special)
	}
	for _, part := range []struct {
		name string
		raw  json.RawMessage
	}{{"normalizer", c.normalizer}, {"pre_tokenizer", c.preTokenizer}, {"post_processor", c.postProcessor}, {"decoder", c.decoder}} {
		if part.name == "normalizer" {
			b = append(b, ']')
		}
		b = fmt.Appendf(b, `,%q:`, part.name)
		b = appendRaw(b, part.raw)
	}
	b = append(b, `,"model":{"type":"BPE","dropout":null,"unk_token":`...)
	if m.hasUnk {
		b = appendJSONString(b, m.unkToken)
	} else {
		b = append(b, "null"...)
	}
	b = fmt.Appendf(b, `,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":%t,"byte_fallback":%t,"ignore_merges":%t,"vocab":{`,
		m.fuseUnk, m.byteFallback, m.ignoreMerges)
	comma := false
	for id := range m.tokens {
		s, ok := m.token(int32(id))
		if !ok {
			continue
		}
		if comma {
			b = append(b, ',')
		}
		comma = true
		b = appendJSONString(b, s)
		b = fmt.Appendf(b, ":%d", id)
	}
	b = append(b, `},"merges":[`...)
	for i, p := range m.merges {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '[')
		b = appendJSONString(b, m.tokens[p.left])
		b = append(b, ',')
		b = appendJSONString(b, m.tokens[p.right])
		b = append(b, ']')
	}
	return append(b, "]}}"...), nil
}

func appendRaw(dst []byte, raw json.RawMessage) []byte {
	if len(raw) == 0 {
		return append(dst, "null"...)
	}
	return append(dst, raw...)
}
