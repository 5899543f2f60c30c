package onnxruntime

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// testModel describes a seeded two-layer decoder without MLP, small enough to
// be read: its cache behaves as a real one's.
type testModel struct {
	fused   bool // GroupQueryAttention over a shared cache, else CumSum over a growing one
	last    bool // logits of the last position only
	half    bool // float16 logits and cache
	context int
}

const (
	testVocab, testHidden, testHeads, testKVHeads, testDim, testLayers = 97, 32, 4, 2, 16, 2
)

// graphBuilder adds nodes, numbering those without a name of their own.
type graphBuilder struct {
	*onnx.Graph
	rng  *rand.Rand
	data []byte // of external initializers
	n    int
}

func (g *graphBuilder) op(domain, op string, outputs int, attrs []onnx.Attr, inputs ...string) []string {
	g.n++
	out := make([]string, outputs)
	for i := range out {
		out[i] = fmt.Sprintf("%s_%d_%d", op, g.n, i)
	}
	g.Node(domain, op, fmt.Sprintf("/%s_%d", op, g.n), inputs, out, attrs...)
	return out
}

func (g *graphBuilder) std(op string, attrs []onnx.Attr, inputs ...string) string {
	return g.op("", op, 1, attrs, inputs...)[0]
}

// weight is a random float32 initializer in the data file.
func (g *graphBuilder) weight(name string, dims ...int64) string {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	at := int64(len(g.data))
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(g.rng.NormFloat64()) * 0.3
	}
	g.data = append(g.data, make([]byte, 4*n)...)
	tensor.EncodeF32(g.data[at:], values)
	return g.Initializer(onnx.Initializer{Name: name, Elem: onnx.F32, Dims: dims,
		External: &onnx.External{Location: modeldir.DataFile, Offset: at, Length: 4 * n}})
}

