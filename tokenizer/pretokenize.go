package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// stage is one pre-tokenizer of the chain.
type stage interface {
	// split cuts s and hands each piece to e.piece(next, piece, first); first
	// says that the piece begins where the text given to Encode begins.
	split(e *encoder, next int, s string, first bool)
}

// piece passes s through the stages from next on; after the last it is a word of
// the model. Empty pieces vanish.
func (e *encoder) piece(next int, s string, first bool) {
	switch {
	case s == "":
	case next == len(e.t.stages):
		e.word(s)
	default:
		e.t.stages[next].split(e, next+1, s, first)
	}
}

// span is a part of a text and whether a pattern matched it.
type span struct {
	start, end int
	match      bool
}

// matcher cuts a text that is not empty into spans without gaps.
type matcher interface {
	spans(dst []span, s string) []span
}

// behavior says what becomes of the spans that match (tokenizers
// SplitDelimiterBehavior, normalizer.rs).
type behavior string

const (
	isolated           behavior = "Isolated"
	removed            behavior = "Removed"
	mergedWithPrevious behavior = "MergedWithPrevious"
	mergedWithNext     behavior = "MergedWithNext"
	contiguous         behavior = "Contiguous"
)

// apply joins or drops spans in place; those with match set in the result are
// to be dropped. NormalizedString::split of tokenizers, with its quirk that a
// first matching span merges into nothing.
func (b behavior) apply(spans []span) []span {
	out := spans[:0]
	previous := false
	switch b {
	case removed:
		return spans
	case contiguous, mergedWithPrevious:
		for _, p := range spans {
			join := p.match && !previous
			if b == contiguous {
				join = p.match == previous
			}
			previous = p.match
			if join && len(out) > 0 {
				out[len(out)-1].end = p.end
				continue
			}
			out = append(out, span{p.start, p.end, false})
		}
	case mergedWithNext:
		n := len(spans) // the result grows downwards from the end
		for i := len(spans) - 1; i >= 0; i-- {
			p := spans[i]
			join := p.match && !previous
			previous = p.match
			if join && n < len(spans) {
				spans[n].start = p.start
				continue
			}
			n--
			spans[n] = span{p.start, p.end, false}
		}
		return spans[n:]
	default:
		for _, p := range spans {
			out = append(out, span{p.start, p.end, false})
		}
	}
	return out
}

// scanStage is Split with a scanner and Isolated, the form of all models known.
type scanStage struct{ scanner }

func (st scanStage) split(e *encoder, next int, s string, first bool) {
	for i := 0; i < len(s); {
		end := st.next(s, i)
		e.piece(next, s[i:end], first && i == 0)
		i = end
	}
}

// scanMatcher makes a scanner a matcher, for behaviours other than Isolated.
type scanMatcher struct{ scanner }

func (m scanMatcher) spans(dst []span, s string) []span {
	for i := 0; i < len(s); {
		end := m.next(s, i)
		dst = append(dst, span{i, end, true})
		i = end
	}
	return dst
}

// splitStage is Split, Digits, Punctuation, Whitespace and WhitespaceSplit.
type splitStage struct {
	matcher
	behavior behavior
	invert   bool
}

func (st splitStage) split(e *encoder, next int, s string, first bool) {
	base := len(e.spans)
	e.spans = st.spans(e.spans, s)
	if st.invert {
		for i := base; i < len(e.spans); i++ {
			e.spans[i].match = !e.spans[i].match
		}
	}
	// The spans of outer stages lie below base; inner stages append above.
	mine := st.behavior.apply(e.spans[base:])
	for _, p := range mine {
		if !p.match {
			e.piece(next, s[p.start:p.end], first && p.start == 0)
		}
	}
	e.spans = e.spans[:base]
}

// runeMatcher matches single runes.
type runeMatcher func(rune) bool

func (f runeMatcher) spans(dst []span, s string) []span {
	start := 0
	for i, r := range s {
		if !f(r) {
			continue
		}
		if start < i {
			dst = append(dst, span{start, i, false})
		}
		start = i + utf8.RuneLen(r)
		dst = append(dst, span{i, start, true})
	}
	if start < len(s) {
		dst = append(dst, span{start, len(s), false})
	}
	return dst
}

