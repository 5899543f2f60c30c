package instructions

import (
	"strings"
	"unicode"
)

// Python's classes of characters, which are Unicode's where Go's regexp knows
// ASCII: \w is isalnum and the underscore, \s is str.isspace.
const (
	wordClass  = `\p{L}\p{N}_`
	spaceClass = `\t-\r\x1c-\x20\x{85}\p{Z}`
)

func isWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) }

// isSpace is Python's str.isspace.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

func trim(s string) string { return strings.TrimFunc(s, isSpace) }

func fields(s string) []string { return strings.FieldsFunc(s, isSpace) }

func upper(r rune) bool { return unicode.IsUpper(r) || unicode.Is(unicode.Other_Uppercase, r) }

func lower(r rune) bool { return unicode.IsLower(r) || unicode.Is(unicode.Other_Lowercase, r) }

// isUpper is Python's str.isupper: there is a cased character, and all cased
// characters are upper case.
func isUpper(s string) bool { return allCased(s, upper, lower) }

// isLower is Python's str.islower.
func isLower(s string) bool { return allCased(s, lower, upper) }

func allCased(s string, good, bad func(rune) bool) bool {
	found := false
	for _, r := range s {
		switch {
		case bad(r) || unicode.IsTitle(r):
			return false
		case good(r):
			found = true
		}
	}
	return found
}
