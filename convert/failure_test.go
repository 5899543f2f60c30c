package convert_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/target"
)

// TestFailedTarget wants the other artifacts of a job in which one cannot be
// planned, and one cannot be written, and no folder of these two.
func TestFailedTarget(t *testing.T) {
	src := tiny(t, float32Variant(t))
	poison(t, src, 1e6) // does not fit 16-bit floats
	out := filepath.Join(t.TempDir(), "model")
	ck, err := checkpoint.Open(context.Background(), src, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	float32s := filepath.Join(t.TempDir(), "wide.json")
	text := `{"name": "wide", "summary": "test", "target": "cpu", "precision": "fp32", "dialect": "fused", "activations": "float32", "rules": [{"bits": 32}]}`
	if err := os.WriteFile(float32s, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	job, err := convert.New(context.Background(), ck, convert.Options{
		Output:  out,
		Hints:   target.Hints{KVCacheForm: target.CacheShared}, // no form of CoreML graphs
		Targets: []convert.Target{{Name: "cpu", Recipes: []string{float32s}}, {Name: "coreml", Recipes: []string{"int8"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if f := job.Failures(); len(f) != 1 || f[0].Dir != "onnx/coreml/int8" || !strings.Contains(f[0].Err.Error(), `cache form "shared"`) {
		t.Fatalf("after planning: failures %v, want the one of coreml", f)
	}
	if err := job.Write(context.Background()); err != nil {
		t.Fatal(err)
	}
	f := job.Failures()
	if len(f) != 2 || f[1].Dir != "onnx/base/fp16" || !strings.Contains(f[1].Err.Error(), "65504") {
		t.Fatalf("after writing: failures %v, want base too", f)
	}
	if err := job.WriteMetadata(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := job.Publish(); err != nil {
		t.Fatal(err)
	}
	for name := range files(t, out) {
		if !strings.HasPrefix(name, "onnx/cpu/wide/") && name != modeldir.ManifestFile && name != "onnx/"+modeldir.PackageFile {
			t.Errorf("left behind: %s", name)
		}
	}
	if len(job.Artifacts) != 1 || len(files(t, out)) < 5 {
		t.Errorf("%d artifacts, %d files: want those of onnx/cpu/wide", len(job.Artifacts), len(files(t, out)))
	}
}

func TestHints(t *testing.T) {
	src := tiny(t, "smollm2") // 6 query heads, 2 key heads, 2048 positions
	for _, c := range []struct {
		name, target, recipe string
		hints                target.Hints
		want                 string // of the error; "" for none
	}{
		{"right", "tensorrt", "int8", target.Hints{Attention: target.GQA, GQARatio: 3}, ""},
		{"ratio", "tensorrt", "int8", target.Hints{GQARatio: 4}, "it must be 3"},
		{"attention", "cpu", "int8", target.Hints{Attention: target.MHA}, `it must be "gqa"`},
		{"old release", "tensorrt", "int8", target.Hints{FusedOps: true}, "tensorrt@10.15"},
		{"new release", "tensorrt@10.15", "int8", target.Hints{FusedOps: true}, ""},
		{"block refused", "tensorrt", "int4", target.Hints{BlockSize: 32}, "would not take"},
		{"block", "tensorrt", "int4", target.Hints{BlockSize: 64}, ""},
		{"opset", "tensorrt", "int8", target.Hints{Opset: 18}, "want 21 to 24"},
		{"cache type", "tensorrt", "int8", target.Hints{KVCacheType: onnx.I8}, "the type of the activations"},
		{"int8 cache", "cpu", "int8", target.Hints{KVCacheType: onnx.I8}, ""},
		{"cuda graph", "cuda", "int8", target.Hints{KVCacheForm: target.CacheShared, MaxContext: 512}, ""},
		{"batch", "coreml", "int8", target.Hints{Batch: 2}, "one sequence"},
		{"context", "coreml", "int8", target.Hints{MaxContext: 4096}, "2048 positions"},
		{"8-bit input with a host cache", "tensorrt", "int8", target.Hints{KVCacheForm: target.CacheHost}, "qdq dialect"},
	} {
		t.Run(c.name, func(t *testing.T) {
			job, err := newJob(t, src, convert.Options{Output: t.TempDir(), NoBase: true, Hints: c.hints, Targets: []convert.Target{{Name: c.target, Recipes: []string{c.recipe}}}})
			switch {
			case c.want == "" && err != nil:
				t.Fatal(err)
			case c.want == "" && len(job.Artifacts) != 1:
				t.Fatalf("%d artifacts, failures %v", len(job.Artifacts), job.Failures())
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Fatalf("got %v, want an error with %q", err, c.want)
			}
			if c.name == "cuda graph" {
				if m := job.Artifacts[0].Metadata; m.Target.Prefill == "" || m.Hints.Context != 512 || m.Hints.CacheForm != "shared" {
					t.Errorf("metadata %+v, %+v: want a prefill graph and a context of 512", m.Target, m.Hints)
				}
			}
		})
	}
}
