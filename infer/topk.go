package infer

import (
	"math"
	"slices"
)

// selectTop returns the k largest logits in falling order, of equal ones those
// with lower ids first, reusing buf. 0 < k <= len(logits); no logit is NaN.
//
// A min-heap of the best so far has its root as threshold: after the first
// few thousand tokens nearly every logit fails one comparison, so the cost is
// that of a scan. A full sort of 150 000 logits takes 10 ms.
func selectTop(buf []candidate, logits []float32, k int) []candidate {
	heap := slices.Grow(buf[:0], k)
	for i, v := range logits[:k] {
		heap = append(heap, candidate{logit: v, id: int32(i)})
	}
	for i := k/2 - 1; i >= 0; i-- {
		siftDown(heap, i)
	}
	rest := logits[k:]
	for i := 0; i < len(rest); {
		threshold := heap[0].logit
		if i+8 <= len(rest) {
			l := rest[i : i+8 : i+8]
			if l[0] <= threshold && l[1] <= threshold && l[2] <= threshold && l[3] <= threshold &&
				l[4] <= threshold && l[5] <= threshold && l[6] <= threshold && l[7] <= threshold {
				i += 8
				continue
			}
		}
		// An equal logit with a higher id does not displace: ids rise here.
		if v := rest[i]; v > threshold {
			heap[0] = candidate{logit: v, id: int32(k + i)}
			siftDown(heap, 0)
		}
		i++
	}
	slices.SortFunc(heap, func(a, b candidate) int {
		if worse(b, a) {
			return -1
		}
		return 1
	})
	return heap
}

// worse orders candidates: smaller logits are worse, of equal ones higher ids.
func worse(a, b candidate) bool {
	return a.logit < b.logit || (a.logit == b.logit && a.id > b.id)
}

// siftDown restores the heap, worst candidate first, below position i.
func siftDown(heap []candidate, i int) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if r := child + 1; r < len(heap) && worse(heap[r], heap[child]) {
			child = r
		}
		if !worse(heap[child], heap[i]) {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}

// expf is e^x for x <= 0 to about 2 units in the last place, 0 below -87.
//
// x = n·ln2 + r with |r| <= ln2/2, then a degree-6 polynomial for e^r (Taylor
// terms to r^6/720: error r^7/5040 < 1.2e-7) and 2^n through the exponent
// bits. math.Exp works in float64 and takes four times as long, which counts
// where a whole vocabulary is sampled from. float32(...) around products keeps
// compilers from fusing them, so that a seed gives the same token everywhere.
func expf(x float32) float32 {
	if !(x > -87) { // also -Inf
		return 0
	}
	const (
		log2e = 1.44269504088896341
		ln2Hi = 0.693359375 // exact in 10 bits: n·ln2Hi is exact
		ln2Lo = -2.12194440e-4
		magic = 1.5 * (1 << 23) // adding it rounds to an integer
	)
	n := float32(float32(x*log2e)+magic) - magic
	r := x - float32(n*ln2Hi)
	r -= float32(n * ln2Lo)
	p := float32(1.0 / 720)
	p = float32(p*r) + 1.0/120
	p = float32(p*r) + 1.0/24
	p = float32(p*r) + 1.0/6
	p = float32(p*r) + 0.5
	p = float32(p*r) + 1
	p = float32(p*r) + 1
	return p * math.Float32frombits(uint32(int32(n)+127)<<23)
}
