package matmulnbits

import (
	"github.com/llama-pajamas/llama-pajamas/quant"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

func genericKernels() kernels {
	return kernels{name: "generic", prepare: prepareGeneric, try: tryGeneric, finish: finishGeneric}
}

// prepareGeneric fills wx, lo, hi and energy from x and w.
func prepareGeneric(l *lanes, block int) {
	l.lo, l.hi, l.energy = [width]float32{}, [width]float32{}, [width]float32{}
	for j := range block {
		x, w, wx := &l.x[j], &l.w[j], &l.wx[j]
		for i, v := range x {
			wx[i] = v * w[i]
			if v < l.lo[i] {
				l.lo[i] = v
			}
			if v > l.hi[i] {
				l.hi[i] = v
			}
			l.energy[i] += float32(v * v)
		}
	}
}

// tryGeneric evaluates the steps of one stage and keeps the best candidate of
// each lane.
func tryGeneric(l *lanes, steps []step, s quant.Scheme) {
	top := topCode(s)
	for _, st := range steps {
		var inv, zero, low, high, a, b [width]float32
		for i := range width {
			inv[i] = l.inv[i] * st.shrink
			zero[i] = min(max(l.zero[i]+st.shift, 0), top)
			low[i], high[i] = -zero[i], top-zero[i]
		}
		for j := range s.Block {
			x, w, wx := &l.x[j], &l.w[j], &l.wx[j]
			for i := range width {
				q := roundEven(min(max(float32(x[i]*inv[i]), low[i]), high[i]))
				a[i] += float32(wx[i] * q)
				b[i] += float32(float32(q*q) * w[i])
			}
		}
		for i := range width {
			if !(b[i] > 0) {
				continue
			}
			scale := a[i] / b[i]
			if s.ScaleType == tensor.F16 {
				scale = tensor.F16ToF32(tensor.F32ToF16(scale))
			}
			gain := scale * (float32(a[i]+a[i]) - float32(scale*b[i]))
			if gain > l.gain[i] {
				l.gain[i], l.bestScale[i], l.bestZero[i] = gain, scale, zero[i]
			}
		}
	}
}

// finishGeneric rounds the weights with the base, which is the best candidate,
// and measures the error.
func finishGeneric(l *lanes, s quant.Scheme) {
	top := topCode(s)
	l.err, l.worst = [width]float32{}, [width]float32{}
	for j := 0; j < s.Block; j += 4 {
		words := &l.codes[j/4]
		*words = [width]uint32{}
		for k := range 4 {
			x := &l.x[j+k]
			for i := range width {
				z := l.zero[i]
				q := roundEven(min(max(float32(x[i]*l.inv[i]), -z), top-z))
				d := x[i] - float32(q*l.bestScale[i])
				l.err[i] += float32(d * d)
				l.worst[i] = max(l.worst[i], abs32(d))
				words[i] |= uint32(q+z) << (8 * k)
			}
		}
	}
}

// roundEven rounds |v| < 2^22 to the nearest integer, half to even: the sum
// with 1.5·2^23 has no room for a fraction.
func roundEven(v float32) float32 {
	const magic = 0x1.8p23
	return float32(v+magic) - magic
}
