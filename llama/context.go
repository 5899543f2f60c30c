package llama

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

// Type is enum ggml_type, of those a cache may have.
type Type int32

// The types.
const (
	F32  Type = 0
	F16  Type = 1
	Q4_0 Type = 2
	Q4_1 Type = 3
	Q5_0 Type = 6
	Q5_1 Type = 7
	Q8_0 Type = 8
	BF16 Type = 30
)

// FlashAttention says whether attention is computed in one pass, without its
// matrix of scores in memory (enum llama_flash_attn_type, plus one).
type FlashAttention int32

// The choices. The zero value leaves it to the library, which turns it on where
// the devices can.
const (
	FlashAuto FlashAttention = iota
	FlashOff
	FlashOn
)

// ContextOptions is how a sequence is kept and evaluated. The zero value has
// the library's 512 tokens.
type ContextOptions struct {
	// Length is the longest sequence; the cache is allocated at once.
	Length int
	// Batch is the most tokens of one Decode; at most Length. 0 means 512.
	Batch int
	// AllRows allows logits of every token of a Decode, Rows of so many tokens
	// at most; without either, of one.
	AllRows bool
	Rows    int
	// Sequences is how many there are, each with a cache of Length tokens of its
	// own; see [Context.DecodeBatch]. 0 means 1.
	Sequences int
	// Threads compute one token, BatchThreads several; 0 means 4.
	Threads, BatchThreads int
	Flash                 FlashAttention
	// Keys and Values are the cache's types; the zero value is F32, as
	// [DefaultContext] is F16. Quantized values need flash attention.
	Keys, Values Type
	// HostOnly keeps the cache in main memory, and all work on the processor,
	// whatever devices there are.
	HostOnly bool
	// Measure lets the library measure its time, for its log.
	Measure bool
}

// DefaultContext is the options to start from: a cache of float16.
func DefaultContext() ContextOptions { return ContextOptions{Keys: F16, Values: F16} }

// Context is one sequence of tokens with its cache, on a model, or several
// ([ContextOptions.Sequences]). Methods that name none are about the first.
type Context struct {
	m     *Model
	lib   *Library
	ptr   uintptr
	mem   uintptr
	batch batch
	room  int // tokens of a batch
	rows  int // of logits in a Decode
	abort *flag
	pin   runtime.Pinner

	// The batch's arrays, one entry a token.
	token, pos, nSeq []int32
	seq              []*int32
	want             []int8
	ids              []int32 // the numbers of the sequences, 0 first
}

// NewContext makes a context; the model stays open until it is closed.
func (m *Model) NewContext(o ContextOptions) (*Context, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fail := func(err error) (*Context, error) {
		return nil, fmt.Errorf("make a context of %d tokens for %s: %w", o.Length, m.path, err)
	}
	if m.ptr == 0 {
		return fail(errClosed)
	}
	if o.Length <= 0 {
		o.Length = 512
	}
	if o.Batch <= 0 {
		o.Batch = 512
	}
	n := max(o.Sequences, 1)
	o.Batch = max(min(o.Batch, o.Length), n)
	p := m.lib.api.contextDefaults()
	p.nCtx, p.nBatch, p.nUbatch, p.nSeqMax = uint32(n*o.Length), uint32(o.Batch), uint32(o.Batch), uint32(n)
	rows := min(max(o.Rows, 1), o.Batch)
	if o.AllRows {
		rows = o.Batch
	}
	p.nOutputsMax, p.nOutputsMaxPerSeq = uint32(max(rows, n)), uint32(rows)
	if o.Threads > 0 {
		p.nThreads, p.nThreadsBatch = int32(o.Threads), int32(o.Threads)
	}
	if o.BatchThreads > 0 {
		p.nThreadsBatch = int32(o.BatchThreads)
	}
	p.flashAttnType = int32(o.Flash) - 1
	p.typeK, p.typeV = int32(o.Keys), int32(o.Values)
	p.offloadKQV, p.opOffload, p.noPerf = !o.HostOnly, !o.HostOnly, !o.Measure
	c := &Context{m: m, lib: m.lib, room: o.Batch, rows: rows, ids: make([]int32, n), abort: newFlag(false)}
	m.lib.log.forget()
	if c.ptr = m.lib.api.initFromModel(m.ptr, p); c.ptr == 0 {
		c.abort.release()
		return fail(fmt.Errorf("llama.cpp refuses it%s", m.lib.log.tail()))
	}
	c.mem = m.lib.api.memory(c.ptr)
	c.makeBatch()
	m.contexts++
	return c, nil
}

