package layerwise

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Unit is a matrix that can be stored in a form of its own. The head of a model
// that ties it to the embedding stands for both.
type Unit struct {
	Role  arch.Role
	Layer int // -1 for head and embedding
}

// Units lists the matrices of a model, in its order.
func Units(spec *arch.Spec) []Unit {
	var out []Unit
	for _, w := range spec.Weights() {
		switch {
		case w.Role == arch.TokenEmbd && spec.Tied:
			out = append(out, Unit{arch.LMHead, -1})
		case w.Role == arch.TokenEmbd:
		case w.Role.IsMatrix():
			out = append(out, Unit{w.Role, w.Layer})
		}
	}
	return out
}

// SensitivityOptions of [Sensitivity].
type SensitivityOptions struct {
	// Windows of token ids, all of one length. Time and memory grow with them
	// and with the square of the number of layers.
	Windows [][]int32
	// Read gives the model's weights: as they are, or folded.
	Read Weights
	// Quantize replaces a weight, as Read gives it, by what a reader of its
	// quantized form sees.
	Quantize func(w arch.Weight, x []float32) error
	// Progress is told the work done and in all; may be nil.
	Progress func(done, total int)
}

// Sensitivity measures, for each unit, the mean KL divergence of the model's
// output from its own when that unit alone is quantized. The model passes by
// once, a layer at a time: the hidden states of every unit's variant go along.
func Sensitivity(ctx context.Context, m *Model, get func(name string) (*tensor.Tensor, bool), o SensitivityOptions) (map[Unit]float64, error) {
	s := &sweep{Model: m, o: o}
	base, err := m.Embed(get, o.Windows)
	if err != nil {
		return nil, err
	}
	s.base = base
	for _, u := range Units(m.spec) {
		if u.Layer >= 0 {
			s.total += m.spec.Layers - u.Layer
		}
	}
	s.total += m.spec.Layers
	for l := range m.spec.Layers {
		if err := s.layer(ctx, l); err != nil {
			return nil, fmt.Errorf("measure layer %d: %w", l, err)
		}
	}
	return s.head(ctx)
}

// variant is the model with one unit quantized: its hidden states, summed.
type variant struct {
	unit   Unit
	hidden *Hidden
}

type sweep struct {
	*Model
	o           SensitivityOptions
	base        *Hidden
	variants    []variant
	done, total int
}

func (s *sweep) step(n int) {
	s.done += n
	if s.o.Progress != nil {
		s.o.Progress(min(s.done, s.total), s.total)
	}
}

// merged holds what a layer hands on as one value, the sum, beside zeros: the
// next layer adds its inputs before anything else.
func merged(h *Hidden) *Hidden {
	sum := h.values[0]
	for _, v := range h.values[1:] {
		for i, x := range v {
			sum[i] += x
		}
	}
	h.values = [][]float32{sum}
	return h
}

// spread is the opposite of merged, for a part with n inputs; zeros is shared.
func spread(h *Hidden, n int, zeros []float32) *Hidden {
	out := &Hidden{Windows: h.Windows, Tokens: h.Tokens, values: [][]float32{h.values[0]}}
	for len(out.values) < n {
		out.values = append(out.values, zeros)
	}
	return out
}

// layer takes the base and all variants through layer l, where a variant for
// each of its matrices begins.
func (s *sweep) layer(ctx context.Context, l int) error {
	p, err := s.layerPart(ctx, l, false)
	if err != nil {
		return err
	}
	defer p.close()
	weights, err := p.values(s.o.Read)
	if err != nil {
		return err
	}
	defer closeAll(weights)
	zeros := make([]float32, len(s.base.values[0]))
	through := func(weights []ort.Named, h *Hidden) (*Hidden, error) {
		in, out := spread(h, len(p.in), zeros), s.next(h, l)
		for w := range h.Windows {
			if err := p.run(ctx, weights, in.window(w), out.window(w), h.Tokens, nil); err != nil {
				return nil, err
			}
		}
		s.step(1)
		return merged(out), nil
	}
	for i, v := range s.variants {
		if s.variants[i].hidden, err = through(weights, v.hidden); err != nil {
			return err
		}
	}
	for i, w := range p.weights {
		for _, sp := range w.pieces {
			if !sp.weight.Role.IsMatrix() {
				continue
			}
			h, err := s.changed(p, weights, i, sp, through)
			if err != nil {
				return err
			}
			s.variants = append(s.variants, variant{Unit{sp.weight.Role, l}, h})
		}
	}
	s.base, err = through(weights, s.base)
	return err
}

