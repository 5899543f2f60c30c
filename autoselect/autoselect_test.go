package autoselect

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// eightB are artifacts of a model of 8.2 billion parameters in all formats.
func eightB() []modeldir.Artifact {
	a := func(format, target, recipe string, gb float64) modeldir.Artifact {
		p := format + "/" + recipe
		if format == "onnx" {
			p = "onnx/" + target + "/" + recipe
		}
		return modeldir.Artifact{Path: p, Format: format, Target: target, Recipe: recipe, Bytes: int64(gb * 1e9)}
	}
	return []modeldir.Artifact{
		a("onnx", "base", "fp16", 16.4), a("onnx", "cpu", "int4", 5.2), a("onnx", "cpu", "int8", 8.7),
		a("onnx", "tensorrt", "int8", 8.8), a("onnx", "tensorrt", "int4", 5.3), a("onnx", "cuda", "int8", 8.7), a("onnx", "cuda", "int4", 5.2),
		a("onnx", "coreml", "int8", 8.7),
		a("gguf", "llama.cpp", "Q4_K_M", 5.0), a("gguf", "llama.cpp", "Q8_0", 8.7),
		a("mlx", "mlx-lm", "4bit", 4.6), a("mlx", "mlx-lm", "8bit", 8.7),
	}
}

// TestMachines ranks on descriptions of machines. Those in testdata are written
// from data sheets and from the forms the drivers' reports have; none was
// measured.
func TestMachines(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "machines.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name    string
		Machine Machine
		Want    []Runtime
		Recipe  string
		Trial   int
		Left    map[Runtime]string
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 12 {
		t.Fatalf("%d machines, want 12 or more", len(cases))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			p := Rank(c.Machine, eightB(), Force{})
			var got []Runtime
			for _, choice := range p.Choices {
				got = append(got, choice.Runtime)
				if choice.Why == "" {
					t.Errorf("%s has no reason", choice)
				}
			}
			if !slices.Equal(got, c.Want) || p.Trial != c.Trial || p.Forced {
				t.Errorf("ranked %v with %d in trial, want %v with %d\n%s", got, p.Trial, c.Want, c.Trial, p.Explain())
			}
			if len(p.Choices) > 0 && p.Choices[0].Artifact.Recipe != c.Recipe {
				t.Errorf("takes %s, want %s\n%s", p.Choices[0].Artifact.Recipe, c.Recipe, p.Explain())
			}
			if len(p.Choices)+len(p.LeftOut) != len(Runtimes()) {
				t.Errorf("%d choices and %d left out are not all %d", len(p.Choices), len(p.LeftOut), len(Runtimes()))
			}
			for r, why := range c.Left {
				i := slices.IndexFunc(p.LeftOut, func(l LeftOut) bool { return l.Runtime == r })
				if i < 0 || !strings.Contains(p.LeftOut[i].Why, why) {
					t.Errorf("%s should be left out for %q:\n%s", string(r), why, p.Explain())
				}
			}
		})
	}
}

