//go:build linux || darwin

package llama

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/ebitengine/purego"
)

// loadLibrary opens a shared library and returns what finds its functions and
// those of the libraries it was linked with.
func loadLibrary(path string) (find func(name string) (uintptr, error), err error) {
	if err := whole(path); err != nil {
		return nil, err
	}
	h, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("%w (not a library for %s/%s, or one it needs is missing)", err, runtime.GOOS, runtime.GOARCH)
	}
	return func(name string) (uintptr, error) { return purego.Dlsym(h, name) }, nil
}

// libcStrlen is the address of the C library's strlen.
func libcStrlen() (uintptr, error) { return purego.Dlsym(purego.RTLD_DEFAULT, "strlen") }

// progressTakesFlag: float and void * come in registers of two kinds here, so a
// callback of the kind bool(void *) can stand for bool(float, void *).
const progressTakesFlag = true

// whole refuses a file that ends before its segments do: the system's loader
// maps such a file and ends the process when it touches what is not there.
func whole(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if runtime.GOOS != "linux" {
		return nil
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	e, err := elf.NewFile(file)
	if err != nil {
		return fmt.Errorf("%w (not a library for %s/%s, or a part of one)", err, runtime.GOOS, runtime.GOARCH)
	}
	for _, p := range e.Progs {
		if size := uint64(info.Size()); p.Type == elf.PT_LOAD && (p.Off > size || p.Filesz > size-p.Off) {
			return errors.New("the file is cut: not a library but a part of one")
		}
	}
	return nil
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
