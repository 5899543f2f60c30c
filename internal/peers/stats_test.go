package main

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		x    []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{3, 1}, 2}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(c.x); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.x, got, c.want)
		}
	}
	if !math.IsNaN(median(nil)) {
		t.Error("the median of nothing is a number")
	}
}

// The interval of n values: tables of the sign test give the pair and its
// confidence (n = 9: 2nd and 8th, 96.1 %).
func TestMedianInterval(t *testing.T) {
	for _, c := range []struct {
		n        int
		low, hi  float64
		coverage float64
	}{
		{1, 0, 0, 0}, {5, 0, 4, 0.9375}, {6, 0, 5, 0.96875}, {9, 1, 7, 0.9609375},
		{15, 3, 11, 0.96484375}, {20, 5, 14, 0.9586105},
	} {
		x := make([]float64, c.n)
		for i, p := range rand.New(rand.NewPCG(1, 1)).Perm(c.n) {
			x[i] = float64(p)
		}
		got := medianInterval(x, 0.95)
		if got.Low != c.low || got.High != c.hi || math.Abs(got.Coverage-c.coverage) > 1e-6 {
			t.Errorf("%d values: %+v, want %+v", c.n, got, c)
		}
	}
}

func TestClaim(t *testing.T) {
	over, under := []float64{10, 11, 12, 13, 14, 15}, []float64{10, 10, 10, 10, 10, 10}
	if c := newClaim("speed", "a", "b", over, under, goal{atLeast: 1.2, lowAbove: 0.97}); !c.Met || c.Ratio != 1.25 || c.Low != 1 {
		t.Errorf("%+v", c)
	}
	if c := newClaim("speed", "a", "b", over, under, goal{atLeast: 1.2, lowAbove: 1}); c.Met {
		t.Errorf("an interval that touches its bound is accepted: %+v", c)
	}
	if c := newClaim("memory", "a", "b", over, under, goal{atMost: 1.2}); c.Met {
		t.Errorf("more than the goal is accepted: %+v", c)
	}
}