// write builds the model and its folder.
func (m testModel) write(t testing.TB) *modeldir.Folder {
	t.Helper()
	g := &graphBuilder{Graph: onnx.NewGraph("test"), rng: rand.New(rand.NewPCG(1, 1))}
	elem := onnx.F32
	if m.half {
		elem = onnx.F16
	}
	g.Input("input_ids", onnx.I64, onnx.Named("batch_size"), onnx.Named("sequence_length"))
	h := g.std("Gather", nil, g.weight("embed", testVocab, testHidden), "input_ids")
	if m.fused {
		h = m.fusedLayers(g, h, elem)
	} else {
		h = m.plainLayers(g, h, elem)
	}
	rows := onnx.Named("sequence_length")
	if m.last {
		rows = onnx.Fixed(1)
		g.Node("", "Gather", lastPositionPrefix+"/hidden/Gather", []string{h, onnx.Const(g.Graph, "minus_one", nil, int64(-1))},
			[]string{"last"}, onnx.Int("axis", 1))
		h = "last"
	}
	logits := g.std("MatMul", nil, h, g.weight("head", testHidden, testVocab))
	g.Node("", "Cast", "/out", []string{logits}, []string{"logits"}, onnx.Int("to", int64(elem)))
	g.Output("logits", elem, onnx.Named("batch_size"), rows, onnx.Fixed(testVocab))
	// In the order of real files: logits first.
	outs := g.Outputs
	g.Outputs = append([]onnx.Value{outs[len(outs)-1]}, outs[:len(outs)-1]...)

	model := onnx.NewModel(g.Graph, onnx.Opset{Version: 21}, onnx.Opset{Domain: onnx.DomainMicrosoft, Version: 1})
	b, err := model.Encode()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cfg := modeldir.GenAI{Model: modeldir.GenAIModel{Type: "llama", VocabSize: testVocab, ContextLength: m.context,
		Decoder: modeldir.GenAIDecoder{Filename: modeldir.ModelFile, HeadSize: testDim, Layers: testLayers, KVHeads: testKVHeads, Heads: testHeads}},
		Search: modeldir.GenAISearch{ShareBuffer: m.fused}}
	config, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{modeldir.ModelFile: b, modeldir.DataFile: g.data, modeldir.GenAIConfigFile: config} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	folder, err := modeldir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

func (m testModel) cachePorts(g *graphBuilder, layer int, elem onnx.ElemType) (pastK, pastV, presentK, presentV string) {
	past := []onnx.Dim{onnx.Named("batch_size"), onnx.Fixed(testKVHeads), onnx.Named("past_sequence_length"), onnx.Fixed(testDim)}
	total := []onnx.Dim{onnx.Named("batch_size"), onnx.Fixed(testKVHeads), onnx.Named("total_sequence_length"), onnx.Fixed(testDim)}
	return g.Input(fmt.Sprintf("past_key_values.%d.key", layer), elem, past...),
		g.Input(fmt.Sprintf("past_key_values.%d.value", layer), elem, past...),
		g.Output(fmt.Sprintf("present.%d.key", layer), elem, total...),
		g.Output(fmt.Sprintf("present.%d.value", layer), elem, total...)
}

func (m testModel) fusedLayers(g *graphBuilder, h string, elem onnx.ElemType) string {
	g.Input("attention_mask", onnx.I64, onnx.Named("batch_size"), onnx.Named("total_sequence_length"))
	one, axis := onnx.Const(g.Graph, "one", nil, int64(1)), onnx.Const(g.Graph, "axis1", nil, int64(1))
	sum := g.std("ReduceSum", []onnx.Attr{onnx.Int("keepdims", 0)}, "attention_mask", axis)
	seqlens := g.std("Cast", []onnx.Attr{onnx.Int("to", int64(onnx.I32))}, g.std("Sub", nil, sum, one))
	length := g.std("Gather", nil, g.std("Shape", nil, "attention_mask"), onnx.Const(g.Graph, "index1", []int64{}, int64(1)))
	total := g.std("Cast", []onnx.Attr{onnx.Int("to", int64(onnx.I32))}, length)

	rows := m.context
	cos, sin := make([]float32, rows*testDim/2), make([]float32, rows*testDim/2)
	for p := range rows {
		for i := range testDim / 2 {
			angle := float64(p) * math.Pow(10000, -2*float64(i)/testDim)
			cos[p*testDim/2+i], sin[p*testDim/2+i] = float32(math.Cos(angle)), float32(math.Sin(angle))
		}
	}
	dims := []int64{int64(rows), testDim / 2}
	cosName, sinName := onnx.Const(g.Graph, "cos_cache", dims, cos...), onnx.Const(g.Graph, "sin_cache", dims, sin...)
	cast := func(x string, to onnx.ElemType) string {
		return g.std("Cast", []onnx.Attr{onnx.Int("to", int64(to))}, x)
	}
	for l := range testLayers {
		pk, pv, nk, nv := m.cachePorts(g, l, elem)
		qkv := g.std("MatMul", nil, h, g.weight(fmt.Sprintf("qkv%d", l), testHidden, (testHeads+2*testKVHeads)*testDim))
		attn := fmt.Sprintf("attn%d", l)
		g.Node(onnx.DomainMicrosoft, "GroupQueryAttention", "/"+attn,
			[]string{cast(qkv, elem), "", "", pk, pv, seqlens, total, cast(cosName, elem), cast(sinName, elem)}, []string{attn, nk, nv},
			onnx.Int("num_heads", testHeads), onnx.Int("kv_num_heads", testKVHeads), onnx.Int("do_rotary", 1))
		o := g.std("MatMul", nil, cast(attn, onnx.F32), g.weight(fmt.Sprintf("o%d", l), testHeads*testDim, testHidden))
		h = g.std("Add", nil, h, o)
	}
	return h
}

// plainLayers mixes positions by a running mean: causal, and of standard
// operators alone. Positions enter by an embedding of position_ids.
func (m testModel) plainLayers(g *graphBuilder, h string, elem onnx.ElemType) string {
	g.Input("attention_mask", onnx.I64, onnx.Named("batch_size"), onnx.Named("total_sequence_length"))
	g.Input("position_ids", onnx.I64, onnx.Named("batch_size"), onnx.Named("sequence_length"))
	h = g.std("Add", nil, h, g.std("Gather", nil, g.weight("positions", int64(m.context), testHidden), "position_ids"))
	shape := onnx.Const(g.Graph, "split", nil, int64(0), int64(0), testKVHeads, testDim)
	merge := onnx.Const(g.Graph, "merge", nil, int64(0), int64(0), testKVHeads*testDim)
	perm := []onnx.Attr{onnx.Ints("perm", 0, 2, 1, 3)}
	axis2, end := onnx.Const(g.Graph, "axis2", []int64{}, int64(2)), onnx.Const(g.Graph, "end", nil, int64(math.MaxInt64))
	start := g.std("Neg", nil, g.std("Shape", []onnx.Attr{onnx.Int("start", 1), onnx.Int("end", 2)}, "input_ids"))
	counts := g.std("Unsqueeze", nil, g.std("Cast", []onnx.Attr{onnx.Int("to", int64(onnx.F32))}, g.std("Add", nil, "position_ids", onnx.Const(g.Graph, "one", nil, int64(1)))), onnx.Const(g.Graph, "axis_end", nil, int64(-1)))
	for l := range testLayers {
		pk, pv, nk, nv := m.cachePorts(g, l, elem)
		for i, p := range [][2]string{{pk, nk}, {pv, nv}} {
			x := g.std("MatMul", nil, h, g.weight(fmt.Sprintf("w%d.%d", l, i), testHidden, testKVHeads*testDim))
			x = g.std("Transpose", perm, g.std("Reshape", nil, x, shape))
			x = g.std("Cast", []onnx.Attr{onnx.Int("to", int64(elem))}, x)
			g.Node("", "Concat", "/concat"+p[1], []string{p[0], x}, []string{p[1]}, onnx.Int("axis", 2))
			sums := g.std("CumSum", nil, g.std("Cast", []onnx.Attr{onnx.Int("to", int64(onnx.F32))}, p[1]), axis2)
			own := g.std("Slice", nil, sums, start, end, onnx.Const(g.Graph, fmt.Sprintf("axes%d.%d", l, i), nil, int64(2)))
			y := g.std("Div", nil, g.std("Reshape", nil, g.std("Transpose", perm, own), merge), counts)
			h = g.std("Add", nil, h, g.std("MatMul", nil, y, g.weight(fmt.Sprintf("v%d.%d", l, i), testKVHeads*testDim, testHidden)))
		}
	}
	return h
}
