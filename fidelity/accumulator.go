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
	if len(ref) != len(got) || len(ref) == 0 {
		return fmt.Errorf("compare logits: the reference has %d, the model %d", len(ref), len(got))
	}
	if target < NoTarget || int(target) >= len(ref) {
		return fmt.Errorf("compare logits: target token %d is outside the vocabulary of %d", target, len(ref))
	}
	r, err := summarize(ref)
	if err != nil {
		return fmt.Errorf("logits of the reference: %w", err)
	}
	g, err := summarize(got)
	if err != nil {
		return fmt.Errorf("logits of the model: %w", err)
	}
	kl, delta := 0.0, 0.0
	for i, x := range ref {
		x, y := float64(x), float64(got[i])
		if math.IsInf(x, -1) {
			continue // probability 0: adds nothing, whatever the model says
		}
		if math.IsInf(y, -1) {
			return fmt.Errorf("logits of the model: token %d is -Inf, the reference has %v: the divergence is infinite", i, x)
		}
		kl += math.Exp(x-r.logSum) * (x - y)
		delta = max(delta, math.Abs(x-y))
	}
	if target >= 0 && math.IsInf(float64(ref[target]), -1) {
		return fmt.Errorf("logits of the reference: target token %d is -Inf: the perplexity is infinite", target)
	}
	if target >= 0 && math.IsInf(float64(got[target]), -1) {
		return fmt.Errorf("logits of the model: target token %d is -Inf: the perplexity is infinite", target)
	}

	kl = max(0, kl-r.logSum+g.logSum) // rounding alone makes it negative
	a.kl.add(kl)
	a.klMax = max(a.klMax, kl)
	a.maxDelta = max(a.maxDelta, delta)
	if r.best == g.best {
		a.top1++
	}
	if rank(got, r.best) < 5 {
		a.top5++
	}
	if target >= 0 {
		nr, ng := r.logSum-float64(ref[target]), g.logSum-float64(got[target])
		a.nllRef.add(nr)
		a.nllGot.add(ng)
		a.nllDelta.add(ng - nr)
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

// row is what one row of logits says.
type row struct {
	best   int     // index of the largest logit, the first of equal ones
	logSum float64 // log Σ exp(logit)
}

func summarize(x []float32) (row, error) {
	best := 0
	for i, v := range x {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 1) {
			return row{}, fmt.Errorf("token %d is %v", i, v)
		}
		if v > x[best] {
			best = i
		}
	}
	top := float64(x[best])
	if math.IsInf(top, -1) {
		return row{}, fmt.Errorf("every token is -Inf")
	}
	var sum float64
	for _, v := range x {
		sum += math.Exp(float64(v) - top)
	}
	return row{best, top + math.Log(sum)}, nil
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
