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
// exactly, such as those of a dequantized Q4_0 block, are stored exactly with
// float16 scales.

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
		if p.positive {
			m = min(lo, -hi)
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

// stages is the list of candidates. The widths were found by greedy selection
// over dense grids on the weights of SmolLM2-135M, permuted so that old blocks
// do not line up with new ones; with blocks of 16 to 128 the result is within
// 0.2 % of the squared error that the dense grids reach. Widths below the range
// (shrink > 1) clip the extremes; widths above it pay because the integers fit
// the weights better by chance. The second stage refines the first one's
// winner, the last refits its scale once more.
func stages(s quant.Scheme) [][]step {
	fine := []step{{1, 0}, {0.985, 0}, {1.015, 0}, {0.97, 0}, {1.03, 0}}
	refit := []step{{1, 0}}
	switch {
	case s.Bits == 8:
		// 127/128 is the width of blocks that were quantized to [-127, 127].
		grid := append(steps(0, 0.93, 0.99, 7), step{1, 0}, step{127.0 / 128, 0})
		return [][]step{grid, refit}
	case s.Bits == 2:
		grid := steps(0, 0.9, 1.8, 7)
		if !s.Symmetric {
			grid = append(grid, steps(1, 1.1, 1.8, 6)...)
		}
		return [][]step{grid, fine, refit}
	case s.Symmetric:
		return [][]step{steps(0, 0.7, 1.24, 10), fine, refit}
	}
	grid := append(steps(0, 0.74, 1.1, 7), steps(1, 0.96, 1.14, 4)...)
	// Blocks dequantized from Q4_0 span 8 to 15 integers; with the widths above
	// these reach each of them.
	grid = append(grid, step{8.0 / 15, 0}, step{9.0 / 15, 0}, step{10.0 / 15, 0})
	return [][]step{grid, fine, refit}
}

// steps spreads n >= 2 shrinks evenly over [from, to].
func steps(shift, from, to float32, n int) []step {
	s := make([]step, n)
	for i := range s {
		s[i] = step{from + float32((to-from)*float32(i))/float32(n-1), shift}
	}
	return s
}
