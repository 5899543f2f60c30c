package onnx

import (
	"math"
	"slices"
)

func concat(c *call) {
	concatVals(c)
	var out Shape
	axis := -1
	sum, known := Fixed(0), true
	for i := range c.node.Inputs {
		s := c.in[i].shape
		if !s.Known() {
			known = false
			continue
		}
		if out == nil {
			k, ok := c.axis(c.intAttr("axis", 0), len(s))
			if !ok {
				return
			}
			axis, out = k, slices.Clone(s)
		} else if len(s) != len(out) {
			c.failIn(i, "rank %d, but the inputs before have rank %d", len(s), len(out))
			return
		}
		for k := range s {
			if k == axis {
				sum = addDims(sum, s[k])
				continue
			}
			d, ok := merge(out[k], s[k])
			if !ok {
				c.failIn(i, "extent %v at axis %d, but the inputs before have %v", s[k], k, out[k])
				return
			}
			out[k] = d
		}
	}
	if out == nil {
		return
	}
	out[axis] = sum
	if !known {
		out[axis] = Unknown
	}
	c.setShape(0, out)
}

func concatVals(c *call) {
	vals := []elemVal{}
	for i := range c.node.Inputs {
		v, s := c.in[i].vals, c.in[i].shape
		if len(s) != 1 {
			return
		}
		if v == nil {
			if !s[0].IsFixed() || s[0].Size > maxVals {
				return
			}
			v = repeat(elemVal{dim: Unknown}, int(s[0].Size))
		}
		vals = append(vals, v...)
	}
	if len(vals) <= maxVals {
		c.out[0].vals = vals
	}
}

func addDims(a, b Dim) Dim {
	switch {
	case a.IsFixed() && b.IsFixed() && a.Size <= math.MaxInt64-b.Size:
		return Fixed(a.Size + b.Size)
	case a.Size == 0:
		return b
	case b.Size == 0:
		return a
	}
	return Unknown
}

func split(c *call) {
	s := c.in[0].shape
	if !s.Known() {
		return
	}
	k, ok := c.axis(c.intAttr("axis", 0), len(s))
	if !ok {
		return
	}
	n := len(c.node.Outputs)
	sizes := repeatDim(Unknown, n)
	parts := c.node.Attr("num_outputs")
	switch {
	case c.has(1) && parts != nil:
		c.fail("", "has both the input split and the attribute num_outputs")
		return
	case c.has(1):
		if v := c.in[1].vals; v != nil {
			sizes = valShape(v)
			if len(sizes) != n {
				c.failIn(1, "%d sizes for %d outputs", len(sizes), n)
				return
			}
			if _, ok := merge(sumDims(sizes), s[k]); !ok {
				c.failIn(1, "sizes %v do not add up to extent %v of %v", sizes, s[k], s)
				return
			}
		}
	case parts == nil:
		c.fail("", "has neither the input split nor the attribute num_outputs")
		return
	case parts.I != int64(n):
		c.fail("", "num_outputs is %d, but the node has %d outputs", parts.I, n)
		return
	case s[k].IsFixed():
		// Equal parts, the last one smaller where it does not divide.
		part := (s[k].Size + int64(n) - 1) / int64(n)
		for i := range sizes {
			sizes[i] = Fixed(max(min(part, s[k].Size-part*int64(i)), 0))
		}
	}
	for i := range n {
		out := slices.Clone(s)
		out[k] = sizes[i]
		c.setShape(i, out)
	}
}

func repeatDim(d Dim, n int) Shape {
	s := make(Shape, n)
	for i := range s {
		s[i] = d
	}
	return s
}

func sumDims(s Shape) Dim {
	sum := Fixed(0)
	for _, d := range s {
		sum = addDims(sum, d)
	}
	return sum
}

// slice: starts, ends, axes, steps as inputs 1 to 4.
func slice(c *call) {
	s := c.in[0].shape
	if !s.Known() {
		return
	}
	out := slices.Clone(s)
	starts, ends := c.in[1].vals, c.in[2].vals
	axes, known := axesOf(c, 3)
	if !known {
		c.setShape(0, unknownShape(len(s)))
		return
	}
	if !c.has(3) {
		for k := range max(len(starts), len(ends)) {
			axes = append(axes, int64(k))
		}
		if starts == nil && ends == nil { // as many axes as starts, whatever they are
			c.setShape(0, unknownShape(len(s)))
			return
		}
	}
	if starts != nil && len(starts) != len(axes) || ends != nil && len(ends) != len(axes) {
		c.fail("", "%d starts and %d ends for %d axes", len(starts), len(ends), len(axes))
		return
	}
	for i, a := range axes {
		k, ok := c.axis(a, len(s))
		if !ok {
			return
		}
		out[k] = sliceDim(s[k], at(starts, i, elemVal{}), at(ends, i, elemVal{}), sliceStep(c, i))
	}
	c.setShape(0, out)
	sliceVals(c)
}

func at(vals []elemVal, i int, def elemVal) elemVal {
	if i < len(vals) {
		return vals[i]
	}
	return def
}

func sliceStep(c *call, i int) elemVal {
	if !c.has(4) {
		return number(1)
	}
	return at(c.in[4].vals, i, elemVal{})
}

