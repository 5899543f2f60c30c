package toonnx

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

const (
	// staticContext and staticPrefill are what a recipe that says nothing gets:
	// positions of the cache, and tokens of the graph for prompts.
	staticContext = 2048
	staticPrefill = 64
	// residualScale multiplies the residual stream of a static graph. SmolLM2's
	// reaches 24,223; 1/16 of it keeps float16 far from its end, and a norm
	// does not care.
	residualScale = 1.0 / 16
	// leastMax stands in for the largest magnitude of a row that is all but
	// zero, so that nothing is divided by zero.
	leastMax = 0x1p-10
)

// static builds a decoder in which every shape is a number, from operators that
// CoreML's provider takes. tokens is how many it evaluates at once.
//
//	input_ids, position_ids  int64   [1, tokens]
//	attention_mask           float   [1, 1, tokens, context+tokens], added to the scores: 0 or -10000
//	past_key_values.N.key    float   [1, kv_heads, context, head_dim], rows not used yet masked
//	present.N.key            float   [1, kv_heads, tokens, head_dim], the new rows alone
//	logits                   float   [1, 1, vocab], of the last token
//
// The host keeps the cache: it copies the new rows behind the old ones. Where a
// prompt does not fill a run, padding comes first and is masked.
//
// Everything is of the activation type, float16 on the Neural Engine, but the
// look-ups, as Gather takes no float16 there. Old and new keys are scored
// apart, so that the cache is read in place and not copied.
func (b *builder) static(tokens int) {
	s := b.spec
	context := Context(b.rec, b.opts)
	d := &staticDecoder{builder: b, tokens: int64(tokens), context: int64(context), half: int64(s.Rotary() / 2)}
	ids := b.g.Input("input_ids", onnx.I64, onnx.Fixed(1), onnx.Fixed(d.tokens))
	d.mask = b.g.Input("attention_mask", b.act, onnx.Fixed(1), onnx.Fixed(1), onnx.Fixed(d.tokens), onnx.Fixed(d.context+d.tokens))
	positions := b.g.Input("position_ids", onnx.I64, onnx.Fixed(1), onnx.Fixed(d.tokens))
	for l := range s.Layers {
		for _, kv := range []string{"key", "value"} {
			b.g.Input(pastName(l, kv), b.act, onnx.Fixed(1), onnx.Fixed(int64(s.KVHeads)), onnx.Fixed(d.context), onnx.Fixed(int64(s.HeadDim)))
		}
	}
	d.constants()
	d.rotaryRows(positions)
	d.splitMask()
	d.windowMasks(positions)

	embed := b.matrix("model.embed_tokens.weight", b.weight(arch.TokenEmbd, -1))
	hidden := d.embed(ids, embed)
	for l := range s.Layers {
		hidden = d.layer(l, hidden)
	}
	normed := d.norm("/model/norm", hidden, arch.FinalNorm, -1, d.eps)
	logits := b.linear("/lm_head/MatMul", normed, b.headMatrix(embed), "")
	logits = b.softcapped("/lm_head", logits, s.LogitSoftcap, b.number)
	b.rename(logits, "logits")
	rows := int64(1)
	if b.opts.AllLogits {
		rows = d.tokens
	}
	b.g.Output("logits", b.act, onnx.Fixed(1), onnx.Fixed(rows), onnx.Fixed(int64(s.Vocab)))
	for l := range s.Layers {
		for _, kv := range []string{"key", "value"} {
			b.g.Output(presentName(l, kv), b.act, onnx.Fixed(1), onnx.Fixed(int64(s.KVHeads)), onnx.Fixed(d.tokens), onnx.Fixed(int64(s.HeadDim)))
		}
	}
}

// staticDecoder holds what every layer of a static graph refers to.
type staticDecoder struct {
	*builder
	tokens, context, half int64
	mask                  string
	full                  maskParts
	windows               map[int]maskParts // of sliding layers, by the window
	rows                  map[string]rotary // [1, 1, tokens, rotary/2]
	lastAxis              string
	least, minus          string
	eps, headEps          string // square roots of ε, of the residual stream and of heads
	shrink, scale         string
	halves, parts         string
	lastStart, lastEnd    string
	sequenceAxis          string
}

