package layerwise_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/calibrate/layerwise"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/internal/reference"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

func environment(t *testing.T) *ort.Env {
	t.Helper()
	lib, err := ort.Open(oracle.Library(t))
	if err != nil {
		t.Fatal(err)
	}
	env, err := lib.NewEnv(ort.EnvOptions{Name: "layerwise"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	return env
}

// windows draws token ids.
func windows(spec *arch.Spec, n, length int) [][]int32 {
	r := rand.New(rand.NewPCG(7, 7))
	out := make([][]int32, n)
	for i := range out {
		for range length {
			out[i] = append(out[i], int32(r.IntN(spec.Vocab)))
		}
	}
	return out
}

// TestObserveAgainstReference: every figure is what the plain forward pass
// sees, for every tiny architecture.
func TestObserveAgainstReference(t *testing.T) {
	env := environment(t)
	for _, v := range tinymodel.Variants() {
		t.Run(v.Name, func(t *testing.T) {
			spec, get, err := tinymodel.Load(v)
			if err != nil {
				t.Fatal(err)
			}
			text := windows(spec, 3, 20)
			m, err := layerwise.New(env, spec, 20, 1)
			if err != nil {
				t.Fatal(err)
			}
			got, err := layerwise.Observe(t.Context(), m, get, layerwise.Options{Windows: text, Source: "test"})
			if err != nil {
				t.Fatal(err)
			}
			if got.Tokens != 60 || got.Source != "test" {
				t.Errorf("%d tokens of %q", got.Tokens, got.Source)
			}
			ref, err := reference.New(spec, get)
			if err != nil {
				t.Fatal(err)
			}
			square, largest := map[string][]float64{}, map[string][]float64{}
			ref.Observe = func(layer int, at reference.Point, x [][]float32) {
				key := fmt.Sprint(layer, at)
				if square[key] == nil {
					square[key], largest[key] = make([]float64, len(x[0])), make([]float64, len(x[0]))
				}
				for _, row := range x {
					for c, v := range row {
						square[key][c] += float64(v) * float64(v) / 60
						largest[key][c] = max(largest[key][c], math.Abs(float64(v)))
					}
				}
			}
			for _, ids := range text {
				ref.Reset()
				ref.Forward(ids)
			}
			for l := range spec.Layers {
				for in, at := range map[calibrate.Input]reference.Point{
					calibrate.QKV: reference.AttnNorm, calibrate.AttnOut: reference.AttnOut,
					calibrate.GateUp: reference.FFNNorm, calibrate.Down: reference.FFNAct,
				} {
					name := fmt.Sprintf("%v of layer %d", in, l)
					near(t, name+", mean square", got.Channels(l, in).MeanSquare, square[fmt.Sprint(l, at)])
					near(t, name+", max", got.Channels(l, in).MaxAbs, largest[fmt.Sprint(l, at)])
				}
			}
			at := fmt.Sprint(-1, reference.FinalNorm)
			near(t, "head, mean square", got.Head().MeanSquare, square[at])
			near(t, "head, max", got.Head().MaxAbs, largest[at])
			sameWeights(t, spec, get, got)
		})
	}
}

// sameWeights compares the weights' maxima with those of a pass of their own.
func sameWeights(t *testing.T, spec *arch.Spec, get func(string) (*tensor.Tensor, bool), got *calibrate.Stats) {
	t.Helper()
	want, err := calibrate.Probe(t.Context(), spec, get, calibrate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := want.MeasureWeights(t.Context(), spec, get, 2); err != nil {
		t.Fatal(err)
	}
	for l := range spec.Layers {
		for in := range calibrate.Input(calibrate.Inputs) {
			a, b := got.Channels(l, in).WeightMax, want.Channels(l, in).WeightMax
			if fmt.Sprint(a) != fmt.Sprint(b) {
				t.Fatalf("weights of %v of layer %d: %v, want %v", in, l, a, b)
			}
		}
	}
}

// near wants got within what rounding to 5 bits allows.
func near(t *testing.T, name string, got []float32, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d channels, want %d", name, len(got), len(want))
	}
	for c, w := range want {
		if math.Abs(float64(got[c])-w) > w*0.04+1e-12 {
			t.Fatalf("%s: channel %d is %v, want %v", name, c, got[c], w)
		}
	}
}

// TestResume interrupts a run and goes on: the figures are the same, and the
// layers done are not run again.
func TestResume(t *testing.T) {
	env := environment(t)
	spec, get, err := tinymodel.Load(tinymodel.Variants()[0])
	if err != nil {
		t.Fatal(err)
	}
	layerwise.SetSaveEvery(t, 0)
	o := layerwise.Options{
		Windows: windows(spec, 2, 16), Source: "test",
		StateFile: filepath.Join(t.TempDir(), "state"), Key: "this model, this text",
	}
	m, err := layerwise.New(env, spec, 16, 1)
	if err != nil {
		t.Fatal(err)
	}
	want, err := layerwise.Observe(t.Context(), m, get, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(o.StateFile); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the state is still there: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(done, _ int) {
		if done == 1 {
			cancel()
		}
	}
	if _, err := layerwise.Observe(ctx, m, get, o); err == nil {
		t.Fatal("the cancelled run ended well")
	}
	first := -1
	o.Progress = func(done, _ int) {
		if first < 0 {
			first = done
		}
	}
	got, err := layerwise.Observe(t.Context(), m, get, o)
	if err != nil {
		t.Fatal(err)
	}
	if first != 1 {
		t.Errorf("went on at layer %d, want 1", first)
	}
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	if err := errors.Join(want.Save(a, nil), got.Save(b, nil)); err != nil {
		t.Fatal(err)
	}
	if x, y := read(t, a), read(t, b); x != y {
		t.Error("the resumed run gives other figures")
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
