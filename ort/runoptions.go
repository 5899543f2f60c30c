package ort

import (
	"context"
	"fmt"
	"sync"
	"unsafe"
)

// RunOptions are the options of a run, and the way to end it. One RunOptions
// serves one run at a time.
type RunOptions struct {
	lib *Library
	h   handle

	// done is the context channel the flag is tied to, with stop to untie it.
	// The tie outlives a run, so that a decode loop under one context makes it
	// once.
	done <-chan struct{}
	stop func() bool

	mu     sync.Mutex // guards what follows; Terminate comes from anywhere
	tie    uint64     // counts ties, so that a late callback does nothing
	byHand bool       // Terminate was called
	byCtx  bool       // the context raised the flag
}

// NewRunOptions makes run options; close them after use.
func (l *Library) NewRunOptions() (*RunOptions, error) {
	r := &RunOptions{lib: l}
	var ptr uintptr
	if err := l.check(l.call(fnCreateRunOptions, uintptr(unsafe.Pointer(&ptr)))); err != nil {
		return nil, fmt.Errorf("create run options: %w", err)
	}
	r.h.init(ptr, func(p uintptr) { l.call(fnReleaseRunOptions, p) })
	return r, nil
}

// AddConfig sets a run config entry, such as "gpu_graph_id".
func (r *RunOptions) AddConfig(key, value string) error {
	what := fmt.Sprintf("set run config entry %q to %q", key, value)
	k, err := cString(key)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	v, err := cString(value)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return r.set(what, fnAddRunConfigEntry, uintptr(unsafe.Pointer(&k[0])), uintptr(unsafe.Pointer(&v[0])))
}

// SetTag names the run in the library's log and profile.
func (r *RunOptions) SetTag(tag string) error {
	t, err := cString(tag)
	if err != nil {
		return fmt.Errorf("set the run tag: %w", err)
	}
	return r.set("set the run tag", fnRunOptionsSetRunTag, uintptr(unsafe.Pointer(&t[0])))
}

// Terminate ends the run that uses these options, and any later one, until
// [RunOptions.Unset].
func (r *RunOptions) Terminate() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.set("terminate a run", fnRunOptionsSetTerminate); err != nil {
		return err
	}
	r.byHand = true
	return nil
}

// Unset takes [RunOptions.Terminate] back.
func (r *RunOptions) Unset() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.set("take a run's termination back", fnRunOptionsUnsetTerminate); err != nil {
		return err
	}
	r.byHand = false
	return nil
}

// Close frees the options once the run that uses them has ended.
func (r *RunOptions) Close() {
	r.untie()
	r.h.close()
}

//go:uintptrescapes
func (r *RunOptions) set(what string, fn int, args ...uintptr) error {
	if err := r.h.acquire(what, ""); err != nil {
		return err
	}
	defer r.h.release()
	all := append([]uintptr{r.h.ptr}, args...)
	if err := r.lib.check(r.lib.call(fn, all...)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// options is ro, or the options of its own that a prepared run makes where ctx
// can end it.
func (s *Session) options(ctx context.Context, ro *RunOptions, own **RunOptions) (*RunOptions, error) {
	if ro != nil || ctx.Done() == nil {
		return ro, nil
	}
	if *own == nil {
		made, err := s.lib.NewRunOptions()
		if err != nil {
			return nil, err
		}
		*own = made
	}
	return *own, nil
}

// enter takes a use of the options for a run under ctx.
func (r *RunOptions) enter(ctx context.Context) error {
	if err := r.h.acquire("run with options", ""); err != nil {
		return err
	}
	r.follow(ctx)
	return nil
}

// follow ties the termination flag to ctx. Runs under the same context find
// the tie made: no allocation, no goroutine.
func (r *RunOptions) follow(ctx context.Context) {
	done := ctx.Done()
	if done == r.done {
		return
	}
	r.untie()
	if done == nil {
		return
	}
	r.mu.Lock()
	r.tie++
	tie := r.tie
	r.mu.Unlock()
	r.done = done
	r.stop = context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.tie == tie && r.set("terminate a run", fnRunOptionsSetTerminate) == nil {
			r.byCtx = true
		}
	})
}

// untie forgets the context and lowers the flag that it raised.
func (r *RunOptions) untie() {
	if r.stop == nil {
		return
	}
	r.stop()
	r.done, r.stop = nil, nil
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tie++
	if r.byCtx && !r.byHand {
		// Closed options, the only failure, run nothing any more.
		_ = r.set("take a run's termination back", fnRunOptionsUnsetTerminate)
	}
	r.byCtx = false
}

// terminated reports whether Terminate was called and not taken back.
func (r *RunOptions) terminated() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byHand
}
