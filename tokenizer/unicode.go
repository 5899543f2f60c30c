package tokenizer

import (
	"sort"
	"unicode"
)

// Python `tokenizers` 0.23 mixes several editions of Unicode: Oniguruma 6.9.10
// (\p{L} and friends of Split patterns) and the regex crate know Unicode 16,
// Rust's char::is_numeric and to_lowercase Unicode 17, its normalization crate
// about Unicode 9 and its punctuation crate Unicode 8. Go's package unicode has
// 15.0 up to Go 1.26. The tables below hold the differences; a test
// (TestUnicodeTables) compares every code point with Python.

// ranges lists code points as sorted, disjoint pairs of first and last.
type ranges [][2]rune

func (rs ranges) has(r rune) bool {
	if len(rs) == 0 || r < rs[0][0] {
		return false
	}
	i := sort.Search(len(rs), func(i int) bool { return rs[i][1] >= r })
	return i < len(rs) && rs[i][0] <= r
}

// late gives, by general category, the code points that got it after
// Unicode 15.0 and up to 16.0.
func late(category string) ranges {
	switch category {
	case "L":
		return mergeRanges(lateLu, lateLl, lateLm, lateLo)
	case "Lu":
		return lateLu
	case "Ll":
		return lateLl
	case "Lm":
		return lateLm
	case "Lo":
		return lateLo
	case "M":
		return lateM
	case "N":
		return lateN
	case "P":
		return lateP
	case "S":
		return lateS
	}
	return nil
}

func mergeRanges(lists ...ranges) ranges {
	var all ranges
	for _, l := range lists {
		all = append(all, l...)
	}
	sort.Slice(all, func(i, j int) bool { return all[i][0] < all[j][0] })
	return all
}

// isNumeric is Rust's char::is_numeric: general category N.
func isNumeric(r rune) bool {
	if r < 0x80 {
		return '0' <= r && r <= '9'
	}
	return unicode.IsNumber(r) || lateN.has(r) || lateNumeric.has(r)
}

// isWord is \w of the Rust regex crate (UTS 18 Annex C): Alphabetic, M, Nd, Pc
// and Join_Control.
func isWord(r rune) bool {
	if r < 0x80 {
		return r == '_' || '0' <= r && r <= '9' || 'a' <= r|0x20 && r|0x20 <= 'z'
	}
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic) ||
		r == 0x200C || r == 0x200D || late("L").has(r) || lateM.has(r) || lateN.has(r)
}

// isPunctuation is the class of the Punctuation pre-tokenizer: ASCII
// punctuation and general category P as of Unicode 8.
func isPunctuation(r rune) bool {
	if r < 0x80 {
		return '!' <= r && r <= '/' || ':' <= r && r <= '@' || '[' <= r && r <= '`' || '{' <= r && r <= '~'
	}
	if r == 0x166D || r == 0x111C9 { // P until Unicode 12 and 11
		return true
	}
	return unicode.IsPunct(r) && !punctuationSince9.has(r)
}

// toLower is Rust's char::to_lowercase (no final sigma, no locale), which maps
// U+0130 to two code points.
func toLower(dst []rune, r rune) []rune {
	switch {
	case r == 0x130:
		return append(dst, 'i', 0x307)
	case r == 0xA7CB:
		return append(dst, 0x264)
	case r == 0xA7DC:
		return append(dst, 0x19B)
	case r == 0x1C89, r == 0xA7CC, r == 0xA7CE, r == 0xA7D2, r == 0xA7D4, r == 0xA7DA:
		return append(dst, r+1)
	case 0x10D50 <= r && r <= 0x10D65:
		return append(dst, r+32)
	case 0x16EA0 <= r && r <= 0x16EB8:
		return append(dst, r+27)
	}
	return append(dst, unicode.ToLower(r))
}

// Classes of code points that the hand-written scanners tell apart. Everything
// else has class 0.
const (
	classLetter  = 1 << iota // \p{L}
	classNumber              // \p{N}
	classSpace               // \s
	classNewline             // \r or \n, besides classSpace
)

// classTable gives the class of a code point: page[r>>8] selects 256 entries.
type classTable struct {
	ascii [128]uint8
	page  [unicode.MaxRune>>8 + 1]uint16
	cells [][256]uint8
}

func newClassTable() *classTable {
	t := &classTable{cells: make([][256]uint8, 2, 160)}
	for i := range t.cells[1] { // page 1: letters throughout (CJK, Hangul)
		t.cells[1][i] = classLetter
	}
	add := func(lo, hi rune, class uint8) {
		for r := lo; r <= hi; {
			p := r >> 8
			last := min(hi, p<<8|0xFF)
			if class == classLetter && t.page[p] == 0 && r&0xFF == 0 && last&0xFF == 0xFF {
				t.page[p] = 1
			} else {
				if t.page[p] < 2 {
					t.cells = append(t.cells, t.cells[t.page[p]])
					t.page[p] = uint16(len(t.cells) - 1)
				}
				c := &t.cells[t.page[p]]
				for ; r <= last; r++ {
					c[r&0xFF] |= class
				}
			}
			r = last + 1
		}
	}
	addTable := func(rt *unicode.RangeTable, extra ranges, class uint8) {
		for _, r := range rt.R16 {
			for c := rune(r.Lo); c <= rune(r.Hi); c += rune(r.Stride) {
				hi := c
				if r.Stride == 1 {
					hi = rune(r.Hi)
				}
				add(c, hi, class)
				if r.Stride == 1 {
					break
				}
			}
		}
		for _, r := range rt.R32 {
			for c := rune(r.Lo); c <= rune(r.Hi); c += rune(r.Stride) {
				hi := c
				if r.Stride == 1 {
					hi = rune(r.Hi)
				}
				add(c, hi, class)
				if r.Stride == 1 {
					break
				}
			}
		}
		for _, r := range extra {
			add(r[0], r[1], class)
		}
	}
	addTable(unicode.L, late("L"), classLetter)
	addTable(unicode.N, lateN, classNumber)
	addTable(unicode.White_Space, nil, classSpace)
	add('\n', '\n', classNewline)
	add('\r', '\r', classNewline)
	copy(t.ascii[:], t.cells[t.page[0]][:128])
	return t
}

func (t *classTable) class(r rune) uint8 {
	return t.cells[t.page[r>>8]][r&0xFF]
}
