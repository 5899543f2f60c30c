package oracle

import (
	_ "embed"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// The llama.cpp libraries, v0.5.0, as npm carries them.
const (
	llamaCppVersion = "v0.5.0"
	llamaCppPackage = "@node-llama-cpp/"
	llamaCppRelease = "3.22.1"
)

// LlamaCppModule is Python source that declares the library's C API and loads
// it; scripts that use it are appended to it.
//
//go:embed llamacpp.py
var LlamaCppModule string

// LlamaCpp returns a folder with llama.cpp's shared libraries under their plain
// names (libllama.so, libggml.so, …), fetched once by npm.
func LlamaCpp(t testing.TB) string {
	t.Helper()
	platform, ok := map[string]string{
		"linux/amd64": "linux-x64", "linux/arm64": "linux-arm64", "darwin/arm64": "mac-arm64-metal",
	}[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		missing(t, "no llama.cpp library is known for %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	from := filepath.Join(NPM(t, llamaCppPackage+platform, llamaCppRelease), "bins", platform)
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatalf("list the llama.cpp libraries: %v", err)
	}
	dir := filepath.Join(Dir(t), "llama.cpp-"+llamaCppVersion)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatalf("make a folder for llama.cpp: %v", err)
	}
	// Two files carry the version in their names, and each is looked for by
	// either name.
	link := func(file, name string) {
		err := os.Symlink(filepath.Join(from, file), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatalf("link %s: %v", file, err)
		}
	}
	for _, f := range files {
		link(f.Name(), f.Name())
		link(f.Name(), strings.Replace(f.Name(), "."+llamaCppVersion, "", 1))
	}
	return dir
}
