package matmulnbits

import (
	"encoding/binary"
	"math"

	"github.com/llama-pajamas/llama-pajamas/quant"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

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
// round(x / width), clamped, its scale is refitted as above. They come in
// stages, each around the best of the one before; see [stages].
//
// Eight blocks are searched side by side, one in each lane of a vector
// register, so every sum over a block runs in the order of its elements, in
// Go and in assembly alike, and both give the same bytes. No step uses a fused
// multiply-add.

// width is the number of blocks searched side by side.
const width = 8

// maxBlock is the longest block.
const maxBlock = 256

// lanes is the state of the search of [width] blocks; element i of block l is
// at [i][l]. The assembly knows its layout.
type lanes struct {
	x  [maxBlock][width]float32 // weights
	w  [maxBlock][width]float32 // their importance
	wx [maxBlock][width]float32 // their product

	lo, hi [width]float32 // extremes of x and 0
	energy [width]float32 // Σ x²

	inv  [width]float32 // 1/scale that the stage's steps are relative to
	zero [width]float32 // zero point that they are relative to

	gain      [width]float32 // of the best candidate so far
	bestScale [width]float32
	bestZero  [width]float32

	err   [width]float32              // Σ (x - ŵ)²
	worst [width]float32              // max |x - ŵ|
	codes [maxBlock / 4][width]uint32 // four codes a word, first in the low byte
}

// kernels are the three loops over the elements of a group of blocks.
type kernels struct {
	name string
	// prepare fills wx, lo, hi and energy from x and w.
	prepare func(l *lanes, block int)
	// try evaluates the steps of one stage and keeps the best candidate of
	// each lane.
	try func(l *lanes, steps []step, s quant.Scheme)
	// finish rounds the weights with the base, which is by then the best
	// candidate, to codes and measures the error.
	finish func(l *lanes, s quant.Scheme)
}

// topCode is the largest code.
func topCode(s quant.Scheme) float32 { return float32(int(1)<<s.Bits - 1) }

// step is one candidate: the width is base/shrink, the zero point the base's
// plus shift.
type step struct{ shrink, shift float32 }

// search quantizes every block with the best of many candidates.
func (p *packer) search(rows int) (quant.Stats, error) {
	var st quant.Stats
	total := rows * p.nb
	plan := stages(p.scheme)
	l, kern := new(lanes), p.kern
	for first := 0; first < total; first += width {
		n := min(width, total-first)
		p.load(l, first, n)
		kern.prepare(l, p.scheme.Block)
		if err := p.start(l, first, n); err != nil {
			return st, err
		}
		for i, steps := range plan {
			if i > 0 {
				restart(l)
			}
			kern.try(l, steps, p.scheme)
		}
		restart(l)
		kern.finish(l, p.scheme)
		for i := range n {
			p.storeLane(l, first+i, i)
			from, to, _ := p.span(first + i)
			st.Add(quant.Stats{Weights: int64(to - from), Energy: float64(l.energy[i]), Error: float64(l.err[i]), MaxError: float64(l.worst[i])})
		}
	}
	return st, nil
}

// load lays blocks first to first+n side by side; missing blocks and the
// padding of the last block of a row are weights 0 of importance 0.
func (p *packer) load(l *lanes, first, n int) {
	bs := p.scheme.Block
	for i := range width {
		var x []float32
		var col int
		if i < n {
			var from, to int
			from, to, col = p.span(first + i)
			x = p.w[from:to]
		}
		for j, v := range x {
			l.x[j][i] = v
		}
		for j := len(x); j < bs; j++ {
			l.x[j][i], l.w[j][i] = 0, 0
		}
		if p.imp == nil {
			for j := range x {
				l.w[j][i] = 1
			}
			continue
		}
		for j, v := range p.imp[col:][:len(x)] {
			l.w[j][i] = v
		}
	}
}

// start sets the base of the first stage from the extremes of each block and
// refuses what cannot be stored.
func (p *packer) start(l *lanes, first, n int) error {
	top := topCode(p.scheme)
	limit := float32(math.MaxFloat32 / 4)
	if p.scheme.ScaleType == tensor.F16 {
		limit = maxFloat16
	}
	for i := range n {
		lo, hi := l.lo[i], l.hi[i]
		base, zero := (hi-lo)/top, float32(0)
		if p.scheme.Symmetric {
			m := lo
			if hi > -lo {
				m = hi
			}
			base, zero = m/-float32(p.mid), float32(p.mid)
		}
		// A block whose scale would be smaller than any worth storing is zeros.
		var inv float32
		if abs32(base) > tiny {
			inv = 1 / base
			if !p.scheme.Symmetric {
				zero = floor32(-lo * inv)
			}
		}
		if !(abs32(base) <= limit) || !(l.energy[i] <= math.MaxFloat32) {
			return p.badWeight(first + i)
		}
		l.inv[i], l.zero[i] = inv, zero
		l.gain[i], l.bestScale[i], l.bestZero[i] = 0, 0, float32(p.mid)
	}
	for i := n; i < width; i++ {
		l.inv[i], l.zero[i], l.gain[i], l.bestScale[i], l.bestZero[i] = 0, 0, 0, 0, 0
	}
	return nil
}

const (
	maxFloat16 = 65504
	tiny       = 0x1p-100
)

// floor32 rounds 0 <= v < 2^24 down.
func floor32(v float32) float32 { return float32(int32(v)) }

// restart makes the best candidate the base of the next stage.
func restart(l *lanes) {
	for i := range width {
		l.inv[i], l.zero[i] = 0, l.bestZero[i]
		if s := l.bestScale[i]; s != 0 {
			l.inv[i] = 1 / s
		}
	}
}

// storeLane stores lane i as block b.
func (p *packer) storeLane(l *lanes, b, i int) {
	bs := p.scheme.Block
	switch p.scheme.Bits {
	case 8:
		out := p.dst.Data[b*bs:][:bs]
		for j := 0; j < bs; j += 4 {
			binary.LittleEndian.PutUint32(out[j:], l.codes[j/4][i])
		}
	case 4:
		out := p.dst.Data[b*bs/2:][:bs/2]
		for j := 0; j < bs; j += 4 {
			c := l.codes[j/4][i]
			c |= c >> 4
			binary.LittleEndian.PutUint16(out[j/2:], uint16(c&0xff|c>>8&0xff00))
		}
	case 2:
		out := p.dst.Data[b*bs/4:][:bs/4]
		for j := 0; j < bs; j += 4 {
			c := l.codes[j/4][i]
			out[j/4] = uint8(c | c>>6 | c>>12 | c>>18)
		}
	}
	p.storeScale(b, l.bestScale[i])
	p.storeZero(b, uint8(l.bestZero[i]))
}

// stages is the list of candidates, found by experiment; docs/quantization.md
// tells what each step is worth.
func stages(s quant.Scheme) [][]step {
	if s.Symmetric {
		return symmetricStages
	}
	return asymmetricStages
}

var (
	asymmetricStages = func() [][]step {
		var grid []step
		for i := range 12 {
			r := 1 / (1 - 0.03*float32(i))
			grid = append(grid, step{r, 0}, step{r, 1})
		}
		return [][]step{grid, {{1, 0}}}
	}()
	symmetricStages = func() [][]step {
		var grid []step
		for i := range 19 {
			grid = append(grid, step{1 + 0.025*float32(i-9), 0})
		}
		return [][]step{grid, {{1, 0}}}
	}()
)
