package onnx_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

const ms = onnx.DomainMicrosoft

// opCase is one small graph that makes the value "y". Outputs named y2, y3 are
// graph outputs too. The same cases go through the oracles.
type opCase struct {
	name  string
	build func(g *onnx.Graph)
	want  string // element type and shape of y; "" in broken cases
	bad   string // for a broken graph: part of the problem's text
	// lets names the library that lets a broken graph of standard operators
	// pass: "onnx" or "runtime".
	lets string
}

// dims turns names, numbers and nil (unknown) into dims.
func dims(ds ...any) []onnx.Dim {
	out := make([]onnx.Dim, len(ds))
	for i, d := range ds {
		switch d := d.(type) {
		case string:
			out[i] = onnx.Named(d)
		case int:
			out[i] = onnx.Fixed(int64(d))
		default:
			out[i] = onnx.Unknown
		}
	}
	return out
}

func in(g *onnx.Graph, name string, elem onnx.ElemType, ds ...any) string {
	return g.Input(name, elem, dims(ds...)...)
}

// zeros adds an initializer of zero bytes.
func zeros(g *onnx.Graph, name string, elem onnx.ElemType, ds ...int64) string {
	n, ok := elem.Bytes(ds)
	if !ok {
		panic(fmt.Sprintf("no size for %v %v", elem, ds))
	}
	return g.Initializer(onnx.Initializer{Name: name, Elem: elem, Dims: ds, Data: make([]byte, n)})
}

func ints(g *onnx.Graph, name string, vs ...int64) string { return onnx.Const(g, name, nil, vs...) }

func scalar[T int64 | int32 | float32 | bool](g *onnx.Graph, name string, v T) string {
	return onnx.Const(g, name, []int64{}, v)
}

// op adds a node of the given domain that makes y from inputs.
func op(g *onnx.Graph, domain, name string, inputs []string, attrs ...onnx.Attr) {
	g.Node(domain, name, "the node", inputs, []string{"y"}, attrs...)
}

func list(s ...string) []string { return s }

// one is a case of a single node over x [b, 3, 4] and further inputs.
func one(name string, elem onnx.ElemType, want string, attrs ...onnx.Attr) opCase {
	return opCase{name: name, want: want, build: func(g *onnx.Graph) {
		op(g, "", name, list(in(g, "x", elem, "b", 3, 4)), attrs...)
	}}
}

func two(name string, elem onnx.ElemType, want string) opCase {
	return opCase{name: name, want: want, build: func(g *onnx.Graph) {
		op(g, "", name, list(in(g, "x", elem, "b", 3, 4), in(g, "x2", elem, 3, 1)))
	}}
}

