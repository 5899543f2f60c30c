package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tensor"
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

// run runs a part on all tokens of a state and hands each output to take as
// float32, whole.
func (r *runner) run(ctx context.Context, s *ort.Session, m *model, part *onnx.Graph, names []string, st *state, take func(name string, data []float32) error) error {
	if m.fixed > 0 {
		return r.runFixed(ctx, s, m, part, names, st, take)
	}
	in, err := r.inputs(part, func(v onnx.Value) (*ort.Value, error) { return r.input(v, names, st, 0, 0) })
	if err != nil {
		return err
	}
	defer closeAll(in)
	out, err := r.outputs(ctx, s, part, in)
	if err != nil {
		return err
	}
	defer closeAll(out)
	for _, o := range out {
		data, err := floats(o)
		if err != nil {
			return err
		}
		if err := take(o.Name, data); err != nil {
			return err
		}
	}
	return nil
}

// runFixed is run for a graph that takes m.fixed tokens at a time and whose
// caller keeps the cache: the new rows of a run are copied behind the old
// ones. A run with fewer tokens begins with padding, which the mask hides from
// all others.
func (r *runner) runFixed(ctx context.Context, s *ort.Session, m *model, part *onnx.Graph, names []string, st *state, take func(name string, data []float32) error) error {
	f := &fixedRun{runner: r, m: m, caches: map[string][]byte{}, whole: map[string][]float32{}}
	for f.at = 0; f.at < len(st.tokens); f.at += m.fixed {
		now := st.slice(f.at, min(f.at+m.fixed, len(st.tokens)))
		f.pad = m.fixed - len(now.tokens)
		in, err := r.inputs(part, func(v onnx.Value) (*ort.Value, error) { return f.input(v, names, now) })
		if err != nil {
			return err
		}
		out, err := r.outputs(ctx, s, part, in)
		closeAll(in)
		if err != nil {
			return err
		}
		for _, o := range out {
			if err = f.output(o, take); err != nil {
				break
			}
		}
		closeAll(out)
		if err != nil {
			return err
		}
	}
	for _, o := range part.Outputs {
		if data, ok := f.whole[o.Name]; ok {
			if err := take(o.Name, data); err != nil {
				return err
			}
		}
	}
	return nil
}

// fixedRun is what lasts from one run of a fixed graph to the next.
type fixedRun struct {
	*runner
	m       *model
	at, pad int // position of the first token, padding before it
	caches  map[string][]byte
	whole   map[string][]float32 // outputs of the runs so far
}

func (f *fixedRun) input(v onnx.Value, names []string, now *state) (*ort.Value, error) {
	switch {
	case strings.HasPrefix(v.Name, "past_key_values."):
		if f.at+len(now.tokens) > f.m.context {
			return nil, &tensor.UnsupportedError{What: fmt.Sprintf("a window of more than %d tokens", f.m.context), Hint: "the cache of the graph has no more rows; --definition windows:N sets the window"}
		}
		size, ok := v.Elem.Bytes(sizes(v.Shape))
		if !ok {
			return nil, fmt.Errorf("input %q has no fixed size", v.Name)
		}
		if f.caches[v.Name] == nil {
			f.caches[v.Name] = make([]byte, size)
		}
		return ort.NewTensorBytes(f.env.Library(), ort.ElementType(v.Elem), f.caches[v.Name], sizes(v.Shape)...)
	case v.Name == "attention_mask" && len(v.Shape) == 4:
		return f.tensor(v.Elem, fixedMask(f.m.fixed, f.m.context, f.at, f.pad), sizes(v.Shape)...)
	}
	return f.runner.input(v, names, now, f.pad, f.at)
}

func (f *fixedRun) output(o ort.Named, take func(name string, data []float32) error) error {
	if past, ok := strings.CutPrefix(o.Name, "present."); ok {
		fresh, err := o.Value.Bytes()
		if err != nil {
			return fmt.Errorf("read output %q: %w", o.Name, err)
		}
		appendRows(f.caches["past_key_values."+past], fresh, int(o.Value.Shape()[1]), f.m.context, f.m.fixed, f.at, f.pad)
		return nil
	}
	data, err := floats(o)
	if err != nil {
		return err
	}
	if _, ok := watched(o.Name); ok {
		return take(o.Name, data)
	}
	f.whole[o.Name] = append(f.whole[o.Name], data[len(data)/f.m.fixed*f.pad:]...)
	return nil
}

