package matmulnbits

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// DequantizeRows is what the operators see: it fills dst, row-major [rows, k],
// with (code - zero) * scale in float32 arithmetic. Only the layout fields of o
// matter.
func DequantizeRows(dst []float32, src Rows, rows, k int, o Options) error {
	if rows < 0 || k < 0 || (k > 0 && len(dst)/k < rows) || len(dst) != rows*k {
		return fmt.Errorf("dequantize %d rows of %d weights: have room for %d weights", rows, k, len(dst))
	}
	s := o.Scheme()
	if err := s.Check(); err != nil {
		return err
	}
	if err := src.check(rows, k, o); err != nil {
		return err
	}
	nb, per, mask := s.Blocks(k), 8/s.Bits, uint8(1<<s.Bits-1)
	for b := range rows * nb {
		row, col := b/nb, b%nb
		zero := int(1) << (s.Bits - 1)
		if !s.Symmetric {
			zero = int(src.Zeros[row*s.ZeroBytes(k)+col/per] >> (col % per * s.Bits) & mask)
		}
		scale := loadScale(src.Scales, b, s.ScaleType)
		data := src.Data[b*s.Block/per:]
		out := dst[row*k+col*s.Block : row*k+min((col+1)*s.Block, k)]
		for i := range out {
			code := int(data[i/per] >> (i % per * s.Bits) & mask)
			out[i] = float32(code-zero) * scale
		}
	}
	return nil
}

func loadScale(b []byte, i int, t tensor.DType) float32 {
	if t == tensor.F32 {
		return math.Float32frombits(binary.LittleEndian.Uint32(b[i*4:]))
	}
	return tensor.F16ToF32(binary.LittleEndian.Uint16(b[i*2:]))
}