// maskParts are a mask's columns of the cache and of the new tokens.
type maskParts struct{ past, now string }

func (d *staticDecoder) constants() {
	root := math.Sqrt(float64(d.spec.NormEps))
	d.lastAxis = onnx.Const(d.g, "last_axis", nil, int64(-1))
	d.least = d.number("norm.least_max", leastMax)
	d.minus = d.number("norm.minus_one", -1)
	d.eps = d.number("norm.root_epsilon", float32(root*residualScale))
	if d.spec.QKNorm {
		d.headEps = d.number("head_norm.root_epsilon", float32(root))
	}
	d.shrink = d.number("residual.scale", residualScale)
	d.scale = d.number("attention.scale", float32(d.spec.AttnScale()))
	if rest := int64(d.spec.HeadDim) - 2*d.half; rest > 0 {
		d.halves = onnx.Const(d.g, "rotary.halves", nil, d.half, d.half, rest)
	} else {
		d.halves = onnx.Const(d.g, "rotary.halves", nil, d.half, d.half)
	}
	d.parts = onnx.Const(d.g, "cache.parts", nil, d.context, d.tokens)
}

// embed looks the tokens up in float32 and returns the residual stream. The
// table is widened to float32, which runtimes do once at load.
func (d *staticDecoder) embed(ids string, m *matrix) string {
	const at = "/model/embed_tokens"
	table := ""
	switch f := m.form; {
	case f.IsFloat():
		table = d.external(m.name+".rows", onnx.ElemOf(f.Float), m.data, int64(m.rows), int64(m.cols))
		if onnx.ElemOf(f.Float) != onnx.F32 {
			table = d.node("Cast", at+"/Cast", []string{table}, onnx.Int("to", int64(onnx.F32)))
		}
	case f.Bits == 8 && f.Block == 0:
		table = d.external(m.name+".rows", onnx.I8, m.data, int64(m.rows), int64(m.cols))
		scales := d.scales32(m.name+".row_scales", f, m.scaleAt, int64(m.rows))
		table = d.node("DequantizeLinear", at+"/DequantizeLinear", []string{table, scales, d.zeroPoints(at, m)}, onnx.Int("axis", 0))
	default:
		d.fail("%s: rows are looked up in floats or in 8 bits with one scale a row, not in %v", m.name, f)
	}
	x := d.node("Gather", at+"/Gather", []string{table, ids}, onnx.Int("axis", 0))
	scale := float32(residualScale)
	if d.spec.EmbedScale != 0 {
		scale *= d.spec.EmbedScale
	}
	x = d.node("Mul", at+"/scale/Mul", []string{x, onnx.Const(d.g, "embed.scale", []int64{}, scale)})
	return d.narrow(at, x)
}

// scales32 declares scales, one a row, as float32 whatever the activations are.
func (b *builder) scales32(name string, f plan.Form, e onnx.External, rows int64) string {
	act := b.act
	b.act = onnx.F32
	defer func() { b.act = act }()
	return b.scales(name, f, e, rows, 0)
}

// rotaryRows looks up the angles of this run's positions, in tables of the
// cache's length.
func (d *staticDecoder) rotaryRows(positions string) {
	axis := onnx.Const(d.g, "rotary.head_axis", nil, int64(1))
	kinds := d.rotaryKinds()
	d.rows = map[string]rotary{}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		look := func(name string, sin bool) string {
			table := d.rotaryTable(kind+"."+name, kinds[kind], int(d.context), 1, sin, d.context, d.half)
			at := "/model/" + kind + "/" + name
			x := d.node("Gather", at+"/Gather", []string{table, positions}, onnx.Int("axis", 0))
			return d.narrow(at, d.node("Unsqueeze", at+"/Unsqueeze", []string{x, axis}))
		}
		d.rows[kind] = rotary{look("cos", false), look("sin", true)}
	}
}

