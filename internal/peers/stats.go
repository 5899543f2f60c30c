package main

import (
	"fmt"
	"math"
	"slices"
)

// median of x, which is not changed; NaN of none.
func median(x []float64) float64 {
	if len(x) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(x))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// interval is a confidence interval of a median.
type interval struct {
	Low, High float64
	// Coverage is the confidence reached: less than was wanted where there
	// are too few values.
	Coverage float64
}

// medianInterval is the narrowest pair of order statistics that holds the
// median with at least the wanted confidence, whatever the distribution: the
// k-th smallest and k-th largest of n values enclose it with probability
// 1 − 2·P(Bin(n, ½) < k). Of too few values it is their range.
func medianInterval(x []float64, want float64) interval {
	n := len(x)
	if n == 0 {
		return interval{math.NaN(), math.NaN(), 0}
	}
	s := slices.Sorted(slices.Values(x))
	best := interval{s[0], s[n-1], 1 - 2*math.Pow(0.5, float64(n))}
	term, below := math.Pow(0.5, float64(n)), 0.0 // P(Bin = k), P(Bin < k)
	for k := 1; k <= n/2; k++ {
		below += term
		if coverage := 1 - 2*below; coverage >= want {
			best = interval{s[k-1], s[n-k], coverage}
		}
		term *= float64(n-k+1) / float64(k)
	}
	return best
}

// ratios divides pairwise.
func ratios(over, under []float64) []float64 {
	out := make([]float64, min(len(over), len(under)))
	for i := range out {
		out[i] = over[i] / under[i]
	}
	return out
}

// claim is one figure of the goals, measured: the median of paired ratios.
type claim struct {
	What     string  `json:"what"`
	Ours     string  `json:"ours"`
	Peer     string  `json:"peer"`
	Ratio    float64 `json:"ratio"`
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
	Coverage float64 `json:"coverage"`
	Pairs    int     `json:"pairs"`
	Goal     string  `json:"goal,omitempty"`
	Met      bool    `json:"met"`
}

// goal is what a ratio should reach; the zero value is none.
type goal struct {
	atLeast, atMost float64
	lowAbove        float64 // the interval's lower end
}

func (g goal) String() string {
	switch {
	case g.lowAbove > 0:
		return fmt.Sprintf("≥ %g, interval above %g", g.atLeast, g.lowAbove)
	case g.atLeast > 0:
		return fmt.Sprintf("≥ %g", g.atLeast)
	case g.atMost > 0:
		return fmt.Sprintf("≤ %g", g.atMost)
	}
	return ""
}

// newClaim sums up pairs of values.
func newClaim(what, ours, peer string, over, under []float64, g goal) claim {
	r := ratios(over, under)
	m, i := median(r), medianInterval(r, 0.95)
	return claim{
		What: what, Ours: ours, Peer: peer, Ratio: m, Low: i.Low, High: i.High, Coverage: i.Coverage,
		Pairs: len(r), Goal: g.String(),
		Met: (g.atLeast == 0 || m >= g.atLeast) && (g.atMost == 0 || m <= g.atMost) && (g.lowAbove == 0 || i.Low > g.lowAbove),
	}
}
