//go:build !noasm

package affine

import (
	"github.com/klauspost/cpuid/v2"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// fastKernels gives the best kernels this processor runs.
func fastKernels() kernels {
	if !cpuid.CPU.Supports(cpuid.AVX2, cpuid.F16C) {
		return genericKernels()
	}
	return kernels{name: "avx2", measure: measureFast, pack: packFast}
}

func measureFast(s *scratch, x []float32, o Options) bool {
	if len(x) == 0 {
		return true
	}
	n, blocks := len(x)/o.Group, o.Group/minGroup
	switch o.Type {
	case tensor.BF16:
		return measureBF16AVX2(s, &x[0], n, blocks) < 0x7f800000
	case tensor.F16:
		return measureF16AVX2(s, &x[0], n, blocks) < 0x7f800000
	default:
		return measureF32AVX2(s, &x[0], n, blocks) < 0x7f800000
	}
}

func packFast(s *scratch, groups int, o Options) {
	if groups == 0 {
		return
	}
	if o.Bits == 8 {
		pack8AVX2(s, groups, o.Group/minGroup)
		return
	}
	packAVX2(s, groups, o.Group/minGroup, &packings[o.Bits])
}

// packing is what packAVX2 needs to know of a width below 8. Eight codes of b
// bits, a byte each, become b bytes: by pairs (c0 + c1·2^b), by fours
// (… + …·2^2b), by eights (the upper 32 bits moved down to bit 4b), and the b
// bytes of each gathered. The assembly reads the fields' offsets from
// go_asm.h.
type packing struct {
	gather [32]uint8
	pairs  uint16 // multipliers of the two bytes
	top    float32
	fours  uint32 // multipliers of the two words
	shift  uint64
	bytes  int // of 16 codes
}

var packings = func() (p [8]packing) {
	for b := range p {
		if b == 0 {
			continue
		}
		p[b] = packing{pairs: 1 | 1<<(8+b), fours: 1 | 1<<(16+2*b), shift: uint64(32 - 4*b), bytes: 2 * b, top: float32(int(1)<<b - 1)}
		for i := range p[b].gather {
			g := &p[b].gather[i]
			switch k := i % 16; {
			case k < b:
				*g = uint8(k)
			case k < 2*b:
				*g = uint8(8 + k - b)
			default:
				*g = 0x80 // a zero
			}
		}
	}
	return p
}()

// The preconditions: groups > 0, blocks = group/32, groups·group <= batch; x
// has groups·group elements. The result is the largest bit pattern of |x|.

//go:noescape
func measureF32AVX2(s *scratch, x *float32, groups, blocks int) uint32

//go:noescape
func measureBF16AVX2(s *scratch, x *float32, groups, blocks int) uint32

//go:noescape
func measureF16AVX2(s *scratch, x *float32, groups, blocks int) uint32

//go:noescape
func packAVX2(s *scratch, groups, blocks int, p *packing)

//go:noescape
func pack8AVX2(s *scratch, groups, blocks int)
