package llamacpp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/llama"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// firstSlotCapacity is the tokens each slot's cache is made for at first.
const firstSlotCapacity = 512

// batch is several sequences on the model of a session, each with a cache of its
// own in one context of the library: attention of a sequence looks at no other's
// rows.
type batch struct {
	s       *session // its model; not its sequence
	ctx     *llama.Context
	options llama.ContextOptions
	info    infer.Info
	chunk   int
	seqs    [][]int32

	tokens []llama.BatchToken
	out    [][]float32
}

// NewBatch makes a batch of sequences on the model of a session of this package,
// which must be open as long. The session's own sequence is apart from it.
//
// It is an error of kind tensor.UnsupportedError where the model keeps a state or
// a window in place of all rows, so that a sequence cannot be cut.
func NewBatch(ctx context.Context, s infer.Session, slots int) (infer.Batch, error) {
	own, ok := s.(*session)
	if !ok {
		return nil, &tensor.UnsupportedError{What: fmt.Sprintf("a batch on a session of %s", s.Info().Backend)}
	}
	if slots < 1 {
		return nil, fmt.Errorf("a batch of %d sequences: use 1 or more", slots)
	}
	if own.ctx == nil {
		return nil, errors.New("make a batch: the session is closed")
	}
	if m := own.model.Info(); m.Recurrent || m.Window > 0 {
		return nil, &tensor.UnsupportedError{What: fmt.Sprintf("a batch of sequences on %s: it keeps a state or a window of its cache, which cannot be cut", own.info.Model)}
	}
	b := &batch{s: own, info: own.info, options: own.options, seqs: make([][]int32, slots)}
	if err := b.limit(ctx); err != nil {
		return nil, err
	}
	b.options.Sequences, b.options.AllRows, b.options.Rows = slots, false, 0
	b.options.Length = min(b.info.MaxContext, firstSlotCapacity)
	b.chunk = min(own.chunk, b.options.Length)
	b.options.Batch = b.chunk
	var err error
	b.ctx, err = own.model.NewContext(b.options)
	return b, err
}

// limit shortens the context of each slot to what the free memory holds for
// all.
func (b *batch) limit(ctx context.Context) error {
	m, err := hardware.DetectMemory(ctx)
	if err != nil {
		return nil // unknown memory fits everything, as in infer.Fit
	}
	slots := len(b.seqs)
	fit := infer.Fit{CachePerToken: int64(slots) * b.info.CacheBytesPerToken, Free: int64(m.Available), Context: b.info.MaxContext}
	largest := fit.Largest()
	if largest < min(minContext, b.info.MaxContext) {
		return fmt.Errorf("a batch of %d sequences on %s: %w", slots, b.info.Model, &infer.FitError{Fit: fit})
	}
	b.info.MaxContext = min(b.info.MaxContext, largest)
	return nil
}

// Info implements infer.Batch.
func (b *batch) Info() infer.Info { return b.info }

// Slots implements infer.Batch.
func (b *batch) Slots() int { return len(b.seqs) }

// Tokens implements infer.Batch.
func (b *batch) Tokens(slot int) []int32 { return b.seqs[slot] }

var errClosedBatch = errors.New("the batch is closed")

// grow makes all caches larger where one would have no room for so many tokens.
func (b *batch) grow(tokens int) error {
	if tokens <= b.ctx.Length() {
		return nil
	}
	o := b.options
	for o.Length < tokens {
		o.Length *= 2
	}
	o.Length = min(o.Length, b.info.MaxContext)
	next, err := b.s.model.NewContext(o)
	if err != nil {
		return fmt.Errorf("make the caches larger: %w", err)
	}
	for slot, seq := range b.seqs {
		if len(seq) == 0 {
			continue
		}
		state, err := b.ctx.SequenceState(slot)
		if err == nil {
			err = next.SetSequenceState(slot, state)
		}
		if err != nil {
			next.Close()
			return fmt.Errorf("make the caches larger: %w", err)
		}
	}
	b.ctx.Close()
	b.ctx, b.options = next, o
	return nil
}

// decode evaluates b.tokens. After an error the caches hold what they held
// before.
func (b *batch) decode(ctx context.Context) error {
	start := time.Now()
	err := b.ctx.DecodeBatch(ctx, b.tokens)
	b.s.stats.Library += time.Since(start)
	b.s.stats.Calls++
	if err == nil {
		return nil
	}
	for slot, seq := range b.seqs {
		if forget := b.ctx.ForgetSequence(slot, len(seq)); forget != nil {
			return errors.Join(err, forget)
		}
	}
	return err
}

