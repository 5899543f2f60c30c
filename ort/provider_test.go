package ort_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/nativelib"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// TestGPUBuild adds the CUDA and TensorRT providers with the pinned GPU build
// of the library, where setup has fetched it: without NVIDIA's libraries both
// must fail with the name of the first one missing.
func TestGPUBuild(t *testing.T) {
	cache, err := os.UserCacheDir()
	must(t, err)
	found, err := nativelib.Find(nativelib.ONNXRuntime, nativelib.FindOptions{Backend: "cuda", CacheDir: filepath.Join(cache, "llama-pajamas")})
	if err != nil || !strings.Contains(found.Path, "gpu") {
		t.Skip("the GPU build is not installed (llama-pajamas-run-onnx setup --backend cuda)")
	}
	lib, err := ort.Open(found.Path)
	must(t, err)
	available, err := lib.AvailableProviders()
	must(t, err)
	if got := strings.Join(available, " "); got != "TensorrtExecutionProvider CUDAExecutionProvider CPUExecutionProvider" {
		t.Errorf("providers %s", got)
	}
	env, err := lib.NewEnv(ort.EnvOptions{})
	must(t, err)
	defer env.Close()
	for name, file := range map[string]string{"CUDAExecutionProvider": "libonnxruntime_providers_cuda.so", "TensorrtExecutionProvider": "libonnxruntime_providers_tensorrt.so"} {
		list, err := nativelib.Dependencies(filepath.Join(filepath.Dir(found.Path), file), nativelib.DependOptions{})
		must(t, err)
		missing := nativelib.Missing(list)
		s, err := env.NewSessionFromBytes(t.Context(), addModel(), ort.SessionOptions{
			Providers: []ort.Provider{{Name: name, Options: map[string]string{"device_id": "0"}}},
		})
		if len(missing) == 0 {
			t.Logf("%s: nothing is missing here (%v)", name, err)
			if err == nil {
				s.Close()
			}
			continue
		}
		var failed *ort.ProviderError
		if !errors.As(err, &failed) || failed.Provider != name {
			t.Fatalf("%s: error %v", name, err)
		}
		named := false
		for _, m := range missing {
			named = named || strings.Contains(err.Error(), m)
		}
		if !named {
			t.Errorf("%s: error %q names none of %v", name, err, missing)
		}
	}
}

func TestPreload(t *testing.T) {
	wantError(t, ort.Preload(filepath.Join(t.TempDir(), "none.so")), "none.so")
	cc, err := exec.LookPath("cc")
	if runtime.GOOS != "linux" || err != nil {
		t.Skip("needs Linux and a C compiler to make a library of")
	}
	lib := filepath.Join(t.TempDir(), "libempty.so")
	if out, err := exec.Command(cc, "-shared", "-o", lib, "-x", "c", os.DevNull).CombinedOutput(); err != nil {
		t.Skipf("%v: %s", err, out)
	}
	must(t, ort.Preload(lib))
}
