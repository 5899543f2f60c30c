package calibrate_test

import (
	"math"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/internal/reference"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// foldedReader reads a weight times its scales.
type foldedReader struct {
	*tensor.Tensor
	rows, cols []float32
}

func (f foldedReader) ReadFloat32(dst []float32, offset int64) error {
	if err := f.Tensor.ReadFloat32(dst, offset); err != nil {
		return err
	}
	width := f.Shape[len(f.Shape)-1]
	for i := range dst {
		at := int(offset) + i
		if f.cols != nil {
			dst[i] *= f.cols[at%width]
		}
		if f.rows != nil {
			dst[i] *= f.rows[at/width]
		}
	}
	return nil
}

// TestFoldKeepsTheModel: the folded weights of every tiny checkpoint give the
// same logits, and their inputs have the mean squares that the fold promises.
func TestFoldKeepsTheModel(t *testing.T) {
	smooth := calibrate.Gain{Method: calibrate.SmoothQuant, Alpha: 0.7}
	for name, o := range map[string]calibrate.FoldOptions{
		"awq":    calibrate.AWQFold(0.5),
		"smooth": {smooth, smooth, smooth, smooth},
		"mixed":  {smooth, {}, smooth, {Method: calibrate.AWQ, Alpha: 0.25}},
	} {
		t.Run(name, func(t *testing.T) { foldKeepsTheModel(t, o) })
	}
}

func foldKeepsTheModel(t *testing.T, o calibrate.FoldOptions) {
	for _, v := range tinymodel.Variants() {
		t.Run(v.Name, func(t *testing.T) {
			spec, get, err := tinymodel.Load(v)
			if err != nil {
				t.Fatal(err)
			}
			stats, err := calibrate.Probe(t.Context(), spec, get, calibrate.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := stats.MeasureWeights(t.Context(), spec, get, 2); err != nil {
				t.Fatal(err)
			}
			fold, err := stats.Fold(spec, o)
			if err != nil {
				t.Fatal(err)
			}
			changed := 0
			byName := map[string]*tensor.Tensor{}
			for _, w := range spec.Weights() {
				full, _ := get(w.Name)
				rows, cols := fold.Scales(w.Role, w.Layer)
				if rows != nil || cols != nil {
					changed++
				}
				copied := *full
				copied.Reader = foldedReader{full, rows, cols}
				byName[w.Name] = &copied
			}
			if want := spec.Layers * 9; changed < want {
				t.Errorf("%d weights are scaled, want at least %d", changed, want)
			}
			foldedGet := func(name string) (*tensor.Tensor, bool) { w, ok := byName[name]; return w, ok }

			logits := func(get func(string) (*tensor.Tensor, bool)) [][]float32 {
				m, err := reference.New(spec, get)
				if err != nil {
					t.Fatal(err)
				}
				return m.Forward(ids(spec, 9))
			}
			before, after := logits(get), logits(foldedGet)
			for i := range before {
				for j, want := range before[i] {
					if d := math.Abs(float64(after[i][j] - want)); !(d <= 2e-4) {
						t.Fatalf("logit %d of token %d: %v after the fold, %v before", j, i, after[i][j], want)
					}
				}
			}

			again, err := calibrate.Probe(t.Context(), spec, foldedGet, calibrate.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for l := range spec.Layers {
				for _, role := range []arch.Role{arch.AttnQ, arch.AttnV, arch.AttnO, arch.FFNUp, arch.FFNDown} {
					want, got := fold.Importance(role, l), again.Importance(role, l)
					for c := range want {
						if d := math.Abs(float64(want[c] - got[c])); d > 0.08*float64(want[c])+1e-9 {
							t.Fatalf("%v of layer %d, channel %d: importance %v, measured %v", role, l, c, want[c], got[c])
						}
					}
				}
			}
		})
	}
}
