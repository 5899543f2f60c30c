package onnx_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

// verdictScript judges every *.onnx of a folder: by the onnx checker with
// strict shape inference, and by ONNX Runtime, which loads the model without
// optimizing it and runs it. It prints what each said and the types found.
const verdictScript = `
import glob, json, os, sys
import numpy as np, onnx, onnx.shape_inference, onnxruntime as ort
ort.set_default_logger_severity(4)
NAMED = {'b': 2, 's': 3, 'p': 5, 't': 7, 'batch': 2, 'seq': 3}
DT = {'tensor(float)': np.float32, 'tensor(float16)': np.float16, 'tensor(int64)': np.int64, 'tensor(int32)': np.int32,
      'tensor(bool)': np.bool_, 'tensor(uint8)': np.uint8, 'tensor(int8)': np.int8}
def value(v):
    t = v.type.tensor_type
    if not t.HasField('shape'):
        return {'Elem': t.elem_type, 'Dims': None}
    return {'Elem': t.elem_type, 'Dims': [d.dim_value if d.HasField('dim_value') else d.dim_param or -1 for d in t.shape.dim]}
def judge(path):
    r = {'Onnx': '', 'Runtime': '', 'Values': {}, 'Run': {}}
    try:
        onnx.checker.check_model(path, full_check=True)
        m = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False), strict_mode=True, data_prop=True)
        r['Values'] = {v.name: value(v) for v in list(m.graph.value_info) + list(m.graph.output)}
    except Exception as e:
        r['Onnx'] = str(e) or repr(e)
    try:
        o = ort.SessionOptions()
        o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        o.add_session_config_entry('session.strict_shape_type_inference', '1')
        s = ort.InferenceSession(path, o, providers=['CPUExecutionProvider'])
        feed = {}
        for i in s.get_inputs():
            shape = [d if isinstance(d, int) else NAMED[d] for d in i.shape]
            feed[i.name] = np.ones(shape, DT[i.type])
            if i.name in ('ids', 'at', 'pos', 'input_ids'):
                feed[i.name][...] = 0
        for out, a in zip(s.get_outputs(), s.run(None, feed)):
            r['Run'][out.name] = {'Elem': int(onnx.helper.np_dtype_to_tensor_dtype(a.dtype)), 'Dims': list(a.shape)}
    except Exception as e:
        r['Runtime'] = str(e) or repr(e)
    return r
json.dump({os.path.basename(p)[:-5]: judge(p) for p in glob.glob(os.path.join(sys.argv[1], '*.onnx'))}, sys.stdout)
`

// verdict is what the two libraries said of one model.
type verdict struct {
	Onnx, Runtime string // "" where they had nothing to say against it
	Values, Run   map[string]struct {
		Elem onnx.ElemType
		Dims []any
	}
}

// named gives the symbolic dims the extents the script runs with.
var named = map[string]int64{"b": 2, "s": 3, "p": 5, "t": 7, "batch": 2, "seq": 3}

func judge(t *testing.T, models map[string]*onnx.Model) map[string]verdict {
	t.Helper()
	dir := t.TempDir()
	for name, m := range models {
		b, err := m.Encode()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".onnx"), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var v map[string]verdict
	if err := json.Unmarshal(oracle.Run(t, verdictScript, nil, dir), &v); err != nil {
		t.Fatal(err)
	}
	if len(v) != len(models) {
		t.Fatalf("%d verdicts for %d models", len(v), len(models))
	}
	return v
}

// TestOracleValid runs every valid case: the libraries take it, and the types
// and shapes found by inference are those of the libraries.
func TestOracleValid(t *testing.T) {
	models := map[string]*onnx.Model{}
	for i, c := range opCases {
		models[fmt.Sprint(i)] = c.model()
	}
	models["decoder"] = decoderLayer(t)
	models["standard decoder"] = standardLayer(t)
	verdicts := judge(t, models)
	for key, m := range models {
		v, name := verdicts[key], key
		var i int
		if n, _ := fmt.Sscan(key, &i); n == 1 {
			name = opCases[i].name
		}
		// The one operator that ONNX Runtime keeps in the default domain is
		// unknown to the onnx package.
		if v.Onnx != "" && !usesOnly(m, "SimplifiedLayerNormalization") {
			t.Errorf("%s: refused by onnx: %s", name, v.Onnx)
		}
		if v.Runtime != "" {
			t.Errorf("%s: refused by ONNX Runtime: %s", name, v.Runtime)
		}
		ours := onnx.Infer(m)
		for value, theirs := range v.Values {
			compareInferred(t, name, ours[value], theirs.Elem, theirs.Dims)
		}
		for value, ran := range v.Run {
			compareRun(t, name, ours[value], ran.Elem, ran.Dims)
		}
	}
}

