package report

import (
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
)

// logFrom is from what ratio of largest to smallest value on an axis is
// logarithmic: below it a linear one spreads the points well enough, and is
// easier to read.
const logFrom = 8

// extent is the range of an axis and its way of counting.
type extent struct {
	min, max float64
	log      bool
}

// extentOf covers values with room around them. Only values above zero count on
// a logarithmic axis, which is chosen by their spread, or forced.
func extentOf(values []float64, forceLog bool) (extent, bool) {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		lo, hi = min(lo, v), max(hi, v)
	}
	if lo > hi {
		return extent{}, false
	}
	e := extent{min: lo, max: hi, log: lo > 0 && (forceLog || hi/lo >= logFrom)}
	if e.log {
		room := math.Pow(hi/lo, 0.09)
		room = max(room, 1.25)
		e.min, e.max = lo/room, hi*room
		return e, true
	}
	room := 0.09 * (hi - lo)
	if room == 0 {
		room = max(math.Abs(hi)*0.25, 1e-9)
	}
	e.min, e.max = lo-room, hi+room
	if lo >= 0 {
		e.min = max(e.min, 0)
	}
	return e, true
}

// apply makes it the range of an axis.
func (e extent) apply(a *plot.Axis) {
	a.Min, a.Max, a.Scale, a.Tick.Marker = e.min, e.max, plot.LinearScale{}, linearTicks{5}
	if e.log {
		a.Scale, a.Tick.Marker = plot.LogScale{}, logTicks{}
	}
}

// linearTicks are some n steps of 1, 2 or 5 times a power of ten.
type linearTicks struct{ n int }

func (t linearTicks) Ticks(lo, hi float64) []plot.Tick {
	raw := (hi - lo) / float64(t.n)
	if !(raw > 0) || math.IsInf(raw, 0) {
		return nil
	}
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * power
	for _, m := range []float64{1, 2, 5} {
		if m*power >= raw {
			step = m * power
			break
		}
	}
	var out []plot.Tick
	for i := math.Ceil(lo/step - 1e-9); i*step <= hi*(1+1e-12) && len(out) < 50; i++ {
		out = append(out, plot.Tick{Value: i * step, Label: tickLabel(i * step)})
	}
	return out
}

// logTicks are 1, 2 and 5 times powers of ten, or powers alone where there are
// many; the digits between are marks without a number.
type logTicks struct{}

func (logTicks) Ticks(lo, hi float64) []plot.Tick {
	if !(lo > 0) || !(hi > lo) {
		return nil
	}
	first, last := int(math.Floor(math.Log10(lo))), int(math.Ceil(math.Log10(hi)))
	if last-first > 40 {
		return nil
	}
	decades := math.Log10(hi / lo)
	var out []plot.Tick
	for e := first; e <= last; e++ {
		for digit := 1; digit <= 9; digit++ {
			// By text, so that 3e-4 is that and not 2.9999e-4.
			v, err := strconv.ParseFloat(strconv.Itoa(digit)+"e"+strconv.Itoa(e), 64)
			if err != nil || v < lo || v > hi {
				continue
			}
			t := plot.Tick{Value: v}
			switch {
			case digit == 1, decades <= 3 && (digit == 2 || digit == 5), decades <= 0.6:
				t.Label = tickLabel(v)
			}
			out = append(out, t)
		}
	}
	return out
}

// tickLabel is a round number.
func tickLabel(v float64) string {
	if v == 0 {
		return "0" // not −0
	}
	if a := math.Abs(v); a < 1e-5 || a >= 1e7 {
		return strings.Replace(strconv.FormatFloat(v, 'e', -1, 64), "e-0", "e-", 1)
	}
	s := strconv.FormatFloat(v, 'f', 9, 64)
	s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	return minus(s)
}
