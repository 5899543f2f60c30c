package mmap_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/llama-pajamas/llama-pajamas/internal/mmap"
)

func TestOpen(t *testing.T) {
	for _, size := range []int{0, 1, 4095, 4096, 4097, 1 << 20} {
		want := bytes.Repeat([]byte("abcdefg"), size/7+1)[:size]
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, want, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := mmap.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if f.Size() != int64(size) || !bytes.Equal(f.Bytes(), want) {
			t.Errorf("%d bytes: mapped %d that differ", size, f.Size())
		}
		buf := make([]byte, size)
		if n, err := f.ReadAt(buf, 0); n != size || size > 0 && err != nil || !bytes.Equal(buf, want) {
			t.Errorf("%d bytes: read %d, %v", size, n, err)
		}
		if size > 0 {
			if n, err := f.ReadAt(buf, int64(size)-1); n != 1 || size > 1 && !errors.Is(err, io.EOF) {
				t.Errorf("%d bytes: read %d at the last, %v", size, n, err)
			}
			if err := iotest.TestReader(io.NewSectionReader(f, 0, f.Size()), want); err != nil {
				t.Error(err)
			}
		}
		if _, err := f.ReadAt(buf, -1); err == nil || !strings.Contains(err.Error(), "negative") {
			t.Errorf("negative offset: %v", err)
		}
		for range 2 {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
		if f.Bytes() != nil {
			t.Error("bytes after Close")
		}
		if err := os.Remove(path); err != nil { // Windows refuses while mapped
			t.Error(err)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := mmap.Open(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := mmap.Open(dir); err == nil {
		t.Error("a folder was mapped")
	}
}
