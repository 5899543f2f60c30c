package runcode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Options permit and limit a run. A zero limit is its default.
type Options struct {
	// Allow is the permission to run code that a model wrote. Without it Run
	// and Check return ErrNotAllowed.
	Allow bool
	// Python is the interpreter: an absolute path as Find returns it, which is
	// used as it is, or a name for Find; empty: python3 or python.
	Python string
	Wall   time.Duration // time on the clock, 30 s: a busy machine is slow
	CPU    time.Duration // time of the processor in whole seconds, 5 s
	Memory int64         // address space in bytes, 1 GiB
	Output int           // bytes of standard output and error that are kept, 16 KiB
}

func (o Options) withDefaults() Options {
	if o.Wall <= 0 {
		o.Wall = 30 * time.Second
	}
	if o.CPU <= 0 {
		o.CPU = 5 * time.Second
	}
	if o.Memory <= 0 {
		o.Memory = 1 << 30
	}
	if o.Output <= 0 {
		o.Output = 16 << 10
	}
	return o
}

// Result tells how a program ended.
type Result struct {
	// Passed says that the program came to its end: no exception, no exit call,
	// no limit.
	Passed bool `json:"passed"`
	// Reason says in a few words why not: "AssertionError", "time limit of 10s".
	Reason string `json:"reason,omitempty"`
	// Output is the beginning of standard output and error together.
	Output    string        `json:"output,omitempty"`
	Truncated bool          `json:"truncated,omitempty"` // there was more output
	Wall      time.Duration `json:"wall"`
}

var (
	// ErrNotAllowed is returned without Options.Allow.
	ErrNotAllowed = errors.New("running code that a model wrote is not permitted")
	// ErrUnsupported says that programs cannot be walled in here, so that none
	// is run.
	ErrUnsupported = errors.New("code that a model wrote cannot be run safely here")
	// ErrNoPython says that there is no Python.
	ErrNoPython = errors.New("no Python found")
)

// Run runs program, the text of a Python program, and tells whether it came to
// its end. An error says that it was not run; that a program fails is a Result.
func Run(ctx context.Context, program string, o Options) (Result, error) {
	if !o.Allow {
		return Result{}, ErrNotAllowed
	}
	o = o.withDefaults()
	python := o.Python
	if !filepath.IsAbs(python) {
		var err error
		if python, err = Find(ctx, python); err != nil {
			return Result{}, err
		}
	}
	return run(ctx, python, program, o)
}

// Check says whether Run can run programs here, by running an empty one: nil,
// or ErrNotAllowed, ErrUnsupported or ErrNoPython with the reason.
func Check(ctx context.Context, o Options) error {
	r, err := Run(ctx, "pass\n", o)
	if err == nil && !r.Passed {
		return fmt.Errorf("%w: an empty program fails: %s %s", ErrUnsupported, r.Reason, r.Output)
	}
	return err
}

// Find finds Python on PATH, by name or, if that is empty, as python3 or python,
// and asks it for the path of its program: what is on PATH may be a script that
// chooses among versions. Whoever runs many programs finds it once.
func Find(ctx context.Context, name string) (string, error) {
	names := []string{name}
	if name == "" {
		names = []string{"python3", "python"}
	}
	for _, n := range names {
		path, err := exec.LookPath(n)
		if err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, path, "-I", "-S", "-c",
			"import sys\nif sys.version_info < (3, 8): sys.exit('Python %d.%d is older than 3.8' % sys.version_info[:2])\nprint(sys.executable)").Output()
		if err != nil {
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				return "", fmt.Errorf("%w: %s: %s", ErrNoPython, path, bytes.TrimSpace(exit.Stderr))
			}
			return "", fmt.Errorf("%w: %s: %w", ErrNoPython, path, err)
		}
		if real := strings.TrimSpace(string(out)); real != "" {
			return real, nil
		}
	}
	return "", fmt.Errorf("%w: %s is not on PATH; install Python 3.8 or later, or leave out the permission to run code", ErrNoPython, strings.Join(names, " or "))
}
