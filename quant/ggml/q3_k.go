package ggml

import "encoding/binary"

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

// quantizeQ3_K makes blocks: each 16 elements get a scale, by refinement of
// their codes, or with importance by the symmetric search with weights
// qw sqrt(2 mean x² of the 256 + x²). The scales become 6-bit multiples of d,
// the one of the largest magnitude divided by -32, or with importance what the
// same search finds for them. Codes are then rounded anew.
// Source: ggml-quants.c quantize_row_q3_K_ref and _impl.
func quantizeQ3_K(e *workspace, dst []byte, src, qw []float32) {
	for len(src) >= 256 {
		x, b := (*[256]float32)(src), (*[110]byte)(dst)
		var found [256]byte // what the search leaves, without importance
		var sc [16]byte
		var d float32
		if qw == nil {
			for h := range 2 {
				e.loadHalf(x, nil, h)
				e.weigh(&e.lanes, 16, weighSquare, 0)
				e.refine(&e.lanes)
				e.keep(8 * h)
				for i := range width {
					for j := range 16 {
						found[128*h+16*i+j] = byte(int(e.lanes.q[j][i]) + 4)
					}
				}
			}
			d = fit32(&sc, &e.scale)
		} else {
			sigma2 := 2 * energy(x[:]) / 256
			e.searchSixteens(x, row256(qw), symmetric3, &sigma2)
			d = e.fitSigned(&sc)
		}
		putF16(b[108:], d)
		d = f16(b[108:])
		clear(b[96:108])
		for j, s := range sc {
			b[96+j%8] |= s & 15 << (j / 8 * 4)
			b[104+j%4] |= s >> 4 << (j / 4 * 2)
			e.d[j], e.m[j] = d*float32(int(s)-32), 0
		}
		e.divide(&e.codes, x, &e.d, &e.m, -4, 3)
		for j, d := range e.d {
			switch {
			case d != 0:
			case qw == nil:
				copy(e.codes[16*j:16*j+16], found[16*j:])
			default:
				e.recode(x, 16*j, 16*j+16, e.inv[j], 0, -4, 3)
			}
		}
		packPairs((*[64]byte)(b[32:]), &e.codes)
		for l := 0; l < 32; l += 8 {
			var high uint64
			for c := range 8 {
				high |= binary.LittleEndian.Uint64(e.codes[32*c+l:]) >> 2 & 0x0101010101010101 << c
			}
			binary.LittleEndian.PutUint64(b[l:], high)
		}
		src, dst, qw = src[256:], dst[110:], next256(qw)
	}
}

// fit32 rounds scales to multiples, -32 to 31, of the one of the largest
// magnitude divided by -32, which it returns; codes are 32 more.
func fit32(codes *[16]byte, scales *[16]float32) float32 {
	var peak, size float32
	for _, s := range scales {
		if a := abs(s); a > size {
			size, peak = a, s
		}
	}
	if peak == 0 {
		return 0 // codes of 0 stand for -32, times a d of 0
	}
	inv := -32 / peak
	for j, s := range scales {
		codes[j] = byte(max(-32, min(31, int8(nearest(float32(inv*s))))) + 32)
	}
	return 1 / inv
}

// fitSigned is the symmetric search for d and the codes of the 16 scales, with
// the sums of weights as weights.
func (e *workspace) fitSigned(codes *[16]byte) float32 {
	l := &e.lanes
	zero := true
	for j, s := range e.scale {
		l.x[j][0], l.w[j][0] = s, e.sumW[j]
		zero = zero && !(abs(s) >= tiny)
	}
	symmetricLane(l, 0, 16, symmetric6)
	for j, s := range e.scale {
		codes[j] = 0
		if !zero { // inv may be 0 too, of a scale that is infinite
			codes[j] = byte(max(-32, min(31, nearest(float32(l.inv[0]*s)))) + 32)
		}
	}
	return l.scale[0]
}
