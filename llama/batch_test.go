package llama_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/llama"
)

// tokensOf are tokens of a sequence from a position on, the last with logits.
func tokensOf(seq, from int, ids ...int32) []llama.BatchToken {
	var list []llama.BatchToken
	for i, id := range ids {
		list = append(list, llama.BatchToken{ID: id, Sequence: seq, Position: from + i, Logits: i == len(ids)-1})
	}
	return list
}

// TestDecodeBatch: sequences of unequal length in one run give what each gives
// alone; they are cut, copied and go on.
func TestDecodeBatch(t *testing.T) {
	m := load(t, llama.ModelOptions{})
	o := llama.ContextOptions{Length: 64, Threads: 1, Flash: llama.FlashOff}
	alone := newContext(t, m, o)
	o.Sequences = 3
	c := newContext(t, m, o)
	if c.Sequences() != 3 || c.Length() < 64 {
		t.Fatalf("%d sequences of %d tokens", c.Sequences(), c.Length())
	}
	near := func(what string, i int, ids ...int32) {
		t.Helper()
		got, err := c.Logits(i)
		if err != nil {
			t.Fatal(err)
		}
		got = slices.Clone(got)
		if err := alone.Forget(0); err != nil {
			t.Fatal(err)
		}
		if err := alone.Decode(t.Context(), ids, 0, false); err != nil {
			t.Fatal(err)
		}
		want, err := alone.Logits(-1)
		if err != nil {
			t.Fatal(err)
		}
		var worst float32
		for k := range want {
			worst = max(worst, got[k]-want[k], want[k]-got[k])
		}
		if spread := slices.Max(want) - slices.Min(want); worst > 0.02*spread {
			t.Errorf("%s: logits differ by %v of a spread of %v", what, worst, spread)
		}
	}
	decode := func(lists ...[]llama.BatchToken) {
		t.Helper()
		if err := c.DecodeBatch(t.Context(), slices.Concat(lists...)); err != nil {
			t.Fatal(err)
		}
	}
	decode(tokensOf(0, 0, 1, 5, 9), tokensOf(1, 0, 1), tokensOf(2, 0, 1, 7))
	near("first, sequence 0", 2, 1, 5, 9)
	near("first, sequence 1", 3, 1)
	near("first, sequence 2", 5, 1, 7)
	decode(tokensOf(2, 2, 8), tokensOf(0, 3, 10))
	near("second, sequence 2", 0, 1, 7, 8)
	near("second, sequence 0", 1, 1, 5, 9, 10)
	if err := c.ForgetSequence(0, 1); err != nil {
		t.Fatal(err)
	}
	state, err := c.SequenceState(2)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.ForgetSequence(1, 0), c.SetSequenceState(1, state)); err != nil {
		t.Fatal(err)
	}
	decode(tokensOf(0, 1, 20), tokensOf(1, 3, 21))
	near("after a cut", 0, 1, 20)
	near("after a copy", 1, 1, 7, 8, 21)
	if err := c.Decode(t.Context(), []int32{11}, 2, false); err != nil {
		t.Fatal(err)
	}
	near("Decode after DecodeBatch", -1, 1, 20, 11)
}

func TestDecodeBatchRefuses(t *testing.T) {
	m := load(t, llama.ModelOptions{})
	c := newContext(t, m, llama.ContextOptions{Length: 32, Threads: 1, Sequences: 2})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	all := tokensOf(0, 0, 1, 2)
	all[0].Logits = true
	for name, err := range map[string]error{
		"no tokens":     c.DecodeBatch(t.Context(), nil),
		"too many":      c.DecodeBatch(t.Context(), make([]llama.BatchToken, 1000)),
		"no sequence":   c.DecodeBatch(t.Context(), tokensOf(2, 0, 1)),
		"rows":          c.DecodeBatch(t.Context(), all),
		"cancelled":     c.DecodeBatch(cancelled, tokensOf(0, 0, 1)),
		"forget":        c.ForgetSequence(-1, 0),
		"state of none": c.SetSequenceState(0, nil),
		"no such state": c.SetSequenceState(2, []byte{1}),
		"broken state":  c.SetSequenceState(0, []byte{1, 2, 3}),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := c.SequenceState(5); err == nil {
		t.Error("state of sequence 5: no error")
	}
	c.Close()
	if err := c.DecodeBatch(t.Context(), tokensOf(0, 0, 1)); err == nil {
		t.Error("a closed context: no error")
	}
}
