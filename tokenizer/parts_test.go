package tokenizer

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

// The tests of this file compare single parts of the pipeline with Python, in
// forms that no known model has.

// partsScript answers a list of questions, each with a tokenizer.json of its own.
const partsScript = `
import json, sys
from tokenizers import Tokenizer
out = []
for q in json.load(sys.stdin):
    t = Tokenizer.from_str(q["json"])
    a = {}
    if q["kind"] == "pieces":
        a["normal"] = [t.normalizer.normalize_str(s) if t.normalizer else s for s in q["texts"]]
        a["pieces"] = [[p for p, _ in t.pre_tokenizer.pre_tokenize_str(s)] if t.pre_tokenizer else [s] for s in a["normal"]]
    elif q["kind"] == "encode":
        a["ids"] = [t.encode(s).ids for s in q["texts"]]
        t.encode_special_tokens = True
        a["plain"] = [t.encode(s, add_special_tokens=False).ids for s in q["texts"]]
    else:
        a["decoded"] = [t.decode(i, skip_special_tokens=False) for i in q["ids"]]
        a["skipped"] = [t.decode(i, skip_special_tokens=True) for i in q["ids"]]
    out.append(a)
json.dump(out, sys.stdout)
`

type partQuestion struct {
	Kind  string    `json:"kind"`
	JSON  string    `json:"json"`
	Texts []string  `json:"texts,omitempty"`
	IDs   [][]int32 `json:"ids,omitempty"`
}

type partAnswer struct {
	Normal           []string
	Pieces           [][]string
	IDs, Plain       [][]int32
	Decoded, Skipped []string
}

func askParts(t *testing.T, questions []partQuestion) []partAnswer {
	t.Helper()
	data, err := json.Marshal(questions)
	if err != nil {
		t.Fatal(err)
	}
	var answers []partAnswer
	if err := json.Unmarshal(oracle.Run(t, partsScript, data), &answers); err != nil {
		t.Fatal(err)
	}
	if len(answers) != len(questions) {
		t.Fatalf("%d answers to %d questions", len(answers), len(questions))
	}
	return answers
}

// tinyJSON is a tokenizer.json with a model of a few characters and merges.
func tinyJSON(parts map[string]string) string {
	part := func(name, otherwise string) string {
		if s, ok := parts[name]; ok {
			return s
		}
		return otherwise
	}
	return fmt.Sprintf(`{"version":"1.0","truncation":null,"padding":null,"added_tokens":%s,"normalizer":%s,"pre_tokenizer":%s,"post_processor":%s,"decoder":%s,"model":%s}`,
		part("added_tokens", "[]"), part("normalizer", "null"), part("pre_tokenizer", "null"), part("post_processor", "null"), part("decoder", "null"),
		part("model", `{"type":"BPE","unk_token":"<unk>","fuse_unk":false,"byte_fallback":false,"vocab":{"<unk>":0,"a":1,"b":2,"c":3," ":4,"▁":5,"ab":6,"abc":7,"bc":8,"▁a":9," a":10,"▁▁":11},"merges":[["a","b"],["b","c"],["ab","c"],["▁","a"],[" ","a"],["▁","▁"]]}`))
}

func mustParse(t testing.TB, s string) *Tokenizer {
	t.Helper()
	tk, err := Parse([]byte(s))
	if err != nil {
		t.Fatalf("Parse(%s): %v", s, err)
	}
	return tk
}

// capture is a last stage that keeps the pieces.
type capture struct{ pieces *[]string }

func (c capture) split(_ *encoder, _ int, s string, _ bool) { *c.pieces = append(*c.pieces, s) }

