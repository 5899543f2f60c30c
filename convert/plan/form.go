package plan

import (
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/quant/matmulnbits"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Form is how the elements of a matrix are stored in an artifact. Forms are
// comparable with ==: matrices of equal form can be packed into one.
type Form struct {
	// Float is F32 or F16 for plain elements; Invalid for quantized ones.
	Float tensor.DType
	// The rest describes MatMulNBits blocks.
	Bits      int
	Block     int
	Symmetric bool
	Scale     tensor.DType
	Method    matmulnbits.Method
}

// IsFloat reports whether the elements are stored one by one.
func (f Form) IsFloat() bool { return f.Float != tensor.Invalid }

// Options are the quantizer's options for this form.
func (f Form) Options() matmulnbits.Options {
	return matmulnbits.Options{Bits: f.Bits, Block: f.Block, Symmetric: f.Symmetric, ScaleType: f.Scale, Method: f.Method}
}

// RowBytes is the stored size of a row of k elements: data, scales, zero
// points. Floats have data alone.
func (f Form) RowBytes(k int) (data, scales, zeros int) {
	if f.IsFloat() {
		return k * f.Float.Size(), 0, 0
	}
	return matmulnbits.Sizes(1, k, f.Options())
}

// ElementBits is what one element costs without scales and padding.
func (f Form) ElementBits() int {
	if f.IsFloat() {
		return f.Float.Size() * 8
	}
	return f.Bits
}

// FloorBits is what one element costs at least: its bits and its share of
// scale and zero point where blocks are full.
func (f Form) FloorBits() float64 {
	if f.IsFloat() {
		return float64(f.ElementBits())
	}
	return f.Options().Scheme().BitsPerWeight(8 * f.Block)
}

// String names the form, such as "F16" or "4-bit asymmetric, block 32, F16 scales".
func (f Form) String() string {
	if f.IsFloat() {
		return f.Float.String()
	}
	return fmt.Sprintf("%v, %v", f.Options().Scheme(), f.Method)
}
