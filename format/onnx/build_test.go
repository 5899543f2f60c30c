package onnx_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// equateDims takes nil and empty dims for the same: a scalar tensor. (A nil
// Shape is not an empty one, so cmpopts.EquateEmpty would hide errors.)
var equateDims = cmp.FilterValues(func(a, b []int64) bool { return len(a)+len(b) == 0 }, cmp.Ignore())

// tinyModel has one of everything the writer can write: named, fixed and
// unknown dims, inline and external initializers (two over one range), each
// kind of attribute, metadata.
func tinyModel(t testing.TB) (*onnx.Model, *onnx.Layout) {
	t.Helper()
	g := onnx.NewGraph("tiny")
	g.Input("ids", onnx.I64, onnx.Named("batch"), onnx.Named("seq"))
	layout := &onnx.Layout{Location: "model.onnx.data"}
	table, err := layout.Place("table", 10*4*4)
	if err != nil {
		t.Fatal(err)
	}
	g.Initializer(onnx.Initializer{Name: "table", Elem: onnx.F32, Dims: []int64{10, 4}, External: &table})
	g.Initializer(onnx.Initializer{Name: "head", Elem: onnx.F32, Dims: []int64{4, 10}, External: &table})
	onnx.Const(g, "flat", nil, int64(-1), 4)
	g.Node("", "Gather", "/embed", []string{"table", "ids"}, []string{"x"}, onnx.Int("axis", 0))
	g.Node("", "Reshape", "/flatten", []string{"x", "flat"}, []string{"rows"})
	g.Node("", "MatMul", "/head", []string{"rows", "head"}, []string{"logits"})
	g.Output("logits", onnx.F32, onnx.Unknown, onnx.Fixed(10))
	m := onnx.NewModel(g, onnx.Opset{Domain: "", Version: 21}, onnx.Opset{Domain: "com.microsoft", Version: 1})
	m.Producer, m.ProducerVersion, m.Doc = "llama-pajamas", "test", "a model of three nodes"
	m.SetMeta("recipe", "none")
	return m, layout
}

func TestEncodeDecode(t *testing.T) {
	m, _ := tinyModel(t)
	m.Graph.Node("x.test", "Everything", "all", nil, []string{"unused", ""},
		onnx.Float("f", 0.5), onnx.String("s", "text"), onnx.Ints("is", 1, -2), onnx.Floats("fs", 1, 2),
		onnx.Strings("ss", "a", ""), onnx.TensorAttr("t", onnx.ConstTensor([]int64{}, true)),
		onnx.Attr{Name: "g", Type: onnx.AttrGraph, Graph: onnx.NewGraph("body")})
	m.Graph.Initializer(onnx.Initializer{Name: "words", Elem: onnx.Text, Dims: []int64{2}, Strings: []string{"a", "b"}})
	m.Graph.Initializer(onnx.Initializer{Name: "nibbles", Elem: onnx.I4, Dims: []int64{3}, Data: []byte{0x21, 0x03}})
	first, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	second, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the same model was encoded to different bytes")
	}
	got, err := onnx.Decode(first)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, got, equateDims); d != "" {
		t.Errorf("decoded model differs (-written +read):\n%s", d)
	}
}
