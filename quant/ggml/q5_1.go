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
func quantizeQ5_1(e *workspace, dst []byte, src, qw []float32) {
	if qw != nil {
		weightedQ5_1(e, dst, src, qw)
		return
	}
	for {
		n := e.blocks(Q5_1, dst, src)
		if src, dst = src[32*n:], dst[24*n:]; len(src) == 0 {
			return
		}
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

// weightedQ5_1 makes the blocks of a row with importance, as weightedQ4_1.
// Source: ggml-quants.c quantize_row_q5_1_impl.
func weightedQ5_1(e *workspace, dst []byte, x, qw []float32) {
	search := func(l *lanes) { e.affine(l, 32, weighted5) }
	e.weightedBlocks(x, qw, search, 0, 31, func(n int) {
		for i := range n {
			putF16(dst, e.lanes.scale[i])
			putF16(dst[2:], -e.lanes.least[i])
			pack5(dst[4:8], dst[8:], (*[32]byte)(e.codes[32*i:]))
			dst = dst[24:]
		}
	})
}
