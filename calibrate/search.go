package calibrate

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Alphas are the exponents that [Stats.SearchAlpha] tries.
var Alphas = []float64{0.05, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5}

// SearchAlpha chooses, for each layer and each input whose gain is searched, the
// AWQ exponent of [Alphas] with the least error of the matrices' products:
// Σ mean(x²)·(w−ŵ)² over their weights, errors of columns taken as independent
// (the criterion of Lin et al. 2023, with column means in place of a sample).
// roundTrip sets a matrix to what a reader of its stored form sees. The result
// has the options of each layer. Memory is two matrices for each worker.
func (s *Stats) SearchAlpha(ctx context.Context, spec *arch.Spec, get func(name string) (*tensor.Tensor, bool), o FoldOptions, workers int,
	roundTrip func(w arch.Weight, x, importance []float32) error) ([]FoldOptions, error) {
	out := make([]FoldOptions, spec.Layers)
	byInput := make([][Inputs][]arch.Weight, spec.Layers)
	for l := range out {
		out[l] = o
	}
	for _, w := range spec.Weights() {
		if in, ok := inputOf(w.Role); ok {
			byInput[w.Layer][in] = append(byInput[w.Layer][in], w)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, workers))
	for l := range out {
		for in := range Input(Inputs) {
			if !o[in].Search {
				continue
			}
			g.Go(func() error {
				if err := ctx.Err(); err != nil {
					return err
				}
				alpha, err := s.bestAlpha(spec, get, l, in, byInput[l][in], roundTrip)
				out[l][in] = Gain{Method: o[in].Method, Alpha: alpha}
				if err != nil {
					return fmt.Errorf("search the exponent of the %v input of layer %d: %w", in, l, err)
				}
				return nil
			})
		}
	}
	return out, g.Wait()
}

// bestAlpha tries every exponent on the matrices of one input.
func (s *Stats) bestAlpha(spec *arch.Spec, get func(name string) (*tensor.Tensor, bool), l int, in Input, ws []arch.Weight,
	roundTrip func(w arch.Weight, x, importance []float32) error) (float64, error) {
	c := s.layers[l].in[in]
	errs := make([]float64, len(Alphas))
	for _, w := range ws {
		t, ok := get(w.Name)
		if !ok {
			return 0, fmt.Errorf("tensor %q is missing", w.Name)
		}
		raw := make([]float32, t.Elements())
		if err := t.ReadWeights(raw, 0); err != nil {
			return 0, err
		}
		folded, back := make([]float32, len(raw)), make([]float32, len(raw))
		for i, alpha := range Alphas {
			gain, err := columnGains(c, spec, in, alpha)
			if err != nil {
				return 0, err
			}
			imp := make([]float32, len(gain))
			for k, v := range gain {
				imp[k] = c.MeanSquare[k] / (v * v)
			}
			width := w.Shape[1]
			for k, v := range raw {
				folded[k] = v * gain[k%width]
			}
			copy(back, folded)
			if err := roundTrip(w, back, imp); err != nil {
				return 0, err
			}
			for k, v := range folded {
				d := float64(v) - float64(back[k])
				errs[i] += d * d * float64(imp[k%width])
			}
		}
	}
	best := 0
	for i, e := range errs {
		if e < errs[best] {
			best = i
		}
	}
	return Alphas[best], nil
}

// columnGains are the factors of a matrix' columns by AWQ.
func columnGains(c Channels, spec *arch.Spec, in Input, alpha float64) ([]float32, error) {
	if in != AttnOut {
		return gains(c, Gain{Method: AWQ, Alpha: alpha})
	}
	g, err := gains(perValueHead(c, spec), Gain{Method: AWQ, Alpha: alpha})
	if err != nil {
		return nil, err
	}
	return perQueryChannel(g, spec), nil
}
