package ggml

import "encoding/binary"

// dequantizeQ5_K: a block is 176 bytes for 256 elements: as Q4_K, with 32 bytes
// of fifth bits in front of the codes: bit j of byte l for element 32j+l.
// x = d*scale*q - dmin*min. Source: ggml-common.h block_q5_K.
func dequantizeQ5_K(dst []float32, src []byte) {
	for len(dst) >= 256 {
		b := (*[176]byte)(src)
		d, dmin := f16(b[:]), f16(b[2:])
		high := (*[32]byte)(b[16:])
		for c := range 4 {
			var lo, hi [32]float32
			table5(&lo, d, dmin, (*[12]byte)(b[4:]), 2*c)
			table5(&hi, d, dmin, (*[12]byte)(b[4:]), 2*c+1)
			x := (*[64]float32)(dst[c*64:])
			for l, v := range (*[32]byte)(b[48+c*32:]) {
				h := high[l] >> (2 * c)
				x[l], x[l+32] = lo[v&15|h&1<<4], hi[v>>4|h&2<<3]
			}
		}
		dst, src = dst[256:], src[176:]
	}
}

// table5 fills the 32 values of the j-th 32 elements.
func table5(t *[32]float32, d, dmin float32, scales *[12]byte, j int) {
	sc, m := scaleMin(scales, j)
	dl, ml := d*float32(sc), dmin*float32(m)
	for q := range t {
		t[q] = float32(dl*float32(q)) - ml
	}
}

// quantizeQ5_K makes blocks; see kBlock.
func quantizeQ5_K(e *workspace, dst []byte, x, qw []float32) {
	for len(x) >= 256 {
		b := (*[176]byte)(dst)
		search := plainQ5K
		if qw != nil {
			search = weighted5
		}
		q := kBlock(e, (*[16]byte)(b[:]), (*[256]float32)(x), row256(qw), search)
		packNibbles((*[128]byte)(b[48:]), q)
		for l := 0; l < 32; l += 8 {
			var high uint64
			for j := range 8 {
				high |= binary.LittleEndian.Uint64(q[32*j+l:]) >> 4 & 0x0101010101010101 << j
			}
			binary.LittleEndian.PutUint64(b[16+l:], high)
		}
		x, dst, qw = x[256:], dst[176:], next256(qw)
	}
}