// makeBatch allocates the batch's arrays and pins them for the context's life.
func (c *Context) makeBatch() {
	n := c.room
	c.token, c.pos, c.nSeq = make([]int32, n), make([]int32, n), make([]int32, n)
	c.seq, c.want = make([]*int32, n), make([]int8, n)
	c.pin.Pin(&c.ids[0])
	for i := range c.ids {
		c.ids[i] = int32(i)
	}
	for i := range n {
		c.nSeq[i], c.seq[i] = 1, &c.ids[0]
	}
	for _, p := range []any{&c.token[0], &c.pos[0], &c.nSeq[0], &c.seq[0], &c.want[0]} {
		c.pin.Pin(p)
	}
	c.batch = batch{
		token: unsafe.Pointer(&c.token[0]), pos: unsafe.Pointer(&c.pos[0]), nSeqID: unsafe.Pointer(&c.nSeq[0]),
		seqID: unsafe.Pointer(&c.seq[0]), logits: unsafe.Pointer(&c.want[0]),
	}
}

// Close frees the context.
func (c *Context) Close() {
	if c.ptr == 0 {
		return
	}
	c.lib.api.free(c.ptr)
	c.ptr, c.mem = 0, 0
	c.pin.Unpin()
	c.abort.release()
	c.m.mu.Lock()
	c.m.contexts--
	c.m.mu.Unlock()
}

// Length is the longest sequence: what was asked for, rounded up by the
// library.
func (c *Context) Length() int {
	if c.ptr == 0 {
		return 0
	}
	return int(c.lib.api.nCtx(c.ptr)) / len(c.ids)
}

// SetThreads changes the numbers of threads.
func (c *Context) SetThreads(decode, batch int) {
	if c.ptr != 0 && decode > 0 && batch > 0 {
		c.lib.api.setThreads(c.ptr, int32(decode), int32(batch))
	}
}

// ErrFull says that the cache has no room for the tokens.
var ErrFull = errors.New("the cache has no room for more tokens")

// Decode appends tokens at position pos, where the sequence must end, and makes
// the logits of the last one, or of every one with every. When ctx ends
// meanwhile, some of the tokens may be in the cache: forget them.
func (c *Context) Decode(ctx context.Context, tokens []int32, pos int, every bool) error {
	switch {
	case c.ptr == 0:
		return fmt.Errorf("evaluate %d tokens: %w", len(tokens), errClosed)
	case len(tokens) == 0 || len(tokens) > c.room:
		return fmt.Errorf("evaluate %d tokens at once: the context takes 1 to %d", len(tokens), c.room)
	case every && len(tokens) > c.rows:
		return fmt.Errorf("logits of %d tokens: the context was made for those of %d (AllRows, Rows)", len(tokens), c.rows)
	case ctx.Err() != nil:
		return fmt.Errorf("evaluate %d tokens: %w", len(tokens), context.Cause(ctx))
	}
	// One token is short: only a batch is worth interrupting half-way, and the
	// look at each node of its graph costs nothing then.
	if len(tokens) > 1 && ctx.Done() != nil {
		c.abort.set(false)
		c.lib.api.setAbort(c.ptr, c.lib.strlen, c.abort.addr())
		defer c.lib.api.setAbort(c.ptr, 0, nil)
		defer context.AfterFunc(ctx, func() { c.abort.set(true) })()
	}
	for i, id := range tokens {
		c.token[i], c.pos[i], c.want[i] = id, int32(pos+i), 0
		if every || i == len(tokens)-1 {
			c.want[i] = 1
		}
	}
	b := c.batch
	b.nTokens = int32(len(tokens))
	rc := c.lib.api.decode(c.ptr, b)
	runtime.KeepAlive(c)
	switch {
	case rc == 0:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("evaluate %d tokens: %w", len(tokens), context.Cause(ctx))
	case rc == 1:
		return fmt.Errorf("evaluate %d tokens at position %d: %w", len(tokens), pos, ErrFull)
	}
	return fmt.Errorf("evaluate %d tokens at position %d: llama.cpp fails with %d%s", len(tokens), pos, rc, c.lib.log.tail())
}

