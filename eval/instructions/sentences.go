package instructions

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Sentences are told by Punkt (Kiss and Strunk 2006, "Unsupervised Multilingual
// Sentence Boundary Detection") with NLTK's English model and NLTK's rules for
// tokens (nltk/tokenize/punkt.py 3.10), which IFEval uses.

// The table is made by _generate/models.py.
//
//go:embed punkt_english.gz
var punktFile []byte

// punktModel is what Punkt learnt of English.
type punktModel struct {
	abbreviations map[string]bool
	collocations  map[string]bool // "first second"
	starters      map[string]bool // words that often begin a sentence
	context       map[string]int  // how a word was seen, see the bits below
}

// Bits of punktModel.context: seen with an upper or lower case letter, at the
// beginning or in the middle of a sentence.
const (
	midUpper = 1 << 2
	anyUpper = 1<<1 | 1<<2 | 1<<3
	begLower = 1 << 4
	anyLower = 1<<4 | 1<<5 | 1<<6
)

var punkt = sync.OnceValue(func() punktModel {
	m := punktModel{map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]int{}}
	for line := range strings.Lines(string(unpack(punktFile))) {
		kind, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		switch kind {
		case "a":
			m.abbreviations[text] = true
		case "c":
			m.collocations[text] = true
		case "s":
			m.starters[text] = true
		default:
			m.context[text], _ = strconv.Atoi(kind)
		}
	}
	return m
})

// unpack reads an embedded table; it is part of the program, tests read it.
func unpack(file []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		panic(fmt.Sprintf("an embedded table of package instructions is broken: %v", err))
	}
	text, err := io.ReadAll(r)
	if err != nil {
		panic(fmt.Sprintf("an embedded table of package instructions is broken: %v", err))
	}
	return text
}

// Characters that end a word of Punkt, apart from white space.
const nonWord = `)";}]*:@'({[‘’“”«»?!`

// sentences cuts text into sentences.
func sentences(text string) []string {
	var cuts [][2]int // of every sentence, before realignment
	start := 0
	for _, e := range ends(text) {
		if punkt().breaks(text[e.from:e.to]) {
			cuts = append(cuts, [2]int{start, e.after})
			start = e.next
		}
	}
	cuts = append(cuts, [2]int{start, len(strings.TrimRightFunc(text, isSpace))})

	// Closing quotes and brackets behind a period belong to its sentence.
	var out []string
	shift := 0
	for i, c := range cuts {
		from := c[0] + shift
		if i+1 < len(cuts) {
			if m := closing.FindString(text[cuts[i+1][0]:max(cuts[i+1][0], cuts[i+1][1])]); m != "" {
				out = append(out, text[from:cuts[i+1][0]+len(strings.TrimRightFunc(m, isSpace))])
				shift = len(m)
				continue
			}
		}
		shift = 0
		if from < c[1] {
			out = append(out, text[from:c[1]])
		}
	}
	return out
}

var closing = regexp.MustCompile(`(?m)\A["')\]}‘’“”«»]+?(?:[` + spaceClass + `]+|--|$)`)

// end is a period, question or exclamation mark that may end a sentence.
type end struct {
	after    int // index behind the mark
	from, to int // the text that decides: the word before, the mark, what follows
	next     int // where the next sentence would begin
}

// ends finds the marks that may end a sentence: followed by punctuation, or by
// white space and another word. Of several marks in one word the last counts.
func ends(text string) []end {
	var out []end
	var last *end
	prevFrom, prevStop := 0, 0
	for i := 0; i < len(text); i++ {
		if c := text[i]; c != '.' && c != '?' && c != '!' {
			continue
		}
		rest := text[i+1:]
		r, size := utf8.DecodeRuneInString(rest)
		e := end{after: i + 1}
		switch {
		case rest == "":
			continue
		case strings.ContainsRune(nonWord, r):
			e.to, e.next = i+1+size, i+1
		case isSpace(r):
			blank := len(rest) - len(strings.TrimLeftFunc(rest, isSpace))
			word := strings.IndexFunc(rest[blank:], isSpace)
			if word < 0 {
				word = len(rest) - blank
			}
			if word == 0 {
				continue // only white space follows
			}
			e.next, e.to = i+1+blank, i+1+blank+word
		default:
			continue
		}
		// The word before: from behind the last white space since the mark before.
		from := strings.LastIndexAny(text[prevStop:i], " \t\n\r\v\f")
		if from > 0 {
			from += prevStop + 1
		} else {
			from = prevFrom
		}
		if last != nil && prevStop <= from {
			out = append(out, *last)
		}
		e.from = from
		last, prevFrom, prevStop = &e, from, i
	}
	if last != nil {
		out = append(out, *last)
	}
	return out
}

// token is a token with what Punkt finds of it.
type token struct {
	text                   string
	typ                    string // lower case, numbers as ##number##
	breaks, abbr, ellipsis bool
}

var (
	numeric  = regexp.MustCompile(`\A-?[.,]?\p{Nd}[\p{Nd},.-]*\.?\n?\z`)
	ellipsis = regexp.MustCompile(`\A\.\.+\n?\z`)
)

