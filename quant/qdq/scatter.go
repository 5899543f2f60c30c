package qdq

import "fmt"

// Scatter writes rows as columns: src is [rows, k] row-major, dst is [k, n],
// and row r of src becomes column first+r of dst. Elements have bits bits, 4,
// or a multiple of 8. Four-bit rows of dst and of src end on a byte, and so do
// the columns written: n, k, first and rows are even then. Calls for disjoint
// columns may run concurrently.
func Scatter(dst []byte, n, first int, src []byte, rows, k, bits int) error {
	if rows < 0 || k < 0 || first < 0 || rows > n-first {
		return fmt.Errorf("scatter %d rows as columns from %d on: the matrix has %d", rows, first, n)
	}
	switch {
	case bits == 4 && (n|k|first|rows)%2 != 0:
		return fmt.Errorf("scatter %d rows of %d as columns from %d on of %d: elements of 4 bits go in pairs", rows, k, first, n)
	case bits != 4 && (bits <= 0 || bits%8 != 0):
		return fmt.Errorf("scatter elements of %d bits: choose 4 or a multiple of 8", bits)
	case len(dst) != k*n*bits/8 || len(src) != rows*k*bits/8:
		return fmt.Errorf("scatter %d rows of %d elements of %d bits into %d columns: have %d and %d bytes", rows, k, bits, n, len(src), len(dst))
	}
	if bits == 4 {
		scatterNibbles(dst, n/2, first/2, src, rows, k/2)
		return nil
	}
	size := bits / 8
	// Tiles of columns of dst keep the bytes written in the cache.
	const tile = 64
	for r0 := 0; r0 < rows; r0 += tile {
		r1 := min(r0+tile, rows)
		for c := range k {
			out := dst[(c*n+first+r0)*size:][:(r1-r0)*size]
			if size == 1 {
				for r := r0; r < r1; r++ {
					out[r-r0] = src[r*k+c]
				}
				continue
			}
			for r := r0; r < r1; r++ {
				copy(out[(r-r0)*size:][:size], src[(r*k+c)*size:])
			}
		}
	}
	return nil
}

// scatterNibbles turns pairs of rows by pairs of columns; n, first and width
// are bytes.
func scatterNibbles(dst []byte, n, first int, src []byte, rows, width int) {
	const tile = 64
	for r0 := 0; r0 < rows; r0 += tile {
		r1 := min(r0+tile, rows)
		for c := range width {
			at := first + r0/2
			low := dst[2*c*n+at:][:(r1-r0)/2]
			high := dst[(2*c+1)*n+at:][:(r1-r0)/2]
			for i := range low {
				a, b := src[(r0+2*i)*width+c], src[(r0+2*i+1)*width+c]
				low[i] = a&0x0f | b<<4
				high[i] = a>>4 | b&0xf0
			}
		}
	}
}
