package layerwise_test

import (
	"math"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/calibrate/layerwise"
	"github.com/llama-pajamas/llama-pajamas/fidelity"
	"github.com/llama-pajamas/llama-pajamas/internal/reference"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// coarsen keeps few bits of each weight: a quantizer that is easy to repeat.
func coarsen(_ arch.Weight, x []float32) error {
	for i, v := range x {
		x[i] = float32(math.Round(float64(v)*16) / 16)
	}
	return nil
}

// coarse reads a weight coarsened.
type coarse struct{ *tensor.Tensor }

func (c coarse) ReadFloat32(dst []float32, offset int64) error {
	if err := c.Tensor.ReadFloat32(dst, offset); err != nil {
		return err
	}
	return coarsen(arch.Weight{}, dst)
}

// TestSensitivityAgainstReference quantizes every unit in the plain forward
// pass, one at a time, and wants the same divergences.
func TestSensitivityAgainstReference(t *testing.T) {
	env := environment(t)
	for _, name := range []string{"llama2", "smollm2", "qwen2", "qwen3"} {
		t.Run(name, func(t *testing.T) {
			v, err := tinymodel.ByName(name)
			if err != nil {
				t.Fatal(err)
			}
			spec, get, err := tinymodel.Load(v)
			if err != nil {
				t.Fatal(err)
			}
			text := windows(spec, 2, 12)
			m, err := layerwise.New(env, spec, 12, 1)
			if err != nil {
				t.Fatal(err)
			}
			got, err := layerwise.Sensitivity(t.Context(), m, get, layerwise.SensitivityOptions{
				Windows: text, Read: layerwise.FromCheckpoint(get), Quantize: coarsen,
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != spec.Layers*7+1 {
				t.Errorf("%d units, want %d", len(got), spec.Layers*7+1)
			}
			base := logitsOf(t, spec, get, text)
			for _, u := range layerwise.Units(spec) {
				if u.Role == arch.LMHead && spec.Tied {
					continue // here the head alone, in a model the embedding too
				}
				changed := logitsOf(t, spec, func(name string) (*tensor.Tensor, bool) {
					x, ok := get(name)
					for _, w := range spec.Weights() {
						if w.Name == name && w.Role == u.Role && w.Layer == u.Layer {
							c := *x
							c.Reader = coarse{x}
							return &c, ok
						}
					}
					return x, ok
				}, text)
				var acc fidelity.Accumulator
				for i := range base {
					if err := acc.Add(base[i], changed[i], fidelity.NoTarget); err != nil {
						t.Fatal(err)
					}
				}
				want := acc.Result().KLMean
				if d := math.Abs(got[u] - want); d > 0.02*want+2e-6 {
					t.Errorf("%v of layer %d: KL %v, want %v", u.Role, u.Layer, got[u], want)
				}
			}
		})
	}
}

func logitsOf(t *testing.T, spec *arch.Spec, get func(string) (*tensor.Tensor, bool), text [][]int32) (out [][]float32) {
	t.Helper()
	m, err := reference.New(spec, get)
	if err != nil {
		t.Fatal(err)
	}
	for _, ids := range text {
		m.Reset()
		out = append(out, m.Forward(ids)...)
	}
	return out
}
