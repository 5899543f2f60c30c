package onnxruntime

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// provider is one execution provider as this package drives it.
type provider struct {
	name string // what a user types, such as "cpu"
	ep   string // ONNX Runtime's name of it
	// next is tried where this one cannot be used; "" ends the chain.
	next string
	// with names a provider that takes the nodes this one leaves.
	with string
	// file is the base name of the provider's own library, without the
	// system's prefix and ending; "" where it is built into ONNX Runtime.
	file string
	// memory is where the cache lies; "" means the computer's.
	memory string
	// chunk is the number of tokens of a prefill evaluated at once, unless
	// the caller says otherwise.
	chunk int
	// context is the longest sequence unless the caller asks for more; 0 means
	// the model's own limit.
	context int
	// rows is true where graphs are edited to give logits of several positions
	// for drafts to be checked with. Where it is not known that this works with
	// the provider's compiled files, or pays, it is false.
	rows bool
	// overhead is memory for activations and the runtime beside weights and
	// cache, in bytes.
	overhead int64
	// compiles is true where loading can take minutes and leaves files in the
	// artifact's cache folder, of which those matching this pattern show that
	// it was done before.
	compiles string
	// weights is the memory the graph's weights take once loaded.
	weights func(g *graph) int64
	// free is the memory that can be had, 0 where unknown.
	free func(ctx context.Context, m *machine, options map[string]string) int64
	// configure sets what the provider wants of a session.
	configure func(o *ort.SessionOptions, r *request) error
}

// request is one attempt to load one graph with a provider.
type request struct {
	ctx     context.Context
	open    infer.OpenOptions
	folder  *modeldir.Folder
	graphs  *graphs
	graph   *graph            // the one of them being loaded
	context int               // tokens the session will hold
	options map[string]string // of the provider itself, as the user gave them
	machine *machine
	env     *ort.Env
	// dir is the artifact's own cache folder; "" keeps nothing.
	dir string
}

// providers lists those this package can drive, the preferred first.
func providers() []provider { return []provider{tensorrt, cuda, coreml, cpu} }

// Names lists the providers that [Options] can name, the preferred first.
func Names() []string {
	var names []string
	for _, p := range providers() {
		names = append(names, p.name)
	}
	return names
}

// findProvider returns the provider called name.
func findProvider(name string) (provider, error) {
	for _, p := range providers() {
		if p.name == name {
			return p, nil
		}
	}
	return provider{}, fmt.Errorf("unknown backend %q: use auto or one of %s", name, strings.Join(Names(), ", "))
}

// Chain lists the providers that are tried in turn when name is asked for.
func Chain(name string) ([]string, error) {
	var names []string
	for name != "" {
		p, err := findProvider(name)
		if err != nil {
			return nil, err
		}
		names = append(names, p.name)
		name = p.next
	}
	return names, nil
}

// ProviderName is ONNX Runtime's name of a provider, such as
// "CPUExecutionProvider" of "cpu".
func ProviderName(name string) string {
	p, err := findProvider(name)
	if err != nil {
		return ""
	}
	return p.ep
}

// Best is the provider to use for a model where the user leaves the choice:
// the one the artifact was made for, if the machine has the hardware, else the
// CPU. Artifacts made for no provider run on an NVIDIA card where there is one.
func Best(folder *modeldir.Folder, acc hardware.Accelerators) string {
	made := ""
	if folder.Metadata != nil {
		made = folder.Metadata.Target.ExecutionProvider
	}
	nvidia := len(acc.NVIDIA) > 0 || acc.Jetson != ""
	switch {
	case made == tensorrt.ep && nvidia:
		return tensorrt.name
	case (made == cuda.ep || made == "any" || strings.HasPrefix(made, "NvTensorRTRTX")) && nvidia:
		return cuda.name
	case made == coreml.ep && acc.Apple:
		return coreml.name
	}
	return cpu.name
}

// merged is defaults with what the user gave on top.
func merged(defaults, given map[string]string) map[string]string {
	all := maps.Clone(defaults)
	maps.Copy(all, given)
	return all
}

// hostMemory is the main memory that can be had without swapping.
func hostMemory(ctx context.Context, _ *machine, _ map[string]string) int64 {
	m, err := hardware.DetectMemory(ctx)
	if err != nil {
		return 0
	}
	return int64(m.Available)
}

// onDisk is the size of the weights as the file has them.
func onDisk(g *graph) int64 { return g.bytes.total() }

// usable says why the library cannot use the provider, "" if nothing is known
// to be in the way. What it needs from folders the system's loader does not
// search is opened.
func (p *provider) usable(b *Backend) (why string) {
	if !slices.Contains(b.available, p.ep) {
		return fmt.Sprintf("the ONNX Runtime library %s (%s) was built without %s", b.lib.Path(), b.lib.Version(), p.ep)
	}
	for _, file := range p.files() {
		if why := b.machine.needs(file); why != "" {
			return why
		}
	}
	return ""
}

// files are the provider libraries it needs: its own, and that of the one it
// leaves nodes to (TensorRT's does not work without CUDA's).
func (p *provider) files() []string {
	if p.file == "" {
		return nil
	}
	list := []string{p.file}
	if with, err := findProvider(p.with); err == nil {
		list = append(list, with.file)
	}
	return list
}

// cachePlace is the device memory the cache lies in; ok is false for the
// computer's own.
func (p *provider) cachePlace(b *Backend, r *request) (place ort.MemoryInfo, ok bool) {
	if b.placeCache != nil {
		return *b.placeCache, true
	}
	if p.memory == "" {
		return ort.MemoryInfo{}, false
	}
	id, _ := strconv.Atoi(r.options["device_id"]) // 0 where it is not given
	return ort.MemoryInfo{Name: p.memory, DeviceID: id}, true
}

// moverProviders are those that move a cache on a device, with the user's
// choice of the device.
func (p *provider) moverProviders(options map[string]string) []ort.Provider {
	if p.memory == "" {
		return nil
	}
	own := map[string]string{"device_id": "0"}
	if id, ok := options["device_id"]; ok {
		own["device_id"] = id
	}
	return []ort.Provider{{Name: "CUDAExecutionProvider", Options: own}}
}
