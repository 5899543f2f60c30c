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