func usesOnly(m *onnx.Model, op string) bool {
	for _, n := range m.Graph.Nodes {
		if n.Op == op && n.Domain == "" {
			return true
		}
	}
	return false
}

// compareInferred wants all that onnx's inference knows.
func compareInferred(t *testing.T, name string, ours onnx.Value, elem onnx.ElemType, ds []any) {
	t.Helper()
	if elem != onnx.Undefined && ours.Elem != elem {
		t.Errorf("%s: %s is %v, onnx infers %v", name, ours.Name, ours.Elem, elem)
	}
	if ds == nil {
		return
	}
	if !ours.Shape.Known() || len(ours.Shape) != len(ds) {
		t.Errorf("%s: %s has shape %v, onnx infers %v", name, ours.Name, ours.Shape, ds)
		return
	}
	for k, d := range ds {
		if n, ok := d.(float64); ok && n >= 0 && ours.Shape[k] != onnx.Fixed(int64(n)) {
			t.Errorf("%s: %s has shape %v, onnx infers %v", name, ours.Name, ours.Shape, ds)
		}
	}
}

// compareRun wants nothing that a run contradicts.
func compareRun(t *testing.T, name string, ours onnx.Value, elem onnx.ElemType, ds []any) {
	t.Helper()
	bad := ours.Elem != elem || !ours.Shape.Known() || len(ours.Shape) != len(ds)
	for k := 0; !bad && k < len(ds); k++ {
		d := ours.Shape[k]
		n, ok := named[d.Name]
		if d.IsFixed() {
			n, ok = d.Size, true
		}
		bad = ok && float64(n) != ds[k].(float64)
	}
	if bad {
		t.Errorf("%s: %s is %v %v, but a run gave %v %v", name, ours.Name, ours.Elem, ours.Shape, elem, ds)
	}
}

// TestOracleBroken feeds the broken cases to the libraries. ONNX Runtime
// refuses them when loaded or at the latest when run, onnx those of standard
// operators; a case says which of the two is more lenient.
func TestOracleBroken(t *testing.T) {
	models := map[string]*onnx.Model{}
	for i, c := range brokenCases {
		models[fmt.Sprint(i)] = c.model()
	}
	verdicts := judge(t, models)
	for i, c := range brokenCases {
		v := verdicts[fmt.Sprint(i)]
		if (v.Runtime == "") != (c.lets == "runtime") {
			t.Errorf("%s: ONNX Runtime says %q", c.name, v.Runtime)
		}
		if standard(models[fmt.Sprint(i)]) && (v.Onnx == "") != (c.lets == "onnx") {
			t.Errorf("%s: onnx says %q", c.name, v.Onnx)
		}
		if strings.Contains(v.Onnx, "is required but missing") {
			t.Errorf("%s: onnx stumbles over something else: %s", c.name, v.Onnx)
		}
	}
}

// standard reports whether a model has no contrib operators.
func standard(m *onnx.Model) bool {
	for _, n := range m.Graph.Nodes {
		if n.Domain == ms {
			return false
		}
	}
	return true
}

