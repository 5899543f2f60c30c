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
	// pairs, of a growing cache on a device, hold the values: see [pair].
	pairs []pair
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
	if old := c.values[i]; old != nil && old != past && c.pairs == nil {
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
		empty, err := c.empty(i, p, 0)
		if err != nil {
			return fmt.Errorf("make an empty KV cache: %w", err)
		}
		if err := c.take(i, empty); err != nil {
			return err
		}
	}
	return nil
}

// empty is a tensor for n rows of a growing cache, not the one in use; of a
// pair, the other half.
func (c *kvCache) empty(i int, p cachePort, n int) (*ort.Value, error) {
	if c.pairs == nil {
		return c.memory.alloc(p.elem, 1, p.heads, int64(n), p.dim)
	}
	return c.pairs[i].other(c, p, n)
}

// take makes what empty or a run gave the past of port i.
func (c *kvCache) take(i int, past *ort.Value) error {
	if c.pairs != nil {
		c.pairs[i].now = 1 - c.pairs[i].now
	}
	return c.set(i, past)
}

// pair is the memory of one port of a growing cache on a device. Past and
// present take turns, each a view of as many rows as it has: a tensor made for
// every step would be larger than all that were freed, and asking a device for
// memory is slow.
type pair struct {
	memory [2]*ort.Value
	views  [2]*ort.Value
	rows   [2]int // that the memory has room for
	now    int    // which one is past
}

// other makes the half not in use n rows long.
func (q *pair) other(c *kvCache, p cachePort, n int) (*ort.Value, error) {
	o := 1 - q.now
	if q.memory[o] == nil || q.rows[o] < n {
		rows := newCapacity(max(q.rows[0], q.rows[1]), max(n, 1), max(c.limit, n))
		q.free(o)
		var err error
		if q.memory[o], err = c.memory.alloc(p.elem, 1, p.heads, int64(rows), p.dim); err != nil {
			return nil, err
		}
		if q.views[o], err = q.memory[o].View(1, p.heads, int64(n), p.dim); err != nil {
			return nil, err
		}
		q.rows[o] = rows
		return q.views[o], nil
	}
	return q.views[o], q.views[o].Reshape(1, p.heads, int64(n), p.dim)
}

func (q *pair) free(i int) {
	for _, v := range []*ort.Value{q.views[i], q.memory[i]} {
		if v != nil {
			v.Close()
		}
	}
	q.views[i], q.memory[i], q.rows[i] = nil, nil, 0
}

// before prepares a run that ends with total tokens. A growing cache on the
// host leaves its present to the library; on a device that would copy it to
// the host, so it gets its place there.
func (c *kvCache) before(e *engine, total int) error {
	for i := range c.pairs {
		present, err := c.pairs[i].other(c, c.ports[i], total)
		if err != nil {
			return fmt.Errorf("make room for %d tokens in the KV cache: %w", total, err)
		}
		if err := e.call.SetOutput(e.present[i], present); err != nil {
			return err
		}
	}
	return nil
}

// after takes over the present of a finished run of n tokens behind used ones.
func (c *kvCache) after(e *engine, used, n int) error {
	if c.kind == shared {
		return nil
	}
	for i, p := range c.ports {
		if c.kind == hosted {
			if err := appendRows(c.values[i], e.fresh[i], p, used, n); err != nil {
				return err
			}
			continue
		}
		if err := c.take(i, e.call.TakeOutput(e.present[i])); err != nil {
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
		old := c.values[i]
		if old == nil {
			continue
		}
		short, err := c.empty(i, p, n)
		if err != nil {
			return fmt.Errorf("shorten the KV cache to %d tokens: %w", n, err)
		}
		if err := c.memory.copyRows(ctx, short, old, p, n); err != nil {
			if c.pairs == nil {
				short.Close()
			}
			return fmt.Errorf("shorten the KV cache to %d tokens: %w", n, err)
		}
		if err := c.take(i, short); err != nil {
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
	for i := range c.pairs {
		c.pairs[i].free(0)
		c.pairs[i].free(1)
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
