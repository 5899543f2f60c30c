package affine

import (
	"encoding/binary"
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// DequantizeRows sets dst, [rows, k] row-major, to scale·code + bias in float32.
// (mlx computes it in the type of the scales.)
func DequantizeRows(dst []float32, src Rows, rows, k int, o Options) error {
	o = o.Filled()
	if err := o.Check(k); err != nil {
		return err
	}
	if rows < 0 || len(dst) != rows*k {
		return fmt.Errorf("affine quantization: room for %d weights of %d rows of %d", len(dst), rows, k)
	}
	if err := src.check(rows, k, o); err != nil {
		return err
	}
	size := o.Type.Size()
	groupBytes := o.Group * o.Bits / 8
	mask := uint64(1)<<o.Bits - 1
	var scale, bias [1]float32
	for g := range len(dst) / o.Group {
		if err := tensor.Decode(scale[:], src.Scales[g*size:][:size], o.Type); err != nil {
			return err
		}
		if err := tensor.Decode(bias[:], src.Biases[g*size:][:size], o.Type); err != nil {
			return err
		}
		// Eight codes take Bits bytes.
		words := src.Words[g*groupBytes:][:groupBytes]
		out := dst[g*o.Group:][:o.Group]
		for j := 0; j < len(out); j += 8 {
			var b [8]byte
			copy(b[:], words[:o.Bits])
			words = words[o.Bits:]
			v := binary.LittleEndian.Uint64(b[:])
			for i := range 8 {
				out[j+i] = float32(scale[0]*float32(v&mask)) + bias[0]
				v >>= o.Bits
			}
		}
	}
	return nil
}
