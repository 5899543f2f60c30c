package ggml

// dequantizeQ6_K: a block is 210 bytes for 256 elements: 128 bytes of low
// halves, 64 bytes of top 2 bits, 16 int8 scales, f16 d. Per 128 elements: byte
// l of the low halves holds elements l and l+64, byte l+32 holds l+32 and l+96;
// byte l of the top bits holds those of l, l+32, l+64, l+96.
// x = d*scale*(q-32). Source: ggml-common.h block_q6_K.
func dequantizeQ6_K(dst []float32, src []byte) {
	for len(dst) >= 256 {
		b := (*[210]byte)(src)
		d := f16(b[208:])
		for h := range 2 {
			x := (*[128]float32)(dst[h*128:])
			ql, qh := (*[64]byte)(b[h*64:]), (*[32]byte)(b[128+h*32:])
			var s [8]float32
			for i := range s {
				s[i] = d * float32(int8(b[192+h*8+i]))
			}
			for l := range 32 {
				a, c, t := ql[l], ql[l+32], qh[l]
				i := l / 16
				x[l] = s[i] * float32(int(a&15|t<<4&48)-32)
				x[l+32] = s[i+2] * float32(int(c&15|t<<2&48)-32)
				x[l+64] = s[i+4] * float32(int(a>>4|t&48)-32)
				x[l+96] = s[i+6] * float32(int(c>>4|t>>2&48)-32)
			}
		}
		dst, src = dst[256:], src[210:]
	}
}
