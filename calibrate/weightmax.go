package calibrate

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// MeasureWeights fills in [Channels.WeightMax] by one pass over the layers'
// matrices, unless it is there. Memory is one matrix for each worker.
func (s *Stats) MeasureWeights(ctx context.Context, spec *arch.Spec, get func(name string) (*tensor.Tensor, bool), workers int) error {
	if len(s.layers) > 0 && s.layers[0].in[QKV].WeightMax != nil {
		return nil
	}
	found := make(map[place]*[]float32)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, workers))
	for _, w := range spec.Weights() {
		if _, ok := inputOf(w.Role); !ok {
			continue
		}
		t, ok := get(w.Name)
		if !ok {
			return fmt.Errorf("tensor %q is missing", w.Name)
		}
		out := new([]float32)
		found[place{w.Role, w.Layer}] = out
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			x := make([]float32, t.Elements())
			if err := t.ReadWeights(x, 0); err != nil {
				return err
			}
			*out = columnMax(nil, x, w.Shape[1])
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("measure the weights: %w", err)
	}
	for at, m := range found {
		in, _ := inputOf(at.role)
		s.layers[at.layer].in[in].addWeightMax(*m)
	}
	return nil
}

// columnMax raises m to the largest magnitude of each column of x; m may be nil.
func columnMax(m, x []float32, width int) []float32 {
	if m == nil {
		m = make([]float32, width)
	}
	for r := range len(x) / width {
		for c, v := range x[r*width:][:width] {
			m[c] = max(m[c], v, -v)
		}
	}
	return m
}

func (c *Channels) addWeightMax(m []float32) {
	if c.WeightMax == nil {
		c.WeightMax = make([]float32, len(m))
	}
	for i, v := range m {
		c.WeightMax[i] = max(c.WeightMax[i], v)
	}
}
