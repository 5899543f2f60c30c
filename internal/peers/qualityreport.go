package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// qualityReport is the quality of every artifact of one sample.
type qualityReport struct {
	Machine       machine    `json:"machine"` // of the last run
	Sample        string     `json:"sample"`
	Parameters    int64      `json:"parameters"`
	Text          string     `json:"text"`
	TextSHA256    string     `json:"text_sha256"`
	Tokens        int        `json:"tokens"`
	Window        int        `json:"window"`
	Seed          uint64     `json:"permutation_seed,omitempty"`
	PermutedDelta float64    `json:"permuted_max_abs_logit_delta,omitempty"`
	Rows          []measured `json:"rows"`
	Failed        []failure  `json:"failed,omitempty"`

	dir   string
	keep  bool
	again []*artifact // ours that are to be measured anew
	// imatrix is what this run's importance matrix is made from; nil where it
	// makes none.
	imatrix *imatrixSource
}

func (r *qualityReport) find(maker, name string) *measured {
	for i := range r.Rows {
		if r.Rows[i].Maker == maker && r.Rows[i].Name == name {
			return &r.Rows[i]
		}
	}
	return nil
}

// file is the name of the report.
func (r *qualityReport) file() string {
	return map[string]string{plainSample: plainFile, storiesSample: storiesFile, permutedSample: qualityFile}[r.Sample]
}

// keepOthers takes from the report on disk, if it is of the same tokens, all
// figures that are not here, but for our own artifacts that are to be measured
// anew. Several runs may thus fill one report.
func (r *qualityReport) keepOthers() error {
	var last qualityReport
	if _, err := readReport(r.dir, r.file(), &last); err != nil {
		return err
	}
	if last.TextSHA256 != r.TextSHA256 || last.Tokens != r.Tokens || last.Window != r.Window {
		return nil
	}
	if r.PermutedDelta == 0 {
		r.Seed, r.PermutedDelta = last.Seed, last.PermutedDelta
	}
	isAgain := func(label string) bool {
		return slices.ContainsFunc(r.again, func(a *artifact) bool { return a.label() == label })
	}
	for _, f := range last.Failed {
		if !isAgain(f.Name) && !r.has(f.Name) {
			r.Failed = append(r.Failed, f)
		}
	}
	for _, m := range last.Rows {
		again := isAgain(m.label())
		other := m.Imatrix != nil && r.imatrix != nil && *m.Imatrix != *r.imatrix
		if !again && !other && !r.has(m.label()) {
			r.Rows = append(r.Rows, m)
		}
	}
	return nil
}

// has reports whether an artifact's figures are there, or that there are none.
func (r *qualityReport) has(label string) bool {
	return slices.ContainsFunc(r.Failed, func(f failure) bool { return f.Name == label }) ||
		slices.ContainsFunc(r.Rows, func(m measured) bool { return m.label() == label })
}

// add takes up an artifact's figures and writes the report.
func (r *qualityReport) add(o qualityOptions, m *measured) error {
	m.Commit, m.Date = r.Machine.Commit, r.Machine.Date
	f := m.Fidelity
	o.note("%-40s %5.2f bits  KL %.4f ± %.4f  top-1 %.1f %%  perplexity × %.4f", m.label(), m.BitsPerWeight, f.KLMean, f.KLStdErr, 100*f.Top1, f.PerplexityRatio)
	r.Rows = append(r.Rows, *m)
	return r.write()
}

// write sorts by size and writes the files.
func (r *qualityReport) write() error {
	if r.keep {
		if err := r.keepOthers(); err != nil {
			return err
		}
	}
	slices.SortStableFunc(r.Rows, func(a, b measured) int { return cmp.Compare(a.Bytes, b.Bytes) })
	var plain qualityReport
	if r.Sample == permutedSample {
		if _, err := readReport(r.dir, plainFile, &plain); err != nil {
			return err
		}
	}
	if err := writeReport(r.dir, r.file(), r, r.table(&plain)); err != nil {
		return err
	}
	return writeWhole(filepath.Join(r.dir, r.file()+".svg"), []byte(r.chart()))
}