var opCases = []opCase{
	one("Abs", onnx.F32, "FLOAT [b, 3, 4]"), one("Cos", onnx.F32, "FLOAT [b, 3, 4]"),
	one("Sin", onnx.F32, "FLOAT [b, 3, 4]"), one("Erf", onnx.F32, "FLOAT [b, 3, 4]"),
	one("Exp", onnx.F32, "FLOAT [b, 3, 4]"), one("Log", onnx.F32, "FLOAT [b, 3, 4]"),
	one("Relu", onnx.F32, "FLOAT [b, 3, 4]"), one("Neg", onnx.F32, "FLOAT [b, 3, 4]"),
	one("Sqrt", onnx.F32, "FLOAT [b, 3, 4]"), one("Reciprocal", onnx.F32, "FLOAT [b, 3, 4]"),
	one("Sigmoid", onnx.F32, "FLOAT [b, 3, 4]"), one("Tanh", onnx.F32, "FLOAT [b, 3, 4]"),
	one("Gelu", onnx.F32, "FLOAT [b, 3, 4]", onnx.String("approximate", "tanh")),
	one("Identity", onnx.F16, "FLOAT16 [b, 3, 4]"), one("Not", onnx.Bool, "BOOL [b, 3, 4]"),
	one("Softmax", onnx.F32, "FLOAT [b, 3, 4]", onnx.Int("axis", -1)),
	one("Cast", onnx.F32, "FLOAT16 [b, 3, 4]", onnx.Int("to", int64(onnx.F16))),
	one("Clip", onnx.F32, "FLOAT [b, 3, 4]"), one("Trilu", onnx.F32, "FLOAT [b, 3, 4]", onnx.Int("upper", 0)),
	one("Flatten", onnx.F32, "FLOAT [b, 12]", onnx.Int("axis", 1)),
	one("Transpose", onnx.F32, "FLOAT [3, 4, b]", onnx.Ints("perm", 1, 2, 0)),
	one("ArgMax", onnx.F32, "INT64 [b, 3]", onnx.Int("axis", -1), onnx.Int("keepdims", 0)),
	one("Shape", onnx.F32, "INT64 [2]", onnx.Int("start", 1)),
	{name: "DynamicQuantizeLinear", want: "UINT8 [b, 4]", build: func(g *onnx.Graph) {
		g.Node("", "DynamicQuantizeLinear", "the node", list(in(g, "x", onnx.F32, "b", 4)), list("y", "y2", "y3"))
	}},
	one("ReduceMax", onnx.F32, "FLOAT [1, 1, 1]"),
	two("Add", onnx.F32, "FLOAT [b, 3, 4]"), two("Sub", onnx.I64, "INT64 [b, 3, 4]"),
	two("Mul", onnx.F32, "FLOAT [b, 3, 4]"), two("Div", onnx.F32, "FLOAT [b, 3, 4]"),
	two("Pow", onnx.F32, "FLOAT [b, 3, 4]"), two("Equal", onnx.I64, "BOOL [b, 3, 4]"),
	two("Less", onnx.F32, "BOOL [b, 3, 4]"), two("LessOrEqual", onnx.I32, "BOOL [b, 3, 4]"),
	two("Greater", onnx.F32, "BOOL [b, 3, 4]"), two("GreaterOrEqual", onnx.F32, "BOOL [b, 3, 4]"),
	two("And", onnx.Bool, "BOOL [b, 3, 4]"), two("Or", onnx.Bool, "BOOL [b, 3, 4]"),
	two("Min", onnx.F32, "FLOAT [b, 3, 4]"), two("Max", onnx.F32, "FLOAT [b, 3, 4]"),
	{name: "Where", want: "FLOAT [b, 3, 4]", build: func(g *onnx.Graph) {
		op(g, "", "Where", list(in(g, "c", onnx.Bool, "b", 1, 4), in(g, "x", onnx.F32, 3, 1), in(g, "x2", onnx.F32)))
	}},
	{name: "CumSum", want: "INT64 [b, s]", build: func(g *onnx.Graph) {
		op(g, "", "CumSum", list(in(g, "x", onnx.I64, "b", "s"), scalar[int64](g, "axis", 1)))
	}},
	{name: "ReduceSum keepdims 0", want: "INT64 [b]", build: func(g *onnx.Graph) {
		op(g, "", "ReduceSum", list(in(g, "x", onnx.I64, "b", "s"), ints(g, "axes", 1)), onnx.Int("keepdims", 0))
	}},
	{name: "ReduceMean", want: "FLOAT [b, s, 1]", build: func(g *onnx.Graph) {
		op(g, "", "ReduceMean", list(in(g, "x", onnx.F32, "b", "s", 8), ints(g, "axes", -1)))
	}},
	{name: "ReduceMin noop", want: "FLOAT [b, s]", build: func(g *onnx.Graph) {
		op(g, "", "ReduceMin", list(in(g, "x", onnx.F32, "b", "s")), onnx.Int("noop_with_empty_axes", 1))
	}},
	{name: "TopK", want: "FLOAT [b, 2]", build: func(g *onnx.Graph) {
		g.Node("", "TopK", "the node", list(in(g, "x", onnx.F32, "b", 9), ints(g, "k", 2)), list("y", "y2"))
	}},
	{name: "Gather", want: "FLOAT [b, s, 8]", build: func(g *onnx.Graph) {
		op(g, "", "Gather", list(zeros(g, "w", onnx.F32, 10, 8), in(g, "ids", onnx.I64, "b", "s")))
	}},
	{name: "GatherElements", want: "FLOAT [b, 2]", build: func(g *onnx.Graph) {
		op(g, "", "GatherElements", list(in(g, "x", onnx.F32, "b", 8), in(g, "ids", onnx.I64, "b", 2)), onnx.Int("axis", 1))
	}},
	{name: "ScatterND", want: "FLOAT [b, 3, 4]", build: func(g *onnx.Graph) {
		op(g, "", "ScatterND", list(in(g, "x", onnx.F32, "b", 3, 4), zeros(g, "i", onnx.I64, 2, 1), in(g, "u", onnx.F32, 2, 3, 4)))
	}},
	{name: "MatMul", want: "FLOAT [b, s, 5]", build: func(g *onnx.Graph) {
		op(g, "", "MatMul", list(in(g, "x", onnx.F32, "b", "s", 8), zeros(g, "w", onnx.F32, 8, 5)))
	}},
	{name: "MatMul batched", want: "FLOAT [b, 2, s, 5]", build: func(g *onnx.Graph) {
		op(g, "", "MatMul", list(in(g, "x", onnx.F32, "b", 2, "s", 8), in(g, "x2", onnx.F32, 2, 8, 5)))
	}},
	{name: "MatMul vectors", want: "FLOAT []", build: func(g *onnx.Graph) {
		op(g, "", "MatMul", list(in(g, "x", onnx.F32, 8), in(g, "x2", onnx.F32, 8)))
	}},
	{name: "MatMulInteger", want: "INT32 [b, 5]", build: func(g *onnx.Graph) {
		op(g, "", "MatMulInteger", list(in(g, "x", onnx.U8, "b", 8), zeros(g, "w", onnx.I8, 8, 5)))
	}},
	{name: "Gemm", want: "FLOAT [b, 5]", build: func(g *onnx.Graph) {
		op(g, "", "Gemm", list(in(g, "x", onnx.F32, "b", 8), zeros(g, "w", onnx.F32, 5, 8), zeros(g, "c", onnx.F32, 5)), onnx.Int("transB", 1))
	}},
	{name: "Concat", want: "FLOAT [b, 5, s]", build: func(g *onnx.Graph) {
		op(g, "", "Concat", list(in(g, "x", onnx.F32, "b", 2, "s"), in(g, "x2", onnx.F32, "b", 3, "s")), onnx.Int("axis", -2))
	}},
	{name: "Split sizes", want: "FLOAT [b, 3]", build: func(g *onnx.Graph) {
		g.Node("", "Split", "the node", list(in(g, "x", onnx.F32, "b", 8), ints(g, "sizes", 3, 5)), list("y", "y2"), onnx.Int("axis", 1))
	}},
	{name: "Split equal", want: "FLOAT [b, 4]", build: func(g *onnx.Graph) {
		g.Node("", "Split", "the node", list(in(g, "x", onnx.F32, "b", 7)), list("y", "y2"), onnx.Int("axis", 1), onnx.Int("num_outputs", 2))
	}},
	{name: "Slice", want: "FLOAT [b, 2, 2]", build: func(g *onnx.Graph) {
		op(g, "", "Slice", list(in(g, "x", onnx.F32, "b", 5, 4), ints(g, "starts", 1, -3), ints(g, "ends", 4, 1<<40), ints(g, "axes", 1, 2), ints(g, "steps", 2, 2)))
	}},
	{name: "Slice backwards", want: "FLOAT [5]", build: func(g *onnx.Graph) {
		op(g, "", "Slice", list(in(g, "x", onnx.F32, 5), ints(g, "starts", -1), ints(g, "ends", -1<<40), ints(g, "axes", 0), ints(g, "steps", -1)))
	}},
	{name: "Slice last", want: "FLOAT [b, ?, 4]", build: func(g *onnx.Graph) {
		op(g, "", "Slice", list(in(g, "x", onnx.F32, "b", "s", 4), ints(g, "starts", -1), ints(g, "ends", 1<<40), ints(g, "axes", 1)))
	}},
	{name: "Reshape 0 -1", want: "FLOAT [b, s, 2, 4]", build: func(g *onnx.Graph) {
		op(g, "", "Reshape", list(in(g, "x", onnx.F32, "b", "s", 8), ints(g, "to", 0, 0, 2, -1)))
	}},
	{name: "Reshape -1 name", want: "FLOAT [b, s, 8]", build: func(g *onnx.Graph) {
		op(g, "", "Reshape", list(in(g, "x", onnx.F32, "b", "s", 2, 4), ints(g, "to", 0, -1, 8)))
	}},
	{name: "Reshape by Shape", want: "FLOAT [b, s, 2, 4]", build: func(g *onnx.Graph) {
		in(g, "x", onnx.F32, "b", "s", 8)
		g.Node("", "Shape", "", list("x"), list("dims"))
		g.Node("", "Gather", "", list("dims", ints(g, "first", 0, 1)), list("bs"))
		g.Node("", "Concat", "", list("bs", ints(g, "heads", 2, 4)), list("to"), onnx.Int("axis", 0))
		op(g, "", "Reshape", list("x", "to"))
	}},
	{name: "Squeeze", want: "FLOAT [b, 4]", build: func(g *onnx.Graph) {
		op(g, "", "Squeeze", list(in(g, "x", onnx.F32, "b", 1, 4), ints(g, "axes", 1)))
	}},
	{name: "Unsqueeze", want: "FLOAT [b, 1, 4, 1]", build: func(g *onnx.Graph) {
		op(g, "", "Unsqueeze", list(in(g, "x", onnx.F32, "b", 4), ints(g, "axes", 1, -1)))
	}},
	{name: "Expand", want: "FLOAT [b, 3, 4]", build: func(g *onnx.Graph) {
		op(g, "", "Expand", list(in(g, "x", onnx.F32, "b", 1, 4), ints(g, "to", 1, 3, 1)))
	}},
	{name: "Tile", want: "FLOAT [b, 6]", build: func(g *onnx.Graph) {
		op(g, "", "Tile", list(in(g, "x", onnx.F32, "b", 3), ints(g, "reps", 1, 2)))
	}},
	{name: "Range over a name", want: "INT64 [s]", build: func(g *onnx.Graph) {
		in(g, "x", onnx.F32, "b", "s")
		g.Node("", "Shape", "", list("x"), list("dims"))
		g.Node("", "Gather", "", list("dims", scalar[int64](g, "at", 1)), list("n"))
		op(g, "", "Range", list(scalar[int64](g, "zero", 0), "n", scalar[int64](g, "step", 1)))
	}},
	{name: "Range constant", want: "INT64 [4]", build: func(g *onnx.Graph) {
		op(g, "", "Range", list(scalar[int64](g, "lo", 10), scalar[int64](g, "hi", -1), scalar[int64](g, "step", -3)))
	}},
	{name: "Constant", want: "INT64 [2]", build: func(g *onnx.Graph) { op(g, "", "Constant", nil, onnx.Ints("value_ints", 1, 2)) }},
	{name: "ConstantOfShape", want: "INT32 [2, 3]", build: func(g *onnx.Graph) {
		op(g, "", "ConstantOfShape", list(ints(g, "to", 2, 3)), onnx.TensorAttr("value", onnx.ConstTensor[int32](nil, 7)))
	}},
	{name: "LayerNormalization", want: "FLOAT [b, s, 8]", build: func(g *onnx.Graph) {
		op(g, "", "LayerNormalization", list(in(g, "x", onnx.F32, "b", "s", 8), zeros(g, "w", onnx.F32, 8), zeros(g, "c", onnx.F32, 8)))
	}},
	{name: "RMSNormalization", want: "FLOAT [b, s, 8]", build: func(g *onnx.Graph) {
		op(g, "", "RMSNormalization", list(in(g, "x", onnx.F32, "b", "s", 8), zeros(g, "w", onnx.F32, 8)))
	}},
	{name: "QuantizeLinear", want: "INT8 [b, 8]", build: func(g *onnx.Graph) {
		op(g, "", "QuantizeLinear", list(in(g, "x", onnx.F32, "b", 8), scalar[float32](g, "scale", 0.1), zeros(g, "zp", onnx.I8)))
	}},
	{name: "DequantizeLinear per channel", want: "FLOAT16 [8, 5]", build: func(g *onnx.Graph) {
		op(g, "", "DequantizeLinear", list(zeros(g, "w", onnx.I8, 8, 5), zeros(g, "scale", onnx.F16, 5)), onnx.Int("axis", 1))
	}},
	{name: "DequantizeLinear blocked INT4", want: "FLOAT [64, 5]", build: func(g *onnx.Graph) {
		op(g, "", "DequantizeLinear", list(zeros(g, "w", onnx.I4, 64, 5), zeros(g, "scale", onnx.F32, 2, 5)), onnx.Int("axis", 0), onnx.Int("block_size", 32))
	}},
	{name: "RotaryEmbedding-23", want: "FLOAT [b, s, 32]", build: func(g *onnx.Graph) {
		op(g, "", "RotaryEmbedding", list(in(g, "x", onnx.F32, "b", "s", 32), zeros(g, "cos", onnx.F32, 64, 8), zeros(g, "sin", onnx.F32, 64, 8), in(g, "pos", onnx.I64, "b", "s")), onnx.Int("num_heads", 2))
	}},
	{name: "Attention-24", want: "FLOAT [b, s, 32]", build: func(g *onnx.Graph) {
		g.Node("", "Attention", "the node", list(in(g, "q", onnx.F32, "b", "s", 32), in(g, "k", onnx.F32, "b", "s", 16), in(g, "v", onnx.F32, "b", "s", 16), "",
			in(g, "pk", onnx.F32, "b", 1, "p", 16), in(g, "pv", onnx.F32, "b", 1, "p", 16)), list("y", "y2", "y3"),
			onnx.Int("q_num_heads", 2), onnx.Int("kv_num_heads", 1), onnx.Int("is_causal", 1))
	}},
	{name: "Attention-24 of rank 4", want: "FLOAT [b, 2, s, 16]", build: func(g *onnx.Graph) {
		op(g, "", "Attention", list(in(g, "q", onnx.F32, "b", 2, "s", 16), in(g, "k", onnx.F32, "b", 2, "t", 16), in(g, "v", onnx.F32, "b", 2, "t", 16)))
	}},
	{name: "TensorScatter", want: "FLOAT [b, 2, 8, 16]", build: func(g *onnx.Graph) {
		op(g, "", "TensorScatter", list(in(g, "past", onnx.F32, "b", 2, 8, 16), in(g, "u", onnx.F32, "b", 2, "s", 16), in(g, "at", onnx.I64, "b")))
	}},
	{name: "SimplifiedLayerNormalization", want: "FLOAT [b, s, 8]", build: func(g *onnx.Graph) {
		op(g, "", "SimplifiedLayerNormalization", list(in(g, "x", onnx.F32, "b", "s", 8), zeros(g, "w", onnx.F32, 8)), onnx.Float("epsilon", 1e-5), onnx.Int("axis", -1), onnx.Int("stash_type", 1))
	}},
	{name: "SkipSimplifiedLayerNormalization", want: "FLOAT [b, s, 8]", build: func(g *onnx.Graph) {
		g.Node(ms, "SkipSimplifiedLayerNormalization", "the node", list(in(g, "x", onnx.F32, "b", "s", 8), in(g, "skip", onnx.F32, "b", "s", 8), zeros(g, "w", onnx.F32, 8)), list("y", "", "", "y2"), onnx.Float("epsilon", 1e-5))
	}},
	{name: "SkipLayerNormalization", want: "FLOAT [b, s, 8]", build: func(g *onnx.Graph) {
		op(g, ms, "SkipLayerNormalization", list(in(g, "x", onnx.F32, "b", "s", 8), in(g, "skip", onnx.F32, "b", "s", 8), zeros(g, "w", onnx.F32, 8)), onnx.Float("epsilon", 1e-5))
	}},
	{name: "QuickGelu", want: "FLOAT [b, 8]", build: func(g *onnx.Graph) {
		op(g, ms, "QuickGelu", list(in(g, "x", onnx.F32, "b", 8)), onnx.Float("alpha", 1))
	}},
	{name: "FastGelu", want: "FLOAT [b, 8]", build: func(g *onnx.Graph) {
		op(g, ms, "FastGelu", list(in(g, "x", onnx.F32, "b", 8), zeros(g, "c", onnx.F32, 8)))
	}},
	{name: "BiasGelu", want: "FLOAT [b, 8]", build: func(g *onnx.Graph) {
		op(g, ms, "BiasGelu", list(in(g, "x", onnx.F32, "b", 8), zeros(g, "c", onnx.F32, 8)))
	}},
	{name: "FusedMatMul", want: "FLOAT [b, s, 5]", build: func(g *onnx.Graph) {
		op(g, ms, "FusedMatMul", list(in(g, "x", onnx.F32, "b", "s", 8), zeros(g, "w", onnx.F32, 5, 8)), onnx.Int("transB", 1))
	}},
	{name: "MatMulIntegerToFloat", want: "FLOAT [b, 5]", build: func(g *onnx.Graph) {
		op(g, ms, "MatMulIntegerToFloat", list(in(g, "x", onnx.U8, "b", 8), zeros(g, "w", onnx.I8, 8, 5), scalar[float32](g, "xs", 1), zeros(g, "ws", onnx.F32, 5)))
	}},
	{name: "DynamicQuantizeMatMul", want: "FLOAT [b, 5]", build: func(g *onnx.Graph) {
		op(g, ms, "DynamicQuantizeMatMul", list(in(g, "x", onnx.F32, "b", 8), zeros(g, "w", onnx.I8, 8, 5), zeros(g, "ws", onnx.F32, 5)))
	}},
	{name: "MatMulNBits 4", want: "FLOAT [b, s, 6]", build: func(g *onnx.Graph) {
		op(g, ms, "MatMulNBits", list(in(g, "x", onnx.F32, "b", "s", 80), zeros(g, "B", onnx.U8, 6, 3, 16), zeros(g, "scales", onnx.F32, 6, 3), zeros(g, "zp", onnx.U8, 6, 2)),
			onnx.Int("N", 6), onnx.Int("K", 80), onnx.Int("bits", 4), onnx.Int("block_size", 32), onnx.Int("accuracy_level", 4))
	}},
	{name: "MatMulNBits 8 bias", want: "FLOAT [b, s, 6]", build: func(g *onnx.Graph) {
		op(g, ms, "MatMulNBits", list(in(g, "x", onnx.F32, "b", "s", 64), zeros(g, "B", onnx.U8, 6, 2, 32), zeros(g, "scales", onnx.F32, 6, 2), "", "", zeros(g, "bias", onnx.F32, 6)),
			onnx.Int("N", 6), onnx.Int("K", 64), onnx.Int("bits", 8), onnx.Int("block_size", 32), onnx.Int("accuracy_level", 4))
	}},
	{name: "GatherBlockQuantized", want: "FLOAT [b, s, 64]", build: func(g *onnx.Graph) {
		op(g, ms, "GatherBlockQuantized", list(zeros(g, "data", onnx.U8, 10, 32), in(g, "ids", onnx.I64, "b", "s"), zeros(g, "scales", onnx.F32, 10, 2)),
			onnx.Int("bits", 4), onnx.Int("block_size", 32), onnx.Int("gather_axis", 0), onnx.Int("quantize_axis", 1))
	}},
	{name: "GatherBlockQuantized INT4", want: "FLOAT [b, s, 64]", build: func(g *onnx.Graph) {
		op(g, ms, "GatherBlockQuantized", list(zeros(g, "data", onnx.I4, 10, 64), in(g, "ids", onnx.I64, "b", "s"), zeros(g, "scales", onnx.F32, 10, 2)),
			onnx.Int("block_size", 32), onnx.Int("gather_axis", 0), onnx.Int("quantize_axis", 1))
	}},
	{name: "RotaryEmbedding ms", want: "FLOAT [b, s, 32]", build: func(g *onnx.Graph) {
		op(g, ms, "RotaryEmbedding", list(in(g, "x", onnx.F32, "b", "s", 32), in(g, "pos", onnx.I64, "b", "s"), zeros(g, "cos", onnx.F32, 64, 8), zeros(g, "sin", onnx.F32, 64, 8)), onnx.Int("num_heads", 2))
	}},
	{name: "GroupQueryAttention packed", want: "FLOAT [1, 3, 64]", build: func(g *onnx.Graph) {
		gqa(g, list(in(g, "qkv", onnx.F32, 1, 3, 128), "", ""), 4, 2, 5)
	}},
	{name: "GroupQueryAttention separate", want: "FLOAT [1, 3, 64]", build: func(g *onnx.Graph) {
		gqa(g, list(in(g, "q", onnx.F32, 1, 3, 64), in(g, "k", onnx.F32, 1, 3, 32), in(g, "v", onnx.F32, 1, 3, 32)), 4, 2, 5)
	}},
	{name: "MultiHeadAttention", want: "FLOAT [b, s, 32]", build: func(g *onnx.Graph) {
		op(g, ms, "MultiHeadAttention", list(in(g, "q", onnx.F32, "b", "s", 32), in(g, "k", onnx.F32, "b", "t", 32), in(g, "v", onnx.F32, "b", "t", 32)), onnx.Int("num_heads", 2))
	}},
	{name: "Reshape by arithmetic", want: "FLOAT [b, 4, 6]", build: func(g *onnx.Graph) {
		in(g, "x", onnx.F32, "b", 2, 12)
		g.Node("", "Shape", "", list("x"), list("dims"))
		g.Node("", "Slice", "", list("dims", ints(g, "from", 1), ints(g, "until", 3), ints(g, "axis", 0)), list("tail"))
		g.Node("", "Mul", "", list("tail", ints(g, "by", 2, 1)), list("twice"))
		g.Node("", "Div", "", list("twice", ints(g, "over", 1, 2)), list("half"))
		g.Node("", "Gather", "", list("dims", scalar[int64](g, "at", 0)), list("b0"))
		g.Node("", "Unsqueeze", "", list("b0", "axis"), list("b1"))
		g.Node("", "Add", "", list("b1", scalar[int64](g, "zero", 0)), list("b2"))
		g.Node("", "Concat", "", list("b2", "half"), list("to"), onnx.Int("axis", 0))
		op(g, "", "Reshape", list("x", "to"))
	}},
	{name: "Sub of extents", want: "INT64 [3]", build: func(g *onnx.Graph) {
		in(g, "x", onnx.F32, "b", 5)
		g.Node("", "Shape", "", list("x"), list("dims"))
		g.Node("", "Gather", "", list("dims", scalar[int64](g, "at", 1)), list("n"))
		g.Node("", "Sub", "", list("n", scalar[int64](g, "two", 2)), list("n2"))
		g.Node("", "Cast", "", list("n2"), list("n3"), onnx.Int("to", int64(onnx.I64)))
		g.Node("", "Squeeze", "", list("n3"), list("n4"))
		op(g, "", "Range", list(scalar[int64](g, "zero", 0), "n4", scalar[int64](g, "one", 1)))
	}},
	{name: "Reshape to unknown extents", want: "FLOAT [?, ?]", build: func(g *onnx.Graph) {
		op(g, "", "Reshape", list(in(g, "x", onnx.F32, "b", 5), onnx.Const(g, "to0", nil, int64(0), 5)))
		g.Nodes[0].Inputs[1] = "to"
		g.Nodes[0].Name = "the node"
		g.Nodes = append([]*onnx.Node{{Op: "Abs", Inputs: list("to0"), Outputs: list("to")}}, g.Nodes...)
	}},
	{name: "Flatten all", want: "FLOAT [1, 60]", build: func(g *onnx.Graph) {
		op(g, "", "Flatten", list(in(g, "x", onnx.F32, 3, 4, 5)), onnx.Int("axis", 0))
	}},
	{name: "Constant scalar", want: "FLOAT []", build: func(g *onnx.Graph) { op(g, "", "Constant", nil, onnx.Float("value_float", 1)) }},
	{name: "Constant tensor", want: "INT32 [2]", build: func(g *onnx.Graph) {
		op(g, "", "Constant", nil, onnx.TensorAttr("value", onnx.ConstTensor(nil, int32(1), 2)))
	}},
	{name: "DequantizeLinear per tensor", want: "FLOAT [b, 8]", build: func(g *onnx.Graph) {
		op(g, "", "DequantizeLinear", list(in(g, "x", onnx.U8, "b", 8), scalar[float32](g, "scale", 0.1), zeros(g, "zp", onnx.U8)))
	}},
	{name: "RotaryEmbedding-23 rows", want: "FLOAT [b, 2, s, 16]", build: func(g *onnx.Graph) {
		op(g, "", "RotaryEmbedding", list(in(g, "x", onnx.F32, "b", 2, "s", 16), in(g, "cos", onnx.F32, "b", "s", 8), in(g, "sin", onnx.F32, "b", "s", 8)))
	}},
	{name: "RotaryEmbedding ms of rank 4", want: "FLOAT [b, 2, s, 16]", build: func(g *onnx.Graph) {
		op(g, ms, "RotaryEmbedding", list(in(g, "x", onnx.F32, "b", 2, "s", 16), ints(g, "pos", 0), zeros(g, "cos", onnx.F32, 64, 8), zeros(g, "sin", onnx.F32, 64, 8)))
	}},
	{name: "Softmax of an If", want: "FLOAT [b, ?]", build: func(g *onnx.Graph) {
		branch := func(op, of string, width int) *onnx.Graph {
			b := onnx.NewGraph(op)
			b.Node("", op, "", list(of), list(op))
			b.Output(op, onnx.F32, dims("b", width)...)
			return b
		}
		in(g, "x", onnx.F32, "b", 4)
		in(g, "x2", onnx.F32, "b", 5)
		g.Node("", "If", "choice", list(scalar(g, "cond", true)), list("chosen"),
			onnx.Attr{Name: "then_branch", Type: onnx.AttrGraph, Graph: branch("Neg", "x", 4)},
			onnx.Attr{Name: "else_branch", Type: onnx.AttrGraph, Graph: branch("Abs", "x2", 5)})
		op(g, "", "Softmax", list("chosen"))
	}},
}

