package onnx

import "slices"

// matMulNBits (com.microsoft; ONNX Runtime 1.32, matmul_nbits.cc): A [.., K],
// B uint8 [N, blocks, block_size·bits/8] with blocks = ceil(K/block_size),
// scales [N, blocks] (or flat), zero_points uint8 [N, ceil(blocks·bits/8)] or
// of A's type shaped like scales, bias [N].
func matMulNBits(c *call) {
	n, k := c.intAttr("N", 0), c.intAttr("K", 0)
	bits, block := c.intAttr("bits", 4), c.intAttr("block_size", 0)
	const most = 1 << 31 // keeps the products below within an int64
	switch {
	case n <= 0 || k <= 0 || n > most || k > most:
		c.fail("", "N = %d and K = %d must be positive", n, k)
		return
	case bits < 2 || bits > 8:
		c.fail("", "bits = %d, want 2 to 8", bits)
		return
	case block < 16 || block&(block-1) != 0 || block > most:
		c.fail("", "block_size = %d, want a power of two of 16 or more", block)
		return
	}
	a := c.in[0].shape
	if a.Known() {
		if len(a) == 0 {
			c.failIn(0, "rank 0, want 1 or more")
			return
		}
		if _, ok := merge(a[len(a)-1], Fixed(k)); !ok {
			c.failIn(0, "last extent %v, but K is %d", a[len(a)-1], k)
			return
		}
		c.setShape(0, append(slices.Clone(a[:len(a)-1]), Fixed(n)))
	}
	blocks := (k + block - 1) / block
	c.want(1, "for N, K, bits and block_size", Fixed(n), Fixed(blocks), Fixed(block*bits/8))
	packed := (blocks*bits + 7) / 8
	wantEither(c, 2, [][]int64{{n, blocks}, {n * blocks}, {n, blocks, 1}})
	if c.has(3) {
		if c.in[3].elem == U8 {
			wantEither(c, 3, [][]int64{{n, packed}, {n * packed}})
		} else {
			wantEither(c, 3, [][]int64{{n, blocks}, {n * blocks}, {n, blocks, 1}})
		}
	}
	c.want(5, "for N", Fixed(n))
}

// wantEither checks an input against several shapes; the message names the first.
func wantEither(c *call, i int, shapes [][]int64) {
	if !c.has(i) || !c.in[i].shape.Known() {
		return
	}
	for _, s := range shapes {
		if agrees(c.in[i].shape, FixedShape(s...)) {
			return
		}
	}
	c.want(i, "for N, K, bits and block_size", FixedShape(shapes[0]...)...)
}

// gatherBlockQuantized (com.microsoft): data is packed along quantize_axis,
// which must be the last for uint8 data; output = dequantized rows.
func gatherBlockQuantized(c *call) {
	data, idx := c.in[0].shape, c.in[1].shape
	bits, block := c.intAttr("bits", 4), c.intAttr("block_size", 128)
	if block < 16 || block&(block-1) != 0 {
		c.fail("", "block_size = %d, want a power of two of 16 or more", block)
		return
	}
	if !data.Known() {
		return
	}
	ga, ok := c.axis(c.intAttr("gather_axis", 0), len(data))
	if !ok {
		return
	}
	qa, ok := c.axis(c.intAttr("quantize_axis", 1), len(data))
	if !ok {
		return
	}
	full := slices.Clone(data)
	perByte := int64(1)
	if c.in[0].elem == U8 {
		if bits != 2 && bits != 4 && bits != 8 {
			c.fail("", "bits = %d, want 2, 4 or 8 for UINT8 data", bits)
			return
		}
		if ga != 0 || qa != len(data)-1 {
			c.fail("", "UINT8 data wants gather_axis 0 and quantize_axis last, got %d and %d", ga, qa)
			return
		}
		perByte = 8 / bits
		full[qa] = mulDims(full[qa], Fixed(perByte))
	} else if ga == qa {
		c.fail("", "gather_axis and quantize_axis are both %d", ga)
		return
	}
	scales := slices.Clone(full)
	if full[qa].IsFixed() {
		scales[qa] = Fixed((full[qa].Size + block - 1) / block)
	} else {
		scales[qa] = Unknown
	}
	c.want(2, "for data and block_size", scales...)
	zeros := slices.Clone(scales)
	if zeros[qa].IsFixed() {
		zeros[qa] = Fixed((zeros[qa].Size + perByte - 1) / perByte)
	}
	c.want(3, "for data and block_size", zeros...)
	if idx.Known() {
		out := append(slices.Clone(full[:ga]), idx...)
		c.setShape(0, append(out, full[ga+1:]...))
	}
}

// quantizeLinear: the output type is that of the zero point, else the
// attribute output_dtype, else uint8.
func quantizeLinear(c *call) {
	elem := ElemType(c.intAttr("output_dtype", 0))
	switch {
	case c.has(2) && elem != Undefined && c.in[2].elem != Undefined && c.in[2].elem != elem:
		c.failIn(2, "has type %v, but output_dtype is %v", c.in[2].elem, elem)
	case c.has(2):
		elem = c.in[2].elem
	case elem == Undefined:
		elem = U8
	}
	c.setElem(0, elem)
	sameShape(c)
	checkScale(c)
}

func dequantizeLinear(c *call) {
	c.setElem(0, c.in[1].elem)
	if t := ElemType(c.intAttr("output_dtype", 0)); t != Undefined {
		c.setElem(0, t)
	}
	sameShape(c)
	checkScale(c)
}

// checkScale checks y_scale of Q and DQ against x: a scalar (or one element),
// a vector along axis, or blocks of block_size along axis; the zero point has
// the scale's shape.
func checkScale(c *call) {
	x, s, block := c.in[0].shape, c.in[1].shape, c.intAttr("block_size", 0)
	if z := c.in[2].shape; c.has(2) && z.Known() && s.Known() && !agrees(z, s) {
		c.failIn(2, "want the shape of the scale, %v", s)
	}
	if block < 0 {
		c.fail("", "block_size = %d is negative", block)
		return
	}
	if !x.Known() || !s.Known() || len(s) == 0 || block == 0 && len(s) == 1 && s[0].Size == 1 {
		return
	}
	axis, ok := c.axis(c.intAttr("axis", 1), len(x))
	if !ok {
		return
	}
	if block == 0 {
		c.want(1, "(one per entry of the axis)", x[axis])
		return
	}
	want := slices.Clone(x)
	want[axis] = Unknown
	if x[axis].IsFixed() {
		want[axis] = Fixed((x[axis].Size + block - 1) / block)
	}
	c.want(1, "(one per block)", want...)
}

func dynamicQuantizeLinear(c *call) {
	sameShape(c)
	c.setShape(1, Shape{})
	c.setShape(2, Shape{})
}
