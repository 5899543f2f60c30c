package target_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/target"
)

// ms is the domain of ONNX Runtime's own operators.
const ms = onnx.DomainMicrosoft

// graph helps to build small models.
type graph struct {
	*onnx.Graph
	n int
}

func newGraph() *graph { return &graph{Graph: onnx.NewGraph("test")} }

// node appends a node with one output and returns the output's name.
func (g *graph) node(op string, inputs []string, attrs ...onnx.Attr) string {
	domain := onnx.DomainONNX
	if rest, ok := strings.CutPrefix(op, "ms."); ok {
		domain, op = ms, rest
	}
	g.n++
	out := fmt.Sprintf("%s_%d", op, g.n)
	g.Node(domain, op, "/"+out, inputs, []string{out}, attrs...)
	return out
}

// weight appends a constant whose elements lie in another file.
func (g *graph) weight(name string, e onnx.ElemType, dims ...int64) string {
	n, _ := e.Bytes(dims)
	return g.Initializer(onnx.Initializer{Name: name, Elem: e, Dims: dims, External: &onnx.External{Location: "data", Length: n}})
}

// zeros appends an inline constant of zeros.
func (g *graph) zeros(name string, e onnx.ElemType, dims ...int64) string {
	if dims == nil {
		dims = []int64{}
	}
	n, _ := e.Bytes(dims)
	return g.Initializer(onnx.Initializer{Name: name, Elem: e, Dims: dims, Data: make([]byte, n)})
}

func (g *graph) ints(name string, v ...int64) string { return onnx.Const(g.Graph, name, nil, v...) }

func (g *graph) model(opset int64) *onnx.Model {
	return onnx.NewModel(g.Graph, onnx.Opset{Domain: "", Version: opset}, onnx.Opset{Domain: ms, Version: 1})
}

func in(names ...string) []string { return names }

// block is a decoder block in plain operators and fixed shapes: RMSNorm,
// attention with four query heads over two key and value heads, gated MLP.
func block(act onnx.ElemType) *graph {
	const seq, past, hidden, heads, kv, dim, ffn = 4, 12, 64, 4, 2, 16, 128
	g := newGraph()
	fix := onnx.Fixed
	x := g.Input("x", act, fix(1), fix(seq), fix(hidden))
	mask := g.Input("mask", act, fix(1), fix(1), fix(2*seq), fix(past+seq))
	pastK := g.Input("past_k", act, fix(1), fix(kv), fix(past), fix(dim))
	pastV := g.Input("past_v", act, fix(1), fix(kv), fix(past), fix(dim))
	eps := g.zeros("eps", act, 1)
	axis := g.ints("last", -1)
	norm := func(x, w string) string {
		mean := g.node("ReduceMean", in(g.node("Mul", in(x, x)), axis), onnx.Int("keepdims", 1))
		return g.node("Mul", in(g.node("Div", in(x, g.node("Sqrt", in(g.node("Add", in(mean, eps)))))), w))
	}
	linear := func(x, name string, k, n int64) string { return g.node("MatMul", in(x, g.weight(name, act, k, n))) }
	h := norm(x, g.weight("attn_norm", act, hidden))
	qkv := linear(h, "qkv", hidden, (heads+2*kv)*dim)
	g.Node("", "Split", "/split", in(qkv, g.ints("parts", heads*dim, kv*dim, kv*dim)), in("q", "k", "v"), onnx.Int("axis", -1))
	toHeads := func(x string, n int64) string {
		r := g.node("Reshape", in(x, g.ints("to_heads_"+x, 1, seq, n, dim)))
		return g.node("Transpose", in(r), onnx.Ints("perm", 0, 2, 1, 3))
	}
	q, k, v := toHeads("q", heads), toHeads("k", kv), toHeads("v", kv)
	cos, sin := g.weight("cos", act, 1, 1, seq, dim), g.weight("sin", act, 1, 1, seq, dim)
	rope := func(x string) string {
		lo := g.node("Slice", in(x, g.ints("lo0"+x, 0), g.ints("lo1"+x, dim/2), g.ints("loa"+x, 3)))
		hi := g.node("Slice", in(x, g.ints("hi0"+x, dim/2), g.ints("hi1"+x, dim), g.ints("hia"+x, 3)))
		turned := g.node("Concat", in(hi, lo), onnx.Int("axis", -1))
		return g.node("Add", in(g.node("Mul", in(x, cos)), g.node("Mul", in(turned, sin))))
	}
	q, k = rope(q), rope(k)
	allK := g.node("Concat", in(pastK, k), onnx.Int("axis", 2))
	allV := g.node("Concat", in(pastV, v), onnx.Int("axis", 2))
	q = g.node("Reshape", in(q, g.ints("to_groups", 1, kv, heads/kv*seq, dim)))
	scores := g.node("MatMul", in(q, g.node("Transpose", in(allK), onnx.Ints("perm", 0, 1, 3, 2))))
	p := g.node("Softmax", in(g.node("Add", in(scores, mask))), onnx.Int("axis", -1))
	o := g.node("Reshape", in(g.node("MatMul", in(p, allV)), g.ints("from_groups", 1, heads, seq, dim)))
	o = g.node("Reshape", in(g.node("Transpose", in(o), onnx.Ints("perm", 0, 2, 1, 3)), g.ints("flat", 1, seq, heads*dim)))
	h = g.node("Add", in(x, linear(o, "o", heads*dim, hidden)))
	f := norm(h, g.weight("ffn_norm", act, hidden))
	gate, up := linear(f, "gate", hidden, ffn), linear(f, "up", hidden, ffn)
	act2 := g.node("Mul", in(g.node("Mul", in(gate, g.node("Sigmoid", in(gate)))), up))
	y := g.node("Add", in(h, linear(act2, "down", ffn, hidden)))
	g.Output(y, act, fix(1), fix(seq), fix(hidden))
	g.Output(k, act, fix(1), fix(kv), fix(seq), fix(dim))
	return g
}

