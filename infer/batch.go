package infer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Batch is a loaded model with several sequences of tokens, each in a slot with
// its own KV cache. One run of the model adds a token to many of them: its
// weights are read once for all.
//
// A batch belongs to one goroutine at a time. Slices of logits may be written to
// and are valid until the next call.
type Batch interface {
	// Info describes the model; MaxContext is what each slot holds.
	Info() Info

	// Slots is the number of sequences.
	Slots() int

	// Tokens is a slot's sequence; the slice must not be changed and is valid
	// until the next call.
	Tokens(slot int) []int32

	// Prefill appends tokens to a slot's sequence and returns the logits that
	// follow the last one. A failed or cancelled call leaves only whole chunks
	// of its tokens in the sequence.
	Prefill(ctx context.Context, slot int, tokens []int32) (logits []float32, err error)

	// Step appends one token to each of the slots named, in one run: ids[i] to
	// slots[i], each slot once. Row i of logits follows ids[i]. A failed or
	// cancelled call changes no sequence.
	Step(ctx context.Context, slots []int, ids []int32) (logits [][]float32, err error)

	// Copy makes the first n tokens of one slot's sequence all of another's,
	// without evaluating them. Where the runtime cannot, it leaves both as they
	// are and says so with [ErrNoCopy].
	Copy(ctx context.Context, to, from, n int) error

	// Truncate forgets all but the first n tokens of a slot.
	Truncate(slot, n int) error

	// Close frees the sequences, not the model they were made on.
	Close() error
}

// ErrNoCopy says that a batch cannot copy sequences from slot to slot.
var ErrNoCopy = errors.New("sequences of this batch cannot be copied")

// CheckStep is what every [Batch.Step] asks of its arguments.
func CheckStep(b Batch, slots []int, ids []int32) error {
	if len(slots) == 0 || len(slots) != len(ids) {
		return fmt.Errorf("a step of %d slots with %d tokens: want one token for each of one slot or more", len(slots), len(ids))
	}
	info := b.Info()
	for i, slot := range slots {
		switch {
		case slot < 0 || slot >= b.Slots():
			return fmt.Errorf("slot %d of a batch of %d", slot, b.Slots())
		case slices.Contains(slots[:i], slot):
			return fmt.Errorf("slot %d is named twice in one step", slot)
		case ids[i] < 0 || int(ids[i]) >= info.Vocab:
			return fmt.Errorf("token id %d is not one of the model's 0 to %d", ids[i], info.Vocab-1)
		case len(b.Tokens(slot)) >= info.MaxContext:
			return &ContextError{Prompt: len(b.Tokens(slot)) + 1, Context: info.MaxContext}
		}
	}
	return nil
}

// CheckPrefill is what every [Batch.Prefill] asks of its arguments.
func CheckPrefill(b Batch, slot int, tokens []int32) error {
	info := b.Info()
	switch {
	case slot < 0 || slot >= b.Slots():
		return fmt.Errorf("slot %d of a batch of %d", slot, b.Slots())
	case len(tokens) == 0:
		return errors.New("no tokens to evaluate")
	case len(b.Tokens(slot))+len(tokens) > info.MaxContext:
		return &ContextError{Prompt: len(b.Tokens(slot)) + len(tokens), Context: info.MaxContext}
	}
	for _, id := range tokens {
		if id < 0 || int(id) >= info.Vocab {
			return fmt.Errorf("token id %d is not one of the model's 0 to %d", id, info.Vocab-1)
		}
	}
	return nil
}

// Single makes a batch of one slot of a session, for backends that have no
// batches: requests then come one after the other. The session stays open when
// the batch is closed.
func Single(s Session) Batch { return &single{s} }

type single struct{ s Session }

func (b *single) Info() Info                                { return b.s.Info() }
func (b *single) Slots() int                                { return 1 }
func (b *single) Tokens(int) []int32                        { return b.s.Tokens() }
func (b *single) Truncate(_, n int) error                   { return b.s.Truncate(n) }
func (b *single) Close() error                              { return nil }
func (b *single) Copy(context.Context, int, int, int) error { return ErrNoCopy }

func (b *single) Prefill(ctx context.Context, slot int, tokens []int32) ([]float32, error) {
	if err := CheckPrefill(b, slot, tokens); err != nil {
		return nil, err
	}
	return b.s.Eval(ctx, tokens)
}

func (b *single) Step(ctx context.Context, slots []int, ids []int32) ([][]float32, error) {
	if err := CheckStep(b, slots, ids); err != nil {
		return nil, err
	}
	logits, err := b.s.Eval(ctx, ids)
	return [][]float32{logits}, err
}

