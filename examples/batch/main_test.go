package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/cli"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

// TestRun: answers in the order of the prompts, each what it is alone.
func TestRun(t *testing.T) {
	t.Setenv("LLAMA_PAJAMAS_ONNXRUNTIME", oracle.Library(t))
	out, cache := filepath.Join(t.TempDir(), "stories"), t.TempDir()
	var stderr strings.Builder
	if code := cli.Run(t.Context(), cli.Quant, []string{
		"convert", "--model", "sample:stories260K", "--output", out, "--target-eps", "cpu", "--target-precisions", "int8", "--no-verify",
	}, cli.Stdio{
		Out: io.Discard, Err: &stderr, Env: func(key string) string { return map[string]string{"LLAMA_PAJAMAS_CACHE": cache}[key] },
	}); code != cli.ExitOK {
		t.Fatalf("convert: %s", stderr.String())
	}
	prompts, err := os.ReadFile("prompts.txt")
	if err != nil {
		t.Fatal(err)
	}
	answers := func(slots int) string {
		var got strings.Builder
		o := options{model: filepath.Join(out, "onnx", "cpu", "int8"), slots: slots, tokens: 24}
		if err := run(t.Context(), o, strings.NewReader(string(prompts)), &got); err != nil {
			t.Fatal(err)
		}
		return got.String()
	}
	alone, together := answers(1), answers(3)
	if alone != together {
		t.Errorf("one at a time:\n%s\nthree at a time:\n%s", alone, together)
	}
	lines := strings.Split(strings.TrimSpace(string(prompts)), "\n")
	d := json.NewDecoder(strings.NewReader(together))
	for i, want := range lines {
		var a answer
		if err := d.Decode(&a); err != nil {
			t.Fatal(err)
		}
		if a.Prompt != want || a.Tokens != 24 || len(a.Text) < 24 || a.Reason != "length" || a.Error != "" {
			t.Errorf("line %d: %+v", i, a)
		}
	}
}
