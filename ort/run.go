package ort

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

// Named is a value under the name of an input or output.
type Named struct {
	Name  string
	Value *Value
}

// Run runs the model once. Outputs are filled in place: a Value given is
// written to, a nil one is set to a tensor allocated by the library, which the
// caller closes; no more outputs are computed than are named. ctx ends the run,
// and ro, which may be nil, holds further options. For many runs of one shape
// a [Call] is cheaper.
func (s *Session) Run(ctx context.Context, ro *RunOptions, inputs, outputs []Named) error {
	c, err := s.newCall(inputs, outputs)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Run(ctx, ro); err != nil {
		return err
	}
	for i := range outputs {
		if outputs[i].Value == nil {
			outputs[i].Value, c.results[i] = c.results[i], nil
		}
	}
	return nil
}

func (s *Session) newCall(inputs, outputs []Named) (*Call, error) {
	names := func(list []Named) []string {
		n := make([]string, len(list))
		for i := range list {
			n[i] = list[i].Name
		}
		return n
	}
	c, err := s.NewCall(names(inputs), names(outputs))
	if err != nil {
		return nil, err
	}
	for i := range inputs {
		if err := c.SetInput(i, inputs[i].Value); err != nil {
			c.Close()
			return nil, err
		}
	}
	for i := range outputs {
		if err := c.SetOutput(i, outputs[i].Value); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// Call is a run prepared once and repeated: the same inputs and outputs of a
// session, whose values may be replaced between runs. A run with all values
// set makes no garbage. One goroutine at a time uses a Call.
type Call struct {
	s       *Session
	h       handle
	inputs  slots
	outputs slots
	results []*Value // outputs the last run allocated, by output
	own     *RunOptions
	args    [8]uintptr
}

// slots are the arrays C reads: names and OrtValues, with the Values behind.
type slots struct {
	names  []uintptr
	ptrs   []uintptr
	values []*Value
	infos  []*port
}

// NewCall prepares runs that take and give these inputs and outputs, in this
// order. Close it after use.
func (s *Session) NewCall(inputs, outputs []string) (*Call, error) {
	if err := s.h.acquire("prepare a run of", s.name); err != nil {
		return nil, err
	}
	defer s.h.release()
	if len(outputs) == 0 {
		return nil, fmt.Errorf("prepare a run of %s: no outputs are named", s.name)
	}
	c := &Call{s: s, results: make([]*Value, len(outputs))}
	var err error
	if c.inputs, err = s.slots("input", s.inputs, inputs); err != nil {
		return nil, fmt.Errorf("prepare a run: %w", err)
	}
	if c.outputs, err = s.slots("output", s.outputs, outputs); err != nil {
		return nil, fmt.Errorf("prepare a run: %w", err)
	}
	c.args = [...]uintptr{
		s.h.ptr, 0, c.inputs.namesAddr(), c.inputs.ptrsAddr(), uintptr(len(inputs)),
		c.outputs.namesAddr(), uintptr(len(outputs)), c.outputs.ptrsAddr(),
	}
	c.h.init(0, func(uintptr) { c.free() })
	return c, nil
}

// slots makes room for the named values, with one element more than needed, so
// that the arrays have an address.
func (s *Session) slots(kind string, ports []port, names []string) (slots, error) {
	n := len(names)
	sl := slots{
		names: make([]uintptr, n+1), ptrs: make([]uintptr, n+1),
		values: make([]*Value, n), infos: make([]*port, n),
	}
	for i, name := range names {
		p, err := s.find(kind, ports, name)
		if err != nil {
			return slots{}, err
		}
		sl.infos[i], sl.names[i] = p, p.cName
	}
	return sl, nil
}

// The arrays' addresses hold as long as the slots do: they are on the heap,
// where the Call is.
func (sl *slots) namesAddr() uintptr { return uintptr(unsafe.Pointer(&sl.names[0])) }
func (sl *slots) ptrsAddr() uintptr  { return uintptr(unsafe.Pointer(&sl.ptrs[0])) }

// set replaces a value and ends the use of the one before.
func (sl *slots) set(what, name string, i int, v *Value) error {
	if v == sl.values[i] {
		return nil
	}
	if v != nil {
		if err := v.res.acquire(what, name); err != nil {
			return err
		}
	}
	if old := sl.values[i]; old != nil {
		old.res.release()
	}
	sl.values[i] = v
	return nil
}

// SetInput gives input i its value, until it is replaced or the Call closed.
func (c *Call) SetInput(i int, v *Value) error {
	if i < 0 || i >= len(c.inputs.values) {
		return fmt.Errorf("set input %d of a run of %s: it has %d", i, c.s.name, len(c.inputs.values))
	}
	if v == nil {
		return fmt.Errorf("set input %q of %s: the value is nil", c.inputs.infos[i].Name, c.s.name)
	}
	return c.inputs.set("set an input of", c.s.name, i, v)
}

// SetOutput gives output i the value to write to; nil lets the library
// allocate one at each run, to be had from [Call.Output].
func (c *Call) SetOutput(i int, v *Value) error {
	if i < 0 || i >= len(c.outputs.values) {
		return fmt.Errorf("set output %d of a run of %s: it has %d", i, c.s.name, len(c.outputs.values))
	}
	return c.outputs.set("set an output of", c.s.name, i, v)
}

// Output is the value of output i: the one set, or the one the last run
// allocated, which is closed by the next run.
func (c *Call) Output(i int) *Value {
	if v := c.outputs.values[i]; v != nil {
		return v
	}
	return c.results[i]
}

// TakeOutput is like [Call.Output], but an allocated value becomes the
// caller's, who closes it.
func (c *Call) TakeOutput(i int) *Value {
	v := c.Output(i)
	c.results[i] = nil
	return v
}

// Run runs the model. When ctx ends first, so does the run, with the context's
// cause as its error; outputs then hold a mixture of old and new values. ro
// may be nil.
func (c *Call) Run(ctx context.Context, ro *RunOptions) error {
	if ctx.Err() != nil {
		return fmt.Errorf("run %s: %w", c.s.name, context.Cause(ctx))
	}
	if err := c.acquire(); err != nil {
		return err
	}
	defer c.release()
	opts, err := c.s.options(ctx, ro, &c.own)
	if err != nil {
		return err
	}
	var ptr uintptr
	if opts != nil {
		if err := opts.enter(ctx); err != nil {
			return err
		}
		defer opts.h.release()
		ptr = opts.h.ptr
	}
	if err := c.load(); err != nil {
		return err
	}
	l := c.s.lib
	c.args[1] = ptr
	status := l.callArgs(fnRun, c.args[:])
	runtime.KeepAlive(c)
	if err := c.collect(status != 0); err != nil {
		return err
	}
	return c.s.runError(ctx, opts, l.check(status))
}

func (c *Call) acquire() error {
	if err := c.h.acquire("run a prepared call", ""); err != nil {
		return err
	}
	if err := c.s.h.acquire("run", c.s.name); err != nil {
		c.h.release()
		return err
	}
	return nil
}

func (c *Call) release() {
	c.s.h.release()
	c.h.release()
}

// load writes the OrtValues into the arrays; a Value's may have changed by
// Reshape.
func (c *Call) load() error {
	for i, v := range c.inputs.values {
		if v == nil {
			return fmt.Errorf("run %s: input %q is not set", c.s.name, c.inputs.infos[i].Name)
		}
		c.inputs.ptrs[i] = v.res.ptr
	}
	for i, v := range c.outputs.values {
		c.outputs.ptrs[i] = 0
		if v != nil {
			c.outputs.ptrs[i] = v.res.ptr
		}
		if old := c.results[i]; old != nil {
			old.Close()
			c.results[i] = nil
		}
	}
	return nil
}

// collect adopts the outputs the library allocated, or frees them where the
// run failed.
func (c *Call) collect(failed bool) error {
	for i, v := range c.outputs.values {
		ptr := c.outputs.ptrs[i]
		switch {
		case v != nil || ptr == 0:
		case failed:
			c.s.lib.call(fnReleaseValue, ptr)
		default:
			result, err := c.s.lib.adopt(ptr, nil)
			if err != nil {
				return fmt.Errorf("run %s: output %q: %w", c.s.name, c.outputs.infos[i].Name, err)
			}
			c.results[i] = result
		}
	}
	return nil
}

// runError says why a run failed: the context, Terminate, or the library.
func (s *Session) runError(ctx context.Context, ro *RunOptions, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("run %s: %w", s.name, context.Cause(ctx))
	case ro != nil && ro.terminated() && isFail(err):
		return fmt.Errorf("run %s: %w", s.name, ErrTerminated)
	}
	return fmt.Errorf("run %s: %w", s.name, err)
}

// isFail reports the code that a terminated run has.
func isFail(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == CodeFail
}

// Close ends the use of the values and closes outputs the last run allocated.
func (c *Call) Close() { c.h.close() }

func (c *Call) free() {
	for _, list := range [][]*Value{c.inputs.values, c.outputs.values} {
		for i, v := range list {
			if v != nil {
				v.res.release()
				list[i] = nil
			}
		}
	}
	for i, v := range c.results {
		if v != nil {
			v.Close()
			c.results[i] = nil
		}
	}
	if c.own != nil {
		c.own.Close()
	}
}
