package onnxruntime

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// engine is one loaded graph with a run prepared once as an ort.Call; a decode
// step changes one id and the length of the mask and runs it again, without
// garbage.
type engine struct {
	lib  *ort.Library
	raw  *ort.Session
	sig  *signature
	call *ort.Call
	rows int // tokens a run takes; 0 for any number

	ids, mask, position buffer
	past, present       []int // the call's slots of each cache port
	logitsSlot          int
	row                 *ort.Value   // [1, 1, vocab], for runs that give one row
	bound               *ort.Value   // what the call writes logits to; nil: its own memory
	fresh               []*ort.Value // of a hosted cache: present of each port
}

// buffer is an input of shape [1, n], or of fixed shape, over memory of its
// own.
type buffer struct {
	slot  int // in the call; -1 if the graph has no such input
	elem  ort.ElementType
	mem   []byte
	value *ort.Value
	n     int
	shape [2]int64 // for Reshape, which would allocate one
	fixed []int64  // the shape where the graph fixes it, else nil
}

// prepare makes the call and its buffers.
func (e *engine) prepare() error {
	sig := e.sig
	e.rows = sig.rows()
	var inputs []string
	add := func(in ort.TensorInfo) buffer {
		if in.Name == "" {
			return buffer{slot: -1}
		}
		inputs = append(inputs, in.Name)
		return buffer{slot: len(inputs) - 1, elem: in.Type}
	}
	e.ids, e.mask, e.position = add(sig.ids), add(sig.mask), add(sig.position)
	outputs := []string{sig.logits}
	for _, p := range sig.cache {
		inputs, outputs = append(inputs, p.past), append(outputs, p.present)
		e.past, e.present = append(e.past, len(inputs)-1), append(e.present, len(outputs)-1)
	}
	var err error
	if e.call, err = e.raw.NewCall(inputs, outputs); err != nil {
		return err
	}
	if e.mask.slot >= 0 && fixedDims(sig.mask.Shape) {
		if err := e.fix(&e.mask, sig.mask.Shape); err != nil {
			return err
		}
	}
	bytes := sig.vocab * sig.logitsType.Bits() / 8
	e.row, err = ort.NewTensorBytes(e.lib, sig.logitsType, make([]byte, bytes), 1, 1, int64(sig.vocab))
	return err
}

// hostPresent makes the tensors a hosted cache's new rows are written to.
func (e *engine) hostPresent(env *ort.Env) error {
	for _, p := range e.sig.cache {
		v, err := env.NewAllocated(p.elem, 1, p.heads, p.presentLen, p.dim)
		if err != nil {
			return fmt.Errorf("make room for new rows of the cache: %w", err)
		}
		e.fresh = append(e.fresh, v)
	}
	return nil
}

// fixedDims reports whether all extents but the batch, which is 1 here, are
// known.
func fixedDims(shape []int64) bool {
	for _, n := range shape[1:] {
		if n <= 0 {
			return false
		}
	}
	return true
}

// fix gives a buffer memory for a shape that never changes.
func (e *engine) fix(b *buffer, shape []int64) error {
	b.fixed = append([]int64{1}, shape[1:]...)
	n := int64(b.elem.Bits() / 8)
	for _, d := range b.fixed {
		if n *= d; n > math.MaxInt32 {
			return fmt.Errorf("a mask of shape %v is beyond any real one", shape)
		}
	}
	b.mem = make([]byte, n)
	return e.replace(b, b.fixed...)
}

// replace makes the buffer's tensor anew over its memory.
func (e *engine) replace(b *buffer, shape ...int64) error {
	value, err := ort.NewTensorBytes(e.lib, b.elem, b.mem, shape...)
	if err != nil {
		return err
	}
	if err := e.call.SetInput(b.slot, value); err != nil {
		value.Close()
		return err
	}
	if b.value != nil {
		b.value.Close()
	}
	b.value = value
	return nil
}

// put writes number i of the buffer.
func (b *buffer) put(i int, v float32) {
	switch b.elem {
	case ort.Int64:
		binary.LittleEndian.PutUint64(b.mem[8*i:], uint64(int64(v)))
	case ort.Int32:
		binary.LittleEndian.PutUint32(b.mem[4*i:], uint32(int32(v)))
	case ort.Float32:
		binary.LittleEndian.PutUint32(b.mem[4*i:], math.Float32bits(v))
	case ort.Float16Type:
		binary.LittleEndian.PutUint16(b.mem[2*i:], tensor.F32ToF16(v))
	case ort.Bool:
		b.mem[i] = byte(v)
	}
}