func newToken(text string) token {
	typ := strings.ToLower(text)
	if numeric.MatchString(typ) {
		typ = "##number##"
	}
	return token{text: text, typ: typ}
}

// withoutPeriod is the type without its period.
func (t token) withoutPeriod() string {
	if utf8.RuneCountInString(t.typ) > 1 {
		return strings.TrimSuffix(t.typ, ".")
	}
	return t.typ
}

// withoutSentencePeriod is the same for a period that ends a sentence.
func (t token) withoutSentencePeriod() string {
	if t.breaks {
		return t.withoutPeriod()
	}
	return t.typ
}

// initial says that t is one letter and a period.
func (t token) initial() bool {
	r, size := utf8.DecodeRuneInString(t.text)
	return isWord(r) && !unicode.Is(unicode.Nd, r) && t.text[size:] == "."
}

func (t token) first() rune { r, _ := utf8.DecodeRuneInString(t.text); return r }

// breaks says whether text, a word that ends with a mark and what follows it,
// holds an end of a sentence before its last token.
func (m punktModel) breaks(text string) bool {
	var tokens []token
	for line := range strings.SplitSeq(text, "\n") {
		if trim(line) == "" {
			continue
		}
		for _, w := range punktWords(line) {
			t := newToken(w)
			m.byType(&t)
			tokens = append(tokens, t)
		}
	}
	for i := range tokens {
		if i+1 == len(tokens) {
			return false
		}
		m.byContext(&tokens[i], tokens[i+1])
		if tokens[i].breaks {
			return true
		}
	}
	return false
}

// byType is the first pass: a decision by the token alone.
func (m punktModel) byType(t *token) {
	switch {
	case t.text == "." || t.text == "?" || t.text == "!":
		t.breaks = true
	case ellipsis.MatchString(t.text):
		t.ellipsis = true
	case strings.HasSuffix(t.text, ".") && !strings.HasSuffix(t.text, ".."):
		w := strings.ToLower(strings.TrimSuffix(t.text, "."))
		t.abbr = m.abbreviations[w] || m.abbreviations[w[strings.LastIndex(w, "-")+1:]]
		t.breaks = !t.abbr
	}
}

// byContext is the second pass: the next token may change the decision.
func (m punktModel) byContext(t *token, next token) {
	if !strings.HasSuffix(t.text, ".") {
		return
	}
	typ, nextTyp := t.withoutPeriod(), next.withoutSentencePeriod()
	if m.collocations[typ+" "+nextTyp] {
		t.breaks, t.abbr = false, true
		return
	}
	starts, known := m.starts(next)
	if (t.abbr || t.ellipsis) && !t.initial() {
		if known && starts || upper(next.first()) && m.starters[nextTyp] {
			t.breaks = true
			return
		}
	}
	if t.initial() || typ == "##number##" {
		switch {
		case known && !starts,
			!known && t.initial() && upper(next.first()) && m.context[nextTyp]&anyLower == 0:
			t.breaks, t.abbr = false, true
		}
	}
}

// starts says whether t begins a sentence, by its spelling and how it was seen
// spelled, if that is known.
func (m punktModel) starts(t token) (starts, known bool) {
	if len(t.text) == 1 && strings.Contains(";:,.!?", t.text) {
		return false, true
	}
	seen := m.context[t.withoutSentencePeriod()]
	switch first := t.first(); {
	case upper(first) && seen&anyLower != 0 && seen&midUpper == 0:
		return true, true
	case lower(first) && (seen&anyUpper != 0 || seen&begLower == 0):
		return false, true
	}
	return false, false
}

// multi is punctuation of several characters: dashes, dots, dots with blanks.
var multi = regexp.MustCompile(`\A(?:-{2,}|\.{2,}|(?:\.[` + spaceClass + `]){2,}\.)`)

// punktWords cuts a line into Punkt's tokens: punctuation apart from periods is
// cut off, periods stay with their word.
func punktWords(line string) []string {
	var out []string
	for i := 0; i < len(line); {
		r, size := utf8.DecodeRuneInString(line[i:])
		if isSpace(r) {
			// A multi-character token never begins with white space.
			i += size
			continue
		}
		if m := multi.FindString(line[i:]); m != "" {
			out = append(out, m)
			i += len(m)
			continue
		}
		if strings.ContainsRune("(\"`{[:;&#*@)}]-,", r) {
			out = append(out, line[i:i+size])
			i += size
			continue
		}
		j := i + size
		for j < len(line) && !endsWord(line[j:]) {
			_, s := utf8.DecodeRuneInString(line[j:])
			j += s
		}
		out = append(out, line[i:j])
		i = j
	}
	return out
}

// endsWord says that a word ends before rest.
func endsWord(rest string) bool {
	r, size := utf8.DecodeRuneInString(rest)
	if isSpace(r) || strings.ContainsRune(nonWord, r) || multi.MatchString(rest) {
		return true
	}
	if r != ',' {
		return false
	}
	after := rest[size:]
	r, _ = utf8.DecodeRuneInString(after)
	return after == "" || isSpace(r) || strings.ContainsRune(nonWord, r) || multi.MatchString(after)
}
