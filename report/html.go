package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"strconv"
	"strings"
)

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

//go:embed page.html.tmpl
var pageHTML string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// htmlCell is a cell of the big table. Sort is what its column is sorted by, ""
// for what comes last.
type htmlCell struct {
	Value, Interval, Sort, Class string
	Marker                       template.HTML
	Parts                        []string // of a path, which may be broken between
}

type htmlHead struct {
	Text, Unit, About, Class string
	Numeric                  bool
}

type htmlChart struct {
	Title, Caption string
	Wide, Narrow   template.HTML
}

// html writes the page as one document that loads nothing: styles, script and
// charts are inside, and its policy forbids everything else.
func (p *Page) html(charts []chart, missing []Missing) (string, error) {
	style := fmt.Sprintf(":root{%s}@media (prefers-color-scheme:dark){:root{%s}}%s\n%s", variables(false), variables(true), inkRules(), pageCSS)
	data := struct {
		*Page
		Title, DateText, Policy string
		Style                   template.CSS
		Script                  template.JS
		Head                    []htmlHead
		Cells                   [][]htmlCell
		BoundHead               []string
		Bounds                  [][]string
		BoundText, Legend       string
		Glance, Problems        []string
		Charts                  []htmlChart
		CategoryHead            []string
		Categories              [][]string
		NotMeasured             []string
		Facts                   []Fact
	}{
		Page: p, Title: clean(p.Model), Style: template.CSS(style), Script: template.JS(pageJS),
		Policy:    fmt.Sprintf("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-%s'; base-uri 'none'; form-action 'none'", hash(pageJS)),
		BoundHead: boundHead, BoundText: boundText, Legend: p.legend(), Glance: p.glance(), Problems: p.problems(), Facts: p.facts(),
	}
	if !p.Date.IsZero() {
		data.DateText = p.Date.UTC().Format("2006-01-02 15:04 UTC")
	}
	columns := p.columns()
	for _, c := range columns {
		h := htmlHead{Text: c.head, Unit: c.unit, About: c.about, Numeric: c.numeric}
		if c.narrow {
			h.Class = "roomy"
		}
		data.Head = append(data.Head, h)
	}
	for i := range p.Rows {
		r := &p.Rows[i]
		var line []htmlCell
		for j, c := range columns {
			v := c.cell(r)
			h := htmlCell{Value: v.Value, Interval: v.Interval}
			if v.Known {
				h.Sort = v.Word
				if c.numeric {
					h.Sort = strconv.FormatFloat(v.Number, 'g', -1, 64)
				}
			}
			var class []string
			if c.numeric {
				class = append(class, "n")
			}
			if c.narrow {
				class = append(class, "roomy")
			}
			if j == 0 {
				h.Marker, h.Parts = template.HTML(sign(r)), strings.SplitAfter(v.Value, "/")
			}
			h.Class = strings.Join(class, " ")
			line = append(line, h)
		}
		data.Cells = append(data.Cells, line)
	}
	for _, v := range p.verdicts() {
		data.Bounds = append(data.Bounds, v.cells())
	}
	for _, c := range charts {
		data.Charts = append(data.Charts, htmlChart{
			Title: c.title, Caption: c.caption,
			// What the canvas writes is escaped there.
			Wide:   template.HTML(c.wide.document(c.title, c.description, "wide", false)),
			Narrow: template.HTML(c.narrow.document(c.title, c.description, "narrow", false)),
		})
	}
	if len(p.Categories) > 0 {
		data.CategoryHead, data.Categories = p.categoryTable()
	}
	for _, m := range append(append([]Missing(nil), p.Missing...), missing...) {
		data.NotMeasured = append(data.NotMeasured, clean(m.text()))
	}
	var b strings.Builder
	if err := pageTemplate.Execute(&b, data); err != nil {
		return "", fmt.Errorf("write the HTML page: %w", err)
	}
	return b.String(), nil
}

// sign is a format's marker beside its name.
func sign(r *Row) string {
	l := lookOf(r.Format)
	fill := l.ink
	if r.Basis.elsewhere() {
		fill = inkSurface
	}
	d := map[shape]string{
		circle: "M10,6A4,4 0 1 1 2,6A4,4 0 1 1 10,6Z", square: "M2.2,2.2H9.8V9.8H2.2Z",
		triangle: "M1.4,9.6H10.6L6,1.6Z", diamond: "M1,6L6,1L11,6L6,11Z",
	}[l.shape]
	return fmt.Sprintf(`<svg class="sign" viewBox="0 0 12 12" width="12" height="12" aria-hidden="true"><path class="f-%s s-%s" stroke-width="1.6" d="%s"/></svg>`, fill, l.ink, d)
}

func hash(s string) string {
	h := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(h[:])
}
