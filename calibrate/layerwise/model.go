package layerwise

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
	"github.com/llama-pajamas/llama-pajamas/convert/toonnx"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Weights reads a whole weight, row-major, into dst.
type Weights func(w arch.Weight, dst []float32) error

// FromCheckpoint reads weights as they are.
func FromCheckpoint(get func(name string) (*tensor.Tensor, bool)) Weights {
	return func(w arch.Weight, dst []float32) error {
		t, ok := get(w.Name)
		if !ok {
			return fmt.Errorf("tensor %q is missing", w.Name)
		}
		if !t.Shape.Equal(w.Shape) {
			return fmt.Errorf("tensor %q has shape %v, want %v", w.Name, t.Shape, w.Shape)
		}
		return t.ReadWeights(dst, 0)
	}
}

// Model is the float32 graph of a Spec, ready to be run in parts.
type Model struct {
	spec    *arch.Spec
	env     *ort.Env
	threads int
	window  int // tokens of a window at most
	graph   *onnx.Model
	cut     []string // patterns of what a layer hands to the next
	embed   string   // output of the embedding look-up
	pieces  []toonnx.Piece
	consts  []plan.Const
}

// New plans the graph. Windows of tokens are at most window long; threads 0 is
// one for each core.
func New(env *ort.Env, spec *arch.Spec, window, threads int) (*Model, error) {
	rec, err := recipe.Load("cpu", "fp32")
	if err != nil {
		return nil, err
	}
	art, err := toonnx.Build(spec, rec, toonnx.Options{AllLogits: true, MaxContext: window})
	if err != nil {
		return nil, err
	}
	cut, ok := art.Model.Meta(toonnx.LayerOutputKey)
	if !ok {
		return nil, fmt.Errorf("the float32 graph has no property %q", toonnx.LayerOutputKey)
	}
	m := &Model{
		spec: spec, env: env, threads: threads, window: window, graph: art.Model,
		cut: strings.Split(cut, ","), pieces: art.Pieces, consts: art.Data.Consts,
	}
	for _, n := range art.Model.Graph.Nodes {
		if n.Op == "Gather" && slices.Contains(n.Inputs, "input_ids") {
			m.embed = n.Outputs[0]
		}
	}
	if m.embed == "" {
		return nil, fmt.Errorf("the float32 graph has no embedding look-up")
	}
	return m, nil
}

// Spec is the model's.
func (m *Model) Spec() *arch.Spec { return m.spec }

// boundary names the values that layer l takes from the layer before; layer
// [arch.Spec.Layers] is the head.
func (m *Model) boundary(l int) []string {
	if l == 0 {
		return []string{m.embed}
	}
	names := make([]string, len(m.cut))
	for i, p := range m.cut {
		names[i] = fmt.Sprintf(p, l-1)
	}
	return names
}

// Hidden is what one layer hands to the next for windows of equal length: for
// each value of the boundary, [windows, tokens, hidden].
type Hidden struct {
	Windows, Tokens int
	values          [][]float32
}

// Bytes is the memory of the states.
func (h *Hidden) Bytes() int64 {
	var n int64
	for _, v := range h.values {
		n += int64(len(v)) * 4
	}
	return n
}

// window is the states of one window, as slices of h.
func (h *Hidden) window(i int) [][]float32 {
	out := make([][]float32, len(h.values))
	for k, v := range h.values {
		size := len(v) / h.Windows
		out[k] = v[i*size:][:size]
	}
	return out
}

