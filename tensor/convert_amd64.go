//go:build !noasm

package tensor

import "github.com/klauspost/cpuid/v2"

// halves is whether the vector conversions may be used. Tests switch it off to
// compare with the plain ones.
var halves = cpuid.CPU.Supports(cpuid.AVX2, cpuid.F16C)

//go:noescape
func encodeF16AVX(dst *byte, src *float32, n int) (odd uint32)

//go:noescape
func decodeF16AVX(dst *float32, src *byte, n int)

//go:noescape
func decodeBF16AVX(dst *float32, src *byte, n int)

// encodeF16Fast converts a multiple of 8 elements and returns how many; odd
// tells that some of them overflowed or were flushed.
func encodeF16Fast(dst []byte, src []float32) (n int, odd bool) {
	n = len(src) &^ 7
	if !halves || n == 0 {
		return 0, false
	}
	return n, encodeF16AVX(&dst[0], &src[0], n) != 0
}

func decodeF16Fast(dst []float32, src []byte) int {
	n := len(dst) &^ 7
	if !halves || n == 0 {
		return 0
	}
	decodeF16AVX(&dst[0], &src[0], n)
	return n
}

func decodeBF16Fast(dst []float32, src []byte) int {
	n := len(dst) &^ 7
	if !halves || n == 0 {
		return 0
	}
	decodeBF16AVX(&dst[0], &src[0], n)
	return n
}
