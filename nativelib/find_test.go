package nativelib

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// touch makes an empty file and the folders above it.
func touch(t *testing.T, file ...string) string {
	t.Helper()
	full := filepath.Join(file...)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return full
}

func wantError(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", texts)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q lacks %q", err, text)
		}
	}
}

// TestFindOrder puts the library into every place and takes the best away one
// by one.
func TestFindOrder(t *testing.T) {
	dir := t.TempDir()
	o := FindOptions{
		Flag: filepath.Join(dir, "flag", "libonnxruntime.so"), FlagName: "--library",
		Env: filepath.Join(dir, "env"), EnvName: "SOME_VARIABLE",
		ExeDir: filepath.Join(dir, "bin"), CacheDir: filepath.Join(dir, "cache"),
		LibraryPath: []string{"", filepath.Join(dir, "path")},
		OS:          "linux", Arch: "arm64",
	}
	touch(t, o.Flag)
	steps := []struct {
		file, where string
	}{
		{o.Flag, "named by flag --library"},
		{touch(t, o.Env, "libonnxruntime.so.1.32.0"), "named by variable SOME_VARIABLE"},
		{touch(t, dir, "bin", "libonnxruntime.so"), "beside the program"},
		{touch(t, dir, "bin", "lib", "libonnxruntime.so"), "beside the program"},
		{touch(t, dir, "lib", "libonnxruntime.so"), "beside the program"},
		{touch(t, dir, "cache", "lib", "onnxruntime-local", "linux-arm64", "libonnxruntime.so.1.23"), "in the cache folder"},
		{touch(t, dir, "cache", "lib", "onnxruntime-1.32.0", "linux-arm64", "libonnxruntime.so"), "in the cache folder"},
		{touch(t, dir, "path", "libonnxruntime.so"), "in the library path"},
	}
	for i, s := range steps {
		got, err := Find(ONNXRuntime, o)
		if err != nil {
			t.Fatal(err)
		}
		if got.Path != s.file || got.Where != s.where {
			t.Errorf("step %d: found %+v, want %+v", i, got, s)
		}
		switch i {
		case 0:
			o.Flag = ""
		case 1:
			o.Env = ""
		default:
			if err := os.Remove(s.file); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestFindNothing(t *testing.T) {
	dir := t.TempDir()
	touch(t, dir, "bin", "program")
	_, err := Find(ONNXRuntime, FindOptions{
		ExeDir: filepath.Join(dir, "bin"), CacheDir: filepath.Join(dir, "cache"), SetupCommand: "llama-pajamas-run-onnx setup",
		OS: "windows", Arch: "amd64",
	})
	var e *NotFoundError
	if !errors.As(err, &e) || len(e.Looked) != 5 {
		t.Fatalf("%v", err)
	}
	wantError(t, err, "beside the program in "+filepath.Join(dir, "bin")+" (no onnxruntime.dll)", "(no such folder)",
		`"llama-pajamas-run-onnx setup"`, "onnxruntime 1.32.0 (17 MB) with pip", filepath.Join(dir, "cache", "lib", "onnxruntime-1.32.0", "windows-amd64"))

	_, err = Find(ONNXRuntime, FindOptions{Backend: "cuda", OS: "linux", Arch: "amd64", LibraryPath: []string{dir}})
	if err != nil { // unless this machine has one in its system folders
		wantError(t, err, `"setup --backend cuda"`, "onnxruntime-gpu 1.31.1 (256 MB)")
	}
	_, err = Find(ONNXRuntime, FindOptions{OS: "darwin", Arch: "amd64"})
	if err != nil {
		wantError(t, err, "Intel Macs", "GGUF")
	}
	_, err = Find(LlamaCpp, FindOptions{OS: "windows", Arch: "arm64"})
	wantError(t, err, "llama.cpp library was not found; looked nowhere", "--from DIR")
}

func TestFindNamedWrong(t *testing.T) {
	dir := t.TempDir()
	_, err := Find(ONNXRuntime, FindOptions{Flag: filepath.Join(dir, "absent"), FlagName: "--library", OS: "linux"})
	wantError(t, err, "flag --library", "absent")
	_, err = Find(ONNXRuntime, FindOptions{Env: dir, EnvName: "VAR", OS: "darwin"})
	wantError(t, err, "variable VAR", "no libonnxruntime.dylib in "+dir)
}

func TestFindNewest(t *testing.T) {
	dir := t.TempDir()
	touch(t, dir, "libonnxruntime.so.1.9.0")
	touch(t, dir, "libonnxruntime_providers_shared.so")
	if err := os.Mkdir(filepath.Join(dir, "libonnxruntime.so"), 0o755); err != nil {
		t.Fatal(err)
	}
	want := touch(t, dir, "libonnxruntime.so.1.32.0")
	if got, err := Find(ONNXRuntime, FindOptions{Flag: dir, OS: "linux"}); err != nil || got.Path != want {
		t.Errorf("found %+v, %v", got, err)
	}
	if got, err := Find(LlamaCpp, FindOptions{Flag: filepath.Dir(touch(t, dir, "l", "libllama.v0.5.0.so")), OS: "linux"}); err != nil || filepath.Base(got.Path) != "libllama.v0.5.0.so" {
		t.Errorf("found %+v, %v", got, err)
	}
}

func TestPins(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Pins() {
		key := p.Backends[0] + " " + p.OS + " " + p.Arch
		if seen[key] {
			t.Errorf("%s is pinned twice", key)
		}
		seen[key] = true
		if len(p.SHA256) != 64 || p.Size < 1e6 || !strings.Contains(p.File, p.Version) || (p.Source == PyPI) != (p.platform != "") {
			t.Errorf("%+v", p)
		}
		for _, b := range p.Backends {
			if got, err := FindPin(b, p.OS, p.Arch); err != nil || got.File != p.File {
				t.Errorf("backend %s of %s: %v", b, p.File, err)
			}
		}
	}
	_, err := FindPin("gpu", "linux", "amd64")
	wantError(t, err, `backend "gpu" is not known`, "cpu, coreml, cuda, tensorrt, llama.cpp, llama.cpp-cuda, llama.cpp-vulkan")
	_, err = FindPin("cuda", "linux", "arm64")
	var unsupported *tensor.UnsupportedError
	if !errors.As(err, &unsupported) {
		t.Errorf("no package: %v", err)
	}
	wantError(t, err, "Jetson", "--from")
}
