package oracle_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

func TestRun(t *testing.T) {
	got := oracle.Run(t, "import sys\nprint(sys.stdin.read()[::-1], sys.argv[1])", []byte("abc"), "x")
	if string(got) != "cba x\n" {
		t.Fatalf("script printed %q", got)
	}
}

// TestImports wants every reference program to load, without torch.
func TestImports(t *testing.T) {
	got := oracle.Run(t, `
import sys
import grpc_tools.protoc, gguf, jinja2, mlx_lm, numpy, onnx.reference, onnxruntime, onnxruntime_genai, safetensors.numpy, tokenizers
print(onnxruntime.__version__, onnxruntime_genai.__version__, "torch" in sys.modules)`, nil)
	if string(got) != "1.32.0 0.18.0 False\n" {
		t.Fatalf("script printed %q", got)
	}
}

// TestInstallTwice wants a complete environment left alone.
func TestInstallTwice(t *testing.T) {
	venv := filepath.Dir(filepath.Dir(oracle.Python(t)))
	var log bytes.Buffer
	got, err := oracle.Install(t.Context(), &log)
	if err != nil || got != venv || log.Len() != 0 {
		t.Fatalf("Install returned %s, %v and logged %q; want %s in silence", got, err, log.Bytes(), venv)
	}
}

// TestInstallSaysWhatIsMissing wants a clear word where there is no Python.
func TestInstallSaysWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	_, err := oracle.Install(t.Context(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "install python3 and python3-pip") {
		t.Fatalf("error is %v", err)
	}
}

func TestLibrary(t *testing.T) {
	if _, err := os.Stat(oracle.Library(t)); err != nil {
		t.Fatal(err)
	}
}

func TestSampleGGUF(t *testing.T) {
	f, err := os.Open(oracle.SampleGGUF(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	magic := make([]byte, 4)
	if _, err := io.ReadFull(f, magic); err != nil || string(magic) != "GGUF" {
		t.Fatalf("the file begins with %q, %v", magic, err)
	}
}

func TestNPM(t *testing.T) {
	dir := oracle.NPM(t, "is-number", "7.0.0")
	if _, err := os.Stat(filepath.Join(dir, "index.js")); err != nil {
		t.Fatal(err)
	}
}

func TestLlamaCpp(t *testing.T) {
	found, err := filepath.Glob(filepath.Join(oracle.LlamaCpp(t), "libllama.*"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no libllama in the folder: %v", err)
	}
}
