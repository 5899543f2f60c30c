package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// chart is one picture of the page, in two widths.
type chart struct {
	file, title, caption string
	description          string // what a reader who does not see it is told
	wide, narrow         *svg
}

// The widths of charts: for a page or a file, and for a phone.
const (
	wideWidth, wideHeight     = 640, 430
	narrowWidth, narrowHeight = 344, 380
)

// charts draws what the figures allow, and says of the others why not.
func (p *Page) charts() (drawn []chart, missing []Missing) {
	for _, c := range []struct {
		make func(*Page) (*chart, string)
		what string
	}{{sizeQuality, "chart of quality by size"}, {speedQuality, "chart of quality by speed"}, {latency, "chart of latency"}, {firstToken, "chart of the first token"}} {
		ch, why := guard(p, c.make)
		if ch == nil {
			missing = append(missing, Missing{What: c.what, Why: why})
			continue
		}
		drawn = append(drawn, *ch)
	}
	return drawn, missing
}

// guard keeps a chart that cannot be drawn from costing the page: gonum panics on
// what it cannot draw.
func guard(p *Page, f func(*Page) (*chart, string)) (c *chart, why string) {
	defer func() {
		if r := recover(); r != nil {
			c, why = nil, fmt.Sprintf("it could not be drawn: %v", r)
		}
	}()
	return f(p)
}

// look is how a format is drawn.
type look struct {
	ink   ink
	shape shape
	name  string
}

// shape is a marker.
type shape int

const (
	circle shape = iota
	square
	triangle
	diamond
)

// looks are the formats in the order of legends.
var looks = []struct {
	format string
	look
}{
	{"onnx", look{inkONNX, circle, "ONNX"}},
	{"gguf", look{inkGGUF, square, "GGUF"}},
	{"mlx", look{inkMLX, triangle, "MLX"}},
	{"", look{inkOther, diamond, "other"}},
}

func lookOf(format string) look {
	for _, l := range looks {
		if l.format == format {
			return l.look
		}
	}
	return looks[len(looks)-1].look
}

const markerRadius = 4.5

// marker draws one around a point; a hollow one is of figures that were computed
// elsewhere than on what the artifact is for.
func marker(c *draw.Canvas, l look, at vg.Point, hollow bool) {
	r := vg.Length(markerRadius)
	var p vg.Path
	corner := func(dx, dy float64) vg.Point {
		return vg.Point{X: at.X + r*vg.Length(dx), Y: at.Y + r*vg.Length(dy)}
	}
	polygon := func(points ...vg.Point) {
		p.Move(points[0])
		for _, q := range points[1:] {
			p.Line(q)
		}
		p.Close()
	}
	switch l.shape {
	case circle:
		p.Move(corner(1, 0))
		p.Arc(at, r, 0, 2*math.Pi)
		p.Close()
	case square:
		polygon(corner(-0.9, -0.9), corner(0.9, -0.9), corner(0.9, 0.9), corner(-0.9, 0.9))
	case triangle:
		polygon(corner(-1.1, -0.8), corner(1.1, -0.8), corner(0, 1.2))
	case diamond:
		polygon(corner(-1.2, 0), corner(0, -1.2), corner(1.2, 0), corner(0, 1.2))
	}
	fill := l.ink
	if hollow {
		fill = inkSurface
	}
	c.SetColor(fill)
	c.Fill(p)
	c.SetLineStyle(draw.LineStyle{Color: l.ink, Width: 1.6})
	c.Stroke(p)
}

// sans is the font of charts.
func sans(size float64) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Length(size)}
}

func style(size float64, i ink) text.Style {
	return text.Style{Color: i, Font: sans(size), Handler: plot.DefaultTextHandler, XAlign: draw.XLeft, YAlign: draw.YBottom}
}

const labelSize, axisSize = 11.5, 12.0

// newPlot is a plot in this page's style. It has no titles: gonum keeps room for
// them as if every axis were linear, see [picture].
func newPlot() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.LineStyle = draw.LineStyle{Color: inkMuted, Width: 1}
		a.Tick.LineStyle = draw.LineStyle{Color: inkMuted, Width: 1}
		a.Tick.Length = 4
		a.Padding = 0
		a.Tick.Label.Font, a.Tick.Label.Color = sans(labelSize), inkMuted
	}
	p.Y.Tick.Label.XAlign = draw.XRight
	return p
}

