package bench

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dropCache makes the system forget what it holds of files in memory, so that
// the next read comes from the disk, and checks that it did.
func dropCache(files []string) error {
	var held, all int64
	for _, name := range files {
		h, n, err := dropFile(name)
		if err != nil {
			return fmt.Errorf("drop %s from the system's cache: %w", name, err)
		}
		held, all = held+h, all+n
	}
	if held > all/50 {
		return fmt.Errorf("the system keeps %d %% of the files in memory: another program uses them, or they lie on a disk in memory", 100*held/all)
	}
	return nil
}

// dropFile returns how many of the file's pages are in memory afterwards.
func dropFile(name string) (held, pages int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return 0, 0, err
	}
	fd := int(f.Fd())
	// What is not written yet stays otherwise; a file system that cannot sync
	// a file open for reading shows in what is held.
	_ = unix.Fdatasync(fd)
	if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil {
		return 0, 0, err
	}
	data, err := unix.Mmap(fd, 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, unix.Munmap(data)) }()
	page := os.Getpagesize()
	resident := make([]byte, (len(data)+page-1)/page)
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)), uintptr(unsafe.Pointer(&resident[0]))); errno != 0 {
		return 0, 0, errno
	}
	for _, r := range resident {
		held += int64(r & 1)
	}
	return held, int64(len(resident)), nil
}
