package llama

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

// BatchToken is one token of a [Context.DecodeBatch].
type BatchToken struct {
	ID       int32
	Sequence int
	Position int // where the sequence must end
	Logits   bool
}

// Sequences is the number of sequences of the context.
func (c *Context) Sequences() int { return len(c.ids) }

// DecodeBatch appends tokens to any of the context's sequences, in one run:
// those of a sequence in the order of their positions. [Context.Logits] with a
// token's index reads its row, where it was asked for. When the call fails, some
// of the tokens may be in the cache: forget them.
func (c *Context) DecodeBatch(ctx context.Context, tokens []BatchToken) error {
	if c.ptr == 0 {
		return fmt.Errorf("evaluate %d tokens: %w", len(tokens), errClosed)
	}
	if len(tokens) == 0 || len(tokens) > c.room {
		return fmt.Errorf("evaluate %d tokens at once: the context takes 1 to %d", len(tokens), c.room)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("evaluate %d tokens: %w", len(tokens), context.Cause(ctx))
	}
	rows := make([]int, len(c.ids))
	for _, t := range tokens {
		if t.Sequence < 0 || t.Sequence >= len(c.ids) {
			return fmt.Errorf("evaluate a token of sequence %d: the context has %d", t.Sequence, len(c.ids))
		}
		if t.Logits {
			// More rows than it was told of are a failed assertion in the library.
			if rows[t.Sequence]++; rows[t.Sequence] > c.rows {
				return fmt.Errorf("logits of more than %d tokens of sequence %d: the context was made for no more (AllRows, Rows)", c.rows, t.Sequence)
			}
		}
	}
	total := 0
	for _, n := range rows {
		total += n
	}
	if most := max(c.rows, len(c.ids)); total > most {
		return fmt.Errorf("logits of %d tokens: the context was made for those of %d (AllRows, Rows)", total, most)
	}
	if ctx.Done() != nil {
		c.abort.set(false)
		c.lib.api.setAbort(c.ptr, c.lib.strlen, c.abort.addr())
		defer c.lib.api.setAbort(c.ptr, 0, nil)
		defer context.AfterFunc(ctx, func() { c.abort.set(true) })()
	}
	for i, t := range tokens {
		c.token[i], c.pos[i], c.seq[i], c.want[i] = t.ID, int32(t.Position), &c.ids[t.Sequence], 0
		if t.Logits {
			c.want[i] = 1
		}
	}
	b := c.batch
	b.nTokens = int32(len(tokens))
	rc := c.lib.api.decode(c.ptr, b)
	for i := range tokens {
		c.seq[i] = &c.ids[0] // as Decode wants them
	}
	runtime.KeepAlive(c)
	switch {
	case rc == 0:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("evaluate %d tokens: %w", len(tokens), context.Cause(ctx))
	case rc == 1:
		return fmt.Errorf("evaluate %d tokens of several sequences: %w", len(tokens), ErrFull)
	}
	return fmt.Errorf("evaluate %d tokens of several sequences: llama.cpp fails with %d%s", len(tokens), rc, c.lib.log.tail())
}

// checkSequence says what keeps a sequence's cache from being worked on.
func (c *Context) checkSequence(doing string, seq int) error {
	switch {
	case c.ptr == 0:
		return fmt.Errorf("%s: %w", doing, errClosed)
	case seq < 0 || seq >= len(c.ids):
		return fmt.Errorf("%s %d: the context has %d", doing, seq, len(c.ids))
	case c.mem == 0:
		return fmt.Errorf("%s %d: the model has no cache", doing, seq)
	}
	return nil
}

// ForgetSequence removes a sequence's tokens from position from on, like
// [Context.Forget].
func (c *Context) ForgetSequence(seq, from int) error {
	if err := c.checkSequence("forget tokens of sequence", seq); err != nil {
		return err
	}
	if !c.lib.api.memorySeqRm(c.mem, int32(seq), int32(max(from, 0)), -1) {
		return fmt.Errorf("the cache of sequence %d cannot go back to %d tokens", seq, from)
	}
	return nil
}

// SequenceState copies the content of a sequence's cache, like [Context.State].
func (c *Context) SequenceState(seq int) ([]byte, error) {
	if err := c.checkSequence("copy the cache of sequence", seq); err != nil {
		return nil, err
	}
	size := c.lib.api.stateSize(c.ptr, int32(seq))
	if size == 0 {
		return nil, errors.New("copy the cache of a sequence: it is empty")
	}
	state := make([]byte, size)
	n := c.lib.api.stateGet(c.ptr, unsafe.Pointer(&state[0]), size, int32(seq))
	if n == 0 || n > size {
		return nil, fmt.Errorf("copy the cache of sequence %d: llama.cpp fails%s", seq, c.lib.log.tail())
	}
	return state[:n], nil
}

// SetSequenceState puts content that [Context.SequenceState] copied in the place
// of a sequence's cache, like [Context.SetState].
func (c *Context) SetSequenceState(seq int, state []byte) error {
	if err := c.checkSequence("restore the cache of sequence", seq); err != nil {
		return err
	}
	if len(state) == 0 {
		return errors.New("restore the cache of a sequence: there is no content")
	}
	c.lib.log.forget()
	if c.lib.api.stateSet(c.ptr, unsafe.Pointer(&state[0]), uintptr(len(state)), int32(seq)) == 0 {
		return fmt.Errorf("restore the cache of sequence %d: the content is not of this model or cut%s", seq, c.lib.log.tail())
	}
	return nil
}
