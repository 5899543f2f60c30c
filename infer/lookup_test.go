package infer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// scripted is a model whose logits are a function of the sequence: it copies
// what followed the last two tokens before, most of the time.
type scripted struct {
	info   Info
	tokens []int32
	seed   uint64
	faith  float64 // how often it copies
	noise  float32 // added to logits of runs of several tokens …
	from   int     // … that end behind so many
	evals  int
	cancel func() // called in the evaluation numbered at
	at     int
	fail   int // the evaluation that fails
	runs   [9]int
}

func (s *scripted) Info() Info      { return s.info }
func (s *scripted) Tokens() []int32 { return s.tokens }
func (s *scripted) Len() int        { return len(s.tokens) }
func (s *scripted) Close() error    { return nil }

var errBroken = errors.New("the fake is broken")

// row is the logits behind the sequence's first n tokens.
func (s *scripted) row(n int) []float32 {
	h := s.seed
	for _, id := range s.tokens[max(0, n-9):n] {
		h = (h ^ uint64(id)) * 1099511628211
	}
	r := rand.New(rand.NewPCG(h, uint64(n)))
	row := make([]float32, s.info.Vocab)
	for i := range row {
		row[i] = r.Float32() * 4
	}
	if r.Float64() < s.faith {
		for i := n - 1; i >= 2; i-- {
			if s.tokens[i-1] == s.tokens[n-1] && s.tokens[i-2] == s.tokens[max(n-2, 0)] {
				row[s.tokens[i]] += 6
				break
			}
		}
	}
	return row
}

func (s *scripted) begin(ctx context.Context, n int) error {
	s.evals++
	if s.cancel != nil && s.evals == s.at {
		s.cancel()
	}
	if s.evals == s.fail {
		return errBroken
	}
	if len(s.tokens)+n > s.info.MaxContext {
		return &ContextError{}
	}
	return ctx.Err()
}

func (s *scripted) Eval(ctx context.Context, tokens []int32) ([]float32, error) {
	if err := s.begin(ctx, len(tokens)); err != nil {
		return nil, err
	}
	s.tokens = append(s.tokens, tokens...)
	return s.row(len(s.tokens)), nil
}

func (s *scripted) EvalAll(ctx context.Context, tokens []int32, each func(int, []float32) error) error {
	if len(tokens) > s.info.Rows {
		return fmt.Errorf("%d rows of %d", len(tokens), s.info.Rows)
	}
	if err := s.begin(ctx, len(tokens)); err != nil {
		return err
	}
	s.runs[len(tokens)]++
	base := len(s.tokens)
	s.tokens = append(s.tokens, tokens...)
	for i := range tokens {
		row := s.row(base + i + 1)
		if len(s.tokens) > s.from {
			row[0] += s.noise
		}
		if err := each(i, row); err != nil {
			return err
		}
	}
	return nil
}

func (s *scripted) Truncate(n int) error {
	if n < 0 || n > len(s.tokens) {
		return fmt.Errorf("truncate to %d of %d", n, len(s.tokens))
	}
	s.tokens = s.tokens[:n]
	return nil
}

// outcome is all that a caller sees of a generation.
type outcome struct {
	steps  []Token
	result Result
	held   []int32
	err    error
}

func outcomeOf(ctx context.Context, s *scripted, prompt []int32, o Options) outcome {
	var out outcome
	g := Generate(s, &letters{}, prompt, o)
	for tok, err := range g.Tokens(ctx) {
		if err != nil {
			out.err = err
			break
		}
		out.steps = append(out.steps, tok)
	}
	out.result = g.Result()
	out.held = slices.Clone(s.Tokens())
	return out
}

// sameAs compares what does not depend on the clock.
func (a outcome) sameAs(b outcome) error {
	x, y := a.result, b.result
	switch {
	case !slices.Equal(x.TokenIDs, y.TokenIDs):
		return fmt.Errorf("ids %v, want %v", x.TokenIDs, y.TokenIDs)
	case x.Text != y.Text || !slices.Equal(a.steps, b.steps):
		return fmt.Errorf("text %q in %d steps, want %q in %d", x.Text, len(a.steps), y.Text, len(b.steps))
	case x.Reason != y.Reason || x.StopText != y.StopText || x.Seed != y.Seed || x.CachedTokens != y.CachedTokens:
		return fmt.Errorf("%s %q seed %d cached %d, want %s %q %d %d", x.Reason, x.StopText, x.Seed, x.CachedTokens, y.Reason, y.StopText, y.Seed, y.CachedTokens)
	case !slices.Equal(a.held, b.held):
		return fmt.Errorf("the session holds %v, want %v", a.held, b.held)
	case fmt.Sprint(a.err) != fmt.Sprint(b.err):
		return fmt.Errorf("error %v, want %v", a.err, b.err)
	}
	return nil
}