func (r *qualityReport) table(plain *qualityReport) string {
	var b strings.Builder
	model := "SmolLM2-135M, " + r.Sample
	if r.Sample == storiesSample {
		model = "stories260K"
	}
	fmt.Fprintf(&b, "# Quality of %s\n\n", model)
	fmt.Fprintf(&b, "Written by `%s` (internal/peers). Each file runs in its own runtime with its defaults (ours in ONNX Runtime), on %d tokens of %s (sha256 %.16s…) in windows of %d, ",
		r.command(), r.Tokens, r.textName(), r.TextSHA256, r.Window)
	fmt.Fprintf(&b, "and is compared with the float32 graph of the same weights in ONNX Runtime, whose logits are kept in 16 bits. Bits per weight are bytes × 8 / %d parameters: of graph and data file for ONNX, of the tensors for GGUF; tokenizers are left out. ", r.Parameters)
	b.WriteString("± is the standard error over tokens; top-5 is how often the float32 graph's best token is among the file's five best.")
	if r.Sample != storiesSample {
		b.WriteString(" The row F32 says what llama.cpp's runtime itself differs by (its cache is float16).")
	}
	for _, i := range r.imatrices() {
		fmt.Fprintf(&b, " The importance matrix of the rows “imatrix” is of the first %d tokens of %s (sha256 %.16s…), the text of this project's own calibration; no file saw the text that is measured on.", i.Tokens, i.Text, i.SHA256)
	}
	b.WriteString("\n\n")
	if r.PermutedDelta > 0 {
		fmt.Fprintf(&b, "The model is put through a function-preserving random permutation (seed %d), so that blocks of its old Q4_1 do not line up with new ones (largest difference of a logit: %.1e). ", r.Seed, r.PermutedDelta)
		if len(plain.Rows) > 0 {
			fmt.Fprintf(&b, "KL plain is that of the weights as they come, on %d tokens ([%s.md](%s.md)).", plain.Tokens, plainFile, plainFile)
		}
		b.WriteString("\n\n")
	}
	b.WriteString("| file | MB | bits/weight | KL(fp32 ‖ file) | perplexity ratio | top-1 % | top-5 % |")
	rule := "|---|---|---|---|---|---|---|"
	if len(plain.Rows) > 0 {
		b.WriteString(" KL plain |")
		rule += "---|"
	}
	b.WriteString("\n" + rule + "\n")
	for _, m := range r.Rows {
		f, name := m.Fidelity, m.label()
		if m.Maker == ours {
			name = "**" + name + "**"
		}
		fmt.Fprintf(&b, "| %s | %.4g | %.2f | %.4f ± %.4f | %.4f ± %.4f | %.1f | %.1f |", name, float64(m.Bytes)/1e6, m.BitsPerWeight,
			f.KLMean, f.KLStdErr, f.PerplexityRatio, f.PerplexityRatioStdErr, 100*f.Top1, 100*f.Top5)
		if len(plain.Rows) > 0 {
			text := "–"
			if p := plain.find(m.Maker, m.Name); p != nil {
				text = fmt.Sprintf("%.4f ± %.4f", p.Fidelity.KLMean, p.Fidelity.KLStdErr)
			}
			fmt.Fprintf(&b, " %s |", text)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\n![KL by size](%s.svg)\n", r.file())
	for _, f := range r.Failed {
		fmt.Fprintf(&b, "\nNo figures for %s: %s.\n", f.Name, strings.TrimRight(f.Why, "."))
	}
	r.equalBytes(&b)
	r.goals(&b)
	fmt.Fprintf(&b, "\nLast run: %s\n", r.Machine)
	if dates := r.dates(); len(dates) > 1 {
		fmt.Fprintf(&b, "\nRows are of several runs (commit, date): %s.\n", strings.Join(dates, "; "))
	}
	return b.String()
}

// imatrices are what the rows' importance matrices were made from.
func (r *qualityReport) imatrices() []imatrixSource {
	var out []imatrixSource
	for _, m := range r.Rows {
		if m.Imatrix != nil && !slices.Contains(out, *m.Imatrix) {
			out = append(out, *m.Imatrix)
		}
	}
	return out
}

// command is how the report was made.
func (r *qualityReport) command() string {
	if r.Sample == permutedSample {
		return "make quality"
	}
	return "go run ./internal/peers quality --sample " + r.Sample
}

func (r *qualityReport) textName() string {
	if r.Text == "wiki.test.raw" {
		return "WikiText-2 raw test"
	}
	return r.Text
}

// dates are the runs that rows come from.
func (r *qualityReport) dates() []string {
	var out []string
	for _, m := range r.Rows {
		if m.Commit == "" {
			continue
		}
		who := "peers"
		if m.Maker == ours {
			who = "ours"
		}
		if s := fmt.Sprintf("%s %s, %s", who, m.Commit, m.Date); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

// equalBytes says for each of our recipes which peer's file of at most its
// size loses least.
func (r *qualityReport) equalBytes(b *strings.Builder) {
	var lines []string
	for _, m := range r.Rows {
		if m.Maker != ours {
			continue
		}
		peer := r.best(func(p measured) bool { return p.Maker != ours && p.Bytes <= m.Bytes })
		if peer == nil {
			continue
		}
		lines = append(lines, fmt.Sprintf("- %s (%.1f MB): KL %.4f; best peer of at most its bytes is %s (%.1f MB): %.4f, × %.2f.", m.Name, float64(m.Bytes)/1e6, m.Fidelity.KLMean,
			peer.label(), float64(peer.Bytes)/1e6, peer.Fidelity.KLMean, peer.Fidelity.KLMean/m.Fidelity.KLMean))
	}
	if len(lines) > 0 {
		fmt.Fprintf(b, "\n## At equal bytes\n\n%s\n", strings.Join(lines, "\n"))
	}
}

// best is the row of least KL among some.
func (r *qualityReport) best(among func(measured) bool) *measured {
	var out *measured
	for i, m := range r.Rows {
		if among(m) && (out == nil || m.Fidelity.KLMean < out.Fidelity.KLMean) {
			out = &r.Rows[i]
		}
	}
	return out
}

// goals says what the table was made to show. Names of ours begin with their
// precision.
func (r *qualityReport) goals(b *strings.Builder) {
	var lines []string
	say := func(ok bool, format string, a ...any) {
		lines = append(lines, fmt.Sprintf("- "+format+": %s.", append(a, verdict(ok))...))
	}
	if r.Sample == storiesSample {
		best := r.best(func(m measured) bool { return m.Maker == ours && strings.HasPrefix(m.Name, "int4") })
		rtn, mixed := r.find(ours, rtnName), r.find(ours, rtnMixedName)
		if best != nil && rtn != nil {
			less := 1 - best.Fidelity.KLMean/rtn.Fidelity.KLMean
			say(less >= 0.4, "Best of 4 bits, %s: KL %.4f, %.0f %% below rounding to nearest (rtn, %.4f; goal ≥ 40 %%)", best.Name, best.Fidelity.KLMean, 100*less, rtn.Fidelity.KLMean)
		}
		if best != nil && mixed != nil {
			lines = append(lines, fmt.Sprintf("- Most of it is where the bits are: with the bits of int4, rounding to nearest (rtn-mixed) has %.4f.", mixed.Fidelity.KLMean))
		}
	} else {
		for _, g := range []struct {
			precision    string
			bits, kl, pp float64 // at most; 0: any
		}{{"int4", 6, 0.08, 1.06}, {"int4", 5.5, 0.12, 0}, {"int8", 0, 0.006, 1.01}} {
			m := r.best(func(m measured) bool {
				return m.Maker == ours && strings.HasPrefix(m.Name, g.precision) && (g.bits == 0 || m.BitsPerWeight <= g.bits)
			})
			if m == nil {
				continue
			}
			text := fmt.Sprintf("%s of any size", g.precision)
			if g.bits > 0 {
				text = fmt.Sprintf("%s at ≤ %g bits/weight", g.precision, g.bits)
			}
			text += fmt.Sprintf(": %s, %.2f bits/weight, KL %.4f (goal ≤ %g)", m.Name, m.BitsPerWeight, m.Fidelity.KLMean, g.kl)
			ok := m.Fidelity.KLMean <= g.kl
			if g.pp > 0 {
				text += fmt.Sprintf(", perplexity × %.4f (goal ≤ × %g)", m.Fidelity.PerplexityRatio, g.pp)
				ok = ok && m.Fidelity.PerplexityRatio <= g.pp
			}
			say(ok, "%s", text)
		}
		r.rivals(say)
	}
	if len(lines) > 0 {
		fmt.Fprintf(b, "\n## Goals\n\n%s\n", strings.Join(lines, "\n"))
	}
}

// rivals compares our best int4 file with those it should be below.
func (r *qualityReport) rivals(say func(ok bool, format string, a ...any)) {
	best := r.best(func(m measured) bool {
		return m.Maker == ours && strings.HasPrefix(m.Name, "int4") && m.BitsPerWeight <= 6
	})
	if best != nil {
		for _, name := range []string{"Q4_K_M", "Q4_K_M" + imatrixSuffix} {
			if m := r.find(llama, name); m != nil {
				say(best.Fidelity.KLMean < m.Fidelity.KLMean, "%s below llama.cpp's %s (%.2f bits/weight, KL %.4f)", best.Name, name, m.BitsPerWeight, m.Fidelity.KLMean)
			}
		}
	}
	for _, m := range r.Rows {
		if m.Maker != ours || !strings.HasPrefix(m.Name, "int") {
			continue
		}
		if g := r.best(func(p measured) bool { return p.Maker == genai && p.Bytes <= m.Bytes+m.Bytes/50 }); g != nil {
			say(m.Fidelity.KLMean < g.Fidelity.KLMean, "%s (KL %.4f) below every onnxruntime-genai file of up to its size + 2 %% (best: %s, %.4f)", m.Name, m.Fidelity.KLMean, g.Name, g.Fidelity.KLMean)
		}
	}
}

func verdict(ok bool) string {
	if ok {
		return "reached"
	}
	return "NOT reached"
}
