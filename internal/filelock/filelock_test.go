package filelock_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/llama-pajamas/llama-pajamas/internal/filelock"
)

func TestExclusive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b.lock")
	inside, waited := 0, 0
	var told sync.Mutex
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			unlock, err := filelock.Lock(t.Context(), path, func() { told.Lock(); waited++; told.Unlock() })
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			inside++ // the race detector sees it too
			if inside != 1 {
				t.Errorf("%d hold the lock", inside)
			}
			time.Sleep(30 * time.Millisecond)
			inside--
		})
	}
	wg.Wait()
	if waited == 0 || waited > 2 {
		t.Errorf("%d of 3 had to wait", waited)
	}
}

func TestCancel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := filelock.Lock(t.Context(), path, func() {})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := filelock.Lock(ctx, path, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	// One who waits for a lock file that is gone must not hold the old one.
	if err := os.Remove(path); err != nil {
		t.Skip(err) // Windows keeps open files
	}
	unlock()
	again, err := filelock.Lock(t.Context(), path, func() { t.Error("nobody has it") })
	if err != nil {
		t.Fatal(err)
	}
	again()
}
