package eval

import (
	"math"
	"testing"
)

// Values of scipy 1.16.3: binomtest(k, n).proportion_ci(0.95, "wilson").
func TestWilson(t *testing.T) {
	for _, c := range []struct {
		right, total int
		low, high    float64
	}{
		{0, 20, 0.0, 0.16112515805281935},
		{1, 20, 0.008881448800795402, 0.23613119344674205},
		{10, 20, 0.2992980081982124, 0.7007019918017876},
		{20, 20, 0.8388748419471808, 1.0},
		{47, 120, 0.3089919697233256, 0.48106218300072684},
		{119, 120, 0.9543037087549504, 0.9985274442666578},
		{3, 7, 0.1582198552514697, 0.7495416354723428},
		{0, 0, 0, 1},
	} {
		low, high := Wilson(c.right, c.total)
		if math.Abs(low-c.low) > 1e-12 || math.Abs(high-c.high) > 1e-12 {
			t.Errorf("%d of %d: %v to %v, want %v to %v", c.right, c.total, low, high, c.low, c.high)
		}
	}
}

// Values of scipy 1.16.3: binomtest(gained, gained+lost, 0.5).pvalue.
func TestMcNemar(t *testing.T) {
	for _, c := range []struct {
		gained, lost int
		want         float64
	}{
		{0, 0, 1}, {1, 0, 1}, {1, 1, 1}, {3, 3, 1},
		{5, 0, 0.0625}, {6, 0, 0.03125}, {10, 3, 0.09228515625},
		{2, 14, 0.004180908203125}, {40, 55, 0.1505180638902294},
	} {
		if p := McNemar(c.gained, c.lost); math.Abs(p-c.want) > 1e-12 {
			t.Errorf("%d and %d: %v, want %v", c.gained, c.lost, p, c.want)
		}
	}
}

// TestPairedInterval has the interval worked out on paper: 12 gained, 5 lost of
// 118 gives n = 120, b = 12.5, c = 5.5, d = 7/120.
func TestPairedInterval(t *testing.T) {
	low, high := pairedInterval(12, 5, 118)
	half := z95 * math.Sqrt(18-49.0/120) / 120
	if math.Abs(low-(7.0/120-half)) > 1e-12 || math.Abs(high-(7.0/120+half)) > 1e-12 {
		t.Errorf("%v to %v", low, high)
	}
	if low, high := pairedInterval(0, 0, 120); low >= 0 || high <= 0 || high > 0.03 {
		t.Errorf("equal answers: %v to %v", low, high)
	}
}

func TestPair(t *testing.T) {
	rec := func(id string, right, scored bool) Record { return Record{ID: id, Right: right, Scored: scored} }
	got := []Record{rec("a", true, true), rec("b", false, true), rec("c", true, true), rec("d", true, false), rec("e", true, true)}
	ref := []Record{rec("b", true, true), rec("a", false, true), rec("c", true, true), rec("d", true, true)}
	p := Pair("base", got, ref)
	if p == nil || p.Questions != 3 || p.Gained != 1 || p.Lost != 1 || p.Difference != 0 || p.P != 1 || p.Reference != "base" {
		t.Errorf("%+v", p)
	}
	if p := Pair("base", got, nil); p != nil {
		t.Errorf("nothing in common gives %+v", p)
	}
}

func TestCount(t *testing.T) {
	records := []Record{
		{Category: "x", Scored: true, Right: true, Chance: 0.25}, {Category: "x", Scored: true, Chance: 0.5},
		{Category: "x"}, {Category: "y", Scored: true, Right: true},
	}
	if s := count("x", records); s.Right != 1 || s.Total != 2 || s.Unscored != 1 || s.Accuracy != 0.5 || s.Chance != 0.375 {
		t.Errorf("%+v", s)
	}
	if s := count("", records); s.Right != 2 || s.Total != 3 || s.Unscored != 1 {
		t.Errorf("%+v", s)
	}
}
