package instructions

import (
	"bytes"
	_ "embed"
	"math"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// The language of a text is told as langdetect 1.0.9 does, which IFEval uses:
// Bayes' rule over n-grams of one to three letters with its profiles of 55
// languages (Nakatani Shuyo, "Language Detection Library for Java", 2010).
// langdetect draws n-grams at random until it is sure, so that it may answer
// differently twice; here all n-grams of the text count once, without chance,
// and shares are rounded to a sixteenth of a natural logarithm.

//go:embed languages.gz
var languagesFile []byte

// share is the logarithm of an n-gram's share in a language.
type share struct {
	language uint8
	sixteens uint8 // -16 ln p
}

type languageTable struct {
	names  []string
	grams  map[string][]share
	vi     map[string]string // letter and combining mark to one letter
	han    map[rune]rune     // Chinese character to the one it counts as
	prior  float64           // added to each share
	weight [256]float64      // by share.sixteens: ln of the share with the prior
}

var languages = sync.OnceValue(func() *languageTable {
	t := &languageTable{grams: map[string][]share{}, vi: map[string]string{}, han: map[rune]rune{}}
	data := unpack(languagesFile)
	head, body, _ := bytes.Cut(data, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	t.names = strings.Fields(lines[0])
	vi := strings.Split(lines[1], "\t")
	letters, marks := []rune(vi[0]), []rune(vi[1])
	for m, mark := range marks {
		for l, to := range []rune(vi[2+m]) {
			t.vi[string(letters[l])+string(mark)] = string(to)
		}
	}
	for _, class := range lines[2:] {
		first, _ := utf8.DecodeRuneInString(class)
		for _, r := range class {
			t.han[r] = first
		}
	}
	gram := []byte{}
	for len(body) > 2 {
		shared, added := int(body[0]), int(body[1])
		gram = append(gram[:shared], body[2:2+added]...)
		n := int(body[2+added])
		body = body[3+added:]
		list := make([]share, n)
		for i := range list {
			list[i] = share{body[2*i], body[2*i+1]}
		}
		body = body[2*n:]
		t.grams[string(gram)] = list
	}
	t.prior = 0.5 / 10000
	for q := range t.weight {
		t.weight[q] = math.Log(math.Exp(-float64(q)/16) + t.prior)
	}
	return t
})

func knownLanguage(code string) bool { return slices.Contains(languages().names, code) }

// isLanguage says whether text is in the language of an ISO 639-1 code. A text
// without features (no letters, or all words in capitals) passes, as in IFEval.
func isLanguage(text, code string) bool {
	found := languages().detect(text)
	return found == "" || found == code
}

var (
	url   = regexp.MustCompile(`https?://[-_.?&~;+=/#0-9A-Za-z]{1,1000}`)
	email = regexp.MustCompile(`[-_.0-9A-Za-z]{1,64}@[-_0-9A-Za-z]{1,255}[-_.0-9A-Za-z]{1,255}`)
)

// detect names the likeliest language of text, "" if it has no features.
func (t *languageTable) detect(text string) string {
	text = url.ReplaceAllString(text, " ")
	text = email.ReplaceAllString(text, " ")
	runes := t.clean([]rune(t.compose(text)))

	log := make([]float64, len(t.names))
	floor := math.Log(t.prior)
	count := 0
	var last []rune // up to three letters, a blank first at the beginning of a word
	capital := false
	last = append(last, ' ')
	for _, r := range runes {
		r = t.normal(r)
		before := last[len(last)-1]
		if before == ' ' {
			last, capital = append(last[:0], ' '), false
			if r == ' ' {
				continue
			}
		} else if len(last) == 3 {
			last = append(last[:0], last[1:]...)
		}
		last = append(last, r)
		// A second capital in a row: words in capitals tell nothing.
		capital = upper(r) && (upper(before) || capital)
		if capital {
			continue
		}
		for n := 1; n <= len(last); n++ {
			list, ok := t.grams[string(last[len(last)-n:])]
			if !ok || n == 1 && r == ' ' {
				continue
			}
			count++
			for i := range log {
				log[i] += floor
			}
			for _, s := range list {
				log[s.language] += t.weight[s.sixteens] - floor
			}
		}
	}
	if count == 0 {
		return ""
	}
	return t.names[slices.Index(log, slices.Max(log))]
}

// compose joins Vietnamese letters with the combining mark behind them.
func (t *languageTable) compose(s string) string {
	var out strings.Builder
	for len(s) > 0 {
		_, n := utf8.DecodeRuneInString(s)
		if n < len(s) {
			_, m := utf8.DecodeRuneInString(s[n:])
			if to, ok := t.vi[s[:n+m]]; ok {
				out.WriteString(to)
				s = s[n+m:]
				continue
			}
		}
		out.WriteString(s[:n])
		s = s[n:]
	}
	return out.String()
}

// clean cuts at 10,000 characters, makes several blanks one, and takes Latin
// letters out of a text that is mostly in another script.
func (t *languageTable) clean(text []rune) []rune {
	out := make([]rune, 0, min(len(text), 10000))
	latin, other := 0, 0
	for i, r := range text[:min(len(text), 10000)] {
		if r == ' ' && i > 0 && text[i-1] == ' ' {
			continue
		}
		out = append(out, r)
		switch {
		case 'A' <= r && r <= 'z':
			latin++
		case r >= 0x300 && (r < 0x1e00 || r > 0x1eff):
			other++
		}
	}
	if latin*2 < other {
		out = slices.DeleteFunc(out, func(r rune) bool { return 'A' <= r && r <= 'z' })
	}
	return out
}

// normal makes one character of those that tell no languages apart.
func (t *languageTable) normal(r rune) rune {
	switch {
	case r < 0x80:
		if 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' {
			return r
		}
		return ' '
	case r == 0xa0, r == 0xab, r == 0xb0, r == 0xbb, 0x2000 <= r && r <= 0x206f:
		return ' '
	case r == 0x219: // Romanian s and t with comma, in the profiles with cedilla
		return 0x15f
	case r == 0x21b:
		return 0x163
	case r == 0x6cc: // Persian yeh
		return 0x64a
	case 0x1ea0 <= r && r <= 0x1eff:
		return 0x1ec3
	case 0x3040 <= r && r <= 0x309f:
		return 0x3042
	case 0x30a0 <= r && r <= 0x30ff:
		return 0x30a2
	case 0x3100 <= r && r <= 0x312f, 0x31a0 <= r && r <= 0x31bf:
		return 0x3105
	case 0xac00 <= r && r <= 0xd7af:
		return 0xac00
	}
	if to, ok := t.han[r]; ok {
		return to
	}
	return r
}
