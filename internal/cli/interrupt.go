package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// Interrupts lets a command take Ctrl-C for a while. Without a handler the
// first interrupt cancels the program's context and the second ends the
// process.
type Interrupts struct {
	mu      sync.Mutex
	handler func()
}

// Handle makes interrupts call f until restore is called. On a nil receiver it
// does nothing.
func (in *Interrupts) Handle(f func()) (restore func()) {
	if in == nil {
		return func() {}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	before := in.handler
	in.handler = f
	return func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.handler = before
	}
}

// raise calls the handler and reports whether there is one.
func (in *Interrupts) raise() bool {
	in.mu.Lock()
	f := in.handler
	in.mu.Unlock()
	if f == nil {
		return false
	}
	f()
	return true
}

// watch connects in with the process's signals; cancel is what happens when
// no command wants the interrupt. stop ends the watch.
func (in *Interrupts) watch(cancel context.CancelFunc) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				if s == os.Interrupt && in.raise() {
					continue
				}
				cancel()
				signal.Stop(signals) // the next one ends the process
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}