func grid() *plotter.Grid {
	s := draw.LineStyle{Color: inkGrid, Width: 1}
	return &plotter.Grid{Vertical: s, Horizontal: s}
}

// entry is one item of a legend.
type entry struct {
	text string
	draw func(c *draw.Canvas, at vg.Point)
}

const entrySign, entryGap = 20.0, 16.0

// legend draws entries from the left, in as many lines as they need, and returns
// the height it took.
func legend(c draw.Canvas, entries []entry) float64 {
	const line = 18.0
	st := style(labelSize, inkText)
	x, y := float64(c.Min.X)+4, float64(c.Max.Y)-line
	for _, e := range entries {
		w := entrySign + float64(st.Width(e.text))
		if x+w > float64(c.Max.X) && x > float64(c.Min.X)+4 {
			x, y = float64(c.Min.X)+4, y-line
		}
		e.draw(&c, vg.Point{X: vg.Length(x + entrySign/2 - 2), Y: vg.Length(y + 4)})
		c.FillText(st, vg.Point{X: vg.Length(x + entrySign), Y: vg.Length(y)}, e.text)
		x += w + entryGap
	}
	return float64(c.Max.Y) - y + 6
}

// formatEntries are the legend of the formats among rows.
func formatEntries(rows []*Row) []entry {
	var out []entry
	hollow := false
	for _, l := range looks {
		if !slices.ContainsFunc(rows, func(r *Row) bool { return lookOf(r.Format) == l.look }) {
			continue
		}
		out = append(out, entry{l.name, func(c *draw.Canvas, at vg.Point) { marker(c, l.look, at, false) }})
	}
	for _, r := range rows {
		hollow = hollow || r.Basis.elsewhere()
	}
	if hollow {
		out = append(out, entry{"not computed on its device", func(c *draw.Canvas, at vg.Point) {
			marker(c, look{ink: inkMuted, shape: circle}, at, true)
		}})
	}
	return out
}

// String is the basis in words.
func (b Basis) String() string { return string(b) }

// picture makes a canvas, gives the legend and the axes' titles their room and
// the rest to a plot. The upright axis has its title above, where it is read
// without turning the head.
func picture(w, h float64, entries []entry, xTitle, yTitle string, p *plot.Plot) *svg {
	c := newSVG(w, h)
	dc := draw.New(c)
	top := legend(draw.Crop(dc, 4, -8, 0, -6), entries) + 8
	st := style(axisSize, inkText)
	if yTitle != "" {
		dc.FillText(st, vg.Point{X: 8, Y: vg.Length(h - top - 18)}, yTitle)
		top += 24
	}
	st.XAlign = draw.XRight
	dc.FillText(st, vg.Point{X: vg.Length(w - 14), Y: 5}, xTitle)
	p.Draw(draw.Crop(dc, 8, -14, 24, -vg.Length(top)))
	return c
}

// scatter is a chart of two figures of every artifact.
type scatter struct {
	x, y           axis
	xScale         float64
	xTitle, yTitle string
	rows           []*Row // that have both
	reference      *Row   // drawn as a line, where its y cannot be
	front          []*Row
}

// labelOf is an artifact without its format, which the marker tells.
func labelOf(r *Row) string {
	name := r.Artifact
	if _, rest, ok := strings.Cut(name, "/"); ok && strings.HasPrefix(name, r.Format+"/") {
		name = rest
	}
	return short(name, 24)
}

// quality chooses the axis of quality: the divergence or, without a reference,
// the perplexity.
func quality(p *Page) (a axis, title string, forceLog bool, ok bool) {
	has := func(of func(*Row) *Estimate) bool {
		return slices.ContainsFunc(p.Rows, func(r Row) bool { e := of(&r); return e.finite() && e.Value > 0 })
	}
	if kl := (axis{of: func(r *Row) *Estimate { return r.KL }}); has(kl.of) {
		return kl, "KL divergence from the reference, nats", true, true
	}
	if ppl := (axis{of: func(r *Row) *Estimate { return r.Perplexity }}); has(ppl.of) {
		return ppl, "perplexity of the text", false, true
	}
	return axis{}, "", false, false
}

