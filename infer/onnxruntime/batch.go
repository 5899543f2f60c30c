package onnxruntime

import (
	"context"
	"errors"
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// batch is several sequences on the graphs of a session.
//
// The cache is one buffer [slots, kv_heads, capacity, head_dim] per layer and
// kind, past and present at once, whose batch is the outermost dimension: any
// run of neighbouring rows is a tensor of its own over the same memory. A prompt
// is evaluated as a batch of one in its row, so that prompts need no padding. A
// step evaluates the first rows, as many as there are answers in the making; the
// mask has a line for each, with as many ones as the row has tokens, from which
// the graph takes the lengths that GroupQueryAttention writes, rotates and looks
// back by.
type batch struct {
	s       *session // its graphs; not its sequence
	info    infer.Info
	prefill batchCall
	decode  batchCall
	env     *ort.Env

	values   []*ort.Value // of each port, [slots, kv_heads, capacity, head_dim]
	capacity int
	seqs     [][]int32 // by slot
	row      []int     // of each slot
	slot     []int     // of each row
	wide     []float32 // rows widened from float16
	out      [][]float32
	spare    []byte
	closed   bool
}

// batchCall is a prepared run of a graph over some rows of the cache.
type batchCall struct {
	e                   *engine
	call                *ort.Call
	ids, mask, position grid
	past, present       []int // slots of the call
	logits              int
	row                 *ort.Value // [rows, 1, vocab]
	views               []*ort.Value
	first, count        int // rows of the views; count 0: none are bound
	bound               *ort.Value
}

// grid is an input [rows, n] over memory of its own.
type grid struct {
	buffer
	rows int
}

// NewBatch makes a batch of sequences on the model of a session of this package,
// whose graphs it uses and which must be open as long. The session's own
// sequence is apart from it.
//
// It is an error of kind tensor.UnsupportedError where the graph takes no
// several sequences, or keeps its cache otherwise than in a buffer in main memory
// that attention writes in place, as graphs for the CPU do.
func NewBatch(ctx context.Context, s infer.Session, slots int) (infer.Batch, error) {
	own, ok := s.(*session)
	if !ok {
		return nil, &tensor.UnsupportedError{What: fmt.Sprintf("a batch on a session of %s", s.Info().Backend)}
	}
	if slots < 1 {
		return nil, fmt.Errorf("a batch of %d sequences: use 1 or more", slots)
	}
	if own.closed {
		return nil, errors.New("make a batch: the session is closed")
	}
	if why := own.unbatched(); why != "" {
		return nil, &tensor.UnsupportedError{What: fmt.Sprintf("a batch of sequences on %s: %s", own.info.Model, why)}
	}
	b := &batch{s: own, info: own.info, env: own.decode.raw.Env(), values: make([]*ort.Value, len(own.cache.ports)), seqs: make([][]int32, slots)}
	for i := range slots {
		b.row, b.slot = append(b.row, i), append(b.slot, i)
	}
	if err := b.limit(ctx); err != nil {
		return nil, err
	}
	prompts := own.decode
	if p := own.prefill; p != nil && p.rows == 0 {
		prompts = p
	}
	err := b.prefill.prepare(prompts, 1)
	if err == nil {
		err = b.decode.prepare(own.decode, slots)
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("make a batch of %d sequences on %s: %w", slots, own.info.Model, err)
	}
	return b, nil
}

// unbatched says what of the graph is in the way of a batch, "" if nothing.
func (s *session) unbatched() string {
	switch sig := s.decode.sig; {
	case s.cache.kind != shared:
		return fmt.Sprintf("its cache is %s, not a buffer written in place", s.cache.kind)
	case !s.cache.memory.onHost():
		return "its cache lies on a device"
	case s.cache.fixed > 0, s.decode.rows > 0:
		return "its shapes are fixed"
	case sig.ids.Shape[0] > 0:
		return fmt.Sprintf("input %q is for %d sequences", sig.ids.Name, sig.ids.Shape[0])
	case sig.mask.Name == "" || len(sig.mask.Shape) != 2 || s.decode.mask.fixed != nil:
		return "it takes no attention_mask [batch, length]"
	}
	return ""
}

// limit shortens the context of each slot to what the free memory holds for
// all.
func (b *batch) limit(ctx context.Context) error {
	slots := len(b.seqs)
	m, err := hardware.DetectMemory(ctx)
	if err != nil {
		return nil // unknown memory fits everything, as in infer.Fit
	}
	fit := infer.Fit{CachePerToken: int64(slots) * b.info.CacheBytesPerToken, Free: int64(m.Available), Context: b.info.MaxContext}
	largest := fit.Largest()
	if largest < min(minContext, b.info.MaxContext) {
		return fmt.Errorf("a batch of %d sequences on %s: %w", slots, b.info.Model, &infer.FitError{Fit: fit})
	}
	b.info.MaxContext = min(b.info.MaxContext, largest)
	return nil
}

// prepare makes the call for at most so many rows.
func (c *batchCall) prepare(e *engine, rows int) error {
	sig := e.sig
	c.e = e
	var inputs []string
	add := func(in ort.TensorInfo) grid {
		if in.Name == "" {
			return grid{buffer: buffer{slot: -1}}
		}
		inputs = append(inputs, in.Name)
		return grid{buffer: buffer{slot: len(inputs) - 1, elem: in.Type}}
	}
	c.ids, c.mask, c.position = add(sig.ids), add(sig.mask), add(sig.position)
	outputs := []string{sig.logits}
	for _, p := range sig.cache {
		inputs, outputs = append(inputs, p.past), append(outputs, p.present)
		c.past, c.present = append(c.past, len(inputs)-1), append(c.present, len(outputs)-1)
	}
	c.views = make([]*ort.Value, len(sig.cache))
	var err error
	if c.call, err = e.raw.NewCall(inputs, outputs); err != nil {
		return err
	}
	bytes := rows * sig.vocab * sig.logitsType.Bits() / 8
	c.row, err = ort.NewTensorBytes(e.lib, sig.logitsType, make([]byte, bytes), int64(rows), 1, int64(sig.vocab))
	return err
}

// shape gives an input the shape [rows, n], with new memory where it has too
// little, some more than is needed now.
func (c *batchCall) shape(g *grid, rows, n int) error {
	if g.rows == rows && g.n == n {
		return nil
	}
	width := g.elem.Bits() / 8
	if rows*n*width > len(g.mem) {
		room := rows * n
		if n > 1 {
			room = rows * (n + capacityStep)
		}
		mem := make([]byte, room*width)
		value, err := ort.NewTensorBytes(c.e.lib, g.elem, mem, int64(room), 1)
		if err != nil {
			return err
		}
		if err := c.call.SetInput(g.slot, value); err != nil {
			value.Close()
			return err
		}
		if g.value != nil {
			g.value.Close()
		}
		g.value, g.mem = value, mem
	}
	g.rows, g.n = rows, n
	g.buffer.shape = [2]int64{int64(rows), int64(n)}
	return g.value.Reshape(g.buffer.shape[:]...)
}

// bind makes rows of the cache the call's past and present.
func (c *batchCall) bind(b *batch, first, count int) error {
	if c.first == first && c.count == count {
		return nil
	}
	c.count = 0
	for i, p := range b.s.cache.ports {
		mem, err := b.values[i].Bytes()
		if err != nil {
			return err
		}
		size := len(mem) / len(b.seqs)
		view, err := ort.NewTensorBytes(c.e.lib, p.elem, mem[first*size:(first+count)*size], int64(count), p.heads, int64(b.capacity), p.dim)
		if err != nil {
			return err
		}
		if err = c.call.SetInput(c.past[i], view); err == nil {
			err = c.call.SetOutput(c.present[i], view)
		}
		if c.views[i] != nil {
			c.views[i].Close()
		}
		c.views[i] = view
		if err != nil {
			return err
		}
	}
	c.first, c.count = first, count
	return nil
}

// run evaluates the call and returns the logits of each
// row of tokens, [rows, 1 or more, vocab], of which the last position counts.
func (c *batchCall) run(ctx context.Context, rows, n int) (*ort.Value, error) {
	var out *ort.Value // nil: the library makes room for the rows of a prompt
	if n == 1 || c.e.sig.lastOnly {
		out = c.row
		if err := out.Reshape(int64(rows), 1, int64(c.e.sig.vocab)); err != nil {
			return nil, err
		}
	}
	if out != c.bound || out == nil {
		if err := c.call.SetOutput(c.logits, out); err != nil {
			return nil, err
		}
		c.bound = out
	}
	if err := c.call.Run(ctx, nil); err != nil {
		return nil, err
	}
	return c.call.Output(c.logits), nil
}

func (c *batchCall) close() {
	if c.call != nil {
		c.call.Close()
	}
	for _, v := range append([]*ort.Value{c.ids.value, c.mask.value, c.position.value, c.row}, c.views...) {
		if v != nil {
			v.Close()
		}
	}
}

// Info implements infer.Batch.
func (b *batch) Info() infer.Info { return b.info }

// Slots implements infer.Batch.
func (b *batch) Slots() int { return len(b.seqs) }

// Tokens implements infer.Batch.
func (b *batch) Tokens(slot int) []int32 { return b.seqs[slot] }

// ready says whether the batch can still be used.
func (b *batch) ready() error {
	if b.closed || b.s.closed {
		return errors.New("the batch, or the session it was made on, is closed")
	}
	return nil
}

// reserve makes room for total tokens in every row.
func (b *batch) reserve(total int) error {
	if total <= b.capacity {
		return nil
	}
	capacity := newCapacity(b.capacity, total, b.info.MaxContext)
	b.prefill.count, b.decode.count = 0, 0 // their views are of the old memory
	grown := make([]*ort.Value, len(b.values))
	free := func(list []*ort.Value) {
		for _, v := range list {
			if v != nil {
				v.Close()
			}
		}
	}
	for i, p := range b.s.cache.ports {
		var err error
		if grown[i], err = b.env.NewAllocated(p.elem, int64(len(b.seqs)), p.heads, int64(capacity), p.dim); err == nil && b.values[i] != nil {
			err = b.copyInto(grown[i], capacity, i)
		}
		if err != nil {
			free(grown)
			return fmt.Errorf("grow the KV cache of %d sequences to %d tokens: %w", len(b.seqs), capacity, err)
		}
	}
	free(b.values)
	b.values, b.capacity = grown, capacity
	return nil
}

// copyInto copies the rows in use of one port to a larger buffer.
func (b *batch) copyInto(grown *ort.Value, capacity, port int) error {
	to, err := grown.Bytes()
	if err != nil {
		return err
	}
	p := b.s.cache.ports[port]
	for slot, seq := range b.seqs {
		for h := range int(p.heads) {
			from, err := b.head(port, b.row[slot], h)
			if err != nil {
				return err
			}
			width := int(p.dim) * p.elem.Bits() / 8
			at := (b.row[slot]*int(p.heads) + h) * capacity * width
			copy(to[at:], from[:len(seq)*width])
		}
	}
	return nil
}

// head is the memory of one head of one row of a port, capacity rows of keys or
// values.
func (b *batch) head(port, row, head int) ([]byte, error) {
	mem, err := b.values[port].Bytes()
	if err != nil {
		return nil, err
	}
	p := b.s.cache.ports[port]
	size := b.capacity * int(p.dim) * p.elem.Bits() / 8
	at := (row*int(p.heads) + head) * size
	return mem[at : at+size], nil
}

// eachHead calls f with the memory of the first n tokens of two rows, head by
// head.
func (b *batch) eachHead(x, y, n int, f func(x, y []byte)) error {
	if n == 0 {
		return nil
	}
	for i, p := range b.s.cache.ports {
		bytes := n * int(p.dim) * p.elem.Bits() / 8
		for h := range int(p.heads) {
			xs, err := b.head(i, x, h)
			if err != nil {
				return err
			}
			ys, err := b.head(i, y, h)
			if err != nil {
				return err
			}
			f(xs[:bytes], ys[:bytes])
		}
	}
	return nil
}

// Copy implements infer.Batch.
func (b *batch) Copy(_ context.Context, to, from, n int) error {
	if err := b.ready(); err != nil {
		return err
	}
	if to < 0 || to >= len(b.seqs) || from < 0 || from >= len(b.seqs) || n < 0 || n > len(b.seqs[from]) {
		return fmt.Errorf("copy %d tokens from slot %d to slot %d: there are %d slots, and as many tokens must be there", n, from, to, len(b.seqs))
	}
	if to == from {
		return b.Truncate(to, n)
	}
	if err := b.eachHead(b.row[to], b.row[from], n, func(x, y []byte) { copy(x, y) }); err != nil {
		return err
	}
	b.seqs[to] = append(b.seqs[to][:0], b.seqs[from][:n]...)
	return nil
}

// gather makes the slots' rows the first ones.
func (b *batch) gather(slots []int) error {
	free := 0
	for _, slot := range slots {
		if b.row[slot] < len(slots) {
			continue
		}
		for inSlots(slots, b.slot[free]) {
			free++
		}
		if err := b.exchange(free, b.row[slot]); err != nil {
			return fmt.Errorf("gather the sequences of a step: %w", err)
		}
	}
	return nil
}

func inSlots(slots []int, slot int) bool {
	for _, s := range slots {
		if s == slot {
			return true
		}
	}
	return false
}

// exchange swaps two rows.
func (b *batch) exchange(x, y int) error {
	n := max(len(b.seqs[b.slot[x]]), len(b.seqs[b.slot[y]]))
	err := b.eachHead(x, y, n, func(x, y []byte) {
		b.spare = append(b.spare[:0], x...)
		copy(x, y)
		copy(y, b.spare)
	})
	if err != nil {
		return err
	}
	b.slot[x], b.slot[y] = b.slot[y], b.slot[x]
	b.row[b.slot[x]], b.row[b.slot[y]] = x, y
	return nil
}

// Prefill implements infer.Batch.
func (b *batch) Prefill(ctx context.Context, slot int, tokens []int32) ([]float32, error) {
	if err := b.ready(); err != nil {
		return nil, err
	}
	if err := infer.CheckPrefill(b, slot, tokens); err != nil {
		return nil, err
	}
	if err := b.reserve(len(b.seqs[slot]) + len(tokens)); err != nil {
		return nil, err
	}
	if len(tokens) > 1 {
		defer b.s.graphs.release() // as in session.Eval
	}
	c := &b.prefill
	if err := c.bind(b, b.row[slot], 1); err != nil {
		return nil, err
	}
	for {
		n := min(len(tokens), b.s.chunk)
		if err := b.feedPrompt(slot, tokens[:n]); err != nil {
			return nil, err
		}
		out, err := c.run(ctx, 1, n)
		if err != nil {
			return nil, err
		}
		b.seqs[slot] = append(b.seqs[slot], tokens[:n]...)
		if tokens = tokens[n:]; len(tokens) > 0 {
			continue
		}
		rows, err := b.rowsOf(out, 1)
		if err != nil {
			return nil, err
		}
		return rows[0], nil
	}
}

// feedPrompt writes ids, positions and mask of tokens behind a slot's sequence.
func (b *batch) feedPrompt(slot int, tokens []int32) error {
	c, used, n := &b.prefill, len(b.seqs[slot]), len(tokens)
	if err := c.shape(&c.ids, 1, n); err != nil {
		return err
	}
	for i, id := range tokens {
		c.ids.putID(i, int64(id))
	}
	if err := c.shape(&c.mask, 1, used+n); err != nil {
		return err
	}
	for i := range used + n {
		c.mask.put(i, 1)
	}
	if c.position.slot < 0 {
		return nil
	}
	if err := c.shape(&c.position, 1, n); err != nil {
		return err
	}
	for i := range n {
		c.position.putID(i, int64(used+i))
	}
	return nil
}

// Step implements infer.Batch.
func (b *batch) Step(ctx context.Context, slots []int, ids []int32) ([][]float32, error) {
	if err := b.ready(); err != nil {
		return nil, err
	}
	if err := infer.CheckStep(b, slots, ids); err != nil {
		return nil, err
	}
	longest := 0
	for _, slot := range slots {
		longest = max(longest, len(b.seqs[slot])+1)
	}
	if err := b.reserve(longest); err != nil {
		return nil, err
	}
	if err := b.gather(slots); err != nil {
		return nil, err
	}
	if err := b.decode.bind(b, 0, len(slots)); err != nil {
		return nil, err
	}
	if err := b.feedStep(slots, ids, longest); err != nil {
		return nil, err
	}
	out, err := b.decode.run(ctx, len(slots), 1)
	if err != nil {
		return nil, err
	}
	rows, err := b.rowsOf(out, len(slots))
	if err != nil {
		return nil, err
	}
	// The rows come in the order of the cache.
	b.out = b.out[:0]
	for i, slot := range slots {
		b.seqs[slot] = append(b.seqs[slot], ids[i])
		b.out = append(b.out, rows[b.row[slot]])
	}
	return b.out, nil
}

// feedStep writes ids, positions and mask of one token for each slot.
func (b *batch) feedStep(slots []int, ids []int32, longest int) error {
	c := &b.decode
	if err := c.shape(&c.ids, len(slots), 1); err != nil {
		return err
	}
	if err := c.shape(&c.mask, len(slots), longest); err != nil {
		return err
	}
	if c.position.slot >= 0 {
		if err := c.shape(&c.position, len(slots), 1); err != nil {
			return err
		}
	}
	for i, slot := range slots {
		row, used := b.row[slot], len(b.seqs[slot])
		c.ids.putID(row, int64(ids[i]))
		if c.position.slot >= 0 {
			c.position.putID(row, int64(used))
		}
		for k := range longest {
			seen := float32(0)
			if k <= used {
				seen = 1
			}
			c.mask.put(row*longest+k, seen)
		}
	}
	return nil
}

// rowsOf are the logits of the last position of each sequence of a run, as
// float32.
func (b *batch) rowsOf(out *ort.Value, n int) ([][]float32, error) {
	shape, vocab := out.Shape(), b.info.Vocab
	if len(shape) != 3 || shape[0] != int64(n) || shape[1] < 1 || shape[2] != int64(vocab) {
		return nil, fmt.Errorf("the graph gave logits of shape %v, want [%d, 1 or more, %d]", shape, n, vocab)
	}
	rows := make([][]float32, n)
	place := func(i int) int { return (int(shape[1])*(i+1) - 1) * vocab }
	if b.s.decode.sig.logitsType == ort.Float32 {
		data, err := ort.Data[float32](out)
		if err != nil {
			return nil, err
		}
		for i := range rows {
			rows[i] = data[place(i) : place(i)+vocab : place(i)+vocab]
		}
		return rows, nil
	}
	data, err := out.Bytes()
	if err != nil {
		return nil, err
	}
	if b.wide == nil {
		b.wide = make([]float32, len(b.seqs)*vocab)
	}
	for i := range rows {
		rows[i] = b.wide[i*vocab : (i+1)*vocab : (i+1)*vocab]
		if err := tensor.Decode(rows[i], data[2*place(i):2*(place(i)+vocab)], tensor.F16); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// Truncate implements infer.Batch. The mask says what is seen of the cache.
func (b *batch) Truncate(slot, n int) error {
	if slot < 0 || slot >= len(b.seqs) || n < 0 || n > len(b.seqs[slot]) {
		return fmt.Errorf("keep %d tokens of slot %d of a batch of %d", n, slot, len(b.seqs))
	}
	b.seqs[slot] = b.seqs[slot][:n]
	return nil
}

// Close implements infer.Batch.
func (b *batch) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	b.prefill.close()
	b.decode.close()
	for _, v := range b.values {
		if v != nil {
			v.Close()
		}
	}
	return nil
}
