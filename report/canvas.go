package report

import (
	"encoding/xml"
	"fmt"
	"image"
	"image/color"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
)

// ink is a colour by what it is for. The canvas writes its class; a viewer that
// knows no CSS variables gets the light value.
type ink string

// The inks. Formats differ in hue and in lightness (after Okabe and Ito's
// palette), and in the shape of their markers.
const (
	inkText    ink = "text"
	inkMuted   ink = "muted"
	inkGrid    ink = "grid"
	inkSurface ink = "surface"
	inkONNX    ink = "onnx"
	inkGGUF    ink = "gguf"
	inkMLX     ink = "mlx"
	inkOther   ink = "other"
)

// palette has each ink's value in light and in dark.
var palette = []struct {
	ink         ink
	light, dark string
}{
	{inkText, "#1b1f24", "#e8eaed"},
	{inkMuted, "#59636e", "#a0a7b0"},
	{inkGrid, "#e1e4e8", "#33383f"},
	{inkSurface, "#ffffff", "#16181c"},
	{inkONNX, "#0b62b8", "#6cb6ff"},
	{inkGGUF, "#c2540a", "#ffa657"},
	{inkMLX, "#00785a", "#4fd1a5"},
	{inkOther, "#8a3f93", "#d9a0e0"},
}

func (i ink) light() string {
	for _, p := range palette {
		if p.ink == i {
			return p.light
		}
	}
	return "#000000"
}

// RGBA is the light value: whatever draws without this canvas sees that.
func (i ink) RGBA() (r, g, b, a uint32) {
	v, _ := strconv.ParseUint(i.light()[1:], 16, 32)
	return color.RGBA{uint8(v >> 16), uint8(v >> 8), uint8(v), 255}.RGBA()
}

// variables are the palette as CSS custom properties.
func variables(dark bool) string {
	var b strings.Builder
	for _, p := range palette {
		v := p.light
		if dark {
			v = p.dark
		}
		fmt.Fprintf(&b, "--%s:%s;", p.ink, v)
	}
	return b.String()
}

// inkRules are the classes that the canvas writes.
func inkRules() string {
	var b strings.Builder
	for _, p := range palette {
		fmt.Fprintf(&b, ".f-%[1]s{fill:var(--%[1]s)}.s-%[1]s{stroke:var(--%[1]s)}", p.ink)
	}
	b.WriteString(".halo{paint-order:stroke;stroke:var(--surface);stroke-width:3px;stroke-linejoin:round}")
	return b.String()
}

// svg is a canvas of gonum's vg that writes SVG: 1 point is 1 unit, the origin is
// moved to the top left, transforms are worked into the coordinates, colours are
// classes. vgsvg would write fixed colours and a flipped picture.
type svg struct {
	w, h  float64
	b     strings.Builder
	state svgState
	stack []svgState
}

type svgState struct {
	color ink
	width float64
	dash  []vg.Length
	m     [6]float64 // x' = m0·x + m2·y + m4, y' = m1·x + m3·y + m5
	halo  bool
}

func newSVG(w, h float64) *svg {
	c := &svg{w: w, h: h}
	c.state.m = [6]float64{1, 0, 0, -1, 0, h}
	vg.Initialize(c)
	return c
}

// Size is that of the picture.
func (c *svg) Size() (w, h vg.Length) { return vg.Length(c.w), vg.Length(c.h) }

// The state of vg.Canvas.

func (c *svg) SetLineWidth(w vg.Length)               { c.state.width = float64(w) }
func (c *svg) SetLineDash(d []vg.Length, _ vg.Length) { c.state.dash = d }

func (c *svg) SetColor(clr color.Color) {
	i, ok := clr.(ink)
	if !ok {
		i = inkText // what gonum draws in a colour of its own
	}
	c.state.color = i
}

func (c *svg) Push() { c.stack = append(c.stack, c.state) }

func (c *svg) Pop() {
	c.state = c.stack[len(c.stack)-1]
	c.stack = c.stack[:len(c.stack)-1]
}

func (c *svg) Translate(p vg.Point) { c.state.m[4], c.state.m[5] = c.at(p) }

func (c *svg) Scale(x, y float64) {
	m := &c.state.m
	m[0], m[1], m[2], m[3] = m[0]*x, m[1]*x, m[2]*y, m[3]*y
}

func (c *svg) Rotate(rad float64) {
	m, sin, cos := c.state.m, math.Sin(rad), math.Cos(rad)
	c.state.m = [6]float64{m[0]*cos + m[2]*sin, m[1]*cos + m[3]*sin, m[2]*cos - m[0]*sin, m[3]*cos - m[1]*sin, m[4], m[5]}
}

// at is where a point is in the picture.
func (c *svg) at(p vg.Point) (x, y float64) {
	m := &c.state.m
	return m[0]*float64(p.X) + m[2]*float64(p.Y) + m[4], m[1]*float64(p.X) + m[3]*float64(p.Y) + m[5]
}

// num is a coordinate, to a hundredth.
func num(v float64) string {
	s := strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64)
	if s == "-0" {
		return "0"
	}
	return s
}

// Stroke draws along a path.
func (c *svg) Stroke(p vg.Path) {
	if c.state.width <= 0 {
		return
	}
	dash := ""
	for i, d := range c.state.dash {
		if i > 0 {
			dash += ","
		}
		dash += num(float64(d))
	}
	if dash != "" {
		dash = ` stroke-dasharray="` + dash + `"`
	}
	fmt.Fprintf(&c.b, `<path class="s-%s" fill="none" stroke="%s" stroke-width="%s"%s d="%s"/>`+"\n",
		c.state.color, c.state.color.light(), num(c.state.width), dash, c.path(p))
}

