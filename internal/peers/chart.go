package main

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// chart draws KL (logarithmic) by bits per weight as SVG, of files below
// chartBits.
func (r *qualityReport) chart() string {
	const (
		chartBits           = 9.0
		width, height       = 860.0, 560.0
		left, right         = 60.0, 20.0
		top, bottom         = 20.0, 45.0
		charWidth, fontSize = 6.5, 11.0
	)
	points := slices.DeleteFunc(slices.Clone(r.Rows), func(m measured) bool { return m.BitsPerWeight > chartBits || m.Fidelity.KLMean <= 0 })
	if len(points) == 0 {
		return `<svg xmlns="http://www.w3.org/2000/svg"/>` + "\n"
	}
	// Ours get the best places for their names.
	slices.SortStableFunc(points, func(a, b measured) int {
		return -cmp.Compare(strings.Count(a.Maker, ours), strings.Count(b.Maker, ours))
	})
	kl := func(m measured) float64 { return m.Fidelity.KLMean }
	loBits, hiBits := math.Inf(1), 0.0
	loKL, hiKL := math.Inf(1), 0.0
	for _, m := range points {
		loBits, hiBits = min(loBits, m.BitsPerWeight), max(hiBits, m.BitsPerWeight)
		loKL, hiKL = min(loKL, kl(m)), max(hiKL, kl(m))
	}
	loBits, hiBits = math.Floor(2*loBits)/2, math.Ceil(2*hiBits+0.5)/2
	loKL, hiKL = loKL/1.5, hiKL*1.5
	x := func(bits float64) float64 { return left + (bits-loBits)/(hiBits-loBits)*(width-left-right) }
	y := func(kl float64) float64 {
		return top + math.Log(hiKL/kl)/math.Log(hiKL/loKL)*(height-top-bottom)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="%g">`+"\n", width, height, fontSize)
	fmt.Fprintf(&b, `<rect width="%g" height="%g" fill="white"/>`+"\n", width, height)
	for bits := loBits; bits <= hiBits; bits += 0.5 {
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%g" x2="%.1f" y2="%g" stroke="#ddd"/><text x="%.1f" y="%g" text-anchor="middle">%g</text>`+"\n",
			x(bits), top, x(bits), height-bottom, x(bits), height-bottom+15, bits)
	}
	for decade := math.Floor(math.Log10(loKL)); decade <= math.Log10(hiKL); decade++ {
		for _, digit := range []float64{1, 2, 5} {
			v := digit * math.Pow(10, decade)
			if v < loKL || v > hiKL {
				continue
			}
			fmt.Fprintf(&b, `<line x1="%g" y1="%.1f" x2="%g" y2="%.1f" stroke="#ddd"/><text x="%g" y="%.1f" text-anchor="end">%.3g</text>`+"\n",
				left, y(v), width-right, y(v), left-5, y(v)+4, v)
		}
	}
	fmt.Fprintf(&b, `<text x="%g" y="%g" text-anchor="middle">bits per weight (files up to %g)</text>`+"\n", (left+width-right)/2, height-8, chartBits)
	fmt.Fprintf(&b, `<text transform="translate(14 %g) rotate(-90)" text-anchor="middle">KL(fp32 ‖ file), nats</text>`+"\n", (top+height-bottom)/2)

	color := map[string]string{ours: "#c00", genai: "#06c", llama: "#080"}
	type box struct{ x0, y0, x1, y1 float64 }
	share := map[string]float64{"start": 0, "middle": 0.5, "end": 1} // of a name left of its anchor
	var taken []box
	for _, m := range points {
		px, py := x(m.BitsPerWeight), y(kl(m))
		taken = append(taken, box{px - 4, py - 4, px + 4, py + 4})
	}
	for _, m := range points {
		px, py := x(m.BitsPerWeight), y(kl(m))
		w := charWidth * float64(len(m.Name))
		var at box
		var anchor string
		for _, d := range []struct {
			dx, dy float64
			anchor string
		}{{7, 4, "start"}, {-7, 4, "end"}, {0, -8, "middle"}, {0, 16, "middle"}, {7, -6, "start"}, {7, 14, "start"}, {-7, -6, "end"}, {-7, 14, "end"}, {7, 24, "start"}, {7, -16, "start"}} {
			x0 := px + d.dx - share[d.anchor]*w
			at, anchor = box{x0, py + d.dy - fontSize, x0 + w, py + d.dy + 2}, d.anchor
			if at.x0 >= left && at.x1 <= width && !slices.ContainsFunc(taken, func(t box) bool { return at.x0 < t.x1 && t.x0 < at.x1 && at.y0 < t.y1 && t.y0 < at.y1 }) {
				break
			}
		}
		taken = append(taken, at)
		fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/><text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n",
			px, py, color[m.Maker], at.x0+share[anchor]*w, at.y1-2, anchor, color[m.Maker], html.EscapeString(m.Name))
	}
	for i, maker := range []string{ours, genai, llama} {
		fmt.Fprintf(&b, `<circle cx="%g" cy="%g" r="4" fill="%s"/><text x="%g" y="%g">%s</text>`+"\n",
			width-right-150, top+15+16*float64(i), color[maker], width-right-140, top+19+16*float64(i), maker)
	}
	b.WriteString("</svg>\n")
	return b.String()
}