// literalMatcher matches the occurrences of a string, from the left.
type literalMatcher string

func (m literalMatcher) spans(dst []span, s string) []span {
	start := 0
	for {
		i := strings.Index(s[start:], string(m))
		if i < 0 {
			break
		}
		if i > 0 {
			dst = append(dst, span{start, start + i, false})
		}
		start += i
		dst = append(dst, span{start, start + len(m), true})
		start += len(m)
	}
	if start < len(s) {
		dst = append(dst, span{start, len(s), false})
	}
	return dst
}

// wordMatcher matches `\w+|[^\w\s]+` of the Whitespace pre-tokenizer.
type wordMatcher struct{}

func (wordMatcher) spans(dst []span, s string) []span {
	const space, word, other = 0, 1, 2
	kind := func(r rune) int {
		switch {
		case isWord(r):
			return word
		case unicode.IsSpace(r):
			return space
		}
		return other
	}
	start, last := 0, -1
	for i, r := range s {
		k := kind(r)
		if k != last && i > 0 {
			dst = append(dst, span{start, i, last != space})
			start = i
		}
		last = k
	}
	return append(dst, span{start, len(s), last != space})
}

// prefixStage is the add_prefix_space of ByteLevel.
type prefixStage struct{}

func (prefixStage) split(e *encoder, next int, s string, first bool) {
	if s[0] != ' ' {
		s = " " + s
	}
	e.piece(next, s, first)
}

// byteLevelStage replaces each byte by its printable character. It is only run
// where more stages follow; else the model works on the bytes.
type byteLevelStage struct{}

func (byteLevelStage) split(e *encoder, next int, s string, first bool) {
	e.piece(next, toByteLevel(s), first)
}

// metaspaceStage is Metaspace.
type metaspaceStage struct {
	replacement rune
	scheme      string // "always", "first" or "never"
	cut         bool
}

func (st metaspaceStage) split(e *encoder, next int, s string, first bool) {
	mark := string(st.replacement)
	s = strings.ReplaceAll(s, " ", mark)
	if (st.scheme == "always" || st.scheme == "first" && first) && !strings.HasPrefix(s, mark) {
		s = mark + s
	}
	if !st.cut {
		e.piece(next, s, first)
		return
	}
	st2 := splitStage{matcher: literalMatcher(mark), behavior: mergedWithNext}
	st2.split(e, next, s, first)
}

// byteLevelChar is the printable character of a byte: itself where it is one in
// Latin-1, else the next free one from U+0100 on (openai/gpt-2 encoder.py,
// bytes_to_unicode).
func byteLevelChar(b byte) rune {
	switch {
	case '!' <= b && b <= '~' || 0xA1 <= b && b <= 0xAC || 0xAE <= b:
		return rune(b)
	case b <= ' ':
		return 0x100 + rune(b)
	case b == 0xAD:
		return 0x143
	}
	return 0x121 + rune(b-0x7F) // 0x7F ... 0xA0
}

// byteOfChar is the inverse of byteLevelChar.
func byteOfChar(r rune) (b byte, ok bool) {
	switch {
	case '!' <= r && r <= '~' || 0xA1 <= r && r <= 0xAC || 0xAE <= r && r <= 0xFF:
		return byte(r), true
	case 0x100 <= r && r <= 0x120:
		return byte(r - 0x100), true
	case 0x121 <= r && r <= 0x142:
		return byte(r-0x121) + 0x7F, true
	case r == 0x143:
		return 0xAD, true
	}
	return 0, false
}

func toByteLevel(s string) string {
	b := make([]byte, 0, 2*len(s))
	for i := 0; i < len(s); i++ {
		b = utf8.AppendRune(b, byteLevelChar(s[i]))
	}
	return string(b)
}

// fromByteLevel appends the bytes that token spells; ok is false, and dst
// unchanged, where a character of it stands for no byte.
func fromByteLevel(dst []byte, token string) (_ []byte, ok bool) {
	n := len(dst)
	for _, r := range token {
		b, ok := byteOfChar(r)
		if !ok {
			return dst[:n], false
		}
		dst = append(dst, b)
	}
	return dst, true
}
