//go:build unix

package mmap

import "golang.org/x/sys/unix"

// Release lets the system take the memory of pages read so far; what is read
// again comes from the file again. It is advice: failures do not matter.
func (f *File) Release() {
	if len(f.data) > 0 {
		_ = unix.Madvise(f.data, unix.MADV_DONTNEED) // the mapping is read-only: nothing can be lost
	}
}