func TestForce(t *testing.T) {
	m := Machine{OS: "linux", Arch: "amd64", Cores: 8, Memory: 64 << 30, Free: 60 << 30, Bandwidth: 40e9, Missing: map[Runtime]string{}}
	for _, tt := range []struct {
		name string
		f    Force
		want string // the first choice, or why there is none
	}{
		{"format", Force{Format: "onnx"}, "ONNX (CPU), recipe int4"},
		{"recipe", Force{Recipe: "Q8_0"}, "GGUF (llama.cpp), recipe Q8_0"},
		{"recipe in small letters", Force{Recipe: "q8_0"}, "GGUF (llama.cpp), recipe Q8_0"},
		{"runtime", Force{Runtime: CPU, Recipe: "int8"}, "ONNX (CPU), recipe int8"},
		{"target", Force{Runtime: CPU, Target: "base"}, "ONNX (CPU), recipe fp16"},
		{"MLX on a CPU", Force{Format: "mlx"}, "MLX, recipe 4bit"},
		{"no card", Force{Runtime: TensorRT}, "there is no NVIDIA card"},
		{"no such recipe", Force{Runtime: CPU, Recipe: "int2"}, "it has no recipe int2; there are"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := Rank(m, eightB(), tt.f)
			if !p.Forced || p.Trial != 0 {
				t.Errorf("forced %v, trial %d", p.Forced, p.Trial)
			}
			if len(p.Choices) == 0 {
				if !strings.Contains(p.Explain(), tt.want) {
					t.Errorf("no choice:\n%s", p.Explain())
				}
				return
			}
			if got := p.Choices[0].String(); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
	if p := Rank(m, nil, Force{}); len(p.Choices) != 0 || !strings.Contains(p.Explain(), "no artifact for it (cpu, base)") {
		t.Errorf("a folder without artifacts:\n%s", p.Explain())
	}
	if p := Rank(m, eightB()[10:], Force{}); len(p.Choices) != 1 || p.Choices[0].Runtime != MLX || p.Forced {
		t.Errorf("MLX alone on a CPU:\n%s", p.Explain())
	}
	two := []modeldir.Artifact{{Path: "gguf/F16", Format: "gguf", Target: "llama.cpp", Recipe: "F16", Bytes: 2e8}, {Path: "gguf/Q8_0", Format: "gguf", Target: "llama.cpp", Recipe: "Q8_0", Bytes: 1e8}}
	if p := Rank(m, two, Force{}); p.Choices[0].Artifact.Recipe != "Q8_0" {
		t.Errorf("floats before 8 bits:\n%s", p.Explain())
	}
	if p := Rank(m, two, Force{Recipe: "f16"}); p.Choices[0].Artifact.Recipe != "F16" {
		t.Errorf("floats asked for:\n%s", p.Explain())
	}
	base := Rank(m, eightB()[:1], Force{})
	if len(base.Choices) != 1 || base.Choices[0].Artifact.Target != "base" {
		t.Errorf("base alone:\n%s", base.Explain())
	}
}

func TestFirst(t *testing.T) {
	m := Machine{OS: "linux", Arch: "amd64", Memory: 64 << 30}
	p := Rank(m, eightB(), Force{})
	broken := errors.New("it is broken")
	var warned []string
	warn := func(f Failure, next Choice) {
		warned = append(warned, f.Choice.String()+": "+f.Err.Error()+" -> "+next.String())
	}
	open := func(bad ...Runtime) func(context.Context, Choice) (string, error) {
		return func(_ context.Context, c Choice) (string, error) {
			if slices.Contains(bad, c.Runtime) {
				return "", broken
			}
			return string(c.Runtime), nil
		}
	}
	if v, c, err := First(t.Context(), p, open(), warn); v != "llama.cpp" || c.Runtime != LlamaCpp || err != nil || warned != nil {
		t.Errorf("%s, %v, %v", v, err, warned)
	}
	v, _, err := First(t.Context(), p, open(LlamaCpp), warn)
	if v != "cpu" || err != nil || len(warned) != 1 || warned[0] != "GGUF (llama.cpp), recipe Q4_K_M: it is broken -> ONNX (CPU), recipe int4" {
		t.Errorf("%s, %v, %q", v, err, warned)
	}
	warned = nil
	_, _, err = First(t.Context(), p, open(LlamaCpp, CPU), warn)
	var all *FailedError
	if !errors.As(err, &all) || !errors.Is(err, broken) || len(all.Failed) != 2 || !strings.Contains(err.Error(), "no NVIDIA card") || len(warned) != 1 {
		t.Errorf("all broken: %v, %q", err, warned)
	}
	forced := Rank(m, eightB(), Force{Format: "gguf"})
	warned = nil
	if _, _, err := First(t.Context(), forced, open(LlamaCpp), warn); !errors.Is(err, broken) || errors.As(err, &all) || warned != nil {
		t.Errorf("forced: %v, %q", err, warned)
	}
	if _, _, err := First(t.Context(), Rank(m, nil, Force{}), open(), warn); !errors.As(err, &all) {
		t.Errorf("no choice: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err = First(ctx, p, func(context.Context, Choice) (string, error) { cancel(); return "", ctx.Err() }, warn)
	if !errors.Is(err, context.Canceled) || errors.As(err, &all) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestTrials(t *testing.T) {
	m := Machine{OS: "linux", Arch: "amd64", CPU: "x", Memory: 64 << 30}
	p := Rank(m, eightB(), Force{})
	tr := Trials{Dir: t.TempDir()}
	n := 0
	measure := func(rates map[Runtime]float64) func(context.Context, Choice) (float64, error) {
		return func(_ context.Context, c Choice) (float64, error) {
			n++
			if rates[c.Runtime] == 0 {
				return 0, errors.New("it is broken")
			}
			return rates[c.Runtime], nil
		}
	}
	settle := func(m Machine, model string, rates map[Runtime]float64) Plan {
		t.Helper()
		n = 0
		got, err := tr.Settle(t.Context(), m, model, p, measure(rates))
		if err != nil || len(got.Choices) != len(p.Choices) {
			t.Fatalf("%v, %v", got, err)
		}
		return got
	}
	got := settle(m, "a", map[Runtime]float64{CPU: 20, LlamaCpp: 10})
	if got.Choices[0].Runtime != CPU || n != 2 || got.Choices[0].Why != "20.0 tokens/s in a trial" {
		t.Errorf("%d trials\n%s", n, got.Explain())
	}
	// Remembered: not measured again, whatever it would be.
	got = settle(m, "a", map[Runtime]float64{CPU: 1, LlamaCpp: 100})
	if got.Choices[0].Runtime != CPU || n != 0 || !strings.HasPrefix(got.Choices[0].Why, "20.0 tokens/s in a trial of 2") {
		t.Errorf("%d trials\n%s", n, got.Explain())
	}
	other := m
	other.CPU = "y"
	if got = settle(other, "a", map[Runtime]float64{CPU: 1, LlamaCpp: 100}); got.Choices[0].Runtime != LlamaCpp || n != 2 {
		t.Errorf("another machine: %d trials\n%s", n, got.Explain())
	}
	// Failures are put last and not remembered.
	for range 2 {
		got = settle(m, "b", map[Runtime]float64{CPU: 1})
		if got.Choices[0].Runtime != CPU || n != 2 || !strings.Contains(got.Choices[1].Why, "broken") {
			t.Errorf("one broken: %d trials\n%s", n, got.Explain())
		}
	}
	// A damaged memory is a new trial.
	files, err := filepath.Glob(filepath.Join(tr.Dir, "autoselect", "*.json"))
	if err != nil || len(files) != 2 {
		t.Fatalf("remembered %v, %v", files, err)
	}
	for _, f := range files {
		if err := os.WriteFile(f, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if settle(m, "a", map[Runtime]float64{CPU: 20, LlamaCpp: 10}); n != 2 {
		t.Errorf("damaged: %d trials", n)
	}
	// One alone needs none.
	one := p
	one.Trial = 0
	n = 0
	if _, err := tr.Settle(t.Context(), m, "a", one, measure(nil)); err != nil || n != 0 {
		t.Errorf("%d trials, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tr.Settle(ctx, m, "c", p, measure(nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestProbe(t *testing.T) {
	m := Probe(t.Context())
	if m.OS != runtime.GOOS || m.Arch != runtime.GOARCH || m.CPU == "" || m.Cores < 1 || m.Memory == 0 || m.Free > m.Memory {
		t.Errorf("%+v", m)
	}
	m.Bandwidth = MeasureBandwidth(t.Context(), m.Cores)
	if m.Bandwidth < 2e8 || m.Bandwidth > 1e13 {
		t.Errorf("%.3g bytes a second", m.Bandwidth)
	}
	if !strings.Contains(m.String(), "GB/s") {
		t.Errorf("%s", m.String())
	}
	t.Log(m.String())
}