// splitMask cuts the mask into the columns of the cache and of the new tokens.
func (d *staticDecoder) splitMask() {
	parts := d.nodeN(onnx.DomainONNX, "Split", "/model/mask/Split", []string{d.mask, d.parts}, 2, onnx.Int("axis", -1))
	d.full = maskParts{parts[0], parts[1]}
}

// windowMasks adds to the mask what lies behind a sliding layer's window. Row i
// of the cache holds position i, so that what is to be added is
//
//	-10000·clip(position − key's position − (window − 1), 0, 1)
//
// in float32, without comparisons, which CoreML's provider does not take.
func (d *staticDecoder) windowMasks(positions string) {
	d.windows = map[int]maskParts{}
	query := ""
	for l := range d.spec.Layers {
		w := d.window(l, int(d.context))
		if _, ok := d.windows[w]; ok || w == 0 {
			continue
		}
		const at = "/model/mask/window"
		if query == "" {
			x := d.node("Cast", at+"/Cast", []string{positions}, onnx.Int("to", int64(onnx.F32)))
			query = d.reshape(at, "query", x, 1, 1, d.tokens, 1)
		}
		slots := make([]float32, d.context)
		for i := range slots {
			slots[i] = float32(i + w - 1)
		}
		zero, one := d.number32("mask.zero", 0), d.number32("mask.one", 1)
		hide := func(name, keys, mask string) string {
			behind := d.node("Sub", at+"/"+name+"/Sub", []string{query, keys})
			behind = d.node("Clip", at+"/"+name+"/Clip", []string{behind, zero, one})
			behind = d.narrow(at+"/"+name, d.node("Mul", at+"/"+name+"/Mul", []string{behind, d.number32("mask.hidden."+name, masked)}))
			return d.node("Add", at+"/"+name+"/Add", []string{mask, behind})
		}
		m := maskParts{now: d.full.now}
		m.past = hide("past", onnx.Const(d.g, "mask.slots", []int64{1, 1, 1, d.context}, slots...), d.full.past)
		if int64(w) < d.tokens {
			keys := d.node("Add", at+"/keys/Add", []string{d.reshape(at, "keys", query, 1, 1, 1, d.tokens), d.number32("mask.behind", float32(w-1))})
			m.now = hide("now", keys, d.full.now)
		}
		d.windows[w] = m
	}
}

// maskOf are the parts of layer l's mask.
func (d *staticDecoder) maskOf(l int) maskParts {
	if w := d.window(l, int(d.context)); w > 0 {
		return d.windows[w]
	}
	return d.full
}

// layer appends one decoder layer; hidden is the residual stream times
// [residualScale], [1, tokens, hidden].
func (d *staticDecoder) layer(l int, hidden string) string {
	at := fmt.Sprintf("/model/layers.%d", l)
	attn := d.attention(l, at+"/attn", d.norm(at+"/input_layernorm", hidden, arch.AttnNorm, l, d.eps))
	if l == d.spec.Layers-1 && !d.opts.AllLogits && d.tokens > 1 {
		attn = d.lastToken("attn", attn)
		hidden = d.lastToken("residual", hidden)
	}
	w := d.weight(arch.AttnO, l)
	attn = d.node("Mul", at+"/attn/shrink/Mul", []string{attn, d.shrink})
	out := d.linear(at+"/attn/o_proj/MatMul", attn, d.matrix(w.Name, w), "")
	if d.spec.OBias {
		bias := d.node("Mul", at+"/attn/bias/Mul", []string{d.vector(arch.AttnOBias, l, true), d.shrink})
		out = d.node("Add", at+"/attn/o_proj/Add", []string{out, bias})
	}
	out = d.postNorm(at+"/attn/post_norm", out, arch.PostAttnNorm, l)
	hidden = d.node("Add", at+"/attn/residual/Add", []string{hidden, out})
	normed := d.norm(at+"/post_attention_layernorm", hidden, arch.FFNNorm, l, d.eps)
	out = d.postNorm(at+"/mlp/post_norm", d.mlp(l, at+"/mlp", normed), arch.PostFFNNorm, l)
	return d.node("Add", at+"/mlp/residual/Add", []string{hidden, out})
}

