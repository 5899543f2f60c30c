package verify

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/convert/toonnx"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
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
	// fixed is how many tokens a graph of fixed shapes takes at a time, behind
	// context rows of cache that its caller keeps; 0 for graphs of any length.
	fixed, context int
	types          map[string]onnx.Value
}

// openModel reads a graph and makes it compute every position. Where an
// artifact has a graph of its own for prompts, it is that one.
func openModel(dir string) (*model, error) {
	path := filepath.Join(dir, modeldir.ModelFile)
	if prefill := filepath.Join(dir, modeldir.PrefillFile); exists(prefill) {
		path = prefill
	}
	f, err := onnx.Open(path)
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
		switch {
		case in.Name == "input_ids" && len(in.Shape) == 2 && in.Shape[1].IsFixed():
			m.fixed = int(in.Shape[1].Size)
		case strings.HasPrefix(in.Name, "past_key_values.") && len(in.Shape) == 4 && in.Shape[2].IsFixed():
			m.context = int(in.Shape[2].Size)
		}
	}
	allPositions(f.Model.Graph, m.fixed)
	m.types = onnx.Infer(f.Model)
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

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// allPositions removes the nodes that keep the last position only. fixed is
// the number of positions where the graph fixes it, else 0.
func allPositions(g *onnx.Graph, fixed int) {
	for _, n := range g.Nodes {
		if strings.HasPrefix(n.Name, toonnx.LastPosition) {
			g.ReplaceUses(n.Outputs[0], n.Inputs[0])
		}
	}
	g.RemoveNodes(func(n *onnx.Node) bool { return strings.HasPrefix(n.Name, toonnx.LastPosition) })
	for i := range g.Outputs {
		if g.Outputs[i].Name == "logits" {
			g.Outputs[i].Shape[1] = onnx.Named("sequence_length")
			if fixed > 0 {
				g.Outputs[i].Shape[1] = onnx.Fixed(int64(fixed))
			}
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
// from the hidden states before layer from; to those before layer to, and the
// new rows of the cache where the caller keeps it.
func (m *model) body(from, to int) *onnx.Model {
	var in []string
	if from > 0 {
		in = m.boundary(from)
	}
	out := m.boundary(to)
	if m.fixed > 0 {
		for l := from; l < to; l++ {
			out = append(out, fmt.Sprintf("present.%d.key", l), fmt.Sprintf("present.%d.value", l))
		}
	}
	return m.part(in, out)
}

// head is the part behind the last layer: final norm and logits.
func (m *model) head() *onnx.Model { return m.part(m.boundary(m.layers), []string{"logits"}) }

// part cuts the graph between values.
func (m *model) part(in, out []string) *onnx.Model {
	c := *m.graph
	g := m.graph.Graph.Clone()
	c.Graph = g
	// between declares a value that was inside the graph.
	between := func(name string) onnx.Value {
		v := onnx.Value{Name: name, Elem: m.types[name].Elem, Shape: onnx.Shape{onnx.Named("batch_size"), onnx.Named("sequence_length"), onnx.Unknown}}
		if m.fixed > 0 {
			v.Shape = m.types[name].Shape
		}
		return v
	}
	g.RemoveNodes(func(n *onnx.Node) bool {
		return slices.ContainsFunc(n.Outputs, func(o string) bool { return slices.Contains(in, o) })
	})
	outputs := g.Outputs
	g.Outputs = nil
	for _, name := range out {
		if i := slices.IndexFunc(outputs, func(v onnx.Value) bool { return v.Name == name }); i >= 0 {
			g.Outputs = append(g.Outputs, outputs[i])
			continue
		}
		g.Outputs = append(g.Outputs, between(name))
	}
	g.Prune()
	used := map[string]bool{}
	for _, n := range g.Nodes {
		for _, name := range n.Inputs {
			used[name] = true
		}
	}
	for _, name := range in {
		g.Inputs = append(g.Inputs, between(name))
	}
	g.Inputs = slices.DeleteFunc(g.Inputs, func(v onnx.Value) bool { return !used[v.Name] })
	return &c
}
