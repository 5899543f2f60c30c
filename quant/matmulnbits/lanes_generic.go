package matmulnbits

import (
	"github.com/llama-pajamas/llama-pajamas/quant"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

func genericKernels() kernels {
	return kernels{
		name:      "generic",
		transpose: transposeGeneric, prepare: prepareGeneric, try: tryGeneric,
		nearest: nearestGeneric, nearestAway: nearestAwayGeneric,
	}
}

func transposeGeneric(dst *[maxBlock][width]float32, source *[width][]float32, block int) {
	for i, src := range source {
		for j, v := range src[:block] {
			dst[j][i] = v
		}
	}
}

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
				q := roundEven(clamp(float32(x[i]*inv[i]), low[i], high[i]))
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

func nearestGeneric(l *lanes, s quant.Scheme) {
	top := topCode(s)
	l.err, l.worst = [width]float32{}, [width]float32{}
	for j := range s.Block {
		x, word := &l.x[j], &l.words[j*s.Bits/32]
		for i := range width {
			z := l.zero[i]
			q := roundEven(clamp(float32(x[i]*l.inv[i]), -z, top-z))
			measure(l, i, x[i], q)
			word[i] = word[i]>>s.Bits | uint32(q+z)<<(32-s.Bits)
		}
	}
}

func nearestAwayGeneric(l *lanes, s quant.Scheme) {
	top := topCode(s)
	l.err, l.worst = [width]float32{}, [width]float32{}
	for j := range s.Block {
		x, word := &l.x[j], &l.words[j*s.Bits/32]
		for i := range width {
			z := l.zero[i]
			code := roundUp(clamp(float32(x[i]*l.inv[i])+z, 0, top))
			measure(l, i, x[i], code-z)
			word[i] = word[i]>>s.Bits | uint32(code)<<(32-s.Bits)
		}
	}
}

// measure counts the error of weight x of lane i read back as q times the scale.
func measure(l *lanes, i int, x, q float32) {
	d := x - float32(q*l.bestScale[i])
	l.err[i] += float32(d * d)
	if a := abs32(d); a > l.worst[i] {
		l.worst[i] = a
	}
}

// clamp limits v to [low, high]; NaN, which 0·Inf of a denormal scale gives,
// becomes low.
func clamp(v, low, high float32) float32 {
	switch {
	case v > high:
		return high
	case v > low:
		return v
	}
	return low
}

// roundEven rounds |v| < 2^22 to the nearest integer, half to even: the sum
// with 1.5·2^23 has no room for a fraction.
func roundEven(v float32) float32 {
	const magic = 0x1.8p23
	return float32(v+magic) - magic
}

// roundUp rounds 0 <= v < 2^22 to the nearest integer, half up; exact, unlike
// adding one half and cutting.
func roundUp(v float32) float32 {
	f := float32(int32(v))
	if v-f >= 0.5 {
		f++
	}
	return f
}