// fixedMask is what is added to the scores [n, context+n] of n queries behind
// start rows of cache: 0 where a query may look, -10000 elsewhere. Padding
// looks at itself.
func fixedMask(n, context, start, pad int) []float32 {
	mask := make([]float32, n*(context+n))
	for q := range n {
		row := mask[q*(context+n) : (q+1)*(context+n)]
		for i := range row {
			k := i - context // among the new tokens
			sees := k == q || q >= pad && (i < start || k >= pad && k < q)
			if !sees {
				row[i] = -10000
			}
		}
	}
	return mask
}

// appendRows copies the new rows [heads, n, width] behind start rows of a cache
// [heads, context, width], without the padding before them.
func appendRows(cache, fresh []byte, heads, context, n, start, pad int) {
	from, to := len(fresh)/heads, len(cache)/heads
	row := to / context
	for h := range heads {
		copy(cache[h*to+start*row:(h+1)*to], fresh[h*from+pad*row:h*from+n*row])
	}
}

// inputs makes a value for each input of a part.
func (r *runner) inputs(part *onnx.Graph, value func(onnx.Value) (*ort.Value, error)) ([]ort.Named, error) {
	var in []ort.Named
	for _, v := range part.Inputs {
		val, err := value(v)
		if err != nil {
			closeAll(in)
			return nil, err
		}
		in = append(in, ort.Named{Name: v.Name, Value: val})
	}
	return in, nil
}

// input makes one input value: pad positions of zeros, then those of a state.
// names are the boundary values that hidden holds; start is the position of
// the state's first token.
func (r *runner) input(v onnx.Value, names []string, st *state, pad, start int) (*ort.Value, error) {
	lib, n := r.env.Library(), pad+len(st.tokens)
	int64s := func(f func(i int) int) (*ort.Value, error) {
		ids := make([]int64, n)
		for i := range st.tokens {
			ids[pad+i] = int64(f(i))
		}
		return ort.NewTensor(lib, ids, 1, int64(n))
	}
	switch {
	case v.Name == "input_ids":
		return int64s(func(i int) int { return int(st.tokens[i]) })
	case v.Name == "attention_mask":
		return int64s(func(int) int { return 1 })
	case v.Name == "position_ids":
		return int64s(func(i int) int { return start + i })
	case len(v.Shape) == 4: // an empty cache
		return ort.NewTensorBytes(lib, ort.ElementType(v.Elem), nil, 1, v.Shape[1].Size, 0, v.Shape[3].Size)
	}
	i := slices.Index(names, v.Name)
	if i < 0 {
		return nil, fmt.Errorf("the part asks for input %q, which nothing gives", v.Name)
	}
	data := st.hidden[i]
	width := len(data) / len(st.tokens)
	if pad > 0 {
		data = append(make([]float32, pad*width, n*width), data...)
	}
	return r.tensor(v.Elem, data, 1, int64(n), int64(width))
}

// tensor makes a value of float32 or float16 elements.
func (r *runner) tensor(elem onnx.ElemType, data []float32, shape ...int64) (*ort.Value, error) {
	switch elem {
	case onnx.F32:
		return ort.NewTensor(r.env.Library(), data, shape...)
	case onnx.F16:
		b := make([]byte, 2*len(data))
		tensor.EncodeF16(b, data)
		return ort.NewTensorBytes(r.env.Library(), ort.Float16Type, b, shape...)
	}
	return nil, fmt.Errorf("a part passes %v on, which is neither float32 nor float16", elem)
}

// floats are the elements of an output as float32.
func floats(o ort.Named) ([]float32, error) {
	if o.Value.Type() != ort.Float16Type {
		data, err := ort.Data[float32](o.Value)
		if err != nil {
			return nil, fmt.Errorf("read output %q: %w", o.Name, err)
		}
		return data, nil
	}
	half, err := ort.Data[ort.Float16](o.Value)
	if err != nil {
		return nil, fmt.Errorf("read output %q: %w", o.Name, err)
	}
	data := make([]float32, len(half))
	for i, h := range half {
		data[i] = tensor.F16ToF32(uint16(h))
	}
	return data, nil
}

// sizes are the extents of a shape.
func sizes(s onnx.Shape) []int64 {
	out := make([]int64, len(s))
	for i, d := range s {
		out[i] = d.Size
	}
	return out
}

// outputs runs a part; the caller closes what it returns.
func (r *runner) outputs(ctx context.Context, s *ort.Session, part *onnx.Graph, in []ort.Named) ([]ort.Named, error) {
	out := make([]ort.Named, len(part.Outputs))
	for i, o := range part.Outputs {
		out[i].Name = o.Name
	}
	if err := s.Run(ctx, nil, in, out); err != nil {
		closeAll(out)
		return nil, err
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
