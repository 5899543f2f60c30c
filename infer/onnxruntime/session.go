package onnxruntime

import (
	"context"
	"errors"
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// session is one sequence on one model: a graph that decodes, and one for
// prompts where the folder has it, over one cache.
type session struct {
	lib       *ort.Library
	graphs    *graphs
	decode    *engine
	prefill   *engine // nil: decode serves both
	cache     kvCache
	info      infer.Info
	fallbacks []Fallback
	vocab     int
	chunk     int
	all       bool
	closed    bool
	stats     Stats

	tokens []int32
	wide   []float32 // a row widened from float16
}

// allLogitsChunk bounds the logits of one run: 128 rows of 151 936 are 78 MB.
const allLogitsChunk = 128

// padWorth is the number of tokens from which a padded run of a prefill graph
// of fixed length beats decoding them one by one: both read all weights once a
// run.
const padWorth = 4

func (s *session) engines() []*engine {
	if s.prefill == nil {
		return []*engine{s.decode}
	}
	return []*engine{s.decode, s.prefill}
}

// prepare checks that the graphs fit together and makes the cache.
func (s *session) prepare(b *Backend, p *provider, r *request) error {
	sig := s.decode.sig
	unsupported := func(format string, a ...any) error {
		return &tensor.UnsupportedError{What: fmt.Sprintf("running %s: %s", r.folder.Model, fmt.Sprintf(format, a...))}
	}
	kind := sig.contract(r.graphs.decode.inPlace)
	for _, e := range s.engines() {
		if s.all && e.sig.lastOnly && e.rows != 1 {
			return unsupported("logits at every position: the graph gives those of the last one and has no nodes %s… to take out", lastPositionPrefix)
		}
		if e.rows > 1 && kind != hosted && e == s.decode {
			return unsupported("it takes %d tokens at once and there is no graph for fewer", e.rows)
		}
		if len(e.sig.mask.Shape) == 4 && e.mask.fixed == nil {
			return unsupported("input %q has four dimensions of open sizes", e.sig.mask.Name)
		}
	}
	if s.prefill != nil {
		if err := sig.matches(s.prefill.sig); err != nil {
			return unsupported("its two graphs do not fit together: %s", err)
		}
		if s.prefill.sig.contract(r.graphs.prefill.inPlace) != kind {
			return unsupported("its two graphs keep the cache differently")
		}
	}
	s.vocab, s.chunk = sig.vocab, r.open.Chunk
	switch {
	case s.all:
		s.info.Rows = s.chunk
	case r.open.Rows > 1 && p.rows && s.decode.rows == 0 && !sig.lastOnly && kind != hosted:
		s.info.Rows = min(r.open.Rows, s.chunk)
	}
	s.info.Vocab, s.info.CacheBytesPerToken = sig.vocab, sig.bytesPerToken()
	c := &s.cache
	*c = kvCache{
		kind: kind, ports: sig.cache, engines: s.engines(), limit: s.info.MaxContext,
		values: make([]*ort.Value, len(sig.cache)),
		memory: cacheMemory{env: b.env},
	}
	if n := sig.cache[0].pastLen; n > 0 {
		c.fixed = int(n)
		if int(n) < c.limit {
			return unsupported("its cache holds %d tokens, fewer than the %d asked for", n, c.limit)
		}
	}
	if place, ok := p.cachePlace(b, r); ok && kind != hosted {
		c.memory.session, c.memory.place, c.memory.providers = s.decode.raw, place, p.moverProviders(r.options)
		if kind == growing {
			c.pairs = make([]pair, len(sig.cache))
		}
	}
	if kind != hosted {
		return nil
	}
	for _, e := range s.engines() {
		if err := e.hostPresent(b.env); err != nil {
			return err
		}
	}
	return nil
}

// warm evaluates tokens with each graph and forgets them: what a device cannot
// do shows before an answer is promised.
func (s *session) warm(ctx context.Context) error {
	for _, e := range s.engines() {
		n := min(max(e.rows, 1), s.info.MaxContext)
		if err := s.step(ctx, e, make([]int32, n)); err != nil {
			return err
		}
		if err := s.Truncate(0); err != nil {
			return err
		}
	}
	return nil
}

// Fallbacks lists the providers that were passed over for a session of this
// package, with the reasons.
func Fallbacks(s infer.Session) []Fallback {
	if s, ok := s.(*session); ok {
		return s.fallbacks
	}
	return nil
}

// Info implements infer.Session.
func (s *session) Info() infer.Info { return s.info }

// Tokens implements infer.Session.
func (s *session) Tokens() []int32 { return s.tokens }

// Len implements infer.Session.
func (s *session) Len() int { return len(s.tokens) }

// next is the graph to use for the first of n tokens, and how many of them it
// takes.
func (s *session) next(n int) (e *engine, take int) {
	if p := s.prefill; p != nil {
		switch {
		case p.rows == 0 && n > 1:
			return p, min(n, s.chunk)
		case p.rows > 0 && (n >= p.rows || s.cache.kind == hosted && n >= padWorth):
			return p, min(n, p.rows)
		}
	}
	if s.decode.rows > 0 {
		return s.decode, min(n, s.decode.rows)
	}
	return s.decode, min(n, s.chunk)
}

// Eval implements infer.Session.
func (s *session) Eval(ctx context.Context, tokens []int32) ([]float32, error) {
	if err := s.check(tokens); err != nil {
		return nil, err
	}
	// Room for all chunks at once: the cache is not copied between them.
	if err := s.cache.reserve(ctx, len(s.tokens), len(s.tokens)+len(tokens)); err != nil {
		return nil, err
	}
	if len(tokens) > 1 {
		// Rows of the embedding table read by a prefill need not stay.
		defer s.graphs.release()
	}
	for {
		e, n := s.next(len(tokens))
		if err := s.step(ctx, e, tokens[:n]); err != nil {
			return nil, err
		}
		if tokens = tokens[n:]; len(tokens) > 0 {
			continue
		}
		out := e.call.Output(e.logitsSlot)
		return s.rowOf(out, int(out.Shape()[1])-1)
	}
}

// EvalAll implements infer.Session.
func (s *session) EvalAll(ctx context.Context, tokens []int32, each func(pos int, logits []float32) error) error {
	if !s.all && len(tokens) > s.info.Rows {
		return fmt.Errorf("logits of %d positions at once: the model was opened for %d (Rows, AllLogits)", len(tokens), s.info.Rows)
	}
	if err := s.check(tokens); err != nil {
		return err
	}
	for at := 0; at < len(tokens); {
		e, n := s.decode, len(tokens)
		if s.all {
			e, n = s.next(len(tokens) - at)
		}
		if err := s.step(ctx, e, tokens[at:at+n]); err != nil {
			return err
		}
		out := e.call.Output(e.logitsSlot)
		first := int(out.Shape()[1]) - n // padding comes first
		for i := range n {
			row, err := s.rowOf(out, first+i)
			if err != nil {
				return err
			}
			if err := each(at+i, row); err != nil {
				return err
			}
		}
		at += n
	}
	return nil
}

// check refuses what would read outside of a table or beyond the context.
func (s *session) check(tokens []int32) error {
	switch {
	case s.closed:
		return errors.New("the session is closed")
	case len(tokens) == 0:
		return errors.New("no tokens to evaluate")
	case len(s.tokens)+len(tokens) > s.info.MaxContext:
		return &infer.ContextError{Prompt: len(s.tokens) + len(tokens), Context: s.info.MaxContext}
	}
	for _, id := range tokens {
		if id < 0 || int(id) >= s.vocab {
			return fmt.Errorf("token id %d is not one of the model's 0 to %d", id, s.vocab-1)
		}
	}
	return nil
}

// step runs one chunk and appends it to the sequence. After an error the
// sequence is as before: rows half written lie beyond its length.
func (s *session) step(ctx context.Context, e *engine, chunk []int32) error {
	used, total := len(s.tokens), len(s.tokens)+len(chunk)
	if err := s.cache.reserve(ctx, used, total); err != nil {
		return err
	}
	most := min(s.chunk, s.info.MaxContext)
	if err := e.feed(chunk, used, most, s.maskRoom(e, total)); err != nil {
		return err
	}
	if err := e.logitsTo(len(chunk)); err != nil {
		return err
	}
	if err := s.cache.before(e, total); err != nil {
		return err
	}
	if err := s.stats.run(ctx, e.call); err != nil {
		return err
	}
	s.tokens = append(s.tokens, chunk...)
	return s.cache.after(e, used, len(chunk))
}

// maskRoom is the cache's capacity, or of a growing one room for the mask of
// some steps to come.
func (s *session) maskRoom(e *engine, total int) int {
	if s.cache.kind != growing {
		return s.cache.capacity
	}
	return newCapacity(e.mask.n, total, s.info.MaxContext)
}

// rowOf is one row of logits [1, rows, vocab] as float32.
func (s *session) rowOf(out *ort.Value, row int) ([]float32, error) {
	if shape := out.Shape(); len(shape) != 3 || row < 0 || int64(row) >= shape[1] || shape[2] != int64(s.vocab) {
		return nil, fmt.Errorf("the graph gave logits of shape %v, want [1, %d or more, %d]", shape, row+1, s.vocab)
	}
	from, to := row*s.vocab, (row+1)*s.vocab
	if s.decode.sig.logitsType == ort.Float32 {
		data, err := ort.Data[float32](out)
		if err != nil {
			return nil, err
		}
		return data[from:to:to], nil
	}
	data, err := out.Bytes()
	if err != nil {
		return nil, err
	}
	if s.wide == nil {
		s.wide = make([]float32, s.vocab)
	}
	return s.wide, tensor.Decode(s.wide, data[2*from:2*to], tensor.F16)
}

// Truncate implements infer.Session.
func (s *session) Truncate(n int) error {
	if n < 0 || n > len(s.tokens) {
		return fmt.Errorf("keep %d tokens of a sequence of %d", n, len(s.tokens))
	}
	if n == len(s.tokens) {
		return nil
	}
	if err := s.cache.truncate(context.Background(), n); err != nil {
		return err
	}
	s.tokens = s.tokens[:n]
	return nil
}

// Close frees the model and the cache. Logits returned before are invalid.
func (s *session) Close() error {
	if s.closed {
		return nil
	}
	s.release()
	s.graphs.close()
	return nil
}

// release frees all but the mapped weights.
func (s *session) release() {
	s.closed = true
	s.cache.close()
	s.decode.close()
	s.prefill.close()
}