// TestPlaceBlock wants every target to take a decomposed block whole, in
// float32 and float16.
func TestPlaceBlock(t *testing.T) {
	for _, act := range []onnx.ElemType{onnx.F32, onnx.F16} {
		m := block(act).model(21)
		if err := onnx.Check(m, onnx.CheckOptions{Complete: true}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"cpu", "cuda", "tensorrt@10.3", "tensorrt@10.15", "tensorrt@11.4.1", "coreml"} {
			tg, err := target.Find(name)
			if err != nil {
				t.Fatal(err)
			}
			p := tg.Place(m)
			taken, folded, left := p.Counts()
			if !p.Whole() || p.Err() != nil || taken != len(m.Graph.Nodes) || folded != 0 || left != 0 {
				t.Errorf("%s, %v: taken %d, folded %d, left %d of %d: %v", name, act, taken, folded, left, len(m.Graph.Nodes), p.Err())
			}
			// Opset 21 is beyond what TensorRT 10.3 documents; Softmax has no
			// float16 kernel on the CPU.
			if warn := len(p.Warnings) > 0; warn != (name == "tensorrt@10.3" || name == "cpu" && act == onnx.F16) {
				t.Errorf("%s, %v: warnings %q", name, act, p.Warnings)
			}
		}
	}
}

// one makes a model of one node; its inputs are graph inputs unless they are
// constants already. Shapes are numbers where fixed.
func one(opset int64, build func(g *graph)) *onnx.Model {
	g := newGraph()
	build(g)
	return g.model(opset)
}

func x(g *graph, name string, e onnx.ElemType, dims ...int64) string {
	var s onnx.Shape
	for _, d := range dims {
		if d < 0 {
			s = append(s, onnx.Named(fmt.Sprintf("n%d", -d)))
		} else {
			s = append(s, onnx.Fixed(d))
		}
	}
	return g.Input(name, e, s...)
}