// changed runs the layer on the base with one matrix quantized.
func (s *sweep) changed(p *part, weights []ort.Named, i int, sp span, through func([]ort.Named, *Hidden) (*Hidden, error)) (*Hidden, error) {
	whole, err := ort.Data[float32](weights[i].Value)
	if err != nil {
		return nil, err
	}
	size, _ := sp.weight.Shape.Elements()
	here := whole[sp.at:][:size]
	kept := slices.Clone(here)
	defer copy(here, kept)
	if err := s.o.Quantize(sp.weight, here); err != nil {
		return nil, err
	}
	return through(weights, s.base)
}

// headRows is how many rows of the head are in memory at once.
const headRows = 8192

// head compares the logits of the variants with those of the base.
func (s *sweep) head(ctx context.Context) (map[Unit]float64, error) {
	spec := s.spec
	n, zeros := s.base.Windows*s.base.Tokens, make([]float32, len(s.base.values[0]))
	normed := func(h *Hidden) ([]float32, error) {
		return s.finalNorm(ctx, s.o.Read, spread(h, len(s.boundary(spec.Layers)), zeros))
	}
	base, err := normed(s.base)
	if err != nil {
		return nil, err
	}
	states := make([][]float32, len(s.variants))
	for i, v := range s.variants {
		if states[i], err = normed(v.hidden); err != nil {
			return nil, err
		}
		s.variants[i].hidden = nil
	}
	p, err := s.headPart(ctx)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	w := s.headWeight()
	matrix := make([]float32, spec.Vocab*spec.Hidden)
	if err := s.o.Read(w, matrix); err != nil {
		return nil, err
	}
	ref, err := s.reference(ctx, p, matrix, base, n)
	if err != nil {
		return nil, err
	}
	out := map[Unit]float64{}
	for i, v := range s.variants {
		if out[v.unit], err = s.divergence(ctx, p, matrix, states[i], ref); err != nil {
			return nil, err
		}
		s.step(1)
	}
	w.Role = arch.LMHead
	if err := s.o.Quantize(w, matrix); err != nil {
		return nil, err
	}
	out[Unit{arch.LMHead, -1}], err = s.divergence(ctx, p, matrix, base, ref)
	return out, err
}

// headWeight is the matrix that makes logits.
func (s *sweep) headWeight() arch.Weight {
	var found arch.Weight
	for _, w := range s.spec.Weights() {
		if w.Role == arch.LMHead || w.Role == arch.TokenEmbd && s.spec.Tied {
			found = w
		}
	}
	return found
}

// headPart is a graph of its own: for states x [n, hidden], rows w of the head
// and weights of its outputs p [n, rows],
//
//	max[n] of the logits, sum[n] of exp(logit − max), dot[n] of p·logit.
func (s *sweep) headPart(ctx context.Context) (*ort.Session, error) {
	g := onnx.NewGraph("head")
	rows := onnx.Named("rows")
	x := g.Input("x", onnx.F32, onnx.Named("n"), onnx.Fixed(int64(s.spec.Hidden)))
	w := g.Input("w", onnx.F32, rows, onnx.Fixed(int64(s.spec.Hidden)))
	p := g.Input("p", onnx.F32, onnx.Named("n"), rows)
	axis := onnx.Const(g, "axis", nil, int64(1))
	node := func(domain, op, out string, in ...string) string {
		n := g.Node(domain, op, out, in, []string{out})
		if op == "FusedMatMul" {
			n.Attrs = append(n.Attrs, onnx.Int("transB", 1))
		}
		return out
	}
	logits := node(onnx.DomainMicrosoft, "FusedMatMul", "logits", x, w)
	most := node(onnx.DomainONNX, "ReduceMax", "max", logits, axis)
	node(onnx.DomainONNX, "ReduceSum", "sum", node(onnx.DomainONNX, "Exp", "exp", node(onnx.DomainONNX, "Sub", "sub", logits, most)), axis)
	node(onnx.DomainONNX, "ReduceSum", "dot", node(onnx.DomainONNX, "Mul", "mul", logits, p), axis)
	for _, name := range []string{"logits", "max", "sum", "dot"} {
		g.Output(name, onnx.F32, onnx.Named("n"), onnx.Unknown)
	}
	m := onnx.NewModel(g, onnx.Opset{Domain: onnx.DomainONNX, Version: 21}, onnx.Opset{Domain: onnx.DomainMicrosoft, Version: 1})
	b, err := m.Encode()
	if err != nil {
		return nil, err
	}
	session, err := s.env.NewSessionFromBytes(ctx, b, ort.SessionOptions{IntraOpThreads: s.threads})
	if err != nil {
		return nil, fmt.Errorf("load the head: %w", err)
	}
	return session, nil
}

