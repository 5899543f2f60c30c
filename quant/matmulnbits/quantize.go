package matmulnbits

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/llama-pajamas/llama-pajamas/quant"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// QuantizeRows quantizes rows of k weights each, w being row-major [rows, k],
// into dst, whose buffers have the lengths [Sizes] gives; what they held does
// not matter. A weight that is NaN or infinite, or too large for the scale's
// type, is an error naming its row and column (of w), and dst is then
// undefined.
func QuantizeRows(dst Rows, w []float32, rows, k int, o Options) (quant.Stats, error) {
	if rows < 0 || k < 0 || (k > 0 && len(w)/k < rows) || len(w) != rows*k {
		return quant.Stats{}, fmt.Errorf("quantize %d rows of %d weights: have %d weights", rows, k, len(w))
	}
	if err := o.Check(k); err != nil {
		return quant.Stats{}, err
	}
	if err := dst.check(rows, k, o); err != nil {
		return quant.Stats{}, err
	}
	return newPacker(dst, w, k, o, fastKernels()).run(rows)
}

// packer walks the blocks of rows and stores what was found for each.
type packer struct {
	dst        Rows
	w          []float32
	k, nb      int // weights and blocks of a row
	scheme     quant.Scheme
	method     Method
	mid        uint8     // the zero point that means symmetric
	importance []float32 // of the columns; nil: all alike
	stages     [][]step
	kern       kernels
}

func newPacker(dst Rows, w []float32, k int, o Options, kern kernels) *packer {
	s := o.Scheme()
	p := &packer{dst: dst, w: w, k: k, nb: s.Blocks(k), scheme: s, method: o.Method, mid: 1 << (s.Bits - 1), kern: kern}
	if o.Method == Search {
		p.stages = stages(s)
		p.importance = normalize(o.Importance)
	}
	return p
}

// normalize scales importance to a mean of 1 and adds a little to each, so that
// sums stay in range and no block is without weight.
func normalize(importance []float32) []float32 {
	const floor = 1e-4
	var sum float64
	for _, v := range importance {
		sum += float64(v)
	}
	if sum == 0 {
		return nil
	}
	mean := sum / float64(len(importance))
	n := make([]float32, len(importance))
	for i, v := range importance {
		n[i] = float32(float64(v)/mean) + floor
	}
	return n
}

func (p *packer) run(rows int) (quant.Stats, error) {
	var st quant.Stats
	l := new(lanes)
	for j := range l.w {
		for i := range width {
			l.w[j][i] = 1
		}
	}
	quantize := p.searchBlocks
	if p.method == RTN {
		quantize = p.roundToNearest
	}
	total := rows * p.nb
	for first := 0; first < total; first += width {
		n := min(width, total-first)
		p.load(l, first, n)
		if err := quantize(l, first, n); err != nil {
			return st, err
		}
		for i := range n {
			p.store(l, first+i, i)
			from, to, _ := p.span(first + i)
			st.Add(quant.Stats{Weights: int64(to - from), Energy: float64(l.energy[i]), Error: float64(l.err[i]), MaxError: float64(l.worst[i])})
		}
	}
	return st, nil
}

// span gives the bounds of block b, counted over all rows, within w, and its
// first column.
func (p *packer) span(b int) (from, to, col int) {
	row, col := b/p.nb, b%p.nb*p.scheme.Block
	return row*p.k + col, row*p.k + min(col+p.scheme.Block, p.k), col
}

// load lays blocks first to first+n side by side; missing blocks repeat the
// last one.
func (p *packer) load(l *lanes, first, n int) {
	bs := p.scheme.Block
	for i := range width {
		from, to, _ := p.span(first + min(i, n-1))
		l.source[i] = complete(&l.padded[i], p.w[from:to], bs)
	}
	p.kern.transpose(&l.x, &l.source, bs)
	if p.importance != nil {
		for i := range width {
			from, to, col := p.span(first + min(i, n-1))
			l.source[i] = complete(&l.padded[i], p.importance[col:col+to-from], bs)
		}
		p.kern.transpose(&l.w, &l.source, bs)
	}
	p.kern.prepare(l, bs)
}

// complete returns x, or its copy in buf followed by zeros up to length block.
func complete(buf *[maxBlock]float32, x []float32, block int) []float32 {
	if len(x) == block {
		return x
	}
	clear(buf[copy(buf[:], x):block])
	return buf[:block]
}

// store writes lane i as block b.
func (p *packer) store(l *lanes, b, i int) {
	n := p.scheme.Block * p.scheme.Bits / 8
	out := p.dst.Data[b*n:][:n]
	for j := 0; j < n; j += 4 {
		binary.LittleEndian.PutUint32(out[j:], l.words[j/4][i])
	}
	if from, to, _ := p.span(b); to-from < p.scheme.Block {
		used := (to - from) * p.scheme.Bits
		clear(out[(used+7)/8:])
		if used%8 != 0 {
			out[used/8] &= 1<<(used%8) - 1
		}
	}
	p.storeScale(b, l.bestScale[i])
	p.storeZero(b, uint8(l.bestZero[i]))
}

func (p *packer) storeScale(b int, scale float32) {
	if p.scheme.ScaleType == tensor.F32 {
		binary.LittleEndian.PutUint32(p.dst.Scales[b*4:], math.Float32bits(scale))
		return
	}
	binary.LittleEndian.PutUint16(p.dst.Scales[b*2:], tensor.F32ToF16(scale))
}

// storeZero packs the zero point of block b. Blocks come in order, so a byte's
// first zero point clears it; what is left of a row's last byte holds mid, as
// ONNX Runtime's quantizer leaves it.
func (p *packer) storeZero(b int, zero uint8) {
	if p.scheme.Symmetric {
		return
	}
	row, col := b/p.nb, b%p.nb
	per := 8 / p.scheme.Bits
	at := &p.dst.Zeros[row*p.scheme.ZeroBytes(p.k)+col/per]
	if col%per == 0 {
		*at = 0
		for i := range per {
			*at |= p.mid << (i * p.scheme.Bits)
		}
	}
	shift := col % per * p.scheme.Bits
	mask := uint8(1<<p.scheme.Bits - 1)
	*at = *at&^(mask<<shift) | zero<<shift
}

// stored is the value of a scale after a round trip through its stored type.
func (p *packer) stored(scale float32) float32 {
	if p.scheme.ScaleType == tensor.F32 {
		return scale
	}
	return tensor.F16ToF32(tensor.F32ToF16(scale))
}

// storable reports whether a block with this scale and this sum of squares can
// be quantized; it cannot when a weight is not finite.
func (p *packer) storable(scale, energy float32) bool {
	limit := float32(math.MaxFloat32 / 4)
	if p.scheme.ScaleType == tensor.F16 {
		limit = 65504
	}
	return abs32(scale) <= limit && energy <= math.MaxFloat32
}

// badWeight names the first weight of block b that cannot be stored: not
// finite, or so large that the scale overflows its type.
func (p *packer) badWeight(b int) error {
	from, to, col := p.span(b)
	row := b / p.nb
	at, big := 0, float32(0)
	for i, v := range p.w[from:to] {
		a := abs32(v)
		if !(a <= math.MaxFloat32) {
			return fmt.Errorf("weight at row %d, column %d is %v: the checkpoint is damaged or overflowed when it was saved", row, col+i, v)
		}
		if a > big {
			at, big = i, a
		}
	}
	return fmt.Errorf("weight at row %d, column %d is %v: too large for block scales of type %v; choose F32 scales or check the checkpoint",
		row, col+at, p.w[from+at], p.scheme.ScaleType)
}

func abs32(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) }
