package qdq

import (
	"fmt"
	"math"

	"github.com/llama-pajamas/llama-pajamas/quant"
	"github.com/llama-pajamas/llama-pajamas/quant/matmulnbits"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Options say how rows are quantized. The zero value is 8 bits, one scale a
// row, float16 scales of either sign, searched.
type Options struct {
	// Bits of an integer: 4 or 8; 0 means 8. Rows use [-127, 127] where they
	// have one scale, the whole range in blocks.
	Bits int
	// Block is the number of weights that share a scale: 16, 32, 64, 128 or
	// 256. 0 means a whole row, which is for 8 bits alone.
	Block int
	// ScaleType is [tensor.F16] or [tensor.F32]; 0 means F16.
	ScaleType tensor.DType
	// Positive keeps scales above zero. Otherwise a block's scale takes the
	// sign that gives its largest weight the integer of largest magnitude,
	// -2^(Bits-1); rows with one scale are positive anyhow.
	Positive bool
	// Offsets stores with each block of 4 bits a number that is added to all its
	// weights, in the type of the scales. DequantizeLinear does not know it: whoever
	// multiplies adds the product of the inputs' sums over blocks and the offsets.
	// It stands in for zero points where a reader has none.
	Offsets bool
	// Method is the way scales are chosen; default [matmulnbits.Search].
	Method matmulnbits.Method
	// Importance weighs the error of each input channel, length K; see
	// [matmulnbits.Options].
	Importance []float32
}

func (o Options) bits() int {
	if o.Bits == 0 {
		return 8
	}
	return o.Bits
}

func (o Options) scaleType() tensor.DType {
	if o.ScaleType == tensor.Invalid {
		return tensor.F16
	}
	return o.ScaleType
}

// blocks are the options of the quantizer of blocks.
func (o Options) blocks() matmulnbits.Options {
	return matmulnbits.Options{
		Bits: o.bits(), Block: o.Block, Symmetric: !o.Offsets, ScaleType: o.scaleType(),
		Method: o.Method, Positive: o.Positive, Importance: o.Importance,
	}
}

// Check reports options that cannot be used for rows of k weights.
func (o Options) Check(k int) error {
	if o.bits() != 4 && o.bits() != 8 {
		return fmt.Errorf("quantize for DequantizeLinear: %d bits; choose 4 or 8", o.Bits)
	}
	if o.Offsets && (o.Block == 0 || o.bits() != 4) {
		return fmt.Errorf("quantize for DequantizeLinear: offsets are for blocks of 4 bits")
	}
	if o.Block != 0 {
		if k*o.bits()%8 != 0 {
			return fmt.Errorf("quantize for DequantizeLinear: rows of %d weights of %d bits do not end on a byte", k, o.bits())
		}
		return o.blocks().Check(k)
	}
	if o.bits() != 8 {
		return fmt.Errorf("quantize for DequantizeLinear: one scale a row is for 8 bits, not %d; choose a block length", o.bits())
	}
	// The rest is checked as for blocks, of any length.
	rest := o.blocks()
	rest.Block = 32
	return rest.Check(k)
}

// Blocks is the number of scales of a row of k weights.
func (o Options) Blocks(k int) int {
	if o.Block == 0 {
		return 1
	}
	return (k + o.Block - 1) / o.Block
}

// Sizes gives the bytes that rows of k weights need: data, scales and offsets.
func (o Options) Sizes(rows, k int) (data, scales, offsets int) {
	scales = rows * o.Blocks(k) * o.scaleType().Size()
	if o.Offsets {
		offsets = scales
	}
	return rows * k * o.bits() / 8, scales, offsets
}

// BitsPerWeight is what a weight of a row of k costs with its share of a scale.
func (o Options) BitsPerWeight(k int) float64 {
	if k == 0 {
		return 0
	}
	data, scales, offsets := o.Sizes(8, k)
	return float64(data+scales+offsets) / float64(k)
}

// String is a short name: "8-bit symmetric, one F16 scale a row".
func (o Options) String() string {
	if o.Block == 0 {
		return fmt.Sprintf("%d-bit symmetric, one %v scale a row", o.bits(), o.scaleType())
	}
	s := quant.Scheme{Bits: o.bits(), Block: o.Block, Symmetric: true, ScaleType: o.scaleType()}.String()
	if o.Offsets {
		s += " and offsets"
	}
	return s
}

// smallest is the scale of a block of zeros where scales must be positive: the
// smallest normal float16.
const smallest = 0x1p-14

func abs32(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) }
