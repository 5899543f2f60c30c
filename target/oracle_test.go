package target_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/target"
)

// TestCPUKernels compares the table of CPU kernels with the registry of the
// pinned library itself.
func TestCPUKernels(t *testing.T) {
	script, err := os.ReadFile("testdata/kernels.py")
	if err != nil {
		t.Fatal(err)
	}
	want := oracle.Run(t, string(script), nil, "CPUExecutionProvider")
	const file = "data/kernels/cpu-1.32.0.txt"
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Errorf("%s differs from the library's registry; look at what changed after `go test -run TestCPUKernels -update ./target`", file)
	}
}

// sessionScript loads models with ONNX Runtime on the CPU, constant folding
// alone of all rewrites, and prints for each the nodes that are left, or the
// error.
const sessionScript = `
import base64, json, os, sys, tempfile
import onnx, onnxruntime as ort
# Every rewrite of level basic but ConstantFolding, by the names in the library.
off = sys.argv[1].split(',')
out = []
for text in json.load(sys.stdin):
    o = ort.SessionOptions()
    o.log_severity_level = 4
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    path = os.path.join(tempfile.mkdtemp(), 'out.onnx')
    o.optimized_model_filepath = path
    try:
        ort.InferenceSession(base64.b64decode(text), o, providers=['CPUExecutionProvider'], disabled_optimizers=off)
        out.append({'nodes': [n.name for n in onnx.load(path, load_external_data=False).graph.node]})
    except Exception as e:
        out.append({'error': str(e)[:300]})
json.dump(out, sys.stdout)
`

