package calibrate_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/internal/reference"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// ids are the tokens that a probe draws.
func ids(s *arch.Spec, seed uint64) []int32 {
	r := rand.New(rand.NewPCG(seed, 0))
	out := make([]int32, calibrate.Tokens)
	for i := range out {
		out[i] = int32(r.IntN(s.Vocab))
	}
	if s.BOS >= 0 {
		out[0] = int32(s.BOS)
	}
	return out
}

// TestAgainstReference compares with what the reference forward pass sees, for
// every architecture and option of the tiny checkpoints.
func TestAgainstReference(t *testing.T) {
	for _, v := range tinymodel.Variants() {
		t.Run(v.Name, func(t *testing.T) {
			spec, get, err := tinymodel.Load(v)
			if err != nil {
				t.Fatal(err)
			}
			got, err := calibrate.Probe(t.Context(), spec, get, calibrate.Options{Seed: 5, Workers: 3})
			if err != nil {
				t.Fatal(err)
			}
			m, err := reference.New(spec, get)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string][]float64{}
			m.Observe = func(layer int, at reference.Point, x [][]float32) {
				sum := make([]float64, len(x[0]))
				for _, row := range x {
					for c, v := range row {
						sum[c] += float64(v) * float64(v) / float64(len(x))
					}
				}
				want[fmt.Sprint(layer, at)] = sum
			}
			m.Forward(ids(spec, 5))
			for l := range spec.Layers {
				for role, at := range map[arch.Role]reference.Point{
					arch.AttnQ: reference.AttnNorm, arch.AttnK: reference.AttnNorm, arch.AttnV: reference.AttnNorm,
					arch.AttnO: reference.AttnOut, arch.FFNGate: reference.FFNNorm, arch.FFNUp: reference.FFNNorm,
					arch.FFNDown: reference.FFNAct,
				} {
					compare(t, fmt.Sprintf("%v of layer %d", role, l), got.Importance(role, l), want[fmt.Sprint(l, at)])
				}
			}
			compare(t, "head", got.Importance(arch.LMHead, -1), want[fmt.Sprint(-1, reference.FinalNorm)])
			if tied := got.Importance(arch.TokenEmbd, -1) != nil; tied != spec.Tied {
				t.Errorf("the embedding has importance: %v, tied: %v", tied, spec.Tied)
			}
			if got.Importance(arch.AttnNorm, 0) != nil || got.Importance(arch.AttnQ, spec.Layers) != nil {
				t.Error("importance where there is no matrix")
			}
		})
	}
}

// compare wants got within what rounding to 5 bits allows.
func compare(t *testing.T, name string, got []float32, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d channels, want %d", name, len(got), len(want))
	}
	for c, w := range want {
		if math.Abs(float64(got[c])-w) > w*0.04+1e-12 {
			t.Fatalf("%s: channel %d has mean square %v, want %v", name, c, got[c], w)
		}
	}
}

// TestWorkersDoNotMatter wants the same figures from 1 and 5 goroutines, and
// others from another seed.
func TestWorkersDoNotMatter(t *testing.T) {
	spec, get := tiny(t)
	probe := func(o calibrate.Options) string {
		s, err := calibrate.Probe(t.Context(), spec, get, o)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(s.Importance(arch.FFNDown, spec.Layers-1), s.Importance(arch.LMHead, -1))
	}
	one := probe(calibrate.Options{})
	if probe(calibrate.Options{Workers: 5}) != one {
		t.Error("five workers give other figures than one")
	}
	if probe(calibrate.Options{Seed: 1}) == one {
		t.Error("another seed gives the same figures")
	}
}

func tiny(t *testing.T) (*arch.Spec, func(string) (*tensor.Tensor, bool)) {
	t.Helper()
	spec, get, err := tinymodel.Load(tinymodel.Variants()[0])
	if err != nil {
		t.Fatal(err)
	}
	return spec, get
}

func TestProbeRefuses(t *testing.T) {
	spec, get := tiny(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	name := "model.layers.1.mlp.down_proj.weight"
	for _, c := range []struct {
		name string
		ctx  context.Context
		get  func(string) (*tensor.Tensor, bool)
		want string
	}{
		{"missing", t.Context(), func(n string) (*tensor.Tensor, bool) {
			w, ok := get(n)
			return w, ok && n != name
		}, `probe layer 1: tensor "` + name + `" is missing`},
		{"shape", t.Context(), func(n string) (*tensor.Tensor, bool) {
			w, ok := get(n)
			if n == name {
				w = &tensor.Tensor{Name: n, Shape: tensor.Shape{1, 2}, Reader: w.Reader}
			}
			return w, ok
		}, "has shape [1, 2]"},
		{"not finite", t.Context(), func(n string) (*tensor.Tensor, bool) {
			w, ok := get(n)
			if n == name {
				w = &tensor.Tensor{Name: n, Shape: w.Shape, Reader: nans{}}
			}
			return w, ok
		}, "is NaN"},
		{"cancelled", ctx, get, "context canceled"},
	} {
		if _, err := calibrate.Probe(c.ctx, spec, c.get, calibrate.Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
}

type nans struct{}

func (nans) ReadFloat32(dst []float32, _ int64) error {
	for i := range dst {
		dst[i] = float32(math.NaN())
	}
	return nil
}
