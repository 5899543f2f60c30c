package ggml

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
