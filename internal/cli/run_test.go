package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer/llamacpp"
	"github.com/llama-pajamas/llama-pajamas/infer/mlxlm"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

// TestRunAny runs the scripts of testdata/run: the sample in three formats.
func TestRunAny(t *testing.T) {
	library, libllama := oracle.Library(t), filepath.Join(oracle.LlamaCpp(t), "libllama.so")
	if runtime.GOOS == "darwin" {
		libllama = filepath.Join(oracle.LlamaCpp(t), "libllama.dylib")
	}
	python, err := mlxlm.Setup(context.Background(), mlxlm.SetupOptions{CacheDir: oracle.Dir(t)})
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "stories")
	var stderr bytes.Buffer
	code := Run(t.Context(), Quant, []string{
		"convert", "--model", filepath.Join("..", "..", "samples", "stories260K"), "--output", out, "--formats", "onnx,gguf,mlx",
		"--target-eps", "cpu", "--target-precisions", "int8", "--gguf-precision", "Q8_0,F32", "--mlx-bits", "8", "--no-verify",
	}, Stdio{Out: io.Discard, Err: &stderr, Env: func(string) string { return "" }})
	if code != ExitOK {
		t.Fatalf("convert the sample: exit code %d: %s", code, stderr.Bytes())
	}
	program, err := exec.LookPath("llama-pajamas-run")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "run"),
		Setup: func(e *testscript.Env) error {
			e.Setenv(libraryEnv, library)
			e.Setenv(llamaEnv, libllama)
			e.Setenv(mlxEnv, python)
			e.Setenv("LLAMA_PAJAMAS_CACHE", filepath.Join(e.WorkDir, "cache"))
			e.Setenv("STORIES", out)
			e.Setenv("PROGRAM", program) // for scripts that empty PATH
			request, err := json.Marshal(deviceRequest{
				Model:   filepath.Join(out, "gguf", "F32", "stories260K-F32.gguf"),
				Options: llamacpp.Options{Library: libllama, GPULayers: llamacpp.AutoLayers},
			})
			if err != nil {
				return err
			}
			e.Setenv("REQUEST", filepath.Join(e.WorkDir, "request.json"))
			return os.WriteFile(filepath.Join(e.WorkDir, "request.json"), request, 0o600)
		},
	})
}

func TestSuitable(t *testing.T) {
	card := hardware.Accelerators{NVIDIA: []hardware.GPU{{Name: "NVIDIA GeForce RTX 4090"}}}
	for _, tt := range []struct {
		os, arch string
		acc      hardware.Accelerators
		want     []string
	}{
		{"linux", "amd64", hardware.Accelerators{}, []string{"llama.cpp", "cpu"}},
		{"linux", "amd64", card, []string{"llama.cpp-cuda", "cuda"}},
		{"linux", "arm64", hardware.Accelerators{Jetson: "NVIDIA Jetson Orin NX"}, []string{"llama.cpp", "cpu"}},
		{"darwin", "arm64", hardware.Accelerators{Apple: true}, []string{"mlx", "cpu"}},
		{"darwin", "amd64", hardware.Accelerators{}, nil},
		{"windows", "amd64", card, []string{"cuda"}},
	} {
		if got := suitable(tt.os, tt.arch, tt.acc); !slices.Equal(got, tt.want) {
			t.Errorf("%s/%s: %v, want %v", tt.os, tt.arch, got, tt.want)
		}
	}
}
