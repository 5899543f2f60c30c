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
