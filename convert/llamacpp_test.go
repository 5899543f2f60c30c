package convert_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/convert/togguf"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/internal/reference"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/tensor"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// loadScript loads a GGUF file in llama.cpp and prints what it warned of, the
// tokens of texts, a greedy continuation of ids, and the mean negative
// log-likelihood of ids.
const loadScript = `
import json, pathlib
lib = load_library(pathlib.Path(sys.argv[1]))
q = json.load(sys.stdin)
warnings = []
@c.CFUNCTYPE(None, c.c_int, c.c_char_p, ptr)
def log(level, text, _):
    text = text.decode(errors="replace")
    if level in (3, 4) or "warning" in text.lower():
        warnings.append(text)
lib.llama_log_set(log, None)
model = lib.llama_model_load_from_file(q["file"].encode(), lib.llama_model_default_params())
if not model:
    print(json.dumps({"warnings": warnings}))
    sys.exit()
vocab = lib.llama_model_get_vocab(model)
lib.llama_tokenize.restype, lib.llama_tokenize.argtypes = i32, [ptr, c.c_char_p, i32, ptr, i32, flag, flag]
out = {"warnings": warnings, "loaded": True, "tokens": []}
for text in q["texts"]:
    b = text.encode()
    buf = (i32 * (len(b) + 16))()
    n = lib.llama_tokenize(vocab, b, len(b), buf, len(buf), q["add_special"], True)
    out["tokens"].append(list(buf[:n]))
n_vocab = lib.llama_vocab_n_tokens(vocab)
if q["ids"]:
    p = lib.llama_context_default_params()
    p.n_ctx, p.n_batch, p.n_ubatch, p.n_threads, p.n_threads_batch = q["context"], 512, 512, 1, 1
    if q["exact"]:
        p.flash_attn_type = 0  # off: it would round to float16
        p.type_k = p.type_v = 0  # float32
    ctx = lib.llama_init_from_model(model, p)
    batch = lib.llama_batch_init(512, 0, 1)
    batch.fill(q["ids"], 0, True)
    assert lib.llama_decode(ctx, batch) == 0
    logits = np.ctypeslib.as_array(lib.llama_get_logits(ctx), (len(q["ids"]), n_vocab)).astype(np.float64)
    logits = logits - logits.max(1, keepdims=True)
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    out["nll"] = -float(np.mean([logp[i, t] for i, t in enumerate(q["ids"][1:])])) if len(q["ids"]) > 1 else 0
    lib.llama_memory_clear(lib.llama_get_memory(ctx), False)
    ids = q["prompt"]
    batch.fill(ids, 0, False)
    out["greedy"] = []
    at = len(ids)
    while q["prompt"] and len(out["greedy"]) < q["greedy"]:
        assert lib.llama_decode(ctx, batch) == 0
        row = np.ctypeslib.as_array(lib.llama_get_logits_ith(ctx, -1), (n_vocab,))
        out["greedy"].append(int(row.argmax()))
        batch.fill(out["greedy"][-1:], at, False)
        at += 1
out["warnings"] = warnings
print(json.dumps(out))
`

type loadQuestion struct {
	File       string   `json:"file"`
	Texts      []string `json:"texts"`
	AddSpecial bool     `json:"add_special"`
	IDs        []int32  `json:"ids"`
	Prompt     []int32  `json:"prompt"`
	Greedy     int      `json:"greedy"`
	Context    int      `json:"context"`
	Exact      bool     `json:"exact"` // float32 cache
}

type loadAnswer struct {
	Warnings []string  `json:"warnings"`
	Loaded   bool      `json:"loaded"`
	Tokens   [][]int32 `json:"tokens"`
	Greedy   []int32   `json:"greedy"`
	NLL      float64   `json:"nll"`
}

func askLlamaCpp(t *testing.T, q loadQuestion) loadAnswer {
	t.Helper()
	q.Texts = append([]string{}, q.Texts...)
	if q.Context == 0 {
		q.Context = 256 // the least that the tiny models are made for
	}
	in, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	var a loadAnswer
	out := oracle.Run(t, oracle.LlamaCppModule+loadScript, in, oracle.LlamaCpp(t))
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatalf("script printed %.300q: %v", out, err)
	}
	for _, w := range a.Warnings {
		// Qwen's vocabulary has a </s> that is plain text to Qwen. llama.cpp says
		// so of its own converter's files too, and takes it for a control token.
		// Gemma has one, too.
		if strings.Contains(w, "control-looking token: 128247 '</s>'") || strings.Contains(w, "control-looking token:    212 '</s>'") {
			continue
		}
		if strings.Contains(w, "using full-size SWA cache") {
			continue // its default, of which it warns
		}
		if q.Exact && strings.Contains(w, "(256) > n_ctx_train") {
			continue // the context of a model whose window is ignored
		}
		t.Errorf("llama.cpp says of %s: %s", filepath.Base(q.File), w)
	}
	if !a.Loaded {
		t.Fatalf("llama.cpp does not load %s", q.File)
	}
	return a
}

