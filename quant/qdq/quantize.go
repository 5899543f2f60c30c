package qdq

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/llama-pajamas/llama-pajamas/quant/matmulnbits"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Rows are the bytes of some consecutive rows; see the package comment. Offsets
// lie as scales do, and are empty without them.
type Rows struct {
	Data, Scales, Offsets []byte
}

// MakeRows allocates buffers of the right size.
func MakeRows(rows, k int, o Options) Rows {
	d, s, m := o.Sizes(rows, k)
	return Rows{Data: make([]byte, d), Scales: make([]byte, s), Offsets: make([]byte, m)}
}

func (r Rows) check(rows, k int, o Options) error {
	d, s, m := o.Sizes(rows, k)
	if len(r.Data) != d || len(r.Scales) != s || len(r.Offsets) != m {
		return fmt.Errorf("buffers for %d rows of %d weights (%v): have %d, %d and %d bytes of data, scales and offsets, want %d, %d and %d",
			rows, k, o, len(r.Data), len(r.Scales), len(r.Offsets), d, s, m)
	}
	return nil
}

// QuantizeRows quantizes rows of k weights each, w being row-major [rows, k],
// into dst, whose buffers have the lengths that Sizes gives. A weight that is
// NaN or infinite, or too large for the scale's type, is an error naming its
// row and column, and dst is then undefined.
func QuantizeRows(dst Rows, w []float32, rows, k int, o Options) error {
	if rows < 0 || k < 0 || (k > 0 && len(w)/k < rows) || len(w) != rows*k {
		return fmt.Errorf("quantize %d rows of %d weights: have %d weights", rows, k, len(w))
	}
	if err := o.Check(k); err != nil {
		return err
	}
	if err := dst.check(rows, k, o); err != nil {
		return err
	}
	if o.Block != 0 {
		return quantizeBlocks(dst, w, rows, k, o)
	}
	p := rowPacker{o: o, importance: normalize(o.Importance)}
	for r := range rows {
		if err := p.row(dst, w[r*k:][:k], r); err != nil {
			return err
		}
	}
	return nil
}

// quantizeBlocks uses the quantizer of MatMulNBits, whose codes are the
// integers plus 2^(bits-1): flipping the highest bit of each turns them into
// two's complement. Its last block of a row is padded where ours ends.
func quantizeBlocks(dst Rows, w []float32, rows, k int, o Options) error {
	m := o.blocks()
	out := matmulnbits.Rows{Data: dst.Data, Scales: dst.Scales}
	padded, _, zeros := matmulnbits.Sizes(1, k, m)
	out.Zeros = make([]byte, rows*zeros)
	width := k * o.bits() / 8
	if padded != width {
		out.Data = make([]byte, rows*padded)
	}
	if _, err := matmulnbits.QuantizeRows(out, w, rows, k, m); err != nil {
		return err
	}
	if padded != width {
		for r := range rows {
			copy(dst.Data[r*width:][:width], out.Data[r*padded:])
		}
	}
	flip := byte(0x80)
	if o.bits() == 4 {
		flip = 0x88
	}
	for i := range dst.Data {
		dst.Data[i] ^= flip
	}
	if o.Offsets {
		f := fitter{o: o, k: k, importance: normalize(o.Importance)}
		for r := range rows {
			f.row(dst, w[r*k:][:k], r, out.Zeros[r*zeros:][:zeros])
		}
	}
	if o.Positive {
		for i := range rows * o.Blocks(k) {
			if loadScale(dst.Scales, i, o.scaleType()) == 0 {
				storeScale(dst.Scales, i, o.scaleType(), smallest)
			}
		}
	}
	return nil
}

// rowPacker quantizes rows with one scale each.
type rowPacker struct {
	o          Options
	importance []float32 // of the columns, mean 1; nil: all alike
}

// widths are the candidates' shares of the largest magnitude. The best scale of
// a row's integers is then fitted as in package matmulnbits; clipping further
// never paid on the weights of SmolLM2-135M.
var widths = []float32{1, 0.97, 0.93, 0.88}

