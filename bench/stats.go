package bench

import (
	"math"
	"slices"
)

// wantCoverage is the confidence that intervals are made for.
const wantCoverage = 0.95

// newStat sums up samples; nil of none.
func newStat(samples []float64) *Stat {
	if len(samples) == 0 {
		return nil
	}
	s := slices.Sorted(slices.Values(samples))
	n := len(s)
	low, high, coverage := bracket(n, 0.5)
	return &Stat{
		Median: (s[(n-1)/2] + s[n/2]) / 2, Low: s[low], High: s[high], Coverage: coverage,
		Samples: slices.Clone(samples),
	}
}

// percentile is the smallest of the samples that at least a share q of them do
// not exceed (the "nearest rank"); sorted must be in order and not be empty.
func percentile(sorted []float64, q float64) Percentile {
	n := len(sorted)
	at := min(max(int(math.Ceil(q*float64(n)))-1, 0), n-1)
	low, high, coverage := bracket(n, q)
	return Percentile{Value: sorted[at], Low: sorted[low], High: sorted[high], Coverage: coverage, Count: n}
}

// bracket chooses two of n sorted samples that hold the q-quantile of what they
// are drawn from with at least wantCoverage, whatever the distribution. The number
// of samples below the quantile is binomial, so the i-th and the j-th (from 0)
// hold it with probability P(i < B ≤ j), B ~ Bin(n, q). At most (1 − wantCoverage)/2
// is left out at each end; where the samples are too few for that an end is the
// least or the greatest one and the coverage shows it.
func bracket(n int, q float64) (low, high int, coverage float64) {
	tail := (1 - wantCoverage) / 2
	// below is P(B ≤ i), summed up in logarithms: 0.01^n is 0 before n is 200.
	logs := func(k int) float64 {
		lg := func(x int) float64 { v, _ := math.Lgamma(float64(x) + 1); return v }
		return lg(n) - lg(k) - lg(n-k) + float64(k)*math.Log(q) + float64(n-k)*math.Log1p(-q)
	}
	low, high = 0, n-1
	sum := 0.0 // P(B ≤ k)
	left, right := math.NaN(), math.NaN()
	first := 0.0
	for k := 0; k <= n; k++ {
		sum += math.Exp(logs(k))
		if k == 0 {
			first = sum
		}
		// The quantile lies left of sample k where B ≤ k.
		if sum <= tail && k < n {
			low, left = k, sum
		}
		if 1-sum <= tail && math.IsNaN(right) && k < n {
			high, right = k, 1-sum
		}
	}
	if math.IsNaN(left) { // even the least sample leaves out more
		left = first
	}
	if math.IsNaN(right) {
		right = math.Exp(logs(n))
	}
	return low, max(high, low), 1 - left - right
}
