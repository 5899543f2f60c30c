package plan

import (
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/quant/affine"
	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
	"github.com/llama-pajamas/llama-pajamas/quant/matmulnbits"
	"github.com/llama-pajamas/llama-pajamas/quant/qdq"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Form is how the elements of a matrix are stored in an artifact. Forms are
// comparable with ==: matrices of equal form can be packed into one.
type Form struct {
	// Float is F32, F16 or BF16 for plain elements; Invalid for quantized ones.
	Float tensor.DType
	// GGML is the type of ggml blocks; 0 for other forms. Plain types are named
	// by Float.
	GGML ggml.Type
	// Affine is MLX's groups of Block elements, with a scale and a bias each in
	// the type Scale; biases lie where other forms have zero points.
	Affine bool
	// Linear is what DequantizeLinear reads, signed and symmetric; else the
	// elements are the blocks of MatMulNBits.
	Linear bool
	Bits   int
	// Block is the number of elements along K that share a scale. 0 is a whole
	// row and AutoBlock a length the planner chooses, both for Linear alone.
	Block     int
	Symmetric bool
	// Offsets adds a number to every block, of the scales' type, which lie where
	// other forms have zero points (Linear, 4 bits).
	Offsets bool
	// Positive keeps the scales above zero (Linear).
	Positive bool
	Scale    tensor.DType
	Method   matmulnbits.Method
	// Columns stores the matrix [N, K] as [K, N], and the scales of blocks as
	// [blocks, N], as MatMul takes them (floats and Linear).
	Columns bool
	// Int8Input is set where the matrix multiplies activations quantized to
	// int8 with one step (Linear).
	Int8Input bool
}

// AutoBlock as a block length leaves the choice to the planner, who knows the
// matrix and the model.
const AutoBlock = -1

// IsFloat reports whether the elements are stored one by one.
func (f Form) IsFloat() bool { return f.Float != tensor.Invalid }

// Options are the quantizer's options for a form of MatMulNBits.
func (f Form) Options() matmulnbits.Options {
	return matmulnbits.Options{Bits: f.Bits, Block: f.Block, Symmetric: f.Symmetric, ScaleType: f.Scale, Method: f.Method}
}

// LinearOptions are the quantizer's options for a Linear form.
func (f Form) LinearOptions() qdq.Options {
	return qdq.Options{Bits: f.Bits, Block: f.Block, ScaleType: f.Scale, Positive: f.Positive, Offsets: f.Offsets, Method: f.Method}
}

// AffineOptions are the quantizer's options for an Affine form.
func (f Form) AffineOptions() affine.Options {
	return affine.Options{Bits: f.Bits, Group: f.Block, Type: f.Scale}
}

// Blocks is the number of scales of a row of k elements.
func (f Form) Blocks(k int) int {
	switch {
	case f.IsFloat(), f.GGML != 0:
		return 0
	case f.Affine:
		return k / f.Block
	case f.Linear:
		return f.LinearOptions().Blocks(k)
	}
	return f.Options().Scheme().Blocks(k)
}

// RowBytes is the encoded size of a row of k elements: data, scales, zero
// points. Floats and ggml's blocks have data alone.
func (f Form) RowBytes(k int) (data, scales, zeros int) {
	switch {
	case f.IsFloat():
		return k * f.Float.Size(), 0, 0
	case f.GGML != 0:
		return int(f.GGML.RowBytes(int64(k))), 0, 0
	case f.Affine:
		data, scales = f.AffineOptions().Sizes(1, k)
		return data, scales, scales
	case f.Linear:
		return f.LinearOptions().Sizes(1, k)
	}
	return matmulnbits.Sizes(1, k, f.Options())
}

// ElementBits is what one element costs without scales and padding; for ggml's
// blocks, the number in the type's name.
func (f Form) ElementBits() int {
	switch {
	case f.IsFloat():
		return f.Float.Size() * 8
	case f.GGML == ggml.Q4_1, f.GGML == ggml.Q5_1: // whose minima cost a whole bit
		return 8*f.GGML.Bytes()/f.GGML.Block() - 1
	case f.GGML != 0:
		return 8 * f.GGML.Bytes() / f.GGML.Block()
	}
	return f.Bits
}

// FloorBits is what one element of a row of k costs at least: its bits and its
// share of scale and zero point where blocks are full.
func (f Form) FloorBits(k int) float64 {
	switch {
	case f.IsFloat():
		return float64(f.ElementBits())
	case f.GGML != 0:
		return 8 * float64(f.GGML.Bytes()) / float64(f.GGML.Block())
	case f.Affine:
		return f.AffineOptions().BitsPerWeight()
	case f.Linear:
		return f.LinearOptions().BitsPerWeight(k)
	}
	return f.Options().Scheme().BitsPerWeight(8 * f.Block)
}

// String names the form, such as "F16" or "4-bit asymmetric, block 32, F16 scales".
func (f Form) String() string {
	switch {
	case f.IsFloat():
		return f.Float.String()
	case f.GGML != 0:
		return f.GGML.String()
	case f.Affine:
		return f.AffineOptions().String()
	case f.Linear && f.Int8Input:
		return fmt.Sprintf("%v, %v, int8 input", f.LinearOptions(), f.Method)
	case f.Linear:
		return fmt.Sprintf("%v, %v", f.LinearOptions(), f.Method)
	}
	return fmt.Sprintf("%v, %v", f.Options().Scheme(), f.Method)
}
