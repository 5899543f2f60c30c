package ggml

import (
	"encoding/binary"
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// decoder returns the function that decodes consecutive blocks of t: len(dst)
// is a multiple of the block length and src holds exactly those blocks. It is
// nil for types that are not decoded.
func decoder(t Type) func(dst []float32, src []byte) {
	switch t {
	case F32:
		return plain(tensor.F32)
	case F16:
		return plain(tensor.F16)
	case BF16:
		return plain(tensor.BF16)
	case F64:
		return plain(tensor.F64)
	case Q4_0:
		return dequantizeQ4_0
	case Q4_1:
		return dequantizeQ4_1
	case Q5_0:
		return dequantizeQ5_0
	case Q5_1:
		return dequantizeQ5_1
	case Q8_0:
		return dequantizeQ8_0
	case IQ4_NL:
		return dequantizeIQ4_NL
	case Q2_K:
		return dequantizeQ2_K
	case Q3_K:
		return dequantizeQ3_K
	case Q4_K:
		return dequantizeQ4_K
	case Q5_K:
		return dequantizeQ5_K
	case Q6_K:
		return dequantizeQ6_K
	}
	return nil
}

// plain decodes element types that have no blocks. Lengths were checked.
func plain(d tensor.DType) func([]float32, []byte) {
	return func(dst []float32, src []byte) { _ = tensor.Decode(dst, src, d) }
}

// Dequantize decodes the blocks at the start of src into dst. len(dst) must be
// a multiple of the block length.
func Dequantize(dst []float32, src []byte, t Type) error {
	f := decoder(t)
	if f == nil {
		return unsupported(t)
	}
	if len(dst)%t.Block() != 0 {
		return fmt.Errorf("dequantize %v: %d elements are not whole blocks of %d", t, len(dst), t.Block())
	}
	need := t.RowBytes(int64(len(dst)))
	if int64(len(src)) < need {
		return fmt.Errorf("dequantize %v: %d elements need %d bytes, have %d", t, len(dst), need, len(src))
	}
	f(dst, src[:need])
	return nil
}

func unsupported(t Type) error {
	return &tensor.UnsupportedError{
		What: fmt.Sprintf("ggml type %v", t),
		Hint: "read are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL and Q2_K to Q6_K",
	}
}

// f16 reads the binary16 at the start of b.
func f16(b []byte) float32 { return tensor.F16ToF32(binary.LittleEndian.Uint16(b)) }
