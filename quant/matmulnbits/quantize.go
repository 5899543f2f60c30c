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
	zeroBytes  int // of a row
	scheme     quant.Scheme
	method     Method
	positive   bool      // scales above zero only
	mid        uint8     // the zero point that means symmetric
	importance []float32 // of the columns; nil: all alike
	stages     [][]step
	kern       kernels
	places     [width]place // of the blocks in the lanes
}

// place is where a block lies: its row, its number within the row, its weights.
type place struct {
	row, block int
	x          []float32
}

func newPacker(dst Rows, w []float32, k int, o Options, kern kernels) *packer {
	s := o.Scheme()
	p := &packer{dst: dst, w: w, k: k, nb: s.Blocks(k), zeroBytes: s.ZeroBytes(k), scheme: s, method: o.Method, positive: o.Positive && s.Symmetric, mid: 1 << (s.Bits - 1), kern: kern}
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
	next := place{}
	for left := rows * p.nb; left > 0; {
		n := min(width, left)
		left -= n
		next = p.fill(next, n)
		p.load(l)
		if err := quantize(l, n); err != nil {
			return st, err
		}
		for i, at := range p.places[:n] {
			p.store(l, at, i)
			st.Weights += int64(len(at.x))
			st.Energy += float64(l.energy[i])
			st.Error += float64(l.err[i])
			st.MaxError = max(st.MaxError, float64(l.worst[i]))
		}
	}
	return st, nil
}

// fill gives the lanes the n blocks from at on, the rest the last of these
// again, and returns the place of the block that follows.
func (p *packer) fill(at place, n int) place {
	for i := range p.places {
		if i >= n {
			p.places[i] = p.places[n-1]
			continue
		}
		from := at.block * p.scheme.Block
		to := min(from+p.scheme.Block, p.k)
		at.x = p.w[at.row*p.k+from : at.row*p.k+to]
		p.places[i] = at
		at.block++
		if at.block == p.nb {
			at.row, at.block = at.row+1, 0
		}
	}
	return at
}

// load lays the blocks side by side, with their importance.
func (p *packer) load(l *lanes) {
	bs := p.scheme.Block
	for i, at := range p.places {
		l.source[i] = complete(&l.padded[i], at.x, bs)
	}
	p.kern.transpose(&l.x, &l.source, bs)
	if p.importance != nil {
		for i, at := range p.places {
			l.source[i] = complete(&l.padded[i], p.importance[at.block*bs:][:len(at.x)], bs)
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

// store writes lane i as the block at its place.
func (p *packer) store(l *lanes, at place, i int) {
	b := at.row*p.nb + at.block
	n := p.scheme.Block * p.scheme.Bits / 8
	out := p.dst.Data[b*n:][:n]
	for j := 0; j < n; j += 4 {
		binary.LittleEndian.PutUint32(out[j:], l.words[j/4][i])
	}
	if used := len(at.x) * p.scheme.Bits; used < n*8 {
		clear(out[(used+7)/8:])
		if used%8 != 0 {
			out[used/8] &= 1<<(used%8) - 1
		}
	}
	if p.scheme.ScaleType == tensor.F32 {
		binary.LittleEndian.PutUint32(p.dst.Scales[b*4:], math.Float32bits(l.bestScale[i]))
	} else {
		binary.LittleEndian.PutUint16(p.dst.Scales[b*2:], tensor.F32ToF16(l.bestScale[i]))
	}
	if !p.scheme.Symmetric {
		p.storeZero(at, uint8(l.bestZero[i]))
	}
}

// storeZero packs the zero point of a block. Blocks come in order, so a byte's
// first zero point sets it whole; what is left of a row's last byte holds mid,
// as ONNX Runtime's quantizer leaves it.
func (p *packer) storeZero(at place, zero uint8) {
	zeros := p.dst.Zeros[at.row*p.zeroBytes:]
	switch p.scheme.Bits {
	case 8:
		zeros[at.block] = zero
	case 4:
		if at.block%2 == 0 {
			zeros[at.block/2] = zero | 0x80
		} else {
			zeros[at.block/2] = zeros[at.block/2]&0xf | zero<<4
		}
	case 2:
		shift := at.block % 4 * 2
		if shift == 0 {
			zeros[at.block/4] = 0xaa
		}
		zeros[at.block/4] = zeros[at.block/4]&^(3<<shift) | zero<<shift
	}
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

// badWeight names the first weight of a block that cannot be stored: not
// finite, or so large that the scale overflows its type.
func (p *packer) badWeight(at place) error {
	col, largest := at.block*p.scheme.Block, 0
	for i, v := range at.x {
		if !(abs32(v) <= math.MaxFloat32) {
			return fmt.Errorf("weight at row %d, column %d is %v: the checkpoint is damaged or overflowed when it was saved", at.row, col+i, v)
		}
		if abs32(v) > abs32(at.x[largest]) {
			largest = i
		}
	}
	return fmt.Errorf("weight at row %d, column %d is %v: too large for block scales of type %v; choose F32 scales or check the checkpoint",
		at.row, col+largest, at.x[largest], p.scheme.ScaleType)
}

func abs32(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) }
