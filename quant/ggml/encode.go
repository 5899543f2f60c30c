package ggml

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// An encoder makes the blocks of one row. len(x) is a multiple of the block
// length, dst holds exactly those blocks, and qw is the importance of each
// column or nil. Without importance blocks do not depend on each other, and
// any number of rows is as good as one.
type encoder func(e *workspace, dst []byte, x, qw []float32)

// workspace is what the encoders work with, made once a call.
type workspace struct {
	*kernels
	lanes lanes
	codes [256]byte
	tail  [256]float32 // the last groups of a row, completed with zeros
	heavy [256]float32 // their importance

	// The findings of a block's groups of 16 or 32 elements, and what becomes
	// of them.
	scale, least, inv, base, sumW [16]float32
	d, m                          [16]float32
}

// encoderOf returns the encoder of t, nil for types that are not made.
func encoderOf(t Type) encoder {
	switch t {
	case F32:
		return func(_ *workspace, dst []byte, x, _ []float32) { tensor.EncodeF32(dst, x) }
	case F16:
		return func(_ *workspace, dst []byte, x, _ []float32) { tensor.EncodeF16(dst, x) }
	case BF16:
		return func(_ *workspace, dst []byte, x, _ []float32) { tensor.EncodeBF16(dst, x) }
	case Q4_0:
		return quantizeQ4_0
	case Q4_1:
		return quantizeQ4_1
	case Q5_0:
		return quantizeQ5_0
	case Q5_1:
		return quantizeQ5_1
	case Q8_0:
		return quantizeQ8_0
	case IQ4_NL:
		return quantizeIQ4_NL
	case Q2_K:
		return quantizeQ2_K
	case Q3_K:
		return quantizeQ3_K
	case Q4_K:
		return quantizeQ4_K
	case Q5_K:
		return quantizeQ5_K
	case Q6_K:
		return quantizeQ6_K
	}
	return nil
}

// Encodes reports whether [Encode] handles t.
func (t Type) Encodes() bool { return encoderOf(t) != nil }

// UsesImportance reports whether importance changes the blocks of t.
func (t Type) UsesImportance() bool {
	switch t {
	case F32, F16, BF16, Q8_0:
		return false
	}
	return t.Encodes()
}

// Encode makes the blocks of the rows in src, cols elements each, at the start
// of dst: the bytes of ggml_quantize_chunk of llama.cpp v0.5.0 on linux/amd64.
// cols must be a multiple of the block length and len(src) of cols. importance
// is nil or holds a weight for each column, finite and not negative, with
// which the squared errors count (llama.cpp's importance matrix); types for
// which [Type.UsesImportance] is false pass it over.
//
// Rows do not depend on each other: any number of goroutines may encode parts
// of a matrix, and its bytes are the same however it is cut into whole rows.
//
// An infinite or NaN element, and a block whose scale exceeds float16, are
// errors that name row and column; ggml writes blocks that its loader refuses.
// F32, F16 and BF16 take any value.
func Encode(dst []byte, src []float32, t Type, cols int, importance []float32) error {
	return encode(fastKernels(), dst, src, t, cols, importance)
}

// Quantize is [Encode] without importance, for any number of whole blocks.
func Quantize(dst []byte, src []float32, t Type) error {
	return Encode(dst, src, t, len(src), nil)
}

