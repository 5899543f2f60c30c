package verify_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/verify"
)

// staged converts a tiny checkpoint and returns the folders of its reference
// and of its artifacts by recipe.
func staged(t *testing.T, recipes ...string) (reference string, artifacts map[string]string) {
	t.Helper()
	v, err := tinymodel.ByName("smollm2")
	if err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(t.TempDir(), v.Name)
	if err := tinymodel.Write(src, v); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	ck, err := checkpoint.Open(ctx, src, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	job, err := convert.New(ctx, ck, convert.Options{Output: t.TempDir(), Reference: true, Targets: []convert.Target{{Name: "cpu", Recipes: recipes}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Write(ctx); err != nil {
		t.Fatal(err)
	}
	artifacts = map[string]string{}
	for i, a := range job.Artifacts {
		if a.Reference {
			reference = job.Staged(i)
			continue
		}
		artifacts[a.Recipe.Name] = job.Staged(i)
	}
	return reference, artifacts
}

func run(t *testing.T, o verify.Options) ([]verify.Result, error) {
	t.Helper()
	lib, err := ort.Open(oracle.Library(t))
	if err != nil {
		t.Fatal(err)
	}
	o.Library, o.Threads, o.Tokens = lib, 1, 48
	return verify.Run(context.Background(), o)
}

func TestRun(t *testing.T) {
	ref, dirs := staged(t, "int8", "int4")
	var shares []float64
	got, err := run(t, verify.Options{
		Reference: ref, Artifacts: []string{dirs["int8"], dirs["int4"]},
		Progress: func(s float64) { shares = append(shares, s) },
	})
	if err != nil {
		t.Fatal(err)
	}
	int8, int4 := got[0].Fidelity, got[1].Fidelity
	if int8.Tokens != 48 || !(int8.KLMean > 0 && int8.KLMean < int4.KLMean) {
		t.Errorf("int8: KL %g on %d tokens, int4: KL %g; want 0 < int8 < int4 on 48 tokens", int8.KLMean, int8.Tokens, int4.KLMean)
	}
	if n := len(shares); n == 0 || shares[n-1] != 1 {
		t.Errorf("progress %v does not end at 1", shares)
	}
}

func TestFar(t *testing.T) {
	for _, c := range []struct {
		precision string
		kl        float64
		far       bool
	}{
		{"fp16", 0.01, false}, {"fp16", 0.011, true}, {"int8", 0.1, false}, {"int8", 0.2, true},
		{"fp32", 0.002, true}, {"int4", 3, false}, {"int8", math.NaN(), true},
	} {
		if got := verify.Far(c.precision, c.kl); (got != "") != c.far {
			t.Errorf("%s with KL %g: %q, want a problem: %v", c.precision, c.kl, got, c.far)
		}
	}
}

// TestDamage wants verify to see what a load alone does not: weights that are
// not the checkpoint's.
func TestDamage(t *testing.T) {
	ref, dirs := staged(t, "int8")
	name := filepath.Join(dirs["int8"], modeldir.DataFile)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	sound, err := run(t, verify.Options{Reference: ref, Artifacts: []string{dirs["int8"]}})
	if err != nil {
		t.Fatal(err)
	}
	for i := len(b) / 2; i < len(b)/2+2000; i++ {
		b[i] ^= 0x55
	}
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	broken, err := run(t, verify.Options{Reference: ref, Artifacts: []string{dirs["int8"]}})
	if err == nil && broken[0].Fidelity.KLMean < 10*sound[0].Fidelity.KLMean {
		t.Errorf("damaged weights: KL %g, sound ones %g", broken[0].Fidelity.KLMean, sound[0].Fidelity.KLMean)
	}
	if err := os.Truncate(name, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, verify.Options{Reference: ref, Artifacts: []string{dirs["int8"]}}); err == nil || !strings.Contains(err.Error(), modeldir.DataFile) {
		t.Errorf("truncated weights: got %v, want an error that names the file", err)
	}
}

// TestRanges makes base's gate projection twenty thousand times as large by a
// node in its graph, and wants the tensors behind it named.
func TestRanges(t *testing.T) {
	ref, dirs := staged(t)
	base := dirs["fp16"]
	sound, err := run(t, verify.Options{Reference: ref, Artifacts: []string{base}})
	if err != nil {
		t.Fatal(err)
	}
	if len(sound[0].Problems) != 0 || len(sound[0].Fidelity.Ranges) == 0 {
		t.Fatalf("sound base: problems %v, %d ranges", sound[0].Problems, len(sound[0].Fidelity.Ranges))
	}
	path := filepath.Join(base, modeldir.ModelFile)
	f, err := onnx.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g := f.Model.Graph
	const gate = "/model/layers.0/mlp/gate_proj/MatMul/output_0"
	factor := g.Initializer(onnx.Initializer{Name: "factor", Elem: onnx.F16, Dims: []int64{}, Data: []byte{0xe2, 0x74}}) // 20000
	made := g.Index().Producer(gate)
	g.ReplaceUses(gate, "large")
	i := 0
	for ; g.Nodes[i] != made; i++ {
	}
	g.InsertBefore(g.Nodes[i+1], &onnx.Node{Op: "Mul", Name: "large", Inputs: []string{gate, factor}, Outputs: []string{"large"}})
	b, err := f.Model.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := run(t, verify.Options{Reference: ref, Artifacts: []string{base}})
	if err != nil {
		return // the CPU itself ran into an infinity: seen as well
	}
	if p := strings.Join(got[0].Problems, "\n"); !strings.Contains(p, "tensor large reaches") {
		t.Errorf("problems %q do not name the tensor that is too large", p)
	}
}
