//go:build !windows

// Package examples runs the shell examples; the programs' tests lie beside them.
package examples

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/llama-pajamas/llama-pajamas/internal/cli"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/samples"
)

// TestMain puts the programs on PATH: they are this test binary under other names.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"llama-pajamas-quant": func() { os.Exit(cli.Main(cli.Quant)) },
		"llama-pajamas-run":   func() { os.Exit(cli.Main(cli.RunAny)) },
	})
}

// script runs a script and returns its standard output.
func script(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", append([]string{name}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "LLAMA_PAJAMAS_CACHE="+t.TempDir(), "LLAMA_PAJAMAS_ONNXRUNTIME="+oracle.Library(t))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", name, err, out, &stderr)
	}
	return string(out)
}

// TestConvertAndChat gives the sample, which tells stories, a template that
// hands on what the user says.
func TestConvertAndChat(t *testing.T) {
	model := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(model, samples.Stories260K()); err != nil {
		t.Fatal(err)
	}
	template := "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
	if err := os.WriteFile(filepath.Join(model, "chat_template.jinja"), []byte(template), 0o600); err != nil {
		t.Fatal(err)
	}
	got := script(t, "convert-and-chat/run.sh", model, filepath.Join(t.TempDir(), "out"), "Once upon a time, there was")
	if !regexp.MustCompile(`^ ?a .*\b(was|she|he|they|the)\b`).MatchString(got) {
		t.Errorf("no story: %q", got)
	}
}

func TestOwnRecipe(t *testing.T) {
	got := script(t, "own-recipe/run.sh", "sample:stories260K", filepath.Join(t.TempDir(), "out"))
	for _, want := range []string{`(?m)^onnx/cpu/values8 `, `(?m)^onnx/cpu/int4 `, `(?m)^onnx/cpu/int8 `} {
		if n := len(regexp.MustCompile(want).FindAllString(got, -1)); n != 2 { // of convert and of compare
			t.Errorf("%d lines of %s in\n%s", n, want, got)
		}
	}
}
