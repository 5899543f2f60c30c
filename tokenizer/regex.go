package tokenizer

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// regexTimeout bounds one search for matches, so that a pattern that backtracks
// without end cannot hang Encode.
const regexTimeout = 5 * time.Second

// regexMatcher matches a regular expression in Oniguruma's syntax.
type regexMatcher struct{ re *regexp2.Regexp }

// newRegexMatcher translates pattern for regexp2. What has another meaning there
// than in Oniguruma, and cannot be translated, is an UnsupportedError.
func newRegexMatcher(pattern string) (matcher, error) {
	tr := translator{in: pattern}
	if err := tr.run(); err != nil {
		return nil, err
	}
	re, err := regexp2.Compile(tr.out.String())
	if err != nil {
		return nil, fmt.Errorf("regular expression %q: %w", pattern, err)
	}
	re.MatchTimeout = regexTimeout
	return regexMatcher{re}, nil
}

// spans gives the matches from the left. Where the engine gives up (timeout), the
// rest of the text is one span without a match.
func (m regexMatcher) spans(dst []span, s string) []span {
	start := 0
	for match, err := m.re.FindStringMatch(s); err == nil && match != nil; match, err = m.re.FindNextMatch(match) {
		at, n := match.ByteRange()
		if start < at {
			dst = append(dst, span{start, at, false})
		}
		start = at + n
		dst = append(dst, span{at, start, true})
	}
	if start < len(s) {
		dst = append(dst, span{start, len(s), false})
	}
	return dst
}

// translator copies a pattern and checks it on the way. It adds to \p{..} the
// code points that Oniguruma's Unicode has and Go's has not, and to a letter
// under (?i) its partners outside ASCII.
type translator struct {
	in  string
	pos int
	out strings.Builder
	// fold holds, for each open group, whether case is ignored inside.
	fold []bool
}

func (tr *translator) unsupported(what string) error {
	return &tensor.UnsupportedError{
		What: fmt.Sprintf("%s at byte %d of the regular expression %q", what, tr.pos, tr.in),
		Hint: "the tokenizer's pattern needs Oniguruma for that",
	}
}

func (tr *translator) run() error {
	tr.fold = []bool{false}
	quantified := false // the last thing copied was a quantifier
	for tr.pos < len(tr.in) {
		c := tr.in[tr.pos]
		was := quantified
		quantified = false
		var err error
		switch c {
		case '\\':
			err = tr.escape(false)
		case '[':
			err = tr.class()
		case '(':
			err = tr.group()
		case ')':
			if len(tr.fold) == 1 {
				return tr.unsupported("a closing bracket without its partner")
			}
			tr.fold = tr.fold[:len(tr.fold)-1]
			tr.copy(1)
		case '*', '+', '?':
			if was && c == '+' {
				return tr.unsupported("a possessive quantifier")
			}
			if was && c == '*' {
				return tr.unsupported("a quantifier behind another")
			}
			quantified = !was || c != '?'
			tr.copy(1)
		case '{':
			if quantified, err = tr.count(); was && err == nil {
				err = tr.unsupported("a quantifier behind another")
			}
		case '^', '$':
			// Ruby's anchors mean lines; .NET's mean the text unless (?m).
			tr.out.WriteString("(?m:" + string(c) + ")")
			tr.pos++
		default:
			tr.literal()
		}
		if err != nil {
			return err
		}
	}
	if len(tr.fold) != 1 {
		return tr.unsupported("an open bracket without its partner")
	}
	return nil
}

func (tr *translator) copy(n int) {
	tr.out.WriteString(tr.in[tr.pos : tr.pos+n])
	tr.pos += n
}

func (tr *translator) folds() bool { return tr.fold[len(tr.fold)-1] }

// literal copies one rune that means itself.
func (tr *translator) literal() {
	_, size := utf8.DecodeRuneInString(tr.in[tr.pos:])
	switch c := tr.in[tr.pos]; {
	case tr.folds() && (c|0x20 == 's'):
		tr.out.WriteString("[sſ]")
		tr.pos++
	case tr.folds() && (c|0x20 == 'k'):
		tr.out.WriteString("[k\u212A]")
		tr.pos++
	default:
		tr.copy(size)
	}
}

// count handles {n}, {n,} and {n,m}; any other brace means itself.
func (tr *translator) count() (bool, error) {
	body, _, ok := strings.Cut(tr.in[tr.pos+1:], "}")
	low, high, comma := strings.Cut(body, ",")
	if _, err := strconv.ParseUint(low, 10, 16); !ok || err != nil {
		if ok && low == "" && comma {
			return false, tr.unsupported("a count without a lower bound")
		}
		tr.out.WriteString(`\{`)
		tr.pos++
		return false, nil
	}
	if _, err := strconv.ParseUint(high, 10, 16); comma && high != "" && err != nil {
		return false, tr.unsupported("a count that is no number")
	}
	if !comma && strings.HasPrefix(tr.in[tr.pos+len(body)+2:], "?") {
		return false, tr.unsupported("an optional count") // {n}? is greedy in Ruby, lazy in .NET
	}
	tr.copy(len(body) + 2)
	return true, nil
}

