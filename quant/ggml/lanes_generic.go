package ggml

import "math"

func genericKernels() *kernels {
	return &kernels{
		name: "go", finite: finiteGo,
		blocks: func(Type, []byte, []float32) int { return 0 },
		spread: spreadGo, weigh: weighGo,
		affine: affineGo, symmetric: symmetricGo, refine: refineGo,
		divide: divideGo, multiply: multiplyGo,
	}
}

// tiny is the magnitude below which a group counts as zero (GROUP_MAX_EPS).
const tiny = 1e-15

// nearest is ggml's rounding, half to even, by the number whose last mantissa
// bit is worth 1; beyond ±2^22 it wraps, and the bytes depend on how.
func nearest(v float32) int32 {
	return int32(math.Float32bits(v+12582912)&0x7fffff) - 0x400000
}

func sqrt(v float32) float32 { return float32(math.Sqrt(float64(v))) }

func finiteGo(x []float32) bool {
	for _, v := range x {
		if math.Float32bits(v)&0x7f800000 == 0x7f800000 {
			return false
		}
	}
	return true
}

func spreadGo(dst *[maxGroup][width]float32, x []float32, n int) {
	for i := range width {
		for j, v := range x[i*n : (i+1)*n] {
			dst[j][i] = v
		}
	}
}

func weighGo(l *lanes, n int, kind weighting, sigma2 float32) {
	for i := range width {
		var mean float32
		if kind == weighMean {
			for j := range n {
				mean += float32(l.x[j][i] * l.x[j][i])
			}
			mean = sqrt(mean / float32(n))
		}
		for j := range n {
			v, w := l.x[j][i], &l.w[j][i]
			switch kind {
			case weighMean:
				*w = mean + abs(v)
			case weighAbs:
				*w = abs(v)
			case weighSquare:
				*w = v * v
			case weighImportance:
				*w *= sqrt(sigma2 + float32(v*v))
			}
		}
	}
}

func affineGo(l *lanes, n int, a *affine) {
	for i := range width {
		affineLane(l, i, n, a)
	}
}

// affineLane finds the scale and least value of group i: candidates for the
// number of steps give codes, codes give scale and least value by weighted
// least squares, and the candidate of the smallest error wins. A success moves
// the least value the next codes are measured from.
// Source: ggml-quants.c make_qkx2_quants, make_qkx3_quants.
func affineLane(l *lanes, i, n int, a *affine) {
	lo, hi := l.x[0][i], l.x[0][i]
	sumW := l.w[0][i]
	sumX := float32(sumW * lo)
	for j := 1; j < n; j++ {
		x, w := l.x[j][i], l.w[j][i]
		if x < lo {
			lo = x
		}
		if x > hi {
			hi = x
		}
		sumW += w
		sumX += float32(w * x)
	}
	if lo > 0 {
		lo = 0
	}
	l.sumW[i] = sumW
	if hi == lo {
		l.scale[i], l.least[i], l.inv[i], l.base[i] = 0, -lo, 0, lo
		return
	}
	code := func(x, inv, base float32) float32 {
		return float32(max(0, min(int32(a.top), nearest(float32(inv*(x-base))))))
	}
	miss := func(x, w, q, scale, base float32) float32 {
		d := float32(scale*q) + base - x
		if a.mad {
			return float32(w * abs(d))
		}
		return float32(w * float32(d*d))
	}
	inv := a.top / (hi - lo)
	scale, base := 1/inv, lo
	best := float32(0)
	l.inv[i], l.base[i] = inv, base
	for j := range n {
		x := l.x[j][i]
		best += miss(x, l.w[j][i], code(x, inv, base), scale, base)
	}
	for _, steps := range a.steps {
		inv := steps / (hi - base)
		var sumL, sumL2, sumXL float32
		for j := range n {
			x, w := l.x[j][i], l.w[j][i]
			q := code(x, inv, base)
			l.q[j][i] = q
			wq := float32(w * q)
			sumL += wq
			sumL2 += float32(wq * q)
			sumXL += float32(wq * x)
		}
		det := float32(sumW*sumL2) - float32(sumL*sumL)
		if !(det > 0) {
			continue
		}
		s := (float32(sumW*sumXL) - float32(sumX*sumL)) / det
		b := (float32(sumL2*sumX) - float32(sumL*sumXL)) / det
		if b > 0 {
			b = 0
			s = sumXL / sumL2
		}
		var err float32
		for j := range n {
			err += miss(l.x[j][i], l.w[j][i], l.q[j][i], s, b)
		}
		if err < best {
			l.inv[i], l.base[i] = inv, base
			best, scale, base = err, s, b
		}
	}
	l.scale[i], l.least[i] = scale, -base
}

