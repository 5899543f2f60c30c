package calibrate_test

import (
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/quant/matmulnbits"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// TestSearchAlpha: the exponents found err no more, on the folded weights as a
// whole, than any fixed one of those tried.
func TestSearchAlpha(t *testing.T) {
	spec, get := tiny(t)
	stats, err := calibrate.Probe(t.Context(), spec, get, calibrate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	form := plan.Form{Bits: 4, Block: 32, Scale: tensor.F16, Method: matmulnbits.Search}
	roundTrip := func(w arch.Weight, x, importance []float32) error {
		return form.RoundTrip(x, w.Shape[0], w.Shape[1], importance)
	}
	search := calibrate.Gain{Method: calibrate.AWQ, Search: true}
	o := calibrate.FoldOptions{search, search, search, search}
	if _, err := stats.Fold(spec, o); err == nil {
		t.Error("a fold whose exponents were not searched")
	}
	layers, err := stats.SearchAlpha(t.Context(), spec, get, o, 2, roundTrip)
	if err != nil {
		t.Fatal(err)
	}
	loss := func(layers []calibrate.FoldOptions) (sum float64) {
		f, err := stats.FoldLayers(spec, layers)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range spec.Weights() {
			if _, ok := calibrate.InputOf(w.Role); !ok {
				continue
			}
			full, _ := get(w.Name)
			x := make([]float32, full.Elements())
			if err := full.ReadWeights(x, 0); err != nil {
				t.Fatal(err)
			}
			_, cols := f.Scales(w.Role, w.Layer)
			for i := range x {
				x[i] *= cols[i%w.Shape[1]] // the rows' scales change a block as a whole
			}
			back := append([]float32(nil), x...)
			imp := f.Importance(w.Role, w.Layer)
			if err := roundTrip(w, back, imp); err != nil {
				t.Fatal(err)
			}
			for i, v := range x {
				d := float64(v - back[i])
				sum += d * d * float64(imp[i%w.Shape[1]])
			}
		}
		return sum
	}
	found := loss(layers)
	for _, alpha := range calibrate.Alphas {
		fixed := make([]calibrate.FoldOptions, spec.Layers)
		for l := range fixed {
			fixed[l] = calibrate.AWQFold(alpha)
		}
		if e := loss(fixed); found > e*1.0001 {
			t.Errorf("searched exponents err %v, all %v err %v", found, alpha, e)
		}
	}
}