// Fill fills a path.
func (c *svg) Fill(p vg.Path) {
	fmt.Fprintf(&c.b, `<path class="f-%s" fill="%s" d="%s"/>`+"\n", c.state.color, c.state.color.light(), c.path(p))
}

func (c *svg) path(p vg.Path) string {
	var b strings.Builder
	put := func(verb string, points ...vg.Point) {
		b.WriteString(verb)
		for i, q := range points {
			if i > 0 {
				b.WriteByte(' ')
			}
			x, y := c.at(q)
			b.WriteString(num(x) + "," + num(y))
		}
	}
	for _, s := range p {
		switch s.Type {
		case vg.MoveComp:
			put("M", s.Pos)
		case vg.LineComp:
			put("L", s.Pos)
		case vg.CurveComp:
			put(map[int]string{1: "Q", 2: "C"}[len(s.Control)], append(append([]vg.Point(nil), s.Control...), s.Pos)...)
		case vg.ArcComp:
			c.arc(&b, s)
		case vg.CloseComp:
			b.WriteByte('Z')
		}
	}
	return b.String()
}

// arc goes along a circle in steps of at most a third of it: SVG leaves out an
// arc that ends where it starts.
func (c *svg) arc(b *strings.Builder, s vg.PathComp) {
	r := float64(s.Radius) * math.Hypot(c.state.m[0], c.state.m[1])
	steps := int(math.Ceil(math.Abs(s.Angle) / (2 * math.Pi / 3)))
	sweep := 0 // against the clock, as angles grow where y grows upwards
	if s.Angle < 0 {
		sweep = 1
	}
	for i := range steps + 1 {
		a := s.Start + s.Angle*float64(i)/float64(max(steps, 1))
		x, y := c.at(vg.Point{X: s.Pos.X + s.Radius*vg.Length(math.Cos(a)), Y: s.Pos.Y + s.Radius*vg.Length(math.Sin(a))})
		switch {
		case i > 0:
			fmt.Fprintf(b, "A%s,%s 0 0 %d %s,%s", num(r), num(r), sweep, num(x), num(y))
		case b.Len() == 0:
			fmt.Fprintf(b, "M%s,%s", num(x), num(y))
		default:
			fmt.Fprintf(b, "L%s,%s", num(x), num(y))
		}
	}
}

// FillString writes text, stretched to the width it was measured to have: what
// fits stays fitting in whatever font the viewer has.
func (c *svg) FillString(f font.Face, p vg.Point, s string) {
	size := float64(f.Font.Size)
	if size == 0 || s == "" {
		return
	}
	x, y := c.at(p)
	extra := ""
	if a := math.Atan2(c.state.m[1], c.state.m[0]) * 180 / math.Pi; math.Abs(a) > 0.01 {
		extra += fmt.Sprintf(` transform="rotate(%s %s %s)"`, num(a), num(x), num(y))
	}
	if measurable(s) {
		extra += fmt.Sprintf(` textLength="%s" lengthAdjust="spacingAndGlyphs"`, num(float64(f.Width(s))))
	}
	class := "f-" + string(c.state.color)
	if c.state.halo {
		class += " halo"
	}
	fmt.Fprintf(&c.b, `<text class="%s" fill="%s" x="%s" y="%s" font-size="%s"%s>%s</text>`+"\n",
		class, c.state.color.light(), num(x), num(y), num(size), extra, escape(s))
}

// measurable reports whether the measuring font has every character.
func measurable(s string) bool {
	for _, r := range s {
		if r > 0x17F {
			return false
		}
	}
	return true
}

// DrawImage does nothing: no chart here has one.
func (c *svg) DrawImage(vg.Rectangle, image.Image) {}

// group begins something that a pointer is told about; end ends it.
func (c *svg) group(title string) {
	fmt.Fprintf(&c.b, "<g><title>%s</title>\n", escape(title))
}

func (c *svg) end() { c.b.WriteString("</g>\n") }

// document is the picture: as a file of its own with its colours, or to be put
// into a page that has them.
func (c *svg) document(title, description, class string, alone bool) string {
	var b strings.Builder
	attributes := fmt.Sprintf(` width="%s" height="%s"`, num(c.w), num(c.h))
	if alone {
		attributes += ` xmlns="http://www.w3.org/2000/svg"`
	}
	if class != "" {
		attributes += ` class="` + escape(class) + `"`
	}
	fmt.Fprintf(&b, `<svg viewBox="0 0 %s %s"%s role="img" aria-label="%s" font-family="Liberation Sans,Arial,Helvetica,sans-serif">`+"\n",
		num(c.w), num(c.h), attributes, escape(title+". "+description))
	if alone {
		fmt.Fprintf(&b, "<title>%s</title>\n<desc>%s</desc>\n", escape(title), escape(description))
		fmt.Fprintf(&b, "<style>svg{%s}%s@media (prefers-color-scheme:dark){svg{%s}}</style>\n", variables(false), inkRules(), variables(true))
		fmt.Fprintf(&b, `<rect class="f-surface" fill="%s" width="100%%" height="100%%"/>`+"\n", inkSurface.light())
	}
	b.WriteString(c.b.String())
	b.WriteString("</svg>\n")
	return b.String()
}

// escape makes text safe in SVG's text and attributes.
func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(clean(s)))
	return b.String()
}
