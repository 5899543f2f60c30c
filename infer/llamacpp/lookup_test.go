package llamacpp

import (
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/infer"
)

// TestSessionRows: several rows at once are near those of single tokens, and
// more than asked for are refused.
func TestSessionRows(t *testing.T) {
	file := stories(t, "F32")
	b := newBackend(t, exact())
	s, plain := open(t, b, file, infer.OpenOptions{Rows: 4}), open(t, b, file, infer.OpenOptions{})
	if s.Info().Rows != 4 || plain.Info().Rows != 0 {
		t.Fatalf("%d and %d rows", s.Info().Rows, plain.Info().Rows)
	}
	ids := []int32{1, 403, 407, 261, 378, 432, 317, 286}
	for at := 0; at < len(ids); at += 4 {
		err := s.EvalAll(t.Context(), ids[at:at+4], func(pos int, row []float32) error {
			want, err := plain.Eval(t.Context(), ids[at+pos:at+pos+1])
			if err != nil {
				return err
			}
			if d := distance(row, want); !(d <= 1e-3) || maxAbs(want) < 1 {
				t.Errorf("row %d at %d differs by %g", pos, at, d)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	none := func(int, []float32) error { return nil }
	if err := s.EvalAll(t.Context(), ids[:5], none); err == nil || !strings.Contains(err.Error(), "opened for 4") {
		t.Errorf("5 rows of 4: %v", err)
	}
	if err := plain.EvalAll(t.Context(), ids[:2], none); err == nil {
		t.Error("2 rows of none: no error")
	}
}

// TestLookupGreedy: the same 50 texts with drafts and without, whatever the
// kernels.
func TestLookupGreedy(t *testing.T) {
	for name, o := range map[string]Options{"flash, not repacked": {Flash: "on", NoRepack: true}, "as it comes": {}} {
		t.Run(name, func(t *testing.T) {
			file := stories(t, "Q8_0")
			_, tok, err := OpenText(file)
			if err != nil {
				t.Fatal(err)
			}
			s := open(t, newBackend(t, o), file, infer.OpenOptions{Rows: infer.LookupRows})
			l := infer.NewLookup(infer.LookupOptions{NoClock: true})
			var total infer.LookupStats
			for _, who := range []string{"Lily", "a little boy", "Tom and Sam", "the big dog", "a small red bird"} {
				for _, what := range []string{"went to the park", "had a toy car", "saw a box", "was very sad", "wanted the ball"} {
					once := "Once upon a time, " + who + " " + what + ". "
					for _, text := range []string{once, once + "They were happy. " + once + "They were"} {
						e := tokEncode
						e.AddSpecial = true
						prompt := tok.Encode(text, e)
						var texts [2][]int32
						for k, lookup := range []*infer.Lookup{nil, l} {
							if err := s.Truncate(0); err != nil {
								t.Fatal(err)
							}
							r, err := infer.Generate(s, nil, prompt, infer.Options{MaxTokens: 50, Lookup: lookup}).Run(t.Context(), nil)
							if err != nil {
								t.Fatal(err)
							}
							texts[k] = r.TokenIDs
							total.Accepted += r.Lookup.Accepted
							total.Trials += r.Lookup.Trials
							total.Off = r.Lookup.Off
						}
						if !slices.Equal(texts[0], texts[1]) {
							t.Errorf("%q: %v with drafts, %v without", text, texts[1], texts[0])
						}
					}
				}
			}
			t.Logf("%+v", total)
			if total.Trials == 0 || total.Off == "" && total.Accepted < 50 {
				t.Errorf("%+v: the test says nothing", total)
			}
		})
	}
}
