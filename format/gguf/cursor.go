package gguf

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

const (
	// maxName bounds keys and tensor names: gguf.md allows keys of 2^16-1 bytes.
	maxName = 1<<16 - 1
	// maxDepth bounds arrays of arrays, which ggml itself never reads.
	maxDepth = 4
)

// cursor reads the header front to back. Its first error sticks, after which
// everything reads as zero.
type cursor struct {
	r    *bufio.Reader
	off  int64 // of the next byte
	size int64 // of the file
	// field is what is being read, for the error.
	field string
	err   error
}

func newCursor(r io.ReaderAt, size int64) *cursor {
	return &cursor{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 64<<10), size: size}
}

func (c *cursor) left() int64 { return c.size - c.off }

func (c *cursor) fail(format string, a ...any) {
	if c.err == nil {
		c.err = &tensor.FormatError{Offset: c.off, Field: c.field, Err: fmt.Errorf(format, a...)}
	}
}

// fits fails where the file holds fewer than n more bytes.
func (c *cursor) fits(n int64) bool {
	if c.err == nil && (n < 0 || n > c.left()) {
		c.fail("wants %d more bytes, but the file ends after %d: the file is truncated or not what it claims to be", uint64(n), c.left())
	}
	return c.err == nil
}

func (c *cursor) read(b []byte) {
	if !c.fits(int64(len(b))) {
		return
	}
	if _, err := io.ReadFull(c.r, b); err != nil {
		c.fail("read: %w", err)
	}
	c.off += int64(len(b))
}

func (c *cursor) u32() uint32 {
	var b [4]byte
	c.read(b[:])
	return binary.LittleEndian.Uint32(b[:])
}

func (c *cursor) u64() uint64 {
	var b [8]byte
	c.read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// skip passes over n bytes.
func (c *cursor) skip(n int64) {
	if !c.fits(n) {
		return
	}
	c.off += n
	for n > 0 {
		k, err := c.r.Discard(int(min(n, 1<<30)))
		if n -= int64(k); err != nil {
			c.fail("read: %w", err)
			return
		}
	}
}

// name reads a key or a tensor's name.
func (c *cursor) name() string {
	n := c.u64()
	if c.err == nil && n > maxName {
		c.fail("a name of %d bytes, more than %d", n, maxName)
	}
	if c.err != nil || !c.fits(int64(n)) {
		return ""
	}
	b := make([]byte, n)
	c.read(b)
	return string(b)
}

// count reads a number of things of at least each bytes, and refuses more than
// the file can hold.
func (c *cursor) count(each int64) int64 {
	n := c.u64()
	if c.err == nil && n > uint64(c.left()/each) {
		c.fail("%d of them, more than the file's remaining %d bytes can hold", n, c.left())
	}
	if c.err != nil {
		return 0
	}
	return int64(n)
}

// value walks one value of type v.Type and notes where it lies.
func (c *cursor) value(v *Value) {
	switch {
	case !v.Type.known():
		c.fail("value type %d is none of the format's", uint32(v.Type))
	case v.Type == String:
		n := c.u64()
		v.offset, v.bytes = c.off, int64(n)
		c.skip(int64(n))
	case v.Type == Array:
		v.Elem, v.Count = c.arrayHead()
		v.offset = c.off
		c.items(v.Elem, v.Count, 1)
		v.bytes = c.off - v.offset
	default:
		v.offset, v.bytes = c.off, v.Type.size()
		c.skip(v.bytes)
	}
}

func (c *cursor) arrayHead() (elem ValueType, n int64) {
	elem = ValueType(c.u32())
	if !elem.known() {
		c.fail("array element type %d is none of the format's", uint32(elem))
		return 0, 0
	}
	each := elem.size()
	switch elem {
	case String:
		each = 8
	case Array:
		each = 12
	}
	return elem, c.count(each)
}

// items walks the n elements of an array.
func (c *cursor) items(elem ValueType, n int64, depth int) {
	switch {
	case depth > maxDepth:
		c.fail("arrays nested more than %d deep", maxDepth)
	case elem == String:
		for i := int64(0); i < n && c.err == nil; i++ {
			c.skip(int64(c.u64()))
		}
	case elem == Array:
		for i := int64(0); i < n && c.err == nil; i++ {
			e, m := c.arrayHead()
			c.items(e, m, depth+1)
		}
	default:
		c.skip(n * elem.size())
	}
}
