package chattemplate

import (
	"context"
	"time"
)

// Options bounds one render. The zero value gives the defaults, which leave
// room for a conversation of some million tokens.
type Options struct {
	// MaxSteps is how many operations a render may do: statements run, values
	// computed, items iterated, and one for every 64 bytes copied. Default
	// 100,000,000, since some templates look through all messages for each one.
	MaxSteps int
	// MaxOutput is the most bytes in the output, and in any one string made on
	// the way. Default 16 MiB.
	MaxOutput int
	// MaxMemory is the most bytes of strings, lists and dicts a render may
	// make, all together. Default 256 MiB.
	MaxMemory int
	// MaxDepth is how deep calls of macros and recursive loops may nest.
	// Default 200.
	MaxDepth int
	// Timeout is the longest a render may take. Default 10 seconds.
	Timeout time.Duration
	// Now is the clock of strftime_now. Default time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	setDefault := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	setDefault(&o.MaxSteps, 100_000_000)
	setDefault(&o.MaxOutput, 16<<20)
	setDefault(&o.MaxMemory, 256<<20)
	setDefault(&o.MaxDepth, 200)
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

const (
	// bytesPerStep is how many copied or searched bytes count as one step.
	bytesPerStep = 64
	// bytesPerItem is what one item of a list is charged for: the interface and
	// what it points to.
	bytesPerItem = 32
	// maxIterators bounds how many generators may feed one another.
	maxIterators = 100
	// clockEvery is how many steps pass between looks at clock and context.
	clockEvery = 4096
)

// run is the state of one render.
type run struct {
	ctx      context.Context
	opts     Options
	tmpl     *Template
	vars     *Dict
	globals  map[string]Value
	deadline time.Time
	steps    int
	memory   int
	depth    int
	nextLook int
}

// step charges n steps.
func (r *run) step(n int) error {
	r.steps += n
	if r.steps > r.opts.MaxSteps {
		return r.limit("steps", float64(r.opts.MaxSteps))
	}
	if r.steps >= r.nextLook {
		return r.look()
	}
	return nil
}

// look checks the context and the clock.
func (r *run) look() error {
	r.nextLook = r.steps + clockEvery
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if time.Now().After(r.deadline) {
		return r.limit("seconds", r.opts.Timeout.Seconds())
	}
	return nil
}

// alloc charges a string of n bytes, before or right after it is made.
func (r *run) alloc(n int) error {
	if n > r.opts.MaxOutput || n < 0 {
		return r.limit("bytes in one string", float64(r.opts.MaxOutput))
	}
	return r.charge(n)
}

// allocItems charges a list of n items.
func (r *run) allocItems(n int) error {
	if n < 0 || n > r.opts.MaxMemory/bytesPerItem {
		return r.limit("bytes of memory", float64(r.opts.MaxMemory))
	}
	return r.charge(n * bytesPerItem)
}

func (r *run) charge(n int) error {
	r.memory += n
	if r.memory > r.opts.MaxMemory {
		return r.limit("bytes of memory", float64(r.opts.MaxMemory))
	}
	return r.step(n / bytesPerStep)
}

func (r *run) limit(what string, n float64) error {
	return &LimitError{Template: r.tmpl.name, What: what, Limit: n}
}

// enter counts one level of calls; leave undoes it.
func (r *run) enter() error {
	r.depth++
	if r.depth > r.opts.MaxDepth {
		return r.limit("nested calls", float64(r.opts.MaxDepth))
	}
	return r.step(1)
}

func (r *run) leave() { r.depth-- }

// output collects what a template or a captured part of it prints.
type output struct {
	r   *run
	buf []byte
}

func (o *output) write(s string) error {
	if len(o.buf)+len(s) > o.r.opts.MaxOutput {
		return o.r.limit("bytes of output", float64(o.r.opts.MaxOutput))
	}
	if err := o.r.charge(len(s)); err != nil {
		return err
	}
	o.buf = append(o.buf, s...)
	return nil
}
