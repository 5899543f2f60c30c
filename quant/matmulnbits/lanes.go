package matmulnbits

import "github.com/llama-pajamas/llama-pajamas/quant"

// width is the number of blocks worked on side by side, one in each lane of a
// vector register. A sum over a block then runs in the order of its elements,
// in Go and in assembly alike, and both give the same bytes.
const width = 8

// maxBlock is the longest block.
const maxBlock = 256

// lanes is the state of [width] blocks; element j of block i is at [j][i]. The
// assembly reads the fields' offsets from go_asm.h.
type lanes struct {
	x  [maxBlock][width]float32 // weights, 0 beyond the block's end
	w  [maxBlock][width]float32 // their importance, 0 beyond the end
	wx [maxBlock][width]float32 // their product

	lo, hi [width]float32 // extremes of x and 0
	energy [width]float32 // Σ x²

	inv  [width]float32 // 1/scale to round with, or that a stage's steps are relative to
	zero [width]float32 // zero point to round with, or that they are relative to

	gain      [width]float32 // of the best candidate so far
	bestScale [width]float32 // its scale, as stored
	bestZero  [width]float32

	err   [width]float32                   // Σ (x - ŵ)²
	worst [width]float32                   // max |x - ŵ|
	words [maxBlock * 8 / 32][width]uint32 // packed codes, low bits first

	source [width][]float32         // the blocks, len = block length
	padded [width][maxBlock]float32 // where a partial block is completed with zeros
}

// kernels are the loops over the elements of [width] blocks. All sums are
// float32, in element order, without fused multiply-add.
type kernels struct {
	name string
	// transpose lays the blocks of source side by side.
	transpose func(dst *[maxBlock][width]float32, source *[width][]float32, block int)
	// prepare fills wx, lo, hi and energy from x and w.
	prepare func(l *lanes, block int)
	// try evaluates the steps of one stage and keeps the best candidate of
	// each lane.
	try func(l *lanes, steps []step, s quant.Scheme)
	// nearest sets words to the codes of x for inv and zero, rounded half to
	// even after the clamp, and measures the error for bestScale.
	nearest func(l *lanes, s quant.Scheme)
	// nearestAway is nearest with the arithmetic of ONNX Runtime's quantizer:
	// the zero point is added before rounding, halves go up.
	nearestAway func(l *lanes, s quant.Scheme)
}

// step is one candidate of a stage: its width is the base's divided by shrink,
// its zero point the base's plus shift.
type step struct{ shrink, shift float32 }

// topCode is the largest code.
func topCode(s quant.Scheme) float32 { return float32(int(1)<<s.Bits - 1) }