const noQuality = "no loss and no perplexity is known of any artifact"

// newScatter collects the rows that have both figures.
func newScatter(p *Page, x axis, xScale float64, xTitle string) (*scatter, string) {
	y, yTitle, _, ok := quality(p)
	if !ok {
		return nil, noQuality
	}
	s := &scatter{x: x, y: y, xScale: xScale, xTitle: xTitle, yTitle: yTitle}
	for i := range p.Rows {
		r := &p.Rows[i]
		ex, ey := x.of(r), y.of(r)
		switch {
		case !ex.finite() || ex.Value <= 0:
		case r.Reference:
			s.reference = r
		case ey.finite() && ey.Value > 0:
			s.rows = append(s.rows, r)
		}
	}
	s.front = front(s.rows, x, y)
	return s, ""
}

// sizeUnit suits the largest artifact.
func sizeUnit(rows []Row) (float64, string) {
	var most int64
	for _, r := range rows {
		most = max(most, r.Bytes)
	}
	switch {
	case most >= 8<<30:
		return 1 << 30, "GiB"
	case most >= 8<<20:
		return 1 << 20, "MiB"
	}
	return 1 << 10, "KiB"
}

func sizeQuality(p *Page) (*chart, string) {
	unit, name := sizeUnit(p.Rows)
	s, why := newScatter(p, axis{of: sizeOf}, 1/unit, "size of the weights, "+name)
	if s == nil {
		return nil, why
	}
	if len(s.rows) == 0 {
		return nil, "no artifact has a size and a quality"
	}
	return s.chart("size-quality", "Quality by size",
		"Down and to the left is better: smaller, and closer to the reference. No artifact is both smaller and closer than one on the dashed line. Bars are the intervals of the table."), ""
}

func speedQuality(p *Page) (*chart, string) {
	s, why := newScatter(p, axis{of: decodeOf, higher: true}, 1, "decode, tokens per second")
	if s == nil {
		return nil, why
	}
	if len(s.rows) == 0 {
		return nil, "the speed of no artifact with a known quality was measured"
	}
	return s.chart("speed-quality", "Quality by speed",
		"Down and to the right is better: faster, and closer to the reference. No artifact is both faster and closer than one on the dashed line. Bars are the intervals of the table."), ""
}

func (s *scatter) chart(file, title, caption string) *chart {
	return &chart{
		file: file, title: title, caption: caption,
		description: fmt.Sprintf("%d artifacts; %s across, %s upwards. On the front: %s", len(s.rows), s.xTitle, s.yTitle, names(s.front)),
		wide:        s.draw(wideWidth, wideHeight), narrow: s.draw(narrowWidth, narrowHeight),
	}
}

// names lists artifacts.
func names(rows []*Row) string {
	var out []string
	for _, r := range rows {
		out = append(out, clean(r.Artifact))
	}
	return strings.Join(out, ", ")
}

func (s *scatter) draw(w, h float64) *svg {
	var xs, ys []float64
	for _, r := range s.rows {
		for _, e := range []struct {
			all *[]float64
			*Estimate
		}{{&xs, s.xOf(r)}, {&ys, s.y.of(r)}} {
			*e.all = append(*e.all, e.Value, e.High)
			if e.Low > e.Value/10 { // else it would stretch a logarithmic axis
				*e.all = append(*e.all, e.Low)
			}
		}
	}
	if s.reference != nil {
		xs = append(xs, s.xOf(s.reference).Value)
	}
	x, _ := extentOf(xs, false)
	_, _, forceLog, _ := quality(&Page{Rows: values(s.rows)})
	y, _ := extentOf(ys, forceLog)
	p := newPlot()
	x.apply(&p.X)
	y.apply(&p.Y)
	p.Add(grid(), s)
	entries := formatEntries(s.rows)
	if len(s.front) > 1 {
		entries = append(entries, entry{"none better in both", func(c *draw.Canvas, at vg.Point) {
			c.StrokeLine2(frontLine, at.X-8, at.Y, at.X+8, at.Y)
		}})
	}
	return picture(w, h, entries, title(s.xTitle, x), title(s.yTitle, y), p)
}

func values(rows []*Row) []Row {
	out := make([]Row, len(rows))
	for i, r := range rows {
		out[i] = *r
	}
	return out
}

