package onnx_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/format"
	"os"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

var update = flag.Bool("update", false, "rewrite operators_data.go from the schemas of the oracle's libraries")

// wanted lists the operators of the table. To add one: add it here, run
// `go test -run TestOperatorTable -update ./format/onnx`, and write its rule
// in the table of infer.go.
var wanted = map[string]string{
	"": `Abs Add And ArgMax Attention Cast Clip Concat Constant ConstantOfShape Cos CumSum
		DequantizeLinear Div DynamicQuantizeLinear Equal Erf Exp Expand Flatten Gather GatherElements Gelu Gemm
		Greater GreaterOrEqual Identity If LayerNormalization Less LessOrEqual Log MatMul MatMulInteger Max Min
		Mul Neg Not Or Pow QuantizeLinear RMSNormalization Range Reciprocal ReduceMax ReduceMean ReduceMin
		ReduceSum Relu Reshape RotaryEmbedding ScatterND Shape Sigmoid SimplifiedLayerNormalization Sin Slice
		Softmax Split Sqrt Squeeze Sub Tanh TensorScatter Tile TopK Transpose Trilu Unsqueeze Where`,
	"com.microsoft": `BiasGelu DynamicQuantizeMatMul FastGelu FusedMatMul GatherBlockQuantized
		GroupQueryAttention MatMulIntegerToFloat MatMulNBits MultiHeadAttention QMoE QuickGelu
		RotaryEmbedding SkipLayerNormalization SkipSimplifiedLayerNormalization`,
}

// schemaScript prints the schemas in force at operator sets 21 to 25 as JSON.
const schemaScript = `
import json, sys
import onnx, onnx.defs
import onnxruntime.capi._pybind_state as ort
wanted, lo, hi = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
enum = lambda e: str(e).split('.')[-1].split(':')[0].lower()
def types(allowed):
    return sorted(t[7:-1] for t in allowed if t.startswith('tensor('))
def formals(fs, ts, homogeneous):
    return [{'Name': f.name, 'Type': ts(f), 'Optional': enum(f.option) == 'optional',
             'Variadic': enum(f.option) == 'variadic', 'Mixed': enum(f.option) == 'variadic' and not homogeneous(f)} for f in fs]
def schema(s, ts, homogeneous):
    vs = {c.type_param_str: types(c.allowed_type_strs) for c in s.type_constraints}
    for f in list(s.inputs) + list(s.outputs):
        vs.setdefault(ts(f), types([ts(f)]))
    used = [ts(f) for f in list(s.inputs) + list(s.outputs)]
    return {'Domain': '' if s.domain == 'ai.onnx' else s.domain, 'Name': s.name, 'Since': s.since_version,
        'MinInputs': s.min_input, 'MinOutputs': s.min_output,
        'Inputs': formals(s.inputs, ts, homogeneous), 'Outputs': formals(s.outputs, ts, homogeneous),
        'Attrs': [{'Name': k, 'Type': enum(a.type), 'Required': a.required} for k, a in sorted(s.attributes.items())],
        'Types': [{'Name': k, 'Set': v} for k, v in sorted(vs.items()) if k in used]}
out = {}
for s in onnx.defs.get_all_schemas_with_history():
    if s.domain == '' and s.name in wanted['']:
        force = [v for v in range(lo, hi + 1) if onnx.defs.has(s.name, v, '') and onnx.defs.get_schema(s.name, v, '').since_version == s.since_version]
        if force:
            out['', s.name, s.since_version] = schema(s, lambda f: f.type_str, lambda f: f.is_homogeneous)
for s in ort.get_all_operator_schema():
    dom = '' if s.domain == 'ai.onnx' else s.domain
    if s.name in wanted.get(dom, []) and (dom or s.name == 'SimplifiedLayerNormalization'):
        out[dom, s.name, s.since_version] = schema(s, lambda f: f.typeStr, lambda f: f.isHomogeneous)
json.dump([out[k] for k in sorted(out)], sys.stdout)
`

// TestOperatorTable compares the table with the schemas of the real libraries:
// names, versions, arity, attributes and types must be the same.
func TestOperatorTable(t *testing.T) {
	names := map[string][]string{}
	for domain, text := range wanted {
		names[domain] = strings.Fields(text)
	}
	arg, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	dump := oracle.Run(t, schemaScript, nil, string(arg), fmt.Sprint(onnx.MinOpset), fmt.Sprint(onnx.MaxOpset))
	var ops []schemaDump
	if err := json.Unmarshal(dump, &ops); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, o := range ops {
		found[o.Domain+"/"+o.Name] = true
	}
	for domain, list := range names {
		for _, name := range list {
			if !found[domain+"/"+name] {
				t.Errorf("the libraries have no operator %q in domain %q", name, domain)
			}
		}
	}
	want := operatorSource(t, ops)
	const file = "operators_data.go"
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
		t.Errorf("%s differs from the schemas of the oracle's onnx and onnxruntime; look at what changed after `go test -run TestOperatorTable -update .`", file)
	}
}