// gqa adds a GroupQueryAttention of head size 16 over caches of p entries.
func gqa(g *onnx.Graph, qkv []string, heads, kv, p int) {
	g.Node(ms, "GroupQueryAttention", "the node", append(qkv,
		in(g, "pk", onnx.F32, 1, kv, p, 16), in(g, "pv", onnx.F32, 1, kv, p, 16),
		onnx.Const(g, "seqlens", nil, int32(3+p-1)), scalar(g, "total", int32(3+p)),
		zeros(g, "cos", onnx.F32, 64, 8), zeros(g, "sin", onnx.F32, 64, 8)),
		list("y", "y2", "y3"), onnx.Int("num_heads", int64(heads)), onnx.Int("kv_num_heads", int64(kv)), onnx.Int("do_rotary", 1))
}

// brokenCases are graphs that must be refused, by the oracles too. Where a case
// declares no output it returns the shape of y, which has a type whatever y is.
var brokenCases = []opCase{
	{name: "MatMul inner", bad: "inner extents 8 and 7 differ", build: func(g *onnx.Graph) {
		op(g, "", "MatMul", list(in(g, "x", onnx.F32, "b", 8), zeros(g, "w", onnx.F32, 7, 5)))
	}},
	{name: "types differ", bad: "input B is FLOAT16, but input A is FLOAT", build: func(g *onnx.Graph) {
		op(g, "", "Add", list(in(g, "x", onnx.F32, "b"), in(g, "x2", onnx.F16, "b")))
	}},
	{name: "type not allowed", bad: "is FLOAT, want one of BOOL", build: func(g *onnx.Graph) { op(g, "", "Not", list(in(g, "x", onnx.F32, "b"))) }},
	{name: "undefined input", bad: `tensor "nowhere": is used but not made`, build: func(g *onnx.Graph) { op(g, "", "Neg", list("nowhere")) }},
	{name: "order", lets: "runtime", bad: `tensor "h": is used but not made`, build: func(g *onnx.Graph) {
		op(g, "", "Neg", list("h"))
		g.Node("", "Neg", "", list(in(g, "x", onnx.F32, "b")), list("h"))
	}},
	{name: "defined twice", bad: `tensor "y": is defined twice`, build: func(g *onnx.Graph) {
		op(g, "", "Neg", list(in(g, "x", onnx.F32, "b")))
		g.Node("", "Neg", "", list("x"), list("y"))
	}},
	{name: "unknown operator", bad: `operator "Frobnicate" is not known`, build: func(g *onnx.Graph) { op(g, "", "Frobnicate", list(in(g, "x", onnx.F32, "b"))) }},
	{name: "domain not imported", bad: `does not import domain "com.example"`, build: func(g *onnx.Graph) { op(g, "com.example", "Neg", list(in(g, "x", onnx.F32, "b"))) }},
	{name: "too few inputs", bad: "1 inputs, want at least 2", build: func(g *onnx.Graph) { op(g, "", "Add", list(in(g, "x", onnx.F32, "b"))) }},
	{name: "too many inputs", bad: "3 inputs, want at most 2", build: func(g *onnx.Graph) {
		in(g, "x", onnx.F32, "b")
		op(g, "", "Add", list("x", "x", "x"))
	}},
	{name: "unknown attribute", bad: `attribute "gamma" is not one of Softmax`, build: func(g *onnx.Graph) {
		op(g, "", "Softmax", list(in(g, "x", onnx.F32, "b", 4)), onnx.Int("gamma", 1))
	}},
	{name: "attribute type", bad: `attribute "axis" has type FLOAT, want INT`, build: func(g *onnx.Graph) {
		op(g, "", "Softmax", list(in(g, "x", onnx.F32, "b", 4)), onnx.Float("axis", 1))
	}},
	{name: "attribute missing", bad: `attribute "axis" is missing`, build: func(g *onnx.Graph) {
		op(g, "", "Concat", list(in(g, "x", onnx.F32, "b", 4)))
	}},
	{name: "Reshape count", lets: "onnx", bad: "12 elements cannot become [5, 2]", build: func(g *onnx.Graph) {
		op(g, "", "Reshape", list(in(g, "x", onnx.F32, 3, 4), ints(g, "to", 5, 2)))
	}},
	{name: "Reshape -1 does not divide", bad: "12 elements cannot become", build: func(g *onnx.Graph) {
		op(g, "", "Reshape", list(in(g, "x", onnx.F32, 3, 4), ints(g, "to", 5, -1)))
	}},
	{name: "Concat extents", bad: "extent 3 at axis 1, but the inputs before have 2", build: func(g *onnx.Graph) {
		op(g, "", "Concat", list(in(g, "x", onnx.F32, 1, 2), in(g, "x2", onnx.F32, 1, 3)), onnx.Int("axis", 0))
	}},
	{name: "Split sum", bad: "do not add up to extent 8", build: func(g *onnx.Graph) {
		g.Node("", "Split", "the node", list(in(g, "x", onnx.F32, "b", 8), ints(g, "sizes", 3, 4)), list("y", "y2"), onnx.Int("axis", 1))
	}},
	{name: "Gather axis", bad: "axis 2 is outside rank 2", build: func(g *onnx.Graph) {
		op(g, "", "Gather", list(zeros(g, "w", onnx.F32, 10, 8), in(g, "ids", onnx.I64, "b")), onnx.Int("axis", 2))
	}},
	{name: "broadcast", bad: "does not broadcast with [2, 3]", build: func(g *onnx.Graph) {
		op(g, "", "Add", list(in(g, "x", onnx.F32, 2, 3), in(g, "x2", onnx.F32, 2, 4)))
	}},
	{name: "Transpose perm", bad: "is no permutation", build: func(g *onnx.Graph) {
		op(g, "", "Transpose", list(in(g, "x", onnx.F32, 2, 3)), onnx.Ints("perm", 0, 0))
	}},
	{name: "Squeeze extent", bad: "cannot be squeezed", build: func(g *onnx.Graph) {
		op(g, "", "Squeeze", list(in(g, "x", onnx.F32, 2, 3), ints(g, "axes", 1)))
	}},
	{name: "MatMulNBits B", bad: "want [6, 2, 16] for N, K", build: func(g *onnx.Graph) {
		op(g, ms, "MatMulNBits", list(in(g, "x", onnx.F32, 2, 64), zeros(g, "B", onnx.U8, 6, 3, 16), zeros(g, "scales", onnx.F32, 6, 2)), onnx.Int("N", 6), onnx.Int("K", 64), onnx.Int("block_size", 32))
	}},
	{name: "MatMulNBits scales", bad: "want [6, 2] for N, K", build: func(g *onnx.Graph) {
		op(g, ms, "MatMulNBits", list(in(g, "x", onnx.F32, 2, 64), zeros(g, "B", onnx.U8, 6, 2, 16), zeros(g, "scales", onnx.F32, 6, 3)), onnx.Int("N", 6), onnx.Int("K", 64), onnx.Int("block_size", 32))
	}},
	{name: "MatMulNBits zero points", bad: "want [6, 1] for N, K", build: func(g *onnx.Graph) {
		op(g, ms, "MatMulNBits", list(in(g, "x", onnx.F32, 2, 64), zeros(g, "B", onnx.U8, 6, 2, 16), zeros(g, "scales", onnx.F32, 6, 2), zeros(g, "zp", onnx.U8, 6, 2)), onnx.Int("N", 6), onnx.Int("K", 64), onnx.Int("block_size", 32))
	}},
	{name: "MatMulNBits K", bad: "last extent 48, but K is 64", build: func(g *onnx.Graph) {
		op(g, ms, "MatMulNBits", list(in(g, "x", onnx.F32, 2, 48), zeros(g, "B", onnx.U8, 6, 2, 16), zeros(g, "scales", onnx.F32, 6, 2)), onnx.Int("N", 6), onnx.Int("K", 64), onnx.Int("block_size", 32))
	}},
	{name: "MatMulNBits scale type", bad: "input scales is FLOAT16, but input A is FLOAT", build: func(g *onnx.Graph) {
		op(g, ms, "MatMulNBits", list(in(g, "x", onnx.F32, 2, 64), zeros(g, "B", onnx.U8, 6, 2, 16), zeros(g, "scales", onnx.F16, 6, 2)), onnx.Int("N", 6), onnx.Int("K", 64), onnx.Int("block_size", 32))
	}},
	{name: "GroupQueryAttention heads", bad: "num_heads = 3 must be a positive multiple of kv_num_heads = 2", build: func(g *onnx.Graph) {
		gqa(g, list(in(g, "qkv", onnx.F32, 1, 3, 112), "", ""), 3, 2, 5)
	}},
	{name: "GroupQueryAttention key width", bad: "want [1, 3, 32] for kv_num_heads", build: func(g *onnx.Graph) {
		gqa(g, list(in(g, "q", onnx.F32, 1, 3, 64), in(g, "k", onnx.F32, 1, 3, 64), in(g, "v", onnx.F32, 1, 3, 64)), 4, 2, 5)
	}},
	{name: "GroupQueryAttention packed width", bad: "packed width is no multiple", build: func(g *onnx.Graph) {
		gqa(g, list(in(g, "qkv", onnx.F32, 1, 3, 130), "", ""), 4, 2, 5)
	}},
	{name: "GatherBlockQuantized scales", bad: "want [10, 2] for data", build: func(g *onnx.Graph) {
		op(g, ms, "GatherBlockQuantized", list(zeros(g, "data", onnx.U8, 10, 32), in(g, "ids", onnx.I64, "b", "s"), zeros(g, "scales", onnx.F32, 10, 4)),
			onnx.Int("bits", 4), onnx.Int("block_size", 32), onnx.Int("quantize_axis", 1))
	}},
	{name: "RotaryEmbedding width", bad: "for the rotated part of a head", build: func(g *onnx.Graph) {
		op(g, ms, "RotaryEmbedding", list(in(g, "x", onnx.F32, 1, 3, 32), in(g, "pos", onnx.I64, 1, 3), zeros(g, "cos", onnx.F32, 64, 16), zeros(g, "sin", onnx.F32, 64, 16)), onnx.Int("num_heads", 2))
	}},
	{name: "DequantizeLinear scale", lets: "onnx", bad: "one per entry of the axis", build: func(g *onnx.Graph) {
		op(g, "", "DequantizeLinear", list(zeros(g, "w", onnx.I8, 8, 5), zeros(g, "scale", onnx.F32, 4)), onnx.Int("axis", 1))
	}},
	{name: "in a body", bad: `tensor "nowhere": is used but not made`, build: func(g *onnx.Graph) {
		b := onnx.NewGraph("branch")
		b.Node("", "Neg", "", list("nowhere"), list("r"))
		b.Output("r", onnx.F32, onnx.Unknown)
		op(g, "", "If", list(scalar(g, "cond", true)),
			onnx.Attr{Name: "then_branch", Type: onnx.AttrGraph, Graph: b}, onnx.Attr{Name: "else_branch", Type: onnx.AttrGraph, Graph: b})
	}},
	{name: "If types", bad: "is FLOAT in one branch and INT64 in the other", build: func(g *onnx.Graph) {
		branch := func(name string, elem onnx.ElemType) onnx.Attr {
			b := onnx.NewGraph(name)
			b.Node("", "Identity", "", list(in(g, "for "+name, elem, 2)), list("r of "+name))
			b.Output("r of "+name, elem, onnx.Fixed(2))
			return onnx.Attr{Name: name, Type: onnx.AttrGraph, Graph: b}
		}
		op(g, "", "If", list(scalar(g, "cond", true)), branch("then_branch", onnx.F32), branch("else_branch", onnx.I64))
	}},
	{name: "left out input", bad: "input B is left out but not optional", build: func(g *onnx.Graph) { op(g, "", "Add", list(in(g, "x", onnx.F32, "b"), "")) }},
	{name: "Reshape copies too much", bad: "copies extent 2, which it does not have", build: func(g *onnx.Graph) {
		op(g, "", "Reshape", list(in(g, "x", onnx.F32, 3, 4), ints(g, "to", 3, 4, 0)))
	}},
	{name: "Reshape two -1", bad: "more than one -1", build: func(g *onnx.Graph) {
		op(g, "", "Reshape", list(in(g, "x", onnx.F32, 3, 4), ints(g, "to", -1, -1)))
	}},
	{name: "Reshape -2", bad: "holds -2", build: func(g *onnx.Graph) {
		op(g, "", "Reshape", list(in(g, "x", onnx.F32, 3, 4), ints(g, "to", 3, -2)))
	}},
	{name: "Unsqueeze twice", bad: "axis 0 is given twice", build: func(g *onnx.Graph) {
		op(g, "", "Unsqueeze", list(in(g, "x", onnx.F32, 3), ints(g, "axes", 0, 0)))
	}},
	{name: "Expand", bad: "does not broadcast to [2]", build: func(g *onnx.Graph) {
		op(g, "", "Expand", list(in(g, "x", onnx.F32, 3), ints(g, "to", 2)))
	}},
	{name: "Tile", bad: "1 repeats for 2 dims", build: func(g *onnx.Graph) {
		op(g, "", "Tile", list(in(g, "x", onnx.F32, 3, 4), ints(g, "reps", 2)))
	}},
	{name: "Gather index", bad: "index 10 is outside extent 10", lets: "onnx", build: func(g *onnx.Graph) {
		op(g, "", "Gather", list(in(g, "x", onnx.F32, 10, 8), ints(g, "i", 10)))
	}},
	{name: "Gemm inner", bad: "inner extent 7, but A", build: func(g *onnx.Graph) {
		op(g, "", "Gemm", list(in(g, "x", onnx.F32, "b", 8), zeros(g, "w", onnx.F32, 5, 7)), onnx.Int("transB", 1))
	}},
	{name: "MatMul batches", bad: "batch extents do not broadcast", build: func(g *onnx.Graph) {
		op(g, "", "MatMul", list(in(g, "x", onnx.F32, 2, 3, 8), in(g, "x2", onnx.F32, 3, 8, 4)))
	}},
	{name: "ReduceMean axis", bad: "axis 2 is outside rank 2", build: func(g *onnx.Graph) {
		op(g, "", "ReduceMean", list(in(g, "x", onnx.F32, "b", 8), ints(g, "axes", 2)))
	}},
	{name: "LayerNormalization scale", bad: "does not fit the normalized extents [8]", lets: "onnx", build: func(g *onnx.Graph) {
		op(g, "", "LayerNormalization", list(in(g, "x", onnx.F32, 2, 8), zeros(g, "w", onnx.F32, 7)))
	}},
	{name: "SkipSimplifiedLayerNormalization gamma", bad: "want [8] (the last extent of input)", build: func(g *onnx.Graph) {
		op(g, ms, "SkipSimplifiedLayerNormalization", list(in(g, "x", onnx.F32, 1, 2, 8), in(g, "skip", onnx.F32, 1, 2, 8), zeros(g, "w", onnx.F32, 7)))
	}},
	{name: "Slice lengths", bad: "1 starts and 2 ends for 1 axes", build: func(g *onnx.Graph) {
		op(g, "", "Slice", list(in(g, "x", onnx.F32, 3, 4), ints(g, "from", 0), ints(g, "to", 1, 1), ints(g, "axes", 0)))
	}},
	{name: "Split outputs", bad: "2 sizes for 3 outputs", build: func(g *onnx.Graph) {
		g.Node("", "Split", "the node", list(in(g, "x", onnx.F32, 8), ints(g, "sizes", 4, 4)), list("y", "y2", "y3"))
	}},
	{name: "Attention head sizes", lets: "onnx", bad: "head size 8, but Q has 16", build: func(g *onnx.Graph) {
		op(g, "", "Attention", list(in(g, "q", onnx.F32, 1, 2, 3, 16), in(g, "k", onnx.F32, 1, 2, 3, 8), in(g, "v", onnx.F32, 1, 2, 3, 8)))
	}},
	{name: "Attention without heads", bad: "needs the attribute q_num_heads", build: func(g *onnx.Graph) {
		op(g, "", "Attention", list(in(g, "q", onnx.F32, 1, 3, 32), in(g, "k", onnx.F32, 1, 3, 32), in(g, "v", onnx.F32, 1, 3, 32)))
	}},
	{name: "TensorScatter", bad: "for the cache", build: func(g *onnx.Graph) {
		op(g, "", "TensorScatter", list(in(g, "past", onnx.F32, 1, 2, 8, 16), in(g, "u", onnx.F32, 1, 3, 4, 16)))
	}},
	{name: "ScatterND updates", lets: "onnx", bad: "want [2, 4] for indices", build: func(g *onnx.Graph) {
		op(g, "", "ScatterND", list(in(g, "x", onnx.F32, 3, 4), zeros(g, "i", onnx.I64, 2, 1), in(g, "u", onnx.F32, 2, 5)))
	}},
	{name: "GroupQueryAttention key alone", bad: "key and value must be given together", build: func(g *onnx.Graph) {
		gqa(g, list(in(g, "q", onnx.F32, 1, 3, 64), in(g, "k", onnx.F32, 1, 3, 32), ""), 4, 2, 5)
	}},
	{name: "GroupQueryAttention cache heads", bad: "want [1, 2, ?, 16] for kv_num_heads", build: func(g *onnx.Graph) {
		gqa(g, list(in(g, "qkv", onnx.F32, 1, 3, 128), "", ""), 4, 2, 5)
		g.Inputs[1].Shape[1] = onnx.Fixed(4)
	}},
	{name: "GroupQueryAttention without tables", bad: "do_rotary needs cos_cache and sin_cache", build: func(g *onnx.Graph) {
		gqa(g, list(in(g, "qkv", onnx.F32, 1, 3, 128), "", ""), 4, 2, 5)
		g.Nodes[0].Inputs = g.Nodes[0].Inputs[:7]
	}},
	{name: "GroupQueryAttention cache type", bad: "input past_value is FLOAT16, but input past_key is FLOAT", build: func(g *onnx.Graph) {
		gqa(g, list(in(g, "qkv", onnx.F32, 1, 3, 128), "", ""), 4, 2, 5)
		g.Inputs[2].Elem = onnx.F16
	}},
	{name: "MatMulNBits block size", bad: "block_size = 24, want a power of two", build: func(g *onnx.Graph) {
		op(g, ms, "MatMulNBits", list(in(g, "x", onnx.F32, 2, 48), zeros(g, "B", onnx.U8, 6, 2, 12), zeros(g, "scales", onnx.F32, 6, 2)), onnx.Int("N", 6), onnx.Int("K", 48), onnx.Int("block_size", 24))
	}},
	{name: "DequantizeLinear blocks", bad: "want [2, 5] (one per block)", lets: "onnx", build: func(g *onnx.Graph) {
		op(g, "", "DequantizeLinear", list(zeros(g, "w", onnx.I4, 64, 5), zeros(g, "scale", onnx.F32, 4, 5)), onnx.Int("axis", 0), onnx.Int("block_size", 32))
	}},
	{name: "Cast to nothing", bad: "unknown element type 99", build: func(g *onnx.Graph) {
		op(g, "", "Cast", list(in(g, "x", onnx.F32, 2)), onnx.Int("to", 99))
	}},
	{name: "declared shape", bad: "has shape [b, 4], but is declared [b, 5]", build: func(g *onnx.Graph) {
		op(g, "", "Neg", list(in(g, "x", onnx.F32, "b", 4)))
		g.Output("y", onnx.F32, dims("b", 5)...)
	}},
	{name: "declared type", bad: "is FLOAT, but declared FLOAT16", build: func(g *onnx.Graph) {
		op(g, "", "Neg", list(in(g, "x", onnx.F32, "b", 4)))
		g.Output("y", onnx.F16, dims("b", 4)...)
	}},
}