// Embed looks up the embeddings of windows of ids, all of one length.
func (m *Model) Embed(get func(name string) (*tensor.Tensor, bool), windows [][]int32) (*Hidden, error) {
	if len(windows) == 0 || len(windows[0]) == 0 || len(windows[0]) > m.window {
		return nil, fmt.Errorf("embed: want windows of 1 to %d tokens", m.window)
	}
	i := slices.IndexFunc(m.pieces, func(p toonnx.Piece) bool { return p.Weight.Role == arch.TokenEmbd })
	if i < 0 {
		return nil, fmt.Errorf("the model has no embedding")
	}
	t, ok := get(m.pieces[i].Weight.Name)
	if !ok {
		return nil, fmt.Errorf("tensor %q is missing", m.pieces[i].Weight.Name)
	}
	n, width := len(windows[0]), m.spec.Hidden
	h := &Hidden{Windows: len(windows), Tokens: n, values: [][]float32{make([]float32, len(windows)*n*width)}}
	for w, ids := range windows {
		if len(ids) != n {
			return nil, fmt.Errorf("embed: window %d has %d tokens, the first has %d", w, len(ids), n)
		}
		for t0, id := range ids {
			if id < 0 || int(id) >= m.spec.Vocab {
				return nil, fmt.Errorf("embed: token id %d is not in the vocabulary of %d", id, m.spec.Vocab)
			}
			if err := t.ReadWeights(h.values[0][(w*n+t0)*width:][:width], int64(id)*int64(width)); err != nil {
				return nil, err
			}
		}
	}
	return h, nil
}

// part is a piece of the graph, its weights inputs.
type part struct {
	model   *Model
	session *ort.Session
	in, out []string // boundary values
	extra   []onnx.Value
	cache   []onnx.Value
	weights []weightInput
	mask    bool
	pos     bool
}

// weightInput is an initializer that became an input.
type weightInput struct {
	name   string
	dims   []int64
	pieces []span
}

// span is a weight's place within an input.
type span struct {
	weight arch.Weight
	at     int
}

// layerPart prepares layer l; observed adds observers to it.
func (m *Model) layerPart(ctx context.Context, l int, observed bool) (*part, error) {
	p := &part{model: m, in: m.boundary(l), out: m.boundary(l + 1)}
	model := m.extract(p)
	if observed {
		p.observe(model.Graph, l)
	}
	return p, p.load(ctx, model, fmt.Sprintf("layer %d", l))
}

// extract cuts the graph between p.in and p.out and turns weights into inputs.
func (m *Model) extract(p *part) *onnx.Model {
	c := *m.graph
	g := m.graph.Graph.Clone()
	c.Graph = g
	g.RemoveNodes(func(n *onnx.Node) bool {
		return slices.ContainsFunc(n.Outputs, func(o string) bool { return slices.Contains(p.in, o) })
	})
	hidden := onnx.Shape{onnx.Named("batch_size"), onnx.Named("sequence_length"), onnx.Unknown}
	g.Outputs = nil
	for _, name := range p.out {
		g.Output(name, onnx.F32, hidden...)
	}
	g.Prune()
	for _, name := range p.in {
		g.Input(name, onnx.F32, hidden...)
	}
	g.Initializers = slices.DeleteFunc(g.Initializers, func(t *onnx.Initializer) bool {
		if t.External == nil {
			return false
		}
		for _, k := range m.consts {
			if k.Offset == t.External.Offset {
				t.Data, t.External = k.Data, nil
				return false
			}
		}
		w := weightInput{name: t.Name, dims: t.Dims}
		for _, piece := range m.pieces {
			if d := piece.Output.Data.Offset - t.External.Offset; d >= 0 && d < t.External.Length {
				w.pieces = append(w.pieces, span{piece.Weight, int(d / 4)})
			}
		}
		shape := make(onnx.Shape, len(t.Dims))
		for i, d := range t.Dims {
			shape[i] = onnx.Fixed(d)
		}
		g.Input(t.Name, onnx.F32, shape...)
		p.weights = append(p.weights, w)
		return true
	})
	used := map[string]bool{}
	for _, n := range g.Nodes {
		for _, name := range n.Inputs {
			used[name] = true
		}
	}
	g.Inputs = slices.DeleteFunc(g.Inputs, func(v onnx.Value) bool { return !used[v.Name] })
	for _, v := range g.Inputs {
		switch {
		case v.Name == "attention_mask":
			p.mask = true
		case v.Name == "position_ids":
			p.pos = true
		case strings.HasPrefix(v.Name, "past_key_values."):
			p.cache = append(p.cache, v)
		}
	}
	return &c
}

