package verify_test

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/fidelity"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/verify"
)

// staged converts a tiny checkpoint for the CPU and returns the folders of its
// reference and of its artifacts by recipe.
func staged(t *testing.T, recipes ...string) (reference string, artifacts map[string]string) {
	t.Helper()
	return stagedFor(t, "cpu", recipes...)
}

func stagedFor(t *testing.T, target string, recipes ...string) (reference string, artifacts map[string]string) {
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
	job, err := convert.New(ctx, ck, convert.Options{Output: t.TempDir(), Reference: true, Targets: []convert.Target{{Name: target, Recipes: recipes}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Write(ctx); err != nil {
		t.Fatal(err)
	}
	if err := job.WriteMetadata(ctx); err != nil {
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
	o.Library, o.Threads, o.TempDir = lib, 1, t.TempDir()
	if o.Tokens == 0 && o.ReferenceLogits == "" {
		o.Tokens = 48
	}
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

// TestWays wants the same figures whether models run whole or layer by layer,
// against a reference that runs or its kept logits.
func TestWays(t *testing.T) {
	ref, dirs := staged(t, "int4")
	o := verify.Options{Artifacts: []string{dirs["int4"]}, Definition: fidelity.Definition{Kind: fidelity.Windows, Window: 20}}
	kept := filepath.Join(t.TempDir(), "ref.logits")
	var all []modeldir.Fidelity
	for _, way := range []func(o *verify.Options){
		func(o *verify.Options) { o.Reference, o.SaveLogits = ref, kept },
		func(o *verify.Options) { o.Reference, o.FreeMemory = ref, 1 },
		func(o *verify.Options) { o.ReferenceLogits, o.Definition = kept, fidelity.Definition{} },
	} {
		o := o
		way(&o)
		got, err := run(t, o)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, got[0].Fidelity)
	}
	whole, layers := all[0], all[1]
	if whole.Scope != "whole model" || layers.Scope != "layer by layer" || whole.Definition != "windows:20" || whole.Tokens != 48 {
		t.Errorf("whole: %+v\nlayers: %+v", whole, layers)
	}
	if math.Abs(whole.KLMean-layers.KLMean) > 1e-6 || whole.Perplexity/layers.Perplexity-1 > 1e-6 {
		t.Errorf("whole: KL %g, perplexity %g; layer by layer: %g, %g", whole.KLMean, whole.Perplexity, layers.KLMean, layers.Perplexity)
	}
	if !reflect.DeepEqual(whole, all[2]) {
		t.Errorf("with kept logits %+v, want %+v", all[2], whole)
	}
	// Windows see less than the whole text does.
	long, err := run(t, verify.Options{Reference: ref, Artifacts: o.Artifacts})
	if err != nil {
		t.Fatal(err)
	}
	if long[0].Fidelity.Perplexity == whole.Perplexity {
		t.Error("windows of 20 and of 48 tokens give the same perplexity")
	}
	for name, o := range map[string]verify.Options{
		"are by windows:20, not second-half:8": {ReferenceLogits: kept, Definition: fidelity.Definition{Kind: fidelity.SecondHalf, Window: 8}},
		"are of 48 tokens, 60 are wanted":      {ReferenceLogits: kept, Tokens: 60},
		"neither a reference nor an artifact":  {},
	} {
		if _, err := run(t, o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want one that the logits %s", err, name)
		}
	}
}

// TestFixed runs a graph of 64 tokens and a cache that its caller keeps over
// two full runs and one with padding. A wrong row of the cache, mask or
// position costs far more than 8 bits do: rows copied one too far make the
// largest KL 1.2, sound runs have 0.04.
func TestFixed(t *testing.T) {
	ref, dirs := stagedFor(t, "coreml", "int8")
	dir := dirs["int8"]
	if _, err := os.Stat(filepath.Join(dir, modeldir.PrefillFile)); err != nil {
		t.Fatal(err)
	}
	for _, tokens := range []int{150, 40} {
		got, err := run(t, verify.Options{Reference: ref, Artifacts: []string{dir}, Tokens: tokens})
		if err != nil {
			t.Fatal(err)
		}
		f := got[0].Fidelity
		if f.Tokens != tokens || !(f.KLMax < 0.2) || f.Arithmetic != verify.Plain || len(f.Ranges) == 0 {
			t.Errorf("%d tokens: largest KL %g on %d tokens, arithmetic %q, %d ranges", tokens, f.KLMax, f.Tokens, f.Arithmetic, len(f.Ranges))
		}
	}
}

// TestPlain writes the same weights as floats and as DequantizeLinear, and
// wants the same logits: fused, the activations would be rounded to 8 bits too.
func TestPlain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "float.json")
	if err := os.WriteFile(file, []byte(`{"name": "float", "summary": "standard operators in float32", "target": "base",
		"precision": "fp32", "dialect": "standard", "activations": "float32", "rules": [{"bits": 32}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, dirs := stagedFor(t, "base", file)
	floats := dirs["float"]
	quantized := t.TempDir()
	if err := os.CopyFS(quantized, os.DirFS(floats)); err != nil {
		t.Fatal(err)
	}
	for dir, q := range map[string]bool{floats: false, quantized: true} {
		edit(t, dir, func(g *onnx.Graph) { eightBits(g, q) })
	}
	got, err := run(t, verify.Options{Reference: floats, Artifacts: []string{quantized}})
	if err != nil {
		t.Fatal(err)
	}
	f := got[0].Fidelity
	if f.Arithmetic != verify.Plain || f.MaxAbsDelta > 1e-3 || f.KLMean > 1e-8 {
		t.Errorf("arithmetic %q, largest difference %g, KL %g", f.Arithmetic, f.MaxAbsDelta, f.KLMean)
	}
}

// eightBits replaces the down projections of a graph by 8-bit weights with a
// scale per column, stored as such or multiplied out.
func eightBits(g *onnx.Graph, stored bool) {
	index := g.Index()
	for _, n := range slices.Clone(g.Nodes) {
		if n.Op != "MatMul" || !strings.Contains(n.Name, "down_proj") {
			continue
		}
		w := index.Initializer(index.Producer(n.Inputs[1]).Inputs[0])
		cols, rows := w.Dims[0], w.Dims[1]
		r := rand.New(rand.NewPCG(uint64(rows), 7))
		q, scales, f := make([]byte, rows*cols), make([]float32, cols), make([]float32, rows*cols)
		for i := range scales {
			scales[i] = 0.001 * (1 + r.Float32())
		}
		for i := range q {
			q[i] = byte(r.Uint32())
			f[i] = float32(int8(q[i])) * scales[i%int(cols)]
		}
		name := n.Name + ".weight"
		if !stored {
			t := onnx.ConstTensor([]int64{rows, cols}, f...)
			t.Name = name
			n.Inputs[1] = g.Initializer(t)
			continue
		}
		s := onnx.ConstTensor(nil, scales...)
		s.Name = name + ".scales"
		g.Initializer(s)
		g.Initializer(onnx.Initializer{Name: name + ".q", Elem: onnx.I8, Dims: []int64{rows, cols}, Data: q})
		g.InsertBefore(n, &onnx.Node{Op: "DequantizeLinear", Name: name, Inputs: []string{name + ".q", s.Name}, Outputs: []string{name}, Attrs: []onnx.Attr{onnx.Int("axis", 1)}})
		n.Inputs[1] = name
	}
}

// edit rewrites the graph of an artifact.
func edit(t *testing.T, dir string, change func(*onnx.Graph)) {
	t.Helper()
	path := filepath.Join(dir, modeldir.ModelFile)
	f, err := onnx.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	change(f.Model.Graph)
	f.Model.Graph.Prune()
	b, err := f.Model.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestReadStored damages an artifact in one place each.
func TestReadStored(t *testing.T) {
	_, dirs := staged(t, "int4")
	good := dirs["int4"]
	s, err := verify.ReadStored(context.Background(), good)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Problems) > 0 || s.BitsPerWeight != s.Metadata.Size.BitsPerWeight {
		t.Errorf("a sound artifact: %q, %g bits", s.Problems, s.BitsPerWeight)
	}
	bits := map[string]float64{}
	var elements int64
	for _, m := range s.Matrices {
		bits[m.Name] = m.Bits()
		elements += m.Elements
	}
	// Rows of 96: 48 bytes of integers, three float16 scales, three zero points
	// of half a byte in two.
	if got := bits["model.layers.*.self_attn.o_proj"]; got != 8*(48+6+2)/96.0 {
		t.Errorf("o_proj has %g bits of %v", got, bits)
	}
	norms := int64(s.Metadata.Architecture.Hidden * (2*s.Metadata.Architecture.Layers + 1))
	if want := s.Metadata.Architecture.Parameters - norms; elements != want {
		t.Errorf("%d weights in matrices, want %d", elements, want)
	}
	if len(s.Placements) != 1 || s.Placements[0].Target == "" || len(s.Placements[0].Operators) < 5 || len(s.Placements[0].Left) > 0 {
		t.Errorf("placements %+v, want all nodes on the CPU", s.Placements)
	}
	metadata := func(old, new string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			path := filepath.Join(dir, modeldir.MetadataFile)
			b, err := os.ReadFile(path)
			if err != nil || !strings.Contains(string(b), old) {
				t.Fatalf("%v, or no %q", err, old)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(string(b), old, new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	external := func(g *onnx.Graph, suffix string) *onnx.Initializer {
		for _, t := range g.Initializers {
			if strings.HasSuffix(t.Name, suffix) {
				return t
			}
		}
		return nil
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   string
	}{
		{"no metadata", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, modeldir.MetadataFile))) }, "metadata.json is missing"},
		{"broken metadata", metadata(`{`, ``), "metadata.json: "},
		{"file gone", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "genai_config.json"))) }, "genai_config.json is missing"},
		{"file outside", metadata(`"name": "genai_config.json"`, `"name": "../genai_config.json"`), `lists "../genai_config.json", outside`},
		{"data cut", func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, modeldir.DataFile), 99)) }, "is the file complete"},
		{"no graph", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, modeldir.ModelFile))) }, "there is no model.onnx"},
		{"other size", metadata(`"bits_per_weight": `, `"bits_per_weight": 1`), "bits per weight, the files have"},
		{"below the floor", metadata(`"bits_per_weight_floor": `, `"bits_per_weight_floor": 9`), "weights are missing"},
		{"no parameters", metadata(`"parameters": `, `"parameters": -`), "gives no number of parameters"},
		{"infinite scale", func(t *testing.T, dir string) {
			f, err := onnx.Open(filepath.Join(dir, modeldir.ModelFile))
			must(t, err)
			at := external(f.Model.Graph, "down_proj.weight.scales.f16").External.Offset
			must(t, f.Close())
			w, err := os.OpenFile(filepath.Join(dir, modeldir.DataFile), os.O_WRONLY, 0)
			must(t, err)
			_, err = w.WriteAt([]byte{0, 0x7c}, at+10)
			must(t, err)
			must(t, w.Close())
		}, `down_proj.weight.scales.f16" holds an infinity or NaN`},
		{"overlap", func(t *testing.T, dir string) {
			edit(t, dir, func(g *onnx.Graph) { external(g, "down_proj.weight").External.Offset -= 64 })
		}, "overlap"},
		{"no operator of the target", metadata(`"target": "cpu"`, `"target": "tensorrt"`), "would not take"},
		{"graph not sound", func(t *testing.T, dir string) {
			edit(t, dir, func(g *onnx.Graph) { external(g, "norm.weight").Dims[0]-- })
		}, "model.onnx: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.CopyFS(dir, os.DirFS(good)))
			c.damage(t, dir)
			s, err := verify.ReadStored(context.Background(), dir)
			must(t, err)
			if all := strings.Join(s.Problems, "\n"); !strings.Contains(all, c.want) {
				t.Errorf("problems %q, want %q", all, c.want)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	for _, f := range []string{"onnx/cpu/int4/model.onnx", "onnx/base/fp16/metadata.json", "onnx/cpu/.old/model.onnx", "onnx/cpu/notes/a.txt", "gguf/q4.gguf"} {
		must(t, os.MkdirAll(filepath.Join(root, filepath.Dir(f)), 0o755))
		must(t, os.WriteFile(filepath.Join(root, f), nil, 0o600))
	}
	base, int4 := filepath.Join(root, "onnx", "base", "fp16"), filepath.Join(root, "onnx", "cpu", "int4")
	for path, want := range map[string][]string{
		"": {base, int4}, "onnx": {base, int4}, "onnx/cpu": {int4}, "onnx/cpu/int4": {int4}, "onnx/cpu/int4/model.onnx": {int4},
		"gguf": nil, "nowhere": nil, "onnx/cpu/notes": nil,
	} {
		got, err := verify.Find(filepath.Join(root, filepath.FromSlash(path)))
		if !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q: %v, %v; want %v", path, got, err, want)
		}
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
