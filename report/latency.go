package report

import (
	"cmp"
	"fmt"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// timeline is a chart of times, a line for each artifact: a marker, and a bar to
// what most or nearly all were below.
type timeline struct {
	rows []*Row
	// of gives marker, the bar's ends, and a last tick, in milliseconds.
	of func(*Row) times
}

type times struct{ at, from, to, last float64 }

const maxTimeline = 24 // lines of a chart; the table has them all

func milliseconds(e *Estimate) float64 { return 1000 * e.Value }

func latency(p *Page) (*chart, string) {
	t := timeline{of: func(r *Row) times {
		s := r.Speed
		out := times{at: milliseconds(s.P50), from: milliseconds(s.P50)}
		out.to, out.last = out.at, out.at
		if s.P95.finite() {
			out.to, out.last = milliseconds(s.P95), milliseconds(s.P95)
		}
		if s.P99.finite() {
			out.last = milliseconds(s.P99)
		}
		return out
	}}
	for i := range p.Rows {
		if s := p.Rows[i].Speed; s != nil && s.P50.finite() && s.P50.Value > 0 {
			t.rows = append(t.rows, &p.Rows[i])
		}
	}
	if len(t.rows) == 0 {
		return nil, "times between tokens were measured of no artifact"
	}
	return t.chart("latency", "Time between tokens", "time from one token to the next, ms",
		"The marker is the median, the bar ends at the 95th percentile, the tick at the 99th. Left is better.",
		entry{"p95", func(c *draw.Canvas, at vg.Point) {
			c.StrokeLine2(draw.LineStyle{Color: inkMuted, Width: 3}, at.X-8, at.Y, at.X+8, at.Y)
		}},
		entry{"p99", func(c *draw.Canvas, at vg.Point) {
			c.StrokeLine2(draw.LineStyle{Color: inkMuted, Width: 1.6}, at.X, at.Y-5, at.X, at.Y+5)
		}}), ""
}

func firstToken(p *Page) (*chart, string) {
	t := timeline{of: func(r *Row) times {
		e := r.Speed.FirstToken
		return times{1000 * e.Value, 1000 * e.Low, 1000 * e.High, 1000 * e.High}
	}}
	for i := range p.Rows {
		if s := p.Rows[i].Speed; s != nil && s.FirstToken.finite() && s.FirstToken.Value > 0 && s.FirstToken.Low > 0 {
			t.rows = append(t.rows, &p.Rows[i])
		}
	}
	if len(t.rows) == 0 {
		return nil, "the time to the first token was measured of no artifact"
	}
	return t.chart("first-token", "Time to the first token", "time to the first token, ms",
		"From a prompt to the first token, the model being loaded: the median and its interval. Left is better."), ""
}

// chart draws the rows, the fastest on top.
func (t *timeline) chart(file, title, xTitle, caption string, more ...entry) *chart {
	slices.SortStableFunc(t.rows, func(a, b *Row) int { return cmp.Compare(t.of(a).at, t.of(b).at) })
	total := len(t.rows)
	if total > maxTimeline {
		t.rows = t.rows[:maxTimeline]
		caption += fmt.Sprintf(" The %d fastest of %d.", maxTimeline, total)
	}
	return &chart{
		file: file, title: title, caption: caption,
		description: fmt.Sprintf("%d artifacts, the fastest first: %s", len(t.rows), names(t.rows)),
		wide:        t.draw(wideWidth, 22, 34, xTitle, more), narrow: t.draw(narrowWidth, 22, 22, xTitle, more),
	}
}

func (t *timeline) draw(w, line float64, letters int, xTitle string, more []entry) *svg {
	var all []float64
	for _, r := range t.rows {
		v := t.of(r)
		all = append(all, v.at, v.from, v.last)
	}
	x, _ := extentOf(all, false)
	if !x.log { // lengths are compared: from zero
		x.min = 0
	}
	p := newPlot()
	x.apply(&p.X)
	p.Y.Min, p.Y.Max = -0.7, float64(len(t.rows))-0.3
	p.Y.Width, p.Y.Tick.Width = 0, 0
	p.Y.Tick.Label.Color = inkText
	ticks := make(plot.ConstantTicks, len(t.rows))
	for i, r := range t.rows {
		ticks[i] = plot.Tick{Value: float64(len(t.rows) - 1 - i), Label: short(r.Artifact, letters)}
	}
	p.Y.Tick.Marker = ticks
	p.Add(grid(), t)
	return picture(w, 84+line*float64(len(t.rows)), append(formatEntries(bare(t.rows)), more...), title(xTitle, x), "", p)
}

// bare is rows without their basis: times are measured or absent.
func bare(rows []*Row) []*Row {
	out := make([]*Row, len(rows))
	for i, r := range rows {
		out[i] = &Row{Format: r.Format}
	}
	return out
}

// Plot makes it a plot.Plotter.
func (t *timeline) Plot(c draw.Canvas, p *plot.Plot) {
	tx, ty := p.Transforms(&c)
	canvas, _ := c.Canvas.(*svg)
	for i, r := range t.rows {
		v, y, l := t.of(r), ty(float64(len(t.rows)-1-i)), lookOf(r.Format)
		if canvas != nil {
			canvas.group(t.told(r))
		}
		if v.to > v.from {
			c.StrokeLine2(draw.LineStyle{Color: l.ink, Width: 3}, tx(v.from), y, tx(v.to), y)
		}
		if v.last > v.to {
			c.StrokeLine2(draw.LineStyle{Color: l.ink, Width: 1}, tx(v.to), y, tx(v.last), y)
			c.StrokeLine2(draw.LineStyle{Color: l.ink, Width: 1.6}, tx(v.last), y-5, tx(v.last), y+5)
		}
		marker(&c, l, vg.Point{X: tx(v.at), Y: y}, false)
		if canvas != nil {
			canvas.end()
		}
	}
}

func (t *timeline) told(r *Row) string {
	s := r.Speed
	out := clean(r.Artifact)
	if s.P50.finite() {
		out += ": between tokens p50 " + show(s.P50, 1000, " ms").Value
	}
	if s.P95.finite() {
		out += ", p95 " + show(s.P95, 1000, " ms").Value
	}
	if s.P99.finite() {
		out += ", p99 " + show(s.P99, 1000, " ms").Value
	}
	if s.FirstToken.finite() {
		out += "; first token " + show(s.FirstToken, 1000, " ms").text()
	}
	return out
}
