package fidelity

import (
	"fmt"
	"math"
)

// NoTarget is the target of a position whose next token is not known: it
// counts for everything but the perplexities.
const NoTarget int32 = -1

// Accumulator sums what [Accumulator.Add] sees. The zero value is ready.
type Accumulator struct {
	kl         moments
	klMax      float64
	top1, top5 int
	maxDelta   float64

	nllRef, nllGot, nllDelta moments // of positions with a target, in nats
}

// Add takes the logits of one position, [vocab] each, from the reference and
// from the model under test, and the token that follows in the text or
// [NoTarget].
//
// A logit of -Inf means "never", as in masked rows of a padded vocabulary; it
// must then be -Inf in the reference too, since the divergence is infinite
// otherwise. NaN and +Inf are errors. After an error nothing was added.
func (a *Accumulator) Add(ref, got []float32, target int32) error {
	return a.AddWeighted(ref, got, target, 1)
}

// AddWeighted is Add for a target that counts weight in the perplexities
// ([Definition.Weight]); with 0 it does not count.
func (a *Accumulator) AddWeighted(ref, got []float32, target int32, weight float64) error {
	if len(ref) != len(got) || len(ref) == 0 {
		return fmt.Errorf("compare logits: the reference has %d, the model %d", len(ref), len(got))
	}
	if target < NoTarget || int(target) >= len(ref) {
		return fmt.Errorf("compare logits: target token %d is outside the vocabulary of %d", target, len(ref))
	}
	bestRef, err := best(ref)
	if err != nil {
		return fmt.Errorf("logits of the reference: %w", err)
	}
	bestGot, err := best(got)
	if err != nil {
		return fmt.Errorf("logits of the model: %w", err)
	}
	topRef, topGot := float64(ref[bestRef]), float64(got[bestGot])
	// kl is Σ p·(log p − log q) with p and q still to be normalized.
	var sumRef, sumGot, kl, delta float64
	for i, x := range ref {
		x, y := float64(x)-topRef, float64(got[i])-topGot
		sumGot += math.Exp(y)
		if math.IsInf(x, -1) {
			continue // probability 0: adds nothing, whatever the model says
		}
		if math.IsInf(y, -1) {
			return fmt.Errorf("logits of the model: token %d is -Inf, the reference has %v: the divergence is infinite", i, ref[i])
		}
		p := math.Exp(x)
		sumRef += p
		kl += p * (x - y)
		delta = max(delta, math.Abs(float64(ref[i])-float64(got[i])))
	}
	logRef, logGot := math.Log(sumRef), math.Log(sumGot)
	if target >= 0 && math.IsInf(float64(ref[target]), -1) {
		return fmt.Errorf("logits of the reference: target token %d is -Inf: the perplexity is infinite", target)
	}
	if target >= 0 && math.IsInf(float64(got[target]), -1) {
		return fmt.Errorf("logits of the model: target token %d is -Inf: the perplexity is infinite", target)
	}

	kl = max(0, kl/sumRef-logRef+logGot) // rounding alone makes it negative
	a.kl.add(kl, 1)
	a.klMax = max(a.klMax, kl)
	a.maxDelta = max(a.maxDelta, delta)
	if bestRef == bestGot {
		a.top1++
	}
	if rank(got, bestRef) < 5 {
		a.top5++
	}
	if target >= 0 && weight > 0 {
		nr := logRef + topRef - float64(ref[target])
		ng := logGot + topGot - float64(got[target])
		a.nllRef.add(nr, weight)
		a.nllGot.add(ng, weight)
		a.nllDelta.add(ng-nr, weight)
	}
	return nil
}

// Merge adds what b has seen.
func (a *Accumulator) Merge(b *Accumulator) {
	a.kl.merge(b.kl)
	a.klMax = max(a.klMax, b.klMax)
	a.top1 += b.top1
	a.top5 += b.top5
	a.maxDelta = max(a.maxDelta, b.maxDelta)
	a.nllRef.merge(b.nllRef)
	a.nllGot.merge(b.nllGot)
	a.nllDelta.merge(b.nllDelta)
}

// best is the index of the largest logit, the first of equal ones.
func best(x []float32) (int, error) {
	b := 0
	for i, v := range x {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 1) {
			return 0, fmt.Errorf("token %d is %v", i, v)
		}
		if v > x[b] {
			b = i
		}
	}
	if math.IsInf(float64(x[b]), -1) {
		return 0, fmt.Errorf("every token is -Inf")
	}
	return b, nil
}

// rank is the number of tokens that come before token id: larger logits, and
// equal ones with a smaller id.
func rank(x []float32, id int) int {
	n := 0
	for i, v := range x {
		if v > x[id] || v == x[id] && i < id {
			n++
		}
	}
	return n
}