// sliceDim is the extent left of d.
func sliceDim(d Dim, start, end, step elemVal) Dim {
	if !step.known || step.n == 0 {
		return Unknown
	}
	if !d.IsFixed() {
		if whole := start == number(0) && end.known && end.n >= math.MaxInt32 && step.n == 1; whole {
			return d
		}
		return Unknown
	}
	if !start.known || !end.known {
		return Unknown
	}
	lo, hi := sliceBounds(d.Size, start.n, end.n, step.n)
	n := hi - lo
	if step.n < 0 {
		n = lo - hi
	}
	if n <= 0 {
		return Fixed(0)
	}
	width := step.n
	if width < 0 {
		width = -width
	}
	if width <= 0 { // the smallest int64
		return Fixed(1)
	}
	return Fixed((n-1)/width + 1)
}

// sliceBounds clamps start and end as Slice does: negative numbers count from
// the end; going down, -1 stands before the first element.
func sliceBounds(n, start, end, step int64) (lo, hi int64) {
	fix := func(v, least, most int64) int64 {
		if v < 0 {
			v += n
		}
		return min(max(v, least), most)
	}
	if step > 0 {
		return fix(start, 0, n), fix(end, 0, n)
	}
	return fix(start, -1, n-1), fix(end, -1, n-1)
}

// sliceVals follows the elements of a vector of extents.
func sliceVals(c *call) {
	v := c.in[0].vals
	if v == nil || len(c.in[0].shape) != 1 {
		return
	}
	start, end, step := at(c.in[1].vals, 0, elemVal{}), at(c.in[2].vals, 0, elemVal{}), sliceStep(c, 0)
	if len(c.in[1].vals) != 1 || !start.known || !end.known || step != number(1) {
		return
	}
	lo, hi := sliceBounds(int64(len(v)), start.n, end.n, 1)
	c.out[0].vals = append([]elemVal{}, v[min(lo, hi):hi]...)
}

func gather(c *call) {
	s, idx := c.in[0].shape, c.in[1].shape
	if !s.Known() {
		return
	}
	k, ok := c.axis(c.intAttr("axis", 0), len(s))
	if !ok {
		return
	}
	for _, v := range c.in[1].vals {
		if v.known && s[k].IsFixed() && (v.n >= s[k].Size || v.n < -s[k].Size) {
			c.failIn(1, "index %d is outside extent %v of %v", v.n, s[k], s)
			return
		}
	}
	gatherVals(c)
	if !idx.Known() {
		return
	}
	out := append(slices.Clone(s[:k]), idx...)
	c.setShape(0, append(out, s[k+1:]...))
}

// gatherVals picks elements of a vector of extents.
func gatherVals(c *call) {
	v, idx := c.in[0].vals, c.in[1].vals
	if v == nil || idx == nil || len(c.in[0].shape) != 1 {
		return
	}
	vals := make([]elemVal, len(idx))
	for i, x := range idx {
		vals[i] = elemVal{dim: Unknown}
		if !x.known {
			continue
		}
		j := x.n
		if j < 0 {
			j += int64(len(v))
		}
		if j >= 0 && j < int64(len(v)) {
			vals[i] = v[j]
		}
	}
	c.out[0].vals = vals
}

func gatherElements(c *call) {
	s, idx := c.in[0].shape, c.in[1].shape
	if s.Known() && idx.Known() && len(s) != len(idx) {
		c.failIn(1, "rank %d, but data %v has rank %d", len(idx), s, len(s))
	}
	c.setShape(0, idx)
}

// scatterND: updates have the leading dims of indices and what indices leave
// of data.
func scatterND(c *call) {
	s, idx, upd := c.in[0].shape, c.in[1].shape, c.in[2].shape
	c.setShape(0, s)
	if !s.Known() || len(idx) == 0 || !idx[len(idx)-1].IsFixed() {
		return
	}
	depth := idx[len(idx)-1].Size
	if depth > int64(len(s)) {
		c.failIn(1, "indexes %d dims of data %v", depth, s)
		return
	}
	want := append(slices.Clone(idx[:len(idx)-1]), s[depth:]...)
	if upd.Known() && !agrees(upd, want) {
		c.failIn(2, "want %v for indices %v into %v", want, idx, s)
	}
}

// ifOp: each output is what the branches agree on.
func ifOp(c *call) {
	a, b := c.bodies["then_branch"], c.bodies["else_branch"]
	for i := range c.out {
		if i >= len(a) || i >= len(b) {
			c.fail("", "%d outputs, but the branches have %d and %d", len(c.out), len(a), len(b))
			return
		}
		if a[i].elem != Undefined && b[i].elem != Undefined && a[i].elem != b[i].elem {
			c.fail(c.node.Output(i), "is %v in one branch and %v in the other", a[i].elem, b[i].elem)
			continue
		}
		c.out[i].elem = max(a[i].elem, b[i].elem) // the one that is known
		if a[i].shape == nil || b[i].shape == nil || len(a[i].shape) != len(b[i].shape) {
			continue
		}
		s := slices.Clone(a[i].shape)
		for k := range s {
			if s[k] != b[i].shape[k] {
				s[k] = Unknown
			}
		}
		c.out[i].shape = s
	}
}
