package infer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// TextDecoder turns ids into text one by one. What Push returns is whole
// runes; bytes of an unfinished one come with a later id or from Flush.
type TextDecoder interface {
	Push(id int32) string
	Flush() string
}

// Options of one generation. The zero value is greedy until the context is
// full.
type Options struct {
	Sampler SamplerOptions
	// MaxTokens ends the answer after that many tokens; 0 means no limit but
	// the context.
	MaxTokens int
	// StopTokens end the answer; they are not part of it. See
	// modeldir.Folder.EndTokens.
	StopTokens []int32
	// StopStrings end the answer where their text appears; it is not part of
	// the answer. Empty strings are ignored.
	StopStrings []string
	// Vocab is the number of ids the tokenizer knows; padded rows of logits
	// beyond it are never chosen. 0 means all of the row.
	Vocab int
}

// FinishReason says why an answer ended.
type FinishReason string

// The reasons.
const (
	FinishStop      FinishReason = "stop"      // an end token or a stop string
	FinishLength    FinishReason = "length"    // Options.MaxTokens
	FinishContext   FinishReason = "context"   // the session's context is full
	FinishCancelled FinishReason = "cancelled" // ctx ended, or the caller left the loop
	FinishError     FinishReason = "error"
)

// Token is one step of an answer. Text may be empty, while a rune or a stop
// string is undecided, and then longer. A last step with ID -1 carries what
// was withheld.
type Token struct {
	ID   int32
	Text string
}

// Result of a generation.
type Result struct {
	Text     string
	TokenIDs []int32 // without the end token
	Reason   FinishReason
	StopText string // the stop string found, if one was

	PromptTokens int
	CachedTokens int // of those, taken from the cache of the call before
	Seed         uint64
	Timings      Timings
}

// Timings of a generation.
type Timings struct {
	Prefill    time.Duration // evaluation of the prompt's tokens not cached
	FirstToken time.Duration // from the start to the first token chosen
	Decode     time.Duration // from the first token chosen to the last
	prefilled  int
	decoded    int
}

// PrefillRate is prompt tokens evaluated per second, 0 if not measured.
func (t Timings) PrefillRate() float64 { return rate(t.prefilled, t.Prefill) }

// DecodeRate is tokens per second after the first one, 0 if not measured.
func (t Timings) DecodeRate() float64 { return rate(t.decoded, t.Decode) }

