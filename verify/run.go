package verify

import (
	"context"
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// runner loads and runs parts of models on the CPU.
type runner struct {
	env     *ort.Env
	threads int
}

// load opens a part whose weights lie in dir.
func (r *runner) load(ctx context.Context, m *onnx.Model, dir string) (*ort.Session, error) {
	b, err := m.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode a part of %s: %w", dir, err)
	}
	s, err := r.env.NewSessionFromBytes(ctx, b, ort.SessionOptions{
		IntraOpThreads: r.threads,
		Config: map[string]string{
			"session.model_external_initializers_file_folder_path": dir,
			"session.prepack.enable_parallel":                      "1",
		},
	})
	if err != nil {
		return nil, fmt.Errorf("load a part of %s: %w", dir, err)
	}
	return s, nil
}

// state is what passes between segments: hidden states [1, tokens, hidden] by
// the name of their boundary value, in order.
type state struct {
	tokens []int32
	hidden [][]float32
}

// inputs makes the values a part asks for. names are the boundary values that
// hidden holds.
func (r *runner) inputs(g *onnx.Graph, names []string, hidden [][]float32, tokens []int32) ([]ort.Named, error) {
	lib, n := r.env.Library(), int64(len(tokens))
	var in []ort.Named
	for _, v := range g.Inputs {
		var val *ort.Value
		var err error
		switch {
		case v.Name == "input_ids":
			ids := make([]int64, n)
			for i, t := range tokens {
				ids[i] = int64(t)
			}
			val, err = ort.NewTensor(lib, ids, 1, n)
		case v.Name == "attention_mask":
			ones := make([]int64, n)
			for i := range ones {
				ones[i] = 1
			}
			val, err = ort.NewTensor(lib, ones, 1, n)
		case v.Name == "position_ids":
			pos := make([]int64, n)
			for i := range pos {
				pos[i] = int64(i)
			}
			val, err = ort.NewTensor(lib, pos, 1, n)
		case len(v.Shape) == 4: // an empty cache
			val, err = ort.NewTensorBytes(lib, ort.ElementType(v.Elem), nil, 1, v.Shape[1].Size, 0, v.Shape[3].Size)
		default:
			for i, name := range names {
				if name == v.Name {
					val, err = ort.NewTensor(lib, hidden[i], 1, n, int64(len(hidden[i]))/n)
				}
			}
			if val == nil && err == nil {
				err = fmt.Errorf("the part asks for input %q, which nothing gives", v.Name)
			}
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
func (r *runner) run(ctx context.Context, m *onnx.Model, dir string, names []string, st state, take func(name string, data []float32) error) error {
	s, err := r.load(ctx, m, dir)
	if err != nil {
		return err
	}
	defer s.Close()
	return r.runSession(ctx, s, m.Graph, names, st, take)
}

func (r *runner) runSession(ctx context.Context, s *ort.Session, g *onnx.Graph, names []string, st state, take func(name string, data []float32) error) error {
	in, err := r.inputs(g, names, st.hidden, st.tokens)
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
