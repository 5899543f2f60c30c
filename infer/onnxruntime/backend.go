package onnxruntime

import (
	"fmt"
	"log/slog"

	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// Options configure a backend. Only Library is required.
type Options struct {
	// Library is the path of the ONNX Runtime shared library; package
	// nativelib finds it.
	Library string
	// Provider names the execution provider: "cpu", the default.
	Provider string
	// Logger gets warnings, and with debug level the runtime's own messages;
	// nil is silent.
	Logger *slog.Logger
}

// Backend is ONNX Runtime with one execution provider. It implements
// infer.Backend.
type Backend struct {
	lib      *ort.Library
	env      *ort.Env
	provider provider
	log      *slog.Logger
}

var _ infer.Backend = (*Backend)(nil)

// New loads the library.
func New(o Options) (*Backend, error) {
	if o.Provider == "" {
		o.Provider = cpu.name
	}
	p, err := findProvider(o.Provider)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	lib, err := ort.Open(o.Library)
	if err != nil {
		return nil, fmt.Errorf("open the %s backend: %w", o.Provider, err)
	}
	env, err := lib.NewEnv(ort.EnvOptions{Name: "llama-pajamas"})
	if err != nil {
		return nil, fmt.Errorf("open the %s backend: %w", o.Provider, err)
	}
	return &Backend{lib: lib, env: env, provider: p, log: o.Logger}, nil
}

// Name is "onnxruntime".
func (b *Backend) Name() string { return "onnxruntime" }

// Library is the loaded runtime.
func (b *Backend) Library() *ort.Library { return b.lib }

// Env is the runtime's environment, for sessions beside language models.
func (b *Backend) Env() *ort.Env { return b.env }

// Close gives the environment back once its sessions are closed.
func (b *Backend) Close() { b.env.Close() }
