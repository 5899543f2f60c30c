package main

import (
	"math"
	"slices"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/internal/reference"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// TestPermutation wants the same logits from permuted weights, on every
// architecture, and every block of a matrix changed.
func TestPermutation(t *testing.T) {
	tokens := []int32{1, 5, 300, 44, 44, 2, 510, 77}
	for _, v := range tinymodel.Variants() {
		t.Run(v.Name, func(t *testing.T) {
			spec, get, err := tinymodel.Load(v)
			if err != nil {
				t.Fatal(err)
			}
			plain, err := reference.New(spec, get)
			if err != nil {
				t.Fatal(err)
			}
			p, weights := newPermutation(spec, permutationSeed), map[string]arch.Weight{}
			for _, w := range spec.Weights() {
				weights[w.Name] = w
			}
			permuted, err := reference.New(spec, func(name string) (*tensor.Tensor, bool) {
				was, ok := get(name)
				if !ok {
					return nil, false
				}
				x := make([]float32, was.Elements())
				if err := was.ReadFloat32(x, 0); err != nil {
					t.Fatal(err)
				}
				y := p.apply(weights[name], x)
				if weights[name].Role.IsMatrix() && slices.Equal(x[:32], y[:32]) {
					t.Errorf("the first block of %s is as it was", name)
				}
				out := *was
				out.Reader = tensor.Floats(y)
				return &out, true
			})
			if err != nil {
				t.Fatal(err)
			}
			want, got := plain.Forward(tokens), permuted.Forward(tokens)
			for i := range want {
				for j := range want[i] {
					if d := math.Abs(float64(want[i][j] - got[i][j])); !(d <= 1e-4) {
						t.Fatalf("position %d, logit %d: %g, permuted %g", i, j, want[i][j], got[i][j])
					}
				}
			}
		})
	}
}

// TestInterleave wants pair i of a head in neighbouring rows.
func TestInterleave(t *testing.T) {
	got := interleave([]float32{0, 1, 2, 3, 10, 11, 12, 13}, 1, 4)
	if want := []float32{0, 2, 1, 3, 10, 12, 11, 13}; !slices.Equal(got, want) {
		t.Errorf("rows %v, want %v", got, want)
	}
}
