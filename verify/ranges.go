package verify

import (
	"strings"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// observed prefixes the outputs that observe adds.
const observed = "max_abs:"

// observe returns a float32 copy of a graph with 16-bit floats, with one more
// output for each value that is 16-bit in the original: its largest magnitude.
func observe(m *onnx.Model) *onnx.Model {
	types := onnx.Infer(m)
	c := *m
	g := m.Graph.Clone()
	c.Graph = g
	var watch []string
	for _, n := range g.Nodes {
		for _, o := range n.Outputs {
			if types[o].Elem == onnx.F16 {
				watch = append(watch, o)
			}
		}
	}
	widen(g)
	for _, name := range watch {
		abs := observed + "abs:" + name
		g.Node(onnx.DomainONNX, "Abs", abs, []string{name}, []string{abs})
		g.Node(onnx.DomainONNX, "ReduceMax", observed+name, []string{abs}, []string{observed + name}, onnx.Int("keepdims", 0))
		g.Output(observed+name, onnx.F32)
	}
	return &c
}

// widen turns every 16-bit float of a graph into float32; the stored weights
// stay as they are and are widened by a Cast.
func widen(g *onnx.Graph) {
	for _, vs := range [][]onnx.Value{g.Inputs, g.Outputs, g.Values} {
		for i := range vs {
			if vs[i].Elem == onnx.F16 {
				vs[i].Elem = onnx.F32
			}
		}
	}
	for _, n := range g.Nodes {
		if to := n.Attr("to"); n.Op == "Cast" && to != nil && to.I == int64(onnx.F16) {
			to.I = int64(onnx.F32)
		}
	}
	var casts []*onnx.Node
	for _, t := range g.Initializers {
		if t.Elem != onnx.F16 {
			continue
		}
		wide := t.Name
		t.Name += ".stored"
		casts = append(casts, &onnx.Node{
			Op: "Cast", Name: wide + "/widen", Inputs: []string{t.Name}, Outputs: []string{wide},
			Attrs: []onnx.Attr{onnx.Int("to", int64(onnx.F32))},
		})
	}
	g.Nodes = append(casts, g.Nodes...)
}

// watched is the value an observer output measures.
func watched(output string) (string, bool) { return strings.CutPrefix(output, observed) }
