package main

import (
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/cli"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

func TestRun(t *testing.T) {
	t.Setenv("LLAMA_PAJAMAS_ONNXRUNTIME", oracle.Library(t))
	out, cache := filepath.Join(t.TempDir(), "stories"), t.TempDir()
	var stderr strings.Builder
	if code := cli.Run(t.Context(), cli.Quant, []string{"convert", "--model", "sample:stories260K", "--output", out, "--no-verify"}, cli.Stdio{
		Out: io.Discard, Err: &stderr, Env: func(key string) string { return map[string]string{"LLAMA_PAJAMAS_CACHE": cache}[key] },
	}); code != cli.ExitOK {
		t.Fatalf("convert: %s", stderr.String())
	}
	var got strings.Builder
	if err := run(t.Context(), filepath.Join(out, "onnx", "base", "fp16"), "Once upon a time", 20, &got); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(got.String(), "Once upon a time , there was a little girl named Lily. ") && !strings.HasPrefix(got.String(), "Once upon a time, there was a little girl named Lily. ") {
		t.Errorf("got %q", got.String())
	}
	if !strings.Contains(got.String(), "\n\n20 tokens, ") {
		t.Errorf("got %q", got.String())
	}
	if err := run(t.Context(), t.TempDir(), "x", 1, io.Discard); err == nil {
		t.Error("an empty folder is taken for a model")
	}
}
