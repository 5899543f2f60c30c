package ort

import (
	"fmt"
	"strings"
	"sync/atomic"
)

// handle counts the uses of one C object. The owner holds the first use until
// it closes; the object is freed when the last use ends, so closing during a
// run is safe.
type handle struct {
	ptr    uintptr
	uses   atomic.Int64
	closed atomic.Bool
	free   func(uintptr)
}

// init starts the count at the owner's use.
func (h *handle) init(ptr uintptr, free func(uintptr)) {
	h.ptr, h.free = ptr, free
	h.uses.Store(1)
}

// acquire takes a use, which release ends; the error says what was being done,
// to what. The two texts are apart so that no run joins them in vain.
func (h *handle) acquire(what, name string) error {
	for {
		n := h.uses.Load()
		if n == 0 || h.closed.Load() {
			return fmt.Errorf("%s: %w", strings.TrimRight(what+" "+name, " "), ErrClosed)
		}
		if h.uses.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

func (h *handle) release() {
	if h.uses.Add(-1) == 0 {
		h.free(h.ptr)
	}
}

// close ends the owner's use, once.
func (h *handle) close() {
	if !h.closed.Swap(true) && h.free != nil {
		h.release()
	}
}

// abandon frees the object whatever uses are left: the collector found that
// nothing can end them any more.
func (h *handle) abandon() {
	if h.uses.Swap(0) > 0 {
		h.free(h.ptr)
	}
}
