package chattemplate

import (
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// isSpace is Python's str.isspace of one character, which is also what \s
// matches: Go's unicode.IsSpace and the four separators U+001C to U+001F.
func isSpace(c rune) bool {
	return unicode.IsSpace(c) || c >= 0x1c && c <= 0x1f
}

// isIdentifier is Python's str.isidentifier.
func isIdentifier(s string) bool {
	for i, c := range s {
		if c == '_' || unicode.In(c, unicode.L, unicode.Nl, unicode.Other_ID_Start) {
			continue
		}
		if i > 0 && unicode.In(c, unicode.Mn, unicode.Mc, unicode.Nd, unicode.Pc, unicode.Other_ID_Continue) {
			continue
		}
		return false
	}
	return s != ""
}

// isLineEnd reports the characters at which Python's splitlines breaks.
func isLineEnd(c rune) bool {
	switch c {
	case '\n', '\r', '\v', '\f', 0x1c, 0x1d, 0x1e, 0x85, 0x2028, 0x2029:
		return true
	}
	return false
}

// splitLines yields the lines of Python's str.splitlines.
func splitLines(s string, keepEnds bool) iter.Seq[string] {
	return func(yield func(string) bool) {
		for len(s) > 0 {
			i := strings.IndexFunc(s, isLineEnd)
			if i < 0 {
				yield(s)
				return
			}
			_, size := utf8.DecodeRuneInString(s[i:])
			end := i + size
			if strings.HasPrefix(s[i:], "\r\n") {
				end = i + 2
			}
			if keepEnds {
				i = end
			}
			if !yield(s[:i]) {
				return
			}
			s = s[end:]
		}
	}
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// upper, lower and titleRune use full case mappings (ß to SS), as Python does.
func upper(s string) string {
	if isASCII(s) {
		return strings.ToUpper(s)
	}
	return cases.Upper(language.Und).String(s)
}

func lower(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	return cases.Lower(language.Und).String(s)
}

func titleRune(c rune) string {
	if c < 0x80 {
		return string(unicode.ToUpper(c))
	}
	return cases.Title(language.Und, cases.NoLower).String(string(c))
}

// capitalize is Python's str.capitalize.
func capitalize(s string) string {
	if s == "" {
		return s
	}
	c, size := utf8.DecodeRuneInString(s)
	return titleRune(c) + lower(s[size:])
}

// isCased reports whether a character has upper, lower or title case.
func isCased(c rune) bool {
	return unicode.In(c, unicode.Lu, unicode.Ll, unicode.Lt, unicode.Other_Lowercase, unicode.Other_Uppercase)
}

// title is Python's str.title: a capital after every character without case.
func title(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		c, size := utf8.DecodeRuneInString(s[i:])
		if !isCased(c) {
			b.WriteString(s[i : i+size])
			i += size
			continue
		}
		b.WriteString(titleRune(c))
		end := i + size
		for end < len(s) {
			c, size := utf8.DecodeRuneInString(s[end:])
			if !isCased(c) {
				break
			}
			end += size
		}
		b.WriteString(lower(s[i+size : end]))
		i = end
	}
	return b.String()
}

func swapCase(s string) string {
	var b strings.Builder
	for _, c := range s {
		switch {
		case unicode.IsUpper(c):
			b.WriteString(lower(string(c)))
		case unicode.IsLower(c):
			b.WriteString(upper(string(c)))
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// digitRanges are the characters outside Nd with Numeric_Type=Digit (Unicode
// 14, DerivedNumericType.txt): superscripts, subscripts, circled digits and so on.
var digitRanges = [][2]rune{
	{0xb2, 0xb3}, {0xb9, 0xb9}, {0x1369, 0x1371}, {0x19da, 0x19da}, {0x2070, 0x2070},
	{0x2074, 0x2079}, {0x2080, 0x2089}, {0x2460, 0x2468}, {0x2474, 0x247c}, {0x2488, 0x2490},
	{0x24ea, 0x24ea}, {0x24f5, 0x24fd}, {0x24ff, 0x24ff}, {0x2776, 0x277e}, {0x2780, 0x2788},
	{0x278a, 0x2792}, {0x10a40, 0x10a43}, {0x10e60, 0x10e68}, {0x11052, 0x1105a}, {0x1f100, 0x1f10a},
}

func isDigit(c rune) bool {
	if unicode.Is(unicode.Nd, c) {
		return true
	}
	for _, r := range digitRanges {
		if c >= r[0] && c <= r[1] {
			return true
		}
	}
	return false
}

// hanNumerals are the ideographs with a numeric value (Unihan kPrimaryNumeric,
// kAccountingNumeric, kOtherNumeric) that Python's isnumeric knows.
const hanNumerals = "㐅㒃㠪㭍一七万三九二五亖亿什仟仨伍佰億兆兩八六十千卄卅卌叁参參叄四壱壹幺廾廿弌弍弎弐拾捌柒漆玖百肆萬貮貳贰阡陆陌陸零\uf96b\uf973\uf978\uf9b2\uf9d1\uf9d3\uf9fd\U00020001\U00020064\U000200e2\U00020121\U0002092a\U00020983\U0002098c\U0002099c\U00020aea\U00020afd\U00020b19\U00022390\U00022998\U00023b1b\U0002626d\U0002f890"

func isNumeric(c rune) bool {
	return unicode.Is(unicode.N, c) || strings.ContainsRune(hanNumerals, c)
}

// all reports whether s is not empty and every character satisfies ok.
func all(s string, ok func(rune) bool) bool {
	for _, c := range s {
		if !ok(c) {
			return false
		}
	}
	return s != ""
}

// isUpperStr and isLowerStr are Python's isupper and islower: some character
// has case, and all that have it are of the wanted one.
func isUpperStr(s string) bool {
	seen := false
	for _, c := range s {
		if unicode.In(c, unicode.Ll, unicode.Lt, unicode.Other_Lowercase) {
			return false
		}
		seen = seen || unicode.In(c, unicode.Lu, unicode.Other_Uppercase)
	}
	return seen
}

func isLowerStr(s string) bool {
	seen := false
	for _, c := range s {
		if unicode.In(c, unicode.Lu, unicode.Lt, unicode.Other_Uppercase) {
			return false
		}
		seen = seen || unicode.In(c, unicode.Ll, unicode.Other_Lowercase)
	}
	return seen
}

func isTitleStr(s string) bool {
	seen, afterCased := false, false
	for _, c := range s {
		switch {
		case unicode.In(c, unicode.Lu, unicode.Lt):
			if afterCased {
				return false
			}
			seen, afterCased = true, true
		case unicode.Is(unicode.Ll, c):
			if !afterCased {
				return false
			}
		default:
			afterCased = false
		}
	}
	return seen
}

// runeLen is Python's len of a str.
func runeLen(s string) int { return utf8.RuneCountInString(s) }

// byteOffset returns the byte position of the n-th character, for 0 <= n <= len.
func byteOffset(s string, n int) int {
	if isASCII(s) {
		return n
	}
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}
