package reference_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io/fs"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/internal/reference"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

func loadFS(t testing.TB, dir fs.FS) *reference.Model {
	t.Helper()
	cfg, err := fs.ReadFile(dir, "config.json")
	if err != nil {
		t.Fatal(err)
	}
	spec, err := arch.Parse(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b, err := fs.ReadFile(dir, "model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(b)
	var h map[string]struct {
		DType   string       `json:"dtype"`
		Shape   tensor.Shape `json:"shape"`
		Offsets [2]int64     `json:"data_offsets"`
	}
	if err := json.Unmarshal(b[8:8+n], &h); err != nil {
		t.Fatal(err)
	}
	m, err := reference.New(spec, func(name string) (*tensor.Tensor, bool) {
		e, ok := h[name]
		if !ok {
			return nil, false
		}
		dt, _ := tensor.ParseDType(e.DType)
		return &tensor.Tensor{Name: name, Shape: e.Shape, Type: e.DType, Reader: tensor.Raw{R: bytes.NewReader(b), Offset: 8 + int64(n) + e.Offsets[0], DType: dt}}, true
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}
