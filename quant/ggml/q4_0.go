package ggml

// dequantizeQ4_0: a block is 18 bytes for 32 elements: f16 d, then 16 bytes
// with element j in the low and j+16 in the high half of byte j.
// x = d*(q-8). Source: ggml-common.h block_q4_0.
func dequantizeQ4_0(dst []float32, src []byte) {
	for len(dst) >= 32 {
		x, b := (*[32]float32)(dst), (*[18]byte)(src)
		d := f16(b[:])
		var t [16]float32
		for q := range t {
			t[q] = d * float32(q-8)
		}
		for j, v := range b[2:] {
			x[j], x[j+16] = t[v&15], t[v>>4]
		}
		dst, src = dst[32:], src[18:]
	}
}

// quantizeQ4_0 makes blocks: m is the first x of the largest |x|, d = m/-8,
// q = min(15, int(x/d + 8.5)), with d before its f16 rounding.
// Source: ggml-quants.c quantize_row_q4_0_ref.
func quantizeQ4_0(e *workspace, dst []byte, src, qw []float32) {
	if qw != nil {
		weightedQ4_0(e, dst, src, qw)
		return
	}
	for {
		n := e.blocks(Q4_0, dst, src)
		if src, dst = src[32*n:], dst[18*n:]; len(src) == 0 {
			return
		}
		x, b := (*[32]float32)(src), (*[18]byte)(dst)
		d := largest(x) / -8
		putF16(b[:], d)
		id := inverse(d)
		for j := range 16 {
			b[2+j] = code(float32(x[j]*id)+8.5, 15) | code(float32(x[j+16]*id)+8.5, 15)<<4
		}
		src, dst = src[32:], dst[18:]
	}
}

// weightedQ4_0 makes the blocks of a row with importance: d and the codes are
// those of the symmetric search. Source: ggml-quants.c quantize_row_q4_0_impl.
func weightedQ4_0(e *workspace, dst []byte, x, qw []float32) {
	search := func(l *lanes) { e.symmetric(l, 32, symmetric4) }
	e.weightedBlocks(x, qw, search, -8, 7, func(n int) {
		for i := range n {
			putF16(dst, e.lanes.scale[i])
			packHalves((*[16]byte)(dst[2:]), (*[32]byte)(e.codes[32*i:]))
			dst = dst[18:]
		}
	})
}

// packHalves stores 4-bit codes: element j in the low and j+16 in the high half
// of byte j.
func packHalves(dst *[16]byte, q *[32]byte) {
	for j := range dst {
		dst[j] = q[j] | q[j+16]<<4
	}
}