// TestPlaceNodes judges the last node of small graphs.
func TestPlaceNodes(t *testing.T) {
	i := onnx.Int
	qdq := func(elem onnx.ElemType, wDims, sDims []int64, attrs ...onnx.Attr) func(*graph) {
		return func(g *graph) {
			g.node("DequantizeLinear", in(g.weight("w", elem, wDims...), g.weight("s", onnx.F16, sDims...)), attrs...)
		}
	}
	block := func(axis, size int64) []onnx.Attr { return []onnx.Attr{i("axis", axis), i("block_size", size)} }
	for _, c := range []struct {
		name   string
		opset  int64
		build  func(g *graph)
		target string
		fate   target.Fate
		reason target.Reason
		text   string
	}{
		// Quantized weights.
		{"int8 per channel", 21, qdq(onnx.I8, []int64{64, 32}, []int64{32}, i("axis", 1)), "trt", target.Taken, "", ""},
		{"int8 per tensor", 21, qdq(onnx.I8, []int64{64, 32}, nil), "trt", target.Taken, "", ""},
		{"int8 blocks", 21, qdq(onnx.I8, []int64{64, 32}, []int64{1, 32}, block(0, 64)...), "trt", target.Left, target.BadForm, "INT8 in blocks of 64"},
		{"int4 blocks of 64", 21, qdq(onnx.I4, []int64{128, 32}, []int64{2, 32}, block(0, 64)...), "trt", target.Taken, "", ""},
		{"int4 blocks of 128", 21, qdq(onnx.I4, []int64{128, 32}, []int64{1, 32}, block(0, 128)...), "trt", target.Taken, "", ""},
		{"int4 blocks of 32", 21, qdq(onnx.I4, []int64{128, 32}, []int64{4, 32}, block(0, 32)...), "trt", target.Left, target.BadForm, "blocks of 32"},
		{"int4 blocks on the first of three axes", 21, qdq(onnx.I4, []int64{64, 4, 32}, []int64{1, 4, 32}, block(0, 64)...), "trt", target.Left, target.BadForm, "along axis 0"},
		{"int4 per channel", 21, qdq(onnx.I4, []int64{128, 32}, []int64{32}, i("axis", 1)), "trt", target.Left, target.BadForm, "scales of shape [32]"},
		{"uint4", 21, qdq(onnx.U4, []int64{128, 32}, []int64{2, 32}, block(0, 64)...), "trt", target.Left, target.BadType, "UINT4"},
		{"uint8", 21, qdq(onnx.U8, []int64{64, 32}, []int64{32}, i("axis", 1)), "trt", target.Left, target.BadType, "UINT8"},
		{"fp8 per tensor", 21, qdq(onnx.F8E4M3FN, []int64{64, 32}, nil), "trt", target.Taken, "", ""},
		{"fp8 of the other kind", 21, qdq(onnx.F8E5M2, []int64{64, 32}, nil), "trt", target.Left, target.BadType, "FLOAT8E5M2"},
		{"zero point of zeros", 21, func(g *graph) {
			g.node("DequantizeLinear", in(g.weight("w", onnx.I8, 64, 32), g.weight("s", onnx.F32, 32), g.zeros("z", onnx.I8, 32)), i("axis", 1))
		}, "trt", target.Taken, "", ""},
		{"zero point", 21, func(g *graph) {
			g.Initializer(onnx.Initializer{Name: "z", Elem: onnx.I8, Dims: []int64{2}, Data: []byte{0, 1}})
			g.node("DequantizeLinear", in(g.weight("w", onnx.I8, 64, 2), g.weight("s", onnx.F32, 2), "z"), i("axis", 1))
		}, "trt", target.Left, target.BadForm, "is not 0"},
		{"zero point elsewhere", 21, func(g *graph) {
			g.node("DequantizeLinear", in(g.weight("w", onnx.I8, 64, 32), g.weight("s", onnx.F32, 32), g.weight("z", onnx.I8, 32)), i("axis", 1))
		}, "trt", target.Left, target.BadForm, "cannot be read"},
		{"computed zero point", 21, func(g *graph) {
			g.node("DequantizeLinear", in(g.weight("w", onnx.I8, 64, 32), g.weight("s", onnx.F32, 32), x(g, "z", onnx.I8, 32)), i("axis", 1))
		}, "trt", target.Left, target.NotConstant, "zero point"},
		{"computed scale", 21, func(g *graph) {
			g.node("DequantizeLinear", in(g.weight("w", onnx.I8, 64, 32), x(g, "s", onnx.F32, 32)), i("axis", 1))
		}, "trt", target.Left, target.NotConstant, "x_scale"},
		{"int8 activation", 21, func(g *graph) {
			g.node("QuantizeLinear", in(x(g, "a", onnx.F16, 1, -1, 64), g.zeros("s", onnx.F16), g.zeros("z", onnx.I8)))
		}, "trt", target.Taken, "", ""},
		{"activation without zero point is uint8", 21, func(g *graph) {
			g.node("QuantizeLinear", in(x(g, "a", onnx.F16, 1, -1, 64), g.zeros("s", onnx.F16)))
		}, "trt", target.Left, target.BadType, "UINT8 as the quantized type of an activation"},
		{"activation per channel", 21, func(g *graph) {
			g.node("QuantizeLinear", in(x(g, "a", onnx.F16, 1, -1, 64), g.weight("s", onnx.F16, 64), g.zeros("z", onnx.I8, 64)), i("axis", 2))
		}, "trt", target.Left, target.BadForm, "scales of shape [64] for an activation"},
		{"dynamic int8", 21, func(g *graph) {
			g.Node("", "DynamicQuantizeLinear", "/dq", in(x(g, "a", onnx.F32, 1, 64)), in("y", "s", "z"))
		}, "trt", target.Left, target.BadOperator, "TensorRT 10.3 has no DynamicQuantizeLinear-11"},
		{"int8 weights on the CPU", 21, qdq(onnx.I8, []int64{64, 32}, []int64{32}, i("axis", 1)), "cpu", target.Taken, "", ""},
		{"int8 weights on CUDA", 21, qdq(onnx.I8, []int64{64, 32}, []int64{32}, i("axis", 1)), "cuda", target.Taken, "", "runs on every call"},
		{"int8 weights on CoreML are folded", 21, qdq(onnx.I8, []int64{64, 32}, []int64{32}, i("axis", 1)), "coreml", target.Folded, "", ""},
		{"int4 weights on CoreML are folded", 21, qdq(onnx.I4, []int64{128, 32}, []int64{2, 32}, block(0, 64)...), "coreml", target.Folded, "", ""},
		{"computed int8 on CoreML", 21, func(g *graph) {
			g.node("DequantizeLinear", in(x(g, "a", onnx.I8, 1, 64), g.zeros("s", onnx.F32)))
		}, "coreml", target.Left, target.BadOperator, "CoreML 1.32.0 has no DequantizeLinear-21"},

		// Operators by release.
		{"Attention on JetPack 6", 23, attention, "trt@10.3", target.Left, target.BadOperator, "Attention is taken from TensorRT 10.14 on, this is 10.3"},
		{"Attention", 23, attention, "trt@10.14", target.Taken, "", "fails to build where no fused kernel fits"},
		{"Attention-24 on the CPU", 24, attention, "cpu", target.Taken, "", ""},
		{"Attention-25 has no kernel", 25, attention, "cpu", target.Taken, "", "expanded into plain operators"},
		{"RMSNormalization", 23, rms, "trt@10.15", target.Taken, "", ""},
		{"RMSNormalization before", 23, rms, "trt@10.14", target.Left, target.BadOperator, "from TensorRT 10.15 on"},
		{"RMSNormalization on CoreML", 23, rms, "coreml", target.Left, target.BadOperator, "has no RMSNormalization-23"},
		{"ScatterND before its fix", 21, scatter, "trt@10.3", target.Left, target.BadOperator, "from TensorRT 10.9 on"},
		{"ScatterND", 21, scatter, "trt@10.9", target.Taken, "", ""},
		{"CumSum along a computed axis", 21, func(g *graph) {
			g.node("CumSum", in(x(g, "a", onnx.F32, 1, -1), x(g, "axis", onnx.I64)))
		}, "trt@10.3", target.Left, target.NotConstant, "input axis (axis) must be constant"},
		{"CumSum along a computed axis, later", 21, func(g *graph) {
			g.node("CumSum", in(x(g, "a", onnx.F32, 1, -1), x(g, "axis", onnx.I64)))
		}, "trt@10.8", target.Taken, "", ""},
		{"Pow of mixed types", 21, func(g *graph) {
			g.node("Pow", in(x(g, "a", onnx.F32, 4), onnx.Const(g.Graph, "two", []int64{}, int64(2))))
		}, "trt@10.7", target.Left, target.BadType, "input Y"},
		{"Pow of mixed types, later", 21, func(g *graph) {
			g.node("Pow", in(x(g, "a", onnx.F32, 4), onnx.Const(g.Graph, "two", []int64{}, int64(2))))
		}, "trt@10.8", target.Taken, "", ""},

		// Fused operators.
		{"blocks on TensorRT", 21, nbits(onnx.F32, 4, 4), "trt", target.Left, target.BadOperator, "has no MatMulNBits-1"},
		{"blocks on the CPU", 21, nbits(onnx.F32, 4, 0), "cpu", target.Taken, "", ""},
		{"8-bit blocks on the CPU", 21, nbits(onnx.F32, 8, 4), "cpu", target.Taken, "", ""},
		{"slow 8-bit blocks", 21, nbits(onnx.F32, 8, 0), "cpu", target.Taken, "", "slower on x86"},
		{"3-bit blocks", 21, nbits(onnx.F32, 3, 4), "cpu", target.Left, target.BadForm, "attribute bits is 3, taken: 2 4 8"},
		{"bfloat16 blocks on the CPU", 21, nbits(onnx.BF16, 4, 4), "cpu", target.Left, target.BadType, "input A is BFLOAT16, CPU 1.32.0 takes FLOAT, FLOAT16"},
		{"bfloat16 blocks on CUDA", 21, nbits(onnx.BF16, 4, 0), "cuda", target.Taken, "", ""},
		{"3-bit blocks on CUDA", 21, nbits(onnx.F16, 3, 0), "cuda", target.Left, target.BadForm, "bits is 3"},
		{"float32 attention on CUDA", 21, gqa(onnx.F32, onnx.F32, false), "cuda", target.Left, target.BadType, "input query is FLOAT, CUDA 1.31.1 takes BFLOAT16, FLOAT16"},
		{"float16 attention on CUDA", 21, gqa(onnx.F16, onnx.F16, false), "cuda", target.Taken, "", ""},
		{"int8 cache on CUDA", 21, gqa(onnx.F16, onnx.I8, false), "cuda", target.Taken, "", ""},
		{"float16 cache under float32 on the CPU", 21, gqa(onnx.F32, onnx.F16, false), "cpu", target.Taken, "", ""}, // cast on each call
		{"head norms inside attention on the CPU", 21, gqa(onnx.F32, onnx.F32, true), "cpu", target.Left, target.BadForm, "q_norm_weight must not be given"},
		{"head norms inside attention on CUDA", 21, gqa(onnx.F16, onnx.F16, true), "cuda", target.Taken, "", ""},
		{"float16 without a kernel on the CPU", 21, func(g *graph) { g.node("Softmax", in(x(g, "a", onnx.F16, 4, 4))) }, "cpu", target.Taken, "", "expanded"}, // Softmax is a function of ONNX
		{"float16 without a kernel, not a function", 21, func(g *graph) { g.node("MatMul", in(x(g, "a", onnx.F16, 4, 4), x(g, "b", onnx.F16, 4, 4))) }, "cpu", target.Taken, "", ""},
		{"bfloat16 without a kernel on the CPU", 21, func(g *graph) { g.node("Softmax", in(x(g, "a", onnx.BF16, 4, 4))) }, "cpu", target.Left, target.BadType, "BFLOAT16"},

		// CoreML's shapes and constants.
		{"dynamic shape", 21, func(g *graph) { g.node("Sigmoid", in(x(g, "a", onnx.F32, 1, -1))) }, "coreml", target.Left, target.DynamicShape, "[1, n1] and RequireStaticInputShapes is set"},
		{"empty past", 21, func(g *graph) {
			g.node("Concat", in(x(g, "past", onnx.F32, 1, 2, 0, 16), x(g, "k", onnx.F32, 1, 2, 1, 16)), i("axis", 2))
		}, "coreml", target.Left, target.DynamicShape, "an extent of 0 is refused"},
		{"rank 6", 21, func(g *graph) { g.node("Sigmoid", in(x(g, "a", onnx.F32, 1, 1, 1, 1, 2, 2))) }, "coreml", target.Left, target.BadRank, "rank 6, at most 5"},
		{"rank 5", 21, func(g *graph) { g.node("Sigmoid", in(x(g, "a", onnx.F32, 1, 1, 1, 2, 2))) }, "coreml", target.Taken, "", "rank 5; graphs for CoreML keep to 4"},
		{"rank 9", 21, func(g *graph) { g.node("Sigmoid", in(x(g, "a", onnx.F32, 1, 1, 1, 1, 1, 1, 1, 1, 2))) }, "trt", target.Left, target.BadRank, "at most 8"},
		{"computed shape", 21, func(g *graph) {
			g.node("Reshape", in(x(g, "a", onnx.F32, 4, 4), x(g, "s", onnx.I64, 2)))
		}, "coreml", target.Left, target.NotConstant, "input shape (s) must be constant"},
		{"unsqueeze beyond rank 5", 21, func(g *graph) {
			g.node("Unsqueeze", in(x(g, "a", onnx.F32, 1, 1, 1, 2, 2), g.ints("axes", 0)))
		}, "coreml", target.Left, target.BadRank, "output has rank 6"},
		{"negation", 21, func(g *graph) { g.node("Neg", in(x(g, "a", onnx.F32, 4))) }, "coreml", target.Left, target.BadOperator, "has no Neg-13"},
		{"look-up in float16", 21, func(g *graph) {
			g.node("Gather", in(g.weight("w", onnx.F16, 100, 64), x(g, "ids", onnx.I64, 1, 4)))
		}, "coreml", target.Taken, "", ""},
		{"look-up in int8", 21, func(g *graph) {
			g.node("Gather", in(g.weight("w", onnx.I8, 100, 64), x(g, "ids", onnx.I64, 1, 4)))
		}, "coreml", target.Left, target.BadType, "input data (w) is INT8"},
		{"one index into rank 5", 21, func(g *graph) {
			g.node("Gather", in(x(g, "a", onnx.F32, 2, 1, 1, 2, 2), onnx.Const(g.Graph, "i", []int64{}, int64(0))))
		}, "coreml", target.Left, target.DynamicShape, "rank 4 at most"},
		{"vector times matrix", 21, func(g *graph) {
			g.node("MatMul", in(x(g, "a", onnx.F32, 64), g.weight("w", onnx.F32, 64, 8)))
		}, "coreml", target.Left, target.BadRank, "a vector times a matrix"},
		{"Cast of a graph input", 21, func(g *graph) { g.node("Cast", in(x(g, "a", onnx.I64, 4)), i("to", int64(onnx.F32))) }, "coreml", target.Left, target.BadForm, "no node comes before it"},
		{"Cast to bool", 21, func(g *graph) {
			g.node("Cast", in(g.node("Sigmoid", in(x(g, "a", onnx.F32, 4)))), i("to", int64(onnx.Bool)))
		}, "coreml", target.Left, target.BadType, "output output is BOOL"},
		{"Where with int64", 21, func(g *graph) {
			g.node("Where", in(x(g, "c", onnx.Bool, 4), x(g, "a", onnx.I64, 4), x(g, "b", onnx.I64, 4)))
		}, "coreml", target.Left, target.BadType, "INT64"},
		{"Gemm with transA", 21, func(g *graph) {
			g.node("Gemm", in(x(g, "a", onnx.F32, 4, 2), g.weight("w", onnx.F32, 4, 8)), i("transA", 1))
		}, "coreml", target.Left, target.BadForm, "attribute transA is 1"},
		{"computed right side of Gemm", 21, func(g *graph) {
			g.node("Gemm", in(x(g, "a", onnx.F32, 2, 4), x(g, "b", onnx.F32, 4, 8)))
		}, "coreml", target.Left, target.NotConstant, "input B"},

		// Folding.
		{"constants", 21, func(g *graph) { g.node("Add", in(g.zeros("a", onnx.F32, 4), g.zeros("b", onnx.F32, 4))) }, "trt", target.Folded, "", ""},
		{"constants behind constants", 21, func(g *graph) {
			g.node("Sqrt", in(g.node("Add", in(g.zeros("a", onnx.F32, 4), g.zeros("b", onnx.F32, 4)))))
		}, "coreml", target.Folded, "", ""},
		{"constants without a kernel to fold with", 21, func(g *graph) {
			g.node("Softmax", in(g.zeros("a", onnx.F16, 4)))
		}, "coreml", target.Taken, "", ""},
		{"known shape", 21, func(g *graph) { g.node("Shape", in(x(g, "a", onnx.F32, 4, 4))) }, "coreml", target.Folded, "", ""},
		{"unknown shape", 21, func(g *graph) { g.node("Shape", in(x(g, "a", onnx.F32, 4, -1))) }, "cpu", target.Taken, "", ""},
		{"unknown operator", 21, func(g *graph) { g.node("ms.NoSuchThing", in(x(g, "a", onnx.F32, 4))) }, "cpu", target.Left, target.BadOperator, "is not known here"},
	} {
		tg, err := target.Find(c.target)
		if err != nil {
			t.Fatal(err)
		}
		p := tg.Place(one(c.opset, c.build))
		got := p.Nodes[len(p.Nodes)-1]
		if got.Fate != c.fate || got.Reason != c.reason || !strings.Contains(got.Text, c.text) || c.text == "" && got.Text != "" {
			t.Errorf("%s on %s: %v, %q, %q; want %v, %q, %q", c.name, c.target, got.Fate, got.Reason, got.Text, c.fate, c.reason, c.text)
		}
		if (p.Err() == nil) != p.Whole() || p.Whole() != (len(p.Left()) == 0) {
			t.Errorf("%s on %s: Err %v, Whole %v, %d left", c.name, c.target, p.Err(), p.Whole(), len(p.Left()))
		}
	}
}

