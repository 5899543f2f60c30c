package ggml

// nonlinear are the values of IQ4_NL's codes (ggml-common.h kvalues_iq4nl).
var nonlinear = [16]int8{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

// dequantizeIQ4_NL: a block is 18 bytes for 32 elements: f16 d, then 16 bytes
// of halves as in Q4_0. x = d*nonlinear[q]. Source: ggml-common.h block_iq4_nl.
func dequantizeIQ4_NL(dst []float32, src []byte) {
	for len(dst) >= 32 {
		x, b := (*[32]float32)(dst), (*[18]byte)(src)
		d := f16(b[:])
		var t [16]float32
		for q, v := range nonlinear {
			t[q] = d * float32(v)
		}
		for j, v := range b[2:] {
			x[j], x[j+16] = t[v&15], t[v>>4]
		}
		dst, src = dst[32:], src[18:]
	}
}

// nonlinearOffset is half the length of nearestNonlinear.
const nonlinearOffset = 300

// nearestNonlinear gives the code for the whole part of twice a number, rounded
// down, at [that + nonlinearOffset]: halves between values are multiples of 0.5.
var nearestNonlinear = func() (t [2 * nonlinearOffset]byte) {
	for i := range t {
		for t[i] < 15 && i-nonlinearOffset >= int(nonlinear[t[i]])+int(nonlinear[t[i]+1]) {
			t[i]++
		}
	}
	return t
}()

// quantizeIQ4_NL makes blocks: as the symmetric search of Q4_0, over values that
// are not evenly spaced, with weights x², or qw sqrt(2 mean x² of the 32 + x²).
// Source: ggml-quants.c quantize_row_iq4_nl_impl as quantize_iq4_nl calls it.
func quantizeIQ4_NL(_ *workspace, dst []byte, src, qw []float32) {
	for len(src) >= 32 {
		x, b := (*[32]float32)(src), (*[18]byte)(dst)
		var w [32]float32
		sigma2 := energy(x[:]) * (2.0 / 32)
		for j, v := range x {
			if qw == nil {
				w[j] = float32(v * v)
			} else {
				w[j] = float32(qw[j] * sqrt(sigma2+float32(v*v)))
			}
		}
		d := scaleIQ4_NL(x, &w)
		putF16(b[:], d)
		id := inverse(d)
		for j := range 16 {
			b[2+j] = nonlinearCode(float32(id*x[j])) | nonlinearCode(float32(id*x[j+16]))<<4
		}
		src, dst = src[32:], dst[18:]
		if qw != nil {
			qw = qw[32:]
		}
	}
}

func scaleIQ4_NL(x, w *[32]float32) float32 {
	peak := largest(x)
	if abs(peak) < tiny {
		return 0
	}
	sums := func(inv float32) (a, b float32) {
		for j, v := range x {
			q := float32(nonlinear[nonlinearCode(float32(inv*v))])
			wq := float32(w[j] * q)
			a += float32(wq * v)
			b += float32(wq * q)
		}
		return a, b
	}
	a, b := sums(1 / (-peak / float32(nonlinear[0])))
	var d float32
	if b > 0 {
		d = a / b
	}
	best := d * a
	for i := -7; i <= 7; i++ {
		a, b := sums(float32(i+int(nonlinear[0])) / peak)
		if b > 0 && float32(a*a) > float32(best*b) {
			d = a / b
			best = d * a
		}
	}
	return d
}

// nonlinearCode is the code of the value nearest to x, the larger one of two.
func nonlinearCode(x float32) byte {
	// Float64 holds the sum exactly but for numbers near 0, where no border
	// between codes lies.
	i := int64(float64(x)*2 + nonlinearOffset)
	if uint64(i) < uint64(len(nearestNonlinear)) {
		return nearestNonlinear[i]
	}
	if x <= 0 {
		return 0
	}
	return 15 // NaN too, as ggml's search finds
}
