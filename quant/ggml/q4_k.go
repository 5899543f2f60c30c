package ggml

import "encoding/binary"

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

// quantizeQ4_K makes blocks; see kBlock.
func quantizeQ4_K(e *workspace, dst []byte, x, qw []float32) {
	for len(x) >= 256 {
		b := (*[144]byte)(dst)
		search := plainQ4K
		if qw != nil {
			search = weighted4
		}
		q := kBlock(e, (*[16]byte)(b[:]), (*[256]float32)(x), row256(qw), search)
		packNibbles((*[128]byte)(b[16:]), q)
		x, dst, qw = x[256:], dst[144:], next256(qw)
	}
}

// row256 is the importance of the 256 columns at hand, nil if there is none.
func row256(qw []float32) *[256]float32 {
	if qw == nil {
		return nil
	}
	return (*[256]float32)(qw)
}

// next256 is the importance of the columns behind them.
func next256(qw []float32) []float32 {
	if qw == nil {
		return nil
	}
	return qw[256:]
}

// kBlock fills the head of a Q4_K or Q5_K block, d, dmin, scales and mins, and
// returns the codes. Each 32 elements are searched for a scale and a min, which
// become 6-bit multiples of d and dmin; the codes are then rounded anew with
// the products. Without importance the weights are sqrt(mean x² of the 32) +
// |x| and d, dmin are the largest scale and min divided by 63; with importance
// the weights are qw sqrt(2 mean x² of the 256 + x²) and fitScales finds d and
// dmin. Source: ggml-quants.c quantize_row_q4_K_ref, _impl and those of Q5_K.
func kBlock(e *workspace, head *[16]byte, x, qw *[256]float32, search *affine) *[256]byte {
	e.load(x, qw, 32)
	if qw == nil {
		e.weigh(&e.lanes, 32, weighMean, 0)
	} else {
		e.weigh(&e.lanes, 32, weighImportance, 2*energy(x[:])/256)
	}
	e.affine(&e.lanes, 32, search)
	e.keep(0)
	scales, mins := e.scale[:8], e.least[:8]
	var ls, lm [8]uint8
	var d, dmin float32
	if qw == nil {
		d, dmin = fit63(&ls, scales), fit63(&lm, mins)
	} else {
		d, dmin = fitScales(ls[:], 63, scales, e.sumW[:8]), fitScales(lm[:], 63, mins, e.sumW[:8])
		if search == weighted5 {
			for j := range 8 {
				ls[j], lm[j] = min(ls[j], 63), min(lm[j], 63)
			}
		}
	}
	putF16(head[:], d)
	putF16(head[2:], dmin)
	d, dmin = f16(head[:]), f16(head[2:])
	packed := (*[12]byte)(head[4:])
	for j := range 4 {
		packed[j], packed[j+4] = ls[j], lm[j]
	}
	for j := 4; j < 8; j++ {
		packed[j+4] = ls[j]&15 | lm[j]<<4
		packed[j-4] |= ls[j] >> 4 << 6
		packed[j] |= lm[j] >> 4 << 6
	}
	for j := range 8 {
		sc, m := scaleMin(packed, j)
		e.d[2*j], e.m[2*j] = d*float32(sc), dmin*float32(m)
		e.d[2*j+1], e.m[2*j+1] = e.d[2*j], e.m[2*j]
	}
	e.divide(&e.codes, x, &e.d, &e.m, 0, int32(search.top))
	for j := range 8 {
		if e.d[2*j] == 0 { // such codes stay as the search left them
			e.recode(x, 32*j, 32*j+32, e.inv[j], e.base[j], 0, int32(search.top))
		}
	}
	return &e.codes
}

// fit63 rounds v to multiples of its maximum divided by 63, and returns that;
// negative values wrap as ggml's bytes do.
func fit63(codes *[8]uint8, v []float32) float32 {
	var peak float32
	for _, s := range v {
		if s > peak {
			peak = s
		}
	}
	var inv float32
	if peak > 0 {
		inv = 63 / peak
	}
	for j, s := range v {
		codes[j] = min(63, uint8(nearest(float32(inv*s))))
	}
	return peak / 63
}

// recode sets the codes of x[from:to] to inv*(x-base), rounded, cut to lo..hi,
// less lo, and to 0 where inv is 0.
func (e *workspace) recode(x *[256]float32, from, to int, inv, base float32, lo, hi int32) {
	for i := from; i < to; i++ {
		e.codes[i] = 0
		if inv != 0 {
			e.codes[i] = byte(max(lo, min(hi, nearest(float32(inv*(x[i]-base))))) - lo)
		}
	}
}

// packNibbles stores 4-bit codes, each 64 elements in 32 bytes, the first 32 in
// the low halves. Higher bits of the codes are left out.
func packNibbles(dst *[128]byte, q *[256]byte) {
	const low = 0x0f0f0f0f0f0f0f0f
	for i := 0; i < 128; i += 8 {
		j := i/32*64 + i%32
		a, b := binary.LittleEndian.Uint64(q[j:]), binary.LittleEndian.Uint64(q[j+32:])
		binary.LittleEndian.PutUint64(dst[i:], a&low|b&low<<4)
	}
}
