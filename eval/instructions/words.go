package instructions

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// words cuts text into words and punctuation as NLTK's word_tokenize does:
// sentences by Punkt, then the rules of the Penn Treebank with NLTK's additions
// (nltk/tokenize/destructive.py 3.10).
func words(text string) []string {
	var out []string
	for _, s := range sentences(text) {
		out = append(out, treebank(s)...)
	}
	return out
}

// rule replaces what re matches.
type rule struct {
	re *regexp.Regexp
	to string
}

func rules(list ...string) []rule {
	var out []rule
	for i := 0; i < len(list); i += 2 {
		out = append(out, rule{regexp.MustCompile(strings.ReplaceAll(list[i], `\s`, `[`+spaceClass+`]`)), list[i+1]})
	}
	return out
}

var (
	openingQuotes = rules(
		"([«“‘„]|`+)", " $1 ",
		`^"`, "``",
		"(``)", " $1 ",
		`([ (\[{<])("|'{2})`, "$1 `` ",
	)
	punctuation = rules(
		`([^.])(\.)([\])}>"' »”’]*)\s*$`, "$1 $2 $3 ",
		`([:,])([^\p{Nd}])`, " $1 $2",
		`([:,])$`, " $1 ",
		`\.{2,}`, " $0 ",
		`[;@#$%&]`, " $0 ",
		`[\x{2012}-\x{2015}]`, " $0 ",
		`([^.])(\.)([\])}>"']*)\s*$`, "$1 $2$3 ",
		`[?!]`, " $0 ",
		`([^'])' `, "$1 ' ",
		`[*]`, " $0 ",
		`[\]\[(){}<>]`, " $0 ",
		`--`, " -- ",
	)
	closingQuotes = rules(
		`([»”’])`, " $1 ",
		`''`, " '' ",
		`"`, " '' ",
		`\s+`, " ",
		`([^' ])('[sS]|'[mM]|'[dD]|') `, "$1 $2 ",
		`([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) `, "$1 $2 ",
	)
)

// contractions are words that count as two: where the second begins.
var contractions = map[string]int{
	"cannot": 3, "gimme": 3, "gonna": 3, "gotta": 3, "lemme": 3, "wanna": 3,
}

func treebank(s string) []string {
	apply := func(list []rule) {
		for _, r := range list {
			s = r.re.ReplaceAllString(s, r.to)
		}
	}
	apply(openingQuotes)
	s = apartQuotes(s)
	apply(punctuation)
	s = " " + s + " "
	apply(closingQuotes)
	var out []string
	for _, w := range fields(s) {
		out = append(out, contracted(w)...)
	}
	return out
}

// apartQuotes puts a blank behind an apostrophe that begins a word, unless it
// begins a clitic such as 're: (?<!\w)(')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w).
func apartQuotes(s string) string {
	var out strings.Builder
	before := rune(' ')
	for i, r := range s {
		out.WriteRune(r)
		if r == '\'' && !isWord(before) {
			next, _ := utf8.DecodeRuneInString(s[i+1:])
			if s[i+1:] != "" && isWord(next) && !clitic(s[i+1:]) {
				out.WriteByte(' ')
			}
		}
		before = r
	}
	return out.String()
}

func clitic(s string) bool {
	word := strings.ToLower(leading(s))
	switch word {
	case "re", "ve", "ll", "m", "t", "s", "d", "n":
		return true
	}
	return false
}

// leading is the run of word characters at the beginning of s.
func leading(s string) string {
	if end := strings.IndexFunc(s, func(r rune) bool { return !isWord(r) }); end >= 0 {
		return s[:end]
	}
	return s
}

// contracted cuts the contractions out of a word: "cannot" is "can" and "not",
// also as part of a hyphenated word.
func contracted(w string) []string {
	var out []string
	start := 0
	for i := 0; i < len(w); {
		r, size := utf8.DecodeRuneInString(w[i:])
		if !isWord(r) {
			i += size
			continue
		}
		run := leading(w[i:])
		if at := contractions[strings.ToLower(run)]; at > 0 && (!strings.EqualFold(run, "wanna") || i+len(run) == len(w)) {
			out = append(out, w[start:i], run[:at], run[at:])
			start = i + len(run)
		}
		i += len(run)
	}
	out = append(out, w[start:])
	kept := out[:0]
	for _, p := range out {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return splitApostrophe(kept)
}

// splitApostrophe cuts "d'ye", "more'n", "'tis" and "'twas".
func splitApostrophe(list []string) []string {
	var out []string
	for _, w := range list {
		l := strings.ToLower(w)
		at := 0
		switch {
		case hasWord(l, "d'ye"):
			at = 1
		case hasWord(l, "more'n"):
			at = 4
		case hasWord(l, "'tis"), hasWord(l, "'twas"):
			at = 2
		}
		if at > 0 && len(l) == len(w) {
			out = append(out, w[:at], w[at:])
			continue
		}
		out = append(out, w)
	}
	return out
}

// hasWord says that s begins with word and that no letter follows.
func hasWord(s, word string) bool {
	rest, ok := strings.CutPrefix(s, word)
	r, _ := utf8.DecodeRuneInString(rest)
	return ok && (rest == "" || !unicode.IsLetter(r) && !isWord(r))
}
