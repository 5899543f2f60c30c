package bench

import (
	"bytes"
	"encoding/csv"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// sample is a report with all there can be: two artifacts with figures, and one
// that could not run.
func sample() *Report {
	full := func(name string, speed float64) Measured {
		at := func(base float64) *Stat {
			return newStat([]float64{base * 1.02, base, base * 0.98, base * 1.01, base * 0.99, base * 1.03})
		}
		return Measured{
			Artifact: name, Format: "onnx", Target: "cpu", Recipe: "int4", Runtime: "onnxruntime 1.32.0", Provider: "CPUExecutionProvider",
			Bytes: 100 << 20, BitsPerWeight: 5.97, LoadCold: at(1.5), LoadWarm: at(0.25), FirstToken: at(512 / speed / 5),
			Prefill: at(5 * speed), Decode: at(speed), DecodeByGap: at(1.01 * speed),
			Gaps:       &Gaps{P50: percentile([]float64{1 / speed}, 0.5), P95: percentile([]float64{1.2 / speed}, 0.95), P99: percentile([]float64{2 / speed}, 0.99)},
			PeakMemory: 300 << 20, CacheBytes: 46080, Energy: &Energy{PerToken: *at(0.4), Source: "RAPL package-0"},
			Roofline: NewRoofline(speed, 90<<20, 46080, 512, 128, 14e9, "measured here with 2 threads"),
			Overhead: at(0.004), OverheadNote: "…", Busy: at(0.01), Notes: []string{"a | note"},
		}
	}
	return &Report{
		Version: Version, Program: "llama-pajamas 0.2.0", Date: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC), Model: "owner/model",
		Settings: Settings{Prompt: 512, Generate: 128, Repetitions: 6, Loads: 3, Threads: 2},
		Machine:  Machine{System: "linux/amd64", CPU: "Some CPU", Features: "avx2", Cores: 2, Memory: 16 << 30, Bandwidth: 14e9, Busy: newStat([]float64{0.01})},
		Artifacts: []Measured{full("onnx/cpu/int4", 50), full("gguf/Q4_K_M", 60),
			{Artifact: "mlx/4bit", Format: "mlx", Bytes: 1 << 20, Error: "mlx-lm is not set up"}},
		Notes: []string{"energy: some <reason>"},
	}
}

func TestRoundTrip(t *testing.T) {
	want := sample()
	var b bytes.Buffer
	if err := want.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "r.json")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read back\n%+v\nwant\n%+v", got, want)
	}
}

func TestReadRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"no JSON":       {"hello", "invalid character"},
		"another file":  {`{"artifacts":[]}`, "no bench_version"},
		"newer version": {`{"bench_version":99}`, "of version 99"},
	} {
		file := filepath.Join(t.TempDir(), "r.json")
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(file); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestCSV(t *testing.T) {
	var b bytes.Buffer
	if err := sample().WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll() // refuses lines of different lengths
	if err != nil || len(rows) != 4 {
		t.Fatalf("%d lines, %v", len(rows), err)
	}
	at := map[string]int{}
	for i, name := range rows[0] {
		at[name] = i
	}
	for name, want := range map[string]string{
		"artifact": "onnx/cpu/int4", "decode_tokens_per_second": "50.25", "decode_tokens_per_second_low": "49", "decode_tokens_per_second_high": "51.5",
		"peak_memory_bytes": "3.14573e+08", "threads": "2", "error": "",
	} {
		if got := rows[1][at[name]]; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := rows[3]; got[at["decode_tokens_per_second"]] != "" || got[at["error"]] != "mlx-lm is not set up" {
		t.Errorf("the one that did not run: %q", got)
	}
}

func TestText(t *testing.T) {
	var text, markdown bytes.Buffer
	r := sample()
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteMarkdown(&markdown); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"owner/model: 512 tokens of prompt, 128 generated, 6 rounds, 2 threads",
		"Some CPU · 2 cores · 17 GB · reads 14.0 GB/s · linux/amd64",
		"60.3 (58.8–61.8)",
		"× 0.83 (0.83–0.83)", // 50 / 60, round by round
		"0.40 %",             // own share
		"0.402 (0.392–0.412)",
		"mlx/4bit was not measured: mlx-lm is not set up",
		"with 97 %",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, text.String())
		}
	}
	if fast, slow := strings.Index(text.String(), "gguf/Q4_K_M"), strings.Index(text.String(), "onnx/cpu/int4"); fast < 0 || slow < fast {
		t.Errorf("the fastest is not first:\n%s", text.String())
	}
	for _, want := range []string{"| gguf/Q4_K_M | 100.0 MiB | 5.97 |", `a \| note`, "some &lt;reason>"} {
		if !strings.Contains(markdown.String(), want) {
			t.Errorf("the Markdown lacks %q:\n%s", want, markdown.String())
		}
	}
	for i := range r.Artifacts {
		r.Artifacts[i].Energy = nil
	}
	text.Reset()
	if err := r.WriteText(&text); err != nil || strings.Contains(text.String(), "J/token") {
		t.Errorf("a column of what was not measured: %v\n%s", err, text.String())
	}
}

