package checkpoint_test

import (
	"testing"

	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

// BenchmarkReadGGUF decodes a whole model, 128 KB of floats at a time.
func BenchmarkReadGGUF(b *testing.B) {
	c, err := checkpoint.Open(b.Context(), oracle.SampleGGUF(b), checkpoint.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]float32, 32<<10)
	var total int64
	for _, w := range c.Tensors() {
		total += 4 * w.Elements()
	}
	b.SetBytes(total)
	for b.Loop() {
		for _, w := range c.Tensors() {
			for off, n := int64(0), w.Elements(); off < n; {
				k := min(int64(len(buf)), n-off)
				if err := w.ReadFloat32(buf[:k], off); err != nil {
					b.Fatal(err)
				}
				off += k
			}
		}
	}
}
