package report

import (
	"math"
	"time"
)

// around is an estimate with an interval of so many per cent.
func around(v, percent float64) *Estimate {
	return &Estimate{v, v * (1 - percent/100), v * (1 + percent/100)}
}

// fixture is a page as a comparison fills it: every kind of row, figures of the
// size that SmolLM2-135M has. They are made up.
func fixture() *Page {
	const mib = 1 << 20
	p := &Page{
		Model: "SmolLM2-135M-Instruct", Program: "llama-pajamas 0.2.0",
		Command:   "llama-pajamas-quant compare --model models/x --num-questions 12 --formats gguf,mlx,onnx --output models/x/BENCHMARK_COMPARISON.md",
		Date:      time.Date(2026, 11, 26, 16, 30, 0, 0, time.UTC),
		Machine:   []Fact{{"processor", "Example CPU, 2 cores"}, {"system", "linux/amd64"}, {"memory", "15.6 GiB"}},
		Versions:  []Fact{{"onnxruntime", "1.32.0"}, {"llama.cpp", "v0.5.0"}},
		Settings:  []Fact{{"prompt", "512 tokens"}, {"rounds", "5"}},
		Reference: "base/fp16 artifact of the same folder", Text: "a text inside this program, 1024 tokens",
		Categories: []string{"knowledge", "mathematics"},
		Warnings:   []string{"other programs used 38 % of the cores during the rounds: trust no small difference of speed"},
		Missing:    []Missing{{"speed", []string{"onnx/tensorrt/int8", "onnx/tensorrt/int4"}, "this machine has no TensorRT"}},
		Notes:      []string{"Medians of 5 rounds in turns."},
	}
	for i, r := range []struct {
		artifact, format, target, recipe, precision string
		mib, bits, kl, loss, decode                 float64
		basis                                       Basis
	}{
		{"onnx/base/fp16", "onnx", "base", "fp16", "fp16", 258.7, 16.01, 0, 0, 11.2, OnDevice},
		{"onnx/cpu/int4", "onnx", "cpu", "int4", "int4", 97.5, 5.97, 0.0504, 0.0456, 61, OnDevice},
		{"onnx/cpu/int8", "onnx", "cpu", "int8", "int8", 138.3, 8.52, 0.0018, -0.0034, 45, OnDevice},
		{"onnx/tensorrt/int8", "onnx", "tensorrt", "int8", "int8", 131.2, 8.04, 0.0092, 0.0181, 0, Arithmetic},
		{"onnx/tensorrt/int4", "onnx", "tensorrt", "int4", "int4", 83.4, 5.08, 0.1714, 0.1566, 0, Arithmetic},
		{"onnx/coreml/int8", "onnx", "coreml", "int8", "int8", 132.5, 8.07, 0.0048, 0.0060, 0, Arithmetic},
		{"onnx/coreml/int4", "onnx", "coreml", "int4", "int4", 95.9, 5.80, 0.0593, 0.0460, 0, Arithmetic},
		{"gguf/Q8_0", "gguf", "llama.cpp", "Q8_0", "", 138.1, 8.5, 0.0020, 0.0011, 43, OnDevice},
		{"gguf/Q4_K_M", "gguf", "llama.cpp", "Q4_K_M", "", 100.2, 6.2, 0.0448, 0.041, 52, OnDevice},
		{"gguf/Q4_0", "gguf", "llama.cpp", "Q4_0", "", 87.4, 5.4, 0.0892, 0.093, 58, OnDevice},
		{"mlx/4bit", "mlx", "mlx", "4bit", "", 72.3, 4.5, 0.131, 0.14, 9, OnCPU},
		{"mlx/8bit", "mlx", "mlx", "8bit", "", 136.4, 8.5, 0.0021, 0.002, 8.1, OnCPU},
	} {
		row := Row{
			Artifact: r.artifact, Format: r.format, Target: r.target, Recipe: r.recipe, Precision: r.precision,
			Bytes: int64(r.mib * mib), BitsPerWeight: r.bits, Basis: r.basis, Reference: i == 0,
		}
		if i > 0 {
			row.KL, row.Top1 = around(r.kl, 6), around(1-math.Sqrt(r.kl)/2, 1)
			row.Loss = &Estimate{r.loss, r.loss - 0.011, r.loss + 0.011}
			row.Recorded = r.basis == Arithmetic
		}
		right := 7 - i/3
		row.Questions = &Questions{
			Total:      Score{right, 12, &Estimate{float64(right) / 12, float64(right)/12 - 0.25, float64(right)/12 + 0.25}},
			Categories: []Score{{right / 2, 6, nil}, {right - right/2, 6, nil}},
		}
		row.Questions.Reference = i == 0
		if i > 0 {
			row.Questions.Difference, row.Questions.P = &Estimate{float64(right-7) / 12, float64(right-7)/12 - 0.1, float64(right-7)/12 + 0.1}, 0.625
		}
		if r.basis == Arithmetic {
			row.Questions = nil
		}
		if r.decode > 0 {
			gap := 1 / r.decode
			row.Speed = &Speed{
				Runtime: r.format, Decode: around(r.decode, 3), Prefill: around(r.decode*9, 5), FirstToken: around(512/(r.decode*9), 5),
				P50: around(gap, 1), P95: around(1.2*gap, 2), P99: around(1.5*gap, 8), LoadWarm: around(0.3, 10),
				Memory: row.Bytes + 80*mib, Ceiling: 120, Share: r.decode / 120,
			}
		}
		p.Rows = append(p.Rows, row)
	}
	return p
}
