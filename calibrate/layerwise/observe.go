package layerwise

import (
	"context"
	"fmt"
	"time"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Options of [Observe].
type Options struct {
	// Windows of token ids, all of one length.
	Windows [][]int32
	// Source describes them in metadata.
	Source string
	// StateFile keeps what is done, so that an interrupted run goes on where it
	// was; "" for none. It is removed at the end. Key says what the state is of
	// (model, text); a state of anything else is ignored.
	StateFile, Key string
	// Progress is told the layers done and in all; may be nil.
	Progress func(done, total int)
}

// saveEvery is how long the work of layers may pile up before the state is
// kept.
var saveEvery = 20 * time.Second

// Observe runs windows of a text through the model and gathers the figures of
// every matrix' input. Memory is one layer in float32, what the runtime adds
// for it, and the hidden states.
func Observe(ctx context.Context, m *Model, get func(name string) (*tensor.Tensor, bool), o Options) (*calibrate.Stats, error) {
	spec := m.spec
	total := spec.Layers + 1
	step := func(done int) {
		if o.Progress != nil {
			o.Progress(done, total)
		}
	}
	hidden, err := m.Embed(get, o.Windows)
	if err != nil {
		return nil, err
	}
	stats := calibrate.NewStats(spec, o.Source, hidden.Windows*hidden.Tokens)
	first, err := loadState(o, m, stats, hidden)
	if err != nil {
		return nil, err
	}
	saved := time.Now()
	for l := first; l < spec.Layers; l++ {
		step(l)
		if hidden, err = m.observeLayer(ctx, l, FromCheckpoint(get), hidden, stats); err != nil {
			return nil, fmt.Errorf("calibrate layer %d: %w", l, err)
		}
		if o.StateFile != "" && time.Since(saved) > saveEvery {
			if err := saveState(o, l+1, stats, hidden); err != nil {
				return nil, err
			}
			saved = time.Now()
		}
	}
	step(spec.Layers)
	if err := m.observeHead(ctx, FromCheckpoint(get), hidden, stats); err != nil {
		return nil, fmt.Errorf("calibrate the head: %w", err)
	}
	step(total)
	if err := stats.Finish(); err != nil {
		return nil, err
	}
	return stats, removeState(o)
}

// observed names the outputs of observers.
const (
	seenSquare = "observed/%v/mean_square"
	seenAbs    = "observed/%v/mean_abs"
	seenMax    = "observed/%v/max"
	seenKey    = "observed/key"
	seenValue  = "observed/value"
)

// observe adds observers to the graph of layer l: for the input of each
// matrix, mean square, mean and largest magnitude of each channel; for keys
// and values, after rotation, their largest magnitudes.
func (p *part) observe(g *onnx.Graph, l int) {
	rolesOf := map[string]arch.Role{}
	for _, w := range p.weights {
		rolesOf[w.name] = w.pieces[0].weight.Role
	}
	tokens := onnx.Const(g, "observed/axes.tokens", nil, int64(0), int64(1))
	channels := onnx.Const(g, "observed/axes.cache", nil, int64(0), int64(2))
	seen := map[string]bool{}
	node := func(op, out string, in []string, attrs ...onnx.Attr) string {
		g.Node(onnx.DomainONNX, op, out, in, []string{out}, attrs...)
		return out
	}
	output := func(name string, shape ...onnx.Dim) {
		g.Output(name, onnx.F32, shape...)
		p.extra = append(p.extra, onnx.Value{Name: name})
	}
	for _, n := range append([]*onnx.Node(nil), g.Nodes...) {
		if len(n.Inputs) < 2 {
			continue
		}
		if n.Op == "GroupQueryAttention" {
			for i, name := range []string{seenKey, seenValue} {
				abs := node("Abs", name+"/Abs", []string{n.Outputs[1+i]})
				node("ReduceMax", name, []string{abs, channels}, onnx.Int("keepdims", 0))
				output(name, onnx.Unknown, onnx.Unknown)
			}
			continue
		}
		role, ok := rolesOf[n.Inputs[1]]
		if !ok || !role.IsMatrix() {
			continue
		}
		in, _ := calibrate.InputOf(role)
		square := fmt.Sprintf(seenSquare, in)
		if seen[square] {
			continue
		}
		seen[square] = true
		x := n.Inputs[0]
		node("Mul", square+"/Mul", []string{x, x})
		node("ReduceMean", square, []string{square + "/Mul", tokens}, onnx.Int("keepdims", 0))
		output(square, onnx.Unknown)
		largest := fmt.Sprintf(seenMax, in)
		node("Abs", largest+"/Abs", []string{x})
		abs := fmt.Sprintf(seenAbs, in)
		node("ReduceMean", abs, []string{largest + "/Abs", tokens}, onnx.Int("keepdims", 0))
		output(abs, onnx.Unknown)
		node("ReduceMax", largest, []string{largest + "/Abs", tokens}, onnx.Int("keepdims", 0))
		output(largest, onnx.Unknown)
	}
}

// observeLayer runs layer l on all windows.
func (m *Model) observeLayer(ctx context.Context, l int, read Weights, h *Hidden, stats *calibrate.Stats) (*Hidden, error) {
	p, err := m.layerPart(ctx, l, true)
	if err != nil {
		return nil, err
	}
	defer p.close()
	layer := stats.Layer(l)
	weights, err := p.values(func(w arch.Weight, dst []float32) error {
		if err := read(w, dst); err != nil {
			return err
		}
		layer.AddWeights(w, dst)
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer closeAll(weights)
	out := m.next(h, l)
	for w := range h.Windows {
		err := p.run(ctx, weights, h.window(w), out.window(w), h.Tokens, func(name string, data []float32) {
			switch name {
			case seenKey:
				layer.AddKeys(data)
				return
			case seenValue:
				layer.AddValues(data)
				return
			}
			for in := range calibrate.Input(calibrate.Inputs) {
				switch name {
				case fmt.Sprintf(seenSquare, in):
					layer.AddMeanSquare(in, data, h.Windows)
				case fmt.Sprintf(seenAbs, in):
					layer.AddMeanAbs(in, data, h.Windows)
				case fmt.Sprintf(seenMax, in):
					layer.AddMaxAbs(in, data)
				}
			}
		})
		if err != nil {
			return nil, fmt.Errorf("window %d: %w", w, err)
		}
	}
	return out, nil
}

// normOutput is the final norm's output: the head's input.
const normOutput = "/model/norm/SkipLayerNorm/output_0"

// observeHead looks at the input of the head.
func (m *Model) observeHead(ctx context.Context, read Weights, h *Hidden, stats *calibrate.Stats) error {
	normed, err := m.finalNorm(ctx, read, h)
	if err != nil {
		return err
	}
	stats.AddHead(normed, m.spec.Hidden)
	return nil
}

// finalNorm is the input of the head, [windows·tokens, hidden].
func (m *Model) finalNorm(ctx context.Context, read Weights, h *Hidden) ([]float32, error) {
	p := &part{model: m, in: m.boundary(m.spec.Layers), out: []string{normOutput}}
	if err := p.load(ctx, m.extract(p), "the final norm"); err != nil {
		return nil, err
	}
	defer p.close()
	weights, err := p.values(read)
	if err != nil {
		return nil, err
	}
	defer closeAll(weights)
	out := &Hidden{Windows: h.Windows, Tokens: h.Tokens, values: [][]float32{make([]float32, h.Windows*h.Tokens*m.spec.Hidden)}}
	for w := range h.Windows {
		if err := p.run(ctx, weights, h.window(w), out.window(w), h.Tokens, nil); err != nil {
			return nil, err
		}
	}
	return out.values[0], nil
}
