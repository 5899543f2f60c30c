package mmap

import (
	"fmt"
	"io"
	"math"
	"os"
	"sync"
)

// File is a file mapped for reading.
type File struct {
	name string
	data []byte

	once sync.Once
	err  error
}

// Open maps the whole file at path.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("map a file: %w", err)
	}
	defer f.Close() // the mapping outlives the descriptor
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("map a file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("map %s: not a regular file", path)
	}
	size := info.Size()
	if size > math.MaxInt {
		return nil, fmt.Errorf("map %s: %d bytes are more than this machine can address", path, size)
	}
	m := &File{name: path}
	if size == 0 { // an empty file cannot be mapped, and need not be
		return m, nil
	}
	if m.data, err = mapFile(f, int(size)); err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return m, nil
}

// Bytes is the file's content, valid until Close.
func (f *File) Bytes() []byte { return f.data }

// Size is the file's length in bytes.
func (f *File) Size() int64 { return int64(len(f.data)) }

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s: offset %d is negative", f.name, off)
	}
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Close unmaps the file. It may be called more than once.
func (f *File) Close() error {
	f.once.Do(func() {
		data := f.data
		f.data = nil
		if data != nil {
			if err := unmap(data); err != nil {
				f.err = fmt.Errorf("unmap %s: %w", f.name, err)
			}
		}
	})
	return f.err
}