func newScripted(r *rand.Rand, seed uint64) *scripted {
	return &scripted{
		info: Info{Vocab: 60 + r.IntN(4), MaxContext: 300, Rows: LookupRows},
		seed: seed, faith: []float64{0, 0.6, 0.9, 0.99, 1}[r.IntN(5)],
	}
}

func randomPrompt(r *rand.Rand) []int32 {
	prompt := make([]int32, 1+r.IntN(60))
	for i := range prompt {
		prompt[i] = int32(r.IntN(12) + 30*r.IntN(2))
	}
	return append(prompt, prompt[:len(prompt)/2]...)
}

// TestLookupChangesNothing: whatever the model, sampler and limits, a generation
// with drafts is one without, to the text, the reason, and what the session
// holds; over two turns, of which the second goes on from the first.
func TestLookupChangesNothing(t *testing.T) {
	var drafted, accepted, trials int
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 7))
		o := Options{MaxTokens: r.IntN(3) * r.IntN(120), Sampler: SamplerOptions{Seed: 1}}
		if r.IntN(2) == 0 {
			o.Sampler = SamplerOptions{Temperature: 0.2 + r.Float64(), TopK: r.IntN(30), TopP: r.Float64(), Seed: 1 + seed}
		}
		if r.IntN(3) == 0 {
			o.Sampler.RepetitionPenalty, o.Sampler.FrequencyPenalty, o.Sampler.PenaltyWindow = 1+r.Float64()/4, r.Float64(), r.IntN(20)
		}
		if r.IntN(2) == 0 {
			o.StopTokens = []int32{int32(r.IntN(60))}
		}
		if r.IntN(3) == 0 {
			o.StopStrings = []string{string([]rune{rune(r.IntN(60)), rune(r.IntN(60))}), string([]rune{'(', rune(r.IntN(60)), rune(r.IntN(60))})}
		}
		loose := r.IntN(2) == 0
		plain, drafting := newScripted(rand.New(rand.NewPCG(seed, 8)), seed), newScripted(rand.New(rand.NewPCG(seed, 8)), seed)
		l := NewLookup(LookupOptions{Loose: loose, NoClock: true})
		prompt := randomPrompt(r)
		for turn := range 2 {
			o.Lookup = nil
			want := outcomeOf(t.Context(), plain, prompt, o)
			o.Lookup = l
			got := outcomeOf(t.Context(), drafting, prompt, o)
			if err := got.sameAs(want); err != nil {
				t.Fatalf("seed %d, turn %d, %+v: %v", seed, turn, o, err)
			}
			st := got.result.Lookup
			drafted, accepted, trials = drafted+st.Drafted, accepted+st.Accepted, trials+st.Trials
			prompt = append(append(prompt, want.result.TokenIDs...), 3, 4, 5)
			if len(prompt) > 250 {
				break
			}
		}
	}
	if accepted < 1000 || drafted-accepted < 100 || trials < 100 {
		t.Errorf("%d tokens drafted, %d accepted, %d trials: the test says nothing", drafted, accepted, trials)
	}
}

// TestLookupSavesRuns: a text that repeats itself takes fewer runs.
func TestLookupSavesRuns(t *testing.T) {
	for _, loose := range []bool{false, true} {
		s := &scripted{info: Info{Vocab: 60, MaxContext: 1000, Rows: LookupRows}, faith: 1}
		prompt := slices.Repeat([]int32{5, 17, 31, 44, 2, 9, 23, 50, 11, 12}, 3)
		r := outcomeOf(t.Context(), s, prompt, Options{MaxTokens: 300, Lookup: NewLookup(LookupOptions{Loose: loose, NoClock: true})}).result
		if len(r.TokenIDs) != 300 || s.evals > 120 || r.Lookup.Accepted < 200 {
			t.Errorf("loose %v: %d tokens in %d evaluations, %+v", loose, len(r.TokenIDs), s.evals, r.Lookup)
		}
		if (r.Lookup.Trials > 0) == loose {
			t.Errorf("loose %v: %d trials", loose, r.Lookup.Trials)
		}
	}
}