// postNorm norms what is to be added to the residual stream, in its scale, where
// the model does.
func (d *staticDecoder) postNorm(at, x string, role arch.Role, l int) string {
	if !d.spec.PostNorms {
		return x
	}
	return d.node("Mul", at+"/shrink/Mul", []string{d.norm(at, x, role, l, d.eps), d.shrink})
}

// lastToken keeps the last of x [1, tokens, width].
func (d *staticDecoder) lastToken(name, x string) string {
	if d.lastStart == "" {
		d.lastStart = onnx.Const(d.g, "last_position.start", nil, d.tokens-1)
		d.lastEnd = onnx.Const(d.g, "last_position.end", nil, d.tokens)
		d.sequenceAxis = onnx.Const(d.g, "last_position.axis", nil, int64(1))
	}
	return d.node("Slice", LastPosition+"/"+name+"/Slice", []string{x, d.lastStart, d.lastEnd, d.sequenceAxis})
}

// norm appends RMSNorm over the last dimension in float16 without overflow:
// with m the largest magnitude of the row and u = x/m,
//
//	x/√(mean(x²)+ε) = u/√(mean(u²)+(√ε/m)²)
//
// where u lies within ±1 whatever x is. rootEps is √ε in the scale of x.
func (d *staticDecoder) norm(at, x string, role arch.Role, l int, rootEps string) string {
	reduce := func(op string, x string) string {
		return d.node(op, at+"/"+op, []string{x, d.lastAxis}, onnx.Int("keepdims", 1))
	}
	highest := reduce("ReduceMax", x)
	lowest := d.node("Mul", at+"/minus/Mul", []string{reduce("ReduceMin", x), d.minus})
	largest := d.node("Max", at+"/Max", []string{highest, lowest})
	largest = d.node("Max", at+"/least/Max", []string{largest, d.least})
	u := d.node("Div", at+"/unit/Div", []string{x, largest})
	mean := reduce("ReduceMean", d.node("Mul", at+"/square/Mul", []string{u, u}))
	e := d.node("Div", at+"/epsilon/Div", []string{rootEps, largest})
	e = d.node("Mul", at+"/epsilon/Mul", []string{e, e})
	root := d.node("Sqrt", at+"/Sqrt", []string{d.node("Add", at+"/Add", []string{mean, e})})
	normed := d.node("Div", at+"/Div", []string{u, root})
	return d.node("Mul", at+"/Mul", []string{normed, d.vector(role, l, true)})
}

// attention appends the projections, rotary embedding and grouped-query
// attention over the cache and the new tokens. Keys and values are not
// repeated: the queries of a group are stacked.
func (d *staticDecoder) attention(l int, at, x string) string {
	s := d.spec
	kv, h, dim := int64(s.KVHeads), int64(s.Heads), int64(s.HeadDim)
	ws := []arch.Weight{d.weight(arch.AttnQ, l), d.weight(arch.AttnK, l), d.weight(arch.AttnV, l)}
	groups := d.group(ws)
	var parts []string
	for _, g := range groups {
		parts = append(parts, d.projection(l, at, x, g))
	}
	q, k, v := d.apart(at, groups, parts)
	q = d.rotate(at+"/q/rotary", l, d.heads(l, at+"/q", q, h, arch.QNorm))
	k = d.rotate(at+"/k/rotary", l, d.heads(l, at+"/k", k, kv, arch.KNorm))
	v = d.heads(l, at+"/v", v, kv, 0)
	d.publish(k, presentName(l, "key"))
	d.publish(v, presentName(l, "value"))
	k, v = presentName(l, "key"), presentName(l, "value")

	q = d.node("Mul", at+"/q/scale/Mul", []string{q, d.scale})
	grouped := d.reshape(at, "q_grouped", q, 1, kv, h/kv*d.tokens, dim)
	score := func(name, keys, mask string, length int64) string {
		keys = d.node("Transpose", at+"/"+name+"/Transpose", []string{keys}, onnx.Ints("perm", 0, 1, 3, 2))
		y := d.node("MatMul", at+"/"+name+"/MatMul", []string{grouped, keys})
		y = d.softcapped(at+"/"+name, d.reshape(at, name, y, 1, h, d.tokens, length), s.AttnSoftcap, d.number)
		return d.node("Add", at+"/"+name+"/Add", []string{y, mask})
	}
	mask := d.maskOf(l)
	scores := d.node("Concat", at+"/scores/Concat", []string{
		score("past_scores", pastName(l, "key"), mask.past, d.context),
		score("new_scores", k, mask.now, d.tokens),
	}, onnx.Int("axis", -1))
	probs := d.node("Softmax", at+"/Softmax", []string{scores}, onnx.Int("axis", -1))
	probs = d.reshape(at, "probs", probs, 1, kv, h/kv*d.tokens, d.context+d.tokens)
	apart := d.nodeN(onnx.DomainONNX, "Split", at+"/probs/Split", []string{probs, d.parts}, 2, onnx.Int("axis", -1))
	mixed := d.node("Add", at+"/values/Add", []string{
		d.node("MatMul", at+"/past_values/MatMul", []string{apart[0], pastName(l, "value")}),
		d.node("MatMul", at+"/new_values/MatMul", []string{apart[1], v}),
	})
	mixed = d.reshape(at, "heads", mixed, 1, h, d.tokens, dim)
	mixed = d.node("Transpose", at+"/Transpose", []string{mixed}, onnx.Ints("perm", 0, 2, 1, 3))
	return d.reshape(at, "flat", mixed, 1, d.tokens, h*dim)
}

