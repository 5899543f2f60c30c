package convert_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

var allRecipes = []convert.Target{{Name: "cpu", Recipes: []string{"int8", "int4", "int4-small"}}}

// tiny writes a tiny checkpoint and returns its folder.
func tiny(t *testing.T, name string) string {
	t.Helper()
	v, err := tinymodel.ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), name)
	if err := tinymodel.Write(dir, v); err != nil {
		t.Fatal(err)
	}
	return dir
}

// files reads a whole folder.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		rel, _ := filepath.Rel(dir, p)
		out[filepath.ToSlash(rel)] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBytesDoNotDependOnWorkers(t *testing.T) {
	src := tiny(t, "smollm2")
	var first map[string][]byte
	for _, workers := range []int{1, 2, 7} {
		out := t.TempDir()
		run(t, src, convert.Options{Output: out, Targets: allRecipes, Workers: workers})
		got := files(t, out)
		if first == nil {
			first = got
			continue
		}
		if len(got) != len(first) {
			t.Fatalf("%d workers: %d files, want %d", workers, len(got), len(first))
		}
		for name, b := range got {
			if !bytes.Equal(b, first[name]) {
				t.Errorf("%d workers: %s differs from what 1 worker wrote", workers, name)
			}
		}
	}
}

func TestFolder(t *testing.T) {
	src, out := tiny(t, "qwen3"), t.TempDir()
	run(t, src, convert.Options{Output: out, Targets: allRecipes})
	got := files(t, out)
	for _, dir := range []string{"onnx/base/fp16", "onnx/cpu/int8", "onnx/cpu/int4", "onnx/cpu/int4-small"} {
		for _, name := range []string{
			modeldir.ModelFile, modeldir.DataFile, modeldir.MetadataFile, modeldir.GenAIConfigFile,
			modeldir.GenerationConfigFile, modeldir.TokenizerFile, modeldir.TokenizerConfigFile,
		} {
			if _, ok := got[dir+"/"+name]; !ok {
				t.Errorf("%s has no %s", dir, name)
			}
		}
		m, err := modeldir.ParseMetadata(got[dir+"/"+modeldir.MetadataFile])
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		if len(m.Source.Files) == 0 || m.Source.Files[0].SHA256 == "" {
			t.Errorf("%s: metadata names no source files with sha256", dir)
		}
		for _, f := range m.Files {
			if int64(len(got[dir+"/"+f.Name])) != f.Bytes {
				t.Errorf("%s: metadata says %s has %d bytes, it has %d", dir, f.Name, f.Bytes, len(got[dir+"/"+f.Name]))
			}
		}
		if m.Size.BitsPerWeight < m.Size.BitsPerWeightFloor-1e-9 {
			t.Errorf("%s: %.3f bits per weight lie below the floor, %.3f", dir, m.Size.BitsPerWeight, m.Size.BitsPerWeightFloor)
		}
	}
	for name := range got {
		if !strings.HasPrefix(name, "onnx/") && name != modeldir.ManifestFile {
			t.Errorf("left behind: %s", name)
		}
	}
}

// newJob plans without writing.
func newJob(t *testing.T, src string, o convert.Options) (*convert.Job, error) {
	t.Helper()
	ck, err := checkpoint.Open(context.Background(), src, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ck.Close() })
	return convert.New(context.Background(), ck, o)
}