// schemaDump is one schema as the script prints it.
type schemaDump struct {
	Domain, Name          string
	Since                 int64
	MinInputs, MinOutputs int
	Inputs, Outputs       []onnx.Formal
	Attrs                 []struct {
		Name, Type string
		Required   bool
	}
	Types []struct {
		Name string
		Set  []string
	}
}

// goTypes maps the type names of schemas to the constants of this package.
var goTypes = map[string]string{
	"float": "F32", "double": "F64", "float16": "F16", "bfloat16": "BF16", "bool": "Bool", "string": "Text",
	"int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64", "int4": "I4", "int2": "I2",
	"uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "uint4": "U4", "uint2": "U2",
	"complex64": "C64", "complex128": "C128", "float8e4m3fn": "F8E4M3FN", "float8e4m3fnuz": "F8E4M3FNUZ",
	"float8e5m2": "F8E5M2", "float8e5m2fnuz": "F8E5M2FNUZ", "float8e8m0": "F8E8M0", "float4e2m1": "F4E2M1",
	"float6e2m3": "F6E2M3", "float6e3m2": "F6E3M2",
}

var goAttrTypes = map[string]string{
	"float": "AttrFloat", "int": "AttrInt", "string": "AttrString", "tensor": "AttrTensor", "graph": "AttrGraph",
	"floats": "AttrFloats", "ints": "AttrInts", "strings": "AttrStrings",
}

// operatorSource prints the table as Go.
func operatorSource(t *testing.T, ops []schemaDump) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "// Code generated by go test -run TestOperatorTable -update; DO NOT EDIT.\n\npackage onnx\n\n")
	fmt.Fprintf(&b, "// operators holds the schemas in force at operator sets %d to %d, of onnx 1.23.2\n// and onnxruntime 1.32.0, sorted by domain, name and version.\nvar operators = []Operator{\n", onnx.MinOpset, onnx.MaxOpset)
	formals := func(label string, fs []onnx.Formal) {
		if len(fs) == 0 {
			return
		}
		fmt.Fprintf(&b, "%s: []Formal{\n", label)
		for _, f := range fs {
			fmt.Fprintf(&b, "{Name: %q, Type: %q", f.Name, f.Type)
			for _, flag := range []struct {
				name string
				set  bool
			}{{"Optional", f.Optional}, {"Variadic", f.Variadic}, {"Mixed", f.Mixed}} {
				if flag.set {
					fmt.Fprintf(&b, ", %s: true", flag.name)
				}
			}
			b.WriteString("},\n")
		}
		b.WriteString("},\n")
	}
	for _, o := range ops {
		fmt.Fprintf(&b, "{\nDomain: %q, Name: %q, Since: %d, MinInputs: %d, MinOutputs: %d,\n", o.Domain, o.Name, o.Since, o.MinInputs, o.MinOutputs)
		formals("Inputs", o.Inputs)
		formals("Outputs", o.Outputs)
		if len(o.Attrs) > 0 {
			b.WriteString("Attrs: []AttrRule{\n")
			for _, a := range o.Attrs {
				if a.Type == "sparse_tensor" {
					continue // an Attr cannot hold one
				}
				goType, ok := goAttrTypes[a.Type]
				if !ok {
					t.Fatalf("%s: attribute %s has unknown type %s", o.Name, a.Name, a.Type)
				}
				fmt.Fprintf(&b, "{Name: %q, Type: %s", a.Name, goType)
				if a.Required {
					b.WriteString(", Required: true")
				}
				b.WriteString("},\n")
			}
			b.WriteString("},\n")
		}
		b.WriteString("Types: []TypeVar{\n")
		for _, v := range o.Types {
			var members []string
			for _, name := range v.Set {
				goType, ok := goTypes[name]
				if !ok {
					t.Fatalf("%s: type variable %s has unknown type %s", o.Name, v.Name, name)
				}
				members = append(members, "1<<"+goType)
			}
			if len(members) == 0 {
				members = []string{"0"}
			}
			fmt.Fprintf(&b, "{%q, %s},\n", v.Name, strings.Join(members, "|"))
		}
		b.WriteString("},\n},\n")
	}
	b.WriteString("}\n")
	src, err := format.Source(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return src
}
