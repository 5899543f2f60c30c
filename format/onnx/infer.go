package onnx

import (
	"fmt"
	"slices"
)

// info is what is known of a value: its type and, for small integer tensors
// that hold shapes and axes, its elements.
type info struct {
	elem  ElemType
	shape Shape
	// vals is the elements of a scalar or vector of integers, as dims so that
	// an extent known by name can pass through Shape, Gather and Concat to
	// Reshape; nil where nothing is known. Negative numbers are kept apart
	// from unknown ones by known.
	vals []elemVal
}

// elemVal is one element of an integer tensor: a number, or the dim it stands for.
type elemVal struct {
	known bool
	n     int64
	dim   Dim // where !known
}

func number(n int64) elemVal { return elemVal{known: true, n: n} }

// extent is the element as a dim; a negative number is Unknown.
func (v elemVal) extent() Dim {
	if !v.known {
		return v.dim
	}
	return Dim{Size: max(v.n, -1)}
}

// maxVals bounds the tensors whose elements are followed.
const maxVals = 64

// constInfo describes an initializer.
func constInfo(t *Initializer) info {
	in := info{elem: t.Elem, shape: t.Shape()}
	if n, ok := elements(t.Dims); !ok || n > maxVals || len(t.Dims) > 1 {
		return in
	}
	if v, ok := t.Int64s(); ok {
		in.vals = make([]elemVal, len(v))
		for i, x := range v {
			in.vals[i] = number(x)
		}
	}
	return in
}

// scope holds what is known of the values of one graph; a body sees the graphs
// around it.
type scope struct {
	outer *scope
	vals  map[string]info
}

func (s *scope) find(name string) (info, bool) {
	for ; s != nil; s = s.outer {
		if v, ok := s.vals[name]; ok {
			return v, true
		}
	}
	return info{}, false
}

// call is one node under inference: its rule reads in and writes out.
type call struct {
	node *Node
	op   *Operator
	in   []info // as long as op's formals or the node's inputs, whichever is more
	have []bool // input given
	out  []info // same for outputs; elem is filled in where type variables say it
	// bodies holds what the graph attributes return, by attribute name.
	bodies map[string][]info
	fail   func(tensor, format string, args ...any)
}

// has reports whether an optional input is given.
func (c *call) has(i int) bool { return i < len(c.have) && c.have[i] }

// inName is the name of input i for messages: `input "B" (scales)`.
func (c *call) inName(i int) string {
	if f := formal(c.op.Inputs, i); f != nil && !f.Variadic {
		return fmt.Sprintf("input %s", f.Name)
	}
	return fmt.Sprintf("input %d", i)
}

// failIn reports a problem with input i.
func (c *call) failIn(i int, format string, args ...any) {
	c.fail(c.node.Input(i), "%s %v: %s", c.inName(i), c.in[i].shape, fmt.Sprintf(format, args...))
}

func (c *call) intAttr(name string, def int64) int64 {
	if a := c.node.Attr(name); a != nil && a.Type == AttrInt {
		return a.I
	}
	return def
}

func (c *call) intsAttr(name string) []int64 {
	if a := c.node.Attr(name); a != nil && a.Type == AttrInts {
		return a.Ints
	}
	return nil
}

// shape of output i; a nil shape says nothing.
func (c *call) setShape(i int, s Shape) {
	if i < len(c.out) {
		c.out[i].shape = s
	}
}

func (c *call) setElem(i int, t ElemType) {
	if i < len(c.out) {
		c.out[i].elem = t
	}
}

// rank checks that input i, where its rank is known, has one of the ranks, and
// reports whether its rank is known and right.
func (c *call) rank(i int, ranks ...int) bool {
	if !c.has(i) || !c.in[i].shape.Known() {
		return false
	}
	if slices.Contains(ranks, len(c.in[i].shape)) {
		return true
	}
	c.failIn(i, "rank %d, want %s", len(c.in[i].shape), orList(ranks))
	return false
}

