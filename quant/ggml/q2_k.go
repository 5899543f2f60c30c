package ggml

// dequantizeQ2_K: a block is 84 bytes for 256 elements: 16 bytes of scale (low
// half) and min (high half) for each 16 elements, 64 bytes of 2-bit codes, f16
// d, f16 dmin. Each 128 elements take 32 bytes: bits 2c of byte l hold element
// 32c+l. x = d*scale*q - dmin*min. Source: ggml-common.h block_q2_K.
func dequantizeQ2_K(dst []float32, src []byte) {
	for len(dst) >= 256 {
		x, b := (*[256]float32)(dst), (*[84]byte)(src)
		d, dmin := f16(b[80:]), f16(b[82:])
		for g := range 16 { // 16 elements with one scale
			dl, ml := d*float32(b[g]&15), dmin*float32(b[g]>>4)
			var t [4]float32
			for q := range t {
				t[q] = float32(dl*float32(q)) - ml
			}
			codes := (*[16]byte)(b[16+g/8*32+g%2*16:])
			shift := g % 8 / 2 * 2
			out := (*[16]float32)(x[g*16:])
			for l, v := range codes {
				out[l] = t[v>>shift&3]
			}
		}
		dst, src = dst[256:], src[84:]
	}
}
