package instructions

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// relation gives the comparison of a relation's name.
func relation(name string, want int) (func(got int) bool, error) {
	switch name {
	case "less than":
		return func(got int) bool { return got < want }, nil
	case "at least":
		return func(got int) bool { return got >= want }, nil
	}
	return nil, fmt.Errorf(`relation %q, want "less than" or "at least"`, name)
}

// counted checks a count by a relation.
func counted(name string, want int, count func(string) int) (func(string) bool, error) {
	if want <= 0 {
		return nil, fmt.Errorf("the number is %d, want at least 1", want)
	}
	holds, err := relation(name, want)
	if err != nil {
		return nil, err
	}
	return func(r string) bool { return holds(count(r)) }, nil
}

// atLeast checks that there are want of something.
func atLeast(want int, count func(string) int) (func(string) bool, error) {
	return counted("at least", want, count)
}

// pattern compiles a keyword, which Python reads as a regular expression; one
// that is none stands for itself.
func pattern(word string) string {
	if _, err := regexp.Compile(word); err != nil {
		return regexp.QuoteMeta(word)
	}
	return word
}

func keywordsExist(a Args) (func(string) bool, error) {
	if len(a.Keywords) == 0 {
		return nil, errors.New("no keywords")
	}
	var words []*regexp.Regexp
	for _, k := range a.Keywords {
		words = append(words, regexp.MustCompile("(?i)"+pattern(k)))
	}
	return func(r string) bool {
		for _, w := range words {
			if !w.MatchString(r) {
				return false
			}
		}
		return true
	}, nil
}

func keywordFrequency(a Args) (func(string) bool, error) {
	if trim(a.Keyword) == "" {
		return nil, errors.New("no keyword")
	}
	word := regexp.MustCompile("(?i)" + pattern(trim(a.Keyword)))
	return counted(a.Relation, a.Frequency, func(r string) int { return len(word.FindAllStringIndex(r, -1)) })
}

func forbiddenWords(a Args) (func(string) bool, error) {
	if len(a.Forbidden) == 0 {
		return nil, errors.New("no forbidden words")
	}
	var words []*regexp.Regexp
	for _, w := range a.Forbidden {
		if w == "" {
			return nil, errors.New("an empty forbidden word")
		}
		// Go's \b knows ASCII only: a word boundary is spelled out.
		first, _ := utf8.DecodeRuneInString(w)
		last, _ := utf8.DecodeLastRuneInString(w)
		before, after := `(?:\A|[^`+wordClass+`])`, `(?:\z|[^`+wordClass+`])`
		if !isWord(first) {
			before = `[` + wordClass + `]`
		}
		if !isWord(last) {
			after = `[` + wordClass + `]`
		}
		words = append(words, regexp.MustCompile("(?i)"+before+"(?:"+pattern(w)+")"+after))
	}
	return func(r string) bool {
		for _, w := range words {
			if w.MatchString(r) {
				return false
			}
		}
		return true
	}, nil
}

func letterFrequency(a Args) (func(string) bool, error) {
	letter := strings.ToLower(trim(a.Letter))
	if utf8.RuneCountInString(letter) != 1 {
		return nil, fmt.Errorf("letter %q is not one letter", a.Letter)
	}
	return counted(a.LetterRelation, a.LetterFrequency, func(r string) int { return strings.Count(strings.ToLower(r), letter) })
}

func responseLanguage(a Args) (func(string) bool, error) {
	if a.Language == "" {
		return nil, errors.New("no language")
	}
	if !knownLanguage(a.Language) {
		return nil, fmt.Errorf("language %q is not one that is told apart here", a.Language)
	}
	return func(r string) bool { return isLanguage(r, a.Language) }, nil
}

func numberSentences(a Args) (func(string) bool, error) {
	return counted(a.Relation, a.NumSentences, func(r string) int { return len(sentences(r)) })
}

var divider = regexp.MustCompile(`[` + spaceClass + `]?\*\*\*[` + spaceClass + `]?`)