// BatchRequest is one text to continue.
type BatchRequest struct {
	Prompt []int32
	// Decoder is the request's own; nil where only ids are wanted.
	Decoder TextDecoder
	Options Options
	// Each, where not nil, is called for every step of the answer, on the
	// goroutine that ranges over [GenerateBatch].
	Each func(Token)
}

// BatchAnswer is what became of a request.
type BatchAnswer struct {
	// Index counts the requests from 0, in the order they were taken.
	Index  int
	Result Result
	// Err says why the answer is not whole. The other requests go on.
	Err error
}

// minShare is the number of tokens from which the beginning of another slot's
// sequence is copied rather than evaluated again.
const minShare = 16

// GenerateBatch answers requests, as many at once as the batch has slots: each
// run of the model makes one token of every answer in the making, and a slot
// whose answer has ended takes the next request at once. Answers come in the
// order in which they end.
//
// Each answer is what [Generate] makes of its request alone: samplers, seeds,
// stop rules and limits are the request's own. What one run of a model computes
// for several sequences may differ from what it computes for one in the last
// bits of the logits, so that a choice between two tokens nearly equal can fall
// the other way.
//
// Beginnings of prompts that a slot holds already are taken over from it. What
// a request does is decided by the order of requests alone, not by time: the
// same requests on the same batch give the same runs.
//
// The loop gets an error as its last element, with an answer of index -1, when
// ctx ends or the model cannot be run; before it come the answers in the making,
// as far as they went, with the same error.
func GenerateBatch(ctx context.Context, b Batch, requests iter.Seq[BatchRequest]) iter.Seq2[BatchAnswer, error] {
	return func(yield func(BatchAnswer, error) bool) {
		next, stop := iter.Pull(requests)
		defer stop()
		r := &batchRun{b: b, yield: yield, slots: make([]*batchSequence, b.Slots())}
		err := r.run(ctx, next)
		if err == nil || errors.Is(err, errLeft) {
			return
		}
		for _, q := range r.slots {
			if q == nil {
				continue
			}
			q.result.Reason = FinishError
			if ctx.Err() != nil {
				q.result.Reason = FinishCancelled
			}
			q.emit(-1, q.rest())
			if r.finish(q, err) != nil {
				return
			}
		}
		yield(BatchAnswer{Index: -1}, err)
	}
}

// batchRun is one loop of GenerateBatch.
type batchRun struct {
	b     Batch
	yield func(BatchAnswer, error) bool
	slots []*batchSequence // nil: free
	taken int              // requests

	// Of one step, one entry for each answer in the making.
	active []*batchSequence
	at     []int
	ids    []int32
}

// batchSequence is an answer in the making; the rules are Generation's.
type batchSequence struct {
	*Generation
	index   int
	slot    int
	each    func(Token)
	sampler *Sampler
	last    int32 // chosen, not yet evaluated

	chosen    int32 // by the sampler, of this step
	chosenErr error
}

func (r *batchRun) run(ctx context.Context, next func() (BatchRequest, bool)) error {
	more := true
	for {
		for more {
			slot := slices.Index(r.slots, nil)
			if slot < 0 {
				break
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			var request BatchRequest
			if request, more = next(); !more {
				break
			}
			if err := r.admit(ctx, request); err != nil {
				return err
			}
		}
		r.active, r.at, r.ids = r.active[:0], r.at[:0], r.ids[:0]
		for slot, q := range r.slots {
			if q != nil {
				r.active, r.at, r.ids = append(r.active, q), append(r.at, slot), append(r.ids, q.last)
			}
		}
		if len(r.active) == 0 {
			return nil
		}
		rows, err := r.b.Step(ctx, r.at, r.ids)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("a step of %d answers: %w", len(r.active), err)
		}
		sampleAll(r.active, rows)
		for _, q := range r.active {
			if err := r.take(q); err != nil {
				return err
			}
		}
	}
}

// admit begins an answer: its prompt is evaluated and its first token chosen.
// Only what ends the whole loop is an error.
func (r *batchRun) admit(ctx context.Context, request BatchRequest) error {
	q := &batchSequence{index: r.taken, slot: -1, each: request.Each}
	r.taken++
	q.Generation = Generate(nil, request.Decoder, request.Prompt, request.Options)
	q.start = time.Now()
	q.result = Result{Reason: FinishError, PromptTokens: len(request.Prompt)}
	slot, share := r.place(request.Prompt)
	q.s = &slotSession{r.b, slot}
	var err error
	if q.sampler, err = q.prepare(); err != nil {
		return r.finish(q, err)
	}
	if share >= 0 {
		n := common(r.b.Tokens(share), request.Prompt)
		// A beginning that cannot be had is evaluated.
		if err := r.b.Copy(ctx, slot, share, n); err != nil && !errors.Is(err, ErrNoCopy) {
			return r.broken(ctx, q, fmt.Errorf("copy %d tokens of a sequence: %w", n, err))
		}
	}
	logits, err := q.prefill(ctx)
	if err != nil {
		return r.broken(ctx, q, err)
	}
	r.slots[slot], q.slot = q, slot
	q.result.Reason = FinishCancelled
	q.chosen, q.chosenErr = q.sampler.Sample(logits)
	return r.take(q)
}

