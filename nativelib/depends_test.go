package nativelib

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestDependencies walks real libraries, made of a C compiler's output where
// there is one.
func TestDependencies(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if runtime.GOOS != "linux" || err != nil {
		t.Skip("needs Linux and a C compiler to make libraries of")
	}
	root := t.TempDir()
	site, search := filepath.Join(root, "site"), filepath.Join(root, "search")
	trt := filepath.Join(site, "tensorrt_libs")
	cuda := filepath.Join(site, "nvidia", "cu13", "lib")
	for _, dir := range []string{trt, cuda, search} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build := func(out string, needs ...string) string {
		args := append([]string{"-shared", "-o", out, "-Wl,--no-as-needed", "-Wl,-soname," + filepath.Base(out), "-x", "c", os.DevNull, "-x", "none"}, needs...)
		if text, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
			t.Skipf("%v: %s", err, text)
		}
		return out
	}
	blas := build(filepath.Join(cuda, "libcublas.so.13"))
	rt := build(filepath.Join(search, "libcudart.so.13"))
	gone := build(filepath.Join(root, "libcudnn.so.9"))
	infer := build(filepath.Join(trt, "libnvinfer.so.10"), blas, gone)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	provider := build(filepath.Join(root, "libprovider.so"), infer, rt, "-lm")
	list, err := Dependencies(provider, DependOptions{LibraryPath: []string{search}, SitePackages: []string{site}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Dependency{
		{Name: "libcublas.so.13", Path: blas, NeededBy: "libnvinfer.so.10"},
		{Name: "libcudnn.so.9", NeededBy: "libnvinfer.so.10"},
		{Name: "libnvinfer.so.10", Path: infer, NeededBy: "libprovider.so"},
		{Name: "libcudart.so.13", Path: rt, NeededBy: "libprovider.so", Searched: true},
	}
	if !slices.Equal(list, want) {
		t.Errorf("dependencies\n%+v, want\n%+v", list, want)
	}
	if names := Missing(list); !slices.Equal(names, []string{"libcudnn.so.9"}) || !strings.Contains(MissingHint(names), "cuDNN 9") {
		t.Errorf("missing %v: %s", names, MissingHint(names))
	}
	if _, err := Dependencies(filepath.Join(root, "none.so"), DependOptions{}); err == nil {
		t.Error("a file that is not there gives no error")
	}
	text := filepath.Join(root, "text.so")
	if err := os.WriteFile(text, []byte("not ELF"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Dependencies(text, DependOptions{}); err == nil {
		t.Error("a file that is no library gives no error")
	}
}

func TestMissingHint(t *testing.T) {
	for name, want := range map[string]string{
		"libnvinfer.so.10": "TensorRT 10", "libcublasLt.so.13": "CUDA 13", "libcuda.so.1": "driver", "libz.so.1": "",
	} {
		if got := MissingHint([]string{name}); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