// TestCPUPlacement loads small models with ONNX Runtime: a model whose nodes are
// all taken or folded must load, one with a node that is left must not; the
// folded nodes must be gone, the taken ones there.
func TestCPUPlacement(t *testing.T) {
	i := onnx.Int
	all := []onnx.ElemType{onnx.F32, onnx.F16, onnx.BF16}
	type c struct {
		name  string
		opset int64
		build func(*graph)
	}
	var cases []c
	add := func(name string, opset int64, build func(*graph)) { cases = append(cases, c{name, opset, build}) }
	// Inline weights: the models travel without data files.
	weight := func(g *graph, name string, e onnx.ElemType, dims ...int64) string { return g.zeros(name, e, dims...) }
	for _, e := range all {
		add(fmt.Sprint("Softmax ", e), 21, func(g *graph) { g.node("Softmax", in(x(g, "a", e, 4, 4))) })
		add(fmt.Sprint("MatMul ", e), 21, func(g *graph) { g.node("MatMul", in(x(g, "a", e, 4, 4), weight(g, "w", e, 4, 4))) })
		add(fmt.Sprint("Where ", e), 21, func(g *graph) { g.node("Where", in(x(g, "c", onnx.Bool, 4), x(g, "a", e, 4), x(g, "b", e, 4))) })
		add(fmt.Sprint("Gather ", e), 21, func(g *graph) { g.node("Gather", in(weight(g, "w", e, 8, 4), x(g, "i", onnx.I64, 2))) })
		add(fmt.Sprint("ReduceMean ", e), 21, func(g *graph) { g.node("ReduceMean", in(x(g, "a", e, 4, 4), g.ints("axes", -1))) })
		add(fmt.Sprint("Pow ", e), 21, func(g *graph) { g.node("Pow", in(x(g, "a", e, 4), weight(g, "p", e))) })
		add(fmt.Sprint("RMSNormalization ", e), 23, func(g *graph) { g.node("RMSNormalization", in(x(g, "a", e, 4, 8), weight(g, "w", e, 8))) })
		add(fmt.Sprint("SkipSimplifiedLayerNormalization ", e), 21, func(g *graph) {
			g.node("ms.SkipSimplifiedLayerNormalization", in(x(g, "a", e, 1, 4, 8), x(g, "b", e, 1, 4, 8), weight(g, "w", e, 8)), onnx.Float("epsilon", 1e-5))
		})
		for _, opset := range []int64{23, 24, 25} {
			add(fmt.Sprint("Attention ", e, opset), opset, func(g *graph) {
				g.node("Attention", in(x(g, "q", e, 1, 2, 4, 16), x(g, "k", e, 1, 2, 4, 16), x(g, "v", e, 1, 2, 4, 16)))
			})
		}
		add(fmt.Sprint("RotaryEmbedding ", e), 23, func(g *graph) {
			g.node("RotaryEmbedding", in(x(g, "a", e, 1, 2, 4, 16), weight(g, "c", e, 8, 8), weight(g, "s", e, 8, 8), x(g, "p", onnx.I64, 1, 4)))
		})
		add(fmt.Sprint("DequantizeLinear int8 to ", e), 21, func(g *graph) {
			g.node("DequantizeLinear", in(x(g, "a", onnx.I8, 4, 4), weight(g, "s", e, 4)), i("axis", 1))
		})
		add(fmt.Sprint("DequantizeLinear int4 to ", e), 21, func(g *graph) {
			g.node("DequantizeLinear", in(weight(g, "w", onnx.I4, 32, 4), weight(g, "s", e, 2, 4)), i("axis", 0), i("block_size", 16))
		})
		add(fmt.Sprint("QuantizeLinear ", e), 21, func(g *graph) {
			g.node("QuantizeLinear", in(x(g, "a", e, 4, 4), weight(g, "s", e), weight(g, "z", onnx.I8)))
		})
		for _, bits := range []int64{2, 3, 4, 8} {
			add(fmt.Sprint("MatMulNBits ", e, bits), 21, func(g *graph) {
				g.node("ms.MatMulNBits", in(x(g, "a", e, 1, 32), weight(g, "b", onnx.U8, 16, 1, 4*bits), weight(g, "s", e, 16, 1)),
					i("K", 32), i("N", 16), i("bits", bits), i("block_size", 32), i("accuracy_level", 4))
			})
		}
		for _, cache := range []onnx.ElemType{onnx.F32, onnx.F16, onnx.BF16} {
			add(fmt.Sprint("GroupQueryAttention ", e, cache), 21, gqa(e, cache, false))
		}
		add(fmt.Sprint("folded Add ", e), 21, func(g *graph) {
			g.node("Sub", in(x(g, "a", e, 4), g.node("Add", in(weight(g, "b", e, 4), weight(g, "c", e, 4)))))
		})
		add(fmt.Sprint("folded Cast from ", e), 21, func(g *graph) {
			g.node("Add", in(x(g, "a", onnx.F32, 4), g.node("Cast", in(weight(g, "b", e, 4)), i("to", int64(onnx.F32)))))
		})
	}
	for _, e := range []onnx.ElemType{onnx.I8, onnx.I32, onnx.I64, onnx.U8, onnx.F64} {
		add(fmt.Sprint("Add ", e), 21, func(g *graph) { g.node("Add", in(x(g, "a", e, 4), x(g, "b", e, 4))) })
		add(fmt.Sprint("Mul ", e), 21, func(g *graph) { g.node("Mul", in(x(g, "a", e, 4), x(g, "b", e, 4))) })
		add(fmt.Sprint("CumSum ", e), 21, func(g *graph) {
			g.node("CumSum", in(x(g, "a", e, 4), onnx.Const(g.Graph, "axis", []int64{}, int64(0))))
		})
	}
	add("shape of a known shape", 21, func(g *graph) {
		g.node("Add", in(x(g, "b", onnx.I64, 2), g.node("Shape", in(x(g, "a", onnx.F32, 4, 5)))))
	})
	add("shape of an unknown shape", 21, func(g *graph) {
		g.node("Add", in(x(g, "b", onnx.I64, 2), g.node("Shape", in(x(g, "a", onnx.F32, 4, -1)))))
	})
	add("part of an unknown shape", 21, func(g *graph) {
		g.node("Add", in(x(g, "b", onnx.I64, 1), g.node("Shape", in(x(g, "a", onnx.F32, 4, -1)), i("end", 1))))
	})
	add("constant of a known shape", 21, func(g *graph) {
		s := g.node("Shape", in(x(g, "a", onnx.F32, 4, 5)))
		g.node("Add", in("a", g.node("ConstantOfShape", in(s))))
	})
	add("Constant node", 21, func(g *graph) {
		c := g.node("Constant", nil, onnx.TensorAttr("value", onnx.ConstTensor[float32](nil, 1, 2, 3, 4)))
		g.node("Add", in(x(g, "a", onnx.F32, 4), c))
	})
	add("dequantized weight", 21, func(g *graph) {
		g.node("MatMul", in(x(g, "a", onnx.F32, 4, 8), g.node("DequantizeLinear", in(weight(g, "w", onnx.I8, 8, 4), weight(g, "s", onnx.F32, 4)), i("axis", 1))))
	})
	add("TensorScatter", 24, func(g *graph) {
		g.node("TensorScatter", in(x(g, "a", onnx.F16, 1, 2, 8, 4), x(g, "u", onnx.F16, 1, 2, 1, 4), x(g, "i", onnx.I64, 1)))
	})

	tg, err := target.Find("cpu")
	if err != nil {
		t.Fatal(err)
	}
	var places []target.Placement
	var texts []string
	for _, c := range cases {
		g := newGraph()
		c.build(g)
		m := g.model(c.opset)
		m.IRVersion = 10
		// Every value that nothing reads becomes an output.
		values, index := onnx.Infer(m), m.Graph.Index()
		for _, n := range m.Graph.Nodes {
			for _, name := range n.Outputs {
				if len(index.Consumers(name)) == 0 {
					m.Graph.Outputs = append(m.Graph.Outputs, values[name])
				}
			}
		}
		b, err := m.Encode()
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		places = append(places, tg.Place(m))
		texts = append(texts, base64.StdEncoding.EncodeToString(b))
	}
	stdin, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	off := "ConstantSharing,CommonSubexpressionElimination,ConstantFoldingDQ,EnsureUniqueDQForNodeUnit,PropagateCastOps,ReshapeFusion,FuseInitializersTransformer,TransposeOptimizer"
	var got []struct {
		Nodes []string
		Error string
	}
	if err := json.Unmarshal(oracle.Run(t, sessionScript, stdin, off), &got); err != nil {
		t.Fatal(err)
	}
	loaded, refused := 0, 0
	for k, c := range cases {
		p, have := places[k], got[k]
		if (have.Error == "") != p.Whole() {
			t.Errorf("%s: predicted %v (%v); ONNX Runtime: %s", c.name, p.Whole(), p.Err(), have.Error)
			continue
		}
		if have.Error != "" {
			refused++
			continue
		}
		loaded++
		for _, n := range p.Nodes {
			expanded := strings.Contains(n.Text, "expanded")
			if there := slices.Contains(have.Nodes, n.Node.Name); !expanded && there != (n.Fate == target.Taken) {
				t.Errorf("%s: %s is %v, but it is there after loading: %v", c.name, n.Node.Label(), n.Fate, there)
			}
		}
	}
	t.Logf("%d models loaded, %d refused", loaded, refused)
	if loaded < 50 || refused < 10 {
		t.Errorf("%d models loaded, %d refused: the test has lost its cases", loaded, refused)
	}
}