// row quantizes one row; its scale is above zero.
func (p *rowPacker) row(dst Rows, x []float32, r int) error {
	largest := 0
	for c, v := range x {
		if !(abs32(v) <= math.MaxFloat32) {
			return fmt.Errorf("weight at row %d, column %d is %v: the checkpoint is damaged or overflowed when it was saved", r, c, v)
		}
		if abs32(v) > abs32(x[largest]) {
			largest = c
		}
	}
	scale := float32(smallest)
	if len(x) > 0 && x[largest] != 0 {
		base := abs32(x[largest]) / 127
		if scale = p.stored(base); p.o.Method == matmulnbits.Search {
			scale = p.search(x, base)
		}
		if p.o.scaleType() == tensor.F16 && scale > 65504 {
			return fmt.Errorf("weight at row %d, column %d is %v: too large for scales of type %v; choose F32 scales or check the checkpoint",
				r, largest, x[largest], p.o.scaleType())
		}
	}
	storeScale(dst.Scales, r, p.o.scaleType(), scale)
	inv := 1 / scale
	data := dst.Data[r*len(x):][:len(x)]
	for c, v := range x {
		data[c] = byte(int8(nearest(v, inv)))
	}
	return nil
}

// search returns the stored scale with the least weighted squared error.
func (p *rowPacker) search(x []float32, base float32) float32 {
	best, gain := p.stored(base), math.Inf(-1)
	for _, width := range widths {
		inv := 1 / (base * width)
		var a, b float64 // Σ w·x·q, Σ w·q²
		for c, v := range x {
			q := nearest(v, inv)
			w := float32(1)
			if p.importance != nil {
				w = p.importance[c]
			}
			a += float64(float32(w*v)) * float64(q)
			b += float64(w) * float64(q*q)
		}
		if b == 0 {
			continue
		}
		s := p.stored(float32(a / b))
		if g := float64(s) * float64(float64(2*a)-float64(float64(s)*b)); g > gain {
			best, gain = s, g
		}
	}
	return best
}

// stored is a scale after a round trip through its type, never zero.
func (p *rowPacker) stored(scale float32) float32 {
	if p.o.scaleType() == tensor.F32 {
		return max(scale, math.SmallestNonzeroFloat32)
	}
	return max(tensor.F16ToF32(tensor.F32ToF16(scale)), 0x1p-24)
}

// nearest is v·inv as an integer of [-127, 127], halves to even.
func nearest(v, inv float32) float32 {
	const magic = 0x1.8p23 // beyond it float32 has no fraction
	return float32(min(max(float32(v*inv), -127), 127)+magic) - magic
}

// normalize scales importance to a mean of 1 and adds a little to each, so that
// no row is without weight.
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

func loadScale(b []byte, i int, t tensor.DType) float32 {
	if t == tensor.F32 {
		return math.Float32frombits(binary.LittleEndian.Uint32(b[i*4:]))
	}
	return tensor.F16ToF32(binary.LittleEndian.Uint16(b[i*2:]))
}

func storeScale(b []byte, i int, t tensor.DType, v float32) {
	if t == tensor.F32 {
		binary.LittleEndian.PutUint32(b[i*4:], math.Float32bits(v))
		return
	}
	binary.LittleEndian.PutUint16(b[i*2:], tensor.F32ToF16(v))
}

// DequantizeRows is what DequantizeLinear gives with float32 scales: it fills
// dst, row-major [rows, k], with data · scale in float32 arithmetic, plus the
// block's offset where there are such. With float16 scales the operator rounds
// each product to float16. Only the layout fields of o matter.
func DequantizeRows(dst []float32, src Rows, rows, k int, o Options) error {
	if rows < 0 || k < 0 || (k > 0 && len(dst)/k < rows) || len(dst) != rows*k {
		return fmt.Errorf("dequantize %d rows of %d weights: have room for %d weights", rows, k, len(dst))
	}
	o.Importance = nil
	if err := o.Check(k); err != nil {
		return err
	}
	if err := src.check(rows, k, o); err != nil {
		return err
	}
	block, nb := o.Block, o.Blocks(k)
	if block == 0 {
		block = k
	}
	for r := range rows {
		for c := range k {
			i := r*k + c
			q := int8(src.Data[i*o.bits()/8])
			if o.bits() == 4 {
				q = int8(src.Data[i/2]<<(4*(1-i%2))) >> 4
			}
			dst[i] = float32(q) * loadScale(src.Scales, r*nb+c/block, o.scaleType())
			if o.Offsets {
				dst[i] += loadScale(src.Offsets, r*nb+c/block, o.scaleType())
			}
		}
	}
	return nil
}
