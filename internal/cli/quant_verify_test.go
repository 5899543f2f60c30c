package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/samples"
)

// TestVerifyDropsOne cuts the weights of one artifact after it was written and
// wants convert to keep the other.
func TestVerifyDropsOne(t *testing.T) {
	ctx := context.Background()
	src := filepath.Join(t.TempDir(), "stories260K")
	if err := os.CopyFS(src, samples.Stories260K()); err != nil {
		t.Fatal(err)
	}
	ck, err := checkpoint.Open(ctx, src, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	out := t.TempDir()
	job, err := convert.New(ctx, ck, convert.Options{Output: out, Reference: true, NoBase: true, Targets: []convert.Target{{Name: "cpu", Recipes: []string{"int8", "fp32"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Write(ctx); err != nil {
		t.Fatal(err)
	}
	for i, a := range job.Artifacts {
		if a.Dir == "onnx/cpu/int8" {
			if err := os.Truncate(filepath.Join(job.Staged(i), modeldir.DataFile), 1000); err != nil {
				t.Fatal(err)
			}
		}
	}
	var stderr bytes.Buffer
	c := &common{Stdio: Stdio{Out: io.Discard, Err: &stderr}, Library: oracle.Library(t)}
	problems, err := verifyJob(ctx, c, job)
	if err != nil || problems {
		t.Fatalf("problems %v, error %v, %s", problems, err, stderr.Bytes())
	}
	f := job.Failures()
	if len(f) != 1 || f[0].Dir != "onnx/cpu/int8" || !strings.Contains(f[0].Err.Error(), "is the file complete") {
		t.Errorf("failures %v, want int8 alone", f)
	}
	if err := job.WriteMetadata(ctx); err != nil {
		t.Fatal(err)
	}
	if err := job.Publish(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(out, "onnx", "cpu", "int8")); err == nil {
		t.Error("the broken artifact has a folder")
	}
	for _, a := range job.Artifacts {
		if a.Dir == "onnx/cpu/fp32" && (a.Metadata.Fidelity == nil || a.Metadata.Fidelity.Tokens == 0) {
			t.Errorf("fp32 was not measured: %+v", a.Metadata.Fidelity)
		}
	}
	folder, err := modeldir.Open(filepath.Join(out, "onnx", "cpu", "fp32"))
	if err != nil || folder.Metadata.Fidelity.KLMean > 1e-6 {
		t.Errorf("fp32: %v, %+v", err, folder)
	}
}
