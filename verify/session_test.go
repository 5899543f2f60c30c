package verify

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/fidelity"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/samples"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// fakeBackend opens sessions whose logits are a function of all tokens so far.
type fakeBackend struct {
	vocab int
	noise float32 // added to the logit of token 0
	fails error   // of the second window
	opens infer.OpenOptions
	evals int
}

func (b *fakeBackend) Name() string { return "fake" }

func (b *fakeBackend) Open(_ context.Context, _ *modeldir.Folder, o infer.OpenOptions) (infer.Session, error) {
	b.opens = o
	return &fakeSession{b: b}, nil
}

type fakeSession struct {
	b      *fakeBackend
	tokens []int32
}

func (s *fakeSession) Info() infer.Info {
	return infer.Info{Backend: "fake", Version: "1.2", Provider: "CPU", Vocab: s.b.vocab}
}

func fakeRow(tokens []int32, vocab int) []float32 {
	h := uint32(7)
	for _, t := range tokens {
		h = h*31 + uint32(t)
	}
	row := make([]float32, vocab)
	for i := range row {
		h = h*1664525 + 1013904223
		row[i] = float32(h>>24) / 64
	}
	return row
}

func (s *fakeSession) EvalAll(_ context.Context, tokens []int32, each func(int, []float32) error) error {
	if s.b.evals++; s.b.evals == 2 && s.b.fails != nil {
		return s.b.fails
	}
	for i, t := range tokens {
		s.tokens = append(s.tokens, t)
		row := fakeRow(s.tokens, s.b.vocab)
		row[0] += s.b.noise
		if err := each(i, row); err != nil {
			return err
		}
	}
	return nil
}

func (s *fakeSession) Eval(context.Context, []int32) ([]float32, error) {
	return nil, errors.New("not asked for")
}
func (s *fakeSession) Tokens() []int32      { return s.tokens }
func (s *fakeSession) Len() int             { return len(s.tokens) }
func (s *fakeSession) Truncate(n int) error { s.tokens = s.tokens[:n]; return nil }
func (s *fakeSession) Close() error         { return nil }

// TestRunSession compares a model with its own logits: every row must be that of
// its window and position, whatever the definition.
func TestRunSession(t *testing.T) {
	const vocab = 11
	var tokens []int32
	for i := range 50 {
		tokens = append(tokens, int32(i*i%vocab))
	}
	errTest := errors.New("test")
	for _, definition := range []string{"windows:16", "sliding:16:4", "second-half:16", "huggingface:16:4", "llama.cpp:16"} {
		d, err := fidelity.ParseDefinition(definition)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "logits")
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		w, err := fidelity.CreateLogits(f, fidelity.Header{Reference: "itself", Text: "numbers", Definition: d, Vocab: vocab, Tokens: tokens})
		if err != nil {
			t.Fatal(err)
		}
		windows := d.Cut(len(tokens))
		for _, win := range windows {
			for pos := win.First; pos < win.Last; pos++ {
				if err := w.Add(fakeRow(tokens[win.Start:pos+1], vocab)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := errors.Join(w.Close(), f.Close()); err != nil {
			t.Fatal(err)
		}
		run := func(b *fakeBackend, o Options) (Result, error) {
			o.ReferenceLogits = file
			return RunSession(t.Context(), SessionModel{Backend: b, Folder: &modeldir.Folder{Dir: "m"}}, o)
		}
		share := 0.0
		b := &fakeBackend{vocab: vocab}
		r, err := run(b, Options{Progress: func(s float64) { share = s }})
		if err != nil {
			t.Fatalf("%s: %v", definition, err)
		}
		if g := r.Fidelity; g.KLMax > 1e-6 || g.MaxAbsDelta > 1e-3 || g.Top1Agreement != 1 || g.Tokens != fidelity.Rows(windows) ||
			g.Reference != "itself" || g.Text != "numbers" || g.Definition != definition || g.Arithmetic != "fake v1.2 on CPU" {
			t.Errorf("%s: %+v", definition, g)
		}
		if !b.opens.AllLogits || b.opens.Context > 16 || share <= 0 || share > 1 {
			t.Errorf("%s: opened with %+v, progress ends with %g", definition, b.opens, share)
		}
		if r, err := run(&fakeBackend{vocab: vocab, noise: 2}, Options{}); err != nil || r.Fidelity.KLMean < 0.01 {
			t.Errorf("%s: other logits give %+v, %v", definition, r.Fidelity, err)
		}
		if _, err := run(&fakeBackend{vocab: vocab + 1}, Options{}); err == nil {
			t.Errorf("%s: a wider row is no error", definition)
		}
		if _, err := run(&fakeBackend{vocab: vocab, fails: errTest}, Options{}); !errors.Is(err, errTest) {
			t.Errorf("%s: error %v, want that of the session", definition, err)
		}
	}
}

// TestRunSessionKeeps wants the logits that a reference keeps to be those it is
// later compared with, of the text as the definition places it.
func TestRunSessionKeeps(t *testing.T) {
	data, err := fs.ReadFile(samples.Stories260K(), "tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	m := SessionModel{Backend: &fakeBackend{vocab: 512}, Folder: &modeldir.Folder{Dir: "m"}, Tokenizer: tok}
	d := fidelity.Definition{Kind: fidelity.LlamaCpp, Window: 8}
	file := filepath.Join(t.TempDir(), "logits")
	o := Options{Text: "Once upon a time there was a tree with red apples.", TextName: "tree", Definition: d, SaveLogits: file, ReferenceName: "m itself"}
	kept, err := RunSession(t.Context(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := fidelity.OpenLogits(file)
	if err != nil {
		t.Fatal(err)
	}
	h := l.Header()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if h.Reference != "m itself" || h.Text != "tree" || h.Definition != d || len(h.Tokens) < 17 {
		t.Fatalf("the file is of %+v", h)
	}
	for i := 0; i < len(h.Tokens); i += 8 {
		if h.Tokens[i] != 1 {
			t.Errorf("window at %d begins with %d, want <s>", i, h.Tokens[i])
		}
	}
	o.SaveLogits, o.ReferenceLogits = "", file
	again, err := RunSession(t.Context(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	if again.Figures.KLMax > 1e-6 || again.Fidelity.Reference != "m itself" || again.Figures.Perplexity != kept.Figures.Perplexity || kept.Figures.Perplexity == 0 {
		t.Errorf("kept %+v, compared %+v", kept.Figures, again.Figures)
	}
	o.SaveLogits = file
	if _, err := RunSession(t.Context(), m, o); err == nil {
		t.Error("a reference that is compared with another is no error")
	}
}
