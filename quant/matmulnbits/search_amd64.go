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
		name:    "avx2",
		prepare: prepareAVX2,
		try: func(l *lanes, steps []step, s quant.Scheme) {
			if len(steps) > 0 {
				tryAVX2(l, &steps[0], len(steps), s.Block, topCode(s), s.ScaleType == tensor.F16)
			}
		},
		finish: func(l *lanes, s quant.Scheme) { finishAVX2(l, s.Block, topCode(s)) },
	}
}

// prepareAVX2 is [prepareGeneric]; block > 0.
//
//go:noescape
func prepareAVX2(l *lanes, block int)

// tryAVX2 is [tryGeneric] for the n > 0 steps at steps; block is a multiple of
// 4, half says that scales are stored as float16.
//
//go:noescape
func tryAVX2(l *lanes, steps *step, n, block int, top float32, half bool)

// finishAVX2 is [finishGeneric]; block is a multiple of 4.
//
//go:noescape
func finishAVX2(l *lanes, block int, top float32)
