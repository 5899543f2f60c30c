package report

import (
	"math"
	"slices"

	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// placement finds room for names: none lies on another, on a marker, or outside.
type placement struct {
	area  vg.Rectangle
	taken []vg.Rectangle
	lines []vg.Rectangle // better not crossed, if there is other room
}

// avoid keeps names off a level or upright line where that is possible.
func (l *placement) avoid(a, b vg.Point) {
	l.lines = append(l.lines, vg.Rectangle{
		Min: vg.Point{X: min(a.X, b.X) - 1, Y: min(a.Y, b.Y) - 1}, Max: vg.Point{X: max(a.X, b.X) + 1, Y: max(a.Y, b.Y) + 1},
	})
}

// block keeps names away from a point.
func (l *placement) block(p vg.Point, r float64) {
	d := vg.Length(r)
	l.taken = append(l.taken, vg.Rectangle{Min: vg.Point{X: p.X - d, Y: p.Y - d}, Max: vg.Point{X: p.X + d, Y: p.Y + d}})
}

func overlap(a, b vg.Rectangle) bool {
	return a.Min.X < b.Max.X && b.Min.X < a.Max.X && a.Min.Y < b.Max.Y && b.Min.Y < a.Max.Y
}

func (l *placement) free(r vg.Rectangle) bool {
	if r.Min.X < l.area.Min.X+2 || r.Max.X > l.area.Max.X || r.Min.Y < l.area.Min.Y+2 || r.Max.Y > l.area.Max.Y {
		return false
	}
	return !slices.ContainsFunc(l.taken, func(t vg.Rectangle) bool { return overlap(r, t) })
}

// box is where a text lies whose lower left corner is p.
func box(st text.Style, s string, p vg.Point) vg.Rectangle {
	const pad = 1.5
	h := st.Font.Size
	return vg.Rectangle{Min: vg.Point{X: p.X - pad, Y: p.Y - 0.1*h}, Max: vg.Point{X: p.X + st.Width(s) + pad, Y: p.Y + h}}
}

// put writes a name near its point, with a thin line to it where it is not
// beside. Where there is no room nothing is written: the marker's title and the
// table have the name.
func (l *placement) put(c draw.Canvas, st text.Style, s string, at vg.Point) bool {
	return l.try(c, st, s, at, []float64{7, 11, 17, 25, 35}, true) ||
		l.try(c, st, s, at, []float64{7, 11, 17, 25, 35, 47, 60, 75}, false)
}

// try looks at growing distances, around the point.
func (l *placement) try(c draw.Canvas, st text.Style, s string, at vg.Point, distances []float64, offLines bool) bool {
	w, h := float64(st.Width(s)), float64(st.Font.Size)
	for _, r := range distances {
		for _, deg := range []float64{0, 180, 90, 270, 35, -35, 145, -145, 65, -65, 115, -115, 15, -15, 165, -165} {
			sin, cos := math.Sincos(deg * math.Pi / 180)
			// The corner or the middle of a side that looks at the point lies on
			// the circle around it.
			x, y := float64(at.X)+r*cos, float64(at.Y)+r*sin
			end := vg.Point{X: vg.Length(x), Y: vg.Length(y)}
			switch {
			case cos < -0.3:
				x -= w
			case cos < 0.3:
				x -= w / 2
			}
			switch {
			case sin < -0.5:
				y -= h * 0.8
			case sin < 0.5:
				y -= h * 0.35
			}
			p := vg.Point{X: vg.Length(x), Y: vg.Length(y)}
			b := box(st, s, p)
			if !l.free(b) || r > 14 && !l.clear(at, end) {
				continue
			}
			if offLines && slices.ContainsFunc(l.lines, func(t vg.Rectangle) bool { return overlap(b, t) }) {
				continue
			}
			if r > 14 {
				c.StrokeLine2(draw.LineStyle{Color: inkMuted, Width: 0.8}, at.X+vg.Length(6*cos), at.Y+vg.Length(6*sin), end.X, end.Y)
			}
			write(c, st, p, s)
			l.taken = append(l.taken, b)
			return true
		}
	}
	return false
}

// clear reports whether a line from a point crosses no name or other marker.
func (l *placement) clear(from, to vg.Point) bool {
	const steps = 12
	for i := 1; i <= steps; i++ {
		t := vg.Length(i) / steps
		q := vg.Point{X: from.X + (to.X-from.X)*t, Y: from.Y + (to.Y-from.Y)*t}
		for _, r := range l.taken {
			inside := func(p vg.Point) bool {
				return p.X > r.Min.X && p.X < r.Max.X && p.Y > r.Min.Y && p.Y < r.Max.Y
			}
			if inside(q) && !inside(from) {
				return false
			}
		}
	}
	return true
}

// line writes the name of a vertical line at its top, on the side that has room.
func (l *placement) line(c draw.Canvas, st text.Style, s string, x vg.Length) {
	for down := vg.Length(16); down < l.area.Max.Y-l.area.Min.Y; down += 16 {
		for _, left := range []vg.Length{x + 5, x - 5 - st.Width(s)} {
			p := vg.Point{X: left, Y: l.area.Max.Y - down}
			if b := box(st, s, p); l.free(b) {
				write(c, st, p, s)
				l.taken = append(l.taken, b)
				return
			}
		}
	}
}

// write draws text whose lower left corner is p, with a halo that keeps lines
// behind it from being read as part of it.
func write(c draw.Canvas, st text.Style, p vg.Point, s string) {
	if canvas, ok := c.Canvas.(*svg); ok {
		canvas.state.halo = true
		defer func() { canvas.state.halo = false }()
	}
	c.FillText(st, p, s)
}
