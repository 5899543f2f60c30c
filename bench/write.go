package bench

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Read reads a report that WriteJSON wrote.
func Read(path string) (*Report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read a benchmark: %w", err)
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("read a benchmark: %s: %w", path, err)
	}
	switch {
	case r.Version == 0:
		return nil, fmt.Errorf("read a benchmark: %s is none: it has no bench_version", path)
	case r.Version != Version:
		return nil, fmt.Errorf("read a benchmark: %s is of version %d, this program measures as version %d does: run it again", path, r.Version, Version)
	}
	return &r, nil
}

// WriteJSON writes all there is.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// figure is a column of the CSV file: a median with its interval, or a value.
type figure struct {
	name string
	stat func(*Measured) *Stat
	one  func(*Measured) (float64, bool)
}

func (p Percentile) stat() *Stat { return &Stat{Median: p.Value, Low: p.Low, High: p.High} }

var figures = []figure{
	{name: "load_cold_seconds", stat: func(m *Measured) *Stat { return m.LoadCold }},
	{name: "load_warm_seconds", stat: func(m *Measured) *Stat { return m.LoadWarm }},
	{name: "first_token_seconds", stat: func(m *Measured) *Stat { return m.FirstToken }},
	{name: "prefill_tokens_per_second", stat: func(m *Measured) *Stat { return m.Prefill }},
	{name: "decode_tokens_per_second", stat: func(m *Measured) *Stat { return m.Decode }},
	{name: "decode_by_median_gap", stat: func(m *Measured) *Stat { return m.DecodeByGap }},
	{name: "gap_p50_seconds", stat: func(m *Measured) *Stat {
		if m.Gaps == nil {
			return nil
		}
		return m.Gaps.P50.stat()
	}},
	{name: "gap_p95_seconds", stat: func(m *Measured) *Stat {
		if m.Gaps == nil {
			return nil
		}
		return m.Gaps.P95.stat()
	}},
	{name: "gap_p99_seconds", stat: func(m *Measured) *Stat {
		if m.Gaps == nil {
			return nil
		}
		return m.Gaps.P99.stat()
	}},
	{name: "joules_per_token", stat: func(m *Measured) *Stat {
		if m.Energy == nil {
			return nil
		}
		return &m.Energy.PerToken
	}},
	{name: "overhead", stat: func(m *Measured) *Stat { return m.Overhead }},
	{name: "busy", stat: func(m *Measured) *Stat { return m.Busy }},
	{name: "peak_memory_bytes", one: func(m *Measured) (float64, bool) { return float64(m.PeakMemory), m.PeakMemory > 0 }},
	{name: "bytes_per_token", one: func(m *Measured) (float64, bool) {
		return m.limit(func(r *Roofline) float64 { return float64(r.BytesPerToken) })
	}},
	{name: "achieved_bytes_per_second", one: func(m *Measured) (float64, bool) { return m.limit(func(r *Roofline) float64 { return r.Achieved }) }},
	{name: "bandwidth_bytes_per_second", one: func(m *Measured) (float64, bool) { return m.limit(func(r *Roofline) float64 { return r.Bandwidth }) }},
	{name: "ceiling_tokens_per_second", one: func(m *Measured) (float64, bool) { return m.limit(func(r *Roofline) float64 { return r.Ceiling }) }},
	{name: "share_of_ceiling", one: func(m *Measured) (float64, bool) { return m.limit(func(r *Roofline) float64 { return r.Share }) }},
}

func (m *Measured) limit(of func(*Roofline) float64) (float64, bool) {
	if m.Roofline == nil {
		return 0, false
	}
	return of(m.Roofline), true
}

