package onnx

import (
	"math"
	"slices"
)

// dimVal is an extent as the element of an integer tensor.
func dimVal(d Dim) elemVal {
	if d.IsFixed() {
		return number(d.Size)
	}
	return elemVal{dim: d}
}

func shapeOf(c *call) {
	c.setElem(0, I64)
	s := c.in[0].shape
	if !s.Known() {
		c.setShape(0, Shape{Unknown})
		return
	}
	rank := int64(len(s))
	bound := func(name string, def int64) int64 {
		v := c.intAttr(name, def)
		if v < 0 {
			v += rank
		}
		return min(max(v, 0), rank)
	}
	lo, hi := bound("start", 0), bound("end", rank)
	s = s[lo:max(lo, hi)]
	c.setShape(0, FixedShape(int64(len(s))))
	vals := make([]elemVal, len(s))
	for i, d := range s {
		vals[i] = dimVal(d)
	}
	c.out[0].vals = vals
}

// reshape follows the rules of Reshape: 0 copies an extent (unless allowzero),
// -1 takes what is left.
func reshape(c *call) {
	in, target := c.in[0].shape, c.in[1].vals
	if !c.rank(1, 1) && c.in[1].shape.Known() {
		return
	}
	if target == nil {
		if s := c.in[1].shape; len(s) == 1 && s[0].IsFixed() && s[0].Size <= maxVals {
			c.setShape(0, unknownShape(int(s[0].Size)))
		}
		return
	}
	out := make(Shape, len(target))
	wild := -1
	copied := make([]bool, max(len(in), len(out)))
	for i, v := range target {
		switch {
		case !v.known:
			out[i] = v.dim
		case v.n == 0 && c.intAttr("allowzero", 0) == 0:
			out[i] = Unknown
			if in.Known() {
				if i >= len(in) {
					c.failIn(0, "the target shape copies extent %d, which it does not have", i)
					return
				}
				out[i], copied[i] = in[i], true
			}
		case v.n == -1:
			if wild >= 0 {
				c.failIn(1, "the target shape has more than one -1")
				return
			}
			wild, out[i] = i, Unknown
		case v.n < 0:
			c.failIn(1, "the target shape holds %d", v.n)
			return
		default:
			out[i] = Fixed(v.n)
		}
	}
	if in.Known() {
		fillReshape(c, in, out, copied, wild)
	}
	c.setShape(0, out)
}

// fillReshape compares the number of elements before and after, and sets the
// extent at wild, -1 where there is none. Copied extents cancel out.
func fillReshape(c *call, in, out Shape, copied []bool, wild int) {
	left, right := Shape{}, Shape{}
	for i, d := range in {
		if !copied[i] {
			left = append(left, d)
		}
	}
	for i, d := range out {
		if !copied[i] && i != wild {
			right = append(right, d)
		}
	}
	left, right = cancelNames(left, right)
	n, m := mulDims(left...), mulDims(right...)
	switch {
	case wild < 0:
		if n.IsFixed() && m.IsFixed() && n.Size != m.Size {
			c.failIn(0, "%v elements cannot become %v", mulDims(in...), out)
		}
	case !m.IsFixed() || m.Size == 0:
	case n.IsFixed():
		if n.Size%m.Size != 0 {
			c.failIn(0, "%v elements cannot become %v", mulDims(in...), out)
			return
		}
		out[wild] = Fixed(n.Size / m.Size)
	case n.Name != "" && m.Size == 1:
		out[wild] = n
	default:
		// [named, 64] to [-1, 64] and the like: the numbers cancel too.
		if named, rest, ok := oneName(left); ok && rest == m.Size {
			out[wild] = named
		}
	}
}

// cancelNames drops the names that stand on both sides.
func cancelNames(a, b Shape) (Shape, Shape) {
	b = slices.Clone(b)
	a = slices.DeleteFunc(slices.Clone(a), func(d Dim) bool {
		if d.Name == "" {
			return false
		}
		i := slices.Index(b, d)
		if i >= 0 {
			b = slices.Delete(b, i, i+1)
		}
		return i >= 0
	})
	return a, b
}

// oneName splits a product of numbers and exactly one name.
func oneName(s Shape) (named Dim, rest int64, ok bool) {
	i := slices.IndexFunc(s, func(d Dim) bool { return !d.IsFixed() })
	if i < 0 || s[i].Name == "" {
		return Dim{}, 0, false
	}
	numbers := mulDims(slices.Delete(slices.Clone(s), i, i+1)...)
	return s[i], numbers.Size, numbers.IsFixed()
}

func flatten(c *call) {
	s := c.in[0].shape
	if !s.Known() {
		c.setShape(0, unknownShape(2))
		return
	}
	axis := c.intAttr("axis", 1)
	if axis < 0 {
		axis += int64(len(s))
	}
	if axis < 0 || axis > int64(len(s)) {
		c.fail("", "axis %d is outside rank %d", c.intAttr("axis", 1), len(s))
		return
	}
	c.setShape(0, Shape{mulDims(s[:axis]...), mulDims(s[axis:]...)})
}

func transpose(c *call) {
	s := c.in[0].shape
	perm := c.intsAttr("perm")
	if !s.Known() {
		if perm != nil {
			c.setShape(0, unknownShape(len(perm)))
		}
		return
	}
	if perm == nil {
		for k := len(s) - 1; k >= 0; k-- {
			perm = append(perm, int64(k))
		}
	}
	if len(perm) != len(s) {
		c.failIn(0, "perm %v does not have one entry for each of %d dims", perm, len(s))
		return
	}
	out, seen := make(Shape, len(s)), make([]bool, len(s))
	for k, p := range perm {
		if p < 0 || p >= int64(len(s)) || seen[p] {
			c.failIn(0, "perm %v is no permutation of its %d dims", perm, len(s))
			return
		}
		out[k], seen[p] = s[p], true
	}
	c.setShape(0, out)
}

