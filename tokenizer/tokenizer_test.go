package tokenizer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// byteLevelJSON256 is a byte-level tokenizer.json with all bytes, a few merges
// and a special token, in the manner of GPT-2.
func byteLevelJSON256() string {
	var vocab []string
	for b := range 256 {
		vocab = append(vocab, string(byteLevelChar(byte(b))))
	}
	vocab = append(vocab, "ab", "abc", "Ġa", "Ġab", "aa", "aaaa", "<|end|>")
	s := `{"type":"BPE","vocab":{`
	for i, v := range vocab {
		if i > 0 {
			s += ","
		}
		s += fmt.Sprintf("%s:%d", appendJSONString(nil, v), i)
	}
	s += `},"merges":["a b","ab c","Ġ a","Ġ ab","a a","aa aa"]}`
	byteLevel := `{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}`
	return tinyJSON(map[string]string{"model": s, "pre_tokenizer": byteLevel, "decoder": byteLevel,
		"added_tokens": `[{"id":262,"content":"<|end|>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}]`})
}

// sentencePieceJSON is a tokenizer.json in the manner of Llama 2, with byte
// fallback for all bytes.
func sentencePieceJSON() string {
	vocab := []string{"<unk>", "<s>", "</s>"}
	for b := range 256 {
		vocab = append(vocab, fmt.Sprintf("<0x%02X>", b))
	}
	vocab = append(vocab, "▁", "a", "b", "c", "▁a", "ab", "▁ab", "▁▁")
	s := `{"type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,"vocab":{`
	for i, v := range vocab {
		if i > 0 {
			s += ","
		}
		s += fmt.Sprintf("%s:%d", appendJSONString(nil, v), i)
	}
	s += `},"merges":[["▁","a"],["a","b"],["▁","ab"],["▁a","b"],["▁","▁"]]}`
	special := func(id int, content string) string {
		return fmt.Sprintf(`{"id":%d,"content":%q,"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}`, id, content)
	}
	return tinyJSON(map[string]string{
		"model":          s,
		"added_tokens":   "[" + special(0, "<unk>") + "," + special(1, "<s>") + "," + special(2, "</s>") + "]",
		"normalizer":     `{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]}`,
		"post_processor": `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[1],"tokens":["<s>"]}}}`,
		"decoder":        `{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}`,
	})
}

func names(tk *Tokenizer, ids []int32) string {
	var list []string
	for _, id := range ids {
		s, ok := tk.Token(id)
		if !ok {
			s = fmt.Sprint(id)
		}
		list = append(list, s)
	}
	return strings.Join(list, "|")
}

func TestEncode(t *testing.T) {
	byteLevel, pieces := mustParse(t, byteLevelJSON256()), mustParse(t, sentencePieceJSON())
	all := EncodeOptions{AddSpecial: true, ParseSpecial: true}
	for _, c := range []struct {
		tk   *Tokenizer
		text string
		o    EncodeOptions
		want string
	}{
		{byteLevel, "", all, ""},
		{byteLevel, "abc ab", all, "abc|Ġab"},
		{byteLevel, "aaaaaaa", all, "aaaa|aa|a"},
		{byteLevel, "é\n", all, "Ã|©|Ċ"},
		{byteLevel, "a<|end|>b", all, "a|<|end|>|b"},
		{byteLevel, "a<|end|>b", EncodeOptions{}, "a|<|||e|n|d|||>|b"},
		{byteLevel, "\xff\xe2\x82", all, "ï|¿|½|ï|¿|½|ï|¿|½"}, // each bad byte is one U+FFFD
		{pieces, "", all, "<s>"},
		{pieces, "ab  a", all, "<s>|▁ab|▁|▁a"},
		{pieces, "ab", EncodeOptions{}, "▁ab"},
		{pieces, "é", all, "<s>|▁|<0xC3>|<0xA9>"},
		{pieces, "a</s>a", all, "<s>|▁a|</s>|▁a"},
		{pieces, "a</s>a", EncodeOptions{}, "▁a|<0x3C>|<0x2F>|<0x73>|<0x3E>|a"},
		{pieces, "<0x0A>", EncodeOptions{}, "▁|<0x3C>|<0x30>|<0x78>|<0x30>|<0x41>|<0x3E>"},
	} {
		if got := names(c.tk, c.tk.Encode(c.text, c.o)); got != c.want {
			t.Errorf("Encode(%q, %+v) = %s, want %s", c.text, c.o, got, c.want)
		}
	}
	if got := byteLevel.Append([]int32{7}, "a", all); len(got) != 2 || got[0] != 7 {
		t.Errorf("Append dropped what was there: %v", got)
	}
}