// WriteCSV writes a line an artifact; figures have their interval in two columns
// more, what was not measured is empty.
func (r *Report) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	head := []string{"artifact", "format", "target", "recipe", "runtime", "provider", "size_bytes", "bits_per_weight"}
	for _, f := range figures {
		head = append(head, f.name)
		if f.stat != nil {
			head = append(head, f.name+"_low", f.name+"_high")
		}
	}
	head = append(head, "prompt_tokens", "generate_tokens", "repetitions", "threads", "cpu", "date", "error")
	if err := c.Write(head); err != nil {
		return err
	}
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }
	for i := range r.Artifacts {
		m := &r.Artifacts[i]
		row := []string{m.Artifact, m.Format, m.Target, m.Recipe, m.Runtime, m.Provider, strconv.FormatInt(m.Bytes, 10), number(m.BitsPerWeight)}
		for _, f := range figures {
			if f.one != nil {
				if v, ok := f.one(m); ok {
					row = append(row, number(v))
				} else {
					row = append(row, "")
				}
				continue
			}
			if s := f.stat(m); s != nil {
				row = append(row, number(s.Median), number(s.Low), number(s.High))
			} else {
				row = append(row, "", "", "")
			}
		}
		s := r.Settings
		row = append(row, strconv.Itoa(s.Prompt), strconv.Itoa(s.Generate), strconv.Itoa(s.Repetitions), strconv.Itoa(s.Threads), r.Machine.CPU, r.Date.Format(time.RFC3339), m.Error)
		if err := c.Write(row); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// table is cells under heads; the first column is text.
type table struct {
	head []string
	rows [][]string
}

// ranked is the artifacts with figures, fastest decoding first, then the others.
func (r *Report) ranked() []*Measured {
	var out []*Measured
	for i := range r.Artifacts {
		out = append(out, &r.Artifacts[i])
	}
	slices.SortStableFunc(out, func(a, b *Measured) int {
		rate := func(m *Measured) float64 {
			if m.Decode == nil {
				return -1
			}
			return m.Decode.Median
		}
		switch x, y := rate(a), rate(b); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	return out
}

// throughput and latency are the two tables of a report.
func (r *Report) throughput() table {
	t := table{head: []string{"artifact", "size", "bits/weight", "prefill tok/s", "decode tok/s", "of the fastest", "ceiling", "reached", "memory"}}
	all := r.ranked()
	for _, m := range all {
		if !hasFigures(m) {
			continue
		}
		row := []string{m.Artifact, size(m.Bytes), decimals(m.BitsPerWeight, 2), spread(m.Prefill, 1, ""), spread(m.Decode, 1, "")}
		if m == all[0] {
			row = append(row, "-")
		} else {
			row = append(row, spread(Ratio(m.Decode, all[0].Decode), 1, "× "))
		}
		if l := m.Roofline; l != nil {
			row = append(row, spread(&Stat{Median: l.Ceiling, Samples: []float64{l.Ceiling}}, 1, ""), fmt.Sprintf("%.0f %%", 100*l.Share))
		} else {
			row = append(row, "-", "-")
		}
		t.rows = append(t.rows, append(row, size(m.PeakMemory)))
	}
	return t
}

func (r *Report) latency() table {
	t := table{head: []string{"artifact", "load from disk", "load", "first token", "token p50", "p95", "p99", "own share"}}
	energy := slices.ContainsFunc(r.Artifacts, func(m Measured) bool { return m.Energy != nil })
	if energy {
		t.head = append(t.head, "J/token")
	}
	for _, m := range r.ranked() {
		if !hasFigures(m) {
			continue
		}
		row := []string{m.Artifact, duration(m.LoadCold), duration(m.LoadWarm), duration(m.FirstToken)}
		if g := m.Gaps; g != nil {
			row = append(row, seconds(g.P50.Value), seconds(g.P95.Value), seconds(g.P99.Value))
		} else {
			row = append(row, "-", "-", "-")
		}
		own := "-"
		if m.Overhead != nil {
			own = fmt.Sprintf("%.2f %%", 100*m.Overhead.Median)
		}
		row = append(row, own)
		if energy {
			cell := "-"
			if m.Energy != nil {
				cell = spread(&m.Energy.PerToken, 3, "")
			}
			row = append(row, cell)
		}
		t.rows = append(t.rows, row)
	}
	return t
}

func hasFigures(m *Measured) bool { return m.Decode != nil || m.LoadWarm != nil }

// Headline says what was measured.
func (r *Report) Headline() string {
	s := r.Settings
	return fmt.Sprintf("%s: %d tokens of prompt, %d generated, %s, %s", r.Model, s.Prompt, s.Generate, plural(s.Repetitions, "round"), plural(s.Threads, "thread"))
}

// String is a line about the machine.
func (m Machine) String() string {
	name := m.CPU
	if name == "" {
		name = "unknown processor"
	}
	parts := []string{name, plural(m.Cores, "core")}
	if m.Memory > 0 {
		parts = append(parts, fmt.Sprintf("%.0f GB", float64(m.Memory)/1e9))
	}
	if m.Bandwidth > 0 {
		parts = append(parts, fmt.Sprintf("reads %.1f GB/s", m.Bandwidth/1e9))
	}
	parts = append(parts, m.Devices...)
	return strings.Join(append(parts, m.System), " · ")
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// remarks are the lines under the tables.
func (r *Report) remarks() (out []string) {
	for _, w := range r.Warnings {
		out = append(out, "warning: "+w)
	}
	failed := groups{}
	for _, m := range r.Artifacts {
		if m.Error != "" {
			failed.add(m.Error, m.Artifact)
		}
	}
	for _, g := range failed {
		was := "was"
		if len(g.names) > 1 {
			was = "were"
		}
		out = append(out, fmt.Sprintf("%s %s not measured: %s", strings.Join(g.names, ", "), was, g.key))
	}
	var runtimes groups
	for _, m := range r.ranked() {
		for _, n := range m.Notes {
			out = append(out, m.Artifact+": "+n)
		}
		if m.Runtime != "" {
			runtimes.add(m.Runtime+", "+m.Provider, m.Artifact)
		}
	}
	out = append(out, r.Notes...)
	if len(runtimes) > 0 {
		coverage := 0.0
		for _, m := range r.Artifacts {
			if m.Decode != nil {
				coverage = m.Decode.Coverage
			}
		}
		if r.Settings.Repetitions > 1 {
			out = append(out, fmt.Sprintf("medians of the rounds, with intervals that hold the median with %.0f %%", 100*coverage))
		}
	}
	for _, g := range runtimes {
		out = append(out, fmt.Sprintf("%s ran on %s", strings.Join(g.names, ", "), g.key))
	}
	return out
}

// groups are names by what they have in common, in order of first use.
type groups []struct {
	key   string
	names []string
}

func (g *groups) add(key, name string) {
	for i := range *g {
		if (*g)[i].key == key {
			(*g)[i].names = append((*g)[i].names, name)
			return
		}
	}
	*g = append(*g, struct {
		key   string
		names []string
	}{key, []string{name}})
}

// WriteText writes the tables for a terminal.
func (r *Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%s\n%s\n", r.Headline(), r.Machine)
	for _, t := range []table{r.throughput(), r.latency()} {
		if len(t.rows) == 0 {
			continue
		}
		fmt.Fprintln(w)
		if err := t.text(w); err != nil {
			return err
		}
	}
	return lines(w, r.remarks())
}

func lines(w io.Writer, texts []string) error {
	if len(texts) > 0 {
		fmt.Fprintln(w)
	}
	for _, s := range texts {
		if _, err := fmt.Fprintln(w, s); err != nil {
			return err
		}
	}
	return nil
}

func (t table) text(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(t.head, "\t"))
	for _, row := range t.rows {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}

// WriteMarkdown writes the tables for a file.
func (r *Report) WriteMarkdown(w io.Writer) error {
	fmt.Fprintf(w, "# Benchmark of %s\n\n%s.\n\n%s, %s.\n", cell(r.Model), cell(r.Headline()), cell(r.Machine.String()), r.Date.Format("2006-01-02 15:04 MST"))
	for _, t := range []table{r.throughput(), r.latency()} {
		if len(t.rows) == 0 {
			continue
		}
		fmt.Fprintln(w)
		t.markdown(w)
	}
	remarks := r.remarks()
	if len(remarks) > 0 {
		fmt.Fprintln(w)
	}
	for _, s := range remarks {
		if _, err := fmt.Fprintf(w, "- %s\n", cell(s)); err != nil {
			return err
		}
	}
	return nil
}

func (t table) markdown(w io.Writer) {
	rule := make([]string, len(t.head))
	for i := range rule {
		rule[i] = "---:"
	}
	rule[0] = "---"
	fmt.Fprintf(w, "| %s |\n| %s |\n", strings.Join(t.head, " | "), strings.Join(rule, " | "))
	for _, row := range t.rows {
		cells := make([]string, len(row))
		for i, s := range row {
			cells[i] = cell(s)
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
}

// cell is a text that a Markdown table or list can hold.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "\r", " ", "<", "&lt;").Replace(s)
}

// spread is "61.2 (59.8–62.9)"; of one sample the figure alone. Places are those of
// a figure below 100; prefix "× " has two places.
func spread(s *Stat, places int, prefix string) string {
	if s == nil {
		return "-"
	}
	if prefix != "" {
		places = 2
	} else if s.Median >= 100 {
		places = 0
	}
	text := fmt.Sprintf("%s%.*f", prefix, places, s.Median)
	if len(s.Samples) == 1 {
		return text
	}
	return fmt.Sprintf("%s (%.*f–%.*f)", text, places, s.Low, places, s.High)
}

func duration(s *Stat) string {
	if s == nil {
		return "-"
	}
	return seconds(s.Median)
}

// seconds is "1.52 s" or "16.3 ms".
func seconds(v float64) string {
	switch {
	case v >= 10:
		return fmt.Sprintf("%.1f s", v)
	case v >= 1:
		return fmt.Sprintf("%.2f s", v)
	case v >= 0.1:
		return fmt.Sprintf("%.0f ms", 1e3*v)
	case v >= 0.01:
		return fmt.Sprintf("%.1f ms", 1e3*v)
	}
	return fmt.Sprintf("%.2f ms", 1e3*v)
}

func decimals(v float64, places int) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.*f", places, v)
}

func size(n int64) string {
	switch {
	case n <= 0:
		return "-"
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
}
