package ggml

// affineSteps are the candidates first + delta*i + top for i = 0 ... last, in
// ggml's order of float32 operations.
func affineSteps(top, first, delta float32, last int) []float32 {
	s := make([]float32, last+1)
	for i := range s {
		s[i] = first + float32(delta*float32(i)) + top
	}
	return s
}

// symmetricSteps are the candidates -(top + i/10) for i = -9 ... 9, not 0.
func symmetricSteps(top float32) []float32 {
	var s []float32
	for i := -9; i <= 9; i++ {
		if i != 0 {
			s = append(s, -(top + float32(0.1*float32(i))))
		}
	}
	return s
}

// The searches of ggml-quants.c: make_qkx2_quants as Q4_K, Q5_K and Q2_K call
// it, make_qkx3_quants, which differs by its candidates, and make_qx_quants.
var (
	plainQ4K = &affine{top: 15, steps: affineSteps(15, -1, 0.1, 20)}
	plainQ5K = &affine{top: 31, steps: affineSteps(31, -0.5, 0.1, 15)}
	plainQ2K = &affine{top: 3, steps: affineSteps(3, -0.5, 0.1, 15), mad: true}

	weighted2 = &affine{top: 3, steps: affineSteps(3, -0.9, 0.05, 36)}
	weighted4 = &affine{top: 15, steps: affineSteps(15, -0.9, 0.05, 36)}
	weighted5 = &affine{top: 31, steps: affineSteps(31, -0.9, 0.05, 36)}

	symmetric3 = &symmetric{top: 4, steps: symmetricSteps(4)}
	symmetric4 = &symmetric{top: 8, steps: symmetricSteps(8)}
	symmetric5 = &symmetric{top: 16, steps: symmetricSteps(16)}
	symmetric6 = &symmetric{top: 32, steps: symmetricSteps(32)}
)

// load lays the groups of x, n elements each, side by side with the importance
// of their columns, if any.
func (e *workspace) load(x, qw *[256]float32, n int) {
	e.spread(&e.lanes.x, x[:], n)
	if qw != nil {
		e.spread(&e.lanes.w, qw[:], n)
	}
}

// keep moves the findings of the groups at hand to those from first on.
func (e *workspace) keep(first int) {
	l := &e.lanes
	copy(e.scale[first:], l.scale[:])
	copy(e.least[first:], l.least[:])
	copy(e.inv[first:], l.inv[:])
	copy(e.base[first:], l.base[:])
	copy(e.sumW[first:], l.sumW[:])
}

// weightedBlocks searches the 32-element blocks of a row with importance qw,
// eight at a time, and hands each group of eight to put, with the number of
// blocks in it and their codes in e.codes. Codes run from low to high before low is taken off.
// Weights are qw sqrt(mean x² + x²), the mean that of the row.
func (e *workspace) weightedBlocks(x, qw []float32, search func(*lanes), low, high int32, put func(n int)) {
	sigma2 := energy(x) / float32(len(x))
	for len(x) > 0 {
		n := min(len(x), 256)
		px, pq := &e.tail, &e.heavy
		if n == 256 {
			px, pq = (*[256]float32)(x), (*[256]float32)(qw)
		} else {
			clear(px[copy(px[:], x):])
			clear(pq[copy(pq[:], qw):])
		}
		e.load(px, pq, 32)
		e.weigh(&e.lanes, 32, weighImportance, sigma2)
		search(&e.lanes)
		e.multiply(&e.codes, px, double(&e.lanes.inv), double(&e.lanes.base), low, high)
		for i, inv := range e.lanes.inv {
			if inv == 0 {
				clear(e.codes[32*i : 32*i+32])
			}
		}
		put(n / 32)
		x, qw = x[n:], qw[n:]
	}
}

// double gives each of 8 groups of 32 elements as two of 16.
func double(v *[8]float32) *[16]float32 {
	var d [16]float32
	for i, x := range v {
		d[2*i], d[2*i+1] = x, x
	}
	return &d
}

// fitScales finds whole numbers codes[i] of at most top and a scale, such that
// scale*codes is near x, weighted with w: eight roundings are tried, then each
// code goes where the others want it if that lowers the error, five times over.
// Source: ggml-quants.c make_qp_quants; codes wrap as its bytes do.
func fitScales(codes []uint8, top int32, x, w []float32) float32 {
	var peak float32
	for _, v := range x {
		if !(peak > v) {
			peak = v
		}
	}
	if peak < tiny {
		clear(codes)
		return 0
	}
	limit := float32(top)
	inv := limit / peak
	scale := 1 / inv
	var best float32
	for i, v := range x {
		codes[i] = uint8(nearest(float32(inv * v)))
		d := v - float32(scale*float32(codes[i]))
		best += float32(float32(w[i]*d) * d)
	}
	for s := -4; s <= 4; s++ {
		if s == 0 {
			continue
		}
		try := (float32(0.1*float32(s)) + limit) / peak
		scale := 1 / try
		var err float32
		for i, v := range x {
			d := v - float32(scale*float32(min(top, nearest(float32(try*v)))))
			err += float32(float32(w[i]*d) * d)
		}
		if err < best {
			best, inv = err, try
		}
	}
	var a, b float32 // Σ w x q, Σ w q²
	for i, v := range x {
		q := min(top, nearest(float32(inv*v)))
		codes[i] = uint8(q)
		a += float32(float32(w[i]*v) * float32(q))
		b += float32(float32(w[i]*float32(q)) * float32(q))
	}
	for range 5 {
		changed := false
		for i, v := range x {
			q := float32(codes[i])
			a1 := a - float32(float32(w[i]*v)*q)
			b1 := b - float32(float32(w[i]*q)*q)
			if !(a1 > 0 && b1 > 0) {
				continue
			}
			to := min(top, nearest(float32(v*b1)/a1))
			if to == int32(codes[i]) {
				continue
			}
			a1 += float32(float32(w[i]*v) * float32(to))
			b1 += float32(float32(w[i]*float32(to)) * float32(to))
			if float32(float32(a1*a1)*b) > float32(float32(a*a)*b1) {
				codes[i], a, b = uint8(to), a1, b1
				changed = true
			}
		}
		if !changed {
			break
		}
	}
	if b > 0 {
		return a / b
	}
	return 0
}
