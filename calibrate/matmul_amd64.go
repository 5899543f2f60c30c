//go:build !noasm

package calibrate

import "github.com/klauspost/cpuid/v2"

// fastKernel gives the best kernel this processor runs.
func fastKernel() kernel {
	if !cpuid.CPU.Supports(cpuid.AVX2) {
		return matmulGeneric
	}
	return matmulAVX2
}

// matmulAVX2 is [matmulGeneric]: pairs of rows in assembly, an odd last row in Go.
func matmulAVX2(out panel, w []float32, x panel) {
	cols, rows := len(x)/Tokens, len(out)/Tokens
	if cols == 0 {
		clear(out)
		return
	}
	_, _, _ = out[:rows*Tokens], w[:rows*cols], x[:cols*Tokens]
	r := 0
	for ; r+2 <= rows; r += 2 {
		rowPairAVX2(&out[r*Tokens], &w[r*cols], &w[(r+1)*cols], &x[0], cols)
	}
	if r < rows {
		matmulGeneric(out[r*Tokens:], w[r*cols:], x)
	}
}

// rowPairAVX2 sets out, [2][Tokens], to two rows of cols > 0 weights times x,
// [cols][Tokens].
//
//go:noescape
func rowPairAVX2(out, w0, w1, x *float32, cols int)
