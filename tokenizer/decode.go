package tokenizer

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// decodeStage is one decoder of tokenizer.json: it turns a list of strings into
// another. It is built twice over: decoders before the one that joins all strings
// into one (Fuse, ByteLevel) see tokens; those behind see one text, which reaches
// them in fragments, so that decoding can stream.
type decodeStage func(joined bool) decodeState

// decodeState is a decodeStage at work on one list of tokens.
type decodeState interface {
	// push takes the next token (or fragment of the text) and gives what is
	// certain of the output to emit.
	push(s string, emit func(string))
	// end gives the rest.
	end(emit func(string))
}

// decoderChain is the decoders in order. joins says which of them join.
type decoderChain struct {
	stages    []decodeStage
	joins     []bool
	separator string // between tokens where there is no decoder: " "
}

func (c *decoderChain) add(st decodeStage, joins bool) {
	c.stages = append(c.stages, st)
	c.joins = append(c.joins, joins)
}

// Decode gives the text of ids, without the special tokens where skipSpecial is
// set. Ids that no token has are left out, and bytes that are not UTF-8 become
// U+FFFD, as in Python `tokenizers`.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string {
	d := t.NewDecoder(skipSpecial)
	for _, id := range ids {
		d.push(id)
	}
	return d.Flush()
}

// Decoder decodes ids one at a time. It holds text back until no later id can
// change it, so that what Push and Flush return, put together, is what
// [Tokenizer.Decode] gives for all ids, and each part is whole runes.
type Decoder struct {
	t           *Tokenizer
	skipSpecial bool
	states      []decodeState
	emits       []func(string) // emits[i] takes the output of states[i]
	out         strings.Builder
	tokens      int
}

// NewDecoder starts a text.
func (t *Tokenizer) NewDecoder(skipSpecial bool) *Decoder {
	d := &Decoder{t: t, skipSpecial: skipSpecial}
	d.start()
	return d
}

// start builds fresh states.
func (d *Decoder) start() {
	c := &d.t.decoders
	n := len(c.stages)
	d.tokens = 0
	d.states = make([]decodeState, n)
	d.emits = make([]func(string), n+1)
	joined := false
	for i, st := range c.stages {
		d.states[i] = st(joined)
		joined = joined || c.joins[i]
	}
	d.emits[n] = func(s string) { d.out.WriteString(s) }
	for i := n - 1; i >= 0; i-- {
		st, emit := d.states[i], d.emits[i+1]
		d.emits[i] = func(s string) { st.push(s, emit) }
	}
}

// Push takes the next id and returns the text that has become certain.
func (d *Decoder) Push(id int32) string {
	d.push(id)
	return d.take()
}

func (d *Decoder) push(id int32) {
	s, ok := d.t.added.token(id)
	if !ok {
		if s, ok = d.t.model.token(id); !ok {
			return
		}
	}
	if d.skipSpecial && d.t.added.special[s] {
		return
	}
	if d.tokens > 0 && d.t.decoders.separator != "" {
		d.out.WriteString(d.t.decoders.separator)
	}
	d.tokens++
	d.emits[0](s)
}

// Flush ends the text and returns what was held back. The Decoder then begins a
// new text.
func (d *Decoder) Flush() string {
	for i, st := range d.states {
		st.end(d.emits[i+1])
	}
	s := d.take()
	d.start()
	return s
}

func (d *Decoder) take() string {
	s := d.out.String()
	d.out.Reset()
	return s
}

// mapDecoder changes each token, or each fragment, by itself.
type mapDecoder func(string) string

func (f mapDecoder) push(s string, emit func(string)) { emit(f(s)) }
func (mapDecoder) end(func(string))                   {}

// wholeText collects a joined text and changes it at its end: for decoders whose
// result cannot be known before.
type wholeText struct {
	b strings.Builder
	f func(string) string
}

func (w *wholeText) push(s string, _ func(string)) { w.b.WriteString(s) }
func (w *wholeText) end(emit func(string))         { emit(w.f(w.b.String())) }

// fuseDecoder is Fuse: what follows sees one text.
func fuseDecoder(bool) decodeState { return mapDecoder(func(s string) string { return s }) }

// replaceDecoder is Replace.
func replaceDecoder(m matcher, content string) decodeStage {
	f := replaceMatches(m, content)
	return func(joined bool) decodeState {
		if joined {
			return &wholeText{f: f}
		}
		return mapDecoder(f)
	}
}

// metaspaceDecoder is Metaspace: the mark becomes a space, and vanishes in the
// first token where the tokenizer put it there.
func metaspaceDecoder(mark string, prepends bool) decodeStage {
	return func(joined bool) decodeState {
		first := true
		return mapDecoder(func(s string) string {
			replacement := " "
			if first && prepends {
				replacement = ""
			}
			first = first && joined
			return strings.ReplaceAll(s, mark, replacement)
		})
	}
}