func TestOraclePieces(t *testing.T) {
	t.Parallel()
	regex := func(pattern, behavior string, invert bool) string {
		p, err := json.Marshal(pattern)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"type":"Split","pattern":{"Regex":%s},"behavior":%q,"invert":%t}`, p, behavior, invert)
	}
	seq := func(list ...string) string {
		return `{"type":"Sequence","pretokenizers":[` + strings.Join(list, ",") + `]}`
	}
	type setup struct{ normalizer, pre string }
	var setups []setup
	for _, b := range []string{"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"} {
		for _, invert := range []bool{false, true} {
			setups = append(setups,
				setup{"", fmt.Sprintf(`{"type":"Split","pattern":{"String":"a"},"behavior":%q,"invert":%t}`, b, invert)},
				setup{"", regex(`\s+|\d`, b, invert)},
				setup{"", regex(gpt2Pattern, b, invert)})
		}
		setups = append(setups, setup{"", fmt.Sprintf(`{"type":"Punctuation","behavior":%q}`, b)})
	}
	for _, p := range preTokenizers() {
		setups = append(setups, setup{"", string(p.json())})
	}
	for _, pattern := range []string{qwen2Pattern, llama3Pattern, gpt2Pattern, qwen35Pattern, tekkenPattern, gpt4oPattern,
		`\d{1,3}(?=(?:\d{3})*$)`, `^\s+|\s+$`, `(?i)sk|[ks]x|(?-i:K)`, `[^a-z\p{M}]+?x*`, `(?<=a)b|(?<!a)c`, `\P{L}+`, `\p{^N}{2,}`, `a{2}|b{1,2}?|\x{4E00}|\u00e9|[\]\-x]`, `(?=\d)`, `(?:)`, `x*`} {
		setups = append(setups, setup{"", regex(pattern, "Isolated", false)})
	}
	byteLevel := func(prefix, useRegex bool) string {
		return fmt.Sprintf(`{"type":"ByteLevel","add_prefix_space":%t,"trim_offsets":true,"use_regex":%t}`, prefix, useRegex)
	}
	for _, scheme := range []string{"always", "first", "never"} {
		for _, cut := range []bool{true, false} {
			m := fmt.Sprintf(`{"type":"Metaspace","replacement":"▁","prepend_scheme":%q,"split":%t}`, scheme, cut)
			setups = append(setups, setup{"", m}, setup{"", seq(`{"type":"Digits","individual_digits":true}`, m)})
		}
	}
	setups = append(setups,
		setup{"", `{"type":"Digits","individual_digits":false}`},
		setup{"", `{"type":"Digits","individual_digits":true}`},
		setup{"", `{"type":"Whitespace"}`},
		setup{"", `{"type":"WhitespaceSplit"}`},
		setup{"", byteLevel(true, true)}, setup{"", byteLevel(true, false)}, setup{"", byteLevel(false, true)},
		setup{"", seq(byteLevel(false, true), `{"type":"Digits","individual_digits":true}`)},
		setup{"", seq(`{"type":"WhitespaceSplit"}`, byteLevel(true, true))},
		setup{`{"type":"NFC"}`, `{"type":"Whitespace"}`},
		setup{`{"type":"NFD"}`, `null`}, setup{`{"type":"NFKC"}`, `null`}, setup{`{"type":"NFKD"}`, `null`},
		setup{`{"type":"Lowercase"}`, `null`},
		setup{`{"type":"ByteLevel"}`, `null`},
		setup{`{"type":"Strip","strip_left":true,"strip_right":false}`, `null`},
		setup{`{"type":"Strip","strip_left":false,"strip_right":true}`, `null`},
		setup{`{"type":"Prepend","prepend":"▁"}`, `null`},
		setup{`{"type":"Replace","pattern":{"String":"  "},"content":"x"}`, `null`},
		setup{`{"type":"Replace","pattern":{"Regex":"\\s+"},"content":" "}`, `null`},
		setup{`{"type":"Sequence","normalizers":[{"type":"NFD"},{"type":"Lowercase"},{"type":"Replace","pattern":{"Regex":"\\p{M}"},"content":""},{"type":"Strip","strip_left":true,"strip_right":true}]}`, `{"type":"WhitespaceSplit"}`},
	)

	c := newCorpus(t, mustParse(t, tinyJSON(nil)), 7)
	texts := []string{"", "a", "aaa", "the-final--countdown", "  a b  ", "1a22b333", "Hey friend!     How are you?!?", "a'ſ K'S sK\u212A"}
	for len(texts) < 400 {
		texts = append(texts, c.text())
	}
	questions := make([]partQuestion, len(setups))
	for i, s := range setups {
		parts := map[string]string{"pre_tokenizer": s.pre}
		if s.normalizer != "" {
			parts["normalizer"] = s.normalizer
		}
		questions[i] = partQuestion{Kind: "pieces", JSON: tinyJSON(parts), Texts: texts}
	}
	for i, a := range askParts(t, questions) {
		tk := mustParse(t, questions[i].JSON)
		var got []string
		tk.stages = append(tk.stages, capture{&got})
		e := &encoder{t: tk}
		bad := 0
		for j, s := range texts {
			if tk.normalize != nil {
				s = tk.normalize(s)
			}
			if s != a.Normal[j] {
				t.Errorf("%v: normalize(%+q) = %+q, want %+q", setups[i], texts[j], s, a.Normal[j])
				if bad++; bad > 3 {
					break
				}
				continue
			}
			got = nil
			e.pieces(s, true)
			if tk.model.byteMode {
				for k := range got {
					got[k] = toByteLevel(got[k])
				}
			}
			want := slices.DeleteFunc(a.Pieces[j], func(s string) bool { return s == "" })
			if !slices.Equal(got, want) {
				t.Errorf("%v: pieces of %+q:\n got %+q\nwant %+q", setups[i], s, got, want)
				if bad++; bad > 3 {
					break
				}
			}
		}
	}
}

// TestOracleAddedTokens covers the flags of added tokens with and without
// normalizers.
func TestOracleAddedTokens(t *testing.T) {
	t.Parallel()
	added := func(list ...string) string {
		for i, s := range list {
			fields := strings.Fields(s) // "_" stands for a space in the content
			content := strings.ReplaceAll(fields[0], "_", " ")
			has := func(flag string) bool { return slices.Contains(fields, flag) }
			list[i] = fmt.Sprintf(`{"id":%d,"content":%q,"single_word":%t,"lstrip":%t,"rstrip":%t,"normalized":%t,"special":%t}`,
				20+i, content, has("single"), has("lstrip"), has("rstrip"), has("normalized"), has("special"))
		}
		return "[" + strings.Join(list, ",") + "]"
	}
	sets := []string{
		added("[X] special", "[Y]", "ab single", "é normalized"),
		added("[X] special lstrip", "[Y] rstrip", "[X][Y] lstrip rstrip special"),
		added("[X] special lstrip rstrip single", "_b normalized lstrip", "abc normalized single"),
		added("[Xx] normalized special", "[xY] normalized", "a rstrip", "ab", "abcd lstrip"),
		added("b single rstrip lstrip", "<unk> special", "É normalized", "_a", "a_ rstrip"),
	}
	normalizers := []string{`null`, `{"type":"Lowercase"}`, `{"type":"Prepend","prepend":"▁"}`, `{"type":"NFD"}`,
		`{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]}`,
		`{"type":"Strip","strip_left":true,"strip_right":true}`}
	pres := []string{`null`, `{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true}`, `{"type":"Whitespace"}`}
	posts := []string{`null`,
		`{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"s","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"e","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":0}}],"special_tokens":{"s":{"id":"s","ids":[1,2],"tokens":["a","b"]},"e":{"id":"e","ids":[3],"tokens":["c"]}}}`,
		`{"type":"RobertaProcessing","sep":["c",3],"cls":["a",1],"trim_offsets":true,"add_prefix_space":false}`,
		`{"type":"Sequence","processors":[{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":false,"use_regex":true},{"type":"BertProcessing","sep":["c",3],"cls":["a",1]}]}`}

	rng := rand.New(rand.NewPCG(8, 8))
	words := []string{"[X]", "[Y]", "[x]", "[Xx]", "[xY]", "[XX]", "a", "b", "c", "ab", "abc", "abcd", " ", "  ", "\n", "\t", "é", "e\u0301", "É", "x", "_", "1", "▁", "<unk>", "\u3000", "\u0301"}
	var texts []string
	for range 600 {
		var s strings.Builder
		for range rng.IntN(9) {
			s.WriteString(words[rng.IntN(len(words))])
		}
		texts = append(texts, s.String())
	}
	var questions []partQuestion
	for i, set := range sets {
		for j, n := range normalizers {
			for _, pre := range pres {
				questions = append(questions, partQuestion{Kind: "encode", Texts: texts, JSON: tinyJSON(map[string]string{
					"added_tokens": set, "normalizer": n, "pre_tokenizer": pre, "post_processor": posts[(i+j)%len(posts)]})})
			}
		}
	}
	for i, a := range askParts(t, questions) {
		tk := mustParse(t, questions[i].JSON)
		bad := 0
		for j, s := range texts {
			got := tk.Encode(s, EncodeOptions{AddSpecial: true, ParseSpecial: true})
			plain := tk.Encode(s, EncodeOptions{})
			if !slices.Equal(got, a.IDs[j]) || !slices.Equal(plain, a.Plain[j]) {
				t.Errorf("%s\n%+q:\n got %v %v\nwant %v %v", questions[i].JSON, s, got, plain, a.IDs[j], a.Plain[j])
				if bad++; bad > 2 {
					break
				}
			}
		}
	}
}

