package reference_test

import (
	_ "embed"
	"encoding/json"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

//go:embed testdata/mlx_logits.py
var mlxScript string

// TestMLX compares every tiny checkpoint with mlx-lm on the CPU, but Phi-3 and
// Gemma 2 with a window, which mlx-lm ignores there.
func TestMLX(t *testing.T) {
	oracle.Python(t)
	variants := without("phi3", "gemma2")
	dirs := writeAll(t, variants)
	tokens := randomTokens(100, 512)
	stdin, err := json.Marshal(tokens)
	if err != nil {
		t.Fatal(err)
	}
	out := oracle.Run(t, mlxScript, stdin, dirs...)
	for _, v := range variants {
		t.Run(v.Name, func(t *testing.T) {
			got := load(t, v, nil).Forward(tokens)
			want, rest := rows(t, out, len(tokens), len(got[0]))
			out = rest
			compare(t, got, want)
		})
	}
	if len(out) != 0 {
		t.Errorf("%d bytes of logits are left over", len(out))
	}
}

// compare applies the house rule for logits: max|Δ| ≤ 2e-4 + 1e-5·max|logit|,
// and the same top token unless the two best lie within 1e-3.
func compare(t *testing.T, got, want [][]float32) {
	t.Helper()
	var worst, top float64
	for i := range got {
		for j := range got[i] {
			worst = max(worst, math.Abs(float64(got[i][j])-float64(want[i][j])))
			top = max(top, math.Abs(float64(want[i][j])))
		}
		a, b := argmax(got[i]), argmax(want[i])
		if a != b && math.Abs(float64(want[i][b])-float64(want[i][a])) > 1e-3 {
			t.Errorf("position %d: top token %d, want %d", i, a, b)
		}
	}
	t.Logf("max|Δ| %.2g, max|logit| %.3g", worst, top)
	if limit := 2e-4 + 1e-5*top; !(worst <= limit) || top < 1 {
		t.Errorf("max|Δ| is %g at max|logit| %g, want at most %g", worst, top, limit)
	}
}

// without is all tiny checkpoints but those named.
func without(names ...string) []tinymodel.Variant {
	all := append(tinymodel.Variants(), tinymodel.Mixtures()...)
	return slices.DeleteFunc(all, func(v tinymodel.Variant) bool { return slices.Contains(names, v.Name) })
}

func writeAll(t *testing.T, variants []tinymodel.Variant) []string {
	t.Helper()
	root := t.TempDir()
	var dirs []string
	for _, v := range variants {
		dir := filepath.Join(root, v.Name)
		if err := tinymodel.Write(dir, v); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	return dirs
}

// randomTokens is BOS and n-1 seeded ids below vocab.
func randomTokens(n, vocab int) []int32 {
	r := rand.New(rand.NewPCG(1, 2))
	out := []int32{1}
	for len(out) < n {
		out = append(out, r.Int32N(int32(vocab)))
	}
	return out
}

// rows takes n rows of float32 from b.
func rows(t *testing.T, b []byte, n, width int) (out [][]float32, rest []byte) {
	t.Helper()
	for range n {
		row := make([]float32, width)
		if err := tensor.Decode(row, b, tensor.F32); err != nil {
			t.Fatal(err)
		}
		out, b = append(out, row), b[4*width:]
	}
	return out, b
}
