package infer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// hashModel is a model whose logits are a function of the whole sequence, so
// that a token put into the wrong sequence changes all that follows.
func hashModel(vocab int, seq []int32) []float32 {
	h := uint64(14695981039346656037)
	for _, id := range seq {
		h = (h ^ uint64(id)) * 1099511628211
	}
	rng := rand.New(rand.NewPCG(h, 1))
	logits := make([]float32, vocab)
	for i := range logits {
		logits[i] = float32(rng.NormFloat64() * 2)
	}
	return logits
}

// hashSession is one sequence of hashModel.
type hashSession struct {
	info   Info
	tokens []int32
}

func (s *hashSession) Info() Info           { return s.info }
func (s *hashSession) Tokens() []int32      { return s.tokens }
func (s *hashSession) Len() int             { return len(s.tokens) }
func (s *hashSession) Close() error         { return nil }
func (s *hashSession) Truncate(n int) error { s.tokens = s.tokens[:n]; return nil }
func (s *hashSession) Eval(_ context.Context, tokens []int32) ([]float32, error) {
	s.tokens = append(s.tokens, tokens...)
	return hashModel(s.info.Vocab, s.tokens), nil
}
func (s *hashSession) EvalAll(context.Context, []int32, func(int, []float32) error) error {
	return errors.New("not in this fake")
}

// fakeBatch is hashModel with several sequences. It notes what it was asked.
type fakeBatch struct {
	info     Info
	seqs     [][]int32
	noCopy   bool
	steps    [][]int  // slots, step by step
	prefills []string // "slot: tokens"
	copies   []string // "to from n"
	onStep   func(n int) error
	nanAt    int32 // a sequence that ends with this id gives NaN; 0: none
}

func newFakeBatch(slots, vocab, maxContext int) *fakeBatch {
	return &fakeBatch{info: Info{Vocab: vocab, MaxContext: maxContext}, seqs: make([][]int32, slots)}
}

func (b *fakeBatch) Info() Info              { return b.info }
func (b *fakeBatch) Slots() int              { return len(b.seqs) }
func (b *fakeBatch) Tokens(slot int) []int32 { return b.seqs[slot] }
func (b *fakeBatch) Close() error            { return nil }

func (b *fakeBatch) logits(slot int) []float32 {
	row := hashModel(b.info.Vocab, b.seqs[slot])
	if seq := b.seqs[slot]; b.nanAt != 0 && seq[len(seq)-1] == b.nanAt {
		row[0] = float32(math.NaN())
	}
	return row
}

func (b *fakeBatch) Prefill(ctx context.Context, slot int, tokens []int32) ([]float32, error) {
	if err := CheckPrefill(b, slot, tokens); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.prefills = append(b.prefills, fmt.Sprintf("%d: %d", slot, len(tokens)))
	b.seqs[slot] = append(b.seqs[slot], tokens...)
	return b.logits(slot), nil
}

