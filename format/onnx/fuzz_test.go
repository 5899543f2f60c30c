package onnx_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// FuzzDecode: no input panics or takes memory out of proportion; what decodes
// can be checked, described and sorted, and what encodes decodes to the same.
func FuzzDecode(f *testing.F) {
	tiny, _ := tinyModel(f)
	add := func(m *onnx.Model) {
		b, err := m.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(tiny)
	for _, cases := range [][]opCase{opCases, brokenCases} {
		for _, c := range cases {
			add(c.model())
		}
	}
	g := chain()
	g.Node("", "If", "if", list(scalar(g, "cond", true)), list("z"), body("b"))
	add(onnx.NewModel(g, onnx.Opset{Version: 24}))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := allocated()
		m, err := onnx.Decode(b)
		// An empty message of two bytes becomes structs of some hundred here
		// and in the protobuf package.
		if used := allocated() - before; used > 1<<20+uint64(len(b))*1000 {
			t.Errorf("%d bytes allocated for %d", used, len(b))
		}
		if err != nil {
			return
		}
		// Whether the model is right does not matter here.
		_ = onnx.Check(m, onnx.CheckOptions{AllowUnknown: len(b)%2 == 0, Complete: true})
		onnx.Infer(m)
		if err := onnx.Describe(io.Discard, m); err != nil {
			t.Error(err)
		}
		if len(m.Dropped) == 0 {
			reencode(t, m)
		}
		c := m.Graph.Clone()
		_ = c.Sort()
		c.Prune()
	})
}

func reencode(t *testing.T, m *onnx.Model) {
	first, err := m.Encode()
	if err != nil {
		t.Fatalf("a decoded model cannot be encoded: %v", err)
	}
	again, err := onnx.Decode(first)
	if err != nil {
		t.Fatalf("an encoded model cannot be decoded: %v", err)
	}
	if d := cmp.Diff(m, again, equateDims, equateNaN); d != "" {
		t.Errorf("model differs after encoding (-before +after):\n%s", d)
	}
	second, err := again.Encode()
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("the second encoding differs (%v)", err)
	}
}

// equateNaN compares floats by value with NaN equal to itself.
var equateNaN = cmp.FilterValues(func(a, b float32) bool { return a != a && b != b }, cmp.Ignore())
