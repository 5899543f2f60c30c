package ggml

import "encoding/binary"

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

// quantizeQ2_K makes blocks: each 16 elements are searched for a scale and a
// min, which become 4-bit multiples of d and dmin; codes are then rounded anew.
// Without importance the search minimises Σ |x| |error| and d, dmin are the
// largest divided by 15; with importance the weights are qw sqrt(mean x² of the
// 256 + x²) and fitScales finds d and dmin.
// Source: ggml-quants.c quantize_row_q2_K_ref and _impl.
func quantizeQ2_K(e *workspace, dst []byte, src, qw []float32) {
	for len(src) >= 256 {
		x, b := (*[256]float32)(src), (*[84]byte)(dst)
		var sigma2 float32
		if qw != nil {
			sigma2 = energy(x[:]) / 256
		}
		for h := range 2 {
			e.loadHalf(x, row256(qw), h)
			if qw == nil {
				e.weigh(&e.lanes, 16, weighAbs, 0)
				e.affine(&e.lanes, 16, plainQ2K)
			} else {
				e.weigh(&e.lanes, 16, weighImportance, sigma2)
				e.affine(&e.lanes, 16, weighted2)
			}
			e.keep(8 * h)
		}
		var d, dmin float32
		if qw == nil {
			d, dmin = fit15(b, &e.scale, 0), fit15(b, &e.least, 4)
		} else {
			var ls, lm [16]uint8
			d, dmin = fitScales(ls[:], 15, e.scale[:], e.sumW[:]), fitScales(lm[:], 15, e.least[:], e.sumW[:])
			for j := range 16 {
				b[j] = ls[j] | lm[j]<<4
			}
		}
		putF16(b[80:], d)
		putF16(b[82:], dmin)
		d, dmin = f16(b[80:]), f16(b[82:])
		for j := range 16 {
			e.d[j], e.m[j] = d*float32(b[j]&15), dmin*float32(b[j]>>4)
		}
		e.divide(&e.codes, x, &e.d, &e.m, 0, 3)
		for j, d := range e.d {
			if d == 0 {
				e.recode(x, 16*j, 16*j+16, e.inv[j], e.base[j], 0, 3)
			}
		}
		packPairs((*[64]byte)(b[16:]), &e.codes)
		src, dst, qw = src[256:], dst[84:], next256(qw)
	}
}

// fit15 rounds v to multiples of its maximum divided by 15, and returns that.
// The multiples go to the first 16 bytes of b, from bit shift up, and are first
// to be written there where shift is 0.
func fit15(b *[84]byte, v *[16]float32, shift int) float32 {
	var peak float32
	for _, s := range v {
		if s > peak {
			peak = s
		}
	}
	if shift == 0 {
		clear(b[:16])
	}
	if !(peak > 0) {
		return 0
	}
	inv := 15 / peak
	for j, s := range v {
		b[j] |= byte(nearest(float32(inv*s)) << shift)
	}
	return peak / 15
}

// packPairs stores 2-bit codes, each 128 elements in 32 bytes: bits 2c of byte l
// hold element 32c+l. Higher bits of the codes are left out.
func packPairs(dst *[64]byte, q *[256]byte) {
	for i := 0; i < 64; i += 8 {
		var v uint64
		for c := range 4 {
			v |= binary.LittleEndian.Uint64(q[i/32*128+32*c+i%32:]) & 0x0303030303030303 << (2 * c)
		}
		binary.LittleEndian.PutUint64(dst[i:], v)
	}
}
