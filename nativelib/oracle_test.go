package nativelib_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/nativelib"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// TestRealSetup fetches the pinned ONNX Runtime of this machine, and opens it.
func TestRealSetup(t *testing.T) {
	oracle.Python(t) // where the oracle is, so are pip and a network
	cache := t.TempDir()
	version := ""
	in, err := nativelib.Setup(t.Context(), nativelib.SetupOptions{CacheDir: cache, Log: func(s string) { t.Log(s) }, Open: func(path string) error {
		lib, err := ort.Open(path)
		if err == nil {
			version = lib.Version()
		}
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	if version != in.Version {
		t.Errorf("installed %s, the library says %s", in.Version, version)
	}
	found, err := nativelib.Find(nativelib.ONNXRuntime, nativelib.FindOptions{CacheDir: cache})
	if err != nil || found.Path != in.Path {
		t.Errorf("found %+v, %v; installed %s", found, err, in.Path)
	}
}

// TestRealDownloads fetches archives for other systems: their names and
// checksums must still be what the registries give.
func TestRealDownloads(t *testing.T) {
	oracle.Python(t)
	dir := t.TempDir()
	for _, tt := range []struct{ backend, os, arch string }{
		{"cpu", "windows", "arm64"},
		{"llama.cpp", "linux", "arm64"},
		{"llama.cpp-vulkan", "linux", "amd64"},
	} {
		if tt.os == runtime.GOOS && tt.arch == runtime.GOARCH && !strings.Contains(tt.backend, "-") {
			continue
		}
		in, err := nativelib.Setup(t.Context(), nativelib.SetupOptions{Backend: tt.backend, OS: tt.os, Arch: tt.arch, DownloadOnly: dir})
		if err != nil {
			t.Errorf("%+v: %v", tt, err)
		}
		t.Log(in.Path)
	}
}