func TestDecode(t *testing.T) {
	byteLevel, pieces := mustParse(t, byteLevelJSON256()), mustParse(t, sentencePieceJSON())
	ids := func(tk *Tokenizer, tokens ...string) []int32 {
		var list []int32
		for _, s := range tokens {
			id, ok := tk.ID(s)
			if !ok {
				t.Fatalf("no token %q", s)
			}
			list = append(list, id)
		}
		return list
	}
	for _, c := range []struct {
		tk     *Tokenizer
		tokens []string
		skip   bool
		want   []string // what each Push gives, and Flush
	}{
		{byteLevel, []string{"Ã", "©", "Ġab"}, false, []string{"", "é", " ab", ""}},
		{byteLevel, []string{"ð", "Ł", "ĺ", "Ģ"}, false, []string{"", "", "", "😀", ""}},
		{byteLevel, []string{"ð", "Ł", "a", "<|end|>"}, false, []string{"", "", "\uFFFDa", "<|end|>", ""}},
		{byteLevel, []string{"<|end|>", "a", "Ã"}, true, []string{"", "a", "", "\uFFFD"}},
		{pieces, []string{"<s>", "▁ab", "▁a"}, true, []string{"", "ab", " a", ""}},
		{pieces, []string{"▁a", "<0xC3>", "<0xA9>", "b"}, false, []string{"a", "", "", "éb", ""}},
		{pieces, []string{"<0xC3>", "<0x41>"}, false, []string{"", "", "\uFFFD\uFFFD"}},
	} {
		list := ids(c.tk, c.tokens...)
		d := c.tk.NewDecoder(c.skip)
		var got []string
		for _, id := range list {
			got = append(got, d.Push(id))
		}
		got = append(got, d.Flush())
		if !slices.Equal(got, c.want) {
			t.Errorf("streaming %q gives %q, want %q", c.tokens, got, c.want)
		}
		if s := c.tk.Decode(list, c.skip); s != strings.Join(c.want, "") {
			t.Errorf("Decode of %q = %q, want %q", c.tokens, s, strings.Join(c.want, ""))
		}
	}
	if got := byteLevel.Decode([]int32{-1, 1 << 30, 99999}, false); got != "" {
		t.Errorf("Decode of ids without tokens = %q", got)
	}
}

func TestVocabulary(t *testing.T) {
	tk := mustParse(t, byteLevelJSON256())
	if tk.VocabSize() != 263 {
		t.Errorf("VocabSize = %d, want 263", tk.VocabSize())
	}
	if !tk.IsSpecial(262) || tk.IsSpecial(0) || tk.IsSpecial(-1) {
		t.Error("IsSpecial is wrong")
	}
	if s := tk.SpecialTokens(); len(s) != 1 || s[0].Content != "<|end|>" || s[0].ID != 262 {
		t.Errorf("SpecialTokens = %+v", s)
	}
	before, after := mustParse(t, sentencePieceJSON()).Template()
	if !slices.Equal(before, []int32{1}) || len(after) != 0 {
		t.Errorf("Template = %v, %v", before, after)
	}
}

// TestConcurrent has many goroutines share one tokenizer; run it with -race.
func TestConcurrent(t *testing.T) {
	tk := mustParse(t, byteLevelJSON256())
	texts := make([]string, 200)
	want := make([][]int32, len(texts))
	for i := range texts {
		texts[i] = strings.Repeat("abc ", i) + strings.Repeat("a", i*7) + fmt.Sprint(i)
		want[i] = mustParse(t, byteLevelJSON256()).Encode(texts[i], EncodeOptions{})
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i, s := range texts {
				ids := tk.Encode(s, EncodeOptions{})
				if !slices.Equal(ids, want[i]) || tk.Decode(ids, false) != s {
					t.Errorf("text %d came out wrong", i)
				}
			}
		})
	}
	group.Wait()
}