// TestOracleDecoders decodes and streams random tokens with all decoders and
// many of their sequences.
func TestOracleDecoders(t *testing.T) {
	t.Parallel()
	tokens := []string{"<unk>", "a", "▁", "▁a", "▁▁", " ", "  b", "b ", "<0xE4>", "<0xB8>", "<0xAD>", "<0x41>", "<0x0A>", "<0xF0>", "<0x9F>", "<0x+A>", "<0xZZ>", "<0x4>",
		"Ġ", "Ġa", "ä", "¸", "Ń", "äb", "中", "Ã", "ð", "Ł", "ĺ", "Ģ", "x▁y", "é", "aa", "<0xE2>x", "Ċ", "ï", "¿", "½", "í", "ł"}
	model := `{"type":"BPE","vocab":{`
	for i, s := range tokens {
		if i > 0 {
			model += ","
		}
		model += fmt.Sprintf("%s:%d", appendJSONString(nil, s), i)
	}
	model += `},"merges":[]}`
	replace := `{"type":"Replace","pattern":{"String":"▁"},"content":" "}`
	replaceAA := `{"type":"Replace","pattern":{"String":"aa"},"content":"é"}`
	replaceRegex := `{"type":"Replace","pattern":{"Regex":"a+| "},"content":"<>"}`
	fallback, fuse := `{"type":"ByteFallback"}`, `{"type":"Fuse"}`
	strip := func(start, stop int) string {
		return fmt.Sprintf(`{"type":"Strip","content":" ","start":%d,"stop":%d}`, start, stop)
	}
	byteLevel := `{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}`
	metaspace := func(scheme string) string {
		return fmt.Sprintf(`{"type":"Metaspace","replacement":"▁","prepend_scheme":%q,"split":true}`, scheme)
	}
	seq := func(list ...string) string { return `{"type":"Sequence","decoders":[` + strings.Join(list, ",") + `]}` }
	decoders := []string{
		`null`, byteLevel, fallback, fuse, replace, strip(1, 0), metaspace("always"), metaspace("first"), metaspace("never"),
		seq(), seq(replace, fallback, fuse, strip(1, 0)), seq(replace, fallback, fuse), seq(fallback, byteLevel), seq(byteLevel, fallback),
		seq(fuse, byteLevel), seq(byteLevel, byteLevel), seq(fuse, strip(2, 0)), seq(strip(2, 0), fuse, metaspace("always")),
		seq(fuse, metaspace("never"), replaceAA), seq(replaceAA, fuse, replaceRegex), seq(replaceRegex, fallback, strip(1, 0)),
		seq(fuse, fallback), seq(fuse, replaceAA, strip(3, 0)), seq(byteLevel, replaceRegex), seq(seq(replace), seq(fuse, seq(strip(1, 0)))),
	}
	rng := rand.New(rand.NewPCG(9, 9))
	var ids [][]int32
	for range 1500 {
		list := make([]int32, rng.IntN(12))
		for i := range list {
			list[i] = rng.Int32N(int32(len(tokens)) + 1)
		}
		ids = append(ids, list)
	}
	var questions []partQuestion
	for _, d := range decoders {
		questions = append(questions, partQuestion{Kind: "decode", IDs: ids, JSON: tinyJSON(map[string]string{
			"decoder": d, "model": model,
			"added_tokens": `[{"id":0,"content":"<unk>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}]`})})
	}
	for i, a := range askParts(t, questions) {
		tk := mustParse(t, questions[i].JSON)
		bad := 0
		for j, list := range ids {
			for _, skip := range []bool{false, true} {
				want := a.Decoded[j]
				if skip {
					want = a.Skipped[j]
				}
				if got, streamed := tk.Decode(list, skip), stream(t, tk, list, skip); got != want || streamed != want {
					t.Errorf("%s: %v (skip %t):\n  got %+q\n  str %+q\n want %+q", decoders[i], spell(tk, list), skip, got, streamed, want)
					bad++
				}
			}
			if bad > 2 {
				break
			}
		}
	}
}
