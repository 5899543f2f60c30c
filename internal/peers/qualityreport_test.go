package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/fidelity"
)

func row(maker, name string, bytes int64, kl float64) measured {
	return measured{artifact: artifact{Maker: maker, Name: name}, Bytes: bytes, BitsPerWeight: float64(bytes) * 8 / 1e3,
		Fidelity: fidelity.Result{KLMean: kl, PerplexityRatio: 1.02}}
}

// TestQualityReport wants the best peer of at most a file's bytes, and goals
// judged by files within their size alone.
func TestQualityReport(t *testing.T) {
	r := qualityReport{Sample: permutedSample, Parameters: 1e3, Rows: []measured{
		row(genai, "int4", 600, 0.4), row(llama, "Q4_0", 640, 0.3), row(ours, "int4-small", 650, 0.13), row(llama, "Q4_K_M", 760, 0.07),
		row(ours, "int4", 745, 0.06), row(ours, "int8", 1000, 0.004), row(llama, "Q8_0", 1001, 0.001),
	}, Failed: []failure{{"onnxruntime-genai bad", "ValueError: no."}}}
	text := r.table(&qualityReport{Rows: []measured{row(ours, "int4", 745, 0.05)}})
	for _, want := range []string{
		"int4-small (0.0 MB): KL 0.1300; best peer of at most its bytes is llama.cpp Q4_0 (0.0 MB): 0.3000, × 2.31.",
		"int4 (0.0 MB): KL 0.0600; best peer of at most its bytes is llama.cpp Q4_0",
		"int8 (0.0 MB): KL 0.0040; best peer of at most its bytes is llama.cpp Q4_K_M",
		"int4 at ≤ 6 bits/weight: int4, 5.96 bits/weight, KL 0.0600 (goal ≤ 0.08), perplexity × 1.0200 (goal ≤ × 1.06): reached.",
		"int4 at ≤ 5.5 bits/weight: int4-small, 5.20 bits/weight, KL 0.1300 (goal ≤ 0.12): NOT reached.",
		"int4 below llama.cpp's Q4_K_M (6.08 bits/weight, KL 0.0700): reached.",
		"| **llama-pajamas int4** | 0.000745 | 5.96 | 0.0600 ± 0.0000 | 1.0200 ± 0.0000 | 0.0 | 0.0 | 0.0500 ± 0.0000 |",
		"No figures for onnxruntime-genai bad: ValueError: no.\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the table does not say %q:\n%s", want, text)
		}
	}
	if svg := r.chart(); strings.Count(svg, "<circle") != len(r.Rows)+3 {
		t.Errorf("the chart has not %d points and 3 makers:\n%s", len(r.Rows), svg)
	}
}

// TestKeepOthers wants everything kept but what is measured again, another
// importance matrix's rows and reports of another text.
func TestKeepOthers(t *testing.T) {
	dir := t.TempDir()
	one, two := &imatrixSource{Text: "a"}, &imatrixSource{Text: "b"}
	last := qualityReport{Sample: plainSample, Tokens: 10, TextSHA256: "x", dir: dir, Rows: []measured{
		row(ours, "int4", 1, 1), row(ours, "int8", 2, 1), row(llama, "Q4_0", 3, 1), row(llama, "Q4_0"+imatrixSuffix, 4, 1),
	}, Failed: []failure{{"onnxruntime-genai bad", "no"}}}
	last.Rows[3].Imatrix = one
	if err := last.write(); err != nil {
		t.Fatal(err)
	}
	if found, err := readReport(dir, plainFile, &qualityReport{}); !found || err != nil {
		t.Fatalf("no report in %s: %v", filepath.Base(dir), err)
	}
	for _, c := range []struct {
		name   string
		tokens int
		im     *imatrixSource
		want   string
	}{
		{"same", 10, one, "int8, Q4_0, Q4_0 imatrix"},
		{"no matrix now", 10, nil, "int8, Q4_0, Q4_0 imatrix"},
		{"other matrix", 10, two, "int8, Q4_0"},
		{"other text", 11, one, ""},
	} {
		r := qualityReport{Sample: plainSample, Tokens: c.tokens, TextSHA256: "x", imatrix: c.im, dir: dir, again: ourArtifacts([]string{"int4"})}
		if err := r.keepOthers(); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range r.Rows {
			names = append(names, m.Name)
		}
		if got := strings.Join(names, ", "); got != c.want {
			t.Errorf("%s: kept %q, want %q", c.name, got, c.want)
		}
		if bad := (&artifact{Maker: genai, Name: "bad"}); r.has(bad.label()) != (c.want != "") {
			t.Errorf("%s: has a failed artifact: %v", c.name, r.has(bad.label()))
		}
	}
}

// TestSharedReport lets two runs write one report.
func TestSharedReport(t *testing.T) {
	dir := t.TempDir()
	open := func(again ...string) *qualityReport {
		r := &qualityReport{Sample: plainSample, Tokens: 10, TextSHA256: "x", dir: dir, keep: true, again: ourArtifacts(again)}
		if err := r.keepOthers(); err != nil {
			t.Fatal(err)
		}
		return r
	}
	a, b := open(), open()
	for _, step := range []struct {
		r   *qualityReport
		row measured
	}{{a, row(llama, "Q4_0", 3, 1)}, {b, row(llama, "Q8_0", 5, 1)}, {a, row(ours, "int4", 4, 1)}, {open("int4"), row(ours, "int4", 4, 0.5)}} {
		step.r.Rows = append(step.r.Rows, step.row)
		if err := step.r.write(); err != nil {
			t.Fatal(err)
		}
	}
	got := open()
	if len(got.Rows) != 3 || got.find(ours, "int4").Fidelity.KLMean != 0.5 {
		t.Errorf("the report has %+v", got.Rows)
	}
}