// stripDecoder is Strip: up to start characters content off the front of each
// token, up to stop off its end.
func stripDecoder(content rune, start, stop int) decodeStage {
	mark := string(content)
	strip := func(s string) string {
		for i := 0; i < start && strings.HasPrefix(s, mark); i++ {
			s = s[len(mark):]
		}
		for i := 0; i < stop && strings.HasSuffix(s, mark); i++ {
			s = s[:len(s)-len(mark)]
		}
		return s
	}
	return func(joined bool) decodeState {
		switch {
		case !joined:
			return mapDecoder(strip)
		case stop > 0:
			return &wholeText{f: strip}
		}
		left := start
		return mapDecoder(func(s string) string {
			for left > 0 && s != "" {
				if !strings.HasPrefix(s, mark) {
					left = 0
					break
				}
				s = s[len(mark):]
				left--
			}
			return s
		})
	}
}

// byteFallbackDecoder is ByteFallback: a run of tokens <0xNN> becomes the text
// of these bytes, or as many U+FFFD where they are not UTF-8 together.
func byteFallbackDecoder(joined bool) decodeState {
	if joined {
		return &wholeText{f: func(s string) string {
			var out string
			one := &byteRun{}
			emit := func(s string) { out += s }
			one.push(s, emit)
			one.end(emit)
			return out
		}}
	}
	return &byteRun{}
}

type byteRun struct{ bytes []byte }

func (r *byteRun) push(s string, emit func(string)) {
	if isByteToken(s) {
		// Rust's from_str_radix takes a sign too: "<0x+A>".
		digits := strings.TrimPrefix(s[3:5], "+")
		if b, err := strconv.ParseUint(digits, 16, 8); err == nil {
			r.bytes = append(r.bytes, byte(b))
			return
		}
	}
	r.end(emit)
	emit(s)
}

func (r *byteRun) end(emit func(string)) {
	switch {
	case len(r.bytes) == 0:
	case utf8.Valid(r.bytes):
		emit(string(r.bytes))
	default:
		for range r.bytes {
			emit("\uFFFD")
		}
	}
	r.bytes = r.bytes[:0]
}

// byteLevelDecoder is ByteLevel: the bytes that all tokens spell, as one text.
func byteLevelDecoder(joined bool) decodeState {
	if joined {
		return &wholeText{f: func(s string) string {
			b, _ := lossyUTF8(nil, byteLevelBytes(nil, s), true)
			return string(b)
		}}
	}
	return &byteText{}
}

// byteText turns bytes into text as they come; bytes holds the beginning of a
// rune that is not complete.
type byteText struct{ bytes, text []byte }

func (b *byteText) push(s string, emit func(string)) {
	b.bytes = byteLevelBytes(b.bytes, s)
	b.flush(emit, false)
}

func (b *byteText) end(emit func(string)) { b.flush(emit, true) }

func (b *byteText) flush(emit func(string), final bool) {
	var n int
	b.text, n = lossyUTF8(b.text[:0], b.bytes, final)
	b.bytes = b.bytes[:copy(b.bytes, b.bytes[n:])]
	if len(b.text) > 0 {
		emit(string(b.text))
	}
}

// byteLevelBytes appends the bytes a token spells; a token with a character that
// stands for no byte spells itself.
func byteLevelBytes(dst []byte, token string) []byte {
	dst, ok := fromByteLevel(dst, token)
	if !ok {
		dst = append(dst, token...)
	}
	return dst
}

// lossyUTF8 appends src as UTF-8 to dst, each maximal part of an ill-formed
// sequence as one U+FFFD (Unicode 3.9, "U+FFFD Substitution of Maximal
// Subparts", what Rust's from_utf8_lossy does; Go's conversion gives one for each
// byte). n is how many bytes were used: all where final is set, else all but the
// beginning of a rune at the end.
func lossyUTF8(dst, src []byte, final bool) (_ []byte, n int) {
	for i := 0; i < len(src); {
		c := src[i]
		if c < utf8.RuneSelf {
			dst = append(dst, c)
			i++
			continue
		}
		size, lo, hi := sequence(c)
		j := i + 1
		for j < len(src) && j < i+size && lo <= src[j] && src[j] <= hi {
			lo, hi = 0x80, 0xBF
			j++
		}
		switch {
		case size > 0 && j == i+size:
			dst = append(dst, src[i:j]...)
		case size > 0 && j == len(src) && !final:
			return dst, i
		default:
			dst = append(dst, "\uFFFD"...)
		}
		i = j
	}
	return dst, len(src)
}

// sequence gives the length of the UTF-8 sequence that lead begins, 0 for none,
// and the range of its second byte (Unicode table 3-7).
func sequence(lead byte) (size int, lo, hi byte) {
	switch {
	case lead < 0xC2 || lead > 0xF4:
		return 0, 0, 0
	case lead < 0xE0:
		return 2, 0x80, 0xBF
	case lead == 0xE0:
		return 3, 0xA0, 0xBF
	case lead == 0xED:
		return 3, 0x80, 0x9F
	case lead < 0xF0:
		return 3, 0x80, 0xBF
	case lead == 0xF0:
		return 4, 0x90, 0xBF
	case lead == 0xF4:
		return 4, 0x80, 0x8F
	}
	return 4, 0x80, 0xBF
}