// group handles what follows an opening bracket.
func (tr *translator) group() error {
	rest := tr.in[tr.pos:]
	for _, opening := range []string{"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"} {
		if strings.HasPrefix(rest, opening) {
			tr.fold = append(tr.fold, tr.folds())
			tr.copy(len(opening))
			return nil
		}
	}
	switch {
	case strings.HasPrefix(rest, "(?i:"):
		tr.fold = append(tr.fold, true)
		tr.copy(4)
	case strings.HasPrefix(rest, "(?-i:"):
		tr.fold = append(tr.fold, false)
		tr.copy(5)
	case strings.HasPrefix(rest, "(?i)"):
		tr.fold[len(tr.fold)-1] = true
		tr.copy(4)
	case strings.HasPrefix(rest, "(?"):
		return tr.unsupported("this kind of group")
	default:
		tr.fold = append(tr.fold, tr.folds())
		tr.copy(1)
	}
	return nil
}

// class copies [...]. Nested classes and intersections are Oniguruma's own.
func (tr *translator) class() error {
	tr.copy(1)
	if strings.HasPrefix(tr.in[tr.pos:], "^") {
		tr.copy(1)
	}
	for first := true; tr.pos < len(tr.in); first = false {
		rest := tr.in[tr.pos:]
		switch {
		case rest[0] == ']' && !first:
			tr.copy(1)
			return nil
		case rest[0] == ']':
			tr.out.WriteString(`\]`)
			tr.pos++
		case rest[0] == '[':
			return tr.unsupported("a class inside a class")
		case strings.HasPrefix(rest, "&&"):
			return tr.unsupported("an intersection of classes")
		case rest[0] == '\\':
			if err := tr.escape(true); err != nil {
				return err
			}
		default:
			if tr.folds() && (rest[0]|0x20 == 's' || rest[0]|0x20 == 'k') {
				tr.out.WriteString(map[byte]string{'s': "ſ", 'k': "\u212A"}[rest[0]|0x20])
				if strings.HasPrefix(rest[1:], "-") {
					return tr.unsupported("this range without regard to case")
				}
			}
			_, size := utf8.DecodeRuneInString(rest)
			tr.copy(size)
		}
	}
	return tr.unsupported("a class without its end")
}

// escape handles a backslash, inside a class or outside.
func (tr *translator) escape(inClass bool) error {
	rest := tr.in[tr.pos+1:]
	if rest == "" {
		return tr.unsupported("a backslash at the end")
	}
	switch c := rest[0]; {
	case strings.IndexByte("nrtfvaesS", c) >= 0:
		tr.copy(2)
	case c == 'd':
		tr.set(`\d`, lateN, inClass, false)
		tr.pos += 2
	case c == 'z' || c == 'A':
		if inClass {
			return tr.unsupported(`\` + string(c) + " in a class")
		}
		tr.copy(2)
	case c == 'p' || c == 'P':
		return tr.property(inClass)
	case c == 'u' && len(rest) >= 5:
		v, err := strconv.ParseUint(rest[1:5], 16, 32)
		if err != nil {
			return tr.unsupported("an escape that is no number")
		}
		fmt.Fprintf(&tr.out, `\u%04X`, v)
		tr.pos += 6
	case c == 'x' && strings.HasPrefix(rest, "x{"):
		digits, _, _ := strings.Cut(rest[2:], "}")
		v, err := strconv.ParseUint(digits, 16, 21)
		if err != nil || !utf8.ValidRune(rune(v)) {
			return tr.unsupported("an escape that is no code point")
		}
		if r := rune(v); r < utf8.RuneSelf {
			fmt.Fprintf(&tr.out, `\u%04X`, r)
		} else {
			tr.out.WriteRune(r)
		}
		tr.pos += 4 + len(digits)
	case c < utf8.RuneSelf && (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9'):
		tr.copy(2) // punctuation means itself
	default:
		return tr.unsupported(`\` + rest[:1])
	}
	return nil
}

// property handles \p{..}, \p{^..} and \P{..} of the general categories that
// tokenizers use.
func (tr *translator) property(inClass bool) error {
	rest := tr.in[tr.pos:]
	if !strings.HasPrefix(rest[2:], "{") || !strings.Contains(rest, "}") {
		return tr.unsupported(`\p without braces`)
	}
	body, _, _ := strings.Cut(rest[3:], "}")
	name := strings.TrimPrefix(body, "^")
	negated := (rest[1] == 'P') != (name != body)
	switch name {
	case "L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "N", "P", "S":
	default:
		return tr.unsupported(`\p{` + body + `}`)
	}
	if negated && inClass {
		return tr.unsupported(`\P in a class`)
	}
	tr.set(`\p{`+name+`}`, late(name), inClass, negated)
	tr.pos += len(body) + 4
	return nil
}

// set writes a named class with the code points that Go's Unicode lacks.
func (tr *translator) set(class string, more ranges, inClass, negated bool) {
	switch {
	case inClass:
	case negated:
		tr.out.WriteString("[^")
	default:
		tr.out.WriteByte('[')
	}
	tr.out.WriteString(class)
	for _, r := range more {
		tr.out.WriteRune(r[0])
		if r[0] < r[1] {
			tr.out.WriteByte('-')
			tr.out.WriteRune(r[1])
		}
	}
	if !inClass {
		tr.out.WriteByte(']')
	}
}
