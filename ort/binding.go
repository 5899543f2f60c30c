package ort

import (
	"context"
	"fmt"
	"unsafe"
)

// Binding is OrtIoBinding: inputs and outputs bound to values or to a device,
// so that tensors stay on a device from run to run. One goroutine at a time
// uses a Binding. On the CPU a [Call] is as fast.
type Binding struct {
	s       *Session
	h       handle
	inputs  bound
	outputs bound
	own     *RunOptions
	args    [3]uintptr
}

// bound is what is bound, in the order of the first binding. A nil value is an
// output the library allocates.
type bound struct {
	names  []string
	values map[string]*Value
}

// put notes what is bound now and ends the use of what was before.
func (b *bound) put(name string, v *Value) {
	old, was := b.values[name]
	if !was {
		b.names = append(b.names, name)
	}
	if old != nil {
		old.res.release()
	}
	b.values[name] = v
}

func (b *bound) clear() {
	for _, v := range b.values {
		if v != nil {
			v.res.release()
		}
	}
	clear(b.values)
	b.names = b.names[:0]
}

// NewBinding makes an empty binding; close it after use.
func (s *Session) NewBinding() (*Binding, error) {
	if err := s.h.acquire("bind values to", s.name); err != nil {
		return nil, err
	}
	var ptr uintptr
	if err := s.lib.check(s.lib.call(fnCreateIoBinding, s.h.ptr, uintptr(unsafe.Pointer(&ptr)))); err != nil {
		s.h.release()
		return nil, fmt.Errorf("bind values to %s: %w", s.name, err)
	}
	b := &Binding{s: s, inputs: bound{values: map[string]*Value{}}, outputs: bound{values: map[string]*Value{}}}
	b.h.init(ptr, func(p uintptr) {
		s.lib.call(fnReleaseIoBinding, p)
		b.inputs.clear()
		b.outputs.clear()
		if b.own != nil {
			b.own.Close()
		}
		s.h.release()
	})
	return b, nil
}

// BindInput gives an input its value. The binding holds it until another is
// bound, [Binding.Clear] or Close.
func (b *Binding) BindInput(name string, v *Value) error {
	p, err := b.s.find("input", b.s.inputs, name)
	if err != nil {
		return fmt.Errorf("bind an input: %w", err)
	}
	return b.bind("input", fnBindInput, p, v, &b.inputs)
}

// BindOutput gives an output the value to write to, which may be one bound as
// an input too.
func (b *Binding) BindOutput(name string, v *Value) error {
	p, err := b.s.find("output", b.s.outputs, name)
	if err != nil {
		return fmt.Errorf("bind an output: %w", err)
	}
	return b.bind("output", fnBindOutput, p, v, &b.outputs)
}

func (b *Binding) bind(kind string, fn int, p *port, v *Value, to *bound) error {
	if err := b.h.acquire("bind a value of", b.s.name); err != nil {
		return err
	}
	defer b.h.release()
	if v == nil {
		return fmt.Errorf("bind %s %q of %s: the value is nil", kind, p.Name, b.s.name)
	}
	if err := v.res.acquire("bind", p.Name); err != nil {
		return err
	}
	b.args = [...]uintptr{b.h.ptr, p.cName, v.res.ptr}
	if err := b.s.lib.check(b.s.lib.callArgs(fn, b.args[:])); err != nil {
		v.res.release()
		return fmt.Errorf("bind %s %q of %s: %w", kind, p.Name, b.s.name, err)
	}
	to.put(p.Name, v)
	return nil
}

