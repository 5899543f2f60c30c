package llamacpp

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/convert/togguf"
	"github.com/llama-pajamas/llama-pajamas/fidelity"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/internal/reference"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/samples"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

var tokEncode tokenizer.EncodeOptions // texts as they stand

func libraryFile(t testing.TB) string {
	t.Helper()
	name := "libllama.so"
	if runtime.GOOS == "darwin" {
		name = "libllama.dylib"
	}
	return filepath.Join(oracle.LlamaCpp(t), name)
}

func newBackend(t testing.TB, o Options) *Backend {
	t.Helper()
	o.Library = libraryFile(t)
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// exact are options under which llama.cpp computes in float32 throughout.
func exact() Options { return Options{KVCache: "f32", Flash: "off", NoRepack: true} }

func open(t testing.TB, b *Backend, path string, o infer.OpenOptions) infer.Session {
	t.Helper()
	if o.Threads == 0 {
		o.Threads = 1 // more wait for each other on a busy machine
	}
	s, err := b.Open(t.Context(), &modeldir.Folder{Dir: filepath.Dir(path), Model: path}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// stories writes the sample model as GGUF of one type.
func stories(t testing.TB, typ string) string {
	t.Helper()
	src := filepath.Join(t.TempDir(), "stories260K")
	if err := os.CopyFS(src, samples.Stories260K()); err != nil {
		t.Fatal(err)
	}
	ft, err := togguf.ParseFileType(typ)
	if err != nil {
		t.Fatal(err)
	}
	ck, err := checkpoint.Open(t.Context(), src, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	out := t.TempDir()
	job, err := convert.New(t.Context(), ck, convert.Options{Output: out, NoBase: true, GGUF: convert.GGUF{Types: []togguf.FileType{ft}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, do := range []func(context.Context) error{job.Write, job.WriteMetadata, func(context.Context) error { return job.Publish() }} {
		if err := do(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	found, err := filepath.Glob(filepath.Join(out, "gguf", ft.String(), "*.gguf"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the conversion left %v, %v", found, err)
	}
	return found[0]
}

// referenceOf is the plain forward pass of a checkpoint.
func referenceOf(t testing.TB, path string) *reference.Model {
	t.Helper()
	ck, err := checkpoint.Open(t.Context(), path, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	spec, err := arch.Parse(ck.Config())
	if err != nil {
		t.Fatal(err)
	}
	m, err := reference.New(spec, ck.Tensor)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func argmax(x []float32) int32 {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return int32(best)
}

func maxAbs(x []float32) (m float64) {
	for _, v := range x {
		m = max(m, math.Abs(float64(v)))
	}
	return m
}

func distance(a, b []float32) (d float64) {
	for i := range a {
		d = max(d, math.Abs(float64(a[i])-float64(b[i])))
	}
	return d
}

// TestGreedyStory: the sample as GGUF of float32 tells its makers' story token
// for token, through this module's own tokenizer.
func TestGreedyStory(t *testing.T) {
	data, err := fs.ReadFile(samples.Stories260K(), "expected_greedy.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Prompt []int32 `json:"prompt_ids"`
		IDs    []int32 `json:"greedy_ids"` // the prompt's too
		Text   string  `json:"text"`
	}
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	file := stories(t, "F32")
	s := open(t, newBackend(t, exact()), file, infer.OpenOptions{})
	_, tok, err := OpenText(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := infer.Generate(s, tok.NewDecoder(true), want.Prompt, infer.Options{MaxTokens: len(want.IDs) - len(want.Prompt)}).Run(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := append(slices.Clone(want.Prompt), r.TokenIDs...); len(got) != 256 || !slices.Equal(got, want.IDs) {
		t.Errorf("ids\n%v, want\n%v", got, want.IDs)
	}
	if text := strings.TrimSpace(r.Text); text != strings.TrimSpace(want.Text) {
		t.Errorf("text\n%s\nwant\n%s", r.Text, want.Text)
	}
	if i := s.Info(); i.Backend != "llama.cpp" || i.Vocab != 512 || i.MaxContext != 512 || i.Provider != "CPU" || i.CacheBytesPerToken != 5*4*8*2*4 {
		t.Errorf("info %+v", i)
	}
	if f, err := Check(t.Context(), file); err != nil || f.Architecture != "llama" || len(f.LayerBytes) != 5 || f.Bytes() < 1e6 {
		t.Errorf("facts %+v, %v", f, err)
	}
}

// TestLogits compares every position with the plain forward pass, and the
// perplexity with it.
func TestLogits(t *testing.T) {
	file := stories(t, "F32")
	m := referenceOf(t, file)
	_, tok, err := OpenText(file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "samples", "stories260K", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	ids := append([]int32{1}, tok.Encode(string(text), tokEncode)...)
	ids = ids[:min(400, len(ids))]
	if len(ids) < 300 {
		t.Fatalf("the text has %d tokens only", len(ids))
	}
	want := m.Forward(ids)
	s := open(t, newBackend(t, exact()), file, infer.OpenOptions{AllLogits: true})
	worst, n := 0.0, 0
	var sum fidelity.Accumulator
	err = s.EvalAll(t.Context(), ids, func(pos int, logits []float32) error {
		n++
		worst = max(worst, distance(logits, want[pos])-1e-5*maxAbs(want[pos]))
		if pos+1 < len(ids) {
			return sum.Add(want[pos], logits, ids[pos+1])
		}
		return nil
	})
	if err != nil || n != len(ids) {
		t.Fatalf("%d positions, %v", n, err)
	}
	if worst > 2e-4 {
		t.Errorf("logits differ by %g beyond 1e-5 of the largest, want at most 2e-4", worst)
	}
	if r := sum.Result(); math.Abs(r.PerplexityRatio-1) > 1e-4 || r.Top1 < 1 {
		t.Errorf("against the plain pass: %+v", r)
	}
	t.Logf("largest difference %.2g, %+v", worst, sum.Result())
}

// TestSessionSteps: one run, chunks, single tokens, rewinding, a cache that is
// made larger, and types of the cache give the same logits as near as they can.
func TestSessionSteps(t *testing.T) {
	file := stories(t, "F32")
	m := referenceOf(t, file)
	ids := make([]int32, 90)
	for i := range ids {
		ids[i] = int32((i*31 + i*i*7) % 512)
	}
	want := m.Forward(ids)
	for _, tt := range []struct {
		cache     string
		tolerance float64
	}{{"f32", 1e-3}, {"f16", 0.05}, {"bf16", 0.4}} {
		t.Run(tt.cache, func(t *testing.T) {
			o := exact()
			o.KVCache = tt.cache
			b := newBackend(t, o)
			b.capacity = 16 // llama.cpp rounds it up to 256
			s := open(t, b, file, infer.OpenOptions{Chunk: 16, Context: 300})
			check := func(what string, logits []float32, err error, row int) {
				t.Helper()
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if d := distance(logits, want[row]); d > tt.tolerance {
					t.Errorf("%s: logits differ by %g", what, d)
				}
			}
			logits, err := s.Eval(t.Context(), ids)
			check("chunks", logits, err, 89)
			if err := s.Truncate(40); err != nil || s.Len() != 40 {
				t.Fatalf("length %d, %v", s.Len(), err)
			}
			for i := 40; i < 50; i++ {
				logits, err = s.Eval(t.Context(), ids[i:i+1])
				check("one by one", logits, err, i)
			}
			if n, err := infer.Rewind(s, ids[:70]); n != 50 || err != nil {
				t.Errorf("reused %d, %v", n, err)
			}
			logits, err = s.Eval(t.Context(), ids[50:70])
			check("after a rewind", logits, err, 69)
			if !slices.Equal(s.Tokens(), ids[:70]) {
				t.Errorf("tokens %v", s.Tokens())
			}
			// Beyond 256 the cache is made anew.
			long := slices.Concat(ids, ids, ids)
			far := lastRow(m, long)
			if _, err := infer.Rewind(s, long); err != nil {
				t.Fatal(err)
			}
			if logits, err = s.Eval(t.Context(), long[70:]); err != nil {
				t.Fatal(err)
			}
			if d := distance(logits, far); d > tt.tolerance {
				t.Errorf("after growth: logits differ by %g", d)
			}
			if err := s.Truncate(0); err != nil || s.Len() != 0 {
				t.Fatal(err)
			}
			logits, err = s.Eval(t.Context(), ids[:20])
			check("from the start", logits, err, 19)
		})
	}
}

// lastRow is the last row of a fresh forward pass.
func lastRow(m *reference.Model, ids []int32) []float32 {
	m.Reset()
	rows := m.Forward(ids)
	return rows[len(rows)-1]
}

// TestQuantizedCache: the cache's types below 16 bits run, and cost little.
func TestQuantizedCache(t *testing.T) {
	file := oracle.SampleGGUF(t)
	_, tok, err := OpenText(file)
	if err != nil {
		t.Fatal(err)
	}
	ids := tok.Encode("The three largest cities of Germany are Berlin, Hamburg and", tokEncode)
	size := map[string]int64{}
	for _, cache := range []string{"f16", "q8_0"} {
		s := open(t, newBackend(t, Options{KVCache: cache}), file, infer.OpenOptions{Context: 256})
		logits, err := s.Eval(t.Context(), ids)
		if err != nil {
			t.Fatal(err)
		}
		if next := tok.Decode([]int32{argmax(logits)}, false); next != " Munich" && next != " Frankfurt" {
			t.Errorf("%s: next is %q", cache, next)
		}
		size[cache] = s.Info().CacheBytesPerToken
	}
	// 30 layers, 3 key heads of 64, keys and values.
	if size["f16"] != 30*3*64*2*2 || size["q8_0"] != 30*3*64*2*34/32 {
		t.Errorf("bytes per token %v", size)
	}
}

// TestSmolLM2 generates greedily from a real quantized file. llama.cpp rounds
// activations to 8 bits, so its choice may be another than the plain forward
// pass's of the same weights only where that has the two near each other.
func TestSmolLM2(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the plain forward pass takes a minute")
	}
	file := oracle.SampleGGUF(t)
	_, tok, err := OpenText(file)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, newBackend(t, Options{}), file, infer.OpenOptions{Context: 512})
	prompt := tok.Encode("The capital of France is", tokEncode)
	r, err := infer.Generate(s, tok.NewDecoder(true), prompt, infer.Options{MaxTokens: 16}).Run(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Concat(prompt, r.TokenIDs)
	rows := referenceOf(t, file).Forward(all[:len(all)-1])
	equal := 0
	for i, id := range r.TokenIDs {
		row := rows[len(prompt)-1+i]
		best := argmax(row)
		if best == id {
			equal++
		} else if gap := row[best] - row[id]; gap > 0.5 {
			t.Errorf("token %d is %q, the plain pass has %q, %.2f above it", i, tok.Decode([]int32{id}, false), tok.Decode([]int32{best}, false), gap)
		}
	}
	if equal < 14 {
		t.Errorf("%d of 16 tokens are the plain pass's", equal)
	}
	t.Logf("%q, %d of %d equal", r.Text, equal, len(r.TokenIDs))
}

// TestTokenizer compares this module's tokenizer of a GGUF file with
// llama.cpp's.
func TestTokenizer(t *testing.T) {
	b := newBackend(t, Options{})
	wiki, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	texts := append(strings.Split(string(wiki), "\n"),
		"Hello, world!", "  leading and trailing  ", "tabs\tand\n\nlines\r\n", "naïve café — “quotes” 日本語 한국어 🦙👩‍👩‍👧",
		"1234567890 3.14159 0x1F", "don't I'LL we've", "<|im_start|>user", "a", " ", "\u00a0\u3000x", "e\u0301", strings.Repeat("ab ", 300))
	for name, file := range map[string]string{"SmolLM2": oracle.SampleGGUF(t), "stories260K": stories(t, "F32")} {
		t.Run(name, func(t *testing.T) {
			_, tok, err := OpenText(file)
			if err != nil {
				t.Fatal(err)
			}
			s := open(t, b, file, infer.OpenOptions{Context: 256}).(*session)
			n := 0
			for _, text := range texts {
				want, err := s.model.Tokenize(text, false, false)
				if err != nil {
					t.Fatal(err)
				}
				got := tok.Encode(text, tokEncode)
				if !slices.Equal(got, want) && (len(got) > 0 || len(want) > 0) {
					t.Errorf("%q: %v, llama.cpp has %v", text, got, want)
				}
				n += len(want)
			}
			if n < 500 {
				t.Errorf("only %d tokens were compared", n)
			}
		})
	}
}

func TestSessionRefused(t *testing.T) {
	b := newBackend(t, Options{})
	file := stories(t, "F32")
	s := open(t, b, file, infer.OpenOptions{Context: 32})
	var full *infer.ContextError
	for what, err := range map[string]error{
		"none": second(s.Eval(t.Context(), nil)), "beyond": second(s.Eval(t.Context(), []int32{512})),
		"negative": second(s.Eval(t.Context(), []int32{-1})), "all": s.EvalAll(t.Context(), []int32{1}, nil),
		"keep": s.Truncate(1), "less": s.Truncate(-1),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if _, err := s.Eval(t.Context(), make([]int32, 33)); !errors.As(err, &full) || s.Len() != 0 {
		t.Errorf("too long: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Eval(ctx, []int32{1, 2}); !errors.Is(err, context.Canceled) || s.Len() != 0 {
		t.Errorf("cancelled: %v, %d tokens", err, s.Len())
	}
	if _, err := s.Eval(t.Context(), []int32{1, 2}); err != nil {
		t.Errorf("after a cancellation: %v", err)
	}
	for _, o := range []infer.OpenOptions{{Context: -1}, {Context: 1000}} {
		if _, err := b.Open(t.Context(), &modeldir.Folder{Model: file}, o); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("context %d: %v", o.Context, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Eval(t.Context(), []int32{1}); err == nil {
		t.Error("a closed session evaluates")
	}
	for _, o := range []Options{{KVCache: "q3"}, {Flash: "maybe"}, {KVCache: "q8_0", Flash: "off"}, {GPULayers: -2}, {RPC: []string{"localhost:1"}}} {
		o.Library = libraryFile(t)
		if _, err := New(o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

func second(_ []float32, err error) error { return err }

// TestOverhead measures what a session adds to llama.cpp's own time.
func TestOverhead(t *testing.T) {
	file := oracle.SampleGGUF(t)
	_, tok, err := OpenText(file)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, newBackend(t, Options{}), file, infer.OpenOptions{Context: 512})
	prompt := tok.Encode(strings.Repeat("Once upon a time there was a llama in pajamas. ", 6), tokEncode)
	if _, err := infer.Generate(s, tok.NewDecoder(true), prompt, infer.Options{MaxTokens: 24}).Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	st, ok := StatsOf(s)
	if !ok || st.Calls < 24 {
		t.Fatalf("statistics %+v", st)
	}
	share := 1 - st.Library.Seconds()/st.Total.Seconds()
	t.Logf("%.3f %% of %v outside llama_decode, %d calls", 100*share, st.Total, st.Calls)
	if share > 0.02 || share < 0 {
		t.Errorf("%.2f %% of the time lies outside llama_decode, want at most 2 %%", 100*share)
	}
}
