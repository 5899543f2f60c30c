package target_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/target"
)

// builderOf names the builder class that registers an operator, where it is not
// called like it: op_builder_factory.cc of the CoreML provider.
var builderOf = map[string]string{
	"Add": "Binary", "Sub": "Binary", "Mul": "Binary", "Div": "Binary", "Max": "Binary", "Pow": "Binary",
	"Sqrt": "Unary", "Reciprocal": "Unary", "Erf": "Unary", "Round": "Unary", "Exp": "Unary", "Sin": "Unary", "Cos": "Unary", "Ceil": "Unary",
	"Sigmoid": "Activation", "Tanh": "Activation", "Relu": "Activation", "LeakyRelu": "Activation", "PRelu": "Activation",
	"Softplus": "Activation", "Elu": "Activation", "HardSigmoid": "Activation", "Gelu": "Activation",
	"ReduceSum": "Reduction", "ReduceMean": "Reduction", "ReduceMax": "Reduction", "ReduceMin": "Reduction",
	"LayerNormalization": "Normalization", "MatMul": "Gemm", "Unsqueeze": "Squeeze", "And": "Logical",
}

// TestCoreMLBuilders wants a builder in ONNX Runtime 1.32.0 for macOS for every
// operator of the table (testdata/coreml.py).
func TestCoreMLBuilders(t *testing.T) {
	b, err := os.ReadFile("testdata/coreml-1.32.0.txt")
	if err != nil {
		t.Fatal(err)
	}
	builders := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 0 && f[0] != "#" {
			builders[f[0]] = true
		}
	}
	tg, err := target.Find("coreml")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, op := range tg.Operators() {
		name := op[strings.IndexByte(op, '/')+1:]
		builder := name
		if other, ok := builderOf[name]; ok {
			builder = other
		}
		if !builders[builder] {
			t.Errorf("%s: the library has no %sOpBuilder", op, builder)
		}
		n++
	}
	if n < 40 {
		t.Errorf("%d operators", n)
	}
	for _, absent := range []string{"Equal", "Expand", "Neg", "Not", "Mod", "Range"} {
		if builders[absent] {
			t.Errorf("the library has a builder for %s, the table lacks it", absent)
		}
	}
}

// TestCoreMLDocuments compares the table with the list of operators that comes
// with the pinned wheel.
func TestCoreMLDocuments(t *testing.T) {
	const script = `
import os, re, onnxruntime
path = os.path.join(os.path.dirname(onnxruntime.__file__), 'tools', 'mobile_helpers', 'coreml_supported_mlprogram_ops.md')
print('\n'.join(re.findall(r'^\|([a-z.]+:[A-Za-z]+)\|', open(path).read(), re.M)))
`
	// Convolutions and pictures are none of a decoder's business; the table is of
	// the operators format/onnx knows.
	listed := map[string]bool{}
	for _, line := range strings.Fields(string(oracle.Run(t, script, nil))) {
		domain, op, _ := strings.Cut(line, ":")
		if op == "Argmax" { // so spelled there
			op = "ArgMax"
		}
		listed[domain+"/"+op] = true
	}
	if len(listed) < 40 {
		t.Fatalf("%d operators listed", len(listed))
	}
	tg, err := target.Find("coreml")
	if err != nil {
		t.Fatal(err)
	}
	ours := tg.Operators()
	// Builders take these for MLProgram although the document does not say so:
	// read from the source and seen in the library.
	undocumented := []string{"ai.onnx/Gather", "ai.onnx/Flatten", "ai.onnx/ReduceMin"}
	for _, op := range ours {
		if !listed[op] && !slices.Contains(undocumented, op) {
			t.Errorf("%s is in the table but not in the document", op)
		}
		if listed[op] && slices.Contains(undocumented, op) {
			t.Errorf("%s is documented now", op)
		}
	}
	for op := range listed {
		domain, name, _ := strings.Cut(op, "/")
		if domain == "ai.onnx" {
			domain = ""
		}
		if onnx.FindOperator(domain, name, 21) != nil && !slices.Contains(ours, op) {
			t.Errorf("%s is documented but not in the table", op)
		}
	}
}

// TestCoreMLUsability runs ONNX Runtime's own checker of the pinned wheel over
// the block that the table takes whole: one partition.
func TestCoreMLUsability(t *testing.T) {
	const script = `
import base64, json, os, sys
import onnx
from onnxruntime.tools.mobile_helpers import usability_checker as u
here = os.path.dirname(u.__file__)
out = []
for text in json.load(sys.stdin):
    m = onnx.shape_inference.infer_shapes(onnx.load_from_string(base64.b64decode(text)))
    p = u.check_coreml_partitions(m, True, os.path.join(here, 'coreml_supported_mlprogram_ops.md'))
    out.append({'nodes': p.num_nodes, 'taken': p.num_supported_nodes, 'partitions': p.num_partitions,
                'unsupported': sorted(p.unsupported_ops), 'dynamic': p.nodes_unsupported_due_to_dynamic_input})
json.dump(out, sys.stdout)
`
	dynamic := block(onnx.F16)
	for i := range dynamic.Inputs {
		dynamic.Inputs[i].Shape[0] = onnx.Named("batch")
	}
	var texts []string
	for _, g := range []*graph{block(onnx.F16), dynamic} {
		m := g.model(21)
		m.IRVersion = 10
		b, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, base64.StdEncoding.EncodeToString(b))
	}
	stdin, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	var got []struct {
		Nodes, Taken, Partitions, Dynamic int
		Unsupported                       []string
	}
	if err := json.Unmarshal(oracle.Run(t, script, stdin), &got); err != nil {
		t.Fatal(err)
	}
	if g := got[0]; g.Nodes != g.Taken || g.Partitions != 1 || len(g.Unsupported) > 0 {
		t.Errorf("fixed block: %+v", g)
	}
	if g := got[1]; g.Dynamic == 0 || g.Taken == g.Nodes {
		t.Errorf("block of unknown batch: %+v", g)
	}
}