// TestLookupOrdinaryText: where nothing repeats there are few drafts.
func TestLookupOrdinaryText(t *testing.T) {
	s := &scripted{info: Info{Vocab: 60, MaxContext: 1000, Rows: LookupRows}}
	r := outcomeOf(t.Context(), s, randomPrompt(rand.New(rand.NewPCG(1, 1))), Options{MaxTokens: 400, Lookup: NewLookup(LookupOptions{Loose: true})}).result
	if len(r.TokenIDs) != 400 || r.Lookup.Runs > 10 {
		t.Errorf("%d tokens, %+v", len(r.TokenIDs), r.Lookup)
	}
}

// TestLookupFindsRounding: a session whose runs of several tokens are off by one
// last bit gets no drafts, but for those who do not mind.
func TestLookupFindsRounding(t *testing.T) {
	prompt := slices.Repeat([]int32{5, 17, 31, 44, 2, 9, 23, 50, 11, 12}, 3)
	run := func(noise float32, l *Lookup) outcome {
		s := &scripted{info: Info{Vocab: 60, MaxContext: 1000, Rows: LookupRows}, faith: 1, noise: noise}
		return outcomeOf(t.Context(), s, prompt, Options{MaxTokens: 200, Lookup: l, Sampler: SamplerOptions{Seed: 1}})
	}
	want := run(0, nil)
	l := NewLookup(LookupOptions{NoClock: true})
	got := run(1e-6, l)
	if err := got.sameAs(want); err != nil {
		t.Error(err)
	}
	if st := got.result.Lookup; st.Runs != 0 || st.Trials != 1 || st.Off == "" {
		t.Errorf("with noise: %+v", st)
	}
	if st := run(0, l).result.Lookup; st.Trials != 0 || st.Off == "" {
		t.Errorf("the next generation: %+v", st)
	}
	if st := run(1e-6, NewLookup(LookupOptions{Loose: true})).result.Lookup; st.Accepted < 100 || st.Off != "" {
		t.Errorf("loose: %+v", st)
	}
	// Kernels of longer sequences are another matter.
	long := Options{MaxTokens: 600, Sampler: SamplerOptions{Seed: 1}}
	s := &scripted{info: Info{Vocab: 60, MaxContext: 1000, Rows: LookupRows}, faith: 1}
	want600 := outcomeOf(t.Context(), s, prompt, long)
	s = &scripted{info: s.info, faith: 1, noise: 100, from: 2 * blockTokens}
	long.Lookup = NewLookup(LookupOptions{NoClock: true})
	got = outcomeOf(t.Context(), s, prompt, long)
	if err := got.sameAs(want600); err != nil || got.result.Lookup.Accepted < 200 || got.result.Lookup.Off == "" {
		t.Errorf("inexact from %d tokens on: %v, %+v", s.from, err, got.result.Lookup)
	}
	s = &scripted{info: Info{Vocab: 60, MaxContext: 1000}, faith: 1}
	got = outcomeOf(t.Context(), s, prompt, Options{MaxTokens: 200, Lookup: NewLookup(LookupOptions{NoClock: true}), Sampler: SamplerOptions{Seed: 1}})
	if err := got.sameAs(want); err != nil || got.result.Lookup.Off == "" || got.result.Lookup.Trials != 0 {
		t.Errorf("a session without rows: %v, %+v", err, got.result.Lookup)
	}
}

