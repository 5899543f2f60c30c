package ort_test

import (
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/llama-pajamas/llama-pajamas/ort"
)

// A model of the tests, written as protobuf by hand: the field numbers are
// those of onnx.proto.

type message []byte

func (m message) num(field protowire.Number, v int64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, field, protowire.VarintType), uint64(v))
}

func (m message) str(field protowire.Number, s string) message {
	return protowire.AppendString(protowire.AppendTag(m, field, protowire.BytesType), s)
}

func (m message) msg(field protowire.Number, sub []byte) message {
	return protowire.AppendBytes(protowire.AppendTag(m, field, protowire.BytesType), sub)
}

// graph collects a GraphProto.
type graph struct{ body message }

// dims are int (fixed) or string (named).
func valueInfo(name string, t ort.ElementType, dims ...any) message {
	var shape message
	for _, d := range dims {
		switch d := d.(type) {
		case int:
			shape = shape.msg(1, message{}.num(1, int64(d)))
		case string:
			shape = shape.msg(1, message{}.str(2, d))
		}
	}
	tensor := message{}.num(1, int64(t)).msg(2, shape)
	return message{}.str(1, name).msg(2, message{}.msg(1, tensor))
}

func (g *graph) input(name string, t ort.ElementType, dims ...any) {
	g.body = g.body.msg(11, valueInfo(name, t, dims...))
}

func (g *graph) output(name string, t ort.ElementType, dims ...any) {
	g.body = g.body.msg(12, valueInfo(name, t, dims...))
}

func (g *graph) node(op string, inputs, outputs []string, attrs ...message) {
	var n message
	for _, in := range inputs {
		n = n.str(1, in)
	}
	for _, out := range outputs {
		n = n.str(2, out)
	}
	n = n.str(3, op+"_"+outputs[0]).str(4, op)
	for _, a := range attrs {
		n = n.msg(5, a)
	}
	g.body = g.body.msg(1, n)
}

func floatBytes(data []float32) []byte {
	var raw []byte
	for _, v := range data {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return raw
}

func (g *graph) initializer(name string, dims []int64, data []float32) {
	var t message
	for _, d := range dims {
		t = t.num(1, d)
	}
	t = t.num(2, int64(ort.Float32)).str(8, name).msg(9, floatBytes(data))
	g.body = g.body.msg(5, t)
}

func (g *graph) external(name, file string, dims []int64) {
	var t message
	for _, d := range dims {
		t = t.num(1, d)
	}
	t = t.num(2, int64(ort.Float32)).str(8, name).
		msg(13, message{}.str(1, "location").str(2, file)).num(14, 1)
	g.body = g.body.msg(5, t)
}

// model is a ModelProto of IR version 10 and opset 21.
func (g *graph) model() []byte {
	body := g.body.str(2, "test graph")
	return message{}.num(1, 10).str(2, "ort tests").num(5, 7).msg(7, body).
		msg(8, message{}.str(1, "").num(2, 21)).
		msg(14, message{}.str(1, "purpose").str(2, "a test"))
}

// addModel is C = A + B over float32 [n, 4].
func addModel() []byte {
	var g graph
	g.input("A", ort.Float32, "n", 4)
	g.input("B", ort.Float32, "n", 4)
	g.output("C", ort.Float32, "n", 4)
	g.node("Add", []string{"A", "B"}, []string{"C"})
	return g.model()
}
