package matmulnbits

// Round to nearest, as ONNX Runtime does it.
//
//	symmetric:  scale = (the value of larger magnitude) / -2^(bits-1), so that it gets code 0
//	asymmetric: scale = (max - min) / (2^bits - 1), zero = round(-min/scale), with min <= 0 <= max
//	code = round(x · (1/scale) + zero), halves up, the reciprocal of the scale as stored
//
// Source of the arithmetic: core/mlas/lib/q4_dq.cpp of ONNX Runtime
// (range2scale, range2scalezp, BlockwiseQuantizer), checked against the bytes
// of release 1.32 by the oracle test.

// roundToNearest quantizes the loaded blocks, n of them.
func (p *packer) roundToNearest(l *lanes, n int) error {
	for i := range n {
		scale, zero := p.rtnScale(l.lo[i], l.hi[i], l.x[0][i])
		stored := p.stored(scale)
		if !p.storable(stored, l.energy[i]) {
			return p.badWeight(p.places[i])
		}
		l.bestScale[i], l.bestZero[i] = stored, zero
	}
	setBase(l)
	p.kern.nearestAway(l, p.scheme)
	return nil
}

// rtnScale gives scale and zero point of a block from its extremes, lo <= 0 <=
// hi, and its first weight.
func (p *packer) rtnScale(lo, hi, firstWeight float32) (scale, zero float32) {
	if p.scheme.Symmetric {
		m := lo
		switch {
		case hi > -lo:
			m = hi
		case lo == 0:
			m = firstWeight // all are zeros; the scale's sign follows the first, as there
		}
		if p.positive {
			return max(-lo/float32(p.mid), hi/(topCode(p.scheme)-float32(p.mid))), float32(p.mid)
		}
		return m / -float32(p.mid), float32(p.mid)
	}
	top := topCode(p.scheme)
	scale = (hi - lo) / top
	z := lo
	if scale != 0 {
		z = 0 - lo/scale
	}
	return scale, roundUp(clamp(z, 0, top))
}