func (p *part) load(ctx context.Context, model *onnx.Model, what string) error {
	b, err := model.Encode()
	if err != nil {
		return fmt.Errorf("encode %s: %w", what, err)
	}
	p.session, err = p.model.env.NewSessionFromBytes(ctx, b, ort.SessionOptions{IntraOpThreads: p.model.threads})
	if err != nil {
		return fmt.Errorf("load %s: %w", what, err)
	}
	return nil
}

func (p *part) close() { p.session.Close() }

// values reads the part's weights and makes inputs of them. Whoever calls it
// closes them.
func (p *part) values(read Weights) ([]ort.Named, error) {
	var out []ort.Named
	for _, w := range p.weights {
		n := int64(1)
		for _, d := range w.dims {
			n *= d
		}
		data := make([]float32, n)
		for _, s := range w.pieces {
			size, _ := s.weight.Shape.Elements()
			if err := read(s.weight, data[s.at:][:size]); err != nil {
				closeAll(out)
				return nil, fmt.Errorf("read %q: %w", s.weight.Name, err)
			}
		}
		v, err := ort.NewTensor(p.model.env.Library(), data, w.dims...)
		if err != nil {
			closeAll(out)
			return nil, err
		}
		out = append(out, ort.Named{Name: w.name, Value: v})
	}
	return out, nil
}

func closeAll(vs []ort.Named) {
	for _, v := range vs {
		if v.Value != nil {
			v.Value.Close()
		}
	}
}

// run evaluates the part for one window: in holds its boundary values, out
// receives the next ones, and see, which may be nil, each further output.
func (p *part) run(ctx context.Context, weights []ort.Named, in, out [][]float32, tokens int, see func(name string, data []float32)) error {
	lib, n := p.model.env.Library(), int64(tokens)
	var own []ort.Named
	defer func() { closeAll(own) }()
	add := func(name string, v *ort.Value, err error) error {
		if err == nil {
			own = append(own, ort.Named{Name: name, Value: v})
		}
		return err
	}
	for i, name := range p.in {
		v, err := ort.NewTensor(lib, in[i], 1, n, int64(len(in[i]))/n)
		if err := add(name, v, err); err != nil {
			return err
		}
	}
	if p.mask {
		ones := slices.Repeat([]int64{1}, tokens)
		v, err := ort.NewTensor(lib, ones, 1, n)
		if err := add("attention_mask", v, err); err != nil {
			return err
		}
	}
	if p.pos {
		pos := make([]int64, n)
		for i := range pos {
			pos[i] = int64(i)
		}
		v, err := ort.NewTensor(lib, pos, 1, n)
		if err := add("position_ids", v, err); err != nil {
			return err
		}
	}
	for _, c := range p.cache {
		v, err := ort.NewTensorBytes(lib, ort.ElementType(c.Elem), nil, 1, c.Shape[1].Size, 0, c.Shape[3].Size)
		if err := add(c.Name, v, err); err != nil {
			return err
		}
	}
	var results []ort.Named
	defer func() { closeAll(results) }()
	for i, name := range p.out {
		v, err := ort.NewTensor(lib, out[i], 1, n, int64(len(out[i]))/n)
		if err != nil {
			return err
		}
		results = append(results, ort.Named{Name: name, Value: v})
	}
	for _, v := range p.extra {
		results = append(results, ort.Named{Name: v.Name})
	}
	if err := p.session.Run(ctx, nil, append(slices.Clone(weights), own...), results); err != nil {
		return err
	}
	for _, r := range results[len(p.out):] {
		data, err := ort.Data[float32](r.Value)
		if err != nil {
			return fmt.Errorf("read output %q: %w", r.Name, err)
		}
		see(r.Name, data)
	}
	return nil
}

// next makes room for what layer l hands on.
func (m *Model) next(h *Hidden, l int) *Hidden {
	n := h.Windows * h.Tokens * m.spec.Hidden
	out := &Hidden{Windows: h.Windows, Tokens: h.Tokens}
	for range m.boundary(l + 1) {
		out.values = append(out.values, make([]float32, n))
	}
	return out
}
