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

// findProvider returns the provider called name.
func findProvider(name string) (provider, error) {
	var known []string
	for _, p := range providers() {
		if p.name == name {
			return p, nil
		}
		known = append(known, p.name)
	}
	return provider{}, fmt.Errorf("unknown backend %q: use one of %s", name, strings.Join(known, ", "))
}