// distribution is the base's output: probabilities in slices of headRows of the
// vocabulary, [n, rows] each, and for each position Σ p·log p.
type distribution struct {
	n       int
	slices  [][]float32
	entropy []float64
}

// reference computes the base's distribution.
func (s *sweep) reference(ctx context.Context, p *ort.Session, matrix, x []float32, n int) (*distribution, error) {
	d := &distribution{n: n, entropy: make([]float64, n)}
	lse, most := make([]float64, n), make([]float64, n)
	for from := 0; from < s.spec.Vocab; from += headRows {
		rows := min(headRows, s.spec.Vocab-from)
		out, err := s.runHead(ctx, p, matrix, x, make([]float32, n*rows), from, rows, n, "logits")
		if err != nil {
			return nil, err
		}
		d.slices = append(d.slices, out[0])
	}
	each := func(f func(i int, v *float32)) {
		for _, part := range d.slices {
			rows := len(part) / n
			for i := range n {
				for k := range rows {
					f(i, &part[i*rows+k])
				}
			}
		}
	}
	for i := range most {
		most[i] = math.Inf(-1)
	}
	each(func(i int, v *float32) { most[i] = max(most[i], float64(*v)) })
	each(func(i int, v *float32) { lse[i] += math.Exp(float64(*v) - most[i]) })
	for i := range lse {
		lse[i] = math.Log(lse[i]) + most[i]
		if math.IsNaN(lse[i]) || math.IsInf(lse[i], 0) {
			return nil, fmt.Errorf("the logits of position %d are not finite", i)
		}
	}
	each(func(i int, v *float32) {
		lp := float64(*v) - lse[i]
		q := math.Exp(lp)
		d.entropy[i] += q * lp
		*v = float32(q)
	})
	return d, nil
}

// divergence is the mean of KL(base || variant) = Σ p·log p − Σ p·z + log Σ exp z
// over the positions, z the variant's logits.
func (s *sweep) divergence(ctx context.Context, p *ort.Session, matrix, x []float32, d *distribution) (float64, error) {
	most, sum, dot := make([]float64, d.n), make([]float64, d.n), make([]float64, d.n)
	for i := range most {
		most[i] = math.Inf(-1)
	}
	for k, from := 0, 0; from < s.spec.Vocab; k, from = k+1, from+headRows {
		rows := min(headRows, s.spec.Vocab-from)
		out, err := s.runHead(ctx, p, matrix, x, d.slices[k], from, rows, d.n, "max", "sum", "dot")
		if err != nil {
			return 0, err
		}
		for i := range d.n {
			m := float64(out[0][i])
			top := max(most[i], m)
			sum[i] = sum[i]*math.Exp(most[i]-top) + float64(out[1][i])*math.Exp(m-top)
			most[i] = top
			dot[i] += float64(out[2][i])
		}
	}
	kl := 0.0
	for i := range d.n {
		kl += d.entropy[i] - dot[i] + most[i] + math.Log(sum[i])
	}
	kl /= float64(d.n)
	if math.IsNaN(kl) || math.IsInf(kl, 0) {
		return 0, fmt.Errorf("the logits of a quantized variant are not finite")
	}
	return max(kl, 0), nil
}

// runHead evaluates rows of the head.
func (s *sweep) runHead(ctx context.Context, p *ort.Session, matrix, x, weights []float32, from, rows, n int, want ...string) ([][]float32, error) {
	lib, width := s.env.Library(), s.spec.Hidden
	var in, out []ort.Named
	defer func() { closeAll(in); closeAll(out) }()
	for _, v := range []struct {
		name string
		data []float32
		a, b int
	}{{"x", x, n, width}, {"w", matrix[from*width:][:rows*width], rows, width}, {"p", weights, n, rows}} {
		t, err := ort.NewTensor(lib, v.data, int64(v.a), int64(v.b))
		if err != nil {
			return nil, err
		}
		in = append(in, ort.Named{Name: v.name, Value: t})
	}
	for _, name := range want {
		out = append(out, ort.Named{Name: name})
	}
	if err := p.Run(ctx, nil, in, out); err != nil {
		return nil, err
	}
	results := make([][]float32, len(out))
	for i, o := range out {
		data, err := ort.Data[float32](o.Value)
		if err != nil {
			return nil, err
		}
		results[i] = slices.Clone(data)
	}
	return results, nil
}
