package toonnx

import (
	"cmp"
	"fmt"
	"reflect"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
	"github.com/llama-pajamas/llama-pajamas/convert/toonnx/passes"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Opset is the ai.onnx version stamped: blocked DequantizeLinear is there
// since 21, and ONNX Runtime has kernels for all of it since 1.20.
const Opset = 21

// OpsetOf is the ai.onnx version of a recipe's graphs.
func OpsetOf(rec *recipe.Recipe) int64 { return int64(cmp.Or(rec.Opset, Opset)) }

// MinORTVersion is the oldest ONNX Runtime with every operator and type used:
// 8-bit GatherBlockQuantized.
const MinORTVersion = "1.23.0"

// LayerOutputKey is the metadata property that names the values a layer hands
// to the next, with %d for the layer's number, separated by commas. Whoever
// cuts a model into layers cuts there; the values are float32 [batch,
// sequence, hidden].
const LayerOutputKey = "layer_output"

// layerOutput is the value of [LayerOutputKey].
func (b *builder) layerOutput() string {
	switch {
	case b.rec.Dialect != "fused":
		return "/model/layers.%d/mlp/residual/Add/output_0"
	case b.spec.PostNorms:
		return "/model/layers.%d/mlp/post_norm/LayerNorm/output_0,/model/layers.%d/post_attention_layernorm/SkipLayerNorm/output_3"
	case b.act == onnx.F16:
		return "/model/layers.%d/mlp/down_proj/scale/Mul/output_0,/model/layers.%d/post_attention_layernorm/SkipLayerNorm/output_3"
	}
	return "/model/layers.%d/mlp/down_proj/MatMul/output_0,/model/layers.%d/post_attention_layernorm/SkipLayerNorm/output_3"
}

// Options shape the graph beyond spec and recipe.
type Options struct {
	// AllLogits keeps the logits of every position, [batch, sequence, vocab];
	// by default only the last position's are computed, [batch, 1, vocab].
	AllLogits bool
	// MaxContext caps the rotary table; 0 means the model's own maximum.
	MaxContext int
	// Stored, where not nil, says in which 16-bit type a float32 matrix can be
	// stored exactly, because the checkpoint has it so; anything else is
	// ignored. The graph widens it.
	Stored func(w arch.Weight) tensor.DType
	// Producer and ProducerVersion are stamped into the model.
	Producer, ProducerVersion string
}

// Artifact is one planned ONNX model: its graph, and the matrices and vectors
// that fill its data file.
type Artifact struct {
	Model *onnx.Model
	// Prefill is a second graph over the same data that evaluates many tokens
	// at once, where Model takes one; nil where Model serves both.
	Prefill *onnx.Model
	Data    plan.DataFile
	Pieces  []Piece
}

// Piece says where one checkpoint weight goes.
type Piece struct {
	Weight arch.Weight
	Output plan.Output // Artifact is set by whoever assembles the plan
}

// Build plans one artifact.
func Build(spec *arch.Spec, rec *recipe.Recipe, o Options) (*Artifact, error) {
	if spec.Experts > 0 {
		return nil, &tensor.UnsupportedError{What: fmt.Sprintf("mixture of experts (%s) in ONNX", spec.Architecture), Hint: "GGUF and MLX are written"}
	}
	o.MaxContext = MaxContext(spec, rec, o.MaxContext)
	if rec.Dialect != "static" {
		art, err := build(spec, rec, o, 0)
		if err != nil || !rec.FixedDecode {
			return art, err
		}
		return fixedDecode(art, rec, o)
	}
	art, err := build(spec, rec, o, 1)
	if err != nil {
		return nil, err
	}
	prefill, err := build(spec, rec, o, PrefillTokens(rec))
	if err != nil {
		return nil, err
	}
	if prefill.Data.Size != art.Data.Size || !reflect.DeepEqual(prefill.Pieces, art.Pieces) {
		return nil, fmt.Errorf("plan %s/%s: the two graphs lay their data out differently", rec.Target, rec.Name)
	}
	art.Prefill = prefill.Model
	return art, nil
}

// Context is the length of the caches that a recipe's fixed graphs are made for.
func Context(rec *recipe.Recipe, o Options) int {
	return min(o.MaxContext, cmp.Or(rec.Context, staticContext))
}

// PrefillTokens is the number of tokens that a static prefill graph takes.
func PrefillTokens(rec *recipe.Recipe) int { return cmp.Or(rec.Prefill, staticPrefill) }

// fixedDecode adds a copy of the graph for one token over a full-length cache,
// which takes the first place. With its shapes fixed nothing is left that would
// be computed on the host, so that it can be recorded once and replayed: the
// mask has the cache's length, and says how much of it is used.
func fixedDecode(art *Artifact, rec *recipe.Recipe, o Options) (*Artifact, error) {
	decode := *art.Model
	decode.Graph = art.Model.Graph.Clone()
	n := int64(Context(rec, o))
	dims := map[string]int64{"batch_size": 1, "sequence_length": 1, "total_sequence_length": n, "past_sequence_length": n}
	if err := passes.FixDims(&decode, dims); err != nil {
		return nil, fmt.Errorf("plan %s/%s: %w", rec.Target, rec.Name, err)
	}
	passes.FoldShapes(&decode)
	art.Prefill, art.Model = art.Model, &decode
	return art, nil
}

// build plans one graph; tokens is the fixed number of a static one.
func build(spec *arch.Spec, rec *recipe.Recipe, o Options, tokens int) (*Artifact, error) {
	b := &builder{
		spec: spec, rec: rec, opts: o,
		g:      onnx.NewGraph("decoder"),
		layout: onnx.Layout{Location: modeldir.DataFile, Align: 64, BigAlign: 4096, BigBytes: 16 << 10},
		byRole: map[key]arch.Weight{},
		act:    onnx.F32,
	}
	for _, w := range spec.Weights() {
		b.byRole[key{w.Role, w.Layer}] = w
	}
	if rec.Activations == "float16" {
		b.act = onnx.F16
	}
	b.cache = b.act
	if rec.KVCache == "int8" {
		b.cache = onnx.I8
	}
	switch rec.Dialect {
	case "fused":
		b.fused()
	case "standard", "qdq":
		b.standard()
	case "static":
		b.static(tokens)
	default:
		return nil, fmt.Errorf("recipe %s: unknown dialect %q", rec.Name, rec.Dialect)
	}
	if b.err != nil {
		return nil, fmt.Errorf("plan %s/%s: %w", rec.Target, rec.Name, b.err)
	}
	m := onnx.NewModel(b.g, onnx.Opset{Domain: onnx.DomainONNX, Version: OpsetOf(rec)})
	if rec.Dialect == "fused" {
		m.Opsets = append(m.Opsets, onnx.Opset{Domain: onnx.DomainMicrosoft, Version: 1})
	}
	m.Producer, m.ProducerVersion = o.Producer, o.ProducerVersion
	m.SetMeta("architecture", spec.Architecture)
	m.SetMeta("recipe", rec.Name)
	m.SetMeta(LayerOutputKey, b.layerOutput())
	return &Artifact{
		Model:  m,
		Data:   plan.DataFile{Name: modeldir.DataFile, Size: b.layout.Size(), Consts: b.consts, CacheScales: b.steps, ActScales: b.actSteps},
		Pieces: b.pieces,
	}, nil
}

type key struct {
	role  arch.Role
	layer int
}

// builder holds the graph under construction; err keeps the first failure.
type builder struct {
	spec   *arch.Spec
	rec    *recipe.Recipe
	opts   Options
	g      *onnx.Graph
	layout onnx.Layout
	byRole map[key]arch.Weight
	pieces []Piece
	consts []plan.Const
	steps  []plan.CacheScale
	act    onnx.ElemType // of activations
	cache  onnx.ElemType // of keys and values
	// What graphs with int8 activations share: quantized inputs by name, their
	// steps, the zero point.
	quantized map[string]string
	actSteps  []plan.ActScale
	zeroPoint string
	// sums are the block sums of inputs, by input and block length.
	sums map[string]string
	// smaller and larger are the constants of [builder.down].
	smaller, larger string
	err             error
}

// weight finds the weight of a role, which the spec says is there.
func (b *builder) weight(role arch.Role, layer int) arch.Weight {
	w, ok := b.byRole[key{role, layer}]
	if !ok && b.err == nil {
		b.err = fmt.Errorf("architecture %s has no weight of role %v in layer %d", b.spec.Architecture, role, layer)
	}
	return w
}

// node appends an ai.onnx node with one output, which it names and returns.
func (b *builder) node(op, name string, inputs []string, attrs ...onnx.Attr) string {
	return b.nodeN(onnx.DomainONNX, op, name, inputs, 1, attrs...)[0]
}

// contrib is node for com.microsoft operators.
func (b *builder) contrib(op, name string, inputs []string, attrs ...onnx.Attr) string {
	return b.nodeN(onnx.DomainMicrosoft, op, name, inputs, 1, attrs...)[0]
}

// nodeN appends a node with n outputs named NAME/output_0 and so on.
func (b *builder) nodeN(domain, op, name string, inputs []string, n int, attrs ...onnx.Attr) []string {
	outs := make([]string, n)
	for i := range outs {
		outs[i] = fmt.Sprintf("%s/output_%d", name, i)
	}
	b.g.Node(domain, op, name, inputs, outs, attrs...)
	return outs
}

// place reserves room in the data file.
func (b *builder) place(name string, bytes int64) onnx.External {
	e, err := b.layout.Place(name, bytes)
	if err != nil && b.err == nil {
		b.err = err
	}
	return e
}

// external declares an initializer over placed bytes.
func (b *builder) external(name string, elem onnx.ElemType, e onnx.External, dims ...int64) string {
	return b.g.Initializer(onnx.Initializer{Name: name, Elem: elem, Dims: dims, External: &e})
}

// vector declares a norm or bias as float32, or as the activation type when
// cast is set and activations are 16-bit.
func (b *builder) vector(role arch.Role, layer int, cast bool) string {
	w := b.weight(role, layer)
	n := w.Shape[0]
	form, elem := plan.Form{Float: tensor.F32}, onnx.F32
	if cast && b.act == onnx.F16 {
		form, elem = plan.Form{Float: tensor.F16}, onnx.F16
	}
	rowBytes, _, _ := form.RowBytes(n)
	e := b.place(w.Name, int64(rowBytes))
	b.pieces = append(b.pieces, Piece{w, plan.Output{Form: form, Data: plan.Region{Offset: e.Offset, RowBytes: rowBytes}}})
	return b.external(w.Name, elem, e, int64(n))
}

// packedVector declares several vectors, one behind the other, in the
// activation type.
func (b *builder) packedVector(name string, ws []arch.Weight) string {
	total := 0
	for _, w := range ws {
		total += w.Shape[0]
	}
	form, elem := plan.Form{Float: tensor.F32}, onnx.F32
	if b.act == onnx.F16 {
		form, elem = plan.Form{Float: tensor.F16}, onnx.F16
	}
	size := form.Float.Size()
	e := b.place(name, int64(total*size))
	at := e.Offset
	for _, w := range ws {
		rowBytes := w.Shape[0] * size
		b.pieces = append(b.pieces, Piece{w, plan.Output{Form: form, Data: plan.Region{Offset: at, RowBytes: rowBytes}}})
		at += int64(rowBytes)
	}
	return b.external(name, elem, e, int64(total))
}