func numberParagraphs(a Args) (func(string) bool, error) {
	if a.NumParagraphs <= 0 {
		return nil, errors.New("no number of paragraphs")
	}
	return func(r string) bool {
		parts := divider.Split(r, -1)
		n := len(parts)
		for i, p := range parts {
			if trim(p) != "" {
				continue
			}
			if i > 0 && i < len(parts)-1 {
				return false
			}
			n--
		}
		return n == a.NumParagraphs
	}, nil
}

// A word, for counting, is what \w+ matches for NLTK since 3.10 (its regular
// expressions are those of the regex package): with combining marks, so that a
// word of Hindi or Tamil is one. With Python's re, which NLTK used before, the
// vowel signs cut it into pieces.
var word = regexp.MustCompile(`[\p{L}\p{Nl}\p{M}\p{Nd}\p{Pc}\x{24b6}-\x{24e9}\x{200c}\x{200d}]+`)

func numberWords(a Args) (func(string) bool, error) {
	return counted(a.Relation, a.NumWords, func(r string) int { return len(word.FindAllStringIndex(r, -1)) })
}

func nthParagraph(a Args) (func(string) bool, error) {
	if a.NumParagraphs <= 0 || a.NthParagraph <= 0 || a.NthParagraph > a.NumParagraphs || a.FirstWord == "" {
		return nil, fmt.Errorf("paragraph %d of %d with the first word %q", a.NthParagraph, a.NumParagraphs, a.FirstWord)
	}
	want := strings.ToLower(a.FirstWord)
	return func(r string) bool {
		parts := strings.Split(r, "\n\n")
		n := 0
		for _, p := range parts {
			if trim(p) != "" {
				n++
			}
		}
		// As in the Python code, n counts filled paragraphs, the index all.
		if a.NthParagraph > n {
			return false
		}
		words := fields(parts[a.NthParagraph-1])
		if len(words) == 0 {
			return false
		}
		first := strings.TrimLeft(strings.TrimLeft(words[0], "'"), `"`)
		if end := strings.IndexAny(first, `.,?!'"`); end >= 0 {
			first = first[:end]
		}
		return n == a.NumParagraphs && strings.ToLower(first) == want
	}, nil
}

var placeholder = regexp.MustCompile(`\[.*?\]`)

func placeholders(a Args) (func(string) bool, error) {
	return atLeast(a.NumPlaceholders, func(r string) int { return len(placeholder.FindAllStringIndex(r, -1)) })
}

func postscript(a Args) (func(string) bool, error) {
	var p string
	switch marker := trim(a.Postscript); marker {
	case "":
		return nil, errors.New("no postscript marker")
	case "P.P.S":
		p = `p\.[` + spaceClass + `]?p\.[` + spaceClass + `]?s`
	case "P.S.":
		p = `p\.[` + spaceClass + `]?s\.`
	default:
		p = pattern(strings.ToLower(marker))
	}
	re := regexp.MustCompile(p)
	return func(r string) bool { return re.MatchString(strings.ToLower(r)) }, nil
}

var (
	starBullet = regexp.MustCompile(`(?m)^[` + spaceClass + `]*\*[^*].*$`)
	dashBullet = regexp.MustCompile(`(?m)^[` + spaceClass + `]*-.*$`)
)

func bullets(a Args) (func(string) bool, error) {
	if a.NumBullets <= 0 {
		return nil, errors.New("no number of bullets")
	}
	return func(r string) bool {
		return len(starBullet.FindAllStringIndex(r, -1))+len(dashBullet.FindAllStringIndex(r, -1)) == a.NumBullets
	}, nil
}

func constrained(r string) bool {
	for _, option := range []string{"My answer is yes.", "My answer is no.", "My answer is maybe."} {
		if strings.Contains(r, option) {
			return true
		}
	}
	return false
}

var (
	highlight       = regexp.MustCompile(`\*[^\n*]*\*`)
	doubleHighlight = regexp.MustCompile(`\*\*[^\n*]*\*\*`)
)

