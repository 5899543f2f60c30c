package onnxruntime

import (
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/ort"
)

// capacityStep is the granularity of a shared cache, in tokens.
const capacityStep = 128

// kvCache holds the past of every layer, bound to a prepared call.
type kvCache struct {
	lib   *ort.Library
	env   *ort.Env
	call  *ort.Call
	ports []cachePort
	// inputs and outputs are the call's slots of each port.
	inputs, outputs []int
	values          []*ort.Value
	// shared: values are past and present at once, capacity rows long.
	shared   bool
	capacity int
	limit    int // tokens the session may hold
}

// newCapacity is the size of a shared cache that must hold need tokens: room
// for some tokens more, a quarter more than it was, in steps, never beyond
// the limit.
func newCapacity(old, need, limit int) int {
	n := max(need+capacityStep/4, old+old/4)
	n = (n + capacityStep - 1) / capacityStep * capacityStep
	return max(min(n, limit), need)
}

// reserve makes room for total tokens, of which used are in the cache.
func (c *kvCache) reserve(used, total int) error {
	if !c.shared {
		return c.start()
	}
	if total <= c.capacity {
		return nil
	}
	capacity := newCapacity(c.capacity, total, c.limit)
	for i, p := range c.ports {
		// One port at a time, so that the peak is the new cache and one old
		// tensor.
		grown, err := c.env.NewAllocated(p.elem, 1, p.heads, int64(capacity), p.dim)
		if err != nil {
			return fmt.Errorf("grow the KV cache to %d tokens: %w", capacity, err)
		}
		// Rows beyond the mask are not read, so they stay as they come: pages
		// never touched take no memory.
		if old := c.values[i]; old != nil {
			if err := copyRows(grown, old, p, used); err != nil {
				grown.Close()
				return fmt.Errorf("grow the KV cache to %d tokens: %w", capacity, err)
			}
		}
		if err := c.set(i, grown, grown); err != nil {
			return err
		}
	}
	c.capacity = capacity
	return nil
}

// set binds past and present of port i and closes the value before.
func (c *kvCache) set(i int, past, present *ort.Value) error {
	if err := c.call.SetInput(c.inputs[i], past); err != nil {
		return err
	}
	if err := c.call.SetOutput(c.outputs[i], present); err != nil {
		return err
	}
	if old := c.values[i]; old != nil && old != past {
		old.Close()
	}
	c.values[i] = past
	return nil
}

// start gives a growing cache its empty past.
func (c *kvCache) start() error {
	for i, p := range c.ports {
		if c.values[i] != nil {
			continue
		}
		empty, err := c.env.NewAllocated(p.elem, 1, p.heads, 0, p.dim)
		if err != nil {
			return fmt.Errorf("make an empty KV cache: %w", err)
		}
		if err := c.set(i, empty, nil); err != nil {
			return err
		}
	}
	return nil
}

// advance takes over the present of a finished run as the next past.
func (c *kvCache) advance() error {
	if c.shared {
		return nil
	}
	for i := range c.ports {
		present := c.call.TakeOutput(c.outputs[i])
		if err := c.set(i, present, nil); err != nil {
			return err
		}
	}
	return nil
}

// truncate keeps the first n tokens. In a shared cache that is the mask's
// business.
func (c *kvCache) truncate(n int) error {
	if c.shared {
		return nil
	}
	for i, p := range c.ports {
		if c.values[i] == nil {
			continue
		}
		short, err := c.env.NewAllocated(p.elem, 1, p.heads, int64(n), p.dim)
		if err != nil {
			return fmt.Errorf("shorten the KV cache to %d tokens: %w", n, err)
		}
		if err := copyRows(short, c.values[i], p, n); err != nil {
			short.Close()
			return fmt.Errorf("shorten the KV cache to %d tokens: %w", n, err)
		}
		if err := c.set(i, short, nil); err != nil {
			return err
		}
	}
	return nil
}

func (c *kvCache) close() {
	for i, v := range c.values {
		if v != nil {
			v.Close()
			c.values[i] = nil
		}
	}
	c.capacity = 0
}

// copyRows copies the first n rows of every head between tensors of different
// length.
func copyRows(dst, src *ort.Value, p cachePort, n int) error {
	to, err := dst.Bytes()
	if err != nil {
		return err
	}
	from, err := src.Bytes()
	if err != nil {
		return err
	}
	row := int(p.dim) * p.elem.Bits() / 8
	toHead, fromHead := int(dst.Shape()[2])*row, int(src.Shape()[2])*row
	for h := range int(p.heads) {
		copy(to[h*toHead:][:n*row], from[h*fromHead:][:n*row])
	}
	return nil
}
