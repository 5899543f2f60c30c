package infer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakeSession is a model whose next token is a function of the sequence.
type fakeSession struct {
	info   Info
	tokens []int32
	next   func(seq []int32) int32
	evals  [][]int32 // what was evaluated, call by call
	cancel func()    // called in the Eval numbered cancelAt
	at     int
	nan    bool
}

func (f *fakeSession) Info() Info      { return f.info }
func (f *fakeSession) Tokens() []int32 { return f.tokens }
func (f *fakeSession) Len() int        { return len(f.tokens) }
func (f *fakeSession) Close() error    { return nil }

func (f *fakeSession) Eval(ctx context.Context, tokens []int32) ([]float32, error) {
	f.evals = append(f.evals, slices.Clone(tokens))
	if f.cancel != nil && len(f.evals) == f.at {
		f.cancel()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.tokens = append(f.tokens, tokens...)
	logits := make([]float32, f.info.Vocab)
	logits[f.next(f.tokens)] = 1
	if f.nan {
		logits[0] = float32(math.NaN())
	}
	return logits, nil
}

func (f *fakeSession) EvalAll(context.Context, []int32, func(int, []float32) error) error {
	return errors.New("not in this fake")
}

func (f *fakeSession) Truncate(n int) error {
	if n > len(f.tokens) {
		return fmt.Errorf("truncate to %d of %d", n, len(f.tokens))
	}
	f.tokens = f.tokens[:n]
	return nil
}

// counting is a model that answers each token with the next number.
func counting(maxContext int) *fakeSession {
	return &fakeSession{
		info: Info{Vocab: 256, MaxContext: maxContext},
		next: func(seq []int32) int32 { return (seq[len(seq)-1] + 1) % 256 },
	}
}

// letters decodes id 'a' to "a" and holds back '(' until the next id, as an
// unfinished rune would be.
type letters struct{ held string }

func (l *letters) Push(id int32) string {
	if id == '(' {
		l.held += "("
		return ""
	}
	s := l.held + string(rune(id))
	l.held = ""
	return s
}

func (l *letters) Flush() string { s := l.held; l.held = ""; return s }

func TestGenerate(t *testing.T) {
	for _, c := range []struct {
		name     string
		prompt   string
		o        Options
		ctxLen   int
		text     string
		ids      string
		reason   FinishReason
		stopText string
	}{
		{"length", "a", Options{MaxTokens: 3}, 100, "bcd", "bcd", FinishLength, ""},
		{"stop token", "a", Options{StopTokens: []int32{'x', 'e'}}, 100, "bcd", "bcd", FinishStop, ""},
		{"stop token first", "a", Options{StopTokens: []int32{'b'}}, 100, "", "", FinishStop, ""},
		{"stop string over tokens", "a", Options{StopStrings: []string{"", "efg"}}, 100, "bcd", "bcdefg", FinishStop, "efg"},
		{"stop string given up", "a", Options{StopStrings: []string{"efz"}, MaxTokens: 8}, 100, "bcdefghi", "bcdefghi", FinishLength, ""},
		{"withheld text at the end", "a", Options{StopStrings: []string{"efgh"}, MaxTokens: 5}, 100, "bcdef", "bcdef", FinishLength, ""},
		{"two stop strings, first wins", "a", Options{StopStrings: []string{"def", "cde"}}, 100, "b", "bcde", FinishStop, "cde"},
		{"context", "abc", Options{}, 6, "defg", "defg", FinishContext, ""},
		{"prompt fills the context", "abc", Options{}, 3, "d", "d", FinishContext, ""},
		{"unfinished rune flushed", "&", Options{MaxTokens: 2}, 100, "'(", "'(", FinishLength, ""},
		{"unfinished rune before end token", "&", Options{StopTokens: []int32{')'}}, 100, "'(", "'(", FinishStop, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := counting(c.ctxLen)
			g := Generate(s, &letters{}, []int32(toIDs(c.prompt)), c.o)
			var streamed strings.Builder
			var ids []int32
			for tok, err := range g.Tokens(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				streamed.WriteString(tok.Text)
				if tok.ID >= 0 {
					ids = append(ids, tok.ID)
				}
			}
			r := g.Result()
			if r.Text != c.text || streamed.String() != c.text {
				t.Errorf("text %q, streamed %q, want %q", r.Text, streamed.String(), c.text)
			}
			if !slices.Equal(r.TokenIDs, toIDs(c.ids)) || !slices.Equal(ids, r.TokenIDs) {
				t.Errorf("ids %v, streamed %v, want %v", r.TokenIDs, ids, toIDs(c.ids))
			}
			if r.Reason != c.reason || r.StopText != c.stopText || r.PromptTokens != len(c.prompt) {
				t.Errorf("reason %s, stop text %q, prompt %d; want %s, %q, %d", r.Reason, r.StopText, r.PromptTokens, c.reason, c.stopText, len(c.prompt))
			}
		})
	}
}

func toIDs(s string) []int32 {
	var ids []int32
	for _, r := range s {
		ids = append(ids, r)
	}
	return ids
}