func highlights(a Args) (func(string) bool, error) {
	return atLeast(a.NumHighlights, func(r string) int {
		n := 0
		for _, re := range []*regexp.Regexp{highlight, doubleHighlight} {
			for _, h := range re.FindAllString(r, -1) {
				if trim(strings.Trim(h, "*")) != "" {
					n++
				}
			}
		}
		return n
	})
}

func sections(a Args) (func(string) bool, error) {
	splitter := trim(a.SectionSplitter)
	if splitter == "" {
		return nil, errors.New("no word that begins a section")
	}
	re := regexp.MustCompile(`[` + spaceClass + `]?` + pattern(splitter) + `[` + spaceClass + `]?\p{Nd}+[` + spaceClass + `]?`)
	return atLeast(a.NumSections, func(r string) int { return len(re.FindAllStringIndex(r, -1)) })
}

func isJSON(r string) bool {
	r = trim(r)
	for _, p := range []string{"```json", "```Json", "```JSON", "```"} {
		r = strings.TrimPrefix(r, p)
	}
	r = trim(strings.TrimSuffix(r, "```"))
	return json.Valid([]byte(plainNumbers(r)))
}

// plainNumbers puts null for what Python's json takes and the format does not
// know: NaN, Infinity and -Infinity outside of strings.
func plainNumbers(s string) string {
	var out strings.Builder
	inString, escaped := false, false
	for i := 0; i < len(s); i++ {
		if !inString {
			if n := notFinite(s[i:]); n > 0 {
				out.WriteString("null")
				i += n - 1
				continue
			}
		}
		switch c := s[i]; {
		case escaped:
			escaped = false
		case inString && c == '\\':
			escaped = true
		case c == '"':
			inString = !inString
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

func notFinite(s string) int {
	for _, w := range []string{"NaN", "Infinity", "-Infinity"} {
		if strings.HasPrefix(s, w) {
			return len(w)
		}
	}
	return 0
}

var title = regexp.MustCompile(`<<[^\n]+>>`)

func hasTitle(r string) bool {
	for _, t := range title.FindAllString(r, -1) {
		if trim(strings.TrimRight(strings.TrimLeft(t, "<"), ">")) != "" {
			return true
		}
	}
	return false
}

func twoResponses(r string) bool {
	parts := strings.Split(r, "******")
	var answers []string
	for i, p := range parts {
		switch p = trim(p); {
		case p != "":
			answers = append(answers, p)
		case i > 0 && i < len(parts)-1:
			return false
		}
	}
	return len(answers) == 2 && answers[0] != answers[1]
}

func repeatPrompt(a Args) (func(string) bool, error) {
	want := strings.ToLower(trim(a.RepeatPrompt))
	if want == "" {
		return nil, errors.New("no prompt to repeat")
	}
	return func(r string) bool { return strings.HasPrefix(strings.ToLower(trim(r)), want) }, nil
}

func endPhrase(a Args) (func(string) bool, error) {
	want := strings.ToLower(trim(a.EndPhrase))
	if want == "" {
		return nil, errors.New("no phrase to end with")
	}
	return func(r string) bool { return strings.HasSuffix(strings.ToLower(strings.Trim(trim(r), `"`)), want) }, nil
}

func quoted(r string) bool {
	r = trim(r)
	return utf8.RuneCountInString(r) > 1 && r[0] == '"' && r[len(r)-1] == '"'
}

func capitalWords(a Args) (func(string) bool, error) {
	return counted(a.CapitalRelation, a.CapitalWords, func(r string) int {
		n := 0
		for _, w := range words(r) {
			if isUpper(w) {
				n++
			}
		}
		return n
	})
}

func englishCapital(r string) bool { return isUpper(r) && isLanguage(r, "en") }

func englishLowercase(r string) bool { return isLower(r) && isLanguage(r, "en") }

func noComma(r string) bool { return !strings.Contains(r, ",") }
