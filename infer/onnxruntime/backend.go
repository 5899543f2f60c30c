package onnxruntime

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/nativelib"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/target"
)

// Options configure a backend. Only Library is required.
type Options struct {
	// Library is the path of the ONNX Runtime shared library; package
	// nativelib finds it.
	Library string
	// Provider names the execution provider: "tensorrt", "cuda", "coreml" or
	// "cpu", the default. Where it cannot be used the next of [Chain] is tried,
	// with a warning.
	Provider string
	// NoFallback fails in place of trying the next provider.
	NoFallback bool
	// ProviderOptions are options of the provider itself, in its own words,
	// checked against package target. A provider fallen back to gets only the
	// number of the device.
	ProviderOptions map[string]string
	// SessionConfig are further session configuration entries.
	SessionConfig map[string]string
	// Optimization is the library's graph optimization; [ort.OptimizeNone]
	// computes Q/DQ graphs as written.
	Optimization ort.Optimization
	// Record notes which provider runs each node; see [NodeCounts].
	Record bool
	// Profile, where not empty, is the path prefix of a trace of the graph's
	// nodes, ended by [EndProfiling].
	Profile string
	// CacheDir is where engines and compiled models are kept between runs; ""
	// keeps none.
	CacheDir string
	// Depend says where NVIDIA's libraries may lie.
	Depend nativelib.DependOptions
	// Building is called every second while a provider compiles a model for
	// the first time, and with done at the end; nil is never called.
	Building func(provider string, elapsed time.Duration, done bool)
	// Logger gets warnings, and with debug level the runtime's own messages;
	// nil is silent.
	Logger *slog.Logger
}

// Fallback says why a provider was passed over.
type Fallback struct {
	From string `json:"from"`
	To   string `json:"to"`
	Why  string `json:"why"`
}

// Backend is ONNX Runtime with one execution provider and those it falls back
// to. It implements infer.Backend.
type Backend struct {
	o         Options
	lib       *ort.Library
	env       *ort.Env
	chain     []provider
	available []string // ONNX Runtime's names of the providers built in
	machine   *machine
	log       *slog.Logger
	// placeCache, where not nil, is where the cache lies whatever the
	// provider: tests drive the device's path with the host's memory.
	placeCache *ort.MemoryInfo
}

var _ infer.Backend = (*Backend)(nil)

// New loads the library.
func New(o Options) (*Backend, error) {
	if o.Provider == "" {
		o.Provider = cpu.name
	}
	names, err := Chain(o.Provider)
	if err != nil {
		return nil, err
	}
	if o.Library == "" {
		return nil, fmt.Errorf("open the %s backend: no ONNX Runtime library was named", o.Provider)
	}
	if err := target.CheckOptions(o.Provider, o.ProviderOptions); err != nil {
		return nil, fmt.Errorf("open the %s backend: %w", o.Provider, err)
	}
	b := &Backend{o: o, log: o.Logger}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	for _, name := range names {
		p, err := findProvider(name)
		if err != nil {
			return nil, err
		}
		b.chain = append(b.chain, p)
	}
	if o.NoFallback {
		b.chain = b.chain[:1]
	}
	if b.lib, err = ort.Open(o.Library); err != nil {
		return nil, fmt.Errorf("open the %s backend: %w", o.Provider, err)
	}
	if b.available, err = b.lib.AvailableProviders(); err != nil {
		return nil, fmt.Errorf("open the %s backend: %w", o.Provider, err)
	}
	if b.env, err = b.lib.NewEnv(ort.EnvOptions{Name: "llama-pajamas"}); err != nil {
		return nil, fmt.Errorf("open the %s backend: %w", o.Provider, err)
	}
	b.machine = newMachine(o.Library, o.Depend)
	return b, nil
}

// Name is "onnxruntime".
func (b *Backend) Name() string { return "onnxruntime" }

// Library is the loaded runtime.
func (b *Backend) Library() *ort.Library { return b.lib }

// Env is the runtime's environment, for sessions beside language models.
func (b *Backend) Env() *ort.Env { return b.env }

// Built reports whether the library was built with a provider.
func (b *Backend) Built(name string) bool {
	p, err := findProvider(name)
	return err == nil && slices.Contains(b.available, p.ep)
}

// Usable says why a provider cannot be used with this library, "" where
// nothing is known to be in the way: the library has it, and the libraries it
// needs were found.
func (b *Backend) Usable(name string) string {
	p, err := findProvider(name)
	if err != nil {
		return err.Error()
	}
	return p.usable(b)
}

// Close gives the environment back once its sessions are closed.
func (b *Backend) Close() { b.env.Close() }
