package matmulnbits

import "github.com/llama-pajamas/llama-pajamas/quant"

// The search. A block of weights x with importance w is stored as integers
// q = code - zero in [-zero, top-zero] and a scale s, and costs
//
//	E = Σ w (x - s q)² = Σ w x² - 2 s A + s² B,  A = Σ w x q,  B = Σ w q²
//
// For given q the best scale is A/B. What counts is the scale as stored, so it
// is rounded to its type first, and the candidate with the largest gain
// s (2A - s B) wins: the same order as the least E, without the cancellation.
//
// Candidates are (width, zero point) pairs: the integers of a candidate are
// round(x / width), clamped, and its scale is refitted as above. They come in
// stages, each around the best of the one before. Weights that a block can hold
// exactly, such as those of a dequantized Q4_0 block, are stored exactly.

// searchBlocks quantizes the loaded blocks, n of them.
func (p *packer) searchBlocks(l *lanes, n int) error {
	for i := range n {
		base, zero := p.startingPoint(l.lo[i], l.hi[i])
		if !p.storable(base, l.energy[i]) {
			return p.badWeight(p.places[i])
		}
		// A block whose scale would be smaller than any worth storing is zeros.
		l.inv[i], l.zero[i] = 0, zero
		if abs32(base) > 0x1p-100 {
			l.inv[i] = 1 / base
		}
		l.gain[i], l.bestScale[i], l.bestZero[i] = 0, 0, float32(p.mid)
	}
	for i, steps := range p.stages {
		if i > 0 {
			setBase(l)
		}
		p.kern.try(l, steps, p.scheme)
	}
	setBase(l)
	p.kern.nearest(l, p.scheme)
	return nil
}

// startingPoint gives the width and the zero point that the first stage's steps
// are relative to, for a block with extremes lo <= 0 <= hi: the width that
// covers both, and the zero point rounded down.
func (p *packer) startingPoint(lo, hi float32) (base, zero float32) {
	if p.scheme.Symmetric {
		m := lo
		if hi > -lo {
			m = hi
		}
		return m / -float32(p.mid), float32(p.mid)
	}
	base = (hi - lo) / topCode(p.scheme)
	if base > 0 {
		zero = float32(int32(min(-lo/base, topCode(p.scheme))))
	}
	return base, zero
}

// setBase makes the best candidate the one to round with, or to search around.
func setBase(l *lanes) {
	for i, s := range l.bestScale {
		l.inv[i], l.zero[i] = 0, l.bestZero[i]
		if s != 0 {
			l.inv[i] = 1 / s
		}
	}
}

// stages is the list of candidates, found by experiment; docs/quantization.md
// tells what each is worth.
func stages(s quant.Scheme) [][]step {
	var grid []step
	if s.Symmetric {
		for i := range 19 {
			grid = append(grid, step{1 + 0.025*float32(i-9), 0})
		}
		return [][]step{grid, {{1, 0}}}
	}
	for i := range 12 {
		r := 1 / (1 - 0.03*float32(i))
		grid = append(grid, step{r, 0}, step{r, 1})
	}
	return [][]step{grid, {{1, 0}}}
}
