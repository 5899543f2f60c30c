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
	// Lookup, where not nil, drafts tokens that are likely to come. It belongs
	// to the session, which is to be opened with OpenOptions.Rows at
	// [LookupRows].
	Lookup *Lookup
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
	Lookup       LookupStats
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
	s       Session
	dec     TextDecoder
	prompt  []int32
	o       Options
	sampler *Sampler
	stop    stopMatcher
	yield   func(Token, error) bool
	text    strings.Builder
	result  Result
	start   time.Time
	first   time.Time
	drafts  []int32 // the buffer of one
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
		g.yield = yield
		err := g.run(ctx)
		g.result.Text = g.text.String()
		if g.o.Lookup != nil {
			g.result.Lookup = g.o.Lookup.stats
		}
		if errors.Is(err, errDone) || errors.Is(err, errLeft) {
			return
		}
		g.result.Reason = FinishError
		if ctx.Err() != nil {
			g.result.Reason, err = FinishCancelled, ctx.Err()
		}
		yield(Token{ID: -1}, err)
	}
}

// errLeft ends the work after the caller has left the loop, errDone at the end
// of the answer.
var (
	errLeft = errors.New("the caller left the loop")
	errDone = errors.New("the answer has ended")
)

// run makes the answer; its end is an error too.
func (g *Generation) run(ctx context.Context) (err error) {
	if g.sampler, err = g.prepare(); err != nil {
		return err
	}
	logits, err := g.prefill(ctx)
	if err != nil {
		return err
	}
	if l := g.o.Lookup; l != nil {
		l.begin(g.prompt, g.s.Info().Rows)
	}
	// id is chosen and shown, and not evaluated yet.
	id, err := g.choose(logits, g.s.Len())
	for err == nil {
		var evalErr error
		if id, evalErr, err = g.step(ctx, id); evalErr != nil {
			if flushErr := g.emit(-1, g.rest()); flushErr != nil {
				return flushErr
			}
			return fmt.Errorf("token %d of the answer: %w", len(g.result.TokenIDs), evalErr)
		}
	}
	return err
}

// step evaluates id, with a draft behind it where there is one, and chooses what
// follows. evalErr is the session's, err the end of the answer or another error.
func (g *Generation) step(ctx context.Context, id int32) (next int32, evalErr, err error) {
	l, base := g.o.Lookup, g.s.Len()
	if l == nil {
		logits, err := g.s.Eval(ctx, []int32{id})
		if err != nil {
			return 0, err, nil
		}
		next, err = g.choose(logits, base+1)
		return next, nil, err
	}
	info := g.s.Info()
	room := info.Rows - 1
	if info.MaxContext > 0 {
		room = min(room, info.MaxContext-base-1)
	}
	if g.o.MaxTokens > 0 {
		// The last token is not evaluated.
		room = min(room, g.o.MaxTokens-len(g.result.TokenIDs)-1)
	}
	run, try := l.draft(append(g.drafts[:0], id), info.Rows, room, base)
	g.drafts = run
	if try {
		l.try(len(run), base)
	} else if len(run) > 1 {
		return g.check(ctx, run)
	}
	start := time.Now()
	logits, err := g.s.Eval(ctx, []int32{id})
	if err != nil {
		return 0, err, nil
	}
	l.took(1, time.Since(start))
	full := l.record(id, logits)
	if next, err = g.choose(logits, base+1); full && err == nil {
		evalErr = g.try(ctx)
	}
	return next, evalErr, err
}

// errRefused ends the reading of a run's rows where the draft was not followed.
var errRefused = errors.New("the draft is not followed")