// Logits is row i of the last Decode, of one float32 a token of the vocabulary:
// the index of the token in the Decode, or -1 for the last one. The slice is
// the library's memory and valid until the context's next call.
func (c *Context) Logits(i int) ([]float32, error) {
	if c.ptr == 0 {
		return nil, fmt.Errorf("read logits: %w", errClosed)
	}
	addr := c.lib.api.logitsIth(c.ptr, int32(i))
	if addr == 0 {
		return nil, fmt.Errorf("read the logits of token %d: it has none%s", i, c.lib.log.tail())
	}
	n := c.lib.api.vocabTokens(c.lib.api.modelVocab(c.m.ptr))
	return unsafe.Slice((*float32)(pointer(addr)), n), nil
}

// Forget removes the tokens from position from on. It fails for models that
// keep a state or a window in place of all rows, which then must be cleared.
func (c *Context) Forget(from int) error {
	if c.ptr == 0 {
		return fmt.Errorf("forget tokens: %w", errClosed)
	}
	if c.mem == 0 {
		return errors.New("forget tokens: the model has no cache")
	}
	if from <= 0 {
		c.lib.api.memoryClear(c.mem, false)
		return nil
	}
	if !c.lib.api.memorySeqRm(c.mem, 0, int32(from), -1) {
		return fmt.Errorf("the model's cache cannot go back to %d tokens", from)
	}
	return nil
}

// Positions are the first and the last position in the cache, -1 for an empty
// one. The first is not 0 where a sliding window has dropped rows.
func (c *Context) Positions() (first, last int) {
	if c.ptr == 0 || c.mem == 0 {
		return -1, -1
	}
	return int(c.lib.api.memoryPosMin(c.mem, 0)), int(c.lib.api.memoryPosMax(c.mem, 0))
}

// State copies the cache's content.
func (c *Context) State() ([]byte, error) {
	if c.ptr == 0 {
		return nil, fmt.Errorf("copy the cache: %w", errClosed)
	}
	size := c.lib.api.stateSize(c.ptr, 0)
	if size == 0 {
		return nil, errors.New("copy the cache: it is empty")
	}
	state := make([]byte, size)
	n := c.lib.api.stateGet(c.ptr, unsafe.Pointer(&state[0]), size, 0)
	if n == 0 || n > size {
		return nil, fmt.Errorf("copy the cache: llama.cpp fails%s", c.lib.log.tail())
	}
	return state[:n], nil
}

// SetState puts content that [Context.State] copied, from a context of the same
// model and cache types, in the cache's place.
func (c *Context) SetState(state []byte) error {
	if c.ptr == 0 {
		return fmt.Errorf("restore the cache: %w", errClosed)
	}
	if len(state) == 0 {
		return errors.New("restore the cache: there is no content")
	}
	c.lib.log.forget()
	if c.lib.api.stateSet(c.ptr, unsafe.Pointer(&state[0]), uintptr(len(state)), 0) == 0 {
		return fmt.Errorf("restore the cache: it is not of this model or cut%s", c.lib.log.tail())
	}
	return nil
}