// BindOutputToDevice lets the library allocate an output in the given memory
// at each run; [Binding.Outputs] has it.
func (b *Binding) BindOutputToDevice(name string, where MemoryInfo) error {
	p, err := b.s.find("output", b.s.outputs, name)
	if err != nil {
		return fmt.Errorf("bind an output: %w", err)
	}
	what := fmt.Sprintf("bind output %q of %s to %s memory", name, b.s.name, where.Name)
	if err := b.h.acquire(what, ""); err != nil {
		return err
	}
	defer b.h.release()
	info, err := b.s.lib.newMemoryInfo(where)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer b.s.lib.call(fnReleaseMemoryInfo, info)
	if err := b.s.lib.check(b.s.lib.call(fnBindOutputToDevice, b.h.ptr, p.cName, info)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	b.outputs.put(name, nil)
	return nil
}

// Clear unbinds everything.
func (b *Binding) Clear() error {
	if err := b.h.acquire("clear a binding", ""); err != nil {
		return err
	}
	defer b.h.release()
	b.s.lib.call(fnClearBoundInputs, b.h.ptr)
	b.s.lib.call(fnClearBoundOutputs, b.h.ptr)
	b.inputs.clear()
	b.outputs.clear()
	return nil
}

// Run runs the model on what is bound. ctx and ro are as in [Call.Run].
func (b *Binding) Run(ctx context.Context, ro *RunOptions) error {
	if ctx.Err() != nil {
		return fmt.Errorf("run %s: %w", b.s.name, context.Cause(ctx))
	}
	if err := b.h.acquire("run a binding", ""); err != nil {
		return err
	}
	defer b.h.release()
	if err := b.s.checkOpen(); err != nil {
		return err
	}
	opts, err := b.s.options(ctx, ro, &b.own)
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
	b.args = [...]uintptr{b.s.h.ptr, ptr, b.h.ptr}
	return b.s.runError(ctx, opts, b.s.lib.check(b.s.lib.callArgs(fnRunWithBinding, b.args[:])))
}

// Outputs lists the bound outputs after a run, in the order of binding. A
// value bound by [Binding.BindOutput] is that value; one the library allocated
// is new at each call and the caller closes it.
func (b *Binding) Outputs() ([]Named, error) {
	what := "read the outputs of " + b.s.name
	if err := b.h.acquire(what, ""); err != nil {
		return nil, err
	}
	defer b.h.release()
	if len(b.outputs.names) == 0 {
		return nil, nil
	}
	l := b.s.lib
	var list, n uintptr
	err := l.check(l.call(fnGetBoundOutputValues, b.h.ptr, l.allocator, uintptr(unsafe.Pointer(&list)), uintptr(unsafe.Pointer(&n))))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	out, err := b.adopt(unsafe.Slice((*uintptr)(pointer(list)), n))
	if freeErr := l.free(list); err == nil {
		err = freeErr
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return out, nil
}

// adopt pairs the library's new OrtValues with the names bound.
func (b *Binding) adopt(ptrs []uintptr) ([]Named, error) {
	var out []Named
	var first error
	for i, ptr := range ptrs {
		var name string
		if i < len(b.outputs.names) {
			name = b.outputs.names[i]
		}
		switch v := b.outputs.values[name]; {
		case ptr == 0:
		case v != nil || first != nil:
			b.s.lib.call(fnReleaseValue, ptr)
			out = append(out, Named{Name: name, Value: v})
		default:
			v, err := b.s.lib.adopt(ptr, nil)
			if err != nil {
				first = fmt.Errorf("output %q: %w", name, err)
				continue
			}
			out = append(out, Named{Name: name, Value: v})
		}
	}
	if first != nil {
		for _, o := range out {
			if o.Value != nil && b.outputs.values[o.Name] == nil {
				o.Value.Close()
			}
		}
		return nil, first
	}
	return out, nil
}

// SynchronizeInputs waits until copies of bound inputs to their device are
// done.
func (b *Binding) SynchronizeInputs() error { return b.synchronize("inputs", fnSynchronizeBoundInputs) }

// SynchronizeOutputs waits until bound outputs are complete on their device.
func (b *Binding) SynchronizeOutputs() error {
	return b.synchronize("outputs", fnSynchronizeBoundOutputs)
}

func (b *Binding) synchronize(kind string, fn int) error {
	what := "synchronize the " + kind + " of " + b.s.name
	if err := b.h.acquire(what, ""); err != nil {
		return err
	}
	defer b.h.release()
	if err := b.s.lib.check(b.s.lib.call(fn, b.h.ptr)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Close unbinds everything and frees the binding once its run has ended.
func (b *Binding) Close() { b.h.close() }
