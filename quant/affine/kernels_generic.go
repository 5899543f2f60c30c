package affine

import (
	"encoding/binary"
	"math"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

func measureGeneric(s *scratch, x []float32, o Options) bool {
	ok := true
	for i, v := range x {
		ok = ok && finite(v)
		switch o.Type {
		case tensor.BF16:
			v = tensor.BF16ToF32(tensor.F32ToBF16(v))
		case tensor.F16:
			v = tensor.F16ToF32(tensor.F32ToF16(v))
		}
		s.x[i] = v
	}
	for g := range len(x) / o.Group {
		group := s.x[g*o.Group:][:o.Group]
		low, high := group[0], group[0]
		for _, v := range group[1:] {
			if v < low {
				low = v
			}
			if v > high {
				high = v
			}
		}
		s.low[g], s.high[g] = low, high
	}
	return ok
}

func packGeneric(s *scratch, groups int, o Options) {
	top := float32(int(1)<<o.Bits - 1)
	out := s.words[:]
	for g := range groups {
		scale, bias := s.scale[g], s.bias[g]
		group := s.x[g*o.Group:][:o.Group]
		for j := 0; j < len(group); j += 8 {
			// Eight codes take Bits bytes; what is written beyond them the next
			// eight overwrite.
			var codes uint64
			for i, v := range group[j:][:8] {
				codes |= uint64(nearest((v-bias)/scale, top)) << (i * o.Bits)
			}
			binary.LittleEndian.PutUint64(out, codes)
			out = out[o.Bits:]
		}
	}
}

// nearest rounds v, limited to [0, top], half to even; top <= 255. NaN, which
// 0/0 of a vanishing scale gives, becomes 0.
func nearest(v, top float32) uint8 {
	const magic = 0x1p23 // beyond it a float32 has no room for a fraction
	switch {
	case v >= top:
		v = top
	case !(v > 0):
		v = 0
	}
	return uint8(math.Float32bits(v + magic))
}
