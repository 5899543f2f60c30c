package tokenizer

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

// stories are the tokenizer of the sample inside the program, and the
// SentencePiece model it was made from (llama2.c's tok512.bin).
const (
	stories      = "../samples/stories260K/tokenizer.json"
	storiesScore = "testdata/tok512.bin"
)

// reading is n bytes of prose and code in the order they stand in: the texts,
// pages and sources of this repository.
func reading(t testing.TB, n int) string {
	t.Helper()
	var b strings.Builder
	for _, pattern := range []string{"../calibrate/layerwise/text.txt", "../verify/text.txt", "../*.md", "../docs/*.md", "../docs/*/*.md", "../*/*.go", "../*/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if b.Write(data); b.Len() >= n {
				return strings.ToValidUTF8(b.String()[:n], "")
			}
		}
	}
	t.Fatalf("this repository has %d bytes to read, want %d", b.Len(), n)
	return ""
}

// sharedData gives the path of a file of the shared test data: in the folder of
// LLAMA_PAJAMAS_SHARED_DATA, else in shared/data beside the repository or a
// folder above it. "" where there is none.
func sharedData(t testing.TB, name string) string {
	t.Helper()
	if dir := os.Getenv("LLAMA_PAJAMAS_SHARED_DATA"); dir != "" {
		return filepath.Join(dir, name)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		p := filepath.Join(dir, "shared", "data", name)
		if _, err := os.Stat(p); err == nil {
			return p
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}

// corpus makes texts of many kinds from a seed.
type corpus struct {
	*rand.Rand
	prose []string // slices of real text are cut from these
	names []string // spelled tokens: special ones and others of the vocabulary
}

func newCorpus(t testing.TB, tk *Tokenizer, seed uint64) *corpus {
	c := &corpus{Rand: rand.New(rand.NewPCG(seed, 20251125))}
	for _, name := range []string{"wikitext-2-raw/wiki.test.raw", "tinystories_sample.txt", "questions/humaneval.jsonl", "questions/gsm8k_test_300.jsonl"} {
		if p := sharedData(t, name); p != "" {
			b, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			c.prose = append(c.prose, string(b))
			if strings.HasSuffix(name, ".jsonl") { // unescape: code with its line breaks
				for line := range strings.Lines(string(b)) {
					var fields map[string]any
					if json.Unmarshal([]byte(line), &fields) == nil {
						for _, key := range []string{"prompt", "canonical_solution", "question"} {
							if s, ok := fields[key].(string); ok {
								c.prose = append(c.prose, s)
							}
						}
					}
				}
			}
		}
	}
	if c.prose == nil {
		c.prose = []string{"The quick brown fox doesn't jump over 13 lazy dogs; it's 9.81 m/s² — naïve, isn't it?\n\tdef f(x):\n\t\treturn x**2\r\n"}
	}
	for _, a := range tk.AddedTokens() {
		c.names = append(c.names, a.Content)
	}
	for range 300 {
		if s, ok := tk.Token(int32(c.IntN(tk.VocabSize()))); ok {
			c.names = append(c.names, s)
		}
	}
	return c
}

func (c *corpus) pick(list []string) string { return list[c.IntN(len(list))] }

// slice cuts real text.
func (c *corpus) slice() string {
	s := c.pick(c.prose)
	n := min(len(s), 1+c.IntN(120))
	i := c.IntN(len(s) - n + 1)
	return strings.ToValidUTF8(s[i:i+n], "")
}

// block is a range of code points of one script or kind.
type block struct{ lo, hi rune }

func blocks() []block {
	return []block{
		{'a', 'z'}, {'A', 'Z'}, {' ', '~'}, {0xA0, 0xFF}, {0x100, 0x24F}, {0x250, 0x2FF}, {0x300, 0x36F}, {0x370, 0x3FF}, {0x400, 0x52F},
		{0x530, 0x58F}, {0x590, 0x5FF}, {0x600, 0x6FF}, {0x700, 0x74F}, {0x900, 0x97F}, {0x980, 0x9FF}, {0xB80, 0xBFF}, {0xE00, 0xE7F},
		{0xE80, 0xEFF}, {0xF00, 0xFFF}, {0x1000, 0x109F}, {0x10A0, 0x10FF}, {0x1100, 0x11FF}, {0x1200, 0x137F}, {0x13A0, 0x13FF},
		{0x1780, 0x17FF}, {0x1800, 0x18AF}, {0x1E00, 0x1EFF}, {0x1F00, 0x1FFF}, {0x2000, 0x206F}, {0x2070, 0x209F}, {0x20A0, 0x20CF},
		{0x2100, 0x218F}, {0x2190, 0x22FF}, {0x2300, 0x23FF}, {0x2460, 0x24FF}, {0x2500, 0x25FF}, {0x2600, 0x27BF}, {0x2E80, 0x2FDF},
		{0x3000, 0x303F}, {0x3040, 0x309F}, {0x30A0, 0x30FF}, {0x3130, 0x318F}, {0x3200, 0x33FF}, {0x3400, 0x4DBF}, {0x4E00, 0x9FFF},
		{0xA000, 0xA4CF}, {0xA640, 0xA69F}, {0xA720, 0xA7FF}, {0xAC00, 0xD7A3}, {0xE000, 0xF8FF}, {0xF900, 0xFAFF}, {0xFB00, 0xFB4F},
		{0xFB50, 0xFDFF}, {0xFE00, 0xFE0F}, {0xFE20, 0xFE2F}, {0xFE30, 0xFE6F}, {0xFF00, 0xFFEF}, {0xFFF0, 0xFFFF}, {0x10000, 0x100FF},
		{0x10300, 0x1034F}, {0x10400, 0x1044F}, {0x10D40, 0x10D8F}, {0x11000, 0x1107F}, {0x11900, 0x1195F}, {0x12000, 0x123FF},
		{0x13000, 0x1342F}, {0x16D40, 0x16D7F}, {0x1D100, 0x1D1FF}, {0x1D400, 0x1D7FF}, {0x1E900, 0x1E95F}, {0x1EE00, 0x1EEFF},
		{0x1F000, 0x1F2FF}, {0x1F300, 0x1F64F}, {0x1F680, 0x1F6FF}, {0x1F900, 0x1FAFF}, {0x20000, 0x2A6DF}, {0x2EBF0, 0x2EE5D},
		{0x30000, 0x323AF}, {0xE0000, 0xE01EF}, {0xF0000, 0xFFFFD}, {0x100000, 0x10FFFD},
	}
}

// runes gives n code points of one block.
func (c *corpus) runes(n int) string {
	all := blocks()
	b := all[c.IntN(len(all))]
	var s strings.Builder
	for range n {
		s.WriteRune(b.lo + c.Int32N(b.hi-b.lo+1))
	}
	return s.String()
}

// anything gives n code points from all of Unicode, most of them unassigned.
func (c *corpus) anything(n int) string {
	var s strings.Builder
	for range n {
		r := c.Int32N(0x110000 - 0x800)
		if r >= 0xD800 {
			r += 0x800
		}
		s.WriteRune(r)
	}
	return s.String()
}

func (c *corpus) repeat(list []string, n int) string {
	var s strings.Builder
	for range n {
		s.WriteString(c.pick(list))
	}
	return s.String()
}

// digit gives a numeral of some script.
func (c *corpus) digit() string {
	zeros := []rune{'0', '0', '0', 0x660, 0x6F0, 0x966, 0x9E6, 0xE50, 0xFF10, 0x1D7CE, 0x11BF0, 0x10D40, 0x1CCF0, 0x104A0, 0x2080, 0x2160, 0x2460, 0xB2, 0xBC}
	return string(zeros[c.IntN(len(zeros))] + c.Int32N(10))
}

// part gives one piece of text of a random kind.
func (c *corpus) part() string {
	spaces := []string{" ", "  ", "\t", "\n", "\r\n", "\r", "\v", "\f", "\u0085", "\u00A0", "\u1680", "\u2003", "\u2028", "\u202F", "\u3000", "\u200B", "\uFEFF"}
	switch c.IntN(20) {
	case 0, 1, 2, 3:
		return c.slice()
	case 4:
		return c.runes(1 + c.IntN(12))
	case 5:
		return c.anything(1 + c.IntN(5))
	case 6:
		return c.repeat(spaces, 1+c.IntN(8))
	case 7:
		return strings.Repeat(c.pick(spaces), 1+c.IntN(40))
	case 8: // emoji, flags, keycaps, families
		return c.repeat([]string{"😀", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇨🇭", "1️⃣", "❤️‍🔥", "🧑🏿‍🚀", "☃", "🫠", "\U0001FAE9"}, 1+c.IntN(4))
	case 9: // contractions in all cases, and with the long s
		return c.pick([]string{"it", "IT", "we", "They", "x", "", " ", "7"}) + c.pick([]string{"'", "’", "''"}) +
			c.pick([]string{"s", "S", "ſ", "t", "T", "re", "RE", "rE", "ve", "VE", "m", "M", "ll", "LL", "lL", "d", "D", "r", "v", "l", "n", "", " s", "K", "ſt"}) +
			c.pick([]string{"", " ", "x", "1", "'s"})
	case 10:
		var s strings.Builder
		for range 1 + c.IntN(9) {
			s.WriteString(c.digit())
		}
		return s.String()
	case 11, 12: // spelled tokens
		return c.pick([]string{"", " ", "\n", "x"}) + c.pick(c.names) + c.pick([]string{"", " ", "\n", "x"})
	case 13: // torn tokens
		s := []rune(c.pick(c.names))
		i := c.IntN(len(s) + 1)
		return string(s[:i]) + c.pick([]string{"", " ", "<", "|", ">"}) + string(s[i:])
	case 14: // control and replacement characters
		return c.repeat([]string{"\x00", "\x01", "\x07", "\x1b[0m", "\x7f", "\u0080", "\u009f", "\uFFFD", "\uFFFE", "\uFFFF", "�"}, 1+c.IntN(5))
	case 15: // the same text composed and decomposed
		s := c.runes(1+c.IntN(10)) + c.slice() + "Ångström ế ö̲ 각 가나"
		return []norm.Form{norm.NFC, norm.NFD, norm.NFKC, norm.NFKD}[c.IntN(4)].String(s)
	case 16: // stacks of combining marks
		marks := []string{"\u0301", "\u0300", "\u0316", "\u0323", "\u0327", "\u0334", "\u0345", "\u05B0", "\u064B", "\u093C", "\u3099", "\u0898", "\u1ABF", "\U0001E4EC", "\U00011930", "\U00011935"}
		return c.pick([]string{"a", "e", "が", "ש", "ω", "\u0301", " ", "\U00011935"}) + c.repeat(marks, 1+c.IntN(6))
	case 17: // code
		return c.repeat([]string{"if (x != y) {\n\t", "    return f'{a:>10}'\n", "</div>", "<|", "|>", "<0x0A>", "<0xE2>", "__init__", "0x1F", "1e-9", "->", "::", "/* */", "\\n", "#!/bin/sh\n", "▁", "▁▁", "Ġ", "Ċ", "//", "\"\"\"", "'''"}, 1+c.IntN(6))
	case 18:
		return strings.Repeat(string(rune('!'+c.IntN(94))), 1+c.IntN(30))
	}
	return c.repeat([]string{"(", ")", ".", ",", "...", "!?", "—", "„", "“", "¿", "。", "、", "·", "$", "€", "+", "=", "^", "`", "~"}, 1+c.IntN(6))
}

// text gives a text of a few parts.
func (c *corpus) text() string {
	var s strings.Builder
	for range 1 + c.IntN(4) {
		s.WriteString(c.part())
	}
	return s.String()
}

// long gives lines of 100 kB.
func (c *corpus) long() []string {
	const size = 100_000
	fill := func(f func() string) string {
		var s strings.Builder
		for s.Len() < size {
			s.WriteString(f())
		}
		return s.String()
	}
	return []string{
		strings.Repeat("a", size),
		strings.Repeat(" ", size),
		strings.Repeat("\n", size),
		strings.Repeat("ab\u0301", size/4),
		fill(func() string { return string(rune('a' + c.IntN(26))) }),
		fill(func() string { return string(0x4E00 + c.Int32N(3000)) }),
		fill(c.digit),
		fill(c.part),
		fill(func() string { return strings.ReplaceAll(c.slice(), " ", "") }),
		"a" + strings.Repeat("\u0301\u0316", size/4),
	}
}

// texts gives n texts; if there are many, the long ones are among them.
func (c *corpus) texts(n int) []string {
	list := []string{"", " ", "  ", "\n", "a", "\u0301"}
	if n >= oracleTexts {
		list = append(list, c.long()...)
	}
	for len(list) < n {
		list = append(list, c.text())
	}
	return list
}
