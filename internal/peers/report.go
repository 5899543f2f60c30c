package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

func cores() int { return runtime.NumCPU() }

// The files of the results; each has a .json and a .md.
const (
	qualityFile = "quality"
	plainFile   = "quality-plain"
	speedFile   = "speed"
	convertFile = "convert"
)

// writeReport writes a report as JSON and as a table.
func writeReport(dir, name string, report any, table string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, name+".json"), append(b, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, name+".md"), []byte(table), 0o644))
}

// printTable prints a table that was written.
func printTable(dir, name string) error {
	b, err := os.ReadFile(filepath.Join(dir, name+".md"))
	if err == nil {
		fmt.Printf("%s", b)
	}
	return err
}

// readReport reads a report back; found is false where there is none.
func readReport(dir, name string, into any) (found bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(b, into)
}

// qualityReport is the quality of every artifact of one sample.
type qualityReport struct {
	Machine       machine    `json:"machine"`
	Sample        string     `json:"sample"`
	Parameters    int64      `json:"parameters"`
	Text          string     `json:"text"`
	Tokens        int        `json:"tokens"`
	Window        int        `json:"window"`
	PermutedDelta float64    `json:"permuted_max_abs_logit_delta,omitempty"`
	Rows          []measured `json:"rows"`
	Failed        []failure  `json:"failed,omitempty"`
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
	if r.Sample == "plain" {
		return plainFile
	}
	return qualityFile
}

// keepPeers takes the peers' figures from the last report, if it is of the
// same text: their files do not change.
func (r *qualityReport) keepPeers(dir string) error {
	var last qualityReport
	if _, err := readReport(dir, r.file(), &last); err != nil {
		return err
	}
	if last.Text != r.Text || last.Tokens != r.Tokens || last.Window != r.Window {
		return nil
	}
	r.Failed = last.Failed
	for _, m := range last.Rows {
		if m.Maker != ours {
			r.Rows = append(r.Rows, m)
		}
	}
	return nil
}

// has reports whether an artifact's figures are there, or that there are none.
func (r *qualityReport) has(a *artifact) bool {
	for _, f := range r.Failed {
		if f.Name == a.label() {
			return true
		}
	}
	return r.find(a.Maker, a.Name) != nil
}

// write sorts by size and writes the files.
func (r *qualityReport) write(dir string) error {
	slices.SortStableFunc(r.Rows, func(a, b measured) int { return cmp.Compare(a.Bytes, b.Bytes) })
	var plain qualityReport
	if r.Sample != "plain" {
		if _, err := readReport(dir, plainFile, &plain); err != nil {
			return err
		}
	}
	if err := writeReport(dir, r.file(), r, r.table(&plain)); err != nil {
		return err
	}
	return printTable(dir, r.file())
}

func (r *qualityReport) table(plain *qualityReport) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Quality of SmolLM2-135M, %s\n\n", r.Sample)
	fmt.Fprintf(&b, "Written by `make quality` (internal/peers). Each file runs in its own runtime with its defaults, on %d tokens of WikiText-2 raw test in windows of %d, ", r.Tokens, r.Window)
	fmt.Fprintf(&b, "and is compared with the float32 graph of the same weights in ONNX Runtime. No recipe sees text; ours of 4 bits weigh their search by a probe with 32 random token ids. Bits per weight are bytes × 8 / %d parameters: of graph and data file for ONNX, of the tensors for GGUF; tokenizers are left out. ", r.Parameters)
	b.WriteString("± is the standard error over tokens. The row F32 says what llama.cpp's runtime itself differs by (its cache is float16).\n\n")
	if r.PermutedDelta > 0 {
		fmt.Fprintf(&b, "The model is put through a function-preserving random permutation, so that blocks of its old Q4_1 do not line up with new ones (largest difference of a logit: %.1e). ", r.PermutedDelta)
		if len(plain.Rows) > 0 {
			fmt.Fprintf(&b, "KL plain is that of the weights as they come, on %d tokens.", plain.Tokens)
		}
		b.WriteString("\n\n")
	}
	b.WriteString("| file | MB | bits/weight | KL(fp32 ‖ file) | perplexity ratio | top-1 % |")
	rule := "|---|---|---|---|---|---|"
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
		fmt.Fprintf(&b, "| %s | %.1f | %.2f | %.4f ± %.4f | %.4f ± %.4f | %.1f |", name, float64(m.Bytes)/1e6, m.BitsPerWeight,
			f.KLMean, f.KLStdErr, f.PerplexityRatio, f.PerplexityRatioStdErr, 100*f.Top1)
		if len(plain.Rows) > 0 {
			text := "–"
			if p := plain.find(m.Maker, m.Name); p != nil {
				text = fmt.Sprintf("%.4f", p.Fidelity.KLMean)
			}
			fmt.Fprintf(&b, " %s |", text)
		}
		b.WriteString("\n")
	}
	for _, f := range r.Failed {
		fmt.Fprintf(&b, "\nNo figures for %s: %s.\n", f.Name, strings.TrimRight(f.Why, "."))
	}
	r.goals(&b)
	fmt.Fprintf(&b, "\n%s\n", r.Machine)
	return b.String()
}

// goals says what the table was made to show.
func (r *qualityReport) goals(b *strings.Builder) {
	best := r.find(ours, "int4")
	if best == nil {
		return
	}
	fmt.Fprintf(b, "\n- Our int4: KL %.4f (goal ≤ 0.12) at %.2f bits/weight (goal ≤ 6.0): %s.\n", best.Fidelity.KLMean, best.BitsPerWeight,
		verdict(best.Fidelity.KLMean <= 0.12 && best.BitsPerWeight <= 6))
	var rivals []string
	below := true
	for _, m := range r.Rows {
		if m.Maker == genai && m.Bytes <= best.Bytes+best.Bytes/50 {
			rivals = append(rivals, fmt.Sprintf("%s %.4f", m.Name, m.Fidelity.KLMean))
			below = below && best.Fidelity.KLMean < m.Fidelity.KLMean
		}
	}
	if len(rivals) > 0 {
		fmt.Fprintf(b, "- Below every onnxruntime-genai recipe of up to its size (+ 2 %%): %s (%s).\n", verdict(below), strings.Join(rivals, ", "))
	}
}

func verdict(ok bool) string {
	if ok {
		return "reached"
	}
	return "NOT reached"
}
