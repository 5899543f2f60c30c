package report

import (
	"fmt"
	"net/url"
	"path"
	"strings"
)

// markdown writes the page for a file, whose charts lie below folder and whose
// HTML is html, both relative to it; "" where there is none.
func (p *Page) markdown(charts []chart, missing []Missing, folder, html string, raw []File) string {
	var b strings.Builder
	para := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n\n", a...) }
	para("# %s: formats compared", mark(p.Model))
	var top []string
	if !p.Date.IsZero() {
		top = append(top, p.Date.UTC().Format("2006-01-02 15:04 UTC"))
	}
	if p.Program != "" {
		top = append(top, mark(p.Program))
	}
	if html != "" {
		top = append(top, fmt.Sprintf("[the same as one HTML page](%s)", link(html)))
	}
	if len(top) > 0 {
		para("%s", strings.Join(top, " · "))
	}
	for _, w := range p.Warnings {
		para("> **Mind:** %s", mark(w))
	}
	list := func(items []string) {
		for _, s := range items {
			fmt.Fprintf(&b, "- %s\n", mark(s))
		}
		if len(items) > 0 {
			b.WriteString("\n")
		}
	}
	list(p.glance())

	para("## Artifacts")
	p.markdownTable(&b)
	para("%s", mark(p.legend()))
	list(p.problems())

	para("## Loss against the bounds")
	para("%s", mark(boundText))
	var rows [][]string
	for _, v := range p.verdicts() {
		rows = append(rows, v.cells())
	}
	markTable(&b, boundHead, make([]bool, len(boundHead)), rows)

	if len(charts) > 0 {
		para("## Charts")
	}
	for _, c := range charts {
		para("![%s](%s)", mark(c.title+". "+c.description), link(path.Join(folder, c.file+".svg")))
		para("%s: %s", mark(c.title), mark(c.caption))
	}
	if len(p.Categories) > 0 {
		para("## Questions by category")
		head, cells := p.categoryTable()
		numeric := make([]bool, len(head))
		for i := range numeric {
			numeric[i] = i > 0
		}
		markTable(&b, head, numeric, cells)
	}
	if all := append(append([]Missing(nil), p.Missing...), missing...); len(all) > 0 {
		para("## Not measured, and why")
		for _, m := range all {
			fmt.Fprintf(&b, "- %s\n", mark(m.text()))
		}
		b.WriteString("\n")
	}
	para("## How it was measured")
	if p.Command != "" {
		para("Made by `%s`.", strings.ReplaceAll(clean(p.Command), "`", "'"))
	}
	rows = nil
	for _, f := range p.facts() {
		rows = append(rows, []string{f.Name, f.Value})
	}
	if len(rows) > 0 {
		markTable(&b, []string{"", ""}, []bool{false, false}, rows)
	}
	list(p.Notes)
	if len(raw) > 0 {
		var links []string
		for _, f := range raw {
			links = append(links, fmt.Sprintf("[%s](%s)", mark(f.Title), link(path.Join(folder, f.Name))))
		}
		para("Every single value: %s.", strings.Join(links, ", "))
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func (p *Page) markdownTable(b *strings.Builder) {
	columns := p.columns()
	head, numeric := make([]string, len(columns)), make([]bool, len(columns))
	for i, c := range columns {
		head[i], numeric[i] = c.title(), c.numeric
	}
	rows := make([][]string, len(p.Rows))
	for i := range p.Rows {
		for _, c := range columns {
			f := c.cell(&p.Rows[i]).figure
			if strings.HasPrefix(f.Interval, "±") {
				f = figure{Value: f.Value + " " + f.Interval}
			}
			rows[i] = append(rows[i], f.text())
		}
	}
	markTable(b, head, numeric, rows)
}

// markTable writes a table.
func markTable(b *strings.Builder, head []string, numeric []bool, rows [][]string) {
	line := func(cells []string) {
		b.WriteString("|")
		for _, s := range cells {
			b.WriteString(" " + mark(s) + " |")
		}
		b.WriteString("\n")
	}
	line(head)
	b.WriteString("|")
	for _, n := range numeric {
		if n {
			b.WriteString("---:|")
		} else {
			b.WriteString("---|")
		}
	}
	b.WriteString("\n")
	for _, r := range rows {
		line(r)
	}
	b.WriteString("\n")
}

// markEscapes are the characters that mean something inside a line. A leading
// one ("#", "-", "1.") cannot occur: every text here follows others.
var markEscapes = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`,
	"|", `\|`, "~", `\~`, "<", "&lt;", ">", "&gt;", "&", "&amp;", "$", `\$`, "://", "&#58;//", "@", "&#64;",
)

// mark makes text safe in a line of Markdown: no markup, no HTML, no link.
func mark(s string) string { return markEscapes.Replace(clean(s)) }

// link is a relative path in a link's parentheses.
func link(p string) string {
	parts := strings.Split(p, "/")
	for i, s := range parts {
		s = url.PathEscape(s)
		s = strings.NewReplacer("(", "%28", ")", "%29", ":", "%3A").Replace(s)
		parts[i] = s
	}
	return strings.Join(parts, "/")
}

const boundText = "The project's goals: perplexity lost against 16-bit floats, made for models of several billion parameters. " +
	"“" + string(OnDevice) + "”: run on what it is for. “" + string(Arithmetic) + "”: its graph computed as it is written, on the CPU; not run on the device. " +
	"“" + string(NotRun) + "”: no figure. A bound inside a loss's interval decides nothing."

// legend says how to read the table.
func (p *Page) legend() string {
	var s []string
	if p.Reference != "" {
		s = append(s, "Losses are against "+p.Reference)
		if p.Text != "" {
			s[0] += ", on " + p.Text
		}
		s[0] += "."
	}
	s = append(s, "Intervals are of 95 % unless the conditions below say otherwise; “"+none+"” was not measured.")
	for _, r := range p.Rows {
		if r.Recorded {
			s = append(s, "“Recorded at conversion” is what the conversion measured and wrote down, not measured again now.")
			break
		}
	}
	return strings.Join(s, " ")
}

// text is one line.
func (m Missing) text() string {
	s := m.What
	if len(m.Artifacts) > 0 {
		s += " of " + strings.Join(m.Artifacts, ", ")
	}
	return s + ": " + m.Why
}

// facts are all conditions.
func (p *Page) facts() []Fact {
	out := append(append(append([]Fact(nil), p.Machine...), p.Versions...), p.Settings...)
	if p.Calm != "" {
		out = append(out, Fact{"other work on the machine", p.Calm})
	}
	return out
}

// categoryTable has a line for each artifact that was asked.
func (p *Page) categoryTable() (head []string, rows [][]string) {
	head = append([]string{"Artifact"}, p.Categories...)
	for _, r := range p.Rows {
		if r.Questions == nil {
			continue
		}
		line := []string{r.Artifact}
		for i := range p.Categories {
			s := none
			if i < len(r.Questions.Categories) && r.Questions.Categories[i].Of > 0 {
				c := r.Questions.Categories[i]
				s = fmt.Sprintf("%d/%d", c.Right, c.Of)
			}
			line = append(line, s)
		}
		rows = append(rows, line)
	}
	return head, rows
}