func encode(k *kernels, dst []byte, src []float32, t Type, cols int, importance []float32) error {
	f := encoderOf(t)
	switch {
	case f == nil:
		return &tensor.UnsupportedError{
			What: fmt.Sprintf("quantizing to ggml type %v", t),
			Hint: "made are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL and Q2_K to Q6_K",
		}
	case len(src) == 0:
		return nil
	case cols < 1 || len(src)%cols != 0:
		return fmt.Errorf("quantize to %v: %d elements are not whole rows of %d", t, len(src), cols)
	case cols%t.Block() != 0:
		return fmt.Errorf("quantize to %v: a row of %d elements is not made of whole blocks of %d", t, cols, t.Block())
	}
	need := t.RowBytes(int64(len(src)))
	if int64(len(dst)) < need {
		return fmt.Errorf("quantize to %v: %d elements need %d bytes, have %d", t, len(src), need, len(dst))
	}
	dst = dst[:need]
	if t.Block() == 1 {
		f(nil, dst, src, nil)
		return nil
	}
	if !k.finite(src) {
		for i, v := range src {
			if v-v != 0 {
				return fmt.Errorf("quantize to %v: row %d, column %d: %v", t, i/cols, i%cols, v)
			}
		}
	}
	e := &workspace{kernels: k}
	if importance == nil || !t.UsesImportance() {
		f(e, dst, src, nil)
		return checkScales(dst, t, cols)
	}
	if len(importance) != cols {
		return fmt.Errorf("quantize to %v: importance of %d columns, want %d", t, len(importance), cols)
	}
	for i, v := range importance {
		if !(v >= 0 && v <= math.MaxFloat32) {
			return fmt.Errorf("quantize to %v: importance of column %d is %v", t, i, v)
		}
	}
	row := int(t.RowBytes(int64(cols)))
	for i := range len(src) / cols {
		f(e, dst[i*row:(i+1)*row], src[i*cols:(i+1)*cols], importance)
	}
	return checkScales(dst, t, cols)
}

// scalesAt is where the float16 numbers of a block are.
func scalesAt(t Type) []int {
	switch t {
	case Q4_1, Q5_1, Q4_K, Q5_K:
		return []int{0, 2}
	case Q2_K:
		return []int{80, 82}
	case Q3_K:
		return []int{108}
	case Q6_K:
		return []int{208}
	}
	return []int{0}
}

// checkScales finds blocks that decode to infinities or NaN.
func checkScales(dst []byte, t Type, cols int) error {
	size := t.Bytes()
	for _, at := range scalesAt(t) {
		for i := 0; i < len(dst); i += size {
			if binary.LittleEndian.Uint16(dst[i+at:])&0x7c00 == 0x7c00 {
				first := i / size * t.Block()
				return fmt.Errorf("quantize to %v: row %d, columns %d to %d: the block's scale exceeds float16", t, first/cols, first%cols, first%cols+t.Block()-1)
			}
		}
	}
	return nil
}

// Stream is the elements of R as blocks of Type for writers of files: an
// [io.WriterTo] that holds some 100 KB at a time.
type Stream struct {
	R tensor.Reader
	// Elements is a multiple of the block length.
	Elements int64
	Type     Type
}

// WriteTo implements [io.WriterTo].
func (s Stream) WriteTo(w io.Writer) (int64, error) {
	const step = 16 << 10 // a multiple of all block lengths
	floats := make([]float32, min(step, s.Elements))
	var buf []byte
	if s.Type.Encodes() {
		buf = make([]byte, (int64(len(floats))/int64(s.Type.Block())+1)*int64(s.Type.Bytes()))
	}
	var written int64
	for off := int64(0); off < s.Elements; {
		f := floats[:min(int64(len(floats)), s.Elements-off)]
		if err := s.R.ReadFloat32(f, off); err != nil {
			return written, err
		}
		if err := Quantize(buf, f, s.Type); err != nil {
			return written, err
		}
		n, err := w.Write(buf[:s.Type.RowBytes(int64(len(f)))])
		written += int64(n)
		if err != nil {
			return written, err
		}
		off += int64(len(f))
	}
	return written, nil
}

func putF16(b []byte, v float32) { binary.LittleEndian.PutUint16(b, tensor.F32ToF16(v)) }

func abs(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) }

// inverse is 1/d, and 0 for the d of an all-zero block.
func inverse(d float32) float32 {
	if d == 0 {
		return 0
	}
	return 1 / d
}

// code cuts v, which is not negative, to a whole number of at most limit.
func code(v float32, limit byte) byte { return min(byte(int32(v)), limit) }

// largest is the first value of the largest magnitude, with its sign.
func largest(x *[32]float32) float32 {
	var m, amax float32
	for _, v := range x {
		if a := abs(v); a > amax {
			amax, m = a, v
		}
	}
	return m
}

func bounds(x *[32]float32) (lo, hi float32) {
	lo, hi = x[0], x[0]
	for _, v := range x[1:] { // not min and max: the first of two zeros stays
		if v < lo {
			lo = v
		}
		if v > hi {
			hi = v
		}
	}
	return lo, hi
}

// energy is Σ x², in the order of the elements.
func energy(x []float32) float32 {
	var s float32
	for _, v := range x {
		s += float32(v * v)
	}
	return s
}
