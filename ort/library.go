package ort

import (
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

//go:generate go run -C _generate . ../api_index.go

// Library is a loaded ONNX Runtime. It stays loaded until the program ends:
// its thread pools make unloading unsafe.
type Library struct {
	path      string
	version   string
	api       [apiFunctions]uintptr
	allocator uintptr // OrtAllocator of CPU memory, owned by the library
	cpu       uintptr // OrtMemoryInfo of CPU memory, kept for the library's life
}

// Open loads the shared library at path and refuses one whose version's
// function table it does not know.
func Open(path string) (*Library, error) {
	getBase, err := loadLibrary(path)
	if err != nil {
		return nil, fmt.Errorf("load ONNX Runtime from %s: %w", path, err)
	}
	l := &Library{path: path}
	if err := l.open(getBase); err != nil {
		return nil, fmt.Errorf("load ONNX Runtime from %s: %w", path, err)
	}
	return l, nil
}

// open reads the function table through struct OrtApiBase: GetApi(version),
// then GetVersionString().
func (l *Library) open(getBase uintptr) error {
	base, _, _ := purego.SyscallN(getBase)
	if base == 0 {
		return fmt.Errorf("OrtGetApiBase returned nothing")
	}
	funcs := unsafe.Slice((*uintptr)(pointer(base)), 2)
	version, _, _ := purego.SyscallN(funcs[1])
	l.version = goString(version)
	if err := checkVersion(l.version); err != nil {
		return err
	}
	table, _, _ := purego.SyscallN(funcs[0], apiVersion)
	if table == 0 {
		return fmt.Errorf("version %s does not offer API version %d; use ONNX Runtime 1.24 or newer", l.version, apiVersion)
	}
	copy(l.api[:], unsafe.Slice((*uintptr)(pointer(table)), apiFunctions))
	if err := l.check(l.call(fnGetAllocatorWithDefaultOptions, uintptr(unsafe.Pointer(&l.allocator)))); err != nil {
		return fmt.Errorf("get the default allocator: %w", err)
	}
	var err error
	l.cpu, err = l.newMemoryInfo(CPUMemory())
	return err
}

// checkVersion accepts 1.24 and newer of major version 1. An older library
// would print to standard error when asked for a table it lacks, so it is
// asked only after this check.
func checkVersion(version string) error {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	ma, err1 := strconv.Atoi(major)
	mi, err2 := strconv.Atoi(minor)
	switch {
	case err1 != nil || err2 != nil:
		return fmt.Errorf("the library's version %q is not understood; use ONNX Runtime 1.24 or newer", version)
	case ma == 1 && mi < apiVersion:
		return fmt.Errorf("version %s is too old; use ONNX Runtime 1.%d or newer", version, apiVersion)
	case ma != 1:
		return fmt.Errorf("version %s is not known to this program; use ONNX Runtime 1.%d or a newer 1.x", version, apiVersion)
	}
	return nil
}

// Version is the library's version, such as "1.32.0".
func (l *Library) Version() string { return l.version }

// Path is the file the library was loaded from.
func (l *Library) Path() string { return l.path }

// BuildInfo is the library's description of its own build.
func (l *Library) BuildInfo() string { return goString(l.call(fnGetBuildInfoString)) }

// AvailableProviders lists the execution providers this library was built
// with, in its order of preference. Their own libraries may still be missing.
func (l *Library) AvailableProviders() ([]string, error) {
	var list uintptr
	var n int32
	err := l.check(l.call(fnGetAvailableProviders, uintptr(unsafe.Pointer(&list)), uintptr(unsafe.Pointer(&n))))
	if err != nil {
		return nil, fmt.Errorf("list execution providers: %w", err)
	}
	names := make([]string, n)
	for i, p := range unsafe.Slice((*uintptr)(pointer(list)), n) {
		names[i] = goString(p)
	}
	return names, l.check(l.call(fnReleaseAvailableProviders, list, uintptr(n)))
}

// call calls the function at index fn of the table. Pointers converted in the
// argument list stay alive and in place until it returns.
//
//go:uintptrescapes
func (l *Library) call(fn int, args ...uintptr) uintptr {
	r, _, _ := purego.SyscallN(l.api[fn], args...)
	return r
}

// callArgs is call with arguments in memory that the caller keeps from call to
// call: unlike call it makes no garbage, and unlike call it keeps nothing alive
// that the arguments point to.
func (l *Library) callArgs(fn int, args []uintptr) uintptr {
	r, _, _ := purego.SyscallN(l.api[fn], args...)
	return r
}

// check turns an OrtStatus into an error and releases it.
func (l *Library) check(status uintptr) error {
	if status == 0 {
		return nil
	}
	e := &Error{
		Code:    ErrorCode(uint32(l.call(fnGetErrorCode, status))),
		Message: tidy(goString(l.call(fnGetErrorMessage, status))),
	}
	l.call(fnReleaseStatus, status)
	return e
}

// takeString copies a string made by the default allocator and frees it.
func (l *Library) takeString(addr uintptr) (string, error) {
	s := goString(addr)
	return s, l.free(addr)
}

func (l *Library) free(addr uintptr) error {
	if addr == 0 {
		return nil
	}
	return l.check(l.call(fnAllocatorFree, l.allocator, addr))
}