// decoderLayer is one layer as this module's planner writes it: fused
// operators over named dims, shapes taken from the inputs.
func decoderLayer(t *testing.T) *onnx.Model {
	t.Helper()
	g := onnx.NewGraph("decoder")
	in(g, "input_ids", onnx.I64, 1, "seq")
	in(g, "attention_mask", onnx.I64, 1, 8)
	in(g, "past_key_values.0.key", onnx.F32, 1, 2, "p", 16)
	in(g, "past_key_values.0.value", onnx.F32, 1, 2, "p", 16)
	zeros(g, "embed", onnx.F32, 10, 64)
	zeros(g, "norm", onnx.F32, 64)
	zeros(g, "cos", onnx.F32, 64, 8)
	zeros(g, "sin", onnx.F32, 64, 8)
	g.Node("", "ReduceSum", "/mask/sum", list("attention_mask", ints(g, "one", 1)), list("total64"), onnx.Int("keepdims", 0))
	g.Node("", "Sub", "/mask/minus", list("total64", "one"), list("last64"))
	g.Node("", "Cast", "/mask/seqlens", list("last64"), list("seqlens"), onnx.Int("to", int64(onnx.I32)))
	g.Node("", "Shape", "/mask/shape", list("attention_mask"), list("mask_dims"))
	g.Node("", "Gather", "/mask/total", list("mask_dims", scalar[int64](g, "at1", 1)), list("length64"))
	g.Node("", "Cast", "/mask/total32", list("length64"), list("total"), onnx.Int("to", int64(onnx.I32)))
	g.Node("", "Gather", "/embed", list("embed", "input_ids"), list("x0"))
	g.Node("", "SimplifiedLayerNormalization", "/norm", list("x0", "norm"), list("h"), onnx.Float("epsilon", 1e-5), onnx.Int("axis", -1), onnx.Int("stash_type", 1))
	nbits := func(name, x, y string, n, k int64) {
		blocks := (k + 31) / 32
		g.Node(ms, "MatMulNBits", name, list(x, zeros(g, name+".B", onnx.U8, n, blocks, 16), zeros(g, name+".scales", onnx.F32, n, blocks)), list(y),
			onnx.Int("N", n), onnx.Int("K", k), onnx.Int("bits", 4), onnx.Int("block_size", 32), onnx.Int("accuracy_level", 4))
	}
	nbits("/qkv", "h", "qkv", 128, 64)
	g.Node(ms, "GroupQueryAttention", "/attn", list("qkv", "", "", "past_key_values.0.key", "past_key_values.0.value", "seqlens", "total", "cos", "sin"),
		list("a", "present.0.key", "present.0.value"), onnx.Int("num_heads", 4), onnx.Int("kv_num_heads", 2), onnx.Int("do_rotary", 1))
	nbits("/o", "a", "o", 64, 64)
	g.Node(ms, "SkipSimplifiedLayerNormalization", "/norm2", list("x0", "o", "norm"), list("h2", "", "", "x1"), onnx.Float("epsilon", 1e-5))
	nbits("/gate_up", "h2", "gu", 64, 64)
	g.Node("", "Split", "/split", list("gu", ints(g, "halves", 32, 32)), list("gate", "up"), onnx.Int("axis", -1))
	g.Node(ms, "QuickGelu", "/silu", list("gate"), list("act"), onnx.Float("alpha", 1))
	g.Node("", "Mul", "/glu", list("act", "up"), list("ffn"))
	nbits("/down", "ffn", "d", 64, 32)
	g.Node(ms, "SkipSimplifiedLayerNormalization", "/norm3", list("x1", "d", "norm"), list("h3"), onnx.Float("epsilon", 1e-5))
	g.Node("", "Slice", "/last", list("h3", ints(g, "minus1", -1), ints(g, "end", 1<<40), "one"), list("hl"))
	g.Node(ms, "FusedMatMul", "/head", list("hl", "embed"), list("logits"), onnx.Int("transB", 1))
	g.Output("logits", onnx.F32, dims(1, nil, 10)...)
	g.Output("present.0.key", onnx.F32, dims(1, 2, "total", 16)...)
	g.Output("present.0.value", onnx.F32, dims(1, 2, "total", 16)...)
	m := onnx.NewModel(g, onnx.Opset{Version: 21}, onnx.Opset{Domain: ms, Version: 1})
	if err := onnx.Check(m, onnx.CheckOptions{Complete: true}); err != nil {
		t.Fatal(err)
	}
	return m
}