func TestGenerateReusesCommonPrefix(t *testing.T) {
	s := counting(100)
	run := func(prompt string) Result {
		t.Helper()
		r, err := Generate(s, nil, toIDs(prompt), Options{MaxTokens: 2}).Run(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	run("abcd") // answer "ef": e is in the cache, f was never evaluated
	for _, c := range []struct {
		prompt string
		cached int
		first  string
	}{
		{"abcdefgh", 5, "fgh"},
		{"abcdefgh", 7, "h"}, // the last token gives the logits
		{"abcxyz", 3, "xyz"},
		{"q", 0, "q"},
	} {
		s.evals = nil
		if r := run(c.prompt); r.CachedTokens != c.cached || !slices.Equal(s.evals[0], toIDs(c.first)) {
			t.Errorf("%q: %d cached, first evaluated %v; want %d, %v", c.prompt, r.CachedTokens, s.evals[0], c.cached, toIDs(c.first))
		}
	}
}

func TestGenerateErrors(t *testing.T) {
	var full *ContextError
	if _, err := Generate(counting(3), nil, toIDs("abcd"), Options{}).Run(t.Context(), nil); !errors.As(err, &full) || full.Prompt != 4 {
		t.Errorf("a prompt over the context gives %v", err)
	}
	bad := counting(9)
	bad.nan = true
	var nan *NaNError
	if r, err := Generate(bad, nil, toIDs("a"), Options{}).Run(t.Context(), nil); !errors.As(err, &nan) || r.Reason != FinishError {
		t.Errorf("NaN logits give %v, %s", err, r.Reason)
	}
	for name, g := range map[string]*Generation{
		"no tokens":  Generate(counting(9), nil, nil, Options{}),
		"id too big": Generate(counting(9), nil, []int32{256}, Options{}),
		"negative":   Generate(counting(9), nil, []int32{-1}, Options{}),
		"bad option": Generate(counting(9), nil, toIDs("a"), Options{Sampler: SamplerOptions{TopP: 2}}),
	} {
		if _, err := g.Run(t.Context(), nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestGenerateCancelled(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, at := range []int{1, 4} {
		ctx, cancel := context.WithCancel(t.Context())
		s := counting(100)
		s.cancel, s.at = cancel, at
		r, err := Generate(s, &letters{}, toIDs("a"), Options{StopStrings: []string{"dz"}}).Run(ctx, nil)
		cancel()
		if !errors.Is(err, context.Canceled) || r.Reason != FinishCancelled {
			t.Errorf("cancelled in eval %d: %v, reason %s", at, err, r.Reason)
		}
		if want := []string{"", "bcd"}[at/4]; r.Text != want {
			t.Errorf("cancelled in eval %d: text %q, want %q", at, r.Text, want)
		}
	}
	s := counting(100)
	g := Generate(s, &letters{}, toIDs("a"), Options{})
	for tok := range g.Tokens(t.Context()) {
		if tok.Text == "c" {
			break
		}
	}
	if r := g.Result(); r.Reason != FinishCancelled || r.Text != "bc" {
		t.Errorf("left early: reason %s, text %q", r.Reason, r.Text)
	}
	for deadline := time.Now().Add(2 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// FuzzStopMatcher: whatever the split into tokens, the text shown is the text
// before the first stop string.
func FuzzStopMatcher(f *testing.F) {
	f.Add("hello <|im_end|> there", "<|im_end|>", "there", uint64(5))
	f.Add("aaaaab", "aab", "b", uint64(1))
	f.Fuzz(func(t *testing.T, text, a, b string, cut uint64) {
		if a == "" || b == "" {
			return
		}
		m := stopMatcher{stops: []string{a, b}}
		var shown strings.Builder
		stopped := false
		for rest := text; rest != "" && !stopped; cut = cut*6364136223846793005 + 1 {
			n := min(1+int(cut>>62), len(rest))
			out, hit := m.push(rest[:n])
			shown.WriteString(out)
			stopped, rest = hit != "", rest[n:]
		}
		if !stopped {
			shown.WriteString(m.flush())
			if shown.String() != text || strings.Contains(text, a) || strings.Contains(text, b) {
				t.Fatalf("shown %q of %q with no stop found (%q, %q)", shown.String(), text, a, b)
			}
			return
		}
		// One of the two ends first; what is shown ends before it begins.
		end := len(text)
		for _, s := range []string{a, b} {
			if i := strings.Index(text, s); i >= 0 {
				end = min(end, i+len(s))
			}
		}
		if len(shown.String()) >= end || !strings.HasPrefix(text, shown.String()) {
			t.Fatalf("shown %q of %q, stops %q %q", shown.String(), text, a, b)
		}
	})
}

func TestFit(t *testing.T) {
	f := Fit{Weights: 4_600_000_000, CachePerToken: 147_456, Overhead: 100_000_000, Free: 8_000_000_000, Context: 40960}
	err := f.Check()
	var fit *FitError
	if !errors.As(err, &fit) {
		t.Fatalf("40960 tokens in 8 GB: %v", err)
	}
	if n := f.Largest(); n != 22379 || !strings.Contains(err.Error(), "22379") || !strings.Contains(err.Error(), "4.60 GB") {
		t.Errorf("largest context %d, message %q", n, err)
	}
	f.Context = 22379
	if err := f.Check(); err != nil {
		t.Errorf("the largest context does not fit: %v", err)
	}
	f.Free = 4_000_000_000
	if err := f.Check(); err == nil || !strings.Contains(err.Error(), "no context fits") {
		t.Errorf("weights over the memory: %v", err)
	}
	f.Free = 0
	if err := f.Check(); err != nil {
		t.Errorf("unknown free memory: %v", err)
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 999_600: "1.00 MB", 226_700_000: "227 MB", 86_500_000: "86.5 MB", 4_609_000_000: "4.61 GB", 9_994_000: "9.99 MB", 9_996_000: "10.0 MB"} {
		if got := FormatBytes(n); got != want {
			t.Errorf("FormatBytes(%d) = %q, want %q", n, got, want)
		}
	}
}
