package tensor

import (
	"fmt"
	"io"
	"math"
)

// Shape is the extent of each dimension, outermost first (row-major, as in
// Hugging Face checkpoints: a linear layer is [out, in]).
type Shape []int

// Elements is the product of the extents; ok is false when one is negative or
// the product exceeds an int64.
func (s Shape) Elements() (n int64, ok bool) {
	n = 1
	for _, d := range s {
		if d < 0 {
			return 0, false
		}
		if d != 0 && n > math.MaxInt64/int64(d) {
			return 0, false
		}
		n *= int64(d)
	}
	return n, true
}

// Equal reports whether both shapes have the same rank and extents.
func (s Shape) Equal(o Shape) bool {
	if len(s) != len(o) {
		return false
	}
	for i := range s {
		if s[i] != o[i] {
			return false
		}
	}
	return true
}

// String prints the shape as "[out, in]".
func (s Shape) String() string {
	b := []byte{'['}
	for i, d := range s {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = fmt.Appendf(b, "%d", d)
	}
	return string(append(b, ']'))
}

// Reader yields the elements of a tensor as float32, whatever their stored
// form. ReadFloat32 fills dst with the len(dst) elements that start at element
// offset, counted in row-major order. It is safe for concurrent use and reads
// no more of the file than it must.
type Reader interface {
	ReadFloat32(dst []float32, offset int64) error
}

// Section is the N elements of a reader from First on.
type Section struct {
	Reader
	First, N int64
}

// ReadFloat32 implements [Reader].
func (s Section) ReadFloat32(dst []float32, offset int64) error {
	if offset < 0 || offset > s.N || int64(len(dst)) > s.N-offset {
		return fmt.Errorf("read elements %d to %d of %d", offset, offset+int64(len(dst)), s.N)
	}
	return s.Reader.ReadFloat32(dst, s.First+offset)
}

// Tensor is a named tensor whose elements stay where they are until asked for.
type Tensor struct {
	Name  string
	Shape Shape
	// Type is the stored type as its format spells it: "BF16", "Q4_K".
	Type string
	// Bytes is the stored size, for progress and inspection.
	Bytes int64
	Reader
}

// Elements is the number of elements. The shape was checked when the tensor
// was opened.
func (t *Tensor) Elements() int64 { n, _ := t.Shape.Elements(); return n }

// ReadWeights is ReadFloat32 for weights, which are finite in every sound
// checkpoint: a NaN or infinity is a [FormatError] that says where it lies.
func (t *Tensor) ReadWeights(dst []float32, offset int64) error {
	if err := t.ReadFloat32(dst, offset); err != nil {
		return fmt.Errorf("read tensor %q: %w", t.Name, err)
	}
	i := notFinite(dst)
	if i < 0 {
		return nil
	}
	at, cols := offset+int64(i), int64(1)
	if n := len(t.Shape); n > 0 {
		cols = max(1, int64(t.Shape[n-1]))
	}
	return &FormatError{Offset: -1, Field: fmt.Sprintf("tensor %q", t.Name),
		Err: fmt.Errorf("the element at row %d, column %d is %v: the checkpoint is damaged", at/cols, at%cols, dst[i])}
}

// notFinite returns the index of the first NaN or infinity, -1 for none.
func notFinite(v []float32) int {
	var bad float32
	for _, x := range v {
		bad += x - x // 0 unless x is NaN or infinite
	}
	if bad == 0 {
		return -1
	}
	for i, x := range v {
		if x-x != 0 {
			return i
		}
	}
	return -1
}

// Raw reads elements of a plain [DType] stored little-endian from R, starting
// at byte Offset, and converts them to float32. Integer types convert by value.
type Raw struct {
	R      io.ReaderAt
	Offset int64
	DType  DType
}

// rawChunk bounds the byte buffer of one conversion step.
const rawChunk = 64 << 10

// ReadFloat32 implements [Reader].
func (r Raw) ReadFloat32(dst []float32, offset int64) error {
	size := r.DType.Size()
	if size == 0 {
		return fmt.Errorf("read elements of type %v: no such element type", r.DType)
	}
	step := rawChunk / size
	buf := make([]byte, min(step, len(dst))*size)
	for len(dst) > 0 {
		n := min(step, len(dst))
		b := buf[:n*size]
		// At the very end a ReaderAt may give all bytes and io.EOF.
		if got, err := r.R.ReadAt(b, r.Offset+offset*int64(size)); got < len(b) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read %d bytes at offset %d: %w", len(b), r.Offset+offset*int64(size), err)
		}
		if err := Decode(dst[:n], b, r.DType); err != nil {
			return err
		}
		dst, offset = dst[n:], offset+int64(n)
	}
	return nil
}
