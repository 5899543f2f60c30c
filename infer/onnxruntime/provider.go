package onnxruntime

import (
	"fmt"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// provider is one execution provider as this package drives it.
type provider struct {
	name string // what a user types, such as "cpu"
	ep   string // ONNX Runtime's name of it
	// chunk is the number of tokens of a prefill evaluated at once, unless
	// the caller says otherwise.
	chunk int
	// overhead is memory for activations and the runtime beside weights and
	// cache, in bytes.
	overhead int64
	// configure sets what the provider wants of a session.
	configure func(o *ort.SessionOptions, open infer.OpenOptions)
}

// providers lists those this package can drive, the preferred first.
func providers() []provider { return []provider{cpu} }

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
	return provider{}, fmt.Errorf("unknown backend %q: use one of %s", name, strings.Join(Names(), ", "))
}
