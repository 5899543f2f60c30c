package mix_test

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/calibrate/layerwise"
	"github.com/llama-pajamas/llama-pajamas/convert/mix"
	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// measured is the table of a tiny model.
func measured(t *testing.T, name string) *mix.Table {
	t.Helper()
	lib, err := ort.Open(oracle.Library(t))
	if err != nil {
		t.Fatal(err)
	}
	env, err := lib.NewEnv(ort.EnvOptions{Name: "mix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	v, err := tinymodel.ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	spec, get, err := tinymodel.Load(v)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 3))
	ids := make([]int32, 24)
	for i := range ids {
		ids[i] = int32(r.IntN(spec.Vocab))
	}
	m, err := layerwise.New(env, spec, len(ids), 1)
	if err != nil {
		t.Fatal(err)
	}
	stats, err := layerwise.Observe(t.Context(), m, get, layerwise.Options{Windows: [][]int32{ids}})
	if err != nil {
		t.Fatal(err)
	}
	table, err := mix.Measure(t.Context(), m, get, mix.Options{
		Stats: stats, Fold: calibrate.AWQFold(calibrate.DefaultAlpha), Windows: [][]int32{ids}, Workers: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// bytesOf is what the matrices of a model take by a recipe's own rules.
func bytesOf(t *testing.T, spec *arch.Spec, r *recipe.Recipe) (n int64) {
	t.Helper()
	for _, w := range spec.Weights() {
		e, _ := w.Shape.Elements()
		if !w.Role.IsMatrix() {
			n += 4 * e
			continue
		}
		role := w.Role
		if role == arch.TokenEmbd && spec.Tied {
			role = arch.LMHead
		}
		data, scales, zeros := r.Form(role, w.Layer, spec.Layers).RowBytes(w.Shape[1])
		n += int64(w.Shape[0]) * int64(data+scales+zeros)
	}
	return n
}

// TestRecipes wants recipes that fit their budgets, that promise less loss the
// more bits they have, and that a recipe file can hold.
func TestRecipes(t *testing.T) {
	for _, name := range []string{"smollm2", "qwen3"} {
		t.Run(name, func(t *testing.T) {
			table := measured(t, name)
			base, err := recipe.Load("cpu", "int4-small")
			if err != nil {
				t.Fatal(err)
			}
			least, most := table.Bits()
			before := -1.0
			for _, bits := range []float64{least, least + (most-least)/4, (least + most) / 2, most} {
				r, kl, err := table.Recipe(base, bits+1e-9)
				if err != nil {
					t.Fatal(err)
				}
				b, err := json.Marshal(r)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := recipe.Parse(b); err != nil {
					t.Fatalf("%.2f bits: %v\n%s", bits, err, b)
				}
				got := float64(bytesOf(t, table.Spec, r)) * 8 / float64(table.Spec.Parameters())
				if got > bits+1e-6 || bits == most && got < most-1e-6 {
					t.Errorf("asked for %.3f bits, the rules take %.3f", bits, got)
				}
				if before >= 0 && kl > before {
					t.Errorf("%.3f bits promise KL %v, fewer bits %v", bits, kl, before)
				}
				before = kl
			}
			if _, _, err := table.Recipe(base, least-0.01); err == nil || !strings.Contains(err.Error(), "smallest") {
				t.Errorf("a budget below the smallest recipe: %v", err)
			}
			for _, e := range table.Entries {
				for i := 1; i < len(e.Steps); i++ {
					if a, b := e.Steps[i-1], e.Steps[i]; a.Bytes >= b.Bytes || a.KL <= b.KL {
						t.Errorf("%v: steps %+v", e.Unit, e.Steps)
					}
				}
			}
		})
	}
}