// standardLayer is attention with rotary embedding, grouped heads and a
// growing cache in plain operators, shapes computed inside the graph.
func standardLayer(t *testing.T) *onnx.Model {
	t.Helper()
	g := onnx.NewGraph("standard")
	in(g, "x", onnx.F32, "batch", "seq", 64)
	in(g, "past", onnx.F32, "batch", 2, "p", 16)
	zeros(g, "norm", onnx.F32, 64)
	zeros(g, "wq", onnx.F32, 64, 64)
	zeros(g, "wk", onnx.F32, 64, 32)
	zeros(g, "cos", onnx.F32, 64, 16)
	last := ints(g, "last", -1)
	node := func(op, out string, inputs []string, attrs ...onnx.Attr) string {
		g.Node("", op, "/"+out, inputs, list(out), attrs...)
		return out
	}
	sq := node("Pow", "sq", list("x", scalar[float32](g, "two", 2)))
	mean := node("ReduceMean", "mean", list(sq, last))
	rms := node("Sqrt", "rms", list(node("Add", "eps", list(mean, scalar[float32](g, "epsilon", 1e-5)))))
	h := node("Mul", "h", list(node("Div", "n", list("x", rms)), "norm"))
	// [batch, seq, heads, 16] by an extent taken from the input itself.
	dims := node("Shape", "xdims", list("x"), onnx.Int("end", 2))
	qTo := node("Concat", "q_to", list(dims, ints(g, "q_heads", 4, 16)), onnx.Int("axis", 0))
	q := node("Reshape", "q4", list(node("MatMul", "q", list(h, "wq")), qTo))
	q = node("Transpose", "qh", list(q), onnx.Ints("perm", 0, 2, 1, 3))
	k := node("Reshape", "k4", list(node("MatMul", "k", list(h, "wk")), ints(g, "k_to", 0, -1, 2, 16)))
	k = node("Transpose", "kh", list(k), onnx.Ints("perm", 0, 2, 1, 3))
	half := func(out, x string, from, to int64) string {
		return node("Slice", out, list(x, ints(g, out+".from", from), ints(g, out+".to", to), last))
	}
	turned := node("Concat", "turned", list(node("Neg", "q2", list(half("qb", q, 8, 16))), half("qa", q, 0, 8)), onnx.Int("axis", -1))
	n := node("Gather", "n_seq", list(dims, scalar[int64](g, "one", 1)))
	pos := node("Range", "pos", list(scalar[int64](g, "zero", 0), n, "one"))
	cos := node("Gather", "cos_rows", list("cos", pos))
	q = node("Add", "q_rot", list(node("Mul", "q_cos", list(q, cos)), node("Mul", "q_sin", list(turned, cos))))
	present := node("Concat", "present", list("past", k), onnx.Int("axis", 2))
	// Each key head serves two query heads.
	spread := node("Expand", "spread", list(node("Unsqueeze", "k5", list(present, ints(g, "two_axis", 2))), ints(g, "groups", 1, 1, 2, 1, 1)))
	keys := node("Reshape", "keys", list(spread, ints(g, "keys_to", 0, 4, -1, 16)))
	scores := node("MatMul", "scores", list(q, node("Transpose", "kt", list(keys), onnx.Ints("perm", 0, 1, 3, 2))))
	node("Softmax", "y", list(scores), onnx.Int("axis", -1))
	m := onnx.NewModel(g, onnx.Opset{Version: 21})
	values := onnx.Infer(m)
	for name, want := range map[string]string{
		"q4": "[batch, seq, 4, 16]", "k4": "[batch, seq, 2, 16]", "turned": "[batch, 4, seq, 16]",
		"cos_rows": "[seq, 16]", "present": "[batch, 2, ?, 16]", "keys": "[batch, 4, ?, 16]", "y": "[batch, 4, seq, ?]",
	} {
		if got := values[name].Shape.String(); got != want {
			t.Errorf("standard decoder: %s has shape %s, want %s", name, got, want)
		}
	}
	g.Outputs = []onnx.Value{values["y"], values["present"]}
	if err := onnx.Check(m, onnx.CheckOptions{Complete: true}); err != nil {
		t.Fatal(err)
	}
	return m
}
