package llamacpp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/llama"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// firstCapacity is the tokens a cache is made for at first.
const firstCapacity = 4096

// defaultChunk tokens of a prompt are evaluated at once: llama.cpp's own size.
// allChunk bounds the rows of logits: 128 of 151 936 are 78 MB.
const (
	defaultChunk = 512
	allChunk     = 128
)

// session is one sequence on one model.
type session struct {
	model   *llama.Model
	ctx     *llama.Context // nil after Close
	options llama.ContextOptions
	info    infer.Info
	chunk   int
	all     bool
	stats   Stats

	tokens []int32
	// held tokens are in the cache; the rest, of a model that cannot go back,
	// is evaluated again before anything else.
	held int
}

// Stats is where the time of a session's calls went.
type Stats struct {
	Calls int
	// Library is the time inside llama.cpp's decode, Total the whole of Eval and
	// EvalAll but what EvalAll's caller took.
	Library, Total time.Duration
}

// StatsOf reads a session's statistics; ok is false for sessions of other
// packages.
func StatsOf(s infer.Session) (st Stats, ok bool) {
	own, ok := s.(*session)
	if !ok {
		return Stats{}, false
	}
	return own.stats, true
}

// Open checks and loads the file folder.Model. The fit check of infer.Fit comes
// before the weights are read: it fails with an infer.FitError where the context
// asked for does not fit, and shortens the model's own limit where none was.
func (b *Backend) Open(ctx context.Context, folder *modeldir.Folder, o infer.OpenOptions) (infer.Session, error) {
	start := time.Now()
	s, err := b.open(ctx, folder.Model, o)
	if err != nil {
		return nil, fmt.Errorf("open model %s: %w", folder.Model, err)
	}
	b.log.Debug("model loaded", "file", folder.Model, "seconds", time.Since(start).Seconds(),
		"cache_bytes_per_token", s.info.CacheBytesPerToken, "context", s.info.MaxContext, "device", s.info.Provider)
	return s, nil
}

func (b *Backend) open(ctx context.Context, path string, o infer.OpenOptions) (_ *session, err error) {
	facts, err := Check(ctx, path)
	if err != nil {
		return nil, err
	}
	free, host := b.free(ctx)
	p, err := b.place(facts, o, free, host)
	if err != nil {
		return nil, err
	}
	if o.Threads <= 0 {
		o.Threads = hardware.DetectCPU(ctx).Threads()
	}
	s := &session{all: o.AllLogits, chunk: o.Chunk}
	if s.chunk <= 0 {
		s.chunk = defaultChunk
	}
	if s.all {
		s.chunk = min(s.chunk, allChunk)
	}
	s.chunk = min(s.chunk, p.context)
	m := llama.ModelOptions{GPULayers: p.layers, NoRepack: b.o.NoRepack}
	if p.layers == 0 {
		m.Devices = []llama.Device{} // else they would be given work all the same
	}
	if s.model, err = b.lib.LoadModel(ctx, path, m); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.model.Close() // the first error tells more
		}
	}()
	known := s.model.Info()
	if known.Encoder {
		return nil, errors.New("the model reads a text with an encoder before it writes one, which is not done here")
	}
	s.info = infer.Info{
		Backend: b.Name(), Version: b.lib.Version(), Provider: b.provider(p.layers, len(facts.LayerBytes)), Model: path,
		Vocab: known.Vocab, MaxContext: p.context, Threads: o.Threads, WeightBytes: facts.Bytes(),
	}
	for _, n := range facts.CacheElements {
		s.info.CacheBytesPerToken += b.cache.size(n)
	}
	s.options = llama.ContextOptions{
		Length: min(p.context, b.capacity), Batch: s.chunk, AllRows: s.all, Threads: o.Threads,
		Flash: b.flash, Keys: b.cache.typ, Values: b.cache.typ, HostOnly: p.layers == 0,
	}
	switch {
	case s.all:
		s.info.Rows = s.chunk
	case o.Rows > 1 && !known.Recurrent:
		// A state cannot go back behind a draft refused.
		s.info.Rows = min(o.Rows, s.chunk)
		s.options.Rows = s.info.Rows
	}
	if s.ctx, err = s.model.NewContext(s.options); err != nil {
		return nil, err
	}
	return s, nil
}

// provider says what computes: "CPU", or "CUDA0 (20 of 32 layers)".
func (b *Backend) provider(layers, of int) string {
	var names []string
	for _, d := range b.GPUs() {
		names = append(names, d.Name)
	}
	switch {
	case layers <= 0 || len(names) == 0:
		return "CPU"
	case layers >= of:
		return strings.Join(names, "+")
	}
	return fmt.Sprintf("%s (%d of %d layers)", strings.Join(names, "+"), layers, of)
}

// Info implements infer.Session.
func (s *session) Info() infer.Info { return s.info }

// Tokens implements infer.Session.
func (s *session) Tokens() []int32 { return s.tokens }

// Len implements infer.Session.
func (s *session) Len() int { return len(s.tokens) }

