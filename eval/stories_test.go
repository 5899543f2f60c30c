package eval

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/convert/togguf"
	"github.com/llama-pajamas/llama-pajamas/eval/questions"
	"github.com/llama-pajamas/llama-pajamas/fidelity"
	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/internal/reference"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/samples"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// stories is the sample model with its plain forward pass.
func stories(t testing.TB) (*reference.Model, *tokenizer.Tokenizer, *modeldir.Folder) {
	t.Helper()
	read := func(name string) []byte {
		b, err := fs.ReadFile(samples.Stories260K(), name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	spec, err := arch.Parse(read("config.json"))
	if err != nil {
		t.Fatal(err)
	}
	b := read("model.safetensors")
	r, err := safetensors.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := reference.New(spec, r.Tensor)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Parse(read("tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, samples.Stories260K()); err != nil {
		t.Fatal(err)
	}
	folder, err := modeldir.OpenFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m, tok, folder
}

// plainSession is infer.Session over the plain forward pass.
type plainSession struct {
	m      *reference.Model
	rows   int
	tokens []int32
	evals  int   // tokens evaluated
	fails  error // of the call after failAt tokens
	failAt int
}

func (s *plainSession) Info() infer.Info {
	return infer.Info{Backend: "plain", Vocab: 512, MaxContext: 512, Rows: s.rows}
}

func (s *plainSession) run(ctx context.Context, tokens []int32) ([][]float32, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.fails != nil && s.evals >= s.failAt {
		return nil, s.fails
	}
	if len(s.tokens)+len(tokens) > 512 {
		return nil, &infer.ContextError{Prompt: len(s.tokens) + len(tokens), Context: 512}
	}
	s.evals += len(tokens)
	s.tokens = append(s.tokens, tokens...)
	return s.m.Forward(tokens), nil
}

func (s *plainSession) Eval(ctx context.Context, tokens []int32) ([]float32, error) {
	rows, err := s.run(ctx, tokens)
	if err != nil {
		return nil, err
	}
	return rows[len(rows)-1], nil
}

func (s *plainSession) EvalAll(ctx context.Context, tokens []int32, each func(int, []float32) error) error {
	if len(tokens) > s.rows {
		return errors.New("more rows than were asked for")
	}
	rows, err := s.run(ctx, tokens)
	if err != nil {
		return err
	}
	for i, row := range rows {
		if err := each(i, row); err != nil {
			return err
		}
	}
	return nil
}

func (s *plainSession) Tokens() []int32 { return s.tokens }
func (s *plainSession) Len() int        { return len(s.tokens) }
func (s *plainSession) Close() error    { return nil }
func (s *plainSession) Truncate(n int) error {
	s.tokens = s.tokens[:n]
	s.m.Truncate(n)
	return nil
}

// whole is the log-likelihood of a pair in one forward pass over all of it.
func whole(m *reference.Model, p pair) (float64, bool) {
	m.Reset()
	ids := append(slices.Clone(p.context), p.continuation...)
	rows := m.Forward(ids[:len(ids)-1])[len(p.context)-1:]
	sum, greedy := 0.0, true
	for i, row := range rows {
		total := 0.0
		for _, x := range row {
			total += math.Exp(float64(x))
		}
		sum += float64(row[p.continuation[i]]) - math.Log(total)
		greedy = greedy && slices.Max(row) == row[p.continuation[i]]
	}
	return sum, greedy
}

// TestLikelihoods compares what is computed by going back and forth in one
// sequence with a forward pass over each whole text, whatever rows the session
// gives at once.
func TestLikelihoods(t *testing.T) {
	m, tok, _ := stories(t)
	requests := []questions.Request{
		{Context: "Once upon a time, there was a little", Continuation: " girl named Lily."},
		{Context: "Once upon a time, there was a little", Continuation: " boy"},
		{Context: "Once upon a time, there was a little", Continuation: " stone of granite, which did not move at all."},
		{Context: "Once upon a time", Continuation: ", there was a little girl"},
		{Context: "Tom took the ball from Sam because Sam", Continuation: " was tired."},
		{Context: "Tom took the ball from Sam because Tom", Continuation: " was tired."},
	}
	var pairs []pair
	for _, r := range requests {
		p, err := encodePair(tok, r)
		if err != nil {
			t.Fatal(err)
		}
		pairs = append(pairs, p)
	}
	for _, rows := range []int{0, 2, 3, 64} {
		s := &plainSession{m: m, rows: rows}
		if _, err := s.Eval(t.Context(), []int32{1, 400, 401}); err != nil { // something else before
			t.Fatal(err)
		}
		s.evals = 0
		got, err := likelihoods(t.Context(), s, pairs)
		if err != nil {
			t.Fatal(err)
		}
		evaluated := s.evals
		naive := 0
		for i, p := range pairs {
			naive += len(p.context) + len(p.continuation) - 1
			want, greedy := whole(m, p)
			if math.Abs(got[i].LogLikelihood-want) > 1e-3 || got[i].Greedy != greedy || got[i].Tokens != len(p.continuation) {
				t.Errorf("rows %d, %q: %+v, want %v, %v", rows, requests[i].Continuation, got[i], want, greedy)
			}
		}
		if evaluated >= naive*2/3 {
			t.Errorf("rows %d: %d tokens evaluated, %d without going back", rows, evaluated, naive)
		}
	}
	if !slices.ContainsFunc(pairs, func(p pair) bool { _, greedy := whole(m, p); return greedy }) {
		t.Error("no continuation is what the model would write: the test cannot see greedy")
	}
}

func TestFit(t *testing.T) {
	p := pair{context: []int32{1, 2, 3, 4, 5}, continuation: []int32{6, 7}}
	if err := p.fit(6); err != nil || p.cut != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	if err := p.fit(4); err != nil || !slices.Equal(p.context, []int32{3, 4, 5}) || p.cut != 2 {
		t.Errorf("%+v, %v", p, err)
	}
	if err := p.fit(1); err == nil {
		t.Errorf("%+v fits one token", p)
	}
}

//go:embed testdata/encode_pair.py
var encodePairScript string

// TestEncodePair compares ids with those of lm-evaluation-harness's rule.
func TestEncodePair(t *testing.T) {
	_, tok, folder := stories(t)
	qs, err := questions.Set(0)
	if err != nil {
		t.Fatal(err)
	}
	requests := []questions.Request{{Context: "Lily had a \t ", Continuation: "ball."}, {Context: "x\n\n", Continuation: "  y"}}
	for _, q := range qs {
		requests = append(requests, q.Requests()...)
	}
	var texts [][2]string
	for _, r := range requests {
		texts = append(texts, [2]string{r.Context, r.Continuation})
	}
	stdin, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	var want [][2][]int32
	if err := json.Unmarshal(oracle.Run(t, encodePairScript, stdin, filepath.Join(folder.Dir, "tokenizer.json")), &want); err != nil {
		t.Fatal(err)
	}
	if len(want) < 200 {
		t.Fatalf("%d pairs", len(want))
	}
	for i, r := range requests {
		p, err := encodePair(tok, r)
		if err != nil {
			t.Errorf("%q: %v", r, err)
			continue
		}
		if !slices.Equal(p.context, want[i][0]) || !slices.Equal(p.continuation, want[i][1]) {
			t.Errorf("%q:\n%v\n%v, want\n%v", r, p.context, p.continuation, want[i])
		}
	}
	if _, err := encodePair(tok, questions.Request{Context: " \n", Continuation: "x"}); err == nil {
		t.Error("an empty context is no error")
	}
}

// perplexity is that of the plain forward pass by a definition.
func perplexity(t testing.TB, m *reference.Model, tokens []int32, definition string) fidelity.Result {
	t.Helper()
	d, err := fidelity.ParseDefinition(definition)
	if err != nil {
		t.Fatal(err)
	}
	var a fidelity.Accumulator
	placed := d.Place(tokens, 1)
	for _, w := range d.Cut(len(tokens)) {
		m.Reset()
		rows := m.Forward(placed[w.Start:w.Last])
		for pos := w.First; pos < w.Last; pos++ {
			row := rows[pos-w.Start]
			if err := a.AddWeighted(row, row, w.Target(placed, pos), d.Weight(w)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return a.Result()
}

// TestOriginals compares perplexities of stories260K in float32 with what the
// programs whose definitions they are print for the same text:
//
//	llama-perplexity -m stories260K-F32.gguf -f text -c 512 -b 512 -fa off
//
// of llama.cpp v0.5.0, whose cache is of 16 bits; and the example of the
// transformers documentation's page on perplexity, with transformers 5.24.0 and
// torch 2.15.0, on all 1906 tokens and on the first 600.
func TestOriginals(t *testing.T) {
	m, tok, _ := stories(t)
	tokens := tok.Encode(Text[:3000], tokenizer.EncodeOptions{AddSpecial: true})
	if len(tokens) != 1906 {
		t.Fatalf("%d tokens, transformers has 1906", len(tokens))
	}
	for _, c := range []struct {
		definition    string
		tokens        int
		value, stdErr float64
		tolerance     float64
	}{
		{"llama.cpp:512", 1906, 109.8761, 12.69441, 1e-3},
		{"llama.cpp:128", 1906, 106.0608, 11.94108, 1e-3},
		{"huggingface:512:256", 1906, 115.26588439941406, 0, 1e-5},
		{"huggingface:64:16", 600, 101.9372329711914, 0, 1e-5},
	} {
		r := perplexity(t, m, tokens[:c.tokens], c.definition)
		if math.Abs(r.Perplexity-c.value) > c.tolerance*c.value {
			t.Errorf("%s: %.4f, the original prints %.4f", c.definition, r.Perplexity, c.value)
		}
		if c.stdErr > 0 && math.Abs(r.PerplexityStdErr-c.stdErr) > c.tolerance*c.stdErr {
			t.Errorf("%s: error %.5f, the original prints %.5f", c.definition, r.PerplexityStdErr, c.stdErr)
		}
	}
	// What the two definitions differ in from their neighbours must be seen.
	for _, c := range [][2]string{{"llama.cpp:64", "second-half:64"}, {"huggingface:64:16", "sliding:64:16"}} {
		a, b := perplexity(t, m, tokens[:600], c[0]).Perplexity, perplexity(t, m, tokens[:600], c[1]).Perplexity
		if math.Abs(a-b) < 5e-4*a {
			t.Errorf("%s and %s are alike: %v and %v", c[0], c[1], a, b)
		}
	}
}

//go:embed testdata/llamacpp.py
var llamaCppScript string

// TestLlamaCpp compares log-likelihoods and a perplexity with those that a
// script computes through the llama.cpp library.
func TestLlamaCpp(t *testing.T) {
	lib := oracle.LlamaCpp(t)
	m, tok, folder := stories(t)
	qs, err := questions.Set(12)
	if err != nil {
		t.Fatal(err)
	}
	var pairs []pair
	for _, q := range qs {
		for _, r := range q.Requests() {
			p, err := encodePair(tok, r)
			if err == nil {
				err = p.fit(512)
			}
			if err != nil {
				t.Fatal(err)
			}
			pairs = append(pairs, p)
		}
	}
	tokens := tok.Encode(Text[:2000], tokenizer.EncodeOptions{AddSpecial: true})
	request := struct {
		Pairs  [][2][]int32 `json:"pairs"`
		Tokens []int32      `json:"tokens"`
		Window int          `json:"window"`
		BOS    int          `json:"bos"`
	}{Tokens: tokens, Window: 200, BOS: 1}
	for _, p := range pairs {
		request.Pairs = append(request.Pairs, [2][]int32{p.context, p.continuation})
	}
	stdin, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Pairs      [][2]any
		Perplexity float64
		Error      float64
		Count      int
	}
	if err := json.Unmarshal(oracle.Run(t, oracle.LlamaCppModule+llamaCppScript, stdin, lib, storiesGGUF(t, folder.Dir)), &want); err != nil {
		t.Fatal(err)
	}
	got, err := likelihoods(t.Context(), &plainSession{m: m, rows: Rows}, pairs)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) < 20 || len(want.Pairs) != len(got) {
		t.Fatalf("%d scores, llama.cpp has %d", len(got), len(want.Pairs))
	}
	for i, s := range got {
		l, greedy := want.Pairs[i][0].(float64), want.Pairs[i][1].(bool)
		if math.Abs(s.LogLikelihood-l) > 1e-3 || s.Greedy != greedy {
			t.Errorf("pair %d: %v %v, llama.cpp %v %v", i, s.LogLikelihood, s.Greedy, l, greedy)
		}
	}
	r := perplexity(t, m, tokens, "llama.cpp:200")
	if math.Abs(r.Perplexity-want.Perplexity) > 1e-4*want.Perplexity || math.Abs(r.PerplexityStdErr-want.Error) > 1e-4*want.Error || r.Scored != want.Count {
		t.Errorf("perplexity %v ± %v of %d, llama.cpp %v ± %v of %d", r.Perplexity, r.PerplexityStdErr, r.Scored, want.Perplexity, want.Error, want.Count)
	}
}

// storiesGGUF writes the model as a GGUF file of float32.
func storiesGGUF(t testing.TB, dir string) string {
	t.Helper()
	ck, err := checkpoint.Open(t.Context(), dir, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	f32, err := togguf.ParseFileType("F32")
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	job, err := convert.New(t.Context(), ck, convert.Options{Output: out, NoBase: true, GGUF: convert.GGUF{Types: []togguf.FileType{f32}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(job.Write(t.Context()), job.WriteMetadata(t.Context()), job.Publish()); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(out, "gguf", "F32", "*.gguf"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the conversion left %v, %v", found, err)
	}
	return found[0]
}
