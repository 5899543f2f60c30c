package fidelity

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The ways to cut a text into windows. A model sees one window at a time, from
// an empty cache.
const (
	// Windows is back to back windows, every position compared; the last
	// position of a window has no target.
	Windows = "windows"
	// Sliding lets windows overlap: each token but the first is scored once, in
	// the first window that holds it, so that all but the first window's see
	// Window-Stride tokens and more before them. Every token weighs the same.
	Sliding = "sliding"
	// HuggingFace is Sliding with the average of their page, which weighs the
	// mean of a window by one token less than the window adds to the text: right
	// for the first window, one too few for the others, whose first token is
	// predicted too. A window that adds one token alone does not count. Source:
	// transformers documentation, "Perplexity of fixed-length models", the
	// example that adds up nll_sum and n_tokens.
	HuggingFace = "huggingface"
	// SecondHalf scores of back to back windows the second half; an incomplete
	// last window does not count.
	SecondHalf = "second-half"
	// LlamaCpp is SecondHalf with the beginning-of-text token in the place of
	// each window's first token, where the tokenizer puts one before a text; see
	// [Definition.Place]. llama.cpp wants a text of two windows at least, which is
	// not asked here. Source: llama.cpp, tools/perplexity/perplexity.cpp,
	// perplexity().
	LlamaCpp = "llama.cpp"
)

// Kinds lists the ways to cut a text.
func Kinds() []string { return []string{Windows, Sliding, HuggingFace, SecondHalf, LlamaCpp} }

// Definition says how a text is cut into windows and which positions count.
// Perplexities are comparable only under one definition.
type Definition struct {
	Kind   string `json:"kind"`             // one of Kinds
	Window int    `json:"window"`           // tokens a model sees at once
	Stride int    `json:"stride,omitempty"` // tokens between the starts of sliding windows
}

// slides reports overlapping windows.
func (d Definition) slides() bool { return d.Kind == Sliding || d.Kind == HuggingFace }

// String is what [ParseDefinition] reads: "windows:512", "sliding:1024:512".
func (d Definition) String() string {
	if d.slides() {
		return fmt.Sprintf("%s:%d:%d", d.Kind, d.Window, d.Stride)
	}
	return fmt.Sprintf("%s:%d", d.Kind, d.Window)
}

// ParseDefinition reads KIND:WINDOW or, of those that slide, KIND:WINDOW:STRIDE.
func ParseDefinition(s string) (Definition, error) {
	parts := strings.Split(s, ":")
	d := Definition{Kind: parts[0]}
	want := 2
	if d.slides() {
		want = 3
	}
	if len(parts) != want {
		return Definition{}, fmt.Errorf("definition %q: want %s:WINDOW, %s:WINDOW, %s:WINDOW, %s:WINDOW:STRIDE or %s:WINDOW:STRIDE, in tokens",
			s, Windows, LlamaCpp, SecondHalf, HuggingFace, Sliding)
	}
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
	case !slices.Contains(Kinds(), d.Kind):
		return fmt.Errorf("definition %q: choose one of %s", d.Kind, strings.Join(Kinds(), ", "))
	case d.Window < 2:
		return fmt.Errorf("definition %s: a window of %d tokens predicts nothing; want 2 or more", d, d.Window)
	case d.slides() && (d.Stride < 1 || d.Stride > d.Window):
		return fmt.Errorf("definition %s: want a stride between 1 and the window", d)
	case !d.slides() && d.Stride != 0:
		return fmt.Errorf("definition %s: only sliding windows have a stride", d)
	}
	return nil
}

// Place is the text as the models see it: by LlamaCpp with bos in the place of
// each window's first token, which is no window's target; otherwise the text
// itself. bos is the token that the tokenizer puts before a text, [NoTarget]
// where it puts none.
func (d Definition) Place(tokens []int32, bos int32) []int32 {
	if d.Kind != LlamaCpp || bos < 0 {
		return tokens
	}
	out := slices.Clone(tokens)
	for i := 0; i < len(out); i += d.Window {
		out[i] = bos
	}
	return out
}

// Weight is what each scored token of a window counts in the perplexity: 1 but
// by HuggingFace.
func (d Definition) Weight(w Window) float64 {
	if d.Kind != HuggingFace || w.Start == 0 || d.Stride == d.Window {
		return 1
	}
	n := float64(w.Rows())
	return (n - 1) / n
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
	case SecondHalf, LlamaCpp:
		for at := 0; at+d.Window <= n; at += d.Window {
			if first, last := at+d.Window/2, at+d.Window-1; first < last {
				out = append(out, Window{at, at + d.Window, first, last})
			}
		}
	case Sliding, HuggingFace:
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