func orList(ns []int) string {
	s := ""
	for i, n := range ns {
		if i > 0 {
			s += " or "
		}
		s += fmt.Sprint(n)
	}
	return s
}

// dim is extent k of input i (negative k from the end), Unknown where not known.
func (c *call) dim(i, k int) Dim {
	if i >= len(c.in) {
		return Unknown
	}
	s := c.in[i].shape
	if k < 0 {
		k += len(s)
	}
	if k < 0 || k >= len(s) {
		return Unknown
	}
	return s[k]
}

// want checks an input of known shape against what it must be; unknown dims on
// either side agree with everything.
func (c *call) want(i int, what string, dims ...Dim) {
	if !c.has(i) || !c.in[i].shape.Known() {
		return
	}
	if !agrees(c.in[i].shape, dims) {
		c.failIn(i, "want %v %s", Shape(dims), what)
	}
}

func agrees(have, want Shape) bool {
	if len(have) != len(want) {
		return false
	}
	for k := range have {
		if have[k].IsFixed() && want[k].IsFixed() && have[k].Size != want[k].Size {
			return false
		}
	}
	return true
}

// axis normalizes an axis against a rank and reports one that is outside.
func (c *call) axis(axis int64, rank int) (int, bool) {
	a := axis
	if a < 0 {
		a += int64(rank)
	}
	if a < 0 || a >= int64(rank) {
		c.fail("", "axis %d is outside rank %d", axis, rank)
		return 0, false
	}
	return int(a), true
}

// merge is the better known of two dims that must be equal; ok is false when
// both are numbers and differ.
func merge(a, b Dim) (d Dim, ok bool) {
	switch {
	case a.IsFixed() && b.IsFixed():
		return a, a.Size == b.Size
	case a.IsFixed(), !b.IsFixed() && a.Name != "":
		return a, true
	}
	return b, true
}

// broadcast is the extent of two dims under ONNX (NumPy) broadcasting; ok is
// false when they are different numbers, neither of them 1.
func broadcast(a, b Dim) (d Dim, ok bool) {
	switch {
	case a.IsFixed() && b.IsFixed():
		if a.Size == 1 {
			return b, true
		}
		return a, a.Size == b.Size || b.Size == 1
	case a.IsFixed():
		if a.Size == 1 {
			return b, true
		}
		return a, true // b is the same or 1
	case b.IsFixed():
		return broadcast(b, a)
	case a.Name != "" && a.Name == b.Name:
		return a, true
	}
	return Unknown, true
}

// broadcastShapes broadcasts from the last dim on; nil where one is not known.
func broadcastShapes(a, b Shape) (s Shape, ok bool) {
	if a == nil || b == nil {
		return nil, true
	}
	s = make(Shape, max(len(a), len(b)))
	for k := range s {
		x, y := Fixed(1), Fixed(1)
		if i := k - len(s) + len(a); i >= 0 {
			x = a[i]
		}
		if i := k - len(s) + len(b); i >= 0 {
			y = b[i]
		}
		if s[k], ok = broadcast(x, y); !ok {
			return nil, false
		}
	}
	return s, true
}

// mulDims multiplies extents: a number where all are, a name where the rest is
// 1, Unknown otherwise.
func mulDims(dims ...Dim) Dim {
	n, named := int64(1), Dim{}
	for _, d := range dims {
		switch {
		case d.Size == 0:
			return Fixed(0)
		case d.IsFixed():
			if n > (1<<62)/d.Size {
				return Unknown
			}
			n *= d.Size
		case d.Name == "" || named.Name != "":
			return Unknown
		default:
			named = d
		}
	}
	if named.Name == "" {
		return Fixed(n)
	}
	if n == 1 {
		return named
	}
	return Unknown
}

