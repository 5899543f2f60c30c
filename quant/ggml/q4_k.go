package ggml

// scaleMin unpacks the 6-bit scale and min of the j-th 32 elements of Q4_K and
// Q5_K. Source: ggml-quants.c get_scale_min_k4.
func scaleMin(b *[12]byte, j int) (sc, m uint8) {
	if j < 4 {
		return b[j] & 63, b[j+4] & 63
	}
	return b[j+4]&15 | b[j-4]>>6<<4, b[j+4]>>4 | b[j]>>6<<4
}

// dequantizeQ4_K: a block is 144 bytes for 256 elements: f16 d, f16 dmin, 12
// bytes of scales and mins, 128 bytes of codes; each 64 elements take 32 bytes,
// the first 32 in the low halves. x = d*scale*q - dmin*min.
// Source: ggml-common.h block_q4_K.
func dequantizeQ4_K(dst []float32, src []byte) {
	for len(dst) >= 256 {
		b := (*[144]byte)(src)
		d, dmin := f16(b[:]), f16(b[2:])
		for c := range 4 {
			var lo, hi [16]float32
			table4(&lo, d, dmin, (*[12]byte)(b[4:]), 2*c)
			table4(&hi, d, dmin, (*[12]byte)(b[4:]), 2*c+1)
			x := (*[64]float32)(dst[c*64:])
			for l, v := range (*[32]byte)(b[16+c*32:]) {
				x[l], x[l+32] = lo[v&15], hi[v>>4]
			}
		}
		dst, src = dst[256:], src[144:]
	}
}

// table4 fills the 16 values of the j-th 32 elements.
func table4(t *[16]float32, d, dmin float32, scales *[12]byte, j int) {
	sc, m := scaleMin(scales, j)
	dl, ml := d*float32(sc), dmin*float32(m)
	for q := range t {
		t[q] = float32(dl*float32(q)) - ml
	}
}
