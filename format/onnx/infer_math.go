package onnx

// sameShape: output 0 has the shape of input 0.
func sameShape(c *call) { c.setShape(0, c.in[0].shape) }

func identity(c *call) {
	c.out[0].shape, c.out[0].vals = c.in[0].shape, c.in[0].vals
}

func cast(c *call) {
	to := ElemType(c.intAttr("to", 0))
	if !to.Valid() {
		c.fail("", "attribute to: unknown element type %d", to)
		return
	}
	c.out[0].elem, c.out[0].shape = to, c.in[0].shape
	if to == I64 || to == I32 {
		c.out[0].vals = c.in[0].vals
	}
}

func softmax(c *call) {
	sameShape(c)
	if s := c.in[0].shape; s.Known() {
		c.axis(c.intAttr("axis", -1), len(s))
	}
}

// clip: the bounds are scalars.
func clip(c *call) {
	sameShape(c)
	c.rank(1, 0)
	c.rank(2, 0)
}

func cumSum(c *call) {
	sameShape(c)
	c.rank(1, 0, 1)
}

// trilu works on matrices and stacks of them.
func trilu(c *call) {
	sameShape(c)
	if s := c.in[0].shape; s.Known() && len(s) < 2 {
		c.failIn(0, "rank %d, want 2 or more", len(s))
	}
}

// elementwise: all inputs broadcast to output 0.
func elementwise(c *call) {
	s := c.in[0].shape
	for i := 1; i < len(c.node.Inputs); i++ {
		if !c.has(i) {
			continue
		}
		var ok bool
		if s, ok = broadcastShapes(s, c.in[i].shape); !ok {
			c.failIn(i, "does not broadcast with %v", c.in[0].shape)
			return
		}
	}
	c.setShape(0, s)
}

// arithmetic is elementwise with one or two integers followed through.
func arithmetic(c *call) {
	elementwise(c)
	a, b := c.in[0].vals, c.in[1].vals
	if a == nil || b == nil {
		return
	}
	if len(a) != len(b) {
		if len(a) == 1 {
			a = repeat(a[0], len(b))
		} else if len(b) == 1 {
			b = repeat(b[0], len(a))
		} else {
			return
		}
	}
	vals := make([]elemVal, len(a))
	for i := range vals {
		vals[i] = arith(c.node.Op, a[i], b[i])
	}
	c.out[0].vals = vals
}

func repeat(v elemVal, n int) []elemVal {
	vs := make([]elemVal, n)
	for i := range vs {
		vs[i] = v
	}
	return vs
}

func arith(op string, a, b elemVal) elemVal {
	unknown := elemVal{dim: Unknown}
	if !a.known || !b.known {
		// A named extent survives only x·1 and x/1 and x±0.
		neutral := number(0)
		if op == "Mul" || op == "Div" {
			neutral = number(1)
		}
		switch {
		case b == neutral:
			return a
		case a == neutral && (op == "Add" || op == "Mul"):
			return b
		}
		return unknown
	}
	switch op {
	case "Add":
		return number(a.n + b.n)
	case "Sub":
		return number(a.n - b.n)
	case "Mul":
		return number(a.n * b.n)
	}
	if b.n == 0 {
		return unknown
	}
	return number(a.n / b.n) // Div truncates for integers
}

// matMul: NumPy's matmul, as MatMul and its quantized kin define it.
func matMul(c *call) { matMulShapes(c, c.in[0].shape, c.in[1].shape) }

func matMulShapes(c *call, a, b Shape) {
	if a == nil || b == nil {
		return
	}
	if len(a) == 0 || len(b) == 0 {
		c.fail("", "operands %v and %v: a scalar cannot be multiplied as a matrix", a, b)
		return
	}
	vecA, vecB := len(a) == 1, len(b) == 1
	if vecA {
		a = Shape{Fixed(1), a[0]}
	}
	if vecB {
		b = Shape{b[0], Fixed(1)}
	}
	inner := len(a) - 1
	if _, ok := merge(a[inner], b[len(b)-2]); !ok {
		c.fail(c.node.Input(1), "operands %v and %v: inner extents %v and %v differ", c.in[0].shape, c.in[1].shape, a[inner], b[len(b)-2])
		return
	}
	batch, ok := broadcastShapes(a[:inner-1], b[:len(b)-2])
	if !ok {
		c.fail(c.node.Input(1), "operands %v and %v: batch extents do not broadcast", c.in[0].shape, c.in[1].shape)
		return
	}
	s := append(Shape{}, batch...)
	if !vecA {
		s = append(s, a[inner-1])
	}
	if !vecB {
		s = append(s, b[len(b)-1])
	}
	c.setShape(0, s)
}

// fusedMatMul (com.microsoft): operands transposed in their last two dims.
// The transBatch forms are not written by this module and get no shape.
func fusedMatMul(c *call) {
	if c.intAttr("transBatchA", 0) != 0 || c.intAttr("transBatchB", 0) != 0 {
		return
	}
	swap := func(s Shape, on int64) Shape {
		if on == 0 || len(s) < 2 {
			return s
		}
		s = append(Shape{}, s...)
		n := len(s)
		s[n-1], s[n-2] = s[n-2], s[n-1]
		return s
	}
	matMulShapes(c, swap(c.in[0].shape, c.intAttr("transA", 0)), swap(c.in[1].shape, c.intAttr("transB", 0)))
}

