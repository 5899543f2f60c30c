package llamacpp

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/llama"
	"github.com/llama-pajamas/llama-pajamas/nativelib"
)

// AutoLayers puts as many layers on the devices as their free memory holds.
const AutoLayers = -1

// Options configure a backend. Only Library is required.
type Options struct {
	// Library is the path of the llama.cpp shared library; package nativelib
	// finds it.
	Library string
	// Depend says where NVIDIA's libraries may lie, for a build with CUDA.
	Depend nativelib.DependOptions
	// GPULayers is how many layers, counted from the end, are computed by
	// devices other than the CPU; [AutoLayers] means as many as fit.
	GPULayers int
	// KVCache is the type of keys and values in the cache, one of [CacheTypes];
	// "" means f16. Those below 16 bits need flash attention.
	KVCache string
	// Flash turns flash attention "on" or "off"; "" leaves it to the library.
	Flash string
	// RPC are machines that run llama.cpp's rpc-server, "host:port", whose
	// devices are used like those of this one.
	RPC []string
	// NoRepack keeps weights in the order of the file; see
	// llama.ModelOptions.NoRepack.
	NoRepack bool
	// OnAbort hears why before llama.cpp ends the process; see llama.Options.
	OnAbort func(why string) `json:"-"`
	// Logger gets warnings, and with debug level the library's own messages;
	// nil is silent.
	Logger *slog.Logger `json:"-"`
}

// cacheType is a type of the cache and the bytes of a block of elements.
type cacheType struct {
	name         string
	typ          llama.Type
	block, bytes int64
}

var cacheTypes = []cacheType{
	{"f16", llama.F16, 1, 2}, {"f32", llama.F32, 1, 4}, {"bf16", llama.BF16, 1, 2},
	{"q8_0", llama.Q8_0, 32, 34}, {"q5_1", llama.Q5_1, 32, 24}, {"q5_0", llama.Q5_0, 32, 22},
	{"q4_1", llama.Q4_1, 32, 20}, {"q4_0", llama.Q4_0, 32, 18},
}

// quantized reports fewer than 16 bits an element.
func (t cacheType) quantized() bool { return t.block > 1 }

// size is the bytes of n elements.
func (t cacheType) size(n int64) int64 { return n * t.bytes / t.block }

// CacheTypes lists what [Options.KVCache] may be.
func CacheTypes() []string {
	var names []string
	for _, t := range cacheTypes {
		names = append(names, t.name)
	}
	return names
}

// Backend is the llama.cpp library. It implements infer.Backend.
type Backend struct {
	o     Options
	lib   *llama.Library
	cache cacheType
	flash llama.FlashAttention
	log   *slog.Logger
	// capacity is the tokens a cache is made for at first.
	capacity int
}

var _ infer.Backend = (*Backend)(nil)

// New loads the library, and what its devices need.
func New(o Options) (*Backend, error) {
	b := &Backend{o: o, log: o.Logger, capacity: firstCapacity}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("open the llama.cpp backend: %w", err)
	}
	b.preload()
	var err error
	if b.lib, err = llama.Open(o.Library, llama.Options{Logger: b.log, OnAbort: o.OnAbort}); err != nil {
		return nil, fmt.Errorf("open the llama.cpp backend: %w", err)
	}
	have := b.lib.Devices()
	for _, endpoint := range o.RPC {
		name := "RPC[" + endpoint + "]"
		if slices.ContainsFunc(have, func(d llama.Device) bool { return strings.Contains(d.Name, name) }) {
			continue // added by a backend before this one
		}
		if _, err := b.lib.AddRPC(endpoint); err != nil {
			return nil, fmt.Errorf("open the llama.cpp backend: %w", err)
		}
	}
	return b, nil
}

// check settles the options that are words.
func (b *Backend) check() error {
	name := strings.ToLower(b.o.KVCache)
	if name == "" {
		name = cacheTypes[0].name
	}
	i := slices.IndexFunc(cacheTypes, func(t cacheType) bool { return t.name == name })
	if i < 0 {
		return fmt.Errorf("a cache of type %q is not known; choose one of %s", b.o.KVCache, strings.Join(CacheTypes(), ", "))
	}
	b.cache = cacheTypes[i]
	switch strings.ToLower(b.o.Flash) {
	case "", "auto":
		b.flash = llama.FlashAuto
	case "on":
		b.flash = llama.FlashOn
	case "off":
		b.flash = llama.FlashOff
	default:
		return fmt.Errorf("flash attention %q: choose on, off or auto", b.o.Flash)
	}
	if b.cache.quantized() {
		if b.flash == llama.FlashOff {
			return fmt.Errorf("a cache of type %s needs flash attention, which is off", b.cache.name)
		}
		b.flash = llama.FlashOn
	}
	if b.o.GPULayers < AutoLayers {
		return fmt.Errorf("%d layers on devices: use 0 for none, or more", b.o.GPULayers)
	}
	return nil
}

// preload opens what a device's library needs and the system's loader would not
// find. What is missing shows as a device that is not there.
func (b *Backend) preload() {
	real, err := filepath.EvalSymlinks(b.o.Library)
	if err != nil {
		return // opening the library says what is wrong
	}
	for _, device := range []string{"libggml-cuda.so", "ggml-cuda.dll"} {
		file := filepath.Join(filepath.Dir(real), device)
		list, err := nativelib.Dependencies(file, b.o.Depend)
		if err != nil {
			continue // not a build with CUDA
		}
		if missing := nativelib.Missing(list); len(missing) > 0 {
			b.log.Warn("llama.cpp cannot use NVIDIA cards", "missing", strings.Join(missing, ", "), "hint", nativelib.MissingHint(missing))
			continue
		}
		for _, d := range list {
			if d.Searched || filepath.Dir(d.Path) == filepath.Dir(real) {
				continue
			}
			if err := llama.Preload(d.Path); err != nil {
				b.log.Warn("llama.cpp cannot use NVIDIA cards", "why", err.Error())
			}
		}
	}
}

// Name is "llama.cpp".
func (b *Backend) Name() string { return "llama.cpp" }

// Library is the loaded library.
func (b *Backend) Library() *llama.Library { return b.lib }

// GPUs are the devices with which layers can be computed, other than the CPU.
func (b *Backend) GPUs() []llama.Device {
	return slices.DeleteFunc(b.lib.Devices(), func(d llama.Device) bool {
		return d.Type != llama.GPU && d.Type != llama.IntegratedGPU
	})
}