// title says that an axis is logarithmic.
func title(s string, e extent) string {
	if e.log {
		return s + " (log)"
	}
	return s
}

var (
	frontLine     = draw.LineStyle{Color: inkMuted, Width: 1.4, Dashes: []vg.Length{5, 4}}
	referenceLine = draw.LineStyle{Color: inkText, Width: 1.2, Dashes: []vg.Length{1.5, 3}}
)

// xOf is a row's first figure in the axis's unit.
func (s *scatter) xOf(r *Row) *Estimate {
	e := s.x.of(r)
	return &Estimate{e.Value * s.xScale, e.Low * s.xScale, e.High * s.xScale}
}

// Plot draws the front, the intervals, the markers, then names where there is
// room: it is a plot.Plotter.
func (s *scatter) Plot(c draw.Canvas, p *plot.Plot) {
	tx, ty := p.Transforms(&c)
	at := func(r *Row) vg.Point { return vg.Point{X: tx(s.xOf(r).Value), Y: ty(s.y.of(r).Value)} }
	// clamp keeps an interval's end inside, where a logarithm has no place for it.
	clamp := func(v float64, a plot.Axis) float64 { return max(a.Min, min(a.Max, v)) }

	labels := placement{area: c.Rectangle}
	if r := s.reference; r != nil {
		x := tx(s.xOf(r).Value)
		c.StrokeLine2(referenceLine, x, c.Min.Y, x, c.Max.Y)
		labels.avoid(vg.Point{X: x, Y: c.Min.Y}, vg.Point{X: x, Y: c.Max.Y})
	}
	if len(s.front) > 1 {
		var steps []vg.Point
		for i, r := range s.front {
			q := at(r)
			if i > 0 { // level to the next one's x, then down to it
				last := steps[len(steps)-1]
				corner := vg.Point{X: q.X, Y: last.Y}
				steps = append(steps, corner)
				labels.avoid(last, corner)
				labels.avoid(corner, q)
			}
			steps = append(steps, q)
		}
		c.StrokeLines(frontLine, steps)
	}
	for _, r := range s.rows {
		ex, ey, l := s.xOf(r), s.y.of(r), lookOf(r.Format)
		q, bar := at(r), draw.LineStyle{Color: l.ink, Width: 1}
		stroke := func(from, to vg.Point) {
			c.StrokeLine2(bar, from.X, from.Y, to.X, to.Y)
			labels.avoid(from, to)
		}
		if ey.hasInterval() {
			stroke(vg.Point{X: q.X, Y: ty(clamp(ey.Low, p.Y))}, vg.Point{X: q.X, Y: ty(clamp(ey.High, p.Y))})
		}
		if ex.hasInterval() {
			stroke(vg.Point{X: tx(clamp(ex.Low, p.X)), Y: q.Y}, vg.Point{X: tx(clamp(ex.High, p.X)), Y: q.Y})
		}
	}
	canvas, _ := c.Canvas.(*svg)
	for _, r := range s.rows {
		q := at(r)
		if canvas != nil {
			canvas.group(s.told(r))
		}
		marker(&c, lookOf(r.Format), q, r.Basis.elsewhere())
		if canvas != nil {
			canvas.end()
		}
		labels.block(q, markerRadius+1.5)
	}
	// The reference's name has one place; then those on the front choose first.
	if r := s.reference; r != nil {
		st := style(labelSize, inkText)
		labels.line(c, st, "reference "+labelOf(r), tx(s.xOf(r).Value))
	}
	rest := slices.DeleteFunc(slices.Clone(s.rows), func(r *Row) bool { return slices.Contains(s.front, r) })
	for _, r := range slices.Concat(s.front, rest) {
		labels.put(c, style(labelSize, lookOf(r.Format).ink), labelOf(r), at(r))
	}
}

// told is what a pointer over an artifact's marker is told.
func (s *scatter) told(r *Row) string {
	out := clean(r.Artifact) + ": " + sizeText(r.Bytes)
	if r.KL.finite() {
		out += ", KL " + klText(r).text()
	}
	if r.Loss.finite() {
		out += ", perplexity " + lossText(r).text()
	}
	if d := decodeOf(r); d.finite() {
		out += ", decode " + show(d, 1, " tokens/s").text()
	}
	return out
}
