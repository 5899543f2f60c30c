package mlxlm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"

	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// Options configure a backend. Only Python is required.
type Options struct {
	// Python is the interpreter of an environment with mlx-lm; [Find] and
	// [Setup] give it.
	Python string
	// Logger gets warnings; nil is silent.
	Logger *slog.Logger
}

// Backend is mlx-lm. It implements infer.Backend.
type Backend struct {
	o   Options
	log *slog.Logger
}

var _ infer.Backend = (*Backend)(nil)

// New makes the backend; nothing is started yet.
func New(o Options) (*Backend, error) {
	if o.Python == "" {
		return nil, errors.New("open the MLX backend: no Python interpreter was given")
	}
	b := &Backend{o: o, log: o.Logger}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	return b, nil
}

// Name is "mlx-lm".
func (b *Backend) Name() string { return "mlx-lm" }

// defaultChunk tokens of a prompt are evaluated at once, mlx-lm's own choice
// being 2048; allChunk bounds the rows of logits.
const (
	defaultChunk = 512
	allChunk     = 128
)

// defaultContext is the limit of a model whose config tells none, minContext the
// shortest worth starting with unasked, overhead what Python and MLX take.
const (
	defaultContext = 4096
	minContext     = 256
	overhead       = 600 << 20
)

// session is one sequence on one worker.
type session struct {
	python, dir string
	w           *worker // nil after it died or Close
	restarted   bool
	closed      bool
	info        infer.Info
	chunk       int
	all         bool
	log         *slog.Logger

	tokens []int32
	// held tokens are in the worker's cache; the rest is evaluated again before
	// anything else.
	held int
	row  []float32
}

// Open checks the folder and starts a worker on it.
func (b *Backend) Open(ctx context.Context, folder *modeldir.Folder, o infer.OpenOptions) (infer.Session, error) {
	s, err := b.open(ctx, folder.Dir, o)
	if err != nil {
		return nil, fmt.Errorf("open model %s: %w", folder.Dir, err)
	}
	return s, nil
}

func (b *Backend) open(ctx context.Context, dir string, o infer.OpenOptions) (*session, error) {
	c, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	bytes, err := checkWeights(dir, c)
	if err != nil {
		return nil, err
	}
	limit, err := b.contextLimit(ctx, c, bytes, o)
	if err != nil {
		return nil, err
	}
	s := &session{python: b.o.Python, dir: dir, chunk: o.Chunk, all: o.AllLogits, log: b.log}
	if s.chunk <= 0 {
		s.chunk = defaultChunk
	}
	if s.all {
		s.chunk = min(s.chunk, allChunk)
	}
	if s.w, err = start(ctx, s.python, dir); err != nil {
		return nil, err
	}
	vocab := s.w.hello.Vocab
	if vocab <= 0 || vocab > maxFrame/4 {
		s.w.stop()
		return nil, fmt.Errorf("a vocabulary of %d tokens", vocab)
	}
	s.info = infer.Info{
		Backend: b.Name(), Version: s.w.hello.MLXLM, Provider: "MLX " + s.w.hello.Device, Model: filepath.Join(dir, "config.json"),
		Vocab: vocab, MaxContext: limit, WeightBytes: bytes, CacheBytesPerToken: c.cacheBytesPerToken(),
	}
	switch {
	case s.all:
		s.info.Rows = s.chunk
	case o.Rows > 1 && s.w.hello.Trims:
		s.info.Rows = min(o.Rows, s.chunk)
	}
	return s, nil
}

// contextLimit is the longest sequence, from the model's limit, the caller's
// wish and the free memory.
func (b *Backend) contextLimit(ctx context.Context, c *config, bytes int64, o infer.OpenOptions) (int, error) {
	own, limit := c.MaxContext, c.MaxContext
	switch {
	case o.Context < 0:
		return 0, fmt.Errorf("a context of %d tokens: use 1 or more, or 0 for the model's own limit", o.Context)
	case o.Context > 0 && own > 0 && o.Context > own:
		return 0, fmt.Errorf("a context of %d tokens is beyond the model's %d", o.Context, own)
	case o.Context > 0:
		limit = o.Context
	case own <= 0:
		limit = defaultContext
	}
	if o.NoFitCheck {
		return limit, nil
	}
	fit := infer.Fit{Weights: bytes, CachePerToken: c.cacheBytesPerToken(), Overhead: overhead, Context: limit}
	if m, err := hardware.DetectMemory(ctx); err == nil {
		fit.Free = int64(m.Available)
	}
	err := fit.Check()
	if err == nil {
		return limit, nil
	}
	if largest := fit.Largest(); o.Context == 0 && largest >= minContext {
		b.log.Warn("context shortened to what fits the free memory", "context", largest, "model_context", limit,
			"weight_bytes", bytes, "cache_bytes_per_token", fit.CachePerToken, "free_bytes", fit.Free)
		return largest, nil
	}
	return 0, err
}

// Info implements infer.Session.
func (s *session) Info() infer.Info { return s.info }

// Tokens implements infer.Session.
func (s *session) Tokens() []int32 { return s.tokens }

// Len implements infer.Session.
func (s *session) Len() int { return len(s.tokens) }

// Eval implements infer.Session.
func (s *session) Eval(ctx context.Context, tokens []int32) ([]float32, error) {
	if err := s.prepare(ctx, tokens); err != nil {
		return nil, err
	}
	var rows []float32
	for len(tokens) > 0 {
		n := min(s.chunk, len(tokens))
		var err error
		if rows, err = s.step(ctx, tokens[:n], false); err != nil {
			return nil, err
		}
		s.tokens = append(s.tokens, tokens[:n]...)
		tokens = tokens[n:]
	}
	return rows, nil
}

