package ggml

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// encoder returns the function that makes consecutive blocks of t, nil for
// types that are not made: len(src) is a multiple of the block length and dst
// holds exactly those blocks.
func encoder(t Type) func(dst []byte, src []float32) {
	switch t {
	case F32:
		return tensor.EncodeF32
	case F16:
		return func(dst []byte, src []float32) { tensor.EncodeF16(dst, src) }
	case BF16:
		return tensor.EncodeBF16
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
	}
	return nil
}

// Encodes reports whether [Quantize] handles t.
func (t Type) Encodes() bool { return encoder(t) != nil }

// Quantize makes the blocks of src, finite values, at the start of dst, by
// round to nearest without a search: the bytes of ggml's quantize_row_*_ref.
// len(src) must be a multiple of the block length.
func Quantize(dst []byte, src []float32, t Type) error {
	f := encoder(t)
	if f == nil {
		return &tensor.UnsupportedError{What: fmt.Sprintf("quantizing to ggml type %v", t), Hint: "made are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1"}
	}
	if len(src)%t.Block() != 0 {
		return fmt.Errorf("quantize to %v: %d elements are not whole blocks of %d", t, len(src), t.Block())
	}
	need := t.RowBytes(int64(len(src)))
	if int64(len(dst)) < need {
		return fmt.Errorf("quantize to %v: %d elements need %d bytes, have %d", t, len(src), need, len(dst))
	}
	f(dst[:need], src)
	return nil
}

// Stream is the elements of R, finite values, as blocks of Type for writers of
// files: an [io.WriterTo] that holds some 100 KB at a time.
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
	for _, v := range x[1:] {
		lo, hi = min(lo, v), max(hi, v)
	}
	return lo, hi
}
