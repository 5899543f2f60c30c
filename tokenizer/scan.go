package tokenizer

import "unicode/utf8"

// Patterns of Split pre-tokenizers that have a scanner of their own. Each covers
// every text without gaps.
const (
	// gpt2Pattern is also what ByteLevel uses with use_regex (tokenizers
	// pre_tokenizers/byte_level.rs, from openai/gpt-2 encoder.py).
	gpt2Pattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	// qwen2Pattern and llama3Pattern are from the tokenizer.json of these models;
	// they differ in how many digits make a piece.
	qwen2Pattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// scanner finds the first match of its pattern.
type scanner interface {
	// next gives the end of the match that begins at i; i < next <= len(s).
	// i is where the last match ended, so s[i:] begins with a whole rune.
	next(s string, i int) int
}

// newScanner gives the scanner of a known pattern, nil of any other.
func newScanner(pattern string) scanner {
	switch pattern {
	case gpt2Pattern:
		return &gpt2Scanner{newClassTable()}
	case qwen2Pattern:
		return &llama3Scanner{newClassTable(), 1}
	case llama3Pattern:
		return &llama3Scanner{newClassTable(), 3}
	}
	return nil
}

// at gives class and length in bytes of the rune at s[i].
func (t *classTable) at(s string, i int) (class uint8, size int) {
	if c := s[i]; c < utf8.RuneSelf {
		return t.ascii[c], 1
	}
	r, size := utf8.DecodeRuneInString(s[i:])
	return t.class(r), size
}

// run gives the end of the longest run of runes from i on whose class, under
// mask, is want.
func (t *classTable) run(s string, i int, mask, want uint8) int {
	for i < len(s) {
		class, size := t.at(s, i)
		if class&mask != want {
			break
		}
		i += size
	}
	return i
}

// spaces matches `\s+(?!\S)|\s+` at i, where white space begins: the whole run
// at the end of the text, else the run without its last rune, which belongs to
// what follows, unless it is the only one.
func (t *classTable) spaces(s string, i int) int {
	last, end := i, i
	for end < len(s) {
		class, size := t.at(s, end)
		if class&classSpace == 0 {
			break
		}
		last = end
		end += size
	}
	if end < len(s) && last > i {
		return last
	}
	return end
}

const classOther = classLetter | classNumber | classSpace // mask for [^\s\p{L}\p{N}]

// gpt2Scanner matches gpt2Pattern.
type gpt2Scanner struct{ *classTable }

func (t *gpt2Scanner) next(s string, i int) int {
	if s[i] == '\'' {
		if n := contraction(s[i+1:], false); n > 0 {
			return i + 1 + n
		}
	}
	class, size := t.at(s, i)
	j := i + size // end of the optional space, or of the first rune
	if s[i] == ' ' && j < len(s) {
		if c, n := t.at(s, j); c&classSpace == 0 {
			class, j = c, j+n
		}
	}
	switch {
	case class&classLetter != 0:
		return t.run(s, j, classLetter, classLetter)
	case class&classNumber != 0:
		return t.run(s, j, classNumber, classNumber)
	case class&classSpace == 0:
		return t.run(s, j, classOther, 0)
	}
	return t.spaces(s, i)
}

// llama3Scanner matches llama3Pattern (digits 3) or qwen2Pattern (digits 1).
type llama3Scanner struct {
	*classTable
	digits int
}

func (t *llama3Scanner) next(s string, i int) int {
	if s[i] == '\'' {
		if n := contraction(s[i+1:], true); n > 0 {
			return i + 1 + n
		}
	}
	class, size := t.at(s, i)
	j := i + size
	switch {
	case class&classLetter != 0:
		return t.run(s, j, classLetter, classLetter)
	case class&classNumber != 0:
		for n := 1; n < t.digits && j < len(s); n++ {
			c, size := t.at(s, j)
			if c&classNumber == 0 {
				break
			}
			j += size
		}
		return j
	}
	var after uint8 = classSpace // of the rune after the first
	afterSize := 0
	if j < len(s) {
		after, afterSize = t.at(s, j)
		if after&classLetter != 0 && class&classNewline == 0 {
			return t.run(s, j+afterSize, classLetter, classLetter)
		}
	}
	if class&classSpace == 0 || s[i] == ' ' && after&classOther == 0 {
		j = t.run(s, j, classOther, 0)
		for j < len(s) && (s[j] == '\n' || s[j] == '\r') {
			j++
		}
		return j
	}
	// \s*[\r\n]+ ends after the last line break of the white space.
	end := -1
	for j := i; j < len(s); {
		c, size := t.at(s, j)
		if c&classSpace == 0 {
			break
		}
		j += size
		if c&classNewline != 0 {
			end = j
		}
	}
	if end > 0 {
		return end
	}
	return t.spaces(s, i)
}

// contraction gives the length of the English suffix (s, t, m, d, re, ve, ll)
// that s begins with, 0 where there is none. With fold, case is ignored by
// Unicode's simple folding, which counts U+017F (long s) as an s.
func contraction(s string, fold bool) int {
	if s == "" {
		return 0
	}
	lower := func(c byte) byte {
		if fold && 'A' <= c && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}
	switch c := lower(s[0]); c {
	case 's', 't', 'm', 'd':
		return 1
	case 'r', 'v', 'l':
		want := byte('e')
		if c == 'l' {
			want = 'l'
		}
		if len(s) > 1 && lower(s[1]) == want {
			return 2
		}
	case "ſ"[0]:
		if fold && len(s) > 1 && s[:2] == "ſ" {
			return 2
		}
	}
	return 0
}
