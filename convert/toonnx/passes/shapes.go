package passes

import (
	"fmt"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// FixDims makes numbers of named extents: of inputs, outputs and what is known
// of values in between. A name that the graph does not have, or an extent below
// 1, is an error. [FoldShapes] then computes what follows.
func FixDims(m *onnx.Model, dims map[string]int64) error {
	used := map[string]bool{}
	for _, vs := range [][]onnx.Value{m.Graph.Inputs, m.Graph.Outputs, m.Graph.Values} {
		for _, v := range vs {
			for k, d := range v.Shape {
				n, ok := dims[d.Name]
				if d.IsFixed() || !ok {
					continue
				}
				used[d.Name] = true
				v.Shape[k] = onnx.Fixed(n)
			}
		}
	}
	for name, n := range dims {
		if n < 1 {
			return fmt.Errorf("fix %s to %d: want 1 or more", name, n)
		}
		if !used[name] {
			return fmt.Errorf("fix %s: the graph has no extent of that name", name)
		}
	}
	return nil
}

// maxFolded bounds the elements of a constant that FoldShapes makes.
const maxFolded = 1 << 10

// FoldShapes replaces what can be computed from shapes alone: Shape of a value
// whose extents are numbers, and integer arithmetic over small constants. Nodes
// that nothing needs any more are dropped.
func FoldShapes(m *onnx.Model) {
	g := m.Graph
	values := onnx.Infer(m)
	consts := map[string]*onnx.Initializer{}
	for _, t := range g.Initializers {
		if t.External == nil && (t.Elem == onnx.I64 || t.Elem == onnx.I32) {
			consts[t.Name] = t
		}
	}
	outputs := map[string]bool{}
	for _, v := range g.Outputs {
		outputs[v.Name] = true
	}
	g.RemoveNodes(func(n *onnx.Node) bool {
		if n.Domain != onnx.DomainONNX || len(n.Outputs) != 1 || outputs[n.Outputs[0]] {
			return false
		}
		t := fold(n, values, consts)
		if t == nil {
			return false
		}
		t.Name = n.Outputs[0]
		consts[t.Name] = t
		g.Initializer(*t)
		return true
	})
	g.Prune()
}

// fold computes one node, nil where it cannot.
func fold(n *onnx.Node, values map[string]onnx.Value, consts map[string]*onnx.Initializer) *onnx.Initializer {
	if n.Op == "Shape" {
		return foldShape(n, values[n.Input(0)])
	}
	in := make([]ints, len(n.Inputs))
	for i, name := range n.Inputs {
		t := consts[name]
		if t == nil {
			return nil
		}
		in[i] = read(t)
	}
	var out ints
	switch n.Op {
	case "Cast":
		to := n.Attr("to")
		if len(in) != 1 || to == nil || (to.I != int64(onnx.I64) && to.I != int64(onnx.I32)) {
			return nil
		}
		out = in[0]
		out.elem = onnx.ElemType(to.I)
	case "Gather":
		if len(in) != 2 || len(in[0].dims) != 1 || axis(n) != 0 {
			return nil
		}
		out = ints{dims: in[1].dims, elem: in[0].elem}
		for _, i := range in[1].v {
			if i < 0 {
				i += int64(len(in[0].v))
			}
			if i < 0 || i >= int64(len(in[0].v)) {
				return nil
			}
			out.v = append(out.v, in[0].v[i])
		}
	case "Add", "Sub", "Mul":
		if len(in) != 2 {
			return nil
		}
		var ok bool
		if out, ok = arithmetic(n.Op, in[0], in[1]); !ok {
			return nil
		}
	case "Unsqueeze":
		if len(in) != 2 || len(in[0].dims) != 0 || len(in[1].v) != 1 {
			return nil
		}
		out = ints{in[0].v, []int64{1}, in[0].elem}
	case "Concat":
		if axis(n) != 0 {
			return nil
		}
		out.elem = in[0].elem
		for _, x := range in {
			if len(x.dims) != 1 {
				return nil
			}
			out.v = append(out.v, x.v...)
		}
		out.dims = []int64{int64(len(out.v))}
	case "Range":
		if len(in) != 3 || in[2].v[0] == 0 {
			return nil
		}
		for v, end, step := in[0].v[0], in[1].v[0], in[2].v[0]; (step > 0) == (v < end) && v != end; v += step {
			if out.v = append(out.v, v); len(out.v) > maxFolded {
				return nil
			}
		}
		out.dims, out.elem = []int64{int64(len(out.v))}, in[0].elem
	default:
		return nil
	}
	return out.tensor()
}

func foldShape(n *onnx.Node, v onnx.Value) *onnx.Initializer {
	dims, ok := v.Shape.Ints()
	if !ok || n.Attr("start") != nil || n.Attr("end") != nil {
		return nil
	}
	return ints{dims, []int64{int64(len(dims))}, onnx.I64}.tensor()
}

func axis(n *onnx.Node) int64 {
	if a := n.Attr("axis"); a != nil {
		return a.I
	}
	return 0
}

// ints is an integer constant.
type ints struct {
	v    []int64
	dims []int64
	elem onnx.ElemType
}

func read(t *onnx.Initializer) ints {
	x := ints{dims: t.Dims, elem: t.Elem}
	if t.Elem == onnx.I64 {
		x.v, _ = t.Int64s()
		return x
	}
	for i := 0; i+4 <= len(t.Data); i += 4 {
		x.v = append(x.v, int64(int32(uint32(t.Data[i])|uint32(t.Data[i+1])<<8|uint32(t.Data[i+2])<<16|uint32(t.Data[i+3])<<24)))
	}
	return x
}

func (x ints) tensor() *onnx.Initializer {
	dims := slices.Clone(x.dims)
	if dims == nil {
		dims = []int64{}
	}
	if x.elem == onnx.I64 {
		t := onnx.ConstTensor(dims, x.v...)
		return &t
	}
	v := make([]int32, len(x.v))
	for i, n := range x.v {
		v[i] = int32(n)
	}
	t := onnx.ConstTensor(dims, v...)
	return &t
}

// arithmetic computes a op b where one of them is a single number or both have
// the same dims.
func arithmetic(op string, a, b ints) (ints, bool) {
	out := ints{dims: a.dims, elem: a.elem}
	n := max(len(a.v), len(b.v))
	if len(b.dims) > len(a.dims) || len(b.v) > len(a.v) {
		out.dims = b.dims
	}
	if (len(a.v) != n && len(a.v) != 1) || (len(b.v) != n && len(b.v) != 1) || n == 0 || len(a.v) == len(b.v) && len(a.dims) > 1 {
		return ints{}, false
	}
	for i := range n {
		x, y := a.v[i%len(a.v)], b.v[i%len(b.v)]
		switch op {
		case "Add":
			x += y
		case "Sub":
			x -= y
		case "Mul":
			x *= y
		}
		out.v = append(out.v, x)
	}
	return out, true
}
