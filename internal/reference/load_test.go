package reference_test

import (
	"bytes"
	"io/fs"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/internal/reference"
)

// loadFS reads the model of a Hugging Face folder with one safetensors file.
func loadFS(t testing.TB, dir fs.FS) *reference.Model {
	t.Helper()
	config, err := fs.ReadFile(dir, "config.json")
	if err != nil {
		t.Fatal(err)
	}
	spec, err := arch.Parse(config)
	if err != nil {
		t.Fatal(err)
	}
	b, err := fs.ReadFile(dir, "model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	r, err := safetensors.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := reference.New(spec, r.Tensor)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