func (b *fakeBatch) Step(ctx context.Context, slots []int, ids []int32) ([][]float32, error) {
	if err := CheckStep(b, slots, ids); err != nil {
		return nil, err
	}
	b.steps = append(b.steps, slices.Clone(slots))
	if b.onStep != nil {
		if err := b.onStep(len(b.steps)); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var rows [][]float32
	for i, slot := range slots {
		b.seqs[slot] = append(b.seqs[slot], ids[i])
		rows = append(rows, b.logits(slot))
	}
	return rows, nil
}

func (b *fakeBatch) Copy(_ context.Context, to, from, n int) error {
	if b.noCopy {
		return ErrNoCopy
	}
	b.copies = append(b.copies, fmt.Sprintf("%d %d %d", to, from, n))
	b.seqs[to] = slices.Clone(b.seqs[from][:n])
	return nil
}

func (b *fakeBatch) Truncate(slot, n int) error {
	if n < 0 || n > len(b.seqs[slot]) {
		return fmt.Errorf("truncate to %d of %d", n, len(b.seqs[slot]))
	}
	b.seqs[slot] = b.seqs[slot][:n]
	return nil
}

// requests of every kind: prompts of unequal length, some alike at the
// beginning, samplers, seeds, stop tokens and strings, limits.
func mixedRequests(n, vocab int) []BatchRequest {
	rng := rand.New(rand.NewPCG(7, 7))
	shared := make([]int32, 40)
	for i := range shared {
		shared[i] = rng.Int32N(int32(vocab))
	}
	list := make([]BatchRequest, n)
	for i := range list {
		var prompt []int32
		if i%3 == 0 {
			prompt = append(prompt, shared[:20+i%20]...)
		}
		for range 1 + rng.IntN(12) {
			prompt = append(prompt, rng.Int32N(int32(vocab)))
		}
		o := Options{MaxTokens: 1 + rng.IntN(25), Sampler: SamplerOptions{Seed: uint64(i) + 1}}
		switch i % 5 {
		case 1:
			o.Sampler.Temperature, o.Sampler.TopK = 1, 8
		case 2:
			o.Sampler.Temperature, o.Sampler.TopP, o.Sampler.RepetitionPenalty = 0.8, 0.9, 1.3
		case 3:
			o.StopTokens = []int32{5, 9, 11, 40}
		case 4:
			o.MaxTokens, o.StopStrings = 0, []string{"a", "bc", "xyz", "mn"}
		}
		list[i] = BatchRequest{Prompt: prompt, Options: o}
	}
	return list
}

// fresh gives every request a decoder of its own.
func fresh(list []BatchRequest) []BatchRequest {
	out := slices.Clone(list)
	for i := range out {
		out[i].Decoder = &letters{}
	}
	return out
}

// same is a result without its times and what came from where.
func same(r Result) Result {
	r.Timings, r.CachedTokens = Timings{}, 0
	return r
}

func TestGenerateBatchEqualsGenerate(t *testing.T) {
	const vocab, maxContext = 128, 90
	list := mixedRequests(60, vocab)
	var want []Result
	reasons := map[FinishReason]int{}
	for _, q := range fresh(list) {
		s := &hashSession{info: Info{Vocab: vocab, MaxContext: maxContext}}
		r, err := Generate(s, q.Decoder, q.Prompt, q.Options).Run(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		reasons[r.Reason]++
		want = append(want, same(r))
	}
	if reasons[FinishStop] < 5 || reasons[FinishLength] < 5 || reasons[FinishContext] < 1 {
		t.Fatalf("the requests do not end in all ways: %v", reasons)
	}
	for _, slots := range []int{1, 2, 7, 100} {
		for _, noCopy := range []bool{false, true} {
			b := newFakeBatch(slots, vocab, maxContext)
			b.noCopy = noCopy
			got := make([]*Result, len(list))
			streamed := make([]strings.Builder, len(list))
			requests := fresh(list)
			for i := range requests {
				requests[i].Each = func(tok Token) { streamed[i].WriteString(tok.Text) }
			}
			for a, err := range GenerateBatch(t.Context(), b, slices.Values(requests)) {
				if err != nil || a.Err != nil {
					t.Fatal(err, a.Err)
				}
				if got[a.Index] != nil {
					t.Fatalf("two answers to request %d", a.Index)
				}
				r := same(a.Result)
				got[a.Index] = &r
			}
			for i, r := range got {
				if r == nil {
					t.Fatalf("%d slots: no answer to request %d", slots, i)
				}
				if !reflect.DeepEqual(*r, want[i]) {
					t.Errorf("%d slots, request %d:\n got %+v\nwant %+v", slots, i, *r, want[i])
				}
				if streamed[i].String() != r.Text {
					t.Errorf("%d slots, request %d: streamed %q of %q", slots, i, streamed[i].String(), r.Text)
				}
			}
			// Every run is as full as it can be: there are no more steps than
			// one slot's share of the tokens and the longest answer.
			var tokens, longest int
			for _, r := range want {
				tokens += len(r.TokenIDs)
				longest = max(longest, len(r.TokenIDs)+1)
			}
			if most := tokens/slots + longest; len(b.steps) > most {
				t.Errorf("%d slots: %d steps for %d tokens, want at most %d", slots, len(b.steps), tokens, most)
			}
		}
	}
}

// TestGenerateBatchRefills: a slot whose answer has ended takes the next request
// before the next step.
func TestGenerateBatchRefills(t *testing.T) {
	b := newFakeBatch(2, 16, 100)
	var list []BatchRequest
	for _, n := range []int{2, 6, 3, 1, 4} { // tokens of the answers
		list = append(list, BatchRequest{Prompt: []int32{int32(n)}, Options: Options{MaxTokens: n}})
	}
	var ended []int
	for a, err := range GenerateBatch(t.Context(), b, slices.Values(list)) {
		if err != nil || a.Err != nil {
			t.Fatal(err, a.Err)
		}
		ended = append(ended, a.Index)
	}
	// 0 ends with step 1, 2 takes its slot and ends with step 3; 3 needs no
	// step; 4 and 1 go on together, and 1 ends with step 5.
	want := [][]int{{0, 1}, {0, 1}, {0, 1}, {0, 1}, {0, 1}, {0}}
	if !reflect.DeepEqual(b.steps, want) || !slices.Equal(ended, []int{0, 2, 3, 1, 4}) {
		t.Errorf("steps %v, ended %v", b.steps, ended)
	}
}

func TestGenerateBatchSharesBeginnings(t *testing.T) {
	long := make([]int32, 50)
	for i := range long {
		long[i] = int32(i % 7)
	}
	prompt := func(n int, more ...int32) []int32 { return append(slices.Clone(long[:n]), more...) }
	b := newFakeBatch(3, 16, 100)
	list := []BatchRequest{
		{Prompt: prompt(50, 9), Options: Options{MaxTokens: 30}},
		{Prompt: prompt(40, 10), Options: Options{MaxTokens: 2}},         // 40 from slot 0
		{Prompt: prompt(15, 11), Options: Options{MaxTokens: 30}},        // too little to share
		{Prompt: prompt(40, 10, 12, 13), Options: Options{MaxTokens: 2}}, // in slot 1 already
	}
	var cached []int
	for a, err := range GenerateBatch(t.Context(), b, slices.Values(list)) {
		if err != nil || a.Err != nil {
			t.Fatal(err, a.Err)
		}
		if cached = append(cached, a.Result.CachedTokens); a.Result.PromptTokens != len(list[a.Index].Prompt) {
			t.Errorf("request %d: %d prompt tokens", a.Index, a.Result.PromptTokens)
		}
	}
	if !slices.Equal(b.copies, []string{"1 0 40"}) || !slices.Equal(b.prefills, []string{"0: 51", "1: 1", "2: 16", "1: 2"}) {
		t.Errorf("copies %v, prefills %v", b.copies, b.prefills)
	}
	if !slices.Equal(cached, []int{40, 41, 0, 0}) {
		t.Errorf("cached %v", cached)
	}
}

func TestGenerateBatchErrorsOfOne(t *testing.T) {
	const vocab = 64
	good := mixedRequests(12, vocab)
	for i := range good {
		good[i].Options.MaxTokens = 10
		good[i].Options.StopTokens = []int32{63} // the id that gives NaN is never fed but by the bad one
	}
	bad := map[int]BatchRequest{
		2: {},                           // no tokens
		4: {Prompt: []int32{vocab}},     // no such token
		5: {Prompt: make([]int32, 200)}, // beyond the context
		7: {Prompt: []int32{1}, Options: Options{Sampler: SamplerOptions{TopP: 2}}},
		9: {Prompt: []int32{63}}, // NaN
	}
	run := func(list []BatchRequest) map[int]BatchAnswer {
		b := newFakeBatch(3, vocab, 120)
		b.nanAt = 63
		out := map[int]BatchAnswer{}
		for a, err := range GenerateBatch(t.Context(), b, slices.Values(list)) {
			if err != nil {
				t.Fatal(err)
			}
			out[a.Index] = a
		}
		return out
	}
	want := run(fresh(good))
	list := fresh(good)
	for i, q := range bad {
		list[i] = q
	}
	got := run(list)
	if len(got) != len(list) {
		t.Fatalf("%d answers to %d requests", len(got), len(list))
	}
	for i, a := range got {
		if _, is := bad[i]; is {
			if a.Err == nil || a.Result.Reason != FinishError {
				t.Errorf("request %d: reason %q, error %v", i, a.Result.Reason, a.Err)
			}
			continue
		}
		if a.Err != nil || !reflect.DeepEqual(same(a.Result), same(want[i].Result)) {
			t.Errorf("request %d: %v\n got %+v\nwant %+v", i, a.Err, a.Result, want[i].Result)
		}
	}
	var tooLong *ContextError
	if !errors.As(got[5].Err, &tooLong) || tooLong.Prompt != 200 {
		t.Errorf("request 5: %v", got[5].Err)
	}
	var nan *NaNError
	if !errors.As(got[9].Err, &nan) {
		t.Errorf("request 9: %v", got[9].Err)
	}
}

// ends runs requests until an error and returns the answers with one, and it.
func ends(ctx context.Context, b Batch, list []BatchRequest) (answers []BatchAnswer, last error) {
	for a, err := range GenerateBatch(ctx, b, slices.Values(list)) {
		if err != nil {
			return answers, err
		}
		answers = append(answers, a)
	}
	return answers, nil
}

func endless(n int) []BatchRequest {
	list := make([]BatchRequest, n)
	for i := range list {
		list[i] = BatchRequest{Prompt: []int32{int32(i)}, Decoder: &letters{}}
	}
	return list
}

func TestGenerateBatchCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := newFakeBatch(3, 64, 1000)
	b.onStep = func(n int) error {
		if n == 5 {
			cancel()
		}
		return nil
	}
	answers, err := ends(ctx, b, endless(8))
	if !errors.Is(err, context.Canceled) || len(answers) != 3 || len(b.steps) != 5 {
		t.Fatalf("%v, %d answers, %d steps", err, len(answers), len(b.steps))
	}
	for _, a := range answers {
		if !errors.Is(a.Err, context.Canceled) || a.Result.Reason != FinishCancelled || len(a.Result.TokenIDs) != 5 || a.Result.Text == "" {
			t.Errorf("%+v", a)
		}
	}
	// In a prompt.
	ctx, cancel = context.WithCancel(t.Context())
	b = newFakeBatch(3, 64, 1000)
	seen := 0
	requests := func(yield func(BatchRequest) bool) {
		for _, q := range endless(8) {
			if seen++; seen == 2 {
				cancel()
			}
			if !yield(q) {
				return
			}
		}
	}
	var all []BatchAnswer
	for a, e := range GenerateBatch(ctx, b, requests) {
		all, err = append(all, a), e
	}
	if !errors.Is(err, context.Canceled) || len(all) != 3 || seen != 2 || all[2].Index != -1 {
		t.Fatalf("%v, %d answers, %d requests taken", err, len(all), seen)
	}
}

func TestGenerateBatchStepFails(t *testing.T) {
	broken := errors.New("the device is gone")
	b := newFakeBatch(2, 64, 1000)
	b.onStep = func(n int) error {
		if n == 3 {
			return broken
		}
		return nil
	}
	answers, err := ends(t.Context(), b, endless(4))
	if !errors.Is(err, broken) || len(answers) != 2 {
		t.Fatalf("%v, %d answers", err, len(answers))
	}
	for _, a := range answers {
		if !errors.Is(a.Err, broken) || a.Result.Reason != FinishError || len(a.Result.TokenIDs) != 3 {
			t.Errorf("%+v", a)
		}
	}
}

// TestGenerateBatchLeft: who leaves the loop ends the work, and the batch can be
// used again.
func TestGenerateBatchLeft(t *testing.T) {
	b := newFakeBatch(2, 64, 60)
	for range GenerateBatch(t.Context(), b, slices.Values(endless(10))) {
		break
	}
	steps := len(b.steps)
	if steps == 0 || steps > 60 {
		t.Fatalf("%d steps until the first answer", steps)
	}
	list := []BatchRequest{{Prompt: []int32{3, 4}, Options: Options{MaxTokens: 5}}}
	answers, err := ends(t.Context(), b, list)
	if err != nil || len(answers) != 1 || answers[0].Err != nil {
		t.Fatal(answers, err)
	}
	s := &hashSession{info: b.info}
	want, err := Generate(s, nil, list[0].Prompt, list[0].Options).Run(t.Context(), nil)
	if err != nil || !slices.Equal(want.TokenIDs, answers[0].Result.TokenIDs) {
		t.Errorf("%v after the loop was left, %v alone", answers[0].Result.TokenIDs, want.TokenIDs)
	}
}

// TestGenerateBatchParallelSampling: long rows are sampled by several goroutines,
// with the same choices.
func TestGenerateBatchParallelSampling(t *testing.T) {
	const vocab = parallelSampling/4 + 1
	list := mixedRequests(6, vocab)
	for i := range list {
		list[i].Options.MaxTokens, list[i].Options.StopStrings = 4, nil
	}
	b := newFakeBatch(6, vocab, 100)
	answers, err := ends(t.Context(), b, list)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range answers {
		q := list[a.Index]
		want, err := Generate(&hashSession{info: b.info}, nil, q.Prompt, q.Options).Run(t.Context(), nil)
		if err != nil || !slices.Equal(want.TokenIDs, a.Result.TokenIDs) {
			t.Errorf("request %d: %v, alone %v (%v)", a.Index, a.Result.TokenIDs, want.TokenIDs, err)
		}
	}
}

func TestSingle(t *testing.T) {
	list := mixedRequests(10, 128)
	answers, err := ends(t.Context(), Single(&hashSession{info: Info{Vocab: 128, MaxContext: 90}}), fresh(list))
	if err != nil || len(answers) != len(list) {
		t.Fatalf("%d answers, %v", len(answers), err)
	}
	for i, q := range fresh(list) {
		want, err := Generate(&hashSession{info: Info{Vocab: 128, MaxContext: 90}}, q.Decoder, q.Prompt, q.Options).Run(t.Context(), nil)
		if err != nil || answers[i].Index != i || !reflect.DeepEqual(same(answers[i].Result), same(want)) {
			t.Errorf("request %d: %+v, want %+v (%v)", i, answers[i].Result, want, err)
		}
	}
}

func TestBatchChecks(t *testing.T) {
	b := newFakeBatch(2, 16, 4)
	b.seqs[1] = []int32{1, 2, 3, 4}
	for name, err := range map[string]error{
		"no slots":      CheckStep(b, nil, nil),
		"fewer ids":     CheckStep(b, []int{0, 1}, []int32{1}),
		"no such slot":  CheckStep(b, []int{2}, []int32{1}),
		"twice":         CheckStep(b, []int{0, 0}, []int32{1, 1}),
		"no such token": CheckStep(b, []int{0}, []int32{16}),
		"full":          CheckStep(b, []int{1}, []int32{1}),
		"prompt slot":   CheckPrefill(b, -1, []int32{1}),
		"no prompt":     CheckPrefill(b, 0, nil),
		"prompt token":  CheckPrefill(b, 0, []int32{-1}),
		"long prompt":   CheckPrefill(b, 0, make([]int32, 5)),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := errors.Join(CheckStep(b, []int{0}, []int32{1}), CheckPrefill(b, 0, make([]int32, 4))); err != nil {
		t.Error(err)
	}
}