func attention(g *graph) {
	g.Node("", "Attention", "/attn", in(x(g, "q", onnx.F16, 1, 4, -1, 16), x(g, "k", onnx.F16, 1, 2, -2, 16), x(g, "v", onnx.F16, 1, 2, -2, 16)), in("y"), onnx.Int("is_causal", 1))
}

func rms(g *graph) {
	g.node("RMSNormalization", in(x(g, "a", onnx.F16, 1, 4, 64), g.weight("w", onnx.F16, 64)))
}

func scatter(g *graph) {
	g.node("ScatterND", in(x(g, "a", onnx.F16, 8, 64), x(g, "i", onnx.I64, 2, 1), x(g, "u", onnx.F16, 2, 64)))
}

func nbits(act onnx.ElemType, bits, level int64) func(*graph) {
	return func(g *graph) {
		const k, n, blockSize = 128, 32, 32
		g.node("ms.MatMulNBits", in(x(g, "a", act, 1, -1, k), g.weight("b", onnx.U8, n, k/blockSize, blockSize*bits/8), g.weight("s", act, n, k/blockSize)),
			onnx.Int("K", k), onnx.Int("N", n), onnx.Int("bits", bits), onnx.Int("block_size", blockSize), onnx.Int("accuracy_level", level))
	}
}

