//go:build !noasm

package ggml

// blocksAVX2 makes blocks of t without importance until they end or one must be
// made by plain code, and returns how many it made. Plain code makes blocks
// whose scale has no finite inverse, blocks of Q4_0 and Q5_0 in which both
// signs reach the largest magnitude, and blocks of Q4_1 and Q5_1 whose least
// element is a zero: there the first one counts.
func blocksAVX2(t Type, dst []byte, x []float32) int {
	n := len(x) / 32
	if n == 0 {
		return 0
	}
	switch t {
	case Q4_0:
		return q4_0AVX2(&dst[0], &x[0], n)
	case Q4_1:
		return q4_1AVX2(&dst[0], &x[0], n)
	case Q5_0:
		return q5_0AVX2(&dst[0], &x[0], n)
	case Q5_1:
		return q5_1AVX2(&dst[0], &x[0], n)
	case Q8_0:
		return q8_0AVX2(&dst[0], &x[0], n)
	}
	return 0
}

//go:noescape
func q4_0AVX2(dst *byte, x *float32, n int) int

//go:noescape
func q4_1AVX2(dst *byte, x *float32, n int) int

//go:noescape
func q5_0AVX2(dst *byte, x *float32, n int) int

//go:noescape
func q5_1AVX2(dst *byte, x *float32, n int) int

//go:noescape
func q8_0AVX2(dst *byte, x *float32, n int) int
