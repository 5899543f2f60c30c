package fidelity

import (
	"fmt"
	"strconv"
	"strings"
)

// The ways to cut a text into windows. A model sees one window at a time, from
// an empty cache.
const (
	// Windows is back to back windows, every position compared; the last
	// position of a window has no target.
	Windows = "windows"
	// Sliding is Hugging Face's: windows overlap, each token but the first is
	// scored once, in the first window that holds it, so that all but the
	// first window's see Window-Stride tokens and more before them. Their page
	// averages the means of windows; here every token weighs the same.
	// Source: transformers documentation, "Perplexity of fixed-length models".
	Sliding = "sliding"
	// SecondHalf is llama.cpp's: of back to back windows the second half
	// counts, an incomplete last window does not. llama.cpp also puts BOS in
	// the place of each window's first token where the model wants one, which
	// is not done here. Source: tools/perplexity/perplexity.cpp, perplexity().
	SecondHalf = "second-half"
)

// Definition says how a text is cut into windows and which positions count.
// Perplexities are comparable only under one definition.
type Definition struct {
	Kind   string `json:"kind"`             // Windows, Sliding or SecondHalf
	Window int    `json:"window"`           // tokens a model sees at once
	Stride int    `json:"stride,omitempty"` // tokens between the starts of sliding windows
}

// String is what [ParseDefinition] reads: "windows:512", "sliding:1024:512".
func (d Definition) String() string {
	if d.Kind == Sliding {
		return fmt.Sprintf("%s:%d:%d", d.Kind, d.Window, d.Stride)
	}
	return fmt.Sprintf("%s:%d", d.Kind, d.Window)
}

// ParseDefinition reads KIND:WINDOW or sliding:WINDOW:STRIDE.
func ParseDefinition(s string) (Definition, error) {
	parts := strings.Split(s, ":")
	want := 2
	if parts[0] == Sliding {
		want = 3
	}
	if len(parts) != want {
		return Definition{}, fmt.Errorf("definition %q: want %s:WINDOW, %s:WINDOW:STRIDE or %s:WINDOW, in tokens", s, Windows, Sliding, SecondHalf)
	}
	d := Definition{Kind: parts[0]}
	for i, to := range []*int{&d.Window, &d.Stride}[:want-1] {
		n, err := strconv.Atoi(parts[i+1])
		if err != nil {
			return Definition{}, fmt.Errorf("definition %q: %q is no number of tokens", s, parts[i+1])
		}
		*to = n
	}
	return d, d.Check()
}

// Check refuses definitions that cut no text.
func (d Definition) Check() error {
	switch {
	case d.Kind != Windows && d.Kind != Sliding && d.Kind != SecondHalf:
		return fmt.Errorf("definition %q: choose %s, %s or %s", d.Kind, Windows, Sliding, SecondHalf)
	case d.Window < 2:
		return fmt.Errorf("definition %s: a window of %d tokens predicts nothing; want 2 or more", d, d.Window)
	case d.Kind == Sliding && (d.Stride < 1 || d.Stride > d.Window):
		return fmt.Errorf("definition %s: want a stride between 1 and the window", d)
	case d.Kind != Sliding && d.Stride != 0:
		return fmt.Errorf("definition %s: only sliding windows have a stride", d)
	}
	return nil
}

// Window is tokens [Start, End) of a text, seen at once. The logits of
// positions [First, Last) count.
type Window struct{ Start, End, First, Last int }

// Rows is the number of positions that count.
func (w Window) Rows() int { return w.Last - w.First }

// Target is the token that follows position pos in the window, or [NoTarget].
func (w Window) Target(tokens []int32, pos int) int32 {
	if pos+1 < w.End {
		return tokens[pos+1]
	}
	return NoTarget
}

// Cut is the windows of a text of n tokens, in order. A text too short for
// the definition gives none.
func (d Definition) Cut(n int) []Window {
	var out []Window
	switch d.Kind {
	case Windows:
		for at := 0; at < n; at += d.Window {
			end := min(at+d.Window, n)
			out = append(out, Window{at, end, at, end})
		}
	case SecondHalf:
		for at := 0; at+d.Window <= n; at += d.Window {
			if first, last := at+d.Window/2, at+d.Window-1; first < last {
				out = append(out, Window{at, at + d.Window, first, last})
			}
		}
	case Sliding:
		for at, scored := 0, 0; at < n; at += d.Stride {
			end := min(at+d.Window, n)
			if first := max(scored-1, at); first < end-1 {
				out = append(out, Window{at, end, first, end - 1})
			}
			if scored = end; end == n {
				break
			}
		}
	}
	return out
}

// Rows is the number of positions of all windows.
func Rows(ws []Window) int {
	n := 0
	for _, w := range ws {
		n += w.Rows()
	}
	return n
}
