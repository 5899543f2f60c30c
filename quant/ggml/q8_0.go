package ggml

import "math"

// dequantizeQ8_0: a block is 34 bytes for 32 elements: f16 d, then 32 int8.
// x = q*d. Source: ggml-common.h block_q8_0.
func dequantizeQ8_0(dst []float32, src []byte) {
	for len(dst) >= 32 {
		x, b := (*[32]float32)(dst), (*[34]byte)(src)
		d := f16(b[:])
		for j, v := range b[2:] {
			x[j] = float32(int8(v)) * d
		}
		dst, src = dst[32:], src[34:]
	}
}

// quantizeQ8_0 makes blocks: d = max|x|/127, q = round(x/d), half away from
// zero, with d before its f16 rounding. Source: ggml-quants.c
// quantize_row_q8_0_ref.
func quantizeQ8_0(e *workspace, dst []byte, src, _ []float32) {
	for {
		n := e.blocks(Q8_0, dst, src)
		if src, dst = src[32*n:], dst[34*n:]; len(src) == 0 {
			return
		}
		x, b := (*[32]float32)(src), (*[34]byte)(dst)
		var amax float32
		for _, v := range x {
			amax = max(amax, abs(v))
		}
		d := amax / 127
		putF16(b[:], d)
		id := inverse(d)
		for j, v := range x {
			b[2+j] = byte(int8(math.Round(float64(v * id))))
		}
		src, dst = src[32:], dst[34:]
	}
}