// gemm: Y = alpha·A·B + beta·C with optional transposes, C broadcast to Y.
func gemm(c *call) {
	if !c.rank(0, 2) || !c.rank(1, 2) {
		return
	}
	at := func(i int, trans string, k int) Dim {
		if c.intAttr(trans, 0) != 0 {
			k = 1 - k
		}
		return c.dim(i, k)
	}
	if _, ok := merge(at(0, "transA", 1), at(1, "transB", 0)); !ok {
		c.failIn(1, "inner extent %v, but A %v has %v", at(1, "transB", 0), c.in[0].shape, at(0, "transA", 1))
	}
	y := Shape{at(0, "transA", 0), at(1, "transB", 1)}
	if c.has(2) {
		if _, ok := broadcastShapes(y, c.in[2].shape); !ok || len(c.in[2].shape) > 2 {
			c.failIn(2, "does not broadcast to %v", y)
		}
	}
	c.setShape(0, y)
}

// axesOf reads the axes of Reduce, Squeeze and Unsqueeze from input 1; known
// is false where they are given but not constant.
func axesOf(c *call, i int) (axes []int64, known bool) {
	if !c.has(i) {
		return nil, true
	}
	vals := c.in[i].vals
	if vals == nil {
		return nil, false
	}
	for _, v := range vals {
		if !v.known {
			return nil, false
		}
		axes = append(axes, v.n)
	}
	return axes, true
}

func reduce(c *call) {
	s := c.in[0].shape
	axes, known := axesOf(c, 1)
	keep := c.intAttr("keepdims", 1) != 0
	if !s.Known() {
		return
	}
	if !known {
		if keep {
			c.setShape(0, unknownShape(len(s)))
		}
		return
	}
	if len(axes) == 0 && c.intAttr("noop_with_empty_axes", 0) != 0 {
		c.setShape(0, s)
		return
	}
	gone := make([]bool, len(s))
	for _, a := range axes {
		k, ok := c.axis(a, len(s))
		if !ok {
			return
		}
		gone[k] = true
	}
	out := Shape{}
	for k, d := range s {
		switch {
		case !gone[k] && len(axes) > 0:
			out = append(out, d)
		case keep:
			out = append(out, Fixed(1))
		}
	}
	c.setShape(0, out)
}

func unknownShape(rank int) Shape {
	s := make(Shape, rank)
	for k := range s {
		s[k] = Unknown
	}
	return s
}

func argMax(c *call) {
	c.setElem(0, I64)
	s := c.in[0].shape
	if !s.Known() {
		return
	}
	k, ok := c.axis(c.intAttr("axis", 0), len(s))
	if !ok {
		return
	}
	out := append(Shape{}, s[:k]...)
	if c.intAttr("keepdims", 1) != 0 {
		out = append(out, Fixed(1))
	}
	c.setShape(0, append(out, s[k+1:]...))
}

func topK(c *call) {
	s := c.in[0].shape
	if !s.Known() {
		return
	}
	k, ok := c.axis(c.intAttr("axis", -1), len(s))
	if !ok {
		return
	}
	out := append(Shape{}, s...)
	out[k] = Unknown
	if v := c.in[1].vals; len(v) == 1 {
		out[k] = v[0].extent()
	}
	c.setShape(0, out)
	c.setShape(1, out)
}

// layerNorm: scale and bias broadcast to the normalized dims; the optional
// outputs have 1 in their place.
func layerNorm(c *call) {
	if normShapes(c, -1) {
		c.setShape(1, statShape(c))
		c.setShape(2, statShape(c))
	}
}

func rmsNorm(c *call) { normShapes(c, -1) }

// simplifiedNorm is ONNX Runtime's RMS norm in the default domain, inputs X,
// scale. Its second output is the inverse deviation.
func simplifiedNorm(c *call) {
	c.setElem(1, F32)
	if normShapes(c, -1) {
		c.setShape(1, statShape(c))
	}
}

// normShapes gives output 0 the shape of X and checks that scale and bias fit
// X[axis:]; ok reports a known rank and a valid axis.
func normShapes(c *call, defAxis int64) (ok bool) {
	x := c.in[0].shape
	c.setShape(0, x)
	if !x.Known() {
		return false
	}
	k, ok := c.axis(c.intAttr("axis", defAxis), len(x))
	if !ok {
		return false
	}
	for i := 1; i < len(c.node.Inputs); i++ {
		s := c.in[i].shape
		if !c.has(i) || !s.Known() {
			continue
		}
		if _, fits := broadcastShapes(x[k:], s); !fits || len(s) > len(x)-k {
			c.failIn(i, "does not fit the normalized extents %v of X %v", x[k:], x)
		}
	}
	return true
}

func statShape(c *call) Shape {
	x := c.in[0].shape
	k := c.intAttr("axis", -1)
	if k < 0 {
		k += int64(len(x))
	}
	s := append(Shape{}, x[:k]...)
	for range x[k:] {
		s = append(s, Fixed(1))
	}
	return s
}

// skipNorm: SkipLayerNormalization and its simplified form (com.microsoft):
// norm(input + skip + bias); output 3 is the sum. mean and inv_std_var get no
// shape: CPU kernels do not fill them.
func skipNorm(c *call) {
	x := c.in[0].shape
	c.rank(0, 2, 3)
	if c.rank(1, 2, 3) && x.Known() {
		if s, ok := broadcastShapes(x, c.in[1].shape); !ok || len(s) != len(x) {
			c.failIn(1, "does not fit input %v", x)
		}
	}
	for i := 2; i < len(c.node.Inputs); i++ {
		c.want(i, "(the last extent of input)", c.dim(0, -1))
	}
	c.setShape(0, x)
	c.setShape(3, x)
}

func biasGelu(c *call) {
	sameShape(c)
	c.want(1, "(the last extent of the input)", c.dim(0, -1))
}
