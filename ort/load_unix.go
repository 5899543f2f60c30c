//go:build linux || darwin

package ort

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/ebitengine/purego"
)

// loadLibrary opens a shared library and returns the address of
// OrtGetApiBase.
func loadLibrary(path string) (uintptr, error) {
	h, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		if _, statErr := os.Stat(path); errors.Is(statErr, os.ErrNotExist) {
			return 0, statErr
		}
		if onMusl() {
			return 0, fmt.Errorf("%w (this system's C library is musl; the ONNX Runtime packages need glibc 2.28 or newer)", err)
		}
		return 0, fmt.Errorf("%w (not a library for %s/%s, or one it needs is missing)", err, runtime.GOOS, runtime.GOARCH)
	}
	base, err := purego.Dlsym(h, "OrtGetApiBase")
	if err != nil {
		return 0, fmt.Errorf("not ONNX Runtime: it has no function OrtGetApiBase (%w)", err)
	}
	return base, nil
}

// Preload opens a shared library for those opened later that need one of its
// name: libraries in folders the system's loader does not search. It stays
// open.
func Preload(path string) error {
	if _, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL); err != nil {
		return fmt.Errorf("open library %s: %w", path, err)
	}
	return nil
}

// onMusl reports whether the system's dynamic loader is musl's alone.
func onMusl() bool {
	musl, _ := filepath.Glob("/lib/ld-musl-*.so.1") // the pattern is well formed
	glibc, _ := filepath.Glob("/lib*/ld-linux-*.so.*")
	return runtime.GOOS == "linux" && len(musl) > 0 && len(glibc) == 0
}

// pathBytes is path as ORTCHAR_T, which is char here: zero-terminated UTF-8.
func pathBytes(path string) ([]byte, error) { return cString(path) }
