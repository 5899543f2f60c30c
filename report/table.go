package report

import (
	"fmt"
	"slices"
	"strings"
)

// column is one figure of every artifact.
type column struct {
	head, unit string
	// about is what a pointer over the head is told.
	about string
	// narrow columns are left out on a phone: the artifact's path says the same.
	narrow  bool
	numeric bool
	// keep shows the column even where no row has a figure.
	keep bool
	cell func(*Row) cell
}

// cell is a figure and what it is sorted by: Number, or Word where it is none.
type cell struct {
	figure
	Number float64
	Known  bool
	Word   string
}

func word(s string) cell {
	s = clean(s)
	if s == "" {
		return cell{figure: figure{Value: none}}
	}
	return cell{figure: figure{Value: s}, Word: s, Known: true}
}

// estimate is the cell of one that is shown as f.
func estimate(e *Estimate, f figure) cell {
	if !e.finite() {
		return cell{figure: f}
	}
	return cell{figure: f, Number: e.Value, Known: true}
}

// speedCell shows a figure of speed, times scale.
func speedCell(of func(*Speed) *Estimate, scale float64) func(*Row) cell {
	return func(r *Row) cell {
		if r.Speed == nil {
			return cell{figure: figure{Value: none}}
		}
		e := of(r.Speed)
		return estimate(e, show(e, scale, ""))
	}
}

// basisText is how the quality figures came about.
func basisText(r *Row) string {
	b := r.Basis
	if b == "" {
		b = NotRun
	}
	if r.Recorded {
		return b.String() + ", recorded at conversion"
	}
	return b.String()
}

// columns are those that some row has a figure for.
func (p *Page) columns() []column {
	all := []column{
		{head: "Artifact", about: "path in the model's folder", keep: true, cell: func(r *Row) cell { return word(r.Artifact) }},
		{head: "Format", narrow: true, keep: true, cell: func(r *Row) cell { return word(r.Format) }},
		{head: "Target", narrow: true, keep: true, cell: func(r *Row) cell { return word(r.Target) }},
		{head: "Recipe", narrow: true, keep: true, cell: func(r *Row) cell { return word(r.Recipe) }},
		{head: "Size", about: "of the weight files", numeric: true, keep: true, cell: func(r *Row) cell {
			return cell{figure: figure{Value: sizeText(r.Bytes)}, Number: float64(r.Bytes), Known: r.Bytes > 0}
		}},
		{head: "Bits/weight", about: "bytes of the weight files × 8 / parameters", numeric: true, keep: true, cell: func(r *Row) cell {
			if r.BitsPerWeight <= 0 {
				return cell{figure: figure{Value: none}}
			}
			return cell{figure: figure{Value: fixed(r.BitsPerWeight, 2)}, Number: r.BitsPerWeight, Known: true}
		}},
		{head: "KL", unit: "nats", about: "divergence of the next token's distribution from the reference's", numeric: true, keep: true, cell: func(r *Row) cell {
			return estimate(klOf(r), klText(r))
		}},
		{head: "Perplexity loss", about: "perplexity of the text by the reference's, less one", numeric: true, keep: true, cell: func(r *Row) cell {
			c := estimate(r.Loss, lossText(r))
			if r.Loss == nil && !r.Reference {
				c = estimate(r.Perplexity, lossText(r))
			}
			if r.Reference {
				c.Number, c.Known = 0, true
			}
			return c
		}},
		{head: "Top-1", about: "how often the likeliest next token is the reference's", numeric: true, cell: func(r *Row) cell {
			if r.Reference {
				return cell{figure: figure{Value: "reference"}, Number: 1, Known: false}
			}
			return estimate(r.Top1, percent(r.Top1, 1, false))
		}},
		{head: "Questions", about: "answered right, with the interval of the accuracy", numeric: true, cell: func(r *Row) cell {
			if r.Questions == nil {
				return cell{figure: questionsText(r)}
			}
			return estimate(r.Questions.Total.Accuracy, questionsText(r))
		}},
		{head: "Beside reference", unit: "points", about: "difference to the reference's accuracy on the same questions, and McNemar's p", numeric: true, cell: func(r *Row) cell {
			if r.Questions == nil {
				return cell{figure: differenceText(r)}
			}
			return estimate(r.Questions.Difference, differenceText(r))
		}},
		{head: "Prefill", unit: "tok/s", about: "tokens of the prompt per second", numeric: true, cell: speedCell(func(s *Speed) *Estimate { return s.Prefill }, 1)},
		{head: "Decode", unit: "tok/s", about: "tokens made per second, one sequence", numeric: true, keep: true, cell: speedCell(func(s *Speed) *Estimate { return s.Decode }, 1)},
		{head: "First token", unit: "ms", about: "from the prompt to the first token, the model being loaded", numeric: true, cell: speedCell(func(s *Speed) *Estimate { return s.FirstToken }, 1000)},
		{head: "Gap p50", unit: "ms", about: "median time between tokens", numeric: true, cell: speedCell(func(s *Speed) *Estimate { return s.P50 }, 1000)},
		{head: "Gap p95", unit: "ms", about: "95 of 100 times between tokens are shorter", numeric: true, cell: speedCell(func(s *Speed) *Estimate { return s.P95 }, 1000)},
		{head: "Load", unit: "s", about: "files in the system's cache", numeric: true, cell: speedCell(func(s *Speed) *Estimate { return s.LoadWarm }, 1)},
		{head: "Memory", about: "the most the process and its children held", numeric: true, keep: true, cell: func(r *Row) cell {
			if r.Speed == nil || r.Speed.Memory <= 0 {
				return cell{figure: figure{Value: none}}
			}
			return cell{figure: figure{Value: sizeText(r.Speed.Memory)}, Number: float64(r.Speed.Memory), Known: true}
		}},
		{head: "Energy", unit: "J/token", numeric: true, cell: speedCell(func(s *Speed) *Estimate { return s.Energy }, 1)},
		{head: "Of ceiling", about: "of the decode rate that the memory's bandwidth allows", numeric: true, cell: func(r *Row) cell {
			if r.Speed == nil || r.Speed.Share <= 0 {
				return cell{figure: figure{Value: none}}
			}
			return cell{figure: figure{Value: fixed(100*r.Speed.Share, 0) + " %"}, Number: r.Speed.Share, Known: true}
		}},
		{head: "Quality figures", about: "how KL, perplexity and top-1 came about", keep: true, cell: func(r *Row) cell { return word(basisText(r)) }},
	}
	return slices.DeleteFunc(all, func(c column) bool {
		return !c.keep && !slices.ContainsFunc(p.Rows, func(r Row) bool { return c.cell(&r).Known })
	})
}

