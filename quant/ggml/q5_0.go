package ggml

import "encoding/binary"

// dequantizeQ5_0: a block is 22 bytes for 32 elements: f16 d, u32 of fifth bits
// (bit j for element j), then 16 bytes of halves as in Q4_0. x = d*(q-16).
// Source: ggml-common.h block_q5_0.
func dequantizeQ5_0(dst []float32, src []byte) {
	for len(dst) >= 32 {
		x, b := (*[32]float32)(dst), (*[22]byte)(src)
		d := f16(b[:])
		var t [32]float32
		for q := range t {
			t[q] = d * float32(q-16)
		}
		fill5(x, &t, binary.LittleEndian.Uint32(b[2:]), (*[16]byte)(b[6:]))
		dst, src = dst[32:], src[22:]
	}
}

// fill5 looks up 32 five-bit codes whose fifth bits are in high.
func fill5(x, t *[32]float32, high uint32, low *[16]byte) {
	for j, v := range low {
		x[j] = t[uint32(v&15)|high>>j<<4&16]
		x[j+16] = t[uint32(v>>4)|high>>(j+12)&16]
	}
}

// quantizeQ5_0 makes blocks: as Q4_0 with d = m/-16, q = min(31,
// int(x/d + 16.5)). Source: ggml-quants.c quantize_row_q5_0_ref.
func quantizeQ5_0(e *workspace, dst []byte, src, qw []float32) {
	if qw != nil {
		weightedQ5_0(e, dst, src, qw)
		return
	}
	for {
		n := e.blocks(Q5_0, dst, src)
		if src, dst = src[32*n:], dst[22*n:]; len(src) == 0 {
			return
		}
		x, b := (*[32]float32)(src), (*[22]byte)(dst)
		d := largest(x) / -16
		putF16(b[:], d)
		id := inverse(d)
		var q [32]byte
		for j, v := range x {
			q[j] = code(float32(v*id)+16.5, 31)
		}
		pack5(b[2:6], b[6:], &q)
		src, dst = src[32:], dst[22:]
	}
}

// pack5 stores 32 five-bit codes: fifth bits in high, the rest in halves.
func pack5(high, low []byte, q *[32]byte) {
	var bits uint32
	for j, v := range q {
		bits |= uint32(v>>4) << j
	}
	binary.LittleEndian.PutUint32(high, bits)
	for j := range 16 {
		low[j] = q[j]&15 | q[j+16]<<4
	}
}

// weightedQ5_0 makes the blocks of a row with importance, as weightedQ4_0.
// Source: ggml-quants.c quantize_row_q5_0_impl.
func weightedQ5_0(e *workspace, dst []byte, x, qw []float32) {
	search := func(l *lanes) { e.symmetric(l, 32, symmetric5) }
	e.weightedBlocks(x, qw, search, -16, 15, func(n int) {
		for i := range n {
			putF16(dst, e.lanes.scale[i])
			pack5(dst[2:6], dst[6:], (*[32]byte)(e.codes[32*i:]))
			dst = dst[22:]
		}
	})
}