func TestOutputFolder(t *testing.T) {
	src := tiny(t, "llama3-tied")
	o := convert.Options{Output: filepath.Join(t.TempDir(), "new", "model"), Targets: allRecipes}
	run(t, src, o)
	before := files(t, o.Output)

	job, err := newJob(t, src, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Write(context.Background()); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("writing into a full folder: got %v, want a refusal that names --force", err)
	}
	o.Force = true
	run(t, src, o)
	if after := files(t, o.Output); len(after) != len(before) {
		t.Errorf("after --force %d files, before %d", len(after), len(before))
	}

	// A folder of somebody else is refused even with --force.
	o.Output = t.TempDir()
	if err := os.WriteFile(filepath.Join(o.Output, "thesis.txt"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if job, err = newJob(t, src, o); err != nil {
		t.Fatal(err)
	}
	if err := job.Write(context.Background()); err == nil || !strings.Contains(err.Error(), "no model of this program") {
		t.Errorf("writing into a foreign folder: got %v, want a refusal", err)
	}
}

func TestDiskFull(t *testing.T) {
	o := convert.Options{
		Output: filepath.Join(t.TempDir(), "model"), Targets: allRecipes,
		FreeSpace: func(string) (int64, error) { return 10_000, nil },
	}
	job, err := newJob(t, tiny(t, "llama2"), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Write(context.Background()); err == nil || !strings.Contains(err.Error(), "9.8 KiB free") {
		t.Errorf("got %v, want an error that tells the free space", err)
	}
	if got := files(t, o.Output); len(got) != 0 {
		t.Errorf("a refused conversion wrote %d files", len(got))
	}
}

func TestInterrupted(t *testing.T) {
	src := tiny(t, "llama2")
	o := convert.Options{Output: filepath.Join(t.TempDir(), "model"), Targets: allRecipes, Workers: 2}
	ctx, cancel := context.WithCancel(context.Background())
	o.Progress = func(done, total int64) {
		if done > total/3 {
			cancel()
		}
	}
	job, err := newJob(t, src, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Write(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled write: got %v, want %v", err, context.Canceled)
	}
	for name := range files(t, o.Output) {
		if strings.HasPrefix(name, "onnx/") {
			t.Errorf("a cancelled conversion left %s", name)
		}
	}
	// As after a crash, without Discard: the same command simply works.
	o.Progress = nil
	run(t, src, o)
	if _, err := os.Stat(filepath.Join(o.Output, "onnx", "cpu", "int4", modeldir.ModelFile)); err != nil {
		t.Error(err)
	}

	o.Output = filepath.Join(t.TempDir(), "model")
	if job, err = newJob(t, src, o); err != nil {
		t.Fatal(err)
	}
	if err := job.Write(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := job.Discard(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(o.Output); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a discarded job left its output folder: %v", err)
	}
}

// TestDamagedWeights changes one value of a float32 checkpoint and wants a
// sentence that names the tensor.
func TestDamagedWeights(t *testing.T) {
	for _, c := range []struct {
		name  string
		value float32
		base  bool
		want  string
	}{
		{"NaN", float32(math.NaN()), false, "the checkpoint is damaged"},
		{"infinity", float32(math.Inf(-1)), false, "the checkpoint is damaged"},
		{"beyond 16-bit floats", 1e6, true, "--no-base"},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := tiny(t, float32Variant(t))
			poison(t, src, c.value)
			o := convert.Options{Output: filepath.Join(t.TempDir(), "model"), NoBase: !c.base, Targets: allRecipes}
			if c.base {
				o.Targets = nil // else the others are written
			}
			job, err := newJob(t, src, o)
			if err != nil {
				t.Fatal(err)
			}
			err = job.Write(context.Background())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error with %q", err, c.want)
			}
			if !c.base && !strings.Contains(err.Error(), "tensor \"") {
				t.Errorf("the error names no tensor: %v", err)
			}
		})
	}
}

func float32Variant(t *testing.T) string {
	t.Helper()
	for _, v := range tinymodel.Variants() {
		if v.DType.String() == "F32" && v.Shards <= 1 {
			return v.Name
		}
	}
	t.Fatal("no tiny checkpoint is stored in float32 in one file")
	return ""
}

// poison overwrites the last float32 of model.safetensors.
func poison(t *testing.T, dir string, v float32) {
	t.Helper()
	name := filepath.Join(dir, "model.safetensors")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(b[len(b)-4:], math.Float32bits(v))
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	src := tiny(t, "llama2")
	edit := func(t *testing.T, key string, v any) string {
		t.Helper()
		name := filepath.Join(src, "config.json")
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		original := b
		t.Cleanup(func() { _ = os.WriteFile(name, original, 0o644) })
		m := map[string]any{}
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		m[key] = v
		if b, err = json.Marshal(m); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return src
	}
	for _, c := range []struct {
		name, key string
		value     any
		want      string
	}{
		{"architecture", "architectures", []string{"MambaForCausalLM"}, `architecture "MambaForCausalLM"`},
		{"quantized", "quantization_config", map[string]any{"quant_method": "gptq"}, "GPTQ"},
		{"sizes", "intermediate_size", 48, "mlp"},
		{"vocabulary", "vocab_size", 511, "embed_tokens"},
		{"rope", "rope_scaling", map[string]any{"rope_type": "dynamic", "factor": 4}, "dynamic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := edit(t, c.key, c.value)
			_, err := newJob(t, dir, convert.Options{Output: t.TempDir()})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}
