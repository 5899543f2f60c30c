package nativelib

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// lock waits for the right to change the libraries below cacheDir and returns
// what gives it back.
func lock(ctx context.Context, cacheDir string, log func(string)) (unlock func(), err error) {
	dir := filepath.Join(cacheDir, "lib")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the library folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the library folder: %w", err)
	}
	told := false
	for {
		busy, err := tryLock(f)
		switch {
		case err != nil:
			f.Close()
			return nil, fmt.Errorf("lock the library folder %s: %w", dir, err)
		case !busy:
			return func() { f.Close() }, nil
		case !told:
			told = true
			log("waiting for another setup that is using " + dir)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for another setup that is using %s: %w", dir, context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}