func squeeze(c *call) {
	c.out[0].vals = c.in[0].vals
	s := c.in[0].shape
	axes, known := axesOf(c, 1)
	if !s.Known() || !known {
		return
	}
	gone := make([]bool, len(s))
	for _, a := range axes {
		k, ok := c.axis(a, len(s))
		if !ok {
			return
		}
		if s[k].IsFixed() && s[k].Size != 1 {
			c.failIn(0, "axis %d has extent %v and cannot be squeezed", a, s[k])
			return
		}
		gone[k] = true
	}
	out := Shape{}
	for k, d := range s {
		switch {
		case gone[k], len(axes) == 0 && d.Size == 1:
		case len(axes) == 0 && !d.IsFixed():
			return // may be 1 or not: the rank is open
		default:
			out = append(out, d)
		}
	}
	c.setShape(0, out)
}

func unsqueeze(c *call) {
	s := c.in[0].shape
	axes, known := axesOf(c, 1)
	if len(s) == 0 {
		c.out[0].vals = c.in[0].vals // a scalar becomes a vector of it
	}
	if !s.Known() || !known {
		return
	}
	rank := len(s) + len(axes)
	added := make([]bool, rank)
	for _, a := range axes {
		k, ok := c.axis(a, rank)
		if !ok {
			return
		}
		if added[k] {
			c.fail("", "axis %d is given twice", a)
			return
		}
		added[k] = true
	}
	out := Shape{}
	for k := range rank {
		if added[k] {
			out = append(out, Fixed(1))
			continue
		}
		out, s = append(out, s[0]), s[1:]
	}
	c.setShape(0, out)
}

// valShape is the shape that a vector of extents spells out.
func valShape(vals []elemVal) Shape {
	s := make(Shape, len(vals))
	for i, v := range vals {
		s[i] = v.extent()
	}
	return s
}

// shapeInput is the shape given by input i: by its elements, or, where they
// are not known, by its length alone.
func shapeInput(c *call, i int) Shape {
	if v := c.in[i].vals; v != nil {
		return valShape(v)
	}
	if s := c.in[i].shape; len(s) == 1 && s[0].IsFixed() && s[0].Size <= maxVals {
		return unknownShape(int(s[0].Size))
	}
	return nil
}

func expand(c *call) {
	s, ok := broadcastShapes(c.in[0].shape, shapeInput(c, 1))
	if !ok {
		c.failIn(0, "does not broadcast to %v", shapeInput(c, 1))
		return
	}
	c.setShape(0, s)
}

func tile(c *call) {
	s, reps := c.in[0].shape, c.in[1].vals
	if !s.Known() {
		return
	}
	if reps == nil {
		c.setShape(0, unknownShape(len(s)))
		return
	}
	if len(reps) != len(s) {
		c.failIn(1, "%d repeats for %d dims", len(reps), len(s))
		return
	}
	out := make(Shape, len(s))
	for k := range s {
		out[k] = mulDims(s[k], reps[k].extent())
	}
	c.setShape(0, out)
}

func constantOfShape(c *call) {
	c.setElem(0, F32)
	if a := c.node.Attr("value"); a != nil && a.Tensor != nil {
		c.setElem(0, a.Tensor.Elem)
	}
	c.rank(0, 1)
	c.setShape(0, shapeInput(c, 0))
}

func constant(c *call) {
	given := 0
	for i := range c.node.Attrs {
		a := &c.node.Attrs[i]
		var t Initializer
		switch a.Name {
		case "value":
			if a.Tensor == nil {
				continue
			}
			t = *a.Tensor
		case "value_int":
			t = ConstTensor([]int64{}, a.I)
		case "value_ints":
			t = ConstTensor(nil, a.Ints...)
		case "value_float":
			t = ConstTensor([]int64{}, a.F)
		case "value_floats":
			t = ConstTensor(nil, a.Floats...)
		case "value_string":
			t = Initializer{Elem: Text}
		case "value_strings":
			t = Initializer{Elem: Text, Dims: []int64{int64(len(a.Strings))}}
		default:
			continue
		}
		given++
		c.out[0] = constInfo(&t)
	}
	if given != 1 {
		c.fail("", "has %d value attributes, want one", given)
	}
}

// rangeOp: start, limit, delta. The count is known for constant integers, and
// for 0, n, 1 where the extent n is known by name.
func rangeOp(c *call) {
	for i := range 3 {
		c.rank(i, 0)
	}
	c.setShape(0, Shape{Unknown})
	a, b, d := c.in[0].vals, c.in[1].vals, c.in[2].vals
	if len(a) != 1 || len(b) != 1 || len(d) != 1 || !a[0].known || !d[0].known {
		return
	}
	switch {
	case d[0].n == 0:
		c.failIn(2, "a step of 0")
	case !b[0].known:
		if a[0].n == 0 && d[0].n == 1 {
			c.setShape(0, Shape{b[0].dim})
		}
	default:
		n := math.Ceil((float64(b[0].n) - float64(a[0].n)) / float64(d[0].n))
		if n < 1<<53 {
			c.setShape(0, FixedShape(int64(max(n, 0))))
		}
	}
}