// publish gives a value its public name.
func (d *staticDecoder) publish(from, to string) {
	for _, n := range d.g.Nodes {
		for i, o := range n.Outputs {
			if o == from {
				n.Outputs[i] = to
				return
			}
		}
	}
	d.fail("no node makes %q", from)
}

// heads returns a projection as [1, heads, tokens, head_dim], normed per head
// where the architecture does so.
func (d *staticDecoder) heads(l int, at, x string, heads int64, norm arch.Role) string {
	x = d.reshape(at, "split", x, 1, d.tokens, heads, int64(d.spec.HeadDim))
	if d.spec.QKNorm && norm != 0 {
		x = d.norm(at+"_norm", x, norm, l, d.headEps)
	}
	return d.node("Transpose", at+"/Transpose", []string{x}, onnx.Ints("perm", 0, 2, 1, 3))
}

// rotate turns the pairs (i, i+rotary/2) of x by the angles of its positions;
// elements behind the rotated ones stay.
func (d *staticDecoder) rotate(at string, l int, x string) string {
	t, n := d.rows[d.rotaryKind(l)], 2
	if int64(d.spec.HeadDim) > 2*d.half {
		n = 3
	}
	half := d.nodeN(onnx.DomainONNX, "Split", at+"/Split", []string{x, d.halves}, n, onnx.Int("axis", -1))
	mul := func(name, a, b string) string { return d.node("Mul", at+"/"+name+"/Mul", []string{a, b}) }
	first := d.node("Sub", at+"/Sub", []string{mul("cos_1", half[0], t.cos), mul("sin_2", half[1], t.sin)})
	second := d.node("Add", at+"/Add", []string{mul("cos_2", half[1], t.cos), mul("sin_1", half[0], t.sin)})
	return d.node("Concat", at+"/Concat", append([]string{first, second}, half[2:]...), onnx.Int("axis", -1))
}

// mlp appends down(act(gate(x))·up(x)) in the scale of the residual stream.
func (d *staticDecoder) mlp(l int, at, x string) string {
	gate, up := d.gateUp(l, at, x)
	silu := d.activated(at, gate, func(gate string) string {
		return d.node("Mul", at+"/act/Mul", []string{gate, d.node("Sigmoid", at+"/act/Sigmoid", []string{gate})})
	})
	up = d.node("Mul", at+"/shrink/Mul", []string{up, d.shrink})
	w := d.weight(arch.FFNDown, l)
	return d.linear(at+"/down_proj/MatMul", d.node("Mul", at+"/Mul", []string{silu, up}), d.matrix(w.Name, w), "")
}