// putID writes token id or position i.
func (b *buffer) putID(i int, v int64) {
	if b.elem == ort.Int64 {
		binary.LittleEndian.PutUint64(b.mem[8*i:], uint64(v))
		return
	}
	binary.LittleEndian.PutUint32(b.mem[4*i:], uint32(int32(v)))
}

// room gives a buffer the shape [1, n]; where its memory is too short it gets
// new memory for size numbers, filled with ones where ones is set.
func (e *engine) room(b *buffer, n, size int, ones bool) error {
	if n == b.n {
		return nil
	}
	width := b.elem.Bits() / 8
	if n*width > len(b.mem) {
		size = max(n, size)
		b.mem = make([]byte, size*width)
		if ones {
			for i := range size {
				b.put(i, 1)
			}
		}
		if err := e.replace(b, 1, int64(size)); err != nil {
			return err
		}
	}
	b.n, b.shape = n, [2]int64{1, int64(n)}
	return b.value.Reshape(b.shape[:]...)
}

// feed writes a chunk's ids, positions and mask. A graph of fixed length gets
// the chunk at its end: padding comes first.
func (e *engine) feed(chunk []int32, used, most, cacheRows int) error {
	n := len(chunk)
	rows := max(n, e.rows)
	pad := rows - n
	if err := e.room(&e.ids, rows, max(most, rows), false); err != nil {
		return err
	}
	for i := range pad {
		e.ids.putID(i, 0)
	}
	for i, id := range chunk {
		e.ids.putID(pad+i, int64(id))
	}
	if e.position.slot >= 0 {
		if err := e.room(&e.position, rows, max(most, rows), false); err != nil {
			return err
		}
		for i := range rows {
			e.position.putID(i, int64(max(used+i-pad, 0)))
		}
	}
	switch {
	case e.mask.slot < 0:
		return nil
	case e.mask.fixed == nil:
		return e.room(&e.mask, used+n, max(cacheRows, most), true)
	}
	e.fixedMask(n, used, cacheRows)
	return nil
}

// masked is what an additive mask adds: far beyond any score, and within
// float16.
const masked = -10000

// fixedMask writes a mask of fixed length. Its columns are the cache's rows and,
// where the cache does not hold the chunk itself, the chunk's; of either kind
// those in use are seen. An additive mask has a line for each token and hides
// what comes after it; a line of padding sees itself alone, so that no softmax
// is empty.
func (e *engine) fixedMask(n, used, cacheRows int) {
	b := &e.mask
	width := int(b.fixed[len(b.fixed)-1])
	rows := max(n, e.rows)
	own := width - rows // first column of the chunk
	if width <= cacheRows {
		own = used // the chunk lies in the cache behind the rows in use
	}
	pad := rows - n
	lines := 1
	if len(b.fixed) == 4 {
		lines = int(b.fixed[2])
	}
	for l := range lines {
		for c := range width {
			chunk := c - own // which of the chunk's tokens the column is
			seen := c < used && c < own
			if chunk >= 0 && chunk < rows {
				seen = chunk >= pad
				if lines > 1 {
					seen = seen && chunk <= l || l < pad && chunk == l
				}
			}
			v := float32(0)
			switch {
			case len(b.fixed) == 4 && !seen:
				v = masked
			case len(b.fixed) == 2 && seen:
				v = 1
			}
			b.put(l*width+c, v)
		}
	}
}

// logitsTo places the logits of a run of n tokens.
func (e *engine) logitsTo(n int) error {
	var out *ort.Value // nil: the library makes room for the rows of a prefill
	if max(n, e.rows) == 1 || e.sig.lastOnly {
		out = e.row
	}
	if out == e.bound && out != nil {
		return nil
	}
	e.bound = out
	return e.call.SetOutput(e.logitsSlot, out)
}

// close frees the graph and its buffers, not the cache.
func (e *engine) close() {
	if e == nil {
		return
	}
	if e.call != nil {
		e.call.Close()
	}
	for _, v := range append([]*ort.Value{e.ids.value, e.mask.value, e.position.value, e.row}, e.fresh...) {
		if v != nil {
			v.Close()
		}
	}
	if e.raw != nil {
		e.raw.Close()
	}
}
