package tokenizer

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

// unicodeScript asks Python tokenizers about many code points: the runs that a
// pre-tokenizer keeps, and what the normalizers make of each code point and of
// each between combining marks of the lowest and the highest class.
const unicodeScript = `
import json, sys
from tokenizers import Regex, normalizers as N, pre_tokenizers as P
question = json.load(sys.stdin)
text = "".join(map(chr, question["chars"]))
chars = [c for c in text if c != "\n"]
def runs(pt):
    return [[ord(p[0]), ord(p[-1])] for p, _ in pt.pre_tokenize_str(text)]
out = {"not": {n: runs(P.Split(Regex(r), "removed")) for n, r in question["classes"].items()}}
out["numeric"] = runs(P.Digits(False))
out["not"]["white"] = runs(P.WhitespaceSplit())
out["not"]["punctuation"] = runs(P.Punctuation("removed"))
def norm(n, before, after):
    f, s = getattr(N, n)(), "\n"
    got = f.normalize_str(s.join(before + c + after for c in chars)).split(s)
    return {str(ord(c)): g for c, g in zip(chars, got) if g != before + c + after}
for n in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase"]:
    out[n] = norm(n, "", "")
for n in ["NFC", "NFD", "NFKC", "NFKD"]:
    out[n + "marks"] = norm(n, "a\u0345", "\u0334")
json.dump(out, sys.stdout)
`

func TestUnicodeTables(t *testing.T) {
	t.Parallel()
	classes := map[string]string{"L": `\p{L}`, "N": `\p{N}`, "M": `\p{M}`, "P": `\p{P}`, "S": `\p{S}`, "Lu": `\p{Lu}`, "Ll": `\p{Ll}`,
		"Lt": `\p{Lt}`, "Lm": `\p{Lm}`, "Lo": `\p{Lo}`, "s": `\s`, "d": `\d`}
	var chars []rune
	eachRune(func(r rune) { chars = append(chars, r) })
	question, err := json.Marshal(map[string]any{"classes": classes, "chars": chars})
	if err != nil {
		t.Fatal(err)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(oracle.Run(t, unicodeScript, question), &raw); err != nil {
		t.Fatal(err)
	}
	var kept map[string][][2]rune
	if err := json.Unmarshal(raw["not"], &kept); err != nil {
		t.Fatal(err)
	}
	table := newClassTable()
	in := func(category string) func(rune) bool {
		more := late(category)
		return func(r rune) bool { return unicode.Is(unicode.Categories[category], r) || more.has(r) }
	}
	has := map[string]func(rune) bool{
		"s": unicode.IsSpace, "white": unicode.IsSpace, "punctuation": isPunctuation,
		"d": func(r rune) bool { return unicode.IsDigit(r) || lateN.has(r) },
	}
	for category := range classes {
		if has[category] == nil {
			has[category] = in(category)
		}
	}
	for name, f := range has {
		not := make([]bool, unicode.MaxRune+1)
		for _, run := range kept[name] {
			for r := run[0]; r <= run[1]; r++ {
				not[r] = true
			}
		}
		eachRune(func(r rune) {
			if f(r) == not[r] {
				t.Errorf("U+%04X: class %s is %t, want %t", r, name, f(r), !not[r])
			}
			class := map[string]uint8{"L": classLetter, "N": classNumber, "s": classSpace}[name]
			if class != 0 && (table.class(r)&class != 0) == not[r] {
				t.Errorf("U+%04X: the scanners' class %s is %t, want %t", r, name, not[r], !not[r])
			}
		})
	}
	compareRuns(t, raw["numeric"], "numeric", isNumeric)
	testNormalForms(t, raw)
}

// eachRune calls f for every code point but those inside large uniform blocks:
// ideographs, Hangul syllables, private use, unassigned planes.
func eachRune(f func(rune)) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if utf8.ValidRune(r) && varied(r) {
			f(r)
		}
	}
}

func varied(r rune) bool {
	for _, b := range []block{{0x3410, 0x4DA0}, {0x4E10, 0x9FF0}, {0xAC80, 0xD780}, {0xE010, 0xF8F0}, {0x20010, 0x2F7F0}, {0x2FA30, 0xDFFF0}, {0xE0200, 0x10FFF0}} {
		if b.lo <= r && r <= b.hi {
			return false
		}
	}
	return true
}