// model builds a case at operator set 24 with y, y2 and y3, as far as made, as
// outputs of the inferred types.
func (c opCase) model() *onnx.Model {
	g := onnx.NewGraph("case")
	c.build(g)
	m := onnx.NewModel(g, onnx.Opset{Version: 24}, onnx.Opset{Domain: ms, Version: 1})
	switch {
	case len(g.Outputs) > 0:
	case c.bad != "":
		g.Node("", "Shape", "", list("y"), list("dims of y"))
		g.Output("dims of y", onnx.I64, onnx.Unknown)
	default:
		values := onnx.Infer(m)
		for _, name := range []string{"y", "y2", "y3"} {
			if v, ok := values[name]; ok {
				g.Outputs = append(g.Outputs, v)
			}
		}
	}
	return m
}

func TestInfer(t *testing.T) {
	for _, c := range opCases {
		t.Run(c.name, func(t *testing.T) {
			m := c.model()
			if err := onnx.Check(m, onnx.CheckOptions{}); err != nil {
				t.Fatal(err)
			}
			y := onnx.Infer(m)["y"]
			if got := fmt.Sprintf("%v %v", y.Elem, y.Shape); got != c.want {
				t.Errorf("y is %s, want %s", got, c.want)
			}
		})
	}
}

func TestCheckBroken(t *testing.T) {
	for _, c := range brokenCases {
		t.Run(c.name, func(t *testing.T) {
			err := onnx.Check(c.model(), onnx.CheckOptions{})
			if err == nil {
				t.Fatalf("no problem found, want one with %q", c.bad)
			}
			if !strings.Contains(err.Error(), c.bad) {
				t.Errorf("problem %q, want one with %q", err, c.bad)
			}
		})
	}
}