// EvalAll implements infer.Session.
func (s *session) EvalAll(ctx context.Context, tokens []int32, each func(pos int, logits []float32) error) error {
	if !s.all && len(tokens) > s.info.Rows {
		return fmt.Errorf("logits of %d positions at once: the model was opened for %d (Rows, AllLogits)", len(tokens), s.info.Rows)
	}
	if err := s.prepare(ctx, tokens); err != nil {
		return err
	}
	for at := 0; at < len(tokens); {
		n := min(s.chunk, len(tokens)-at)
		rows, err := s.step(ctx, tokens[at:at+n], true)
		if err != nil {
			return err
		}
		s.tokens = append(s.tokens, tokens[at:at+n]...)
		for i := range n {
			v := s.info.Vocab
			if err := each(at+i, rows[i*v:(i+1)*v:(i+1)*v]); err != nil {
				return err
			}
		}
		at += n
	}
	return nil
}

// prepare checks the tokens, starts a worker in the place of one that died, and
// brings its cache up to the sequence.
func (s *session) prepare(ctx context.Context, tokens []int32) error {
	total := len(s.tokens) + len(tokens)
	switch {
	case s.closed:
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
	if err := s.revive(ctx); err != nil {
		return err
	}
	for s.held < len(s.tokens) {
		n := min(s.chunk, len(s.tokens)-s.held)
		if _, err := s.step(ctx, s.tokens[s.held:s.held+n], false); err != nil {
			return fmt.Errorf("evaluate the sequence again: %w", err)
		}
	}
	return nil
}

// revive starts a worker where there is none.
func (s *session) revive(ctx context.Context) error {
	if s.w != nil && !s.w.alive() {
		// It died between two calls: no answer was lost.
		s.drop()
		if s.restarted {
			return errFinal
		}
		s.restarted = true
	}
	if s.w != nil {
		return nil
	}
	w, err := start(ctx, s.python, s.dir)
	if err != nil {
		return err
	}
	s.w = w
	s.log.Warn("the MLX worker was started again; the sequence is evaluated anew", "tokens", len(s.tokens))
	return nil
}

// drop gives the worker up.
func (s *session) drop() {
	if s.w != nil {
		s.w.stop()
	}
	s.w, s.held = nil, 0
}

// failed keeps books after an error of the worker.
func (s *session) failed(err error) error {
	var alive *workerError
	if errors.As(err, &alive) {
		s.held = 0 // it has begun a new cache
		return fmt.Errorf("mlx-lm fails: %w", err)
	}
	var died *DiedError
	s.drop()
	if errors.As(err, &died) {
		if s.restarted {
			s.closed = true
			return errors.Join(err, errFinal)
		}
		s.restarted = true
	}
	return err
}

// step evaluates tokens behind those held.
func (s *session) step(ctx context.Context, tokens []int32, every bool) ([]float32, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	msg := []byte{0}
	rows := 1
	if every {
		msg[0], rows = 1, len(tokens)
	}
	for _, id := range tokens {
		msg = binary.LittleEndian.AppendUint32(msg, uint32(id))
	}
	f, err := s.w.ask(ctx, kindEval, msg, fmt.Sprintf("evaluate %d tokens at position %d", len(tokens), s.held))
	if err != nil {
		return nil, s.failed(err)
	}
	if want := rows * s.info.Vocab * 4; f.kind != kindLogits || len(f.data) != want {
		return nil, s.failed(fmt.Errorf("the MLX worker gave %d bytes of kind %q, want %d of logits: does config.json's vocab_size fit the weights?", len(f.data), f.kind, want))
	}
	s.held += len(tokens)
	if cap(s.row) < rows*s.info.Vocab {
		s.row = make([]float32, rows*s.info.Vocab)
	}
	s.row = s.row[:rows*s.info.Vocab]
	for i := range s.row {
		s.row[i] = math.Float32frombits(binary.LittleEndian.Uint32(f.data[4*i:]))
	}
	return s.row, nil
}

// Truncate implements infer.Session.
func (s *session) Truncate(n int) error {
	if s.closed {
		return errors.New("the session is closed")
	}
	if n < 0 || n > len(s.tokens) {
		return fmt.Errorf("keep %d tokens of a sequence of %d", n, len(s.tokens))
	}
	s.tokens = s.tokens[:n]
	if n >= s.held || s.w == nil {
		return nil
	}
	f, err := s.w.ask(context.Background(), kindTrim, binary.LittleEndian.AppendUint32(nil, uint32(n)), "shorten the cache")
	if err != nil {
		var died *DiedError
		if err = s.failed(err); errors.As(err, &died) && !s.closed {
			return nil // the next call starts another
		}
		return err
	}
	if f.kind != kindKept || len(f.data) != 4 {
		return s.failed(fmt.Errorf("the MLX worker answered a request to shorten the cache with kind %q", f.kind))
	}
	if s.held = int(binary.LittleEndian.Uint32(f.data)); s.held > n {
		return s.failed(fmt.Errorf("the MLX worker kept %d tokens in place of %d", s.held, n))
	}
	return nil
}

// Close ends the worker.
func (s *session) Close() error {
	s.closed = true
	s.drop()
	return nil
}
