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
	var st quant.Stats
	if rows < 0 || k < 0 || (k > 0 && len(w)/k < rows) || len(w) != rows*k {
		return st, fmt.Errorf("quantize %d rows of %d weights: have %d weights", rows, k, len(w))
	}
	if err := o.Check(k); err != nil {
		return st, err
	}
	if err := dst.check(rows, k, o); err != nil {
		return st, err
	}
	p := newPacker(dst, w, k, o)
	if o.Method == RTN {
		return p.rtn(rows)
	}
	return p.search(rows)
}

// packer walks the blocks of rows and stores what was found for each.
type packer struct {
	dst    Rows
	w      []float32
	k, nb  int // weights and blocks of a row
	scheme quant.Scheme
	mid    uint8 // the zero point that means symmetric
	imp    []float32
	kern   kernels

	codes [256]uint8 // of one block
}

func newPacker(dst Rows, w []float32, k int, o Options) *packer {
	s := o.Scheme()
	return &packer{dst: dst, w: w, k: k, nb: s.Blocks(k), scheme: s, mid: 1 << (s.Bits - 1), imp: o.Importance, kern: fastKernels()}
}

// span gives the bounds of block b, counted over all rows, within w, and its
// first column.
func (p *packer) span(b int) (from, to, col int) {
	row, col := b/p.nb, b%p.nb*p.scheme.Block
	return row*p.k + col, row*p.k + min(col+p.scheme.Block, p.k), col
}

// storeCodes packs the codes of block b, low bits first.
func (p *packer) storeCodes(b int, codes []uint8) {
	n := len(codes) * p.scheme.Bits / 8
	out := p.dst.Data[b*n:][:n]
	switch p.scheme.Bits {
	case 8:
		copy(out, codes)
	case 4:
		for i := range out {
			out[i] = codes[2*i] | codes[2*i+1]<<4
		}
	case 2:
		for i := range out {
			c := codes[4*i:][:4]
			out[i] = c[0] | c[1]<<2 | c[2]<<4 | c[3]<<6
		}
	}
}

// storeScale rounds the scale of block b to its stored type.
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

// badWeight names the first weight of block b that cannot be stored: not
// finite, or so large that the scale overflows its type.
func (p *packer) badWeight(b int) error {
	from, to, col := p.span(b)
	row := b / p.nb
	at, big := 0, float32(0)
	for i, v := range p.w[from:to] {
		a := float32(math.Abs(float64(v)))
		if !(a <= math.MaxFloat32) {
			return fmt.Errorf("weight at row %d, column %d is %v: the checkpoint is damaged or overflowed when it was saved", row, col+i, v)
		}
		if a > big {
			at, big = i, a
		}
	}
	return fmt.Errorf("weight at row %d, column %d is %v: too large for a block scale of type %v; choose F32 scales or check the checkpoint",
		row, col+at, p.w[from+at], p.scheme.ScaleType)
}