// Prefill implements infer.Batch.
func (b *batch) Prefill(ctx context.Context, slot int, tokens []int32) ([]float32, error) {
	start := time.Now()
	defer func() { b.s.stats.Total += time.Since(start) }()
	if b.ctx == nil {
		return nil, errClosedBatch
	}
	if err := infer.CheckPrefill(b, slot, tokens); err != nil {
		return nil, err
	}
	if err := b.grow(len(b.seqs[slot]) + len(tokens)); err != nil {
		return nil, err
	}
	for {
		n := min(b.chunk, len(tokens))
		b.tokens = b.tokens[:0]
		for i, id := range tokens[:n] {
			b.tokens = append(b.tokens, llama.BatchToken{ID: id, Sequence: slot, Position: len(b.seqs[slot]) + i, Logits: i == n-1})
		}
		if err := b.decode(ctx); err != nil {
			return nil, err
		}
		b.seqs[slot] = append(b.seqs[slot], tokens[:n]...)
		if tokens = tokens[n:]; len(tokens) == 0 {
			return b.ctx.Logits(n - 1)
		}
	}
}

// Step implements infer.Batch.
func (b *batch) Step(ctx context.Context, slots []int, ids []int32) ([][]float32, error) {
	start := time.Now()
	defer func() { b.s.stats.Total += time.Since(start) }()
	if b.ctx == nil {
		return nil, errClosedBatch
	}
	if err := infer.CheckStep(b, slots, ids); err != nil {
		return nil, err
	}
	longest := 0
	b.tokens = b.tokens[:0]
	for i, slot := range slots {
		longest = max(longest, len(b.seqs[slot])+1)
		b.tokens = append(b.tokens, llama.BatchToken{ID: ids[i], Sequence: slot, Position: len(b.seqs[slot]), Logits: true})
	}
	if err := b.grow(longest); err != nil {
		return nil, err
	}
	if err := b.decode(ctx); err != nil {
		return nil, err
	}
	b.out = b.out[:0]
	for i, slot := range slots {
		row, err := b.ctx.Logits(i)
		if err != nil {
			return nil, err
		}
		b.out = append(b.out, row)
		b.seqs[slot] = append(b.seqs[slot], ids[i])
	}
	return b.out, nil
}

// Copy implements infer.Batch.
func (b *batch) Copy(_ context.Context, to, from, n int) error {
	switch {
	case b.ctx == nil:
		return errClosedBatch
	case to < 0 || to >= len(b.seqs) || from < 0 || from >= len(b.seqs) || n < 0 || n > len(b.seqs[from]):
		return fmt.Errorf("copy %d tokens from slot %d to slot %d: there are %d slots, and as many tokens must be there", n, from, to, len(b.seqs))
	case to == from || n == 0:
		return b.Truncate(to, n)
	}
	state, err := b.ctx.SequenceState(from)
	if err != nil {
		return err
	}
	b.seqs[to] = b.seqs[to][:0]
	if err = b.ctx.ForgetSequence(to, 0); err == nil {
		err = b.ctx.SetSequenceState(to, state)
	}
	if err == nil {
		err = b.ctx.ForgetSequence(to, n)
	}
	if err != nil {
		return errors.Join(err, b.ctx.ForgetSequence(to, 0))
	}
	b.seqs[to] = append(b.seqs[to], b.seqs[from][:n]...)
	return nil
}

// Truncate implements infer.Batch.
func (b *batch) Truncate(slot, n int) error {
	switch {
	case b.ctx == nil:
		return errClosedBatch
	case slot < 0 || slot >= len(b.seqs) || n < 0 || n > len(b.seqs[slot]):
		return fmt.Errorf("keep %d tokens of slot %d of a batch of %d", n, slot, len(b.seqs))
	case n == len(b.seqs[slot]):
		return nil
	}
	if err := b.ctx.ForgetSequence(slot, n); err != nil {
		return err
	}
	b.seqs[slot] = b.seqs[slot][:n]
	return nil
}

// Close implements infer.Batch.
func (b *batch) Close() error {
	if b.ctx != nil {
		b.ctx.Close()
		b.ctx = nil
	}
	return nil
}