var tokenTexts = []string{
	"", " ", "Once upon a time, there was a little girl named Lily.", "  two spaces\n\n\nand lines\t\ttabs  ",
	"Ünïcödé — “quotes” … 東京タワー 한국어 🎉👩‍👩‍👧", "def f(x):\n    return x**2  # 12345 678", "I'll can't WE'VE 3.14159e-10", "x</s><s>y", "▁a ▁ b", "naïve\r\nline\r",
}

// TestLlamaCppLoads wants every tokenizer and architecture loaded without a
// word, and texts cut as our own tokenizer cuts them.
func TestLlamaCppLoads(t *testing.T) {
	// The converter wants Gemma's tokenizer.model, which is not at hand.
	gemma := converterCase{folder: "gemma-3-tiny", variant: "gemma3", tokenizer: "gemma3", set: map[string]any{"vocab_size": 262208, "bos_token_id": 2, "eos_token_id": []int{1, 106}}}
	for _, c := range append(slices.Clone(converterCases), gemma) {
		t.Run(c.folder, func(t *testing.T) {
			src := c.write(t)
			dir := toGGUF(t, src, convert.GGUF{Types: []togguf.FileType{togguf.Q8_0}})[togguf.Q8_0]
			tk, err := tokenizer.Load(src)
			if err != nil {
				t.Fatal(err)
			}
			for _, special := range []bool{true, false} {
				a := askLlamaCpp(t, loadQuestion{File: theGGUF(t, dir), Texts: tokenTexts, AddSpecial: special, IDs: []int32{1, 5, 9}, Prompt: []int32{1}, Greedy: 2})
				for i, text := range tokenTexts {
					if strings.HasPrefix(c.folder, "Qwen") && strings.Contains(text, "</s>") {
						continue // see askLlamaCpp
					}
					if c.folder == gemma.folder && strings.Contains(text, "▁ ") {
						continue // runs of spaces are whole tokens, which llama.cpp looks for before it writes U+2581 for spaces
					}
					want := tk.Encode(text, tokenizer.EncodeOptions{AddSpecial: special, ParseSpecial: true})
					if !slices.Equal(a.Tokens[i], want) && len(a.Tokens[i])+len(want) > 0 {
						t.Errorf("add special %v, %q: llama.cpp cuts %v, tokenizer.json %v", special, text, a.Tokens[i], want)
					}
				}
			}
		})
	}
}

