package affine

import (
	"fmt"
	"math"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// batch is the number of weights worked on at a time: a multiple of every
// group, small enough to stay in the first-level cache.
const batch = 2048

// minGroup is the shortest group.
const minGroup = 32

// scratch is the state of one batch.
type scratch struct {
	x           [batch]float32
	low, high   [batch / minGroup]float32
	scale, bias [batch / minGroup]float32
	words       [batch + overrun]byte
}

// overrun is how far past its end a kernel may write.
const overrun = 16

// QuantizeRows fills dst from x, [rows, k] row-major. Weights must be finite,
// in the type of the scales too.
//
// For each group, in float32 (mlx 0.32, quantize in
// mlx/backend/cpu/quantized.cpp):
//
//	scale = max((high-low)/(2^bits-1), 1e-7), negative where |low| <= |high|
//	edge  = low where |low| > |high|, else high
//	n     = round(edge/scale)
//	where n != 0: scale = edge/n, bias = edge; else bias = 0
//	code  = clamp(round((x-bias)/scale), 0, 2^bits-1)
//
// Rounding is half to even, and codes come from scale and bias before those are
// stored. The larger edge is thus exact, and 0 nearly is.
func QuantizeRows(dst Rows, x []float32, rows, k int, o Options) error {
	return fastKernels().quantizeRows(dst, x, rows, k, o)
}

func (kn kernels) quantizeRows(dst Rows, x []float32, rows, k int, o Options) error {
	o = o.Filled()
	if err := o.Check(k); err != nil {
		return err
	}
	if rows < 0 || len(x) != rows*k {
		return fmt.Errorf("affine quantization: %d weights for %d rows of %d", len(x), rows, k)
	}
	if err := dst.check(rows, k, o); err != nil {
		return err
	}
	s := new(scratch)
	top := float32(int(1)<<o.Bits - 1)
	size := o.Type.Size()
	for at := 0; at < len(x); at += batch {
		n := min(batch, len(x)-at)
		groups := n / o.Group
		if !kn.measure(s, x[at:][:n], o) {
			return notFinite(x, at, n)
		}
		for g := range groups {
			scale, bias := fit(s.low[g], s.high[g], top)
			if !finite(scale) || !finite(bias) {
				first := at + g*o.Group
				return fmt.Errorf("affine quantization: row %d, weights from %d on: the extremes %v and %v are too large for %v",
					first/k, first%k, s.low[g], s.high[g], o.Type)
			}
			s.scale[g], s.bias[g] = scale, bias
		}
		kn.pack(s, groups, o)
		first := at / o.Group * size
		store(dst.Scales[first:][:groups*size], s.scale[:groups], o.Type)
		store(dst.Biases[first:][:groups*size], s.bias[:groups], o.Type)
		copy(dst.Words[at*o.Bits/8:], s.words[:n*o.Bits/8])
	}
	return nil
}

// fit chooses scale and bias of a group.
func fit(low, high, top float32) (scale, bias float32) {
	const smallest = 1e-7
	scale, edge := max((high-low)/top, smallest), low
	if !(abs(low) > abs(high)) {
		scale, edge = -scale, high
	}
	if n := float32(math.RoundToEven(float64(edge / scale))); n != 0 {
		return edge / n, edge
	}
	return scale, 0
}

// store encodes floats as they lie in a file.
func store(dst []byte, x []float32, t tensor.DType) {
	switch t {
	case tensor.BF16:
		tensor.EncodeBF16(dst, x)
	case tensor.F16:
		tensor.EncodeF16(dst, x)
	default:
		tensor.EncodeF32(dst, x)
	}
}

// notFinite is the error for the first weight that is NaN or infinite.
func notFinite(x []float32, at, n int) error {
	for i, v := range x[at:][:n] {
		if !finite(v) {
			return fmt.Errorf("affine quantization: weight %d is %v", at+i, v)
		}
	}
	return fmt.Errorf("affine quantization: a weight from %d on is not finite", at)
}

func finite(v float32) bool { return math.Float32bits(v)&0x7f800000 != 0x7f800000 }

func abs(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) }
