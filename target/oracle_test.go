package target_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"flag"
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

// smallModel is a model of a few nodes, and its bytes in base64.
type smallModel struct {
	Name  string
	model *onnx.Model
	Text  string
}

// smallModels are what placements are compared on with ONNX Runtime: operators
// and element types that the targets differ in, folding, shape computations.
func smallModels(t *testing.T) []smallModel {
	i := onnx.Int
	all := []onnx.ElemType{onnx.F32, onnx.F16, onnx.BF16}
	var out []smallModel
	add := func(name string, opset int64, build func(*graph)) {
		g := newGraph()
		build(g)
		m := g.model(opset)
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
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, smallModel{name, m, base64.StdEncoding.EncodeToString(b)})
	}
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
	// What computes with shapes.
	for _, e := range []onnx.ElemType{onnx.F32, onnx.F16} {
		add(fmt.Sprint("reshape to a computed shape ", e), 21, func(g *graph) {
			s := g.node("Shape", in(x(g, "a", e, -1, -2, 64)), i("end", 2))
			s = g.node("Concat", in(s, g.ints("heads", 4, 16)), i("axis", 0))
			g.node("Reshape", in(g.node("Sigmoid", in("a")), s))
		})
		add(fmt.Sprint("positions ", e), 21, func(g *graph) {
			n := g.node("Gather", in(g.node("Shape", in(x(g, "a", e, -1, -2, 64))), onnx.Const(g.Graph, "one", []int64{}, int64(1))))
			r := g.node("Range", in(onnx.Const(g.Graph, "zero", []int64{}, int64(0)), n, onnx.Const(g.Graph, "step", []int64{}, int64(1))))
			g.node("Gather", in(weight(g, "table", e, 512, 64), g.node("Unsqueeze", in(r, g.ints("axes", 0)))))
		})
		add(fmt.Sprint("mask ", e), 21, func(g *graph) {
			n := g.node("Shape", in(x(g, "a", e, -1, -2, 64)))
			c := g.node("Cast", in(n), i("to", int64(e)))
			g.node("Mul", in("a", g.node("ReduceSum", in(g.node("Mul", in(c, weight(g, "factor", e)))), i("keepdims", 1))))
		})
		add(fmt.Sprint("expanded ", e), 21, func(g *graph) {
			n := g.node("Shape", in(x(g, "a", e, -1, -2, 64)))
			g.node("Add", in("a", g.node("Expand", in(weight(g, "w", e, 64), n))))
		})
		add(fmt.Sprint("with a graph input ", e), 21, func(g *graph) {
			n := g.node("Cast", in(g.node("Shape", in(x(g, "a", e, -1, -2, 64)))), i("to", int64(e)))
			g.node("Add", in(n, x(g, "b", e, 3)))
		})
		add(fmt.Sprint("large constants ", e), 21, func(g *graph) {
			n := g.node("Shape", in(x(g, "a", e, -1, -2, 64)), i("end", 1))
			c := g.node("Cast", in(n), i("to", int64(e)))
			g.node("Mul", in(c, weight(g, "w", e, 101)))
			g.node("Mul", in(c, weight(g, "v", e, 100)))
		})
	}
	return out
}

// TestCPUPlacement loads small models with ONNX Runtime: a model whose nodes are
// all taken or folded must load, one with a node that is left must not; the
// folded nodes must be gone, the taken ones there.
func TestCPUPlacement(t *testing.T) {
	tg, err := target.Find("cpu")
	if err != nil {
		t.Fatal(err)
	}
	models := smallModels(t)
	var texts []string
	for _, m := range models {
		texts = append(texts, m.Text)
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
	for k, c := range models {
		p, have := tg.Place(c.model), got[k]
		if (have.Error == "") != p.Whole() {
			t.Errorf("%s: predicted %v (%v); ONNX Runtime: %s", c.Name, p.Whole(), p.Err(), have.Error)
			continue
		}
		if have.Error != "" {
			refused++
			continue
		}
		loaded++
		for _, n := range p.Nodes {
			// Expanded nodes have other names; a Cast to float16 meets the Cast
			// back that is inserted behind it, and both go.
			gone := strings.Contains(n.Text, "expanded") || n.Node.Op == "Cast" && n.Fate == target.Taken
			if there := slices.Contains(have.Nodes, n.Node.Name); !gone && there != (n.Fate == target.Taken) {
				t.Errorf("%s: %s is %v, but it is there after loading: %v", c.Name, n.Node.Label(), n.Fate, there)
			}
		}
	}
	t.Logf("%d models loaded, %d refused", loaded, refused)
	if loaded < 50 || refused < 10 {
		t.Errorf("%d models loaded, %d refused: the test has lost its cases", loaded, refused)
	}
}

var modelsOut = flag.String("models", "", "write the models of TestCUDAPlacement to this file, for testdata/placement.py")

// TestCUDAPlacement compares placements with what onnxruntime-gpu 1.31.1 did with
// the same models (testdata/placement.py, on a machine without a GPU).
func TestCUDAPlacement(t *testing.T) {
	models := smallModels(t)
	if *modelsOut != "" {
		b, err := json.Marshal(models)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(*modelsOut, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("testdata/cuda-placement.json")
	if err != nil {
		t.Fatal(err)
	}
	var recorded map[string]map[string]string // model, node: provider; or "error"
	if err := json.Unmarshal(b, &recorded); err != nil {
		t.Fatal(err)
	}
	tg, err := target.Find("cuda")
	if err != nil {
		t.Fatal(err)
	}
	want := map[target.Fate]string{target.Taken: "CUDAExecutionProvider", target.Left: "CPUExecutionProvider", target.Host: "CPUExecutionProvider", target.Folded: ""}
	compared, host := 0, 0
	for _, m := range models {
		got, ok := recorded[m.Name]
		if !ok {
			t.Errorf("%s is not recorded: run testdata/placement.py", m.Name)
			continue
		}
		p := tg.Place(m.model)
		if got["error"] != "" { // neither provider could run it
			if p.Whole() {
				t.Errorf("%s: predicted whole, but %s", m.Name, got["error"])
			}
			continue
		}
		for _, n := range p.Nodes {
			// 1.31.1 does not know Attention-25 and takes the node for Attention-24.
			if n.Node.Op == "Attention" && strings.HasSuffix(m.Name, "25") {
				continue
			}
			compared++
			if n.Fate == target.Host {
				host++
			}
			if got[n.Node.Name] != want[n.Fate] {
				t.Errorf("%s: %s is %v (%s), but it went to %q", m.Name, n.Node.Label(), n.Fate, n.Text, got[n.Node.Name])
			}
		}
	}
	if compared < 120 || host < 10 {
		t.Errorf("%d nodes compared, %d of them on the host: the test has lost its cases", compared, host)
	}
}
