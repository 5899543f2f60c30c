package toonnx

import (
	"fmt"
	"maps"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// masked is added to the scores of positions that may not be seen: far below
// any score, yet far from the end of float16 when added to one.
const masked = -10000

// standard builds the decoder from ai.onnx operators alone, decomposed into
// what TensorRT 10 and older runtimes know. The cache grows by Concat.
//
// With float16 activations the residual stream and the squares of the norms
// stay float32: SmolLM2's residuals reach 24,223, whose square is infinite in
// float16. The CPU provider computes float16 nodes in float32 and would hide
// that; other providers do not.
//
// In the qdq dialect matrices lie behind DequantizeLinear, those of equal form
// that share an input are one multiplication, and newer operators stand for
// their parts where the recipe names them.
func (b *builder) standard() {
	s := b.spec
	batch, seq := onnx.Named("batch_size"), onnx.Named("sequence_length")
	ids := b.g.Input("input_ids", onnx.I64, batch, seq)
	mask := b.g.Input("attention_mask", onnx.I64, batch, onnx.Named("total_sequence_length"))
	d := &standardDecoder{builder: b, positions: b.g.Input("position_ids", onnx.I64, batch, seq)}
	b.cacheInputs()
	d.constants()
	d.rotaryRows()
	d.attentionMask(ids, mask)

	embed := b.matrix("model.embed_tokens.weight", b.weight(arch.TokenEmbd, -1))
	hidden := d.scaledEmbedding(d.widen("/model/embed_tokens", b.gather("/model/embed_tokens/Gather", ids, embed)))
	for l := range s.Layers {
		hidden = d.layer(l, hidden)
	}
	normed := d.norm("/model/norm", hidden, arch.FinalNorm, -1)
	logits := d.widen("/lm_head", b.linear("/lm_head/MatMul", normed, b.headMatrix(embed), ""))
	logits = d.softcapped("/lm_head", logits, s.LogitSoftcap, d.number32)
	b.rename(logits, "logits")
	b.g.Output("logits", onnx.F32, batch, b.logitsLength(), onnx.Fixed(int64(s.Vocab)))
	b.cacheOutputs()
}

// standardDecoder holds what every layer of a standard graph refers to.
type standardDecoder struct {
	*builder
	positions string            // rows of the rotary tables
	rows      map[string]rotary // [batch, 1, sequence, rotary/2]
	tables    map[string]rotary // of all positions, for RotaryEmbedding
	// Masks are [batch, 1, sequence, total], 0 or masked. windows are those of
	// layers that slide, by the window.
	mask    string
	windows map[int]string

	eps, lastAxis, scale, lastIndex string
}

func (d *standardDecoder) constants() {
	d.eps = onnx.Const(d.g, "norm.epsilon", []int64{}, d.spec.NormEps)
	d.lastAxis = onnx.Const(d.g, "last_axis", nil, int64(-1))
	d.scale = d.number("attention.scale", float32(d.spec.AttnScale()))
}

// rotaryRows looks up the table rows of this run's positions.
func (d *standardDecoder) rotaryRows() {
	tables := d.rotaryTablesByKind()
	d.positions = d.rotaryPositions(d.positions)
	if d.rec.Uses("RotaryEmbedding") {
		d.tables = tables
		return
	}
	axis := onnx.Const(d.g, "rotary.head_axis", nil, int64(1))
	row := func(name, table string) string {
		x := d.node("Gather", name+"/Gather", []string{table, d.positions}, onnx.Int("axis", 0))
		return d.node("Unsqueeze", name+"/Unsqueeze", []string{x, axis})
	}
	d.rows = map[string]rotary{}
	for _, kind := range slices.Sorted(maps.Keys(tables)) {
		at, t := "/model/"+kind, tables[kind]
		d.rows[kind] = rotary{row(at+"/cos_rows", t.cos), row(at+"/sin_rows", t.sin)}
	}
}

// attentionMask makes the additive mask: a query in cache slot i sees the
// slots up to i whose attention_mask is not 0, those of sliding layers only as
// far back as the window.
func (d *standardDecoder) attentionMask(ids, mask string) {
	const at = "/model/mask"
	zero := onnx.Const(d.g, "mask.zero", []int64{}, int64(0))
	one := onnx.Const(d.g, "mask.one", []int64{}, int64(1))
	rows := onnx.Const(d.g, "mask.rows", nil, int64(1))
	cols := onnx.Const(d.g, "mask.columns", nil, int64(0))
	heads := onnx.Const(d.g, "mask.heads", nil, int64(1), int64(2))
	total := d.node("Gather", at+"/total/Gather", []string{d.node("Shape", at+"/total/Shape", []string{mask}), one}, onnx.Int("axis", 0))
	length := d.node("Gather", at+"/length/Gather", []string{d.node("Shape", at+"/length/Shape", []string{ids}), one}, onnx.Int("axis", 0))
	past := d.node("Sub", at+"/past/Sub", []string{total, length})
	query := d.node("Unsqueeze", at+"/query/Unsqueeze", []string{d.node("Range", at+"/query/Range", []string{past, total, one}), rows})
	keys := d.node("Unsqueeze", at+"/key/Unsqueeze", []string{d.node("Range", at+"/key/Range", []string{zero, total, one}), cols})
	causal := d.node("LessOrEqual", at+"/causal/LessOrEqual", []string{keys, query})
	real := d.node("Cast", at+"/real/Cast", []string{mask}, onnx.Int("to", int64(onnx.Bool)))
	real = d.node("Unsqueeze", at+"/real/Unsqueeze", []string{real, heads})
	seen := d.node("And", at+"/And", []string{causal, real})
	shown, hidden := d.number("mask.seen", 0), d.number("mask.hidden", masked)
	d.mask = d.node("Where", at+"/Where", []string{seen, shown, hidden})
	d.windows = map[int]string{}
	for l := range d.spec.Layers {
		w := d.window(l, d.opts.MaxContext)
		if w == 0 || d.windows[w] != "" {
			continue
		}
		at := at + "/window"
		first := d.node("Sub", at+"/Sub", []string{query, onnx.Const(d.g, "mask.window", []int64{}, int64(w-1))})
		near := d.node("LessOrEqual", at+"/LessOrEqual", []string{first, keys})
		d.windows[w] = d.node("Where", at+"/Where", []string{d.node("And", at+"/And", []string{seen, near}), shown, hidden})
	}
}

// maskOf is the mask of layer l.
func (d *standardDecoder) maskOf(l int) string {
	if w := d.window(l, d.opts.MaxContext); w > 0 {
		return d.windows[w]
	}
	return d.mask
}

// layer appends one decoder layer; hidden is the float32 residual stream.
func (d *standardDecoder) layer(l int, hidden string) string {
	at := fmt.Sprintf("/model/layers.%d", l)
	attn := d.attention(l, at+"/attn", d.norm(at+"/input_layernorm", hidden, arch.AttnNorm, l))
	if l == d.spec.Layers-1 && !d.opts.AllLogits {
		attn = d.lastPosition("attn", attn)
		hidden = d.lastPosition("residual", hidden)
	}
	o := d.matrix(d.weight(arch.AttnO, l).Name, d.weight(arch.AttnO, l))
	bias := ""
	if d.spec.OBias {
		bias = d.vector(arch.AttnOBias, l, true)
	}
	out := d.widen(at+"/attn/o_proj", d.linear(at+"/attn/o_proj/MatMul", attn, o, bias))
	out = d.postNorm(at+"/attn/post_norm", out, arch.PostAttnNorm, l)
	hidden = d.node("Add", at+"/attn/residual/Add", []string{hidden, out})
	normed := d.norm(at+"/post_attention_layernorm", hidden, arch.FFNNorm, l)
	out = d.postNorm(at+"/mlp/post_norm", d.mlp(l, at+"/mlp", normed), arch.PostFFNNorm, l)
	return d.node("Add", at+"/mlp/residual/Add", []string{hidden, out})
}

func (d *standardDecoder) lastPosition(name, x string) string {
	if d.lastIndex == "" {
		d.lastIndex = onnx.Const(d.g, "last_position.index", nil, int64(-1))
	}
	return d.node("Gather", LastPosition+"/"+name+"/Gather", []string{x, d.lastIndex}, onnx.Int("axis", 1))
}

// norm appends RMSNorm of float32 x over its last dimension, as transformers
// computes it: x/√(mean(x²)+ε) in float32, then narrowed, then times gamma.
func (d *standardDecoder) norm(at, x string, role arch.Role, l int) string {
	if d.rec.Uses("RMSNormalization") {
		y := d.node("RMSNormalization", at+"/RMSNormalization", []string{x, d.vector(role, l, false)},
			onnx.Int("axis", -1), onnx.Float("epsilon", d.spec.NormEps), onnx.Int("stash_type", 1))
		return d.narrow(at, y)
	}
	normed := d.narrow(at, d.normed(at, x))
	return d.node("Mul", at+"/Mul", []string{normed, d.vector(role, l, true)})
}

// normed appends x/√(mean(x²)+ε) of float32.
func (d *standardDecoder) normed(at, x string) string {
	square := d.node("Mul", at+"/square/Mul", []string{x, x})
	mean := d.node("ReduceMean", at+"/ReduceMean", []string{square, d.lastAxis}, onnx.Int("keepdims", 1))
	root := d.node("Sqrt", at+"/Sqrt", []string{d.node("Add", at+"/Add", []string{mean, d.eps})})
	return d.node("Div", at+"/Div", []string{x, root})
}

// postNorm norms what is to be added to the residual stream, in float32, where
// the model does.
func (d *standardDecoder) postNorm(at, x string, role arch.Role, l int) string {
	switch {
	case !d.spec.PostNorms:
		return x
	case d.rec.Uses("RMSNormalization"):
		return d.node("RMSNormalization", at+"/RMSNormalization", []string{x, d.vector(role, l, false)},
			onnx.Int("axis", -1), onnx.Float("epsilon", d.spec.NormEps), onnx.Int("stash_type", 1))
	}
	return d.node("Mul", at+"/Mul", []string{d.normed(at, x), d.vector(role, l, false)})
}

// attention appends the projections, rotary embedding, cache update and
// grouped-query attention.
func (d *standardDecoder) attention(l int, at, x string) string {
	s := d.spec
	q, k, v := d.projections(l, at, x)
	q = d.heads(l, at+"/q", q, s.Heads, arch.QNorm)
	k = d.heads(l, at+"/k", k, s.KVHeads, arch.KNorm)
	v = d.heads(l, at+"/v", v, s.KVHeads, 0)
	q, k = d.rotate(at+"/q/rotary", l, q), d.rotate(at+"/k/rotary", l, k)
	flat := func(x string) string {
		x = d.node("Transpose", at+"/Transpose", []string{x}, onnx.Ints("perm", 0, 2, 1, 3))
		return d.reshape(at, "flat", x, 0, 0, int64(s.Heads*s.HeadDim))
	}
	// The operator's soft cap comes before the mask in some releases, behind it
	// in others.
	if d.rec.Uses("Attention") && s.AttnSoftcap == 0 {
		out := at + "/Attention/output_0"
		d.g.Node(onnx.DomainONNX, "Attention", at+"/Attention", []string{q, k, v, d.maskOf(l), pastName(l, "key"), pastName(l, "value")},
			[]string{out, presentName(l, "key"), presentName(l, "value")},
			onnx.Float("scale", float32(s.AttnScale())))
		return flat(out)
	}
	q = d.node("Mul", at+"/q/scale/Mul", []string{q, d.scale})
	d.g.Node(onnx.DomainONNX, "Concat", at+"/k/cache/Concat", []string{pastName(l, "key"), k}, []string{presentName(l, "key")}, onnx.Int("axis", 2))
	d.g.Node(onnx.DomainONNX, "Concat", at+"/v/cache/Concat", []string{pastName(l, "value"), v}, []string{presentName(l, "value")}, onnx.Int("axis", 2))
	return flat(d.groupedAttention(l, at, q))
}

// groupedAttention attends from scaled queries [batch, heads, sequence,
// head_dim] to the layer's present keys and values. These are not repeated: the
// queries of a group are stacked, [batch, kv_heads, group·sequence, head_dim].
func (d *standardDecoder) groupedAttention(l int, at, q string) string {
	kv, h, dim := int64(d.spec.KVHeads), int64(d.spec.Heads), int64(d.spec.HeadDim)
	grouped := d.reshape(at, "q_grouped", q, 0, kv, -1, dim)
	keys := d.node("Transpose", at+"/keys/Transpose", []string{presentName(l, "key")}, onnx.Ints("perm", 0, 1, 3, 2))
	scores := d.node("MatMul", at+"/scores/MatMul", []string{grouped, keys})
	scores = d.softcapped(at, d.reshape(at, "scores", scores, 0, h, -1, 0), d.spec.AttnSoftcap, d.number)
	scores = d.node("Add", at+"/mask/Add", []string{scores, d.maskOf(l)})
	probs := d.node("Softmax", at+"/Softmax", []string{scores}, onnx.Int("axis", -1))
	mixed := d.node("MatMul", at+"/values/MatMul", []string{d.reshape(at, "probs", probs, 0, kv, -1, 0), presentName(l, "value")})
	return d.reshape(at, "heads", mixed, 0, h, -1, dim)
}

// reshape appends a Reshape to a constant shape.
func (b *builder) reshape(at, name, x string, shape ...int64) string {
	return b.node("Reshape", at+"/"+name+"/Reshape", []string{x, onnx.Const(b.g, at+"/"+name+"/shape", nil, shape...)})
}

// projections appends the projections to q, k and v: one each in the standard
// dialect, which other tools read, else one for those of equal form.
func (d *standardDecoder) projections(l int, at, x string) (q, k, v string) {
	ws := []arch.Weight{d.weight(arch.AttnQ, l), d.weight(arch.AttnK, l), d.weight(arch.AttnV, l)}
	if d.rec.Dialect != "standard" {
		groups := d.group(ws)
		var parts []string
		for _, g := range groups {
			parts = append(parts, d.projection(l, at, x, g))
		}
		return d.apart(at, groups, parts)
	}
	var out [3]string
	for i, w := range ws {
		bias := ""
		if d.spec.QKVBias {
			bias = d.vector(biasOf[w.Role], l, true)
		}
		out[i] = d.linear(at+"/"+w.Role.String()+"_proj/MatMul", x, d.matrix(w.Name, w), bias)
	}
	return out[0], out[1], out[2]
}

// heads returns a projection as [batch, heads, sequence, head_dim], normed per
// head where the architecture does so.
func (d *standardDecoder) heads(l int, at, x string, heads int, norm arch.Role) string {
	x = d.node("Reshape", at+"/Reshape", []string{x, onnx.Const(d.g, at+"/shape", nil, 0, 0, int64(heads), int64(d.spec.HeadDim))})
	if d.spec.QKNorm && norm != 0 {
		x = d.norm(at+"_norm", d.widen(at+"_norm", x), norm, l)
	}
	return d.node("Transpose", at+"/Transpose", []string{x}, onnx.Ints("perm", 0, 2, 1, 3))
}

// rotate turns the pairs (i, i+rotary/2) of x by the angles of its positions.
func (d *standardDecoder) rotate(at string, l int, x string) string {
	if d.tables != nil {
		t := d.tables[d.rotaryKind(l)]
		attrs := []onnx.Attr{onnx.Int("interleaved", 0)}
		if d.spec.RotaryDim > 0 {
			attrs = append(attrs, onnx.Int("rotary_embedding_dim", int64(d.spec.RotaryDim)))
		}
		return d.node("RotaryEmbedding", at+"/RotaryEmbedding", []string{x, t.cos, t.sin, d.positions}, attrs...)
	}
	return d.rotated(at, x, d.rows[d.rotaryKind(l)])
}

// rotated turns x by angles that were looked up; elements behind the rotated
// ones stay.
func (b *builder) rotated(at, x string, t rotary) string {
	var parts []string
	if half, rest := int64(b.spec.Rotary()/2), int64(b.spec.HeadDim-b.spec.Rotary()); rest > 0 {
		parts = b.nodeN(onnx.DomainONNX, "Split", at+"/Split", []string{x, onnx.Const(b.g, at+"/parts", nil, half, half, rest)}, 3, onnx.Int("axis", -1))
	} else {
		parts = b.nodeN(onnx.DomainONNX, "Split", at+"/Split", []string{x}, 2, onnx.Int("axis", -1), onnx.Int("num_outputs", 2))
	}
	mul := func(name, x, y string) string { return b.node("Mul", at+"/"+name+"/Mul", []string{x, y}) }
	first := b.node("Sub", at+"/Sub", []string{mul("cos_1", parts[0], t.cos), mul("sin_2", parts[1], t.sin)})
	second := b.node("Add", at+"/Add", []string{mul("cos_2", parts[1], t.cos), mul("sin_1", parts[0], t.sin)})
	return b.node("Concat", at+"/Concat", append([]string{first, second}, parts[2:]...), onnx.Int("axis", -1))
}

// mlp appends down(act(gate(x))·up(x)) and returns it in float32.
func (d *standardDecoder) mlp(l int, at, x string) string {
	linear := func(name string, role arch.Role, x string) string {
		w := d.weight(role, l)
		return d.linear(at+"/"+name+"/MatMul", x, d.matrix(w.Name, w), "")
	}
	var gate, up string
	if d.rec.Dialect != "standard" {
		gate, up = d.gateUp(l, at, x)
	} else {
		gate, up = linear("gate_proj", arch.FFNGate, x), linear("up_proj", arch.FFNUp, x)
	}
	silu := d.activated(at, gate, func(gate string) string {
		return d.node("Mul", at+"/act/Mul", []string{gate, d.node("Sigmoid", at+"/act/Sigmoid", []string{gate})})
	})
	return d.down(at, silu, up, func(x string) string { return linear("down_proj", arch.FFNDown, x) })
}
