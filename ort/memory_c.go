package ort

import (
	"fmt"
	"strings"
	"unsafe"
)

// pointer turns an address that C returned into a pointer. The memory is not
// Go's, so the garbage collector neither moves nor frees it.
func pointer(addr uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&addr)) }

// goString copies a zero-terminated string from C memory.
func goString(addr uintptr) string {
	if addr == 0 {
		return ""
	}
	p := pointer(addr)
	n := 0
	for *(*byte)(unsafe.Add(p, n)) != 0 {
		n++
	}
	return string(unsafe.Slice((*byte)(p), n))
}

// cString returns s with a zero byte at its end. A zero inside would silently
// cut the string in C.
func cString(s string) ([]byte, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return nil, fmt.Errorf("the text %q holds a zero byte", s)
	}
	b := make([]byte, len(s)+1)
	copy(b, s)
	return b, nil
}
