package llama

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// flag is a word of memory that C code looks at: the address of strlen serves
// as a callback of the kind bool(void *), which is true where the memory does
// not begin with a zero byte. So no Go code runs on the library's threads, and
// a look costs a nanosecond.
type flag struct {
	word *atomic.Uint64
	pin  runtime.Pinner
}

// flagOn begins with a byte that is not zero, and has one that is, whatever the
// byte order.
const flagOn = 0x0100_0000_0000_0001

func newFlag(on bool) *flag {
	f := &flag{word: new(atomic.Uint64)}
	f.pin.Pin(f.word)
	f.set(on)
	return f
}

func (f *flag) set(on bool) {
	if on {
		f.word.Store(flagOn)
		return
	}
	f.word.Store(0)
}

func (f *flag) addr() unsafe.Pointer { return unsafe.Pointer(f.word) }

func (f *flag) release() { f.pin.Unpin() }
