//go:build !noasm

package ggml

import "github.com/klauspost/cpuid/v2"

// fastKernels gives the best kernels this processor runs.
func fastKernels() *kernels {
	if !cpuid.CPU.Supports(cpuid.AVX2, cpuid.F16C) {
		return genericKernels()
	}
	return &kernels{
		name: "avx2",
		finite: func(x []float32) bool {
			n := len(x) &^ 31
			return (n == 0 || finiteAVX2(&x[0], n)) && finiteGo(x[n:])
		},
		blocks: blocksAVX2,
		spread: func(dst *[maxGroup][width]float32, x []float32, n int) {
			spreadAVX2(dst, &x[: width*n : width*n][0], n)
		},
		weigh: func(l *lanes, n int, kind weighting, sigma2 float32) {
			switch kind {
			case weighMean:
				weighMeanAVX2(l, n, float32(n))
			case weighAbs:
				weighAbsAVX2(l, n)
			case weighSquare:
				weighSquareAVX2(l, n)
			case weighImportance:
				weighImportanceAVX2(l, n, sigma2)
			}
		},
		affine: func(l *lanes, n int, a *affine) {
			odd := affineAVX2(l, n, &a.steps[0], len(a.steps), a.top, a.mad)
			for i := 0; odd != 0; i, odd = i+1, odd>>1 {
				if odd&1 != 0 {
					affineLane(l, i, n, a)
				}
			}
		},
		symmetric: func(l *lanes, n int, s *symmetric) {
			symmetricAVX2(l, n, &s.steps[0], len(s.steps), s.top)
		},
		refine:   refineAVX2,
		divide:   divideAVX2,
		multiply: multiplyAVX2,
	}
}

// n is 16 or 32 unless said otherwise, steps are count > 0.

// finiteAVX2 takes n elements, a positive multiple of 32.
//
//go:noescape
func finiteAVX2(x *float32, n int) bool

//go:noescape
func spreadAVX2(dst *[maxGroup][width]float32, x *float32, n int)

//go:noescape
func weighMeanAVX2(l *lanes, n int, count float32)

//go:noescape
func weighAbsAVX2(l *lanes, n int)

//go:noescape
func weighSquareAVX2(l *lanes, n int)

//go:noescape
func weighImportanceAVX2(l *lanes, n int, sigma2 float32)

// affineAVX2 returns a bit for each group that left the range in which rounding
// floats equals nearest; its result there is worth nothing.
//
//go:noescape
func affineAVX2(l *lanes, n int, steps *float32, count int, top float32, mad bool) (odd int)

// symmetricAVX2 needs no such exit: |inv*x| is at most top+1.
//
//go:noescape
func symmetricAVX2(l *lanes, n int, steps *float32, count int, top float32)

//go:noescape
func refineAVX2(l *lanes)

//go:noescape
func divideAVX2(codes *[256]byte, x *[256]float32, d, m *[16]float32, lo, hi int32)

//go:noescape
func multiplyAVX2(codes *[256]byte, x *[256]float32, inv, base *[16]float32, lo, hi int32)