func gqa(act, cache onnx.ElemType, norms bool) func(*graph) {
	return func(g *graph) {
		inputs := in(x(g, "q", act, 1, -1, 64), x(g, "k", act, 1, -1, 32), x(g, "v", act, 1, -1, 32),
			x(g, "pk", cache, 1, 2, -2, 16), x(g, "pv", cache, 1, 2, -2, 16), x(g, "len", onnx.I32, 1), x(g, "total", onnx.I32))
		if norms {
			inputs = append(inputs, "", "", "", "", "", "", "", g.weight("qn", act, 16), g.weight("kn", act, 16))
		}
		g.Node(ms, "GroupQueryAttention", "/gqa", inputs, in("y", "ok", "ov"), onnx.Int("num_heads", 4), onnx.Int("kv_num_heads", 2))
	}
}

// TestPlaceWith changes settings.
func TestPlaceWith(t *testing.T) {
	find := func(name string) *target.Target {
		tg, err := target.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		return tg
	}
	m := one(21, func(g *graph) {
		w := g.node("DequantizeLinear", in(g.weight("w", onnx.I8, 64, 32), g.weight("s", onnx.F32, 32)), onnx.Int("axis", 1))
		g.node("MatMul", in(x(g, "a", onnx.F32, 1, -1, 64), w))
	})
	fates := func(p target.Placement) string {
		var s []string
		for _, n := range p.Nodes {
			s = append(s, n.Fate.String())
		}
		return strings.Join(s, " ")
	}
	for _, c := range []struct {
		target string
		o      target.PlaceOptions
		want   string
	}{
		{"cpu", target.PlaceOptions{}, "taken taken"},
		{"cpu", target.PlaceOptions{Session: map[string]string{"session.disable_quant_qdq": "1"}}, "folded taken"},
		{"trt", target.PlaceOptions{}, "taken taken"},
		{"trt", target.PlaceOptions{Provider: map[string]string{"trt_op_types_to_exclude": "Softmax,MatMul"}}, "taken left"},
		{"coreml", target.PlaceOptions{}, "folded left"},
		{"coreml", target.PlaceOptions{Provider: map[string]string{"RequireStaticInputShapes": "0"}}, "folded taken"},
		{"coreml", target.PlaceOptions{Session: map[string]string{"session.disable_quant_qdq": "0"}}, "left left"},
	} {
		if got := fates(find(c.target).PlaceWith(m, c.o)); got != c.want {
			t.Errorf("%s %v: %s, want %s", c.target, c.o, got, c.want)
		}
	}

	// What is wrong with the graph as a whole, and warnings of many nodes at once.
	m = one(21, func(g *graph) {
		b := x(g, "mask", onnx.Bool, 1, 4)
		for range 3 {
			g.node("Where", in(b, g.weight("a", onnx.F32, 1, 1, 1, 1, 4), g.weight("b", onnx.F32, 1, 1, 1, 1, 4)))
		}
	})
	p := find("coreml").Place(m)
	want := []string{`graph input or output "mask" is BOOL`, "/Where_1\" and 2 more nodes: rank 5"}
	for _, w := range want {
		if !slices.ContainsFunc(p.Warnings, func(s string) bool { return strings.Contains(s, w) }) {
			t.Errorf("warnings %q, want %q", p.Warnings, w)
		}
	}
	if len(p.Warnings) != 2 {
		t.Errorf("%d warnings: %q", len(p.Warnings), p.Warnings)
	}

	for axis, want := range []int{1, 0} { // along the rows, along the columns
		m := one(21, func(g *graph) {
			w := g.node("DequantizeLinear", in(g.weight("w", onnx.I8, 64, 64), g.weight("s", onnx.F16, 64)), onnx.Int("axis", int64(axis)))
			g.node("MatMul", in(x(g, "a", onnx.F16, 1, -1, 64), w))
		})
		if p := find("trt@10.15").Place(m); !p.Whole() || len(p.Warnings) != want {
			t.Errorf("scales along axis %d: whole %v, warnings %q", axis, p.Whole(), p.Warnings)
		}
	}

	m = one(21, func(g *graph) {
		for range 7 {
			g.node("Neg", in(x(g, fmt.Sprint("x", g.n), onnx.F32, 4)))
		}
	})
	if err := find("coreml").Place(m).Err(); err == nil || !strings.Contains(err.Error(), "would not take 7 of 7 nodes") || !strings.Contains(err.Error(), "and 2 more") {
		t.Errorf("error %v", err)
	}
}

// FuzzPlace wants no panic on any model that can be decoded.
func FuzzPlace(f *testing.F) {
	for _, m := range []*onnx.Model{block(onnx.F16).model(21), one(23, attention), one(21, scatter), one(21, nbits(onnx.F32, 4, 4)), one(21, gqa(onnx.F16, onnx.I8, true))} {
		b, err := m.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	var targets []*target.Target
	for _, name := range []string{"cpu", "cuda", "tensorrt@10.15", "coreml"} {
		tg, err := target.Find(name)
		if err != nil {
			f.Fatal(err)
		}
		targets = append(targets, tg)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := onnx.Decode(b)
		if err != nil || m.Graph == nil {
			return
		}
		for _, tg := range targets {
			p := tg.Place(m)
			if len(p.Nodes) != len(m.Graph.Nodes) {
				t.Errorf("%s: %d places for %d nodes", tg.Name, len(p.Nodes), len(m.Graph.Nodes))
			}
		}
	})
}