func rate(n int, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// ContextError says that a prompt does not fit the context.
type ContextError struct{ Prompt, Context int }

func (e *ContextError) Error() string {
	return fmt.Sprintf("the prompt has %d tokens, the context holds %d: shorten it or open the model with a larger context", e.Prompt, e.Context)
}

// Generation is one answer in the making.
type Generation struct {
	s      Session
	dec    TextDecoder
	prompt []int32
	o      Options
	stop   stopMatcher
	text   strings.Builder
	result Result
	start  time.Time
	first  time.Time
}

// Generate prepares an answer to prompt; ranging over [Generation.Tokens]
// makes it. dec may be nil where only ids are wanted; stop strings then have
// no effect.
//
// The longest common beginning of prompt and the session's sequence is not
// evaluated again; the rest of the sequence is forgotten.
func Generate(s Session, dec TextDecoder, prompt []int32, o Options) *Generation {
	g := &Generation{s: s, dec: dec, prompt: prompt, o: o}
	g.stop.stops = slices.DeleteFunc(slices.Clone(o.StopStrings), func(s string) bool { return s == "" })
	return g
}

// Result is valid after the loop over [Generation.Tokens] has ended, however
// it ended.
func (g *Generation) Result() Result { return g.result }

// Run makes the whole answer, calling each, if not nil, for every step. When
// ctx ends it returns what was made so far with the context's error.
func (g *Generation) Run(ctx context.Context, each func(Token)) (Result, error) {
	for tok, err := range g.Tokens(ctx) {
		if err != nil {
			return g.result, err
		}
		if each != nil {
			each(tok)
		}
	}
	return g.result, nil
}

// Tokens makes the answer, once. An error is the last element; when ctx ends
// it is the context's, after the text withheld so far.
func (g *Generation) Tokens(ctx context.Context) iter.Seq2[Token, error] {
	return func(yield func(Token, error) bool) {
		g.start = time.Now()
		g.result = Result{Reason: FinishCancelled, PromptTokens: len(g.prompt)}
		err := g.run(ctx, yield)
		g.result.Text = g.text.String()
		if err == nil || errors.Is(err, errLeft) {
			return
		}
		g.result.Reason = FinishError
		if ctx.Err() != nil {
			g.result.Reason, err = FinishCancelled, ctx.Err()
		}
		yield(Token{ID: -1}, err)
	}
}

// errLeft ends the work after the caller has left the loop.
var errLeft = errors.New("the caller left the loop")

func (g *Generation) run(ctx context.Context, yield func(Token, error) bool) error {
	sampler, err := g.prepare()
	if err != nil {
		return err
	}
	logits, err := g.prefill(ctx)
	if err != nil {
		return err
	}
	emit := func(id int32, text string) error {
		g.text.WriteString(text)
		if (id >= 0 || text != "") && !yield(Token{ID: id, Text: text}, nil) {
			return errLeft
		}
		return nil
	}
	for {
		id, err := sampler.Sample(logits)
		if err != nil {
			return fmt.Errorf("token %d of the answer: %w", len(g.result.TokenIDs), err)
		}
		g.clock()
		if slices.Contains(g.o.StopTokens, id) {
			g.result.Reason = FinishStop
			return emit(-1, g.rest())
		}
		text, hit := g.decode(id)
		if err := emit(id, text); err != nil {
			return err
		}
		if hit != "" {
			g.result.Reason, g.result.StopText = FinishStop, hit
			return nil
		}
		if reason, done := g.full(); done {
			g.result.Reason = reason
			return emit(-1, g.rest())
		}
		if logits, err = g.s.Eval(ctx, []int32{id}); err != nil {
			if flushErr := emit(-1, g.rest()); flushErr != nil {
				return flushErr
			}
			return fmt.Errorf("token %d of the answer: %w", len(g.result.TokenIDs), err)
		}
	}
}

// prepare checks the request and makes the sampler.
func (g *Generation) prepare() (*Sampler, error) {
	info := g.s.Info()
	if len(g.prompt) == 0 {
		return nil, errors.New("the prompt has no tokens; a model needs at least one, such as its beginning-of-text token")
	}
	if info.MaxContext > 0 && len(g.prompt) > info.MaxContext {
		return nil, &ContextError{Prompt: len(g.prompt), Context: info.MaxContext}
	}
	for i, id := range g.prompt {
		if id < 0 || int(id) >= info.Vocab {
			return nil, fmt.Errorf("prompt token %d has id %d, the model knows 0 to %d: do tokenizer and model belong together?", i, id, info.Vocab-1)
		}
	}
	vocab := info.Vocab
	if g.o.Vocab > 0 {
		vocab = min(vocab, g.o.Vocab)
	}
	sampler, err := NewSampler(g.o.Sampler, vocab)
	if err != nil {
		return nil, err
	}
	sampler.Prompt(g.prompt)
	g.result.Seed = sampler.Seed()
	return sampler, nil
}

// prefill evaluates the part of the prompt that the cache does not hold.
func (g *Generation) prefill(ctx context.Context) ([]float32, error) {
	reused, err := Rewind(g.s, g.prompt)
	if err != nil {
		return nil, err
	}
	logits, err := g.s.Eval(ctx, g.prompt[reused:])
	if err != nil {
		return nil, fmt.Errorf("evaluate the prompt: %w", err)
	}
	g.result.CachedTokens = reused
	g.result.Timings.Prefill = time.Since(g.start)
	g.result.Timings.prefilled = len(g.prompt) - reused
	return logits, nil
}

// Rewind forgets what the session holds beyond the common beginning of its
// sequence and prompt, and returns how many tokens of prompt need no
// evaluation: fewer than all of them, as the last one must give logits.
func Rewind(s Session, prompt []int32) (int, error) {
	have := s.Tokens()
	n := 0
	for n < len(have) && n < len(prompt)-1 && have[n] == prompt[n] {
		n++
	}
	if n == len(have) {
		return n, nil
	}
	if err := s.Truncate(n); err != nil {
		return 0, fmt.Errorf("rewind the cache from %d to %d tokens: %w", len(have), n, err)
	}
	return n, nil
}

// clock notes the time of a token chosen.
func (g *Generation) clock() {
	now := time.Now()
	t := &g.result.Timings
	if g.first.IsZero() {
		g.first = now
		t.FirstToken = now.Sub(g.start)
		return
	}
	t.decoded++
	t.Decode = now.Sub(g.first)
}

// decode adds a token to the answer and returns the text now certain.
func (g *Generation) decode(id int32) (text, hit string) {
	g.result.TokenIDs = append(g.result.TokenIDs, id)
	if g.dec == nil {
		return "", ""
	}
	return g.stop.push(g.dec.Push(id))
}

// rest is the text withheld when an answer ends without a stop string.
func (g *Generation) rest() string {
	if g.dec == nil {
		return ""
	}
	text, hit := g.stop.push(g.dec.Flush())
	if hit != "" {
		return text
	}
	return text + g.stop.flush()
}

// full reports whether a limit is reached.
func (g *Generation) full() (FinishReason, bool) {
	if g.o.MaxTokens > 0 && len(g.result.TokenIDs) >= g.o.MaxTokens {
		return FinishLength, true
	}
	if limit := g.s.Info().MaxContext; limit > 0 && g.s.Len() >= limit {
		return FinishContext, true
	}
	return "", false
}