// Eval implements infer.Session.
func (s *session) Eval(ctx context.Context, tokens []int32) ([]float32, error) {
	start := time.Now()
	defer func() { s.stats.Total += time.Since(start) }()
	if err := s.prepare(ctx, tokens); err != nil {
		return nil, err
	}
	for len(tokens) > 0 {
		n := min(s.chunk, len(tokens))
		if err := s.step(ctx, tokens[:n], false); err != nil {
			return nil, err
		}
		s.tokens = append(s.tokens, tokens[:n]...)
		tokens = tokens[n:]
	}
	return s.row(-1)
}

// EvalAll implements infer.Session.
func (s *session) EvalAll(ctx context.Context, tokens []int32, each func(pos int, logits []float32) error) error {
	start := time.Now()
	var outside time.Duration
	defer func() { s.stats.Total += time.Since(start) - outside }()
	if !s.all && len(tokens) > s.info.Rows {
		return fmt.Errorf("logits of %d positions at once: the model was opened for %d (Rows, AllLogits)", len(tokens), s.info.Rows)
	}
	if err := s.prepare(ctx, tokens); err != nil {
		return err
	}
	for at := 0; at < len(tokens); {
		n := min(s.chunk, len(tokens)-at)
		if err := s.step(ctx, tokens[at:at+n], true); err != nil {
			return err
		}
		s.tokens = append(s.tokens, tokens[at:at+n]...)
		for i := range n {
			row, err := s.row(i)
			if err != nil {
				return err
			}
			called := time.Now()
			err = each(at+i, row)
			outside += time.Since(called)
			if err != nil {
				return err
			}
		}
		at += n
	}
	return nil
}

// row reads logits; on a device this waits for them, so that the time is the
// library's.
func (s *session) row(i int) ([]float32, error) {
	start := time.Now()
	defer func() { s.stats.Library += time.Since(start) }()
	return s.ctx.Logits(i)
}

// prepare checks the tokens, makes room for them and brings the cache up to the
// sequence.
func (s *session) prepare(ctx context.Context, tokens []int32) error {
	total := len(s.tokens) + len(tokens)
	switch {
	case s.ctx == nil:
		return errors.New("the session is closed")
	case len(tokens) == 0:
		return errors.New("no tokens to evaluate")
	case total > s.info.MaxContext:
		return &infer.ContextError{Prompt: total, Context: s.info.MaxContext}
	}
	for _, id := range tokens {
		if id < 0 || int(id) >= s.info.Vocab {
			return fmt.Errorf("token id %d is not one of the model's 0 to %d", id, s.info.Vocab-1)
		}
	}
	if err := s.grow(total); err != nil {
		return err
	}
	for s.held < len(s.tokens) {
		n := min(s.chunk, len(s.tokens)-s.held)
		if err := s.step(ctx, s.tokens[s.held:s.held+n], false); err != nil {
			return fmt.Errorf("evaluate the sequence again: %w", err)
		}
	}
	return nil
}

// step evaluates tokens behind those held. After an error the cache holds what
// it held before.
func (s *session) step(ctx context.Context, tokens []int32, every bool) error {
	start := time.Now()
	err := s.ctx.Decode(ctx, tokens, s.held, every)
	s.stats.Library += time.Since(start)
	s.stats.Calls++
	if err == nil {
		s.held += len(tokens)
		return nil
	}
	if forget := s.forget(s.held); forget != nil {
		return errors.Join(err, forget)
	}
	return err
}

// grow makes the cache larger where it has no room for so many tokens.
func (s *session) grow(tokens int) error {
	if tokens <= s.ctx.Length() {
		return nil
	}
	o := s.options
	for o.Length < tokens {
		o.Length *= 2
	}
	o.Length = min(o.Length, s.info.MaxContext)
	next, err := s.model.NewContext(o)
	if err != nil {
		return fmt.Errorf("make the cache larger: %w", err)
	}
	if s.held > 0 {
		state, err := s.ctx.State()
		if err == nil {
			err = next.SetState(state)
		}
		if err != nil {
			next.Close()
			return fmt.Errorf("make the cache larger: %w", err)
		}
	}
	s.ctx.Close()
	s.ctx, s.options = next, o
	return nil
}

// forget keeps the first n tokens of the cache, or none where the model cannot
// go back.
func (s *session) forget(n int) error {
	if err := s.ctx.Forget(n); err == nil {
		s.held = n
		return nil
	}
	s.held = 0
	return s.ctx.Forget(0)
}

// Truncate implements infer.Session.
func (s *session) Truncate(n int) error {
	if s.ctx == nil {
		return errors.New("the session is closed")
	}
	if n < 0 || n > len(s.tokens) {
		return fmt.Errorf("keep %d tokens of a sequence of %d", n, len(s.tokens))
	}
	s.tokens = s.tokens[:n]
	if n >= s.held {
		return nil
	}
	return s.forget(n)
}

// Close frees the model and the cache. Logits returned before are invalid.
func (s *session) Close() error {
	if s.ctx == nil {
		return nil
	}
	s.ctx.Close()
	s.ctx = nil
	return s.model.Close()
}
