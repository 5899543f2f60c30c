package tokenizer

import (
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalizer rewrites a part of the text before it is cut into pieces.
type normalizer func(string) string

// chain applies normalizers in turn; nil where there are none.
func chain(list []normalizer) normalizer {
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	return func(s string) string {
		for _, f := range list {
			s = f(s)
		}
		return s
	}
}

func prependText(prefix string) normalizer {
	return func(s string) string {
		if s == "" {
			return s
		}
		return prefix + s
	}
}

// replaceMatches replaces what m matches; it serves the normalizer and the
// decoder Replace.
func replaceMatches(m matcher, content string) normalizer {
	if lit, ok := m.(literalMatcher); ok {
		return func(s string) string { return strings.ReplaceAll(s, string(lit), content) }
	}
	return func(s string) string {
		if s == "" {
			return s
		}
		var b strings.Builder
		for _, p := range m.spans(nil, s) {
			if p.match {
				b.WriteString(content)
			} else {
				b.WriteString(s[p.start:p.end])
			}
		}
		return b.String()
	}
}

func stripSpace(left, right bool) normalizer {
	return func(s string) string {
		if left {
			s = strings.TrimLeftFunc(s, unicode.IsSpace)
		}
		if right {
			s = strings.TrimRightFunc(s, unicode.IsSpace)
		}
		return s
	}
}

func lowercase(s string) string {
	runes := make([]rune, 0, len(s))
	for _, r := range s {
		runes = toLower(runes, r)
	}
	return string(runes)
}

// unicodeForm is one of the four normalization forms of Unicode (UAX 15).
//
// golang.org/x/text cannot be used as it is: it follows the stream-safe format,
// which puts U+034F into long runs of combining marks, and it knows more of
// Unicode than Python's side (newerThanNFC). Such texts take the plain algorithm
// below, with decompositions and combining classes from golang.org/x/text.
type unicodeForm struct {
	compose bool
	fast    norm.Form // the form itself
	full    norm.Form // its decomposition: NFD or NFKD
}

func newUnicodeForm(name string) (unicodeForm, bool) {
	switch name {
	case "NFC":
		return unicodeForm{true, norm.NFC, norm.NFD}, true
	case "NFD":
		return unicodeForm{false, norm.NFD, norm.NFD}, true
	case "NFKC":
		return unicodeForm{true, norm.NFKC, norm.NFKD}, true
	case "NFKD":
		return unicodeForm{false, norm.NFKD, norm.NFKD}, true
	}
	return unicodeForm{}, false
}

func (f unicodeForm) normalize(s string) string {
	if isASCII(s) {
		return s
	}
	if plainForm(s) {
		return f.fast.String(s)
	}
	runes := make([]rune, 0, len(s))
	for _, r := range s {
		if newerThanNFC.has(r) || r < 0x80 {
			runes = append(runes, r)
			continue
		}
		for _, d := range f.full.String(string(r)) {
			runes = append(runes, d)
		}
	}
	reorder(runes)
	if f.compose {
		runes = compose(runes)
	}
	return string(runes)
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// maxMarks is the longest run of combining marks left to golang.org/x/text. A
// code point decomposes into at most 3 of them, and 30 is where it cuts runs.
const maxMarks = 8

// plainForm says that golang.org/x/text and Python agree on s: no code point
// they know differently, no long run of combining marks.
func plainForm(s string) bool {
	marks := 0
	for i := 0; i < len(s); {
		if s[i] < 0xCC { // below U+0300: no marks
			if s[i] < utf8.RuneSelf {
				i++
			} else {
				i += 2
			}
			marks = 0
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		if 0x3400 <= r && r <= 0xA000 { // ideographs
			marks = 0
			continue
		}
		if newerThanNFC.has(r) || r == 0x11930 {
			return false
		}
		if !unicode.IsMark(r) {
			marks = 0
			continue
		}
		if marks++; marks > maxMarks {
			return false
		}
	}
	return true
}

// combiningClass is the canonical combining class, 0 for starters.
func combiningClass(r rune) uint8 {
	if r < 0x300 || newerThanNFC.has(r) {
		return 0
	}
	var b [utf8.UTFMax]byte
	return norm.NFD.Properties(b[:utf8.EncodeRune(b[:], r)]).CCC()
}

// reorder sorts each run of combining marks by class, in place (canonical
// ordering, D108).
func reorder(runes []rune) {
	type mark struct {
		r     rune
		class uint8
	}
	var run []mark
	flush := func(end int) {
		if len(run) > 1 {
			sort.SliceStable(run, func(i, j int) bool { return run[i].class < run[j].class })
			for i, m := range run {
				runes[end-len(run)+i] = m.r
			}
		}
		run = run[:0]
	}
	for i, r := range runes {
		if c := combiningClass(r); c > 0 {
			run = append(run, mark{r, c})
		} else {
			flush(i)
		}
	}
	flush(len(runes))
}

// compose replaces pairs by their primary composite, in place (D117).
func compose(runes []rune) []rune {
	out := runes[:0]
	starter := -1         // index in out of the last starter
	lastClass := uint8(0) // of the last code point kept after the starter
	for _, r := range runes {
		class := combiningClass(r)
		if starter >= 0 && (lastClass < class || len(out) == starter+1) {
			if c, ok := primaryComposite(out[starter], r); ok {
				out[starter] = c
				continue
			}
		}
		if class == 0 {
			starter = len(out)
		}
		lastClass = class
		out = append(out, r)
	}
	return out
}

func primaryComposite(a, b rune) (rune, bool) {
	if a < 0x80 && b < 0x300 || newerThanNFC.has(a) || newerThanNFC.has(b) {
		return 0, false
	}
	s := norm.NFC.String(string([]rune{a, b}))
	r, size := utf8.DecodeRuneInString(s)
	if size != len(s) || newerThanNFC.has(r) {
		return 0, false
	}
	return r, true
}
