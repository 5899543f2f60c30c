//go:build !noasm

package matmulnbits

import (
	"github.com/klauspost/cpuid/v2"

	"github.com/llama-pajamas/llama-pajamas/quant"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// fastKernels gives the best kernels this processor runs.
func fastKernels() kernels {
	if !cpuid.CPU.Supports(cpuid.AVX2, cpuid.F16C) {
		return genericKernels()
	}
	return kernels{
		name:      "avx2",
		transpose: transposeAVX2,
		prepare:   prepareAVX2,
		try: func(l *lanes, steps []step, s quant.Scheme) {
			if len(steps) > 0 {
				tryAVX2(l, &steps[0], len(steps), s.Block, topCode(s), s.ScaleType == tensor.F16)
			}
		},
		nearest: func(l *lanes, s quant.Scheme) {
			nearestAVX2(l, s.Block*s.Bits/32, s.Bits, topCode(s))
		},
		nearestAway: func(l *lanes, s quant.Scheme) {
			nearestAwayAVX2(l, s.Block*s.Bits/32, s.Bits, topCode(s))
		},
	}
}

// The preconditions: block is a positive multiple of 8 and at most maxBlock,
// every source has block elements, n > 0 steps lie at steps, words are
// block*bits/32, half says that scales are stored as float16.

//go:noescape
func transposeAVX2(dst *[maxBlock][width]float32, source *[width][]float32, block int)

//go:noescape
func prepareAVX2(l *lanes, block int)

//go:noescape
func tryAVX2(l *lanes, steps *step, n, block int, top float32, half bool)

//go:noescape
func nearestAVX2(l *lanes, words, bits int, top float32)

//go:noescape
func nearestAwayAVX2(l *lanes, words, bits int, top float32)
