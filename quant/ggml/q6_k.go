package ggml

import "encoding/binary"

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

// quantizeQ6_K makes blocks: each 16 elements are searched for a scale, weighted
// with x² or the importance; d is the scale of the largest magnitude divided by
// -128, scales are multiples of d, and codes are rounded anew with the products.
// Source: ggml-quants.c quantize_row_q6_K_ref and _impl.
func quantizeQ6_K(e *workspace, dst []byte, src, qw []float32) {
	for len(src) >= 256 {
		x, b := (*[256]float32)(src), (*[210]byte)(dst)
		e.searchSixteens(x, row256(qw), symmetric6, nil)
		var peak, size float32
		for _, s := range e.scale {
			if a := abs(s); a > size {
				size, peak = a, s
			}
		}
		if size < tiny {
			clear(b[:])
		} else {
			inv := -128 / peak
			putF16(b[208:], 1/inv)
			d := f16(b[208:])
			for j, s := range e.scale {
				sc := int8(min(127, nearest(float32(inv*s))))
				b[192+j] = byte(sc)
				e.d[j], e.m[j] = d*float32(sc), 0
			}
			e.divide(&e.codes, x, &e.d, &e.m, -32, 31)
			for j, d := range e.d {
				if d == 0 {
					e.recode(x, 16*j, 16*j+16, e.inv[j], 0, -32, 31)
				}
			}
			pack6((*[192]byte)(b[:]), &e.codes)
		}
		src, dst, qw = src[256:], dst[210:], next256(qw)
	}
}

// searchSixteens runs the symmetric search over 16 groups of 16 elements, with
// weights x², with importance qw alone, or qw sqrt(sigma2 + x²).
func (e *workspace) searchSixteens(x, qw *[256]float32, s *symmetric, sigma2 *float32) {
	for h := range 2 {
		e.loadHalf(x, qw, h)
		switch {
		case qw == nil:
			e.weigh(&e.lanes, 16, weighSquare, 0)
		case sigma2 != nil:
			e.weigh(&e.lanes, 16, weighImportance, *sigma2)
		}
		e.symmetric(&e.lanes, 16, s)
		e.keep(8 * h)
	}
}

// loadHalf lays the 8 groups of 16 elements of half h side by side.
func (e *workspace) loadHalf(x, qw *[256]float32, h int) {
	e.spread(&e.lanes.x, x[128*h:128*h+128], 16)
	if qw != nil {
		e.spread(&e.lanes.w, qw[128*h:128*h+128], 16)
	}
}

// pack6 stores 6-bit codes in their 128 bytes of low halves and 64 bytes of top
// bits.
func pack6(b *[192]byte, q *[256]byte) {
	const low, two = 0x0f0f0f0f0f0f0f0f, 0x0303030303030303
	for h := range 2 {
		for l := 0; l < 32; l += 8 {
			var v [4]uint64
			for c := range v {
				v[c] = binary.LittleEndian.Uint64(q[128*h+32*c+l:])
			}
			binary.LittleEndian.PutUint64(b[64*h+l:], v[0]&low|v[2]&low<<4)
			binary.LittleEndian.PutUint64(b[64*h+32+l:], v[1]&low|v[3]&low<<4)
			var top uint64
			for c, v := range v {
				top |= v >> 4 & two << (2 * c)
			}
			binary.LittleEndian.PutUint64(b[128+32*h+l:], top)
		}
	}
}