// title is the head with its unit.
func (c column) title() string {
	if c.unit == "" {
		return c.head
	}
	return c.head + ", " + c.unit
}

// glance is what the figures say, in sentences; nothing that they do not.
func (p *Page) glance() []string {
	var out []string
	rows := make([]*Row, len(p.Rows))
	for i := range p.Rows {
		rows[i] = &p.Rows[i]
	}
	quantized := slices.DeleteFunc(slices.Clone(rows), func(r *Row) bool { return r.Reference })
	decode, kl := axis{of: decodeOf, higher: true}, axis{of: func(r *Row) *Estimate { return r.KL }}

	if best := extreme(rows, decode); best != nil {
		s := fmt.Sprintf("Fastest decode: %s, %s.", clean(best.Artifact), show(best.Speed.Decode, 1, " tokens/s").text())
		if alike := alike(rows, best, decodeOf); alike != "" {
			s += " Its interval meets that of " + alike + "."
		}
		out = append(out, s)
	}
	if best := extreme(quantized, kl); best != nil {
		out = append(out, fmt.Sprintf("Closest to the reference: %s, KL %s.", clean(best.Artifact), klText(best).text()))
	}
	if best := extreme(quantized, axis{of: sizeOf}); best != nil {
		s := fmt.Sprintf("Smallest: %s, %s", clean(best.Artifact), sizeText(best.Bytes))
		if best.BitsPerWeight > 0 {
			s += fmt.Sprintf(", %s bits per weight", fixed(best.BitsPerWeight, 2))
		}
		out = append(out, s+".")
	}
	if f := front(quantized, axis{of: sizeOf}, kl); len(f) > 1 {
		out = append(out, "None is both smaller and closer to the reference than: "+names(f)+".")
	}
	if f := front(quantized, decode, kl); len(f) > 1 {
		out = append(out, "None is both faster and closer to the reference than: "+names(f)+".")
	}
	return out
}

// extreme is the best row by a figure, nil where no row has it.
func extreme(rows []*Row, a axis) *Row {
	var best *Row
	for _, r := range rows {
		e := a.of(r)
		if !e.finite() {
			continue
		}
		if best == nil || a.higher && e.Value > a.of(best).Value || !a.higher && e.Value < a.of(best).Value {
			best = r
		}
	}
	return best
}

// alike names the rows whose interval meets best's.
func alike(rows []*Row, best *Row, of func(*Row) *Estimate) string {
	var out []string
	b := of(best)
	for _, r := range rows {
		if e := of(r); r != best && e.finite() && e.Low <= b.High && e.High >= b.Low {
			out = append(out, clean(r.Artifact))
		}
	}
	return strings.Join(out, ", ")
}

// bound is a verdict as cells.
func (v Verdict) cells() []string {
	artifact, loss := none, none
	if v.Row != nil {
		artifact, loss = clean(v.Row.Artifact), percent(v.Row.Loss, 2, true).text()
	}
	return []string{
		fmt.Sprintf("%s %s", v.Name, strings.ToUpper(v.Precision)), fmt.Sprintf("< %s %%", fixed(100*v.Max, 0)),
		artifact, loss, v.basis(), v.Found,
	}
}

func (v Verdict) basis() string {
	if v.Row != nil && v.Row.Recorded && v.Row.Loss != nil {
		return v.Basis.String() + ", recorded at conversion"
	}
	return v.Basis.String()
}

var boundHead = []string{"Bound", "Loss allowed", "Artifact", "Loss", "How", "Verdict"}

// notes of artifacts that have problems.
func (p *Page) problems() []string {
	var out []string
	for _, r := range p.Rows {
		for _, s := range r.Problems {
			out = append(out, clean(r.Artifact)+": "+clean(s))
		}
	}
	return out
}
