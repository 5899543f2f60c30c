package fidelity_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/fidelity"
)

func TestPlace(t *testing.T) {
	ids := []int32{10, 11, 12, 13, 14, 15, 16}
	for _, c := range []struct {
		definition string
		bos        int32
		want       []int32
	}{
		{"llama.cpp:3", 1, []int32{1, 11, 12, 1, 14, 15, 1}},
		{"llama.cpp:3", fidelity.NoTarget, ids},
		{"second-half:3", 1, ids},
		{"huggingface:3:1", 1, ids},
	} {
		d, err := fidelity.ParseDefinition(c.definition)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.Place(ids, c.bos); !slices.Equal(got, c.want) {
			t.Errorf("%s with %d: %v, want %v", c.definition, c.bos, got, c.want)
		}
	}
	if ids[0] != 10 {
		t.Error("the text was written to")
	}
}

// TestHuggingFaceLoop compares with the loop of their page, written out: labels
// of -100 for what is context, the mean over the labels left after the shift,
// weighed by the labels before it less one.
func TestHuggingFaceLoop(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, c := range [][3]int{{100, 16, 4}, {97, 16, 15}, {17, 16, 1}, {17, 16, 16}, {48, 16, 16}, {50, 64, 7}, {20, 16, 3}} {
		n, window, stride := c[0], c[1], c[2]
		// The loss of token i after k tokens of context: a model would see.
		loss := make([][]float64, n)
		for i := range loss {
			loss[i] = make([]float64, window)
			for k := range loss[i] {
				loss[i][k] = 5 * r.Float64()
			}
		}
		var sum, tokens float64
		previous := 0
		for begin := 0; begin < n; begin += stride {
			end := min(begin+window, n)
			added := end - previous
			var mean, valid float64
			for i := begin + 1; i < end; i++ { // the shift leaves out label 0
				if i >= end-added {
					mean += loss[i][i-begin]
					valid++
				}
			}
			if valid > 0 {
				sum += mean / valid * float64(added-1)
			}
			tokens += float64(added - 1)
			if previous = end; end == n {
				break
			}
		}
		want := math.Exp(sum / tokens)

		d := fidelity.Definition{Kind: fidelity.HuggingFace, Window: window, Stride: stride}
		var a fidelity.Accumulator
		for _, w := range d.Cut(n) {
			for p := w.First; p < w.Last; p++ {
				l := loss[p+1][p+1-w.Start]
				row := []float32{float32(math.Log(1 / (math.Exp(l) - 1))), 0} // -log softmax(row)[0] = l
				if err := a.AddWeighted(row, row, 0, d.Weight(w)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := a.Result().Perplexity; math.Abs(got-want) > 1e-5*want {
			t.Errorf("%v: %v, want %v", c, got, want)
		}
	}
}

// TestLlamaCppLoop compares value and error with those that llama.cpp's formulas
// give: sums of nll and nll² over positions n/2 to n-2 of whole windows.
func TestLlamaCppLoop(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	const n, window = 70, 16
	d := fidelity.Definition{Kind: fidelity.LlamaCpp, Window: window}
	rows, ids := make([][]float32, n), make([]int32, n)
	for i := range rows {
		rows[i] = []float32{float32(r.NormFloat64()), float32(r.NormFloat64()), float32(r.NormFloat64())}
		ids[i] = int32(r.IntN(3))
	}
	var nll, nll2, count float64
	for start := 0; start+window <= n; start += window {
		for i := start + window/2; i < start+window-1; i++ {
			l := -math.Log(softmax(rows[i])[ids[i+1]])
			nll += l
			nll2 += l * l
			count++
		}
	}
	nll /= count
	err2 := math.Sqrt((nll2/count - nll*nll) / (count - 1))
	var a fidelity.Accumulator
	for _, w := range d.Cut(n) {
		for p := w.First; p < w.Last; p++ {
			if err := a.AddWeighted(rows[p], rows[p], w.Target(ids, p), d.Weight(w)); err != nil {
				t.Fatal(err)
			}
		}
	}
	res := a.Result()
	if math.Abs(res.Perplexity-math.Exp(nll)) > 1e-6 || math.Abs(res.PerplexityStdErr-math.Exp(nll)*err2) > 1e-6 || float64(res.Scored) != count {
		t.Errorf("%v ± %v of %d, want %v ± %v of %v", res.Perplexity, res.PerplexityStdErr, res.Scored, math.Exp(nll), math.Exp(nll)*err2, count)
	}
}
