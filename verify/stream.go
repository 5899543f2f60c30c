package verify

import (
	"context"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/fidelity"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

const (
	// headChunk is how many positions' logits are held at once.
	headChunk = 64
	// layerBatch is how many tokens pass through a layer while it is loaded,
	// where models run in parts: 134 MB of hidden states for a width of
	// 4096 and two values between layers.
	layerBatch = 4096
)

// segment is a part of a model with the names of the values before it.
type segment struct {
	part    *onnx.Model
	in, out []string
	session *ort.Session
}

// stream runs one model over windows of a text, in segments: all layers at
// once where keep is set, else some layers at a time; the head is a segment of its
// own, so that logits are held for a few positions only.
type stream struct {
	*runner
	m    *model
	body []*segment
	head *segment
	keep bool
	// seen gets the range of each value that has an observer.
	seen func(tensor string, maxAbs float64)
	// tick is told of each run of a segment; may be nil.
	tick func()
}

// newStream cuts a model. step is the number of layers of a segment.
func newStream(r *runner, m *model, step int) *stream {
	s := &stream{runner: r, m: m, keep: step >= m.layers}
	var in []string
	for from := 0; from < m.layers; from += step {
		to := min(from+step, m.layers)
		out := m.boundary(to)
		s.body = append(s.body, &segment{part: m.body(from, to), in: in, out: out})
		in = out
	}
	s.head = &segment{part: m.head(), in: in, out: []string{"logits"}}
	return s
}

// observe turns the layers into float32 copies with observers of their 16-bit
// values.
func (s *stream) observe(seen func(tensor string, maxAbs float64)) {
	s.seen = seen
	for _, g := range s.body {
		g.part = observe(g.part)
	}
}

func (s *stream) open(ctx context.Context, g *segment) (err error) {
	if g.session == nil {
		g.session, err = s.load(ctx, s.m, g.part)
	}
	return err
}

// done closes a segment's session unless it is kept.
func (s *stream) done(g *segment) {
	if !s.keep {
		g.close()
	}
}

func (g *segment) close() {
	if g.session != nil {
		g.session.Close()
		g.session = nil
	}
}

func (s *stream) close() {
	for _, g := range append(s.body, s.head) {
		g.close()
	}
}

// through runs the layers on states, in place.
func (s *stream) through(ctx context.Context, states []*state) error {
	for _, g := range s.body {
		if err := s.open(ctx, g); err != nil {
			return err
		}
		for _, st := range states {
			hidden := make([][]float32, len(g.out))
			err := s.run(ctx, g.session, s.m, g.part.Graph, g.in, st, func(name string, data []float32) error {
				if tensor, ok := watched(name); ok {
					s.seen(tensor, float64(data[0]))
					return nil
				}
				hidden[slices.Index(g.out, name)] = slices.Clone(data) // the library's memory
				return nil
			})
			if err != nil {
				return err
			}
			st.hidden = hidden
			if s.tick != nil {
				s.tick()
			}
		}
		s.done(g)
	}
	return nil
}

// logits runs the model on the windows of a text and hands over the logits of
// every position that counts, in order. Memory is that of one window, or of
// layerBatch tokens' hidden states where models run in parts.
func (s *stream) logits(ctx context.Context, tokens []int32, windows []fidelity.Window, each func(w fidelity.Window, pos int, row []float32) error) error {
	for len(windows) > 0 {
		n := 1
		for held := windows[0].End - windows[0].Start; !s.keep && n < len(windows); n++ {
			if held += windows[n].End - windows[n].Start; held > layerBatch {
				break
			}
		}
		batch := windows[:n]
		windows = windows[n:]
		states := make([]*state, n)
		for i, w := range batch {
			states[i] = &state{tokens: tokens[w.Start:w.End]}
		}
		if err := s.through(ctx, states); err != nil {
			return err
		}
		if err := s.open(ctx, s.head); err != nil {
			return err
		}
		for i, w := range batch {
			if err := s.headRows(ctx, states[i], w, each); err != nil {
				return err
			}
		}
		s.done(s.head)
	}
	return nil
}

// headRows runs the head on the positions of a window that count.
func (s *stream) headRows(ctx context.Context, st *state, w fidelity.Window, each func(w fidelity.Window, pos int, row []float32) error) error {
	for at := w.First; at < w.Last; at += headChunk {
		n := min(headChunk, w.Last-at)
		part := st.slice(at-w.Start, at-w.Start+n)
		err := s.run(ctx, s.head.session, s.m, s.head.part.Graph, s.head.in, part, func(_ string, data []float32) error {
			vocab := len(data) / n
			for i := range n {
				if err := each(w, at+i, data[i*vocab:(i+1)*vocab]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if s.tick != nil {
		s.tick()
	}
	return nil
}