// compareRuns checks that f changes where a run of Python's begins, and only
// there.
func compareRuns(t *testing.T, raw json.RawMessage, name string, f func(rune) bool) {
	t.Helper()
	var runs [][2]rune
	if err := json.Unmarshal(raw, &runs); err != nil {
		t.Fatal(err)
	}
	begins := map[rune]bool{}
	for _, run := range runs {
		begins[run[0]] = true
	}
	last := false
	eachRune(func(r rune) {
		if r > 0 && (f(r) != last) != begins[r] {
			t.Errorf("U+%04X: %s is %t after %t, and Python's run begins here: %t", r, name, f(r), last, begins[r])
		}
		last = f(r)
	})
}

func testNormalForms(t *testing.T, raw map[string]json.RawMessage) {
	t.Helper()
	check := func(key, before, after string, f func(string) string) {
		var want map[string]string
		if err := json.Unmarshal(raw[key], &want); err != nil {
			t.Fatal(err)
		}
		if len(want) == 0 {
			t.Errorf("Python's %s changes nothing", key)
		}
		bad := 0
		eachRune(func(r rune) {
			if r == '\n' || bad > 20 {
				return
			}
			s := before + string(r) + after
			w, ok := want[itoa(r)]
			if !ok {
				w = s
			}
			if got := f(s); got != w {
				t.Errorf("%s(%+q) = %+q, want %+q", key, s, got, w)
				bad++
			}
		})
	}
	for _, name := range []string{"NFC", "NFD", "NFKC", "NFKD"} {
		form, ok := newUnicodeForm(name)
		if !ok {
			t.Fatalf("no form %s", name)
		}
		check(name, "", "", form.normalize)
		check(name+"marks", "a\u0345", "\u0334", form.normalize)
	}
	check("Lowercase", "", "", lowercase)
}

func itoa(r rune) string {
	b, _ := json.Marshal(r)
	return string(b)
}

// TestWordClass compares isWord with the Whitespace pre-tokenizer.
func TestWordClass(t *testing.T) {
	t.Parallel()
	const script = `
import json, sys
from tokenizers import pre_tokenizers as P
pt = P.Whitespace()
# "_c" is one piece where c is a word character, two where it is not.
text = " ".join("_" + chr(c) for c in json.load(sys.stdin))
pieces = [p for p, _ in pt.pre_tokenize_str(text)]
print(json.dumps([ord(p[1]) for p in pieces if p[0] == "_" and len(p) == 2]))
`
	var chars, list []rune
	eachRune(func(r rune) { chars = append(chars, r) })
	question, err := json.Marshal(chars)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(oracle.Run(t, script, question), &list); err != nil {
		t.Fatal(err)
	}
	want := map[rune]bool{}
	for _, r := range list {
		want[r] = true
	}
	eachRune(func(r rune) {
		if isWord(r) != want[r] {
			t.Errorf("U+%04X: isWord is %t, want %t", r, isWord(r), want[r])
		}
	})
}

// TestScanners compares the hand-written scanners with the regular expressions
// they stand for.
func TestScanners(t *testing.T) {
	c := newCorpus(t, mustParse(t, tinyJSON(nil)), 11)
	texts := c.long()
	for i := range texts {
		texts[i] = strings.ToValidUTF8(texts[i][:2000], "")
	}
	for range 3000 {
		texts = append(texts, c.text())
	}
	for _, pattern := range []string{gpt2Pattern, qwen2Pattern, llama3Pattern} {
		re, err := newRegexMatcher(pattern)
		if err != nil {
			t.Fatal(err)
		}
		scan := scanMatcher{newScanner(pattern)}
		for _, s := range texts {
			got, want := scan.spans(nil, s), re.spans(nil, s)
			if len(got) != len(want) {
				t.Errorf("%s on %+q: %d pieces, want %d", pattern, s, len(got), len(want))
				continue
			}
			for i := range got {
				if got[i] != want[i] {
					t.Errorf("%s on %+q: piece %d is %+q, want %+q", pattern, s, i, s[got[i].start:got[i].end], s[want[i].start:want[i].end])
					break
				}
			}
		}
	}
}