func symmetricGo(l *lanes, n int, s *symmetric) {
	for i := range width {
		symmetricLane(l, i, n, s)
	}
}

// symmetricLane finds the scale of group i: each candidate for the code of the
// largest magnitude gives codes, for which the best scale is A/B and takes
// A²/B off the error, A = Σ w x q, B = Σ w q².
// Source: ggml-quants.c make_qx_quants.
func symmetricLane(l *lanes, i, n int, s *symmetric) {
	var peak, size, sumW float32
	for j := range n {
		if a := abs(l.x[j][i]); a > size {
			size, peak = a, l.x[j][i]
		}
		sumW += l.w[j][i]
		l.p[j][i] = float32(l.w[j][i] * l.x[j][i])
	}
	l.sumW[i] = sumW
	l.scale[i], l.inv[i], l.base[i] = 0, 0, 0
	if size < tiny {
		return
	}
	sums := func(inv float32) (a, b float32) {
		for j := range n {
			q := float32(max(int32(-s.top), min(int32(s.top)-1, nearest(float32(inv*l.x[j][i])))))
			a += float32(l.p[j][i] * q)
			b += float32(float32(l.w[j][i]*q) * q)
		}
		return a, b
	}
	l.inv[i] = -s.top / peak
	a, b := sums(l.inv[i])
	if b != 0 {
		l.scale[i] = a / b
	}
	best := l.scale[i] * a
	for _, step := range s.steps {
		inv := step / peak
		if a, b := sums(inv); b > 0 && float32(a*a) > float32(best*b) {
			l.scale[i], l.inv[i] = a/b, inv
			best = l.scale[i] * a
		}
	}
}

func refineGo(l *lanes) {
	for i := range width {
		refineLane(l, i)
	}
}

// refineLane finds codes -4 to 3 for the 16 elements of group i and their best
// scale, weighted with x²: five times over the elements, each code goes where
// the others want it if that lowers the error. The codes are left in q.
// Source: ggml-quants.c make_q3_quants.
func refineLane(l *lanes, i int) {
	const n = 16
	cut := func(v float32) float32 { return float32(max(-4, min(3, nearest(v)))) }
	var peak, size float32
	for j := range n {
		if a := abs(l.x[j][i]); a > size {
			size, peak = a, l.x[j][i]
		}
	}
	l.scale[i] = 0
	if size < tiny {
		for j := range n {
			l.q[j][i] = -4
		}
		return
	}
	inv := -4 / peak
	var a, b float32
	for j := range n {
		x, w := l.x[j][i], l.w[j][i]
		q := cut(float32(inv * x))
		l.q[j][i] = q
		a += float32(float32(w*x) * q)
		b += float32(float32(w*q) * q)
	}
	for range 5 {
		changed := false
		for j := range n {
			x, w, q := l.x[j][i], l.w[j][i], l.q[j][i]
			a1 := a - float32(float32(w*x)*q)
			if !(a1 > 0) {
				continue
			}
			b1 := b - float32(float32(w*q)*q)
			to := cut(float32(x*b1) / a1)
			if to == q {
				continue
			}
			a1 += float32(float32(w*x) * to)
			b1 += float32(float32(w*to) * to)
			if b1 > 0 && float32(float32(a1*a1)*b) > float32(float32(a*a)*b1) {
				l.q[j][i], a, b = to, a1, b1
				changed = true
			}
		}
		if !changed {
			break
		}
	}
	if b > 0 {
		l.scale[i] = a / b
	}
}

func divideGo(codes *[256]byte, x *[256]float32, d, m *[16]float32, lo, hi int32) {
	for g := range 16 {
		for j := g * 16; j < g*16+16; j++ {
			codes[j] = byte(max(lo, min(hi, nearest((x[j]+m[g])/d[g]))) - lo)
		}
	}
}

func multiplyGo(codes *[256]byte, x *[256]float32, inv, base *[16]float32, lo, hi int32) {
	for g := range 16 {
		for j := g * 16; j < g*16+16; j++ {
			codes[j] = byte(max(lo, min(hi, nearest(float32(inv[g]*(x[j]-base[g]))))) - lo)
		}
	}
}
