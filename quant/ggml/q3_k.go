package ggml

// dequantizeQ3_K: a block is 110 bytes for 256 elements: 32 bytes of third
// bits (bit c of byte l for element 32c+l; a clear bit means minus 4), 64 bytes
// of 2-bit codes laid out as in Q2_K, 12 bytes of 6-bit scales, f16 d.
// x = d*(scale-32)*q. Source: ggml-common.h block_q3_K.
func dequantizeQ3_K(dst []float32, src []byte) {
	for len(dst) >= 256 {
		x, b := (*[256]float32)(dst), (*[110]byte)(src)
		d := f16(b[108:])
		for g := range 16 {
			// Scale g: its low 4 bits are half a byte of the first 8, its top
			// 2 bits sit in the last 4.
			sc := b[96+g%8]>>(g/8*4)&15 | b[104+g%4]>>(g/4*2)&3<<4
			dl := d * float32(int(sc)-32)
			var t [8]float32
			for q := range t {
				t[q] = dl * float32(q-4)
			}
			codes := (*[16]byte)(b[32+g/8*32+g%2*16:])
			high := (*[16]byte)(b[g%2*16:])
			shift, bit := g%8/2*2, g/2
			out := (*[16]float32)(x[g*16:])
			for l, v := range codes {
				out[l] = t[v>>shift&3|high[l]>>bit&1<<2]
			}
		}
		dst, src = dst[256:], src[110:]
	}
}
