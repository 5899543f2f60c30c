package ggml

import "encoding/binary"

// dequantizeQ5_1: a block is 24 bytes for 32 elements: f16 d, f16 m, u32 of
// fifth bits, 16 bytes of halves as in Q5_0. x = d*q + m.
// Source: ggml-common.h block_q5_1.
func dequantizeQ5_1(dst []float32, src []byte) {
	for len(dst) >= 32 {
		x, b := (*[32]float32)(dst), (*[24]byte)(src)
		d, m := f16(b[:]), f16(b[2:])
		var t [32]float32
		for q := range t {
			t[q] = float32(d*float32(q)) + m
		}
		fill5(x, &t, binary.LittleEndian.Uint32(b[4:]), (*[16]byte)(b[8:]))
		dst, src = dst[32:], src[24:]
	}
}

// quantizeQ5_1 makes blocks: as Q4_1 with d = (max-min)/31, q = min(31,
// int((x-min)/d + 0.5)). Source: ggml-quants.c quantize_row_q5_1_ref.
func quantizeQ5_1(dst []byte, src []float32) {
	for len(src) >= 32 {
		x, b := (*[32]float32)(src), (*[24]byte)(dst)
		lo, hi := bounds(x)
		d := (hi - lo) / 31
		putF16(b[:], d)
		putF16(b[2:], lo)
		id := inverse(d)
		var q [32]byte
		for j, v := range x {
			q[j] = code(float32((v-lo)*id)+0.5, 31)
		}
		pack5(b[4:8], b[8:], &q)
		src, dst = src[32:], dst[24:]
	}
}
