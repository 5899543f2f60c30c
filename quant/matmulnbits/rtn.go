package matmulnbits

import (
	"math"

	"github.com/llama-pajamas/llama-pajamas/quant"
)

// rtn quantizes every block as ONNX Runtime does.
// Source of the arithmetic: core/mlas/inc/mlas_q4.h and lib/q4_dq.cpp of
// ONNX Runtime (range2scale, range2scalezp, BlockwiseQuantizer), checked
// against the bytes of release 1.32 by the oracle test.
func (p *packer) rtn(rows int) (quant.Stats, error) {
	var st quant.Stats
	for b := range rows * p.nb {
		from, to, _ := p.span(b)
		x := p.w[from:to]
		scale, zero := p.rtnScale(x)
		s := p.stored(scale)
		if !(math.Abs(float64(s)) <= math.MaxFloat32) || !finite(x) {
			return st, p.badWeight(b)
		}
		codes := p.codes[:p.scheme.Block]
		clear(codes)
		if len(x)%2 == 1 && p.scheme.Bits == 4 {
			codes[len(x)] = zero // its byte is shared with the last weight
		}
		rtnCodes(codes, x, s, zero, uint8(1<<p.scheme.Bits-1))
		p.storeCodes(b, codes)
		p.storeScale(b, scale)
		p.storeZero(b, zero)
		addBlock(&st, x, codes, s, zero)
	}
	return st, nil
}

// rtnScale gives scale and zero point of a block from its extremes.
//
//	symmetric:  scale = (the value of larger magnitude) / -2^(bits-1), so that it gets code 0
//	asymmetric: scale = (max - min) / (2^bits - 1), zero = round(-min/scale), with min <= 0 <= max
func (p *packer) rtnScale(x []float32) (scale float32, zero uint8) {
	lo, hi := bounds(x)
	if p.scheme.Symmetric {
		m := lo // the sign of a zero scale follows the first weight, as there
		if abs32(hi) > abs32(lo) {
			m = hi
		}
		return m / -float32(p.mid), p.mid
	}
	top := float32(int(1)<<p.scheme.Bits - 1)
	lo, hi = min(lo, 0), max(hi, 0)
	scale = (hi - lo) / top
	z := lo
	if scale != 0 {
		z = 0 - lo/scale
	}
	return scale, uint8(roundAway(min(max(z, 0), top)))
}

// rtnCodes rounds x/scale + zero, half away from zero, by a multiplication
// with the reciprocal of the stored scale.
func rtnCodes(codes []uint8, x []float32, scale float32, zero, top uint8) {
	var inv float32
	if scale != 0 {
		inv = 1 / scale
	}
	z, t := float32(zero), float32(top)
	for i, v := range x {
		y := float32(v*inv) + z
		// Not min/max: 0·Inf of a denormal scale is NaN and must become 0.
		switch {
		case y > t:
			y = t
		case !(y > 0):
			y = 0
		}
		codes[i] = uint8(roundAway(y))
	}
}

// roundAway rounds y >= 0 half up; exact, unlike adding one half.
func roundAway(y float32) float32 {
	f := float32(int32(y))
	if y-f >= 0.5 {
		f++
	}
	return f
}

// bounds gives the least and the largest of x, of equal ones the first.
func bounds(x []float32) (lo, hi float32) {
	lo, hi = x[0], x[0]
	for _, v := range x[1:] {
		if v < lo {
			lo = v
		}
		if v > hi {
			hi = v
		}
	}
	return lo, hi
}

func abs32(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) }

// finite reports whether no element is NaN or infinite.
func finite(x []float32) bool {
	var bad uint32
	for _, v := range x {
		// The exponent of a value that is not finite is all ones.
		bad |= (math.Float32bits(v)>>23&0xff + 1) & 0x100
	}
	return bad == 0
}

// addBlock counts the error of a block read back with its stored scale.
func addBlock(st *quant.Stats, x []float32, codes []uint8, scale float32, zero uint8) {
	var energy, sum, worst float64
	for i, v := range x {
		q := float32(float32(int(codes[i])-int(zero)) * scale)
		d := float64(v) - float64(q)
		energy += float64(v) * float64(v)
		sum += d * d
		worst = max(worst, math.Abs(d))
	}
	st.Add(quant.Stats{Weights: int64(len(x)), Energy: energy, Error: sum, MaxError: worst})
}