// TestLlamaCppAnswers wants the known greedy text of stories260K from our file,
// and the perplexity of quantized ones near it.
func TestLlamaCppAnswers(t *testing.T) {
	src := converterCase{folder: "stories260K"}.write(t)
	b, err := os.ReadFile(filepath.Join(src, "expected_greedy.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Prompt []int32 `json:"prompt_ids"`
		Greedy []int32 `json:"greedy_ids"`
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	types := []togguf.FileType{togguf.F32, togguf.F16, togguf.BF16, togguf.Q8_0, togguf.Q4_K_M, togguf.Q2_K}
	dirs := toGGUF(t, src, convert.GGUF{Types: types})
	var base float64
	for _, ft := range types {
		a := askLlamaCpp(t, loadQuestion{File: theGGUF(t, dirs[ft]), IDs: want.Greedy[:250], Prompt: want.Prompt, Greedy: 100, Context: 512})
		if ft == togguf.F32 {
			base = a.NLL
			if !slices.Equal(a.Greedy, want.Greedy[1:101]) {
				t.Errorf("F32: greedy ids are %v, want %v", a.Greedy, want.Greedy[1:101])
			}
		}
		limit := map[togguf.FileType]float64{togguf.F16: 0.001, togguf.BF16: 0.05, togguf.Q8_0: 0.01}[ft]
		if limit == 0 {
			limit = 0.5
		}
		if ratio := math.Exp(a.NLL-base) - 1; math.Abs(ratio) > limit {
			t.Errorf("%v: perplexity is off by %.4f", ft, ratio)
		}
	}
}

// TestLlamaCppComputes wants the log-likelihood and the greedy ids of the plain
// forward pass from our F32 files of every family, for as many tokens as
// llama.cpp attends to as the model does.
func TestLlamaCppComputes(t *testing.T) {
	for _, c := range []struct {
		variant string
		set     map[string]any
		tokens  int
		greedy  int
	}{
		{"gemma2", map[string]any{"query_pre_attn_scalar": 16}, 100, 16},
		{"gemma3", nil, 100, 16},
		{"gemma3", map[string]any{"final_logit_softcapping": 8.5, "layer_types": []string{"sliding_attention", "sliding_attention"}}, 100, 16},
		{"qwen3-yarn", nil, 100, 16},
		{"qwen3-yarn", map[string]any{"rope_scaling": map[string]any{"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 80, "attention_factor": 1.3}}, 100, 16},
		{"phi4", nil, 100, 16}, // in a context beyond the original one
		{"mixtral", nil, 100, 16},
		{"qwen3-moe", nil, 100, 16},
		{"phi3", nil, 10, 1},
		{"mistral", nil, 11, 1},
	} {
		v, err := tinymodel.ByName(c.variant)
		if err != nil {
			t.Fatal(err)
		}
		v.Config = maps.Clone(v.Config)
		maps.Copy(v.Config, c.set)
		// llama.cpp looks for tokens of Phi-3 in every model of that name.
		src := filepath.Join(t.TempDir(), "model")
		if err := tinymodel.Write(src, v); err != nil {
			t.Fatal(err)
		}
		spec, get, err := tinymodel.Load(v)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := reference.New(spec, get)
		if err != nil {
			t.Fatal(err)
		}
		ids := make([]int32, c.tokens)
		for i := range ids {
			ids[i] = int32((i*37 + 11) % 500)
		}
		rows := ref.Forward(ids)
		var nll float64
		for i, id := range ids[1:] {
			nll -= logProb(rows[i], id) / float64(len(ids)-1)
		}
		var greedy []int32
		for next := rows[len(rows)-1]; len(greedy) < c.greedy; next = ref.Forward(greedy[len(greedy)-1:])[0] {
			greedy = append(greedy, int32(slices.Index(next, slices.Max(next))))
		}
		file := theGGUF(t, toGGUF(t, src, convert.GGUF{Types: []togguf.FileType{togguf.F32}})[togguf.F32])
		a := askLlamaCpp(t, loadQuestion{File: file, IDs: ids, Prompt: ids, Greedy: c.greedy, Exact: true})
		if math.Abs(a.NLL-nll) > 1e-5*max(1, nll) || !slices.Equal(a.Greedy, greedy) {
			t.Errorf("%s %v: log-likelihood %.7f, want %.7f; greedy %v, want %v", c.variant, c.set, a.NLL, nll, a.Greedy, greedy)
		}
	}
}

// logProb is the log-probability of id.
func logProb(logits []float32, id int32) float64 {
	top := float64(slices.Max(logits))
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v) - top)
	}
	return float64(logits[id]) - top - math.Log(sum)
}

// TestGGUFRefuses wants models that llama.cpp cannot be told of refused.
func TestGGUFRefuses(t *testing.T) {
	for _, c := range []struct {
		variant string
		set     map[string]any
		want    string
	}{
		{"gemma2", nil, "query_pre_attn_scalar 8"},
		{"gemma2", map[string]any{"query_pre_attn_scalar": 16, "final_logit_softcapping": 0}, "without soft caps"},
		{"gemma2", map[string]any{"query_pre_attn_scalar": 16, "layer_types": []string{"full_attention", "sliding_attention"}}, "by turns"},
		{"gemma3", map[string]any{"layer_types": []string{"full_attention", "sliding_attention"}}, "no period"},
		{"gemma3", map[string]any{"query_pre_attn_scalar": 16}, "query_pre_attn_scalar 16"},
		{"gemma3", map[string]any{"attn_logit_softcapping": 50}, "soft caps"},
		{"qwen3-yarn", map[string]any{"rope_scaling": map[string]any{"rope_type": "yarn", "factor": 4.0, "truncate": false}}, "truncate"},
		{"qwen3-moe", map[string]any{"norm_topk_prob": false}, "norm_topk_prob"},
	} {
		v, err := tinymodel.ByName(c.variant)
		if err != nil {
			t.Fatal(err)
		}
		v.Config = maps.Clone(v.Config)
		maps.Copy(v.Config, c.set)
		spec, err := v.Spec()
		if err != nil {
			t.Fatal(err)
		}
		_, err = togguf.Build(spec, togguf.Options{Type: togguf.F32, Config: v.ConfigJSON(), File: func(string) ([]byte, error) { return nil, nil }})
		var unsupported *tensor.UnsupportedError
		if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %v: %v, want an UnsupportedError with %q", c.variant, c.set, err, c.want)
		}
	}
}

// TestGGUFSplit wants llama.cpp to load split files, and their tensors to be
// those of the whole.
func TestGGUFSplit(t *testing.T) {
	src := converterCase{folder: "stories260K"}.write(t)
	ft := togguf.Q8_0
	whole := toGGUF(t, src, convert.GGUF{Types: []togguf.FileType{ft}})[ft]
	want := tensors(t, theGGUF(t, whole))
	for name, g := range map[string]convert.GGUF{
		"tensors": {Types: []togguf.FileType{ft}, SplitTensors: 20},
		"bytes":   {Types: []togguf.FileType{ft}, SplitBytes: 100_000},
	} {
		dir := toGGUF(t, src, g)[ft]
		found, err := filepath.Glob(filepath.Join(dir, "*.gguf"))
		if err != nil || len(found) < 3 {
			t.Fatalf("%s: files are %q, %v", name, found, err)
		}
		for i, p := range found {
			if !strings.HasSuffix(p, fmt.Sprintf("stories260K-Q8_0-%05d-of-%05d.gguf", i+1, len(found))) {
				t.Errorf("%s: file %d is %s", name, i, p)
			}
		}
		sameTensors(t, name, tensors(t, found...), want)
		askLlamaCpp(t, loadQuestion{File: found[0], IDs: []int32{1, 2}, Prompt: []int32{1}, Greedy: 1})
	}
}
