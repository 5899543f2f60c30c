package llamacpp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/tensor"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

func newBatch(t testing.TB, s infer.Session, slots int) *batch {
	t.Helper()
	b, err := NewBatch(t.Context(), s, slots)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b.(*batch)
}

// TestBatchLogits: sequences of unequal length give in one run what each gives
// alone, while they grow beyond the first cache, are cut, copied, and take part
// in other company and order.
func TestBatchLogits(t *testing.T) {
	file := stories(t, "F32")
	backend := newBackend(t, exact())
	s := open(t, backend, file, infer.OpenOptions{Chunk: 50})
	b := newBatch(t, s, 3)
	b.ctx.Close() // a small one, that it must grow
	b.options.Length = 32
	b.chunk, b.options.Batch = 32, 32
	var err error
	if b.ctx, err = b.s.model.NewContext(b.options); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []int32 {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = rng.Int32N(int32(s.Info().Vocab))
		}
		return ids
	}
	check := func(what string, slot int, got []float32) {
		t.Helper()
		got = slices.Clone(got)
		if err := s.Truncate(0); err != nil {
			t.Fatal(err)
		}
		want, err := s.Eval(t.Context(), b.Tokens(slot))
		if err != nil {
			t.Fatal(err)
		}
		if d := distance(got, want); !(d < 1e-3*maxAbs(want)) {
			t.Fatalf("%s: slot %d at %d tokens: logits differ by %g", what, slot, len(b.Tokens(slot)), d)
		}
	}
	prefill := func(slot, n int) {
		t.Helper()
		before := len(b.Tokens(slot))
		logits, err := b.Prefill(t.Context(), slot, random(n))
		if err != nil || len(b.Tokens(slot)) != before+n {
			t.Fatalf("%d tokens after %d more than %d: %v", len(b.Tokens(slot)), n, before, err)
		}
		check("prompt", slot, logits)
	}
	step := func(slots ...int) {
		t.Helper()
		rows, err := b.Step(t.Context(), slots, random(len(slots)))
		if err != nil {
			t.Fatal(err)
		}
		for i, slot := range slots {
			check(fmt.Sprintf("step of %v", slots), slot, rows[i])
		}
	}
	for slot, n := range []int{1, 37, 110} {
		prefill(slot, n)
		step(slot)
	}
	first := b.ctx.Length()
	for range 20 {
		step(0, 1, 2)
	}
	step(2, 0)
	step(1)
	prefill(0, 300)
	if b.ctx.Length() <= first {
		t.Errorf("the caches hold %d tokens each, %d at first", b.ctx.Length(), first)
	}
	step(1, 2, 0)
	if err := errors.Join(b.Truncate(2, 50), b.Truncate(0, 0)); err != nil {
		t.Fatal(err)
	}
	prefill(0, 5)
	step(0, 2, 1)
	shared := slices.Clone(b.Tokens(2)[:40])
	if err := b.Copy(t.Context(), 1, 2, 40); err != nil || !slices.Equal(b.Tokens(1), shared) {
		t.Fatalf("a copy of 40 tokens holds %d: %v", len(b.Tokens(1)), err)
	}
	step(1, 2)
	step(0, 1, 2)
}