func TestComparable(t *testing.T) {
	if err := Comparable(sample(), sample()); err != nil {
		t.Errorf("equal runs: %v", err)
	}
	for name, tt := range map[string]struct {
		change func(*Report)
		want   string
	}{
		"prompt":    {func(r *Report) { r.Settings.Prompt = 128 }, "--prompt was 512 and is 128"},
		"threads":   {func(r *Report) { r.Settings.Threads = 4 }, "--threads was 2 and is 4"},
		"rounds":    {func(r *Report) { r.Settings.Repetitions = 3 }, "--repetitions was 6 and is 3"},
		"processor": {func(r *Report) { r.Machine.CPU = "Other CPU" }, "the processor was Some CPU and is Other CPU"},
		"memory":    {func(r *Report) { r.Machine.Memory = 8 << 30 }, "the memory was 16.00 GiB and is 8.00 GiB"},
		"card":      {func(r *Report) { r.Machine.Devices = []string{"card"} }, "the devices was not told and is card"},
		"model":     {func(r *Report) { r.Model = "owner/other" }, "the model was owner/model and is owner/other"},
		"version":   {func(r *Report) { r.Version++ }, "bench_version"},
	} {
		now := sample()
		tt.change(now)
		var different *DifferentError
		if err := Comparable(sample(), now); !errors.As(err, &different) || len(different.Differences) != 1 || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if err := WriteChanges(&bytes.Buffer{}, sample(), now); err == nil {
			t.Errorf("%s: changes were written", name)
		}
	}
	// Findings of the run and versions of runtimes may differ.
	now := sample()
	now.Machine.Bandwidth, now.Machine.Busy, now.Artifacts[0].Runtime = 1, nil, "onnxruntime 1.33.0"
	if err := Comparable(sample(), now); err != nil {
		t.Error(err)
	}
}

func TestWriteChanges(t *testing.T) {
	now := sample()
	now.Artifacts[0].Decode = newStat([]float64{75, 75, 76, 74, 75, 75})
	now.Artifacts[0].Runtime = "onnxruntime 1.33.0"
	now.Artifacts[2].Artifact = "mlx/8bit"
	var b bytes.Buffer
	if err := WriteChanges(&b, sample(), now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"× 1.49 (1.44–1.55)  ", // 75 / 50.25, 74 / 51.5 to 76 / 49, shown
		"× 1.00 (0.95–1.05) =",
		"onnx/cpu/int4 ran on onnxruntime 1.32.0, CPUExecutionProvider, now on onnxruntime 1.33.0, CPUExecutionProvider",
		"mlx/8bit is new", "mlx/4bit was there and is not now",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, b.String())
		}
	}
}

func TestRatio(t *testing.T) {
	// Rounds that were slow for both: the ratio is steady though the figures are not.
	a, b := newStat([]float64{20, 10, 40, 20, 10, 40}), newStat([]float64{10, 5, 20, 10, 5, 20})
	if r := Ratio(a, b); r.Median != 2 || r.Low != 2 || r.High != 2 {
		t.Errorf("in turns: %+v", r)
	}
	if r := Ratio(a, newStat([]float64{10, 20})); r.Low != 0.5 || r.High != 4 {
		t.Errorf("not in turns: %+v", r)
	}
	if r := Ratio(a, nil); r != nil {
		t.Errorf("over nothing: %+v", r)
	}
}
