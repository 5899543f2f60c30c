package nativelib

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/llama-pajamas/llama-pajamas/internal/filelock"
)

// lock waits for the right to change the libraries below cacheDir and returns
// what gives it back.
func lock(ctx context.Context, cacheDir string, log func(string)) (unlock func(), err error) {
	dir := filepath.Join(cacheDir, "lib")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the library folder: %w", err)
	}
	unlock, err = filelock.Lock(ctx, filepath.Join(dir, ".lock"), func() {
		log("waiting for another setup that is using " + dir)
	})
	if err != nil {
		return nil, fmt.Errorf("wait for another setup that is using %s: %w", dir, err)
	}
	return unlock, nil
}
