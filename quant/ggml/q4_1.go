package ggml

// dequantizeQ4_1: a block is 20 bytes for 32 elements: f16 d, f16 m, then 16
// bytes of halves as in Q4_0. x = d*q + m. Source: ggml-common.h block_q4_1.
func dequantizeQ4_1(dst []float32, src []byte) {
	for len(dst) >= 32 {
		x, b := (*[32]float32)(dst), (*[20]byte)(src)
		d, m := f16(b[:]), f16(b[2:])
		var t [16]float32
		for q := range t {
			t[q] = float32(d*float32(q)) + m
		}
		for j, v := range b[4:] {
			x[j], x[j+16] = t[v&15], t[v>>4]
		}
		dst, src = dst[32:], src[20:]
	}
}

// quantizeQ4_1 makes blocks: d = (max-min)/15, m = min, q = min(15,
// int((x-min)/d + 0.5)), with d and m before their f16 rounding.
// Source: ggml-quants.c quantize_row_q4_1_ref.
func quantizeQ4_1(e *workspace, dst []byte, src, qw []float32) {
	if qw != nil {
		weightedQ4_1(e, dst, src, qw)
		return
	}
	for {
		n := e.blocks(Q4_1, dst, src)
		if src, dst = src[32*n:], dst[20*n:]; len(src) == 0 {
			return
		}
		x, b := (*[32]float32)(src), (*[20]byte)(dst)
		lo, hi := bounds(x)
		d := (hi - lo) / 15
		putF16(b[:], d)
		putF16(b[2:], lo)
		id := inverse(d)
		for j := range 16 {
			b[4+j] = code(float32((x[j]-lo)*id)+0.5, 15) | code(float32((x[j+16]-lo)*id)+0.5, 15)<<4
		}
		src, dst = src[32:], dst[20:]
	}
}

// weightedQ4_1 makes the blocks of a row with importance: d, m and the codes are
// those of the affine search. Source: ggml-quants.c quantize_row_q4_1_impl.
func weightedQ4_1(e *workspace, dst []byte, x, qw []float32) {
	search := func(l *lanes) { e.affine(l, 32, weighted4) }
	e.weightedBlocks(x, qw, search, 0, 15, func(n int) {
		for i := range n {
			putF16(dst, e.lanes.scale[i])
			putF16(dst[2:], -e.lanes.least[i])
			packHalves((*[16]byte)(dst[4:]), (*[32]byte)(e.codes[32*i:]))
			dst = dst[20:]
		}
	})
}
