package llama

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/windows"
)

// loadLibrary opens a DLL and those beside it, and returns what finds their
// functions: Windows looks for a name in one DLL at a time.
func loadLibrary(path string) (find func(name string) (uintptr, error), err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	const flags = windows.LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | windows.LOAD_LIBRARY_SEARCH_DEFAULT_DIRS
	h, err := windows.LoadLibraryEx(abs, 0, flags)
	if err != nil {
		if _, statErr := os.Stat(abs); errors.Is(statErr, os.ErrNotExist) {
			return nil, statErr
		}
		return nil, fmt.Errorf("%w (not a library for windows/%s, or one it needs is missing, such as the Visual C++ runtime)", err, runtime.GOARCH)
	}
	list := []windows.Handle{h}
	for _, name := range []string{"ggml.dll", "ggml-base.dll"} {
		if h, err := windows.LoadLibraryEx(filepath.Join(filepath.Dir(abs), name), 0, flags); err == nil {
			list = append(list, h)
		}
	}
	return func(name string) (addr uintptr, err error) {
		for _, h := range list {
			if addr, err = windows.GetProcAddress(h, name); err == nil {
				return addr, nil
			}
		}
		return 0, err
	}, nil
}

// libcStrlen is the address of the C library's strlen.
func libcStrlen() (uintptr, error) {
	h, err := windows.LoadLibraryEx("ucrtbase.dll", 0, windows.LOAD_LIBRARY_SEARCH_SYSTEM32)
	if err != nil {
		return 0, err
	}
	return windows.GetProcAddress(h, "strlen")
}

// progressTakesFlag: the first argument, a float, takes the place of the
// pointer here, so that loading cannot be interrupted.
const progressTakesFlag = false

// Preload opens a DLL for those opened later that need one of its name:
// libraries in folders the system's loader does not search. It stays open.
func Preload(path string) error {
	if _, err := windows.LoadLibraryEx(path, 0, windows.LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR|windows.LOAD_LIBRARY_SEARCH_DEFAULT_DIRS); err != nil {
		return fmt.Errorf("open library %s: %w", path, err)
	}
	return nil
}
