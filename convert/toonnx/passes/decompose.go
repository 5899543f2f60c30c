package passes

import (
	"fmt"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// Decompose replaces operators by the parts that every release of every
// execution provider knows: RMSNormalization, SimplifiedLayerNormalization,
// SkipSimplifiedLayerNormalization and QuickGelu, those of them that ops names;
// none names all. A use in a form that the parts do not cover is an error.
func Decompose(m *onnx.Model, ops ...string) error {
	d := &decomposer{g: m.Graph, values: onnx.Infer(m)}
	for _, n := range slices.Clone(m.Graph.Nodes) {
		split, ok := parts[n.Op]
		if !ok || len(ops) > 0 && !slices.Contains(ops, n.Op) {
			continue
		}
		d.nodes = nil
		d.at = n.Name
		if d.at == "" {
			d.at = n.Output(0)
		}
		if err := split(d, n); err != nil {
			return fmt.Errorf("decompose %s: %w", n.Label(), err)
		}
		m.Graph.Replace(n, d.nodes...)
	}
	return nil
}

var parts = map[string]func(d *decomposer, n *onnx.Node) error{
	"RMSNormalization":                 (*decomposer).norm,
	"SimplifiedLayerNormalization":     (*decomposer).norm,
	"SkipSimplifiedLayerNormalization": (*decomposer).skipNorm,
	"QuickGelu":                        (*decomposer).quickGelu,
}

// decomposer collects the nodes that stand for one.
type decomposer struct {
	g      *onnx.Graph
	values map[string]onnx.Value
	at     string
	nodes  []*onnx.Node
}

// node adds a part named after the whole; out "" makes a name.
func (d *decomposer) node(op, name, out string, inputs []string, attrs ...onnx.Attr) string {
	if out == "" {
		out = d.at + "/" + name + "/output_0"
	}
	d.nodes = append(d.nodes, &onnx.Node{Op: op, Name: d.at + "/" + name, Inputs: inputs, Outputs: []string{out}, Attrs: attrs})
	return out
}

// rms adds y = x/√(mean(x²)+ε)·gamma over the last dimension. What is not
// float32, as elem tells, is widened before it is squared.
func (d *decomposer) rms(x, gamma, out string, elem onnx.ElemType, epsilon float32) {
	if elem != onnx.F32 {
		x = d.node("Cast", "wide", "", []string{x}, onnx.Int("to", int64(onnx.F32)))
	}
	axis := onnx.Const(d.g, d.at+"/axis", nil, int64(-1))
	eps := onnx.Const(d.g, d.at+"/epsilon", []int64{}, epsilon)
	square := d.node("Mul", "square", "", []string{x, x})
	mean := d.node("ReduceMean", "mean", "", []string{square, axis}, onnx.Int("keepdims", 1))
	root := d.node("Sqrt", "root", "", []string{d.node("Add", "plus_epsilon", "", []string{mean, eps})})
	normed := d.node("Div", "normed", "", []string{x, root})
	if elem != onnx.F32 {
		normed = d.node("Cast", "narrow", "", []string{normed}, onnx.Int("to", int64(elem)))
	}
	d.node("Mul", "gain", out, []string{normed, gamma})
}

func (d *decomposer) norm(n *onnx.Node) error {
	if a := n.Attr("axis"); a != nil && a.I != -1 {
		return fmt.Errorf("axis %d: only the last dimension is done", a.I)
	}
	if len(n.Outputs) > 1 && n.Outputs[1] != "" {
		return fmt.Errorf("the inverse deviation is used")
	}
	d.rms(n.Input(0), n.Input(1), n.Output(0), d.values[n.Input(0)].Elem, epsilonOf(n, 1e-5))
	return nil
}

func (d *decomposer) skipNorm(n *onnx.Node) error {
	if n.Output(1) != "" || n.Output(2) != "" {
		return fmt.Errorf("mean or inverse deviation is used")
	}
	sum := d.node("Add", "sum", n.Output(3), []string{n.Input(0), n.Input(1)})
	if bias := n.Input(3); bias != "" {
		return fmt.Errorf("the bias %q is not done", bias)
	}
	d.rms(sum, n.Input(2), n.Output(0), d.values[n.Input(0)].Elem, epsilonOf(n, 1e-12))
	return nil
}

// quickGelu adds x·sigmoid(alpha·x).
func (d *decomposer) quickGelu(n *onnx.Node) error {
	x := n.Input(0)
	scaled := x
	alpha := float32(1.702)
	if a := n.Attr("alpha"); a != nil {
		alpha = a.F
	}
	if alpha != 1 {
		a := onnx.Const(d.g, d.at+"/alpha_value", []int64{}, alpha)
		scaled = d.node("Mul", "alpha", "", []string{x, d.node("CastLike", "alpha_cast", "", []string{a, x})})
	}
	d.node("Mul", "product", n.Output(0), []string{x, d.node("Sigmoid", "sigmoid", "", []string{scaled})})
	return nil
}

func epsilonOf(n *onnx.Node, otherwise float32) float32 {
	if a := n.Attr("epsilon"); a != nil {
		return a.F
	}
	return otherwise
}
