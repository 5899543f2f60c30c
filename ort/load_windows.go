package ort

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	"golang.org/x/sys/windows"
)

// loadLibrary opens a DLL and returns the address of OrtGetApiBase. The search
// is limited to the DLL's own folder and the defaults: System32 may hold an
// old onnxruntime.dll that came with Windows.
func loadLibrary(path string) (uintptr, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return 0, err
	}
	h, err := windows.LoadLibraryEx(abs, 0, windows.LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR|windows.LOAD_LIBRARY_SEARCH_DEFAULT_DIRS)
	if err != nil {
		if _, statErr := os.Stat(abs); errors.Is(statErr, os.ErrNotExist) {
			return 0, statErr
		}
		return 0, fmt.Errorf("%w (not a library for windows/%s, or one it needs is missing, such as the Visual C++ runtime)", err, runtime.GOARCH)
	}
	base, err := windows.GetProcAddress(h, "OrtGetApiBase")
	if err != nil {
		return 0, fmt.Errorf("not ONNX Runtime: it has no function OrtGetApiBase (%w)", err)
	}
	return base, nil
}

// Preload opens a DLL for those opened later that need one of its name:
// libraries in folders the system's loader does not search. It stays open.
func Preload(path string) error {
	_, err := windows.LoadLibraryEx(path, 0, windows.LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR|windows.LOAD_LIBRARY_SEARCH_DEFAULT_DIRS)
	if err != nil {
		return fmt.Errorf("open library %s: %w", path, err)
	}
	return nil
}

// pathBytes is path as ORTCHAR_T, which is wchar_t here: zero-terminated
// UTF-16.
func pathBytes(path string) ([]byte, error) {
	u, err := windows.UTF16FromString(path)
	if err != nil {
		return nil, fmt.Errorf("the path %q: %w", path, err)
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(u))), 2*len(u)), nil
}
