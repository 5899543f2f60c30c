package calibrate

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"golang.org/x/sync/errgroup"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Tokens is the length of the probe.
const Tokens = 32

// panel holds activations, [channels][Tokens], the tokens of a channel side by
// side.
type panel []float32

// Options of a probe. The zero value works.
type Options struct {
	// Seed of the token ids.
	Seed uint64
	// Workers is the number of goroutines; 0 means one.
	Workers int
}

// Probe runs random tokens through the model that spec describes and whose
// weights get finds, as [arch.Spec.View] does.
// A missing tensor or one of the wrong shape is an error, and so are
// activations that overflow.
func Probe(ctx context.Context, spec *arch.Spec, get func(name string) (*tensor.Tensor, bool), o Options) (*Stats, error) {
	if spec.Experts > 0 {
		return nil, &tensor.UnsupportedError{What: fmt.Sprintf("probe of a mixture of experts (%s)", spec.Architecture)}
	}
	p := &prober{
		spec: spec, get: get, workers: max(1, o.Workers), kern: fastKernel(),
		weights: map[place]arch.Weight{},
	}
	for _, w := range spec.Weights() {
		p.weights[place{w.Role, w.Layer}] = w
	}
	stats := &Stats{
		Source: fmt.Sprintf("probe: %d random token ids (seed %d), no text", Tokens, o.Seed), Tokens: Tokens,
		tied: spec.Tied, layers: make([]layerStats, spec.Layers),
	}
	x, err := p.embed(o.Seed)
	if err != nil {
		return nil, err
	}
	for l := range stats.layers {
		if err := p.layer(ctx, l, x, &stats.layers[l]); err != nil {
			return nil, fmt.Errorf("probe layer %d: %w", l, err)
		}
	}
	h, err := p.norm(arch.FinalNorm, -1, x)
	if err != nil {
		return nil, err
	}
	stats.head = describe(h)
	for c, v := range stats.head.MeanSquare {
		if !(v <= math.MaxFloat32) {
			return nil, fmt.Errorf("probe: channel %d of the last hidden state is %v: the weights are damaged or not what the configuration says", c, v)
		}
	}
	return stats, nil
}

// place names a weight.
type place struct {
	role  arch.Role
	layer int
}

type prober struct {
	spec    *arch.Spec
	get     func(name string) (*tensor.Tensor, bool)
	workers int
	kern    kernel
	weights map[place]arch.Weight
}

// open finds the tensor of a weight.
func (p *prober) open(role arch.Role, layer int) (*tensor.Tensor, error) {
	w := p.weights[place{role, layer}]
	t, ok := p.get(w.Name)
	if !ok {
		return nil, fmt.Errorf("tensor %q is missing", w.Name)
	}
	if !t.Shape.Equal(w.Shape) {
		return nil, fmt.Errorf("tensor %q has shape %v, want %v", w.Name, t.Shape, w.Shape)
	}
	return t, nil
}

// vector reads a norm or a bias.
func (p *prober) vector(role arch.Role, layer int) ([]float32, error) {
	t, err := p.open(role, layer)
	if err != nil {
		return nil, err
	}
	v := make([]float32, t.Elements())
	return v, t.ReadWeights(v, 0)
}

// embed looks up the embeddings of the probe: the beginning-of-sequence token,
// where there is one, then ids drawn at random.
func (p *prober) embed(seed uint64) (panel, error) {
	t, err := p.open(arch.TokenEmbd, -1)
	if err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(seed, 0))
	x := make(panel, p.spec.Hidden*Tokens)
	row := make([]float32, p.spec.Hidden)
	for i := range Tokens {
		id := r.IntN(p.spec.Vocab)
		if i == 0 && p.spec.BOS >= 0 && p.spec.BOS < p.spec.Vocab {
			id = p.spec.BOS
		}
		if err := t.ReadWeights(row, int64(id)*int64(len(row))); err != nil {
			return nil, err
		}
		scale := cmp.Or(p.spec.EmbedScale, 1)
		for c, v := range row {
			x[c*Tokens+i] = v * scale
		}
	}
	return x, nil
}

// linear is the matrix's product with x, plus its bias where it has one.
func (p *prober) linear(ctx context.Context, role, bias arch.Role, layer int, x panel) (panel, error) {
	t, err := p.open(role, layer)
	if err != nil {
		return nil, err
	}
	rows, cols := t.Shape[0], t.Shape[1]
	out := make(panel, rows*Tokens)
	step := max(1, chunkElements/cols)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(p.workers)
	for from := 0; from < rows; from += step {
		n := min(step, rows-from)
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			w := make([]float32, n*cols)
			if err := t.ReadWeights(w, int64(from)*int64(cols)); err != nil {
				return err
			}
			p.kern(out[from*Tokens:(from+n)*Tokens], w, x)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if _, ok := p.weights[place{bias, layer}]; ok {
		b, err := p.vector(bias, layer)
		if err != nil {
			return nil, err
		}
		for r, v := range b {
			for t := range Tokens {
				out[r*Tokens+t] += v
			}
		}
	}
	return out, nil
}

// chunkElements bounds the weights that a worker holds: 512 KiB of float32.
const chunkElements = 128 << 10