// check evaluates a token and the draft behind it in one run, and takes as many
// tokens as follow the draft, and the one behind them.
func (g *Generation) check(ctx context.Context, run []int32) (next int32, evalErr, err error) {
	l, base := g.o.Lookup, g.s.Len()
	l.stats.Runs++
	l.stats.Drafted += len(run) - 1
	start, used := time.Now(), 0
	evalErr = g.s.EvalAll(ctx, run, func(pos int, logits []float32) error {
		if pos == 0 {
			l.took(len(run), time.Since(start))
		}
		used = pos + 1
		if next, err = g.choose(logits, base+used); err != nil {
			return err
		}
		if used < len(run) && next != run[used] {
			return errRefused
		}
		return nil
	})
	if used == 0 && evalErr != nil {
		return 0, evalErr, nil // no row was read
	}
	l.stats.Accepted += used - 1
	if evalErr != nil && err == nil && !errors.Is(evalErr, errRefused) {
		return 0, evalErr, nil
	}
	if forget := g.s.Truncate(base + used); forget != nil && err == nil {
		return 0, fmt.Errorf("forget the rest of a draft: %w", forget), nil
	}
	return next, nil, err
}

// errDiffers ends the reading of a trial's rows.
var errDiffers = errors.New("the logits differ")

// try computes the last tokens again in one run and compares the logits. Equal
// ones stand for equal rows of the cache; else the tokens are evaluated alone
// once more.
func (g *Generation) try(ctx context.Context) error {
	l, t := g.o.Lookup, g.o.Lookup.now
	before := g.s.Len() - len(t.tokens)
	if err := g.s.Truncate(before); err != nil {
		return fmt.Errorf("forget tokens to compute them again: %w", err)
	}
	start := time.Now()
	err := g.s.EvalAll(ctx, t.tokens, func(pos int, logits []float32) error {
		if pos == 0 {
			l.took(len(t.tokens), time.Since(start))
		}
		if !t.same(pos, logits) {
			return errDiffers
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDiffers) {
		return err
	}
	l.conclude(err == nil)
	if err == nil {
		return nil
	}
	if err := g.s.Truncate(before); err != nil {
		return fmt.Errorf("forget tokens computed again: %w", err)
	}
	for _, id := range t.tokens {
		if _, err := g.s.Eval(ctx, []int32{id}); err != nil {
			return err
		}
	}
	return nil
}

// choose samples a token and takes it into the answer; errDone is its end. held
// is the number of tokens in the session, a draft not counted.
func (g *Generation) choose(logits []float32, held int) (int32, error) {
	id, err := g.sampler.Sample(logits)
	if err != nil {
		return 0, fmt.Errorf("token %d of the answer: %w", len(g.result.TokenIDs), err)
	}
	g.clock()
	if slices.Contains(g.o.StopTokens, id) {
		g.result.Reason = FinishStop
		return id, errors.Join(errDone, g.emit(-1, g.rest()))
	}
	if g.o.Lookup != nil {
		g.o.Lookup.push(id)
	}
	text, hit := g.decode(id)
	if err := g.emit(id, text); err != nil {
		return id, err
	}
	if hit != "" {
		g.result.Reason, g.result.StopText = FinishStop, hit
		return id, errDone
	}
	if reason, done := g.limit(held); done {
		g.result.Reason = reason
		return id, errors.Join(errDone, g.emit(-1, g.rest()))
	}
	return id, nil
}

// emit hands a step to the caller.
func (g *Generation) emit(id int32, text string) error {
	g.text.WriteString(text)
	if (id >= 0 || text != "") && !g.yield(Token{ID: id, Text: text}, nil) {
		return errLeft
	}
	return nil
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
func (g *Generation) full() (FinishReason, bool) { return g.limit(g.s.Len()) }

// limit is full with held tokens in the session.
func (g *Generation) limit(held int) (FinishReason, bool) {
	if g.o.MaxTokens > 0 && len(g.result.TokenIDs) >= g.o.MaxTokens {
		return FinishLength, true
	}
	if limit := g.s.Info().MaxContext; limit > 0 && held >= limit {
		return FinishContext, true
	}
	return "", false
}
