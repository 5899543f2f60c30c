package fidelity_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/fidelity"
)

var (
	inf = float32(math.Inf(1))
	nan = float32(math.NaN())
)

// TestByHand compares one row with figures worked out on paper: reference
// probabilities 1/2, 1/4, 1/4, model 1/4, 1/2, 1/4.
func TestByHand(t *testing.T) {
	ln := func(x float64) float32 { return float32(math.Log(x)) }
	ref := []float32{ln(2), ln(1), ln(1)}
	got := []float32{ln(3), ln(6), ln(3)} // scaled: only differences count
	var a fidelity.Accumulator
	if err := a.Add(ref, got, 0); err != nil {
		t.Fatal(err)
	}
	r := a.Result()
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"KL", r.KLMean, 0.5*math.Log(2) + 0.25*math.Log(0.5)},
		{"KL max", r.KLMax, 0.25 * math.Log(2)},
		{"top 1", r.Top1, 0},
		{"top 5", r.Top5, 1},
		{"reference perplexity", r.RefPerplexity, 2},
		{"perplexity", r.Perplexity, 4},
		{"ratio", r.PerplexityRatio, 2},
		{"max delta", r.MaxDelta, math.Log(6)},
		{"tokens", float64(r.Tokens), 1},
		{"scored", float64(r.Scored), 1},
		{"standard error of one value", r.KLStdErr, 0},
	} {
		if math.Abs(c.got-c.want) > 1e-6 {
			t.Errorf("%s is %g, want %g", c.name, c.got, c.want)
		}
	}
}

// TestPlainSums compares many rows with a two-pass computation.
func TestPlainSums(t *testing.T) {
	const n, vocab = 300, 50
	r := rand.New(rand.NewPCG(3, 4))
	var a fidelity.Accumulator
	var parts [3]fidelity.Accumulator
	var kls, ratios []float64
	top1, top5 := 0, 0
	for i := range n {
		ref, got := make([]float32, vocab), make([]float32, vocab)
		for j := range ref {
			ref[j] = 3 * float32(r.NormFloat64())
			got[j] = ref[j] + float32(r.NormFloat64()) + 100
		}
		target := int32(r.IntN(vocab))
		p, q := softmax(ref), softmax(got)
		var kl float64
		for j := range p {
			kl += p[j] * math.Log(p[j]/q[j])
		}
		kls = append(kls, kl)
		ratios = append(ratios, math.Log(p[target]/q[target]))
		better := 0
		for j := range q {
			if q[j] > q[argmax(p)] {
				better++
			}
		}
		if better == 0 {
			top1++
		}
		if better < 5 {
			top5++
		}
		for _, acc := range []*fidelity.Accumulator{&a, &parts[i*i%3]} {
			if err := acc.Add(ref, got, target); err != nil {
				t.Fatal(err)
			}
		}
	}
	var merged fidelity.Accumulator
	for i := range parts {
		merged.Merge(&parts[i])
	}
	klMean, klErr := meanErr(kls)
	dMean, dErr := meanErr(ratios)
	for _, res := range []fidelity.Result{a.Result(), merged.Result()} {
		for _, c := range []struct {
			name      string
			got, want float64
		}{
			{"KL", res.KLMean, klMean},
			{"KL error", res.KLStdErr, klErr},
			{"ratio", res.PerplexityRatio, math.Exp(dMean)},
			{"ratio error", res.PerplexityRatioStdErr, math.Exp(dMean) * dErr},
			{"ratio of perplexities", res.Perplexity / res.RefPerplexity, math.Exp(dMean)},
			{"top 1", res.Top1, float64(top1) / n},
			{"top 5", res.Top5, float64(top5) / n},
		} {
			if math.Abs(c.got-c.want) > 1e-9*math.Abs(c.want) {
				t.Errorf("%s is %v, want %v", c.name, c.got, c.want)
			}
		}
	}
}

func TestEqualLogits(t *testing.T) {
	x := []float32{1, 2, 2, -inf, 2.5, -300}
	var a fidelity.Accumulator
	if err := a.Add(x, x, fidelity.NoTarget); err != nil {
		t.Fatal(err)
	}
	if r := a.Result(); r.KLMean != 0 || r.KLMax != 0 || r.Top1 != 1 || r.Top5 != 1 || r.MaxDelta != 0 || r.Scored != 0 || r.Perplexity != 0 || r.Tokens != 1 {
		t.Errorf("equal logits give %+v", r)
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		name     string
		ref, got []float32
		target   int32
		want     string
	}{
		{"lengths", []float32{1, 2}, []float32{1}, 0, "the reference has 2, the model 1"},
		{"empty", nil, nil, fidelity.NoTarget, "the reference has 0"},
		{"target above", []float32{1, 2}, []float32{1, 2}, 2, "target token 2 is outside"},
		{"target below", []float32{1, 2}, []float32{1, 2}, -2, "target token -2 is outside"},
		{"NaN in the model", []float32{1, 2}, []float32{1, nan}, 0, "logits of the model: token 1 is NaN"},
		{"NaN in the reference", []float32{nan, 2}, []float32{1, 2}, 0, "logits of the reference: token 0 is NaN"},
		{"+Inf", []float32{1, 2}, []float32{inf, 2}, 0, "token 0 is +Inf"},
		{"all -Inf", []float32{-inf, -inf}, []float32{1, 2}, 0, "every token is -Inf"},
		{"infinite divergence", []float32{1, 2}, []float32{-inf, 2}, 1, "the divergence is infinite"},
		{"infinite perplexity", []float32{-inf, 2}, []float32{1, 2}, 0, "the perplexity is infinite"},
		{"infinite perplexity of both", []float32{-inf, 2}, []float32{-inf, 2}, 0, "the perplexity is infinite"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a fidelity.Accumulator
			err := a.Add(c.ref, c.got, c.target)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want %q", err, c.want)
			}
			if a != (fidelity.Accumulator{}) {
				t.Error("a refused row was counted")
			}
		})
	}
}

func BenchmarkAdd(b *testing.B) {
	const vocab = 49152
	r := rand.New(rand.NewPCG(1, 1))
	ref, got := make([]float32, vocab), make([]float32, vocab)
	for i := range ref {
		ref[i] = 3 * float32(r.NormFloat64())
		got[i] = ref[i] + 0.1*float32(r.NormFloat64())
	}
	var a fidelity.Accumulator
	b.SetBytes(2 * 4 * vocab)
	for b.Loop() {
		if err := a.Add(ref, got, 7); err != nil {
			b.Fatal(err)
		}
	}
}

func softmax(x []float32) []float64 {
	out := make([]float64, len(x))
	var sum float64
	for i, v := range x {
		out[i] = math.Exp(float64(v) - float64(x[argmax(x)]))
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}

func argmax[T float32 | float64](x []T) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}

func meanErr(x []float64) (mean, stdErr float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		stdErr += (v - mean) * (v - mean)
	}
	return mean, math.Sqrt(stdErr / float64(len(x)-1) / float64(len(x)))
}