// TestLookupInterrupted: a generation that is cancelled, that fails or that its
// reader leaves shows the beginning of the whole one, and the session holds a
// beginning of its tokens.
func TestLookupInterrupted(t *testing.T) {
	prompt := slices.Repeat([]int32{5, 17, 31, 44, 2, 9, 23, 50, 11, 12}, 3)
	model := func() *scripted {
		return &scripted{info: Info{Vocab: 60, MaxContext: 1000, Rows: LookupRows}, faith: 0.97}
	}
	o := Options{MaxTokens: 150}
	want := outcomeOf(t.Context(), model(), prompt, o)
	all := append(slices.Clone(prompt), want.result.TokenIDs...)
	for at := 1; at < 80; at++ {
		for _, how := range []string{"cancel", "fail", "leave"} {
			ctx, cancel := context.WithCancel(t.Context())
			s := model()
			o.Lookup = NewLookup(LookupOptions{Loose: at%2 == 0, NoClock: true})
			wantErr := context.Canceled
			if how == "cancel" {
				s.cancel, s.at = cancel, at
			} else {
				s.fail, wantErr = at, errBroken
			}
			var r Result
			if how == "leave" {
				s.fail = 0
				g := Generate(s, &letters{}, prompt, o)
				n := 0
				for range g.Tokens(ctx) {
					if n++; n == at {
						break
					}
				}
				r = g.Result()
				if len(r.TokenIDs) != at || r.Reason != FinishCancelled {
					t.Errorf("left at %d: %d tokens, %s", at, len(r.TokenIDs), r.Reason)
				}
				if held := len(prompt) + at - 1; s.Len() != held {
					t.Errorf("left at %d: the session holds %d tokens, want %d", at, s.Len(), held)
				}
			} else {
				out := outcomeOf(ctx, s, prompt, o)
				if r = out.result; s.evals >= at && !errors.Is(out.err, wantErr) {
					t.Errorf("%s in evaluation %d: %v", how, at, out.err)
				}
			}
			cancel()
			if n := len(r.TokenIDs); !slices.Equal(r.TokenIDs, want.result.TokenIDs[:n]) {
				t.Errorf("%s at %d: another text", how, at)
			}
			if !slices.Equal(s.tokens, all[:len(s.tokens)]) {
				t.Errorf("%s at %d: the session holds other tokens", how, at)
			}
		}
	}
}

// FuzzNgrams: the index finds the latest earlier place of the longest end.
func FuzzNgrams(f *testing.F) {
	f.Add([]byte("abcabcabcabdabcabc"), uint8(3))
	f.Add([]byte("aaaaaaaaaaaaaaaaaaaa"), uint8(0))
	f.Fuzz(func(t *testing.T, text []byte, keep uint8) {
		var seq []int32
		for _, b := range text {
			seq = append(seq, int32(b%5))
		}
		var g ngrams
		g.reset(append(slices.Clone(seq[:min(int(keep), len(seq))]), 3)) // another sequence before
		g.reset(seq)
		for n := range 30 {
			class, at, ok := g.find()
			wantClass, wantAt := naive(g.seq)
			if ok != (wantAt > 0) || ok && (class != wantClass || at != wantAt) {
				t.Fatalf("after %v: class %d at %d (%v), want %d at %d", g.seq, class, at, ok, wantClass, wantAt)
			}
			if ok {
				d := g.follow([]int32{9, 9}, at, 7)[2:]
				whole := append(slices.Clone(g.seq), d...)
				for i, id := range d {
					if whole[at+i] != id {
						t.Fatalf("draft %v behind %v from %d", d, g.seq, at)
					}
				}
			}
			g.push(int32(n*n) % 5)
		}
	})
}

func naive(seq []int32) (class, at int) {
	for class, size := range ngramSizes {
		if size > len(seq) {
			continue
		}
		end := seq[len(seq)-size:]
		for at := len(seq) - 1; at >= size; at-- {
			if slices.Equal(seq[at-size:at], end) {
				return class, at
			}
		}
	}
	return 0, 0
}

// TestLookupComparesBits: 0 and -0 are equal numbers, and not the same logits.
func TestLookupComparesBits(t *testing.T) {
	rows := &trial{rows: []float32{0, 1, 2, 3}}
	if !rows.same(0, []float32{0, 1}) || !rows.same(1, []float32{2, 3}) {
		t.Error("equal rows differ")
	}
	if rows.same(0, []float32{float32(math.Copysign(0, -1)), 1}) || rows.same(1, []float32{2, math.Nextafter32(3, 4)}) {
		t.Error("other rows are the same")
	}
}

func BenchmarkLookupPush(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	seq := make([]int32, 4096)
	for i := range seq {
		seq[i] = int32(r.IntN(200))
	}
	for b.Loop() {
		var g ngrams
		g.reset(seq)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(seq)), "ns/token")
}
