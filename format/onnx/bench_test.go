package onnx_test

import (
	"fmt"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// BenchmarkDecodeCheck reads and checks a graph of the size of a model with 64
// layers of 20 nodes.
func BenchmarkDecodeCheck(b *testing.B) {
	g := onnx.NewGraph("deep")
	x := in(g, "x", onnx.F32, "batch", "seq", 64)
	zeros(g, "w", onnx.F32, 64, 64)
	for i := range 64 * 20 {
		y := fmt.Sprintf("/layers.%d/value_%d", i/20, i)
		op, inputs := "MatMul", list(x, "w")
		if i%2 == 1 {
			op, inputs = "Add", list(x, x)
		}
		g.Node("", op, "node"+y, inputs, list(y))
		x = y
	}
	g.Output(x, onnx.F32, dims("batch", "seq", 64)...)
	m := onnx.NewModel(g, onnx.Opset{Version: 21})
	data, err := m.Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		m, err := onnx.Decode(data)
		if err != nil {
			b.Fatal(err)
		}
		if err := onnx.Check(m, onnx.CheckOptions{Complete: true}); err != nil {
			b.Fatal(err)
		}
	}
}