func TestBatchRefuses(t *testing.T) {
	s := open(t, newBackend(t, exact()), stories(t, "F32"), infer.OpenOptions{Context: 40})
	if _, err := NewBatch(t.Context(), s, 0); err == nil {
		t.Error("no slots: no error")
	}
	var unsupported *tensor.UnsupportedError
	if _, err := NewBatch(t.Context(), struct{ infer.Session }{s}, 2); !errors.As(err, &unsupported) {
		t.Errorf("another package's session: %v", err)
	}
	b := newBatch(t, s, 2)
	if b.Slots() != 2 || b.Info().MaxContext != 40 {
		t.Errorf("%d slots, context %d", b.Slots(), b.Info().MaxContext)
	}
	ids := slices.Repeat([]int32{5}, 41)
	if _, err := b.Prefill(t.Context(), 0, ids); err == nil {
		t.Error("a prompt beyond the context: no error")
	}
	if _, err := b.Prefill(t.Context(), 0, ids[:40]); err != nil {
		t.Error(err)
	}
	if _, err := b.Step(t.Context(), []int{0}, ids[:1]); err == nil {
		t.Error("a step beyond the context: no error")
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Prefill(cancelled, 1, ids[:3]); !errors.Is(err, context.Canceled) || len(b.Tokens(1)) != 0 {
		t.Errorf("a cancelled prompt: %v, %d tokens", err, len(b.Tokens(1)))
	}
	if _, err := b.Prefill(t.Context(), 1, ids[:3]); err != nil {
		t.Error(err)
	}
	if _, err := b.Step(cancelled, []int{1}, ids[:1]); !errors.Is(err, context.Canceled) || len(b.Tokens(1)) != 3 {
		t.Errorf("a cancelled step: %v, %d tokens", err, len(b.Tokens(1)))
	}
	for name, err := range map[string]error{
		"copy to nowhere": b.Copy(t.Context(), 2, 0, 1), "copy too much": b.Copy(t.Context(), 0, 1, 4),
		"keep too much": b.Truncate(1, 4), "keep nothing of nowhere": b.Truncate(-1, 0),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := errors.Join(b.Close(), b.Close()); err != nil {
		t.Error(err)
	}
	if _, err := b.Prefill(t.Context(), 1, ids[:1]); err == nil {
		t.Error("a closed batch: no error")
	}
}

// TestBatchStories: greedy answers of the sample to prompts of unequal length are
// those of one sequence alone. Kernels for one row and for several differ in the
// order of sums, so that a token nearly as likely may be chosen.
func TestBatchStories(t *testing.T) {
	for name, c := range map[string]struct {
		typ    string
		o      Options
		nearly float32
	}{
		"float32": {"F32", exact(), 1e-3},
		"Q8_0":    {"Q8_0", Options{}, 0.2},
	} {
		t.Run(name, func(t *testing.T) {
			file := stories(t, c.typ)
			s := open(t, newBackend(t, c.o), file, infer.OpenOptions{})
			_, tok, err := OpenText(file)
			if err != nil {
				t.Fatal(err)
			}
			words := []string{"Once", "upon", "a", "time", "there", "was", "a", "little", "dog", "who", "liked", "to", "play", "in", "the", "big", "park", "with", "Tom", "and", "Lily"}
			rng := rand.New(rand.NewPCG(3, 5))
			var requests []infer.BatchRequest
			for i := range 34 {
				text := ""
				for range 1 + i*2 {
					text += words[rng.IntN(len(words))] + " "
				}
				prompt := tok.Encode(text, tokenizer.EncodeOptions{AddSpecial: true})
				requests = append(requests, infer.BatchRequest{Prompt: prompt, Options: infer.Options{MaxTokens: 20 + i*7%40}})
			}
			got := make([][]int32, len(requests))
			for a, err := range infer.GenerateBatch(t.Context(), newBatch(t, s, 8), slices.Values(requests)) {
				if err != nil || a.Err != nil {
					t.Fatal(err, a.Err)
				}
				got[a.Index] = a.Result.TokenIDs
			}
			others := 0
			for i, q := range requests {
				r, err := infer.Generate(s, nil, q.Prompt, q.Options).Run(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				want, at := r.TokenIDs, 0
				for at < len(want) && at < len(got[i]) && got[i][at] == want[at] {
					at++
				}
				if at == len(want) && at == len(got[i]) {
					continue
				}
				others++
				if at == len(want) || at == len(got[i]) {
					t.Errorf("prompt %d: %d tokens in a batch, %d alone", i, len(got[i]), len(want))
					continue
				}
				if err := s.Truncate(0); err != nil {
					t.Fatal(err)
				}
				logits, err := s.Eval(t.Context(), slices.Concat(q.Prompt, want[:at]))
				if err != nil {
					t.Fatal(err)
				}
				if gap := logits[want[at]] - logits[got[i][at]]; !(gap < c.nearly) {
					t.Errorf("prompt %d of %d tokens: token %d is %d in a batch, %d alone, %v more likely", i, len(q.Prompt), at, got[i][at], want[at], gap)
				}
			}
			t.Logf("%d of %d answers are others in a batch", others, len(requests))
			if others > len(requests)/3 {
				t.Errorf("%d of %d answers are others in a batch", others, len(requests))
			}
		})
	}
}
