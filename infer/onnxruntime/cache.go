package onnxruntime

import (
	"context"
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/ort"
)

// capacityStep is the granularity of a shared cache, in tokens.
const capacityStep = 128

// kvCache holds the past of every layer, bound to the prepared calls of the
// session's graphs.
type kvCache struct {
	kind    contract
	ports   []cachePort
	engines []*engine
	values  []*ort.Value
	memory  cacheMemory
	// next are the present tensors of a run of a growing cache on a device.
	next []*ort.Value
	// capacity is the rows the values have room for, in all kinds but a growing
	// cache, and limit the most tokens the session may hold.
	capacity, limit int
	// fixed is the capacity where the graph sets it, else 0.
	fixed int
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
func (c *kvCache) reserve(ctx context.Context, used, total int) error {
	if c.kind == growing {
		return c.start()
	}
	if total <= c.capacity {
		return nil
	}
	capacity := newCapacity(c.capacity, total, c.limit)
	if c.fixed > 0 {
		capacity = c.fixed
	}
	for i, p := range c.ports {
		// One port at a time, so that the peak is the new cache and one old
		// tensor.
		grown, err := c.memory.alloc(p.elem, 1, p.heads, int64(capacity), p.dim)
		if err != nil {
			return fmt.Errorf("grow the KV cache to %d tokens: %w", capacity, err)
		}
		// Rows beyond the mask are not read, so they stay as they come: pages
		// never touched take no memory. A hosted cache is read whole, where a
		// NaN times a weight of 0 is a NaN.
		if old := c.values[i]; old != nil {
			err = c.memory.copyRows(ctx, grown, old, p, used)
		} else if c.kind == hosted {
			err = zero(grown)
		}
		if err == nil {
			err = c.set(i, grown)
		}
		if err != nil {
			grown.Close()
			return fmt.Errorf("grow the KV cache to %d tokens: %w", capacity, err)
		}
	}
	c.capacity = capacity
	return nil
}

func zero(v *ort.Value) error {
	b, err := v.Bytes()
	clear(b)
	return err
}

// set makes a value the past of port i, and of a shared cache its present, in
// every graph, and closes the one before.
func (c *kvCache) set(i int, past *ort.Value) error {
	for _, e := range c.engines {
		if err := e.call.SetInput(e.past[i], past); err != nil {
			return err
		}
		var present *ort.Value
		switch c.kind {
		case shared:
			present = past
		case hosted:
			present = e.fresh[i]
		}
		if err := e.call.SetOutput(e.present[i], present); err != nil {
			return err
		}
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
		empty, err := c.memory.alloc(p.elem, 1, p.heads, 0, p.dim)
		if err != nil {
			return fmt.Errorf("make an empty KV cache: %w", err)
		}
		if err := c.set(i, empty); err != nil {
			empty.Close()
			return err
		}
	}
	return nil
}

// before prepares a run that ends with total tokens. A growing cache on the
// host leaves its present to the library; on a device that would copy it to
// the host, so it is made there.
func (c *kvCache) before(e *engine, total int) error {
	if c.kind != growing || c.memory.onHost() {
		return nil
	}
	for i, p := range c.ports {
		if old := c.next[i]; old != nil { // of a run that failed
			old.Close()
		}
		var err error
		if c.next[i], err = c.memory.alloc(p.elem, 1, p.heads, int64(total), p.dim); err != nil {
			return fmt.Errorf("make room for %d tokens in the KV cache: %w", total, err)
		}
		if err := e.call.SetOutput(e.present[i], c.next[i]); err != nil {
			return err
		}
	}
	return nil
}

// after takes over the present of a finished run of n tokens behind used ones.
func (c *kvCache) after(e *engine, used, n int) error {
	for i, p := range c.ports {
		switch c.kind {
		case shared:
			return nil
		case hosted:
			if err := appendRows(c.values[i], e.fresh[i], p, used, n); err != nil {
				return err
			}
			continue
		}
		present := c.next[i]
		if present == nil {
			present = e.call.TakeOutput(e.present[i])
		}
		c.next[i] = nil
		if err := c.set(i, present); err != nil {
			return err
		}
	}
	return nil
}

// truncate keeps the first n tokens. But for a growing cache that is the
// mask's business.
func (c *kvCache) truncate(ctx context.Context, n int) error {
	if c.kind != growing {
		return nil
	}
	for i, p := range c.ports {
		if c.values[i] == nil {
			continue
		}
		short, err := c.memory.alloc(p.elem, 1, p.heads, int64(n), p.dim)
		if err != nil {
			return fmt.Errorf("shorten the KV cache to %d tokens: %w", n, err)
		}
		if err = c.memory.copyRows(ctx, short, c.values[i], p, n); err == nil {
			err = c.set(i, short)
		}
		if err != nil {
			short.Close()
			return fmt.Errorf("shorten the KV cache to %d tokens: %w", n, err)
		}
	}
	return nil
}

func (c *kvCache) close() {
	for _, list := range [][]*ort.Value{c.values, c.next} {
		for i, v := range list {
			if v != nil {
				v.Close()
				list[i] = nil
			}
		}
	}
	c.memory.close()
	c.capacity = 0
}

// appendRows copies the last n rows of every head of a present into the
// cache, behind the used ones.
func appendRows(cache, present *ort.Value, p cachePort, used, n int) error {
	to, err := cache.Bytes()
	if err != nil {
		return err
	}
	from, err := present.Bytes()
	if err != nil {
		return err
	}
	row := int(p.dim) * p.elem.Bits() / 8
	toHead, fromHead := int(cache.Shape()[2])*row, int(present.Shape()[2])*row
	for h := range int(p.heads) {
		copy(to[h*toHead+used*row:][:n*row], from[(h+1)*fromHead-n*row:][:n*row])
	}
	return nil
}
