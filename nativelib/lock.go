package nativelib

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/llama-pajamas/llama-pajamas/internal/filelock"
)

// lock waits for the right to change the libraries below cacheDir and returns
// what gives it back.
func lock(ctx context.Context, cacheDir string, log func(string)) (unlock func(), err error) {
	dir := filepath.Join(cacheDir, "lib")
	unlock, err = filelock.Lock(ctx, filepath.Join(dir, ".lock"), func() {
		log("waiting for another setup that is using " + dir)
	})
	if err != nil {
		return nil, fmt.Errorf("take turns with other setups in %s: %w", dir, err)
	}
	return unlock, nil
}
