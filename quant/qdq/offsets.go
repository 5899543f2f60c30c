package qdq

import (
	"math"

	"github.com/llama-pajamas/llama-pajamas/quant/matmulnbits"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// fitter turns zero points into offsets and fits them.
type fitter struct {
	o          Options
	k          int
	importance []float32 // of the columns, mean 1; nil: all alike
}

// row starts from integers q and zero points z, w ≈ s·(q+8−z) with q of two's
// complement, that is, an offset of s·(8−z). Scale and offset of a block are then
// fitted to its integers by weighted least squares,
//
//	minimize Σ w (x − s·q − m)²,
//
// the integers are chosen anew for them, and the better of both is kept.
func (f *fitter) row(dst Rows, x []float32, r int, zeros []byte) {
	nb, block, t := f.o.Blocks(f.k), f.o.Block, f.o.scaleType()
	data := dst.Data[r*f.k/2:][:f.k/2]
	var q, again [256]float32
	for b := range nb {
		from, i := b*block, r*nb+b
		part := x[from:min(from+block, f.k)]
		for c := range part {
			q[c] = float32(int8(data[(from+c)/2]<<(4*(1-c%2))) >> 4)
		}
		s := loadScale(dst.Scales, i, t)
		z := zeros[b/2] >> (4 * (b % 2)) & 0xf
		m := f.stored(float32(s * (8 - float32(z))))
		if f.o.Method == matmulnbits.Search {
			cost := f.cost(part, q[:], from, s, m)
			for range 2 {
				s2, m2, ok := f.fit(part, q[:], from)
				if !ok {
					break
				}
				inv := 1 / s2
				for c, v := range part {
					again[c] = min(max(roundEven(float32(v-m2)*inv), -8), 7)
				}
				e := f.cost(part, again[:], from, s2, m2)
				if !(e < cost) {
					break
				}
				cost, s, m, q = e, s2, m2, again
			}
		}
		storeScale(dst.Scales, i, t, s)
		storeScale(dst.Offsets, i, t, m)
		for c := 0; c < len(part); c += 2 {
			data[(from+c)/2] = byte(int8(q[c]))&0xf | byte(int8(q[c+1]))<<4
		}
	}
}

// fit gives scale and offset, as stored, for the integers of a block; ok is
// false where these do not determine them.
func (f *fitter) fit(x, q []float32, from int) (s, m float32, ok bool) {
	var n, sq, sqq, sx, sxq float64
	for c, v := range x {
		w := f.weight(from + c)
		wq := float64(float32(w * q[c]))
		n += float64(w)
		sq += wq
		sqq += float64(wq * float64(q[c]))
		sx += float64(w) * float64(v)
		sxq += wq * float64(v)
	}
	det := float64(n*sqq) - float64(sq*sq)
	if det <= 1e-9*n*sqq {
		return 0, 0, false
	}
	s = f.stored(float32((float64(n*sxq) - float64(sq*sx)) / det))
	if !(s > 0) {
		return 0, 0, false
	}
	m = f.stored(float32((sx - float64(float64(s)*sq)) / n))
	return s, m, !math.IsInf(float64(m), 0) && !math.IsInf(float64(s), 0)
}

func (f *fitter) cost(x, q []float32, from int, s, m float32) float64 {
	var sum float64
	for c, v := range x {
		d := float32(v - float32(float32(q[c]*s)+m))
		sum += float64(float32(d*f.weight(from+c))) * float64(d)
	}
	return sum
}

func (f *fitter) weight(c int) float32 {
	if f.importance == nil {
		return 1
	}
	return f.importance[c]
}

func (f *fitter) stored(v float32) float32 {
	if f.o.scaleType() == tensor.F32 {
		return v
	}
	return tensor.F16ToF32(tensor.F32ToF16(v))
}

// roundEven rounds |v| < 2^22 to the nearest integer, halves to even.
func roundEven(v float32) float32 {
	const magic = 0x1.8p23
	return float32(v+magic) - magic
}
