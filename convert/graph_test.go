package convert_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
	"github.com/llama-pajamas/llama-pajamas/convert/toonnx"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/internal/reference"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tensor"
	"github.com/llama-pajamas/llama-pajamas/verify"
)

// TestGraphs converts every tiny checkpoint with float32 and base recipes and
// wants the logits of the reference forward pass at every position, through
// ONNX Runtime, in one run and token by token.
func TestGraphs(t *testing.T) {
	backend := openBackend(t)
	for _, v := range tinymodel.Variants() {
		t.Run(v.Name, func(t *testing.T) {
			src, out := filepath.Join(t.TempDir(), v.Name), t.TempDir()
			if err := tinymodel.Write(src, v); err != nil {
				t.Fatal(err)
			}
			run(t, src, convert.Options{Output: out, Targets: []convert.Target{{Name: "cpu", Recipes: []string{"fp32", "int8"}}}})
			verifyReference(t, src, filepath.Join(out, "onnx"))
			tokens, want := referenceLogits(t, v)
			// float32 is exact to rounding; the other bounds are what 16-bit
			// and 8-bit weights cost these random models, with a margin.
			for _, c := range []struct {
				dir              string
				absolute, factor float64
			}{{"cpu/fp32", 2e-4, 1e-5}, {"base/fp16", 5e-3, 5e-3}, {"cpu/int8", 0.1, 0.1}} {
				dir := filepath.Join(out, "onnx", filepath.FromSlash(c.dir))
				compareAll(t, backend, dir, tokens, want, c.absolute, c.factor)
				compareSteps(t, backend, dir, tokens, want, c.absolute, c.factor)
			}
		})
	}
}

// referenceLogits runs some tokens through the plain forward pass.
func referenceLogits(t *testing.T, v tinymodel.Variant) (tokens []int32, logits [][]float32) {
	t.Helper()
	spec, get, err := tinymodel.Load(v)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := reference.New(spec, get)
	if err != nil {
		t.Fatal(err)
	}
	tokens = make([]int32, 40)
	for i := range tokens {
		tokens[i] = int32((i*37 + 11) % 500)
	}
	return tokens, ref.Forward(tokens)
}

// compareAll evaluates every position in one run.
func compareAll(t *testing.T, b *onnxruntime.Backend, dir string, tokens []int32, want [][]float32, absolute, factor float64) {
	t.Helper()
	s := open(t, b, dir, infer.OpenOptions{AllLogits: true})
	defer s.Close()
	n := 0
	err := s.EvalAll(context.Background(), tokens, func(pos int, got []float32) error {
		n++
		return near(fmt.Sprintf("%s, position %d", dir, pos), got, want[pos], absolute, factor)
	})
	if err != nil {
		t.Error(err)
	}
	if err == nil && n != len(tokens) {
		t.Errorf("%s: logits of %d positions, want %d", dir, n, len(tokens))
	}
}