// broken ends a request whose prompt could not be evaluated, and the loop where
// ctx is why.
func (r *batchRun) broken(ctx context.Context, q *batchSequence, err error) error {
	if ctx.Err() == nil {
		return r.finish(q, err)
	}
	q.result.Reason = FinishCancelled
	if left := r.finish(q, ctx.Err()); left != nil {
		return left
	}
	return ctx.Err()
}

// place chooses the slot for a prompt: the free one that holds the longest
// beginning of it. share is another slot that holds so much more of it that
// copying is worth it, or -1.
func (r *batchRun) place(prompt []int32) (slot, share int) {
	slot, share = -1, -1
	best, most := -1, 0
	for i, q := range r.slots {
		n := common(r.b.Tokens(i), prompt)
		if q == nil && n > best {
			best, slot = n, i
		}
		if n > most {
			most, share = n, i
		}
	}
	if share == slot || most < best+minShare {
		share = -1
	}
	return slot, share
}

// common is the number of tokens of prompt that a sequence begins with, fewer
// than all: the last one must give logits.
func common(have, prompt []int32) int {
	n := 0
	for n < len(have) && n < len(prompt)-1 && have[n] == prompt[n] {
		n++
	}
	return n
}

// take adds the token chosen to an answer, which may end it.
func (r *batchRun) take(q *batchSequence) error {
	if q.chosenErr != nil {
		q.result.Reason = FinishError
		err := fmt.Errorf("token %d of the answer: %w", len(q.result.TokenIDs), q.chosenErr)
		q.emit(-1, q.rest())
		return r.finish(q, err)
	}
	id := q.chosen
	q.last = id
	q.clock()
	if slices.Contains(q.o.StopTokens, id) {
		q.result.Reason = FinishStop
		q.emit(-1, q.rest())
		return r.finish(q, nil)
	}
	text, hit := q.decode(id)
	q.emit(id, text)
	if hit != "" {
		q.result.Reason, q.result.StopText = FinishStop, hit
		return r.finish(q, nil)
	}
	if reason, done := q.full(); done {
		q.result.Reason = reason
		q.emit(-1, q.rest())
		return r.finish(q, nil)
	}
	return nil
}

// finish frees the slot and hands the answer over. What the slot holds stays,
// for a prompt that begins alike.
func (r *batchRun) finish(q *batchSequence, err error) error {
	if q.slot >= 0 {
		r.slots[q.slot] = nil
	}
	q.result.Text = q.text.String()
	if !r.yield(BatchAnswer{Index: q.index, Result: q.result, Err: err}, nil) {
		return errLeft
	}
	return nil
}

func (q *batchSequence) emit(id int32, text string) {
	q.text.WriteString(text)
	if q.each != nil && (id >= 0 || text != "") {
		q.each(Token{ID: id, Text: text})
	}
}

// parallelSampling is the number of logits from which choosing tokens is worth
// more than one goroutine.
const parallelSampling = 1 << 17

// sampleAll chooses the next token of every answer. Samplers share nothing, so
// the choice does not depend on the order.
func sampleAll(active []*batchSequence, rows [][]float32) {
	workers := min(runtime.GOMAXPROCS(0), len(active))
	if len(active)*len(rows[0]) < parallelSampling || workers < 2 {
		for i, q := range active {
			q.chosen, q.chosenErr = q.sampler.Sample(rows[i])
		}
		return
	}
	var next atomic.Int32
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(active); i = int(next.Add(1)) - 1 {
				active[i].chosen, active[i].chosenErr = active[i].sampler.Sample(rows[i])
			}
		})
	}
	wg.Wait()
}

// slotSession is a slot as Generation sees it.
type slotSession struct {
	b    Batch
	slot int
}

func (s *slotSession) Info() Info           { return s.b.Info() }
func (s *slotSession) Tokens() []int32      { return s.b.Tokens(s.slot) }
func (s *slotSession) Len() int             { return len(s.b.Tokens(s.slot)) }
func (s *slotSession) Truncate(n int) error { return s.b.Truncate(s.slot, n) }
func (s *slotSession) Close() error         { return nil }

func (s *slotSession) Eval(ctx context.Context, tokens []int32) ([]float32, error) {
	return s.b.Prefill(ctx, s.slot, tokens)
}

func (s *slotSession) EvalAll(context.Context, []int32, func(int, []float32) error) error {
	return errors.New("a slot of a batch gives the logits of its last token alone")
}
