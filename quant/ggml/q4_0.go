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
