package bench

import (
	"math"
	"slices"
	"testing"
)

// The ranks of the interval of a median are those of the sign test's tables
// (Conover, Practical Nonparametric Statistics, table A3): from 1, the smaller.
func TestBracketMedian(t *testing.T) {
	for _, tt := range []struct {
		n, low   int // from 0
		coverage float64
	}{
		{1, 0, 0},         // one sample says nothing of the spread
		{5, 0, 0.9375},    // the range: too few for 95 %
		{6, 0, 0.96875},   // 1 − 2/64
		{9, 1, 0.9609375}, // 1 − 2·(1+9)/512
		{10, 1, 0.978515625},
		{20, 5, 0.9586105}, // 1 − 2·0.0206947
		{30, 9, 0.9572260},
	} {
		low, high, coverage := bracket(tt.n, 0.5)
		if low != tt.low || high != tt.n-1-tt.low || math.Abs(coverage-tt.coverage) > 1e-6 {
			t.Errorf("of %d samples: %d to %d with %.7f, want %d to %d with %.7f", tt.n, low, high, coverage, tt.low, tt.n-1-tt.low, tt.coverage)
		}
	}
}

// The coverage promised must be that of draws from a distribution whose quantile
// is known: of the uniform one it is q.
func TestBracketCovers(t *testing.T) {
	const draws = 1000
	seed := uint64(1)
	uniform := func() float64 { // splitmix64
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return float64((z^z>>31)>>11) / (1 << 53)
	}
	for _, tt := range []struct {
		n int
		q float64
	}{{15, 0.5}, {200, 0.95}, {600, 0.99}, {40, 0.99}} {
		low, high, coverage := bracket(tt.n, tt.q)
		held := 0
		x := make([]float64, tt.n)
		for range draws {
			for i := range x {
				x[i] = uniform()
			}
			slices.Sort(x)
			if x[low] <= tt.q && tt.q <= x[high] {
				held++
			}
		}
		if got := float64(held) / draws; math.Abs(got-coverage) > 0.03 {
			t.Errorf("%d samples, quantile %g: held in %.3f of draws, promised %.3f", tt.n, tt.q, got, coverage)
		}
	}
}

func TestStat(t *testing.T) {
	if s := newStat(nil); s != nil {
		t.Errorf("of no samples: %+v", s)
	}
	s := newStat([]float64{5, 1, 4, 2})
	if s.Median != 3 || s.Low != 1 || s.High != 5 || !slices.Equal(s.Samples, []float64{5, 1, 4, 2}) {
		t.Errorf("got %+v", s)
	}
	x := make([]float64, 100)
	for i := range x {
		x[i] = float64(i + 1)
	}
	for q, want := range map[float64]float64{0.5: 50, 0.95: 95, 0.99: 99} {
		if p := percentile(x, q); p.Value != want || p.Count != 100 || p.Low > want || p.High < want {
			t.Errorf("percentile %g of 1 to 100: %+v, want %g", q, p, want)
		}
	}
	if p := percentile([]float64{7}, 0.99); p.Value != 7 || p.Low != 7 || p.High != 7 {
		t.Errorf("of one sample: %+v", p)
	}
}
