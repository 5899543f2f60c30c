package llamacpp

import (
	"context"
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer"
)

// defaultContext is the limit of a model whose file tells none, minContext the
// shortest context worth starting with unasked.
const (
	defaultContext = 4096
	minContext     = 256
)

// What a device's memory must have left for the library's intermediate values,
// and the main memory for the library as a whole.
const (
	deviceOverhead = 600 << 20
	hostOverhead   = 150 << 20
)

// placement is where a model goes.
type placement struct {
	layers  int // on devices, as llama.cpp counts them: the output is one more
	context int
	fit     infer.Fit // of the main memory
}

// place decides how many layers go to devices and how long a sequence may be.
// free are the devices' bytes, host the main memory's (0: unknown).
func (b *Backend) place(f *Facts, o infer.OpenOptions, free []uint64, host int64) (placement, error) {
	p := placement{context: f.Context}
	switch {
	case o.Context < 0:
		return p, fmt.Errorf("a context of %d tokens: use 1 or more, or 0 for the model's own limit", o.Context)
	case o.Context > 0 && f.Context > 0 && o.Context > f.Context:
		return p, fmt.Errorf("a context of %d tokens is beyond the model's %d", o.Context, f.Context)
	case o.Context > 0:
		p.context = o.Context
	case f.Context == 0:
		p.context = defaultContext
	}
	p.layers = min(b.o.GPULayers, len(f.LayerBytes)+1)
	if b.o.GPULayers == AutoLayers {
		// A long default context must not keep layers from a device.
		tokens := p.context
		if o.Context == 0 {
			tokens = min(tokens, firstCapacity)
		}
		p.layers = b.fitLayers(f, tokens, free)
	}
	if len(free) == 0 {
		p.layers = 0
	}
	p.fit = infer.Fit{Weights: f.OtherBytes, Overhead: hostOverhead, Free: host, Context: p.context}
	if p.layers > len(f.LayerBytes) {
		p.fit.Weights = 0 // all but the embedding, whose rows are looked up in the file
	}
	for i, bytes := range f.LayerBytes {
		if i < len(f.LayerBytes)-p.layers {
			p.fit.Weights += bytes
			p.fit.CachePerToken += b.cache.size(f.CacheElements[i])
		}
	}
	if o.NoFitCheck {
		return p, nil
	}
	err := p.fit.Check()
	if err == nil {
		return p, nil
	}
	if largest := p.fit.Largest(); o.Context == 0 && largest >= minContext {
		b.log.Warn("context shortened to what fits the free memory", "context", largest, "model_context", p.context,
			"weight_bytes", p.fit.Weights, "cache_bytes_per_token", p.fit.CachePerToken, "free_bytes", host)
		p.context = largest
		return p, nil
	}
	return p, err
}

// fitLayers is how many layers, counted from the end, the devices' free memory
// holds with their cache of so many tokens; one more than there are where the
// output fits too.
func (b *Backend) fitLayers(f *Facts, tokens int, free []uint64) int {
	var room int64
	for _, n := range free {
		room += max(0, int64(n)-deviceOverhead)
	}
	count := 0
	for i := len(f.LayerBytes) - 1; i >= 0; i-- {
		room -= f.LayerBytes[i] + int64(tokens)*b.cache.size(f.CacheElements[i])
		if room < 0 {
			return count
		}
		count++
	}
	if room >= f.OtherBytes {
		count++
	}
	return count
}

// free reads the memory of the devices and of the machine.
func (b *Backend) free(ctx context.Context) (devices []uint64, host int64) {
	for _, d := range b.GPUs() {
		devices = append(devices, d.Free)
	}
	m, err := hardware.DetectMemory(ctx)
	if err != nil {
		return devices, 0
	}
	return devices, int64(m.Available)
}
