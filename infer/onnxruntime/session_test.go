package onnxruntime

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

func newBackend(t testing.TB) *Backend {
	t.Helper()
	b, err := New(Options{Library: oracle.Library(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func open(t testing.TB, b *Backend, m testModel, o infer.OpenOptions) *session {
	t.Helper()
	o.NoFitCheck = true
	s, err := b.Open(t.Context(), m.write(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.(*session)
}

func sequence(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32((i*31 + i*i*7) % testVocab)
	}
	return ids
}

func eval(t testing.TB, s infer.Session, ids []int32) []float32 {
	t.Helper()
	logits, err := s.Eval(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(logits)
}

// near compares logits. Sums of different chunkings differ in the last bits.
func near(t testing.TB, what string, got, want []float32, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d logits, want %d", what, len(got), len(want))
	}
	for i := range got {
		if d := math.Abs(float64(got[i] - want[i])); !(d <= tolerance) {
			t.Fatalf("%s: logit %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

func variants() map[string]testModel {
	return map[string]testModel{
		"fused":           {fused: true, context: 1024},
		"fused, last":     {fused: true, last: true, context: 1024},
		"fused, float16":  {fused: true, last: true, half: true, context: 1024},
		"growing":         {context: 1024},
		"growing, last":   {last: true, context: 1024},
		"growing float16": {half: true, context: 1024},
	}
}

// TestSessionChunks: one run, chunks, and token by token give the same logits,
// across the growth of the cache.
func TestSessionChunks(t *testing.T) {
	b := newBackend(t)
	for name, m := range variants() {
		t.Run(name, func(t *testing.T) {
			tolerance := 2e-4
			if m.half {
				tolerance = 0.02
			}
			ids := sequence(600)
			want := eval(t, open(t, b, m, infer.OpenOptions{Chunk: 1000}), ids)
			spread := slices.Max(want) - slices.Min(want)
			if !(spread > 0.5) {
				t.Fatalf("the test model's logits are nearly equal (%v apart)", spread)
			}
			s := open(t, b, m, infer.OpenOptions{Chunk: 100})
			near(t, "chunks of 100", eval(t, s, ids), want, tolerance)
			if (s.cache.kind == shared) != m.fused || m.fused && s.cache.capacity < 600 {
				t.Errorf("cache %v, capacity %d", s.cache.kind, s.cache.capacity)
			}
			s = open(t, b, m, infer.OpenOptions{})
			eval(t, s, ids[:5])
			capacity := s.cache.capacity
			var got []float32
			for _, id := range ids[5:] {
				got = eval(t, s, []int32{id})
			}
			near(t, "token by token", got, want, tolerance)
			if m.fused && !(capacity == capacityStep && s.cache.capacity >= 600 && s.cache.capacity < 1024) {
				t.Errorf("the cache held %d, then %d tokens; want growth by steps", capacity, s.cache.capacity)
			}
			if !slices.Equal(s.Tokens(), ids) || s.Len() != len(ids) {
				t.Error("Tokens is not what was evaluated")
			}
		})
	}
}

func TestSessionTruncate(t *testing.T) {
	b := newBackend(t)
	for name, m := range variants() {
		t.Run(name, func(t *testing.T) {
			ids := sequence(300)
			s := open(t, b, m, infer.OpenOptions{})
			want := eval(t, s, ids)
			for _, keep := range []int{0, 1, 255, 256, 299} {
				eval(t, s, slices.Repeat([]int32{3}, 40)) // rows to be forgotten
				if err := s.Truncate(keep); err != nil {
					t.Fatal(err)
				}
				tolerance := 2e-4
				if m.half {
					tolerance = 0.02
				}
				near(t, fmt.Sprintf("kept %d", keep), eval(t, s, ids[keep:]), want, tolerance)
			}
			for _, n := range []int{-1, 301} {
				if err := s.Truncate(n); err == nil {
					t.Errorf("Truncate(%d) of 300 gives no error", n)
				}
			}
		})
	}
}

// TestSessionIgnoresUnusedRows: what lies in the buffer beyond the mask must
// not matter.
func TestSessionIgnoresUnusedRows(t *testing.T) {
	b := newBackend(t)
	m := testModel{fused: true, context: 1024}
	ids := sequence(40)
	want := eval(t, open(t, b, m, infer.OpenOptions{}), ids)
	s := open(t, b, m, infer.OpenOptions{})
	if err := s.cache.reserve(t.Context(), 0, 40); err != nil {
		t.Fatal(err)
	}
	for _, v := range s.cache.values {
		data, err := v.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		for i := range data {
			data[i] = 0xff // NaN
		}
	}
	var got []float32
	for _, part := range [][]int32{ids[:17], ids[17:39], ids[39:]} {
		got = eval(t, s, part)
	}
	near(t, "over NaN", got, want, 2e-4)
}

func TestSessionAllLogits(t *testing.T) {
	b := newBackend(t)
	for name, m := range variants() {
		t.Run(name, func(t *testing.T) {
			ids := sequence(150)
			last := open(t, b, m, infer.OpenOptions{})
			var want [][]float32
			for _, id := range ids {
				want = append(want, eval(t, last, []int32{id}))
			}
			s := open(t, b, m, infer.OpenOptions{AllLogits: true, Chunk: 64})
			tolerance := 2e-4
			if m.half {
				tolerance = 0.02
			}
			next := 0
			err := s.EvalAll(t.Context(), ids, func(pos int, logits []float32) error {
				if pos != next {
					t.Fatalf("position %d after %d", pos, next-1)
				}
				next++
				near(t, fmt.Sprintf("position %d", pos), logits, want[pos], tolerance)
				return nil
			})
			if err != nil || next != len(ids) {
				t.Fatalf("%d positions, %v", next, err)
			}
			near(t, "Eval after EvalAll", eval(t, s, ids[:1]), eval(t, last, ids[:1]), tolerance)
			if err := last.EvalAll(t.Context(), ids, nil); err == nil {
				t.Error("EvalAll without AllLogits gives no error")
			}
			stop := errors.New("enough")
			if err := s.EvalAll(t.Context(), ids, func(int, []float32) error { return stop }); !errors.Is(err, stop) {
				t.Errorf("an error of the callback comes back as %v", err)
			}
		})
	}
}

// cancelAt is a context that ends when it is looked at for the at-th time.
type cancelAt struct {
	context.Context
	cancel context.CancelFunc
	looks  atomic.Int32
	at     int32
}

func (c *cancelAt) Err() error {
	if c.looks.Add(1) == c.at {
		c.cancel()
	}
	return c.Context.Err()
}

// TestSessionCancel: what a cancelled evaluation leaves can be gone on from.
func TestSessionCancel(t *testing.T) {
	b := newBackend(t)
	for name, m := range variants() {
		t.Run(name, func(t *testing.T) {
			m.context = 4096
			ids := sequence(4000)
			s := open(t, b, m, infer.OpenOptions{Chunk: 256})
			want := eval(t, s, ids[:100])
			if err := s.Truncate(50); err != nil {
				t.Fatal(err)
			}
			inner, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := s.Eval(&cancelAt{Context: inner, cancel: cancel, at: 3}, ids[50:])
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("cancelled evaluation gives %v", err)
			}
			if s.Len() == 50 || (s.Len()-50)%256 != 0 || !slices.Equal(s.Tokens(), ids[:s.Len()]) {
				t.Errorf("%d tokens after cancellation, want 50 and whole chunks", s.Len())
			}
			if err := s.Truncate(50); err != nil {
				t.Fatal(err)
			}
			tolerance := 2e-4
			if m.half {
				tolerance = 0.02
			}
			near(t, "after cancellation", eval(t, s, ids[50:100]), want, tolerance)
		})
	}
}

func TestSessionRejects(t *testing.T) {
	b := newBackend(t)
	m := testModel{fused: true, last: true, context: 64}
	s := open(t, b, m, infer.OpenOptions{})
	var full *infer.ContextError
	if _, err := s.Eval(t.Context(), sequence(65)); !errors.As(err, &full) {
		t.Errorf("65 tokens of 64 give %v", err)
	}
	for _, ids := range [][]int32{nil, {-1}, {testVocab}} {
		if _, err := s.Eval(t.Context(), ids); err == nil {
			t.Errorf("Eval(%v) gives no error", ids)
		}
	}
	eval(t, s, sequence(64))
	if s.cache.capacity != 64 {
		t.Errorf("the cache holds %d tokens, the context %d", s.cache.capacity, 64)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Eval(t.Context(), []int32{1}); err == nil {
		t.Error("Eval after Close gives no error")
	}
	folder := m.write(t)
	if _, err := b.Open(t.Context(), folder, infer.OpenOptions{Context: 65}); err == nil {
		t.Error("a context beyond the model's is accepted")
	}
	folder.GenAI.Model.Decoder.Inputs.AttentionMask = "mask"
	if _, err := b.Open(t.Context(), folder, infer.OpenOptions{}); err == nil || !strings.Contains(err.Error(), "attention_mask") {
		t.Errorf("an input without a role: %v", err)
	}
	folder.GenAI.Model.Decoder.Outputs.Logits = "scores"
	if _, err := b.Open(t.Context(), folder, infer.OpenOptions{}); err == nil || !strings.Contains(err.Error(), "scores") {
		t.Errorf("a missing output: %v", err)
	}
}

// TestSessionAllocates: a decode step makes next to no garbage: the argument
// lists of three C calls.
func TestSessionAllocates(t *testing.T) {
	b := newBackend(t)
	s := open(t, b, testModel{fused: true, last: true, context: 2048}, infer.OpenOptions{})
	eval(t, s, sequence(10))
	id := []int32{5}
	s.tokens = slices.Grow(s.tokens, 1000)
	n := testing.AllocsPerRun(200, func() {
		if _, err := s.Eval(context.Background(), id); err != nil {
			t.Fatal(err)
		}
	})
	if n > 4 {
		t.Errorf("%v allocations a step", n)
	}
}

func TestNewCapacity(t *testing.T) {
	for _, c := range []struct{ old, need, limit, want int }{
		{0, 1, 4096, 128}, {0, 96, 4096, 128}, {0, 97, 4096, 256}, {256, 257, 4096, 384}, {1024, 1025, 4096, 1280},
		{3000, 3001, 4096, 3840}, {0, 10, 64, 64}, {0, 5000, 8192, 5120}, {0, 4090, 4096, 4096},
	} {
		if got := newCapacity(c.old, c.need, c.limit); got != c.want {
			t.Errorf("newCapacity(%d, %d, %d) = %d, want %d", c.old, c.need, c.limit, got, c.want)
		}
	}
}

func TestUnknownProvider(t *testing.T) {
	if _, err := New(Options{Library: "x", Provider: "abacus"}); err == nil || !strings.Contains(err.Error(), "cpu") {
		t.Errorf("an unknown provider gives %v", err)
	}
}