// compareSteps evaluates a prompt, then one token at a time: the cache's work.
func compareSteps(t *testing.T, b *onnxruntime.Backend, dir string, tokens []int32, want [][]float32, absolute, factor float64) {
	t.Helper()
	s := open(t, b, dir, infer.OpenOptions{})
	defer s.Close()
	for from, to := 0, 9; to <= len(tokens); from, to = to, to+1 {
		got, err := s.Eval(context.Background(), tokens[from:to])
		if err == nil {
			err = near(fmt.Sprintf("%s, step to %d", dir, to), got, want[to-1], absolute, factor)
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// near wants |got-want| ≤ absolute + factor·max|want| everywhere, and the same
// best token unless the two best lie within that bound.
func near(what string, got, want []float32, absolute, factor float64) error {
	if len(got) != len(want) {
		return fmt.Errorf("%s: %d logits, want %d", what, len(got), len(want))
	}
	largest, delta, bestGot, bestWant := 0.0, 0.0, 0, 0
	for i := range want {
		largest = math.Max(largest, math.Abs(float64(want[i])))
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if math.IsNaN(d) {
			return fmt.Errorf("%s: logit %d is %v, want %v", what, i, got[i], want[i])
		}
		delta = math.Max(delta, d)
		if got[i] > got[bestGot] {
			bestGot = i
		}
		if want[i] > want[bestWant] {
			bestWant = i
		}
	}
	bound := absolute + factor*largest
	if delta > bound {
		return fmt.Errorf("%s: largest difference of logits %.2g, want at most %.2g (largest logit %.3g)", what, delta, bound, largest)
	}
	if bestGot != bestWant && float64(want[bestWant]-want[bestGot]) > 2*bound {
		return fmt.Errorf("%s: best token %d, want %d", what, bestGot, bestWant)
	}
	return nil
}

func openBackend(t *testing.T) *onnxruntime.Backend {
	t.Helper()
	b, err := onnxruntime.New(onnxruntime.Options{Library: oracle.Library(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func open(t *testing.T, b *onnxruntime.Backend, dir string, o infer.OpenOptions) infer.Session {
	t.Helper()
	f, err := modeldir.Open(filepath.Join(dir, modeldir.ModelFile))
	if err != nil {
		t.Fatal(err)
	}
	o.Threads = 1
	s, err := b.Open(context.Background(), f, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run converts a checkpoint, without verification.
func run(t *testing.T, src string, o convert.Options) *convert.Job {
	t.Helper()
	ctx := context.Background()
	ck, err := checkpoint.Open(ctx, src, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	job, err := convert.New(ctx, ck, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Write(ctx); err != nil {
		t.Fatal(err)
	}
	for _, f := range job.Failures() {
		t.Fatalf("%s: %v", f.Dir, f.Err)
	}
	if err := job.WriteMetadata(ctx); err != nil {
		t.Fatal(err)
	}
	if err := job.Publish(); err != nil {
		t.Fatal(err)
	}
	return job
}

// TestLongRoPE wants runs that end beyond the original context to turn by
// longrope's other factors, as the plain forward pass does: a long prompt, and
// steps across the border.
func TestLongRoPE(t *testing.T) {
	backend := openBackend(t)
	v, err := tinymodel.ByName("phi4")
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	run(t, tiny(t, v.Name), convert.Options{Output: out, Targets: []convert.Target{{Name: "cpu", Recipes: []string{"fp32"}}}})
	spec, get, err := tinymodel.Load(v)
	if err != nil {
		t.Fatal(err)
	}
	tokens := make([]int32, 70)
	for i := range tokens {
		tokens[i] = int32((i*37 + 11) % 500)
	}
	for _, c := range []struct {
		dir              string
		absolute, factor float64
	}{{"cpu/fp32", 2e-4, 1e-5}, {"base/fp16", 5e-3, 5e-3}} {
		dir := filepath.Join(out, "onnx", filepath.FromSlash(c.dir))
		for _, prompt := range []int{70, 60, 40} { // the original context is 48
			ref, err := reference.New(spec, get)
			if err != nil {
				t.Fatal(err)
			}
			s := open(t, backend, dir, infer.OpenOptions{})
			for from, to := 0, prompt; to <= len(tokens); from, to = to, to+1 {
				rows := ref.Forward(tokens[from:to])
				got, err := s.Eval(t.Context(), tokens[from:to])
				if err == nil {
					err = near(fmt.Sprintf("%s, prompt of %d, step to %d", c.dir, prompt, to), got, rows[len(rows)-1], c.absolute, c.factor)
				}
				if err != nil {
					t.Error(err)
					break
				}
			}
			s.Close()
		}
	}
}

// TestMixturesRefused wants mixtures of experts refused where they are not done:
// in every dialect of ONNX, and by the probe.
func TestMixturesRefused(t *testing.T) {
	for _, v := range tinymodel.Mixtures() {
		spec, get, err := tinymodel.Load(v)
		if err != nil {
			t.Fatal(err)
		}
		var unsupported *tensor.UnsupportedError
		for _, r := range [][2]string{{"cpu", "int8"}, {"base", "fp16"}, {"tensorrt", "int8"}, {"coreml", "int8"}} {
			rec, err := recipe.Load(r[0], r[1])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := toonnx.Build(spec, rec, toonnx.Options{}); !errors.As(err, &unsupported) || !strings.Contains(err.Error(), "mixture of experts") {
				t.Errorf("%s for %s: %v, want an UnsupportedError", v.Name, r[0], err)
			}
		}
		if _, err := calibrate.Probe(t.Context(), spec, get, calibrate.Options{}); !errors.As(err, &unsupported) {
			t.Errorf("probe of %s: %v, want an UnsupportedError", v.Name, err)
		}
	}
}

// TestInt8Cache wants nearly the reference's logits from float32 weights with an
// int8 cache, in one run and token by token.
func TestInt8Cache(t *testing.T) {
	backend := openBackend(t)
	recipe := filepath.Join(t.TempDir(), "kv8.json")
	err := os.WriteFile(recipe, []byte(`{"name": "kv8", "summary": "test", "target": "cpu", "precision": "fp32",
		"dialect": "fused", "activations": "float32", "kv_cache": "int8", "rules": [{"bits": 32}]}`), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"smollm2", "qwen3", "llama2", "gemma3", "phi4"} {
		v, err := tinymodel.ByName(name)
		if err != nil {
			t.Fatal(err)
		}
		out := t.TempDir()
		run(t, tiny(t, name), convert.Options{Output: out, NoBase: true, Targets: []convert.Target{{Name: "cpu", Recipes: []string{recipe}}}})
		tokens, want := referenceLogits(t, v)
		dir := filepath.Join(out, "onnx", "cpu", "kv8")
		compareAll(t, backend, dir, tokens, want, 0.02, 0.05)
		compareSteps(t, backend, dir, tokens, want, 0.02, 0.05)
	}
}

// verifyReference converts again with the reference that verify uses, and wants
// no difference between it and the float32 artifact.
func verifyReference(t *testing.T, src, onnx string) {
	t.Helper()
	ctx := context.Background()
	ck, err := checkpoint.Open(ctx, src, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	job, err := convert.New(ctx, ck, convert.Options{Output: t.TempDir(), NoBase: true, Targets: []convert.Target{{Name: "cpu", Recipes: []string{"int4"}}}, Reference: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Write(ctx); err != nil {
		t.Fatal(err)
	}
	lib, err := ort.Open(oracle.Library(t))
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range job.Artifacts {
		if !a.Reference {
			continue
		}
		for _, free := range []int64{0, 1} { // whole, and layer by layer
			got, err := verify.Run(ctx, verify.Options{Library: lib, Reference: job.Staged(i), Artifacts: []string{filepath.Join(onnx, "cpu", "fp32"), filepath.Join(onnx, "base", "fp16")}, Tokens: 32, Threads: 1, FreeMemory: free})
			if err != nil {
				t.Fatal(err)
			}
			if f := got[0].Fidelity; f.KLMean > 1e-8 || f.MaxAbsDelta > 1e-3 {
				t.Errorf("float32 against its own reference: KL %g, largest difference %g", f.KLMean, f.MaxAbsDelta)
			}
			if f := got[1].Fidelity; f.KLMean > 1e-3 || f.KLMean == 0 || len(f.Ranges) == 0 {
				t.Errorf("base against the reference: KL %g, %d ranges", f.KLMean, len(f.Ranges))
			}
		}
	}
}