// divDim divides an extent by a number; ok is false where it does not divide.
func divDim(d Dim, by int64) (q Dim, ok bool) {
	switch {
	case by == 1:
		return d, true
	case !d.IsFixed() || by <= 0:
		return Unknown, true
	}
	return Fixed(d.Size / by), d.Size%by == 0
}

// scale multiplies an extent by a number.
func scaleDim(d Dim, by int64) Dim { return mulDims(d, Fixed(by)) }

// rules says how each operator makes its output types from its inputs. One
// that is missing here is checked by schema alone; its outputs have the element
// types its type variables give and unknown shapes.
var rules = map[string]func(*call){
	"Abs": sameShape, "Cos": sameShape, "Erf": sameShape, "Exp": sameShape, "Gelu": sameShape,
	"Log": sameShape, "Neg": sameShape, "Not": sameShape, "Reciprocal": sameShape, "Relu": sameShape,
	"Sigmoid": sameShape, "Sin": sameShape, "Sqrt": sameShape, "Tanh": sameShape,
	"Softmax": softmax, "Identity": identity, "Cast": cast, "Clip": clip, "CumSum": cumSum, "Trilu": trilu,

	"Add": arithmetic, "Sub": arithmetic, "Mul": arithmetic, "Div": arithmetic, "Pow": elementwise,
	"And": elementwise, "Or": elementwise, "Equal": elementwise, "Greater": elementwise,
	"GreaterOrEqual": elementwise, "Less": elementwise, "LessOrEqual": elementwise,
	"Max": elementwise, "Min": elementwise, "Where": elementwise,

	"MatMul": matMul, "MatMulInteger": matMul, "Gemm": gemm,
	"ReduceMax": reduce, "ReduceMean": reduce, "ReduceMin": reduce, "ReduceSum": reduce,
	"ArgMax": argMax, "TopK": topK,
	"LayerNormalization": layerNorm, "RMSNormalization": rmsNorm, "SimplifiedLayerNormalization": simplifiedNorm,

	"Shape": shapeOf, "Reshape": reshape, "Flatten": flatten, "Transpose": transpose,
	"Squeeze": squeeze, "Unsqueeze": unsqueeze, "Expand": expand, "Tile": tile,
	"Concat": concat, "Split": split, "Slice": slice,
	"Gather": gather, "GatherElements": gatherElements, "ScatterND": scatterND,
	"Constant": constant, "ConstantOfShape": constantOfShape, "Range": rangeOp,

	"If": ifOp,

	"QuantizeLinear": quantizeLinear, "DequantizeLinear": dequantizeLinear,
	"DynamicQuantizeLinear": dynamicQuantizeLinear,
	"RotaryEmbedding":       rotaryEmbedding, "Attention": attention, "TensorScatter": tensorScatter,

	"com.microsoft.FastGelu": biasGelu, "com.microsoft.BiasGelu": biasGelu, "com.microsoft.QuickGelu": sameShape,
	"com.microsoft.FusedMatMul": fusedMatMul, "com.microsoft.MatMulNBits": matMulNBits,
	"com.microsoft.GatherBlockQuantized":             gatherBlockQuantized,
	"com.microsoft.DynamicQuantizeMatMul":            matMul,
	"com.microsoft.MatMulIntegerToFloat":             matMul,
	"com.microsoft.SkipSimplifiedLayerNormalization": skipNorm,
	"com.microsoft.SkipLayerNormalization":           skipNorm,
	"com.microsoft.RotaryEmbedding":                  rotaryEmbeddingMS,
	"com.microsoft.GroupQueryAttention":              groupQueryAttention,
	"com.microsoft.MultiHeadAttention":               multiHeadAttention,
	"com.microsoft.QMoE":                             sameShape,
}

// rule finds the rule of an operator.
func rule(domain, op string) func(*call) {
	if domain = plainDomain(domain); domain != DomainONNX {
		op = domain + "." + op
	}
	return rules[op]
}
