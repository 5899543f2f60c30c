package verify

import (
	"context"
	"fmt"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// Plain names the arithmetic of a quantized graph of standard operators as it
// is written down: every QuantizeLinear and DequantizeLinear computed on its
// own, nothing fused. The CPU would otherwise fuse them into kernels that
// round activations where the graph does not say so, and the graph is for
// another provider.
const Plain = "plain arithmetic on CPU"

// runner loads and runs parts of models on the CPU.
type runner struct {
	env     *ort.Env
	threads int
}

// load opens a part of a model.
func (r *runner) load(ctx context.Context, m *model, part *onnx.Model) (*ort.Session, error) {
	b, err := part.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode a part of %s: %w", m.dir, err)
	}
	o := ort.SessionOptions{
		IntraOpThreads: r.threads,
		Config: map[string]string{
			"session.model_external_initializers_file_folder_path": m.dir,
			"session.prepack.enable_parallel":                      "1",
			// Exact products of unsigned and signed bytes on x86 without VNNI.
			"session.x64quantprecision": "1",
		},
	}
	if m.arithmetic == Plain {
		o.Optimization = ort.OptimizeNone
		o.Config["session.disable_quant_qdq"] = "1"
	}
	s, err := r.env.NewSessionFromBytes(ctx, b, o)
	if err != nil {
		return nil, fmt.Errorf("load a part of %s: %w", m.dir, err)
	}
	return s, nil
}

// state is a run of tokens with the hidden states [1, tokens, hidden] it has
// between two segments, in the order of the boundary's names.
type state struct {
	tokens []int32
	hidden [][]float32
}

// slice is positions [from, to) of a state.
func (s *state) slice(from, to int) *state {
	out := &state{tokens: s.tokens[from:to]}
	for _, h := range s.hidden {
		width := len(h) / len(s.tokens)
		out.hidden = append(out.hidden, h[from*width:to*width])
	}
	return out
}

// inputs makes the values a part asks for. names are the boundary values that
// hidden holds.
func (r *runner) inputs(g *onnx.Graph, names []string, st *state) ([]ort.Named, error) {
	lib, n := r.env.Library(), int64(len(st.tokens))
	int64s := func(f func(i int) int64) (*ort.Value, error) {
		v := make([]int64, n)
		for i := range v {
			v[i] = f(i)
		}
		return ort.NewTensor(lib, v, 1, n)
	}
	var in []ort.Named
	for _, v := range g.Inputs {
		var val *ort.Value
		var err error
		switch {
		case v.Name == "input_ids":
			val, err = int64s(func(i int) int64 { return int64(st.tokens[i]) })
		case v.Name == "attention_mask":
			val, err = int64s(func(int) int64 { return 1 })
		case v.Name == "position_ids":
			val, err = int64s(func(i int) int64 { return int64(i) })
		case len(v.Shape) == 4: // an empty cache
			val, err = ort.NewTensorBytes(lib, ort.ElementType(v.Elem), nil, 1, v.Shape[1].Size, 0, v.Shape[3].Size)
		default:
			i := slices.Index(names, v.Name)
			if i < 0 {
				err = fmt.Errorf("the part asks for input %q, which nothing gives", v.Name)
				break
			}
			val, err = ort.NewTensor(lib, st.hidden[i], 1, n, int64(len(st.hidden[i]))/n)
		}
		if err != nil {
			closeAll(in)
			return nil, err
		}
		in = append(in, ort.Named{Name: v.Name, Value: val})
	}
	return in, nil
}

func closeAll(vs []ort.Named) {
	for _, v := range vs {
		if v.Value != nil {
			v.Value.Close()
		}
	}
}

// run runs a part on all tokens of a state and hands each output to take.
func (r *runner) run(ctx context.Context, s *ort.Session, g *onnx.Graph, names []string, st *state, take func(name string, data []float32) error) error {
	in, err := r.inputs(g, names, st)
	if err != nil {
		return err
	}
	defer closeAll(in)
	out := make([]ort.Named, len(g.Outputs))
	for i, o := range g.Outputs {
		out[i].Name = o.Name
	}
	defer func() { closeAll(out) }()
	if err := s.Run(ctx, nil, in, out); err != nil {
		return err
	}
	for _, o := range out {
		data, err := ort.Data[float32](o.Value)
		if err != nil {
			return fmt.Errorf("read output %q: %w", o.Name, err)
		}
		if err := take(o.Name, data); err != nil {
			return err
		}
	}
	return nil
}
