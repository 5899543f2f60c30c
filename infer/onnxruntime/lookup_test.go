package onnxruntime

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// TestSessionRows: the logits of several positions at once are those of a
// session with all of them, in runs of any length, and a prompt is evaluated as
// without.
func TestSessionRows(t *testing.T) {
	b := newBackend(t)
	for name, m := range variants() {
		t.Run(name, func(t *testing.T) {
			tolerance := 2e-4
			if m.half {
				tolerance = 0.02
			}
			ids := sequence(200)
			plain := open(t, b, m, infer.OpenOptions{})
			s := open(t, b, m, infer.OpenOptions{Rows: 5})
			if s.Info().Rows != 5 || plain.Info().Rows != 0 {
				t.Fatalf("%d and %d rows", s.Info().Rows, plain.Info().Rows)
			}
			near(t, "a prompt", eval(t, s, ids[:150]), eval(t, plain, ids[:150]), tolerance)
			for at := 150; at < 190; {
				n := 1 + at%5
				next := 0
				err := s.EvalAll(t.Context(), ids[at:at+n], func(pos int, logits []float32) error {
					if pos != next {
						t.Fatalf("row %d after %d", pos, next-1)
					}
					next++
					near(t, fmt.Sprintf("row %d of %d at %d", pos, n, at), logits, eval(t, plain, ids[at+pos:at+pos+1]), tolerance)
					return nil
				})
				if err != nil || next != n {
					t.Fatalf("%d rows of %d, %v", next, n, err)
				}
				at += n
				if s.Len() != at {
					t.Fatalf("%d tokens, want %d", s.Len(), at)
				}
				// Rows refused leave no trace.
				if err := s.EvalAll(t.Context(), ids[:3], func(int, []float32) error { return nil }); err != nil {
					t.Fatal(err)
				}
				if err := s.Truncate(at); err != nil {
					t.Fatal(err)
				}
			}
			none := func(int, []float32) error { return nil }
			if err := s.EvalAll(t.Context(), ids[:6], none); err == nil || !strings.Contains(err.Error(), "opened for 5") {
				t.Errorf("6 rows of 5: %v", err)
			}
			if err := plain.EvalAll(t.Context(), ids[:2], none); err == nil {
				t.Error("2 rows of none: no error")
			}
		})
	}
}

// lookupPrompts are beginnings of stories, half of them twice.
func lookupPrompts(tok *tokenizer.Tokenizer) [][]int32 {
	var all [][]int32
	for _, who := range []string{"Lily", "a little boy", "Tom and Sam", "the big dog", "a small red bird"} {
		for _, what := range []string{"went to the park", "had a toy car", "saw a box", "was very sad", "wanted to play with the ball"} {
			text := "Once upon a time, " + who + " " + what + ". "
			for _, s := range []string{text, text + "They were happy. " + text + "They were"} {
				all = append(all, tok.Encode(s, tokenizer.EncodeOptions{AddSpecial: true}))
			}
		}
	}
	return all
}

// TestLookupGreedy: the same 50 texts with drafts and without, to the last
// token, whatever the kernels of this machine; and where they are exact there
// are drafts.
func TestLookupGreedy(t *testing.T) {
	b := newBackend(t)
	for _, recipe := range []string{"int4", "int8", "int8-kv8"} {
		t.Run(recipe, func(t *testing.T) {
			folder := storiesFolder(t, recipe)
			tok, err := tokenizer.Load(folder.Dir)
			if err != nil {
				t.Fatal(err)
			}
			s, err := b.Open(t.Context(), folder, infer.OpenOptions{Rows: infer.LookupRows, Threads: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			l := infer.NewLookup(infer.LookupOptions{NoClock: true})
			var total infer.LookupStats
			for i, prompt := range lookupPrompts(tok) {
				var texts [2][]int32
				for k, lookup := range []*infer.Lookup{nil, l} {
					if err := s.Truncate(0); err != nil {
						t.Fatal(err)
					}
					r, err := infer.Generate(s, nil, prompt, infer.Options{MaxTokens: 40, Lookup: lookup}).Run(t.Context(), nil)
					if err != nil {
						t.Fatal(err)
					}
					texts[k] = r.TokenIDs
					total.Accepted += r.Lookup.Accepted
					total.Trials += r.Lookup.Trials
					total.Off = r.Lookup.Off
				}
				if !slices.Equal(texts[0], texts[1]) {
					t.Errorf("prompt %d: %v with drafts, %v without", i, texts[1], texts[0])
				}
			}
			t.Logf("%+v", total)
			if total.Trials == 0 || total.Off == "" && total.Accepted < 50 {
				t.Errorf("%+v: the test says nothing", total)
			}
		})
	}
}
