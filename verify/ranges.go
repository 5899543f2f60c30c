package verify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// RangeLimit is a quarter of the largest float16: a tensor that reaches beyond
// it on a text may overflow on another.
const RangeLimit = 65504.0 / 4

// rangeTokens is how much of the text ranges are measured on. Huge activations
// sit on the first tokens and on marks that every text has.
const rangeTokens = 128

// keptRanges is how many of the largest ranges a report holds.
const keptRanges = 8

// measureRanges measures the largest magnitude of every 16-bit value of a
// model on the beginning of the text.
func (v *verifier) measureRanges(ctx context.Context, m *model, r *Result) error {
	largestOf := map[string]float64{}
	s := newStream(&v.runner, m, 1)
	defer s.close()
	s.observe(func(tensor string, maxAbs float64) {
		if !(maxAbs <= largestOf[tensor]) { // NaN counts
			largestOf[tensor] = maxAbs
		}
	})
	first := v.windows[0]
	tokens := v.tokens[first.Start:min(first.Start+rangeTokens, first.End)]
	if err := s.through(ctx, []*state{{tokens: tokens}}); err != nil {
		return fmt.Errorf("measure the ranges of its 16-bit tensors: %w", err)
	}
	var seen []modeldir.Range
	for tensor, maxAbs := range largestOf {
		seen = append(seen, modeldir.Range{Tensor: tensor, MaxAbs: maxAbs, Limit: RangeLimit})
	}
	slices.SortFunc(seen, func(a, b modeldir.Range) int {
		return cmp.Or(cmp.Compare(b.MaxAbs, a.MaxAbs), cmp.Compare(a.Tensor, b.Tensor))
	})
	for _, s := range seen {
		if !(s.MaxAbs <= s.Limit) {
			r.Problems = append(r.Problems, fmt.Sprintf("tensor %s reaches %.0f, beyond %.0f, a quarter of the largest 16-bit float: it may overflow where 16-bit floats are computed as such", s.Tensor, s.MaxAbs, s.Limit))
		}
	}
	r.Fidelity.Ranges = seen[:min(keptRanges, len(seen))]
	return nil
}

// observed prefixes the outputs that observe adds.
const observed = "max_abs:"

// observe returns a float32 copy of a graph with 16-bit floats, with one more
// output for each value that is 16-bit in the original: its largest magnitude.
func observe(m *onnx.Model) *onnx.Model {
	types := onnx.Infer(m)
	c := *m
	g := m.Graph.Clone()
	c.Graph = g
	masked := maskedValues(g)
	var watch []string
	for _, n := range g.Nodes {
		for _, o := range n.Outputs {
			if types[o].Elem == onnx.F16 && !masked[o] {
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

// maskedValues are the mask and the sums of scores and mask, up to the softmax:
// they are as large as "never" is written and say nothing that the scores do
// not say.
func maskedValues(g *onnx.Graph) map[string]bool {
	masked := map[string]bool{"attention_mask": true}
	for _, n := range g.Nodes {
		switch n.Op {
		case "Softmax", "Attention", "GroupQueryAttention": // the last two have one inside
			continue
		}
		if !slices.ContainsFunc(n.Inputs, func(name string) bool { return masked[name] }) {
			continue
		}
		for _, o := range n.Outputs {
			masked[o] = true
		}
	}
	return masked
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
