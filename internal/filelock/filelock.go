// Package filelock keeps processes from doing the same work at once, by locks
// on files: flock on Unix, LockFileEx on the first byte on Windows. Python's
// filelock takes the same ones, so the two exclude each other.
//
// A lock belongs to the open file: two that one process opens exclude each
// other too. All functions may be called concurrently.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// ErrUnsupported says that the file system has no locks (some network ones).
var ErrUnsupported = errors.New("the file system has no locks")

// Lock waits for the lock on the file path, made with its folder where need
// be, and returns what gives it back. busy is called once if another has it.
// The file stays.
func Lock(ctx context.Context, path string, busy func()) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for told := false; ; {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o664)
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		taken, err := try(f)
		if err == nil && !taken && current(f, path) {
			return func() { f.Close() }, nil
		}
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if taken && !told {
			told = true
			busy()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the lock %s: %w", path, context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// current reports whether f is still the file of that name: the one who had
// the lock may have removed it.
func current(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}
