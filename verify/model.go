package verify

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/convert/toonnx"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// model is an artifact's graph, ready to be cut.
type model struct {
	dir    string
	graph  *onnx.Model
	layers int
	cut    []string // patterns of what a layer hands to the next
	data   int64    // bytes of weights
	// arithmetic is how the CPU computes it, "" for its own way with it.
	arithmetic string
}

// openModel reads a graph and makes it compute every position.
func openModel(dir string) (*model, error) {
	f, err := onnx.Open(filepath.Join(dir, modeldir.ModelFile))
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", dir, err)
	}
	defer f.Close()
	m := &model{dir: dir, graph: f.Model, data: f.DataBytes(), arithmetic: arithmetic(f.Model.Graph)}
	cut, ok := f.Model.Meta(toonnx.LayerOutputKey)
	if !ok {
		return nil, fmt.Errorf("verify %s: the model has no property %q: it was not written by this program", dir, toonnx.LayerOutputKey)
	}
	m.cut = strings.Split(cut, ",")
	for _, in := range f.Model.Graph.Inputs {
		if strings.HasPrefix(in.Name, "past_key_values.") && strings.HasSuffix(in.Name, ".key") {
			m.layers++
		}
	}
	if m.layers == 0 {
		return nil, fmt.Errorf("verify %s: the model has no cache inputs", dir)
	}
	for _, in := range f.Model.Graph.Inputs {
		if in.Name == "input_ids" && len(in.Shape) == 2 && in.Shape[1].IsFixed() {
			return nil, &tensor.UnsupportedError{What: fmt.Sprintf("verification of %s, whose graph takes %d tokens at a time", dir, in.Shape[1].Size)}
		}
	}
	allPositions(f.Model.Graph)
	return m, nil
}

// arithmetic is [Plain] for graphs of standard operators with quantization
// spelled out: they are for providers other than the CPU's.
func arithmetic(g *onnx.Graph) string {
	quantized := false
	for _, n := range g.Nodes {
		if n.Domain != onnx.DomainONNX {
			return ""
		}
		quantized = quantized || n.Op == "QuantizeLinear" || n.Op == "DequantizeLinear"
	}
	if quantized {
		return Plain
	}
	return ""
}

// allPositions removes the nodes that keep the last position only.
func allPositions(g *onnx.Graph) {
	for _, n := range g.Nodes {
		if strings.HasPrefix(n.Name, toonnx.LastPosition) {
			g.ReplaceUses(n.Outputs[0], n.Inputs[0])
		}
	}
	g.RemoveNodes(func(n *onnx.Node) bool { return strings.HasPrefix(n.Name, toonnx.LastPosition) })
	for i := range g.Outputs {
		if g.Outputs[i].Name == "logits" {
			g.Outputs[i].Shape[1] = onnx.Named("sequence_length")
		}
	}
	g.Prune()
}

// boundary names the values between layer l-1 and layer l.
func (m *model) boundary(l int) []string {
	names := make([]string, len(m.cut))
	for i, p := range m.cut {
		names[i] = fmt.Sprintf(p, l-1)
	}
	return names
}

// body is layers [from, to) as a model: from the ids where from is 0, else
// from the hidden states before layer from; to those before layer to.
func (m *model) body(from, to int) *onnx.Model {
	var in []string
	if from > 0 {
		in = m.boundary(from)
	}
	return m.part(in, m.boundary(to))
}

// head is the part behind the last layer: final norm and logits.
func (m *model) head() *onnx.Model { return m.part(m.boundary(m.layers), []string{"logits"}) }

// part cuts the graph between values.
func (m *model) part(in, out []string) *onnx.Model {
	c := *m.graph
	g := m.graph.Graph.Clone()
	c.Graph = g
	hidden := onnx.Shape{onnx.Named("batch_size"), onnx.Named("sequence_length"), onnx.Unknown}
	g.RemoveNodes(func(n *onnx.Node) bool {
		return slices.ContainsFunc(n.Outputs, func(o string) bool { return slices.Contains(in, o) })
	})
	if !slices.Contains(out, "logits") {
		g.Outputs = nil
		for _, name := range out {
			g.Output(name, onnx.F32, hidden...)
		}
	} else {
		g.Outputs = slices.DeleteFunc(g.Outputs, func(v onnx.Value) bool { return v.Name != "logits" })
	}
	g.Prune()
	used := map[string]bool{}
	for _, n := range g.Nodes {
		for _, name := range n.Inputs {
			used[name] = true
		}
	}
	for _, name := range in {
		g.Input(name, onnx.F32, hidden...)
	}
	g.Inputs = slices.DeleteFunc(g.Inputs, func(v onnx.Value) bool { return !used[v.Name] })
	return &c
}