// TestRefused wants each part that is not honoured, and each broken file, to be
// refused by name.
func TestRefused(t *testing.T) {
	type kind int
	const unsupported, broken kind = 0, 1
	with := func(part, s string) string { return tinyJSON(map[string]string{part: s}) }
	for _, c := range []struct {
		json string
		kind kind
		want string
	}{
		{with("model", `{"type":"Unigram","unk_id":0,"vocab":[["a",0.1]],"byte_fallback":false}`), unsupported, `model "Unigram"`},
		{with("model", `{"type":"WordPiece","vocab":{}}`), unsupported, `model "WordPiece"`},
		{with("model", `{"type":"BPE","dropout":0.1,"vocab":{},"merges":[]}`), unsupported, "dropout 0.1"},
		{with("model", `{"type":"BPE","end_of_word_suffix":"</w>","vocab":{},"merges":[]}`), unsupported, `end_of_word_suffix "</w>"`},
		{with("model", `{"type":"BPE","continuing_subword_prefix":"##","vocab":{},"merges":[]}`), unsupported, `continuing_subword_prefix "##"`},
		{with("model", `{"type":"BPE","new_thing":1,"vocab":{},"merges":[]}`), unsupported, `"new_thing"`},
		{with("model", `{"type":"BPE","vocab":{"a":0},"merges":["a b"]}`), broken, `merge 0 of "a" and "b"`},
		{with("model", `{"type":"BPE","vocab":{"a":0,"b":1},"merges":["a b"]}`), broken, `"ab", which is not in the vocabulary`},
		{with("model", `{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}`), broken, "same id 0"},
		{with("model", `{"type":"BPE","vocab":{"a":2000000000},"merges":[]}`), broken, "too large a hole"},
		{with("model", `{"type":"BPE","vocab":{"a":-1},"merges":[]}`), broken, "no whole number"},
		{with("model", `{"type":"BPE","unk_token":"?","vocab":{"a":0},"merges":[]}`), broken, `unk_token "?"`},
		{with("model", `{"type":"BPE","vocab":{"\ud800":0},"merges":[]}`), broken, "surrogate"},
		{with("model", `null`), broken, "not valid JSON"},
		{with("normalizer", `{"type":"Precompiled","precompiled_charsmap":""}`), unsupported, "normalizer Precompiled"},
		{with("normalizer", `{"type":"NFC","new":1}`), unsupported, `member "new" of the normalizer NFC`},
		{with("pre_tokenizer", `{"type":"UnicodeScripts"}`), unsupported, "pre-tokenizer UnicodeScripts"},
		{with("pre_tokenizer", `{"type":"Split","pattern":{"Regex":"a++"},"behavior":"Isolated","invert":false}`), unsupported, "possessive"},
		{with("pre_tokenizer", `{"type":"Split","pattern":{"Regex":"[a&&b]"},"behavior":"Isolated","invert":false}`), unsupported, "intersection"},
		{with("pre_tokenizer", `{"type":"Split","pattern":{"Regex":"\\p{Han}"},"behavior":"Isolated","invert":false}`), unsupported, `\p{Han}`},
		{with("pre_tokenizer", `{"type":"Split","pattern":{"Regex":"(a"},"behavior":"Isolated","invert":false}`), unsupported, "open bracket"},
		{with("pre_tokenizer", `{"type":"Split","pattern":{"Regex":"a"},"behavior":"Sideways","invert":false}`), broken, `behavior "Sideways"`},
		{with("pre_tokenizer", `{"type":"Metaspace","replacement":"__"}`), broken, "not one character"},
		{with("post_processor", `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x","type_id":0}}],"pair":[],"special_tokens":{}}`), broken, `token "x"`},
		{with("decoder", `{"type":"WordPiece","prefix":"##","cleanup":true}`), unsupported, "decoder WordPiece"},
		{strings.Replace(tinyJSON(nil), `"truncation":null`, `"truncation":{"max_length":5}`, 1), unsupported, "truncation"},
		{strings.Replace(tinyJSON(nil), `"padding":null`, `"padding":{"strategy":{"Fixed":5}}`, 1), unsupported, "padding"},
		{strings.Replace(tinyJSON(nil), `"1.0"`, `"2.0"`, 1), unsupported, `version "2.0"`},
		{strings.Replace(tinyJSON(nil), `"version"`, `"verzion"`, 1), unsupported, `key "verzion"`},
		{``, broken, "ends early"},
		{`{}`, broken, `no "model"`},
		{`[]`, broken, "not valid JSON"},
		{strings.TrimSuffix(tinyJSON(nil), "}}"), broken, "ends early"},
		{tinyJSON(nil) + "x", broken, "something follows"},
		{strings.Repeat(`{"normalizer":`, 100), broken, "deep"},
	} {
		_, err := Parse([]byte(c.json))
		var u *tensor.UnsupportedError
		var f *tensor.FormatError
		if err == nil || errors.As(err, &u) != (c.kind == unsupported) || errors.As(err, &f) != (c.kind == broken) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Parse(%.150s): %v (%T), want one that says %q", c.json, err, err, c.want)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Load of an empty folder: %v", err)
	}
	path := filepath.Join(dir, "tokenizer.json")
	if err := os.WriteFile(path, []byte(`{"version":"1.0","model":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Load of a broken file: %v, want its path in the error", err)
	}
}

// TestJSONRoundTrip reads what JSON writes.
func TestJSONRoundTrip(t *testing.T) {
	for _, s := range []string{tinyJSON(nil), byteLevelJSON256(), sentencePieceJSON()} {
		first, err := mustParse(t, s).JSON()
		if err != nil {
			t.Fatal(err)
		}
		second, err := mustParse(t, string(first)).JSON()
		if err != nil {
			t.Fatal(err)
		}
		if string(first) != string(second) {
			t.Errorf("JSON of %s changed on the second round:\n%s\n%s", s, first, second)
		}
	}
}

// ggufOf makes GGUF keys of byte-level tokens, an unused hole and added tokens.
func ggufOf() GGUF {
	tk := GGUF{Model: "gpt2", Pre: "gpt-2", BOS: -1, EOS: 258, UNK: -1, PAD: -1, Merges: []string{"a b", "Ġ ab"}}
	for b := range 256 {
		tk.Tokens = append(tk.Tokens, string(byteLevelChar(byte(b))))
		tk.Types = append(tk.Types, ggufNormal)
	}
	tk.Tokens = append(tk.Tokens, "ab", "Ġab", "<|end|>", "<think>", "[PAD260]", "[PAD261]")
	tk.Types = append(tk.Types, ggufNormal, ggufNormal, ggufControl, ggufUserDefined, ggufUnused, ggufUnused)
	return tk
}

func TestFromGGUF(t *testing.T) {
	yes := true
	check := func(g GGUF, text, want string, size int) {
		t.Helper()
		tk, err := FromGGUF(g)
		if err != nil {
			t.Error(err)
			return
		}
		if got := names(tk, tk.Encode(text, EncodeOptions{AddSpecial: true})); got != want || tk.VocabSize() != size {
			t.Errorf("Encode(%q) = %s and VocabSize %d, want %s and %d", text, got, tk.VocabSize(), want, size)
		}
	}
	check(ggufOf(), "ab ab<|end|><think>", "ab|Ġab|<|||e|n|d|||>|<think>", 260) // padding is dropped
	g := ggufOf()
	g.AddEOS = &yes
	check(g, "ab", "ab|<|end|>", 260)
	g.Tokens, g.Types = append(g.Tokens, "<late>"), append(g.Types, ggufControl) // a hole before the last added token
	check(g, "ab", "ab|<|end|>", 263)
	g = GGUF{Model: "llama", BOS: -1, EOS: -1, UNK: -1, PAD: -1, Tokens: []string{"<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "ab"},
		Types: []int32{ggufUnknown, ggufControl, ggufControl, 1, 1, 1, 1, 1}, Scores: []float32{0, 0, 0, -4, -5, -6, -2, -1}}
	check(g, "ab a", "<s>|▁|ab|▁a", 8)
	no := false
	g.AddSpacePrefix, g.AddBOS = &no, &no
	check(g, "ab a?", "ab|▁a|<unk>", 8)
}

func TestFromGGUFRefused(t *testing.T) {
	yes := true
	for name, c := range map[string]struct {
		change func(*GGUF)
		want   string
	}{
		"model":      {func(g *GGUF) { g.Model = "bert" }, `"bert"`},
		"pre":        {func(g *GGUF) { g.Pre = "news" }, `tokenizer.ggml.pre "news"`},
		"no tokens":  {func(g *GGUF) { g.Tokens, g.Types = nil, nil }, "there are none"},
		"types":      {func(g *GGUF) { g.Types = g.Types[1:] }, "261 types for 262 tokens"},
		"type":       {func(g *GGUF) { g.Types[0] = 9 }, "unknown type 9"},
		"twice":      {func(g *GGUF) { g.Tokens[1] = g.Tokens[0] }, "tokens 0 and 1 are both"},
		"utf-8":      {func(g *GGUF) { g.Tokens[3] = "\xff" }, "token 3 is not valid UTF-8"},
		"no merges":  {func(g *GGUF) { g.Merges = nil }, "merges: there are none"},
		"merge":      {func(g *GGUF) { g.Merges[0] = "a zz" }, "merge 0"},
		"merge form": {func(g *GGUF) { g.Merges[0] = "ab" }, "merge 0"},
		"eos":        {func(g *GGUF) { g.EOS = 262 }, "262 is not below the 262 tokens"},
		"bos":        {func(g *GGUF) { g.AddBOS = &yes }, "bos_token_id"},
		"scores":     {func(g *GGUF) { g.Model = "llama" }, "0 scores for 262 tokens"},
	} {
		g := ggufOf()
		c.change(&g)
		if _, err := FromGGUF(g); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error that says %q", name, err, c.want)
		}
	}
}
