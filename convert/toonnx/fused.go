package toonnx

import (
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// LastPosition prefixes the nodes that keep only the last position. A caller
// that wants the logits of every position removes them: each passes its first
// input on unchanged but for the positions.
const LastPosition = "/model/last_position"

// fused builds the decoder with com.microsoft operators:
//
//	ids ─ embed ─┬─ norm ─ qkv ─ GroupQueryAttention ─ o ─ skip+norm ─ gate,up ─ SiLU·up ─ down ─┬─ …
//	             └──────────────── residual ─────────────────┴──────────────────────────────────┘
//
// Attention, rotary embedding and the cache update are one node a layer, the
// residual sum and the norm behind it another. With float16 activations the
// residual sums and the norms are float32 all the same, see [builder.standard].
func (b *builder) fused() {
	s := b.spec
	ids := b.g.Input("input_ids", onnx.I64, onnx.Named("batch_size"), onnx.Named("sequence_length"))
	mask := b.g.Input("attention_mask", onnx.I64, onnx.Named("batch_size"), onnx.Named("total_sequence_length"))
	f := &fusedDecoder{builder: b, fuseRotary: s.HeadDim%16 == 0 && s.Rotary()%16 == 0 && !b.longRoPE()}
	if !f.fuseRotary {
		f.positions = b.g.Input("position_ids", onnx.I64, onnx.Named("batch_size"), onnx.Named("sequence_length"))
	}
	b.cacheInputs()
	f.rotary = b.rotaryTablesByKind()
	f.positions = b.rotaryPositions(f.positions)
	f.lengths(mask)

	embed := b.matrix("model.embed_tokens.weight", b.weight(arch.TokenEmbd, -1))
	hidden := b.scaledEmbedding(b.widen("/model/embed_tokens", b.gather("/model/embed_tokens/Gather", ids, embed)))
	var residual string
	for l := range s.Layers {
		hidden, residual = f.layer(l, hidden, residual)
	}
	normed, _ := f.skipNorm("/model/norm", hidden, residual, arch.FinalNorm, -1, false)
	logits := b.linear("/lm_head/MatMul", normed, b.headMatrix(embed), "")
	logits = b.softcapped("/lm_head", logits, s.LogitSoftcap, b.number)
	b.rename(logits, "logits")
	b.g.Output("logits", b.act, onnx.Named("batch_size"), b.logitsLength(), onnx.Fixed(int64(s.Vocab)))
	b.cacheOutputs()
}

// logitsLength is the extent of the logits' sequence dimension.
func (b *builder) logitsLength() onnx.Dim {
	if b.opts.AllLogits {
		return onnx.Named("sequence_length")
	}
	return onnx.Fixed(1)
}

// rename gives the output of the last node its public name.
func (b *builder) rename(from, to string) {
	n := b.g.Nodes[len(b.g.Nodes)-1]
	for i, o := range n.Outputs {
		if o == from {
			n.Outputs[i] = to
			return
		}
	}
	b.fail("output %q is not of the last node, %s", from, n.Label())
}

func pastName(layer int, kv string) string    { return fmt.Sprintf("past_key_values.%d.%s", layer, kv) }
func presentName(layer int, kv string) string { return fmt.Sprintf("present.%d.%s", layer, kv) }

func (b *builder) cacheDims(length string) []onnx.Dim {
	return []onnx.Dim{onnx.Named("batch_size"), onnx.Fixed(int64(b.spec.KVHeads)), onnx.Named(length), onnx.Fixed(int64(b.spec.HeadDim))}
}

func (b *builder) cacheInputs() {
	for l := range b.spec.Layers {
		b.g.Input(pastName(l, "key"), b.cache, b.cacheDims("past_sequence_length")...)
		b.g.Input(pastName(l, "value"), b.cache, b.cacheDims("past_sequence_length")...)
	}
}

func (b *builder) cacheOutputs() {
	for l := range b.spec.Layers {
		b.g.Output(presentName(l, "key"), b.cache, b.cacheDims("total_sequence_length")...)
		b.g.Output(presentName(l, "value"), b.cache, b.cacheDims("total_sequence_length")...)
	}
}

// fusedDecoder holds what every layer of a fused graph refers to.
type fusedDecoder struct {
	*builder
	fuseRotary           bool
	positions            string
	rotary               map[string]rotary
	seqlens, totalLength string
	lastIndex            string
}

// lengths derives GroupQueryAttention's lengths from the attention mask:
// seqlens_k [batch] = sum − 1, total_sequence_length scalar = its width.
func (f *fusedDecoder) lengths(mask string) {
	const at = "/model/lengths"
	axis := onnx.Const(f.g, "lengths.axis", nil, int64(1))
	one := onnx.Const(f.g, "lengths.one", []int64{}, int64(1))
	sum := f.node("ReduceSum", at+"/ReduceSum", []string{mask, axis}, onnx.Int("keepdims", 0))
	last := f.node("Sub", at+"/Sub", []string{sum, one})
	f.seqlens = f.node("Cast", at+"/seqlens/Cast", []string{last}, onnx.Int("to", int64(onnx.I32)))
	shape := f.node("Shape", at+"/Shape", []string{mask})
	width := f.node("Gather", at+"/Gather", []string{shape, one}, onnx.Int("axis", 0))
	f.totalLength = f.node("Cast", at+"/total/Cast", []string{width}, onnx.Int("to", int64(onnx.I32)))
}

// layer appends one decoder layer. residual is "" before the first; the sum of
// hidden and residual is the layer's input.
func (f *fusedDecoder) layer(l int, hidden, residual string) (string, string) {
	at := fmt.Sprintf("/model/layers.%d", l)
	normed, residual := f.skipNorm(at+"/input_layernorm", hidden, residual, arch.AttnNorm, l, true)
	attn := f.attention(l, at+"/attn", normed)
	if l == f.spec.Layers-1 && !f.opts.AllLogits {
		attn = f.lastPosition("attn", attn)
		residual = f.lastPosition("residual", residual)
	}
	o := f.matrix(f.weight(arch.AttnO, l).Name, f.weight(arch.AttnO, l))
	bias := ""
	if f.spec.OBias {
		bias = f.vector(arch.AttnOBias, l, true)
	}
	hidden = f.widen(at+"/attn/o_proj", f.linear(at+"/attn/o_proj/MatMul", attn, o, bias))
	hidden = f.postNorm(at+"/attn/post_norm", hidden, arch.PostAttnNorm, l)
	normed, residual = f.skipNorm(at+"/post_attention_layernorm", hidden, residual, arch.FFNNorm, l, true)
	return f.postNorm(at+"/mlp/post_norm", f.mlp(l, at+"/mlp", normed), arch.PostFFNNorm, l), residual
}

// postNorm norms what is to be added to the residual stream, float32, where the
// model does.
func (f *fusedDecoder) postNorm(at, x string, role arch.Role, l int) string {
	if !f.spec.PostNorms {
		return x
	}
	return f.node("SimplifiedLayerNormalization", at+"/LayerNorm", []string{x, f.vector(role, l, false)},
		onnx.Int("axis", -1), onnx.Float("epsilon", f.spec.NormEps), onnx.Int("stash_type", 1))
}

// lastPosition keeps the last position of x [batch, sequence, width] as
// [batch, 1, width]: behind the last layer's attention nothing else is needed
// to choose the next token.
func (f *fusedDecoder) lastPosition(name, x string) string {
	if f.lastIndex == "" {
		f.lastIndex = onnx.Const(f.g, "last_position.index", nil, int64(-1))
	}
	return f.node("Gather", LastPosition+"/"+name+"/Gather", []string{x, f.lastIndex}, onnx.Int("axis", 1))
}

// skipNorm appends RMSNorm(hidden + residual) of float32 and returns it in the
// activation type, with the sum.
func (f *fusedDecoder) skipNorm(at, hidden, residual string, role arch.Role, l int, wantSum bool) (normed, sum string) {
	gamma := f.vector(role, l, false)
	eps := onnx.Float("epsilon", f.spec.NormEps)
	if residual == "" {
		out := f.node("SimplifiedLayerNormalization", at+"/LayerNorm", []string{hidden, gamma},
			onnx.Int("axis", -1), eps, onnx.Int("stash_type", 1))
		return f.narrow(at, out), hidden
	}
	name := at + "/SkipLayerNorm"
	outs := []string{name + "/output_0"}
	if wantSum {
		outs = append(outs, "", "", name+"/output_3")
		sum = outs[3]
	}
	f.g.Node(onnx.DomainMicrosoft, "SkipSimplifiedLayerNormalization", name, []string{hidden, residual, gamma}, outs, eps)
	return f.narrow(at, outs[0]), sum
}

// attention appends the projections and GroupQueryAttention. Projections of
// equal form are one multiplication, whose output is packed as the operator
// takes it.
func (f *fusedDecoder) attention(l int, at, x string) string {
	s := f.spec
	q, k, v := f.weight(arch.AttnQ, l), f.weight(arch.AttnK, l), f.weight(arch.AttnV, l)
	var parts []string
	groups := f.group([]arch.Weight{q, k, v})
	for _, g := range groups {
		parts = append(parts, f.projection(l, at, x, g))
	}
	split := s.QKNorm || !f.fuseRotary
	var query, key, value string
	switch {
	case !split && len(groups) == 1:
		query = parts[0]
	case !split:
		query = f.node("Concat", at+"/qkv/Concat", parts, onnx.Int("axis", -1))
	default:
		query, key, value = f.apart(at, groups, parts)
	}
	if s.QKNorm {
		query = f.headNorm(at+"/q_norm", query, s.Heads, arch.QNorm, l)
		key = f.headNorm(at+"/k_norm", key, s.KVHeads, arch.KNorm, l)
	}
	in := []string{query, key, value, pastName(l, "key"), pastName(l, "value"), f.seqlens, f.totalLength}
	rotary := int64(0)
	table := f.rotary[f.rotaryKind(l)]
	if f.fuseRotary {
		rotary = 1
		in = append(in, table.cos, table.sin)
	} else {
		in[0] = f.rotate(at+"/q_rotary", query, s.Heads, table)
		in[1] = f.rotate(at+"/k_rotary", key, s.KVHeads, table)
	}
	window := int64(-1)
	if w := f.window(l, f.opts.MaxContext); w > 0 {
		window = int64(w)
	}
	out := at + "/GroupQueryAttention/output_0"
	n := f.g.Node(onnx.DomainMicrosoft, "GroupQueryAttention", at+"/GroupQueryAttention", in,
		[]string{out, presentName(l, "key"), presentName(l, "value")},
		onnx.Int("num_heads", int64(s.Heads)), onnx.Int("kv_num_heads", int64(s.KVHeads)),
		onnx.Float("scale", float32(s.AttnScale())),
		onnx.Int("do_rotary", rotary), onnx.Int("rotary_interleaved", 0), onnx.Int("local_window_size", window))
	if s.AttnSoftcap != 0 {
		n.Attrs = append(n.Attrs, onnx.Float("softcap", s.AttnSoftcap))
	}
	if f.cache == onnx.I8 {
		f.quantizeCache(n, l)
	}
	return out
}

// quantizeCache makes an attention node keep keys and values as int8, with one
// step for a layer's keys and one for its values: inputs 12 and 13.
func (f *fusedDecoder) quantizeCache(n *onnx.Node, l int) {
	for len(n.Inputs) < 12 {
		n.Inputs = append(n.Inputs, "")
	}
	for _, value := range []bool{false, true} {
		name := fmt.Sprintf("model.layers.%d.self_attn.k_scale", l)
		if value {
			name = fmt.Sprintf("model.layers.%d.self_attn.v_scale", l)
		}
		e := f.place(name, 4)
		f.steps = append(f.steps, plan.CacheScale{Layer: l, Value: value, Offset: e.Offset})
		n.Inputs = append(n.Inputs, f.external(name, onnx.F32, e, 1))
	}
	n.Attrs = append(n.Attrs, onnx.String("k_quant_type", "PER_TENSOR"), onnx.String("v_quant_type", "PER_TENSOR"), onnx.Int("kv_cache_bit_width", 8))
}

// headNorm appends RMSNorm over each head of x [batch, sequence, heads·head_dim].
func (f *fusedDecoder) headNorm(at, x string, heads int, role arch.Role, l int) string {
	d := int64(f.spec.HeadDim)
	perHead := onnx.Const(f.g, at+"/heads", nil, 0, 0, int64(heads), d)
	flat := onnx.Const(f.g, at+"/flat", nil, 0, 0, int64(heads)*d)
	x = f.node("Reshape", at+"/Reshape_1", []string{x, perHead})
	x = f.node("SimplifiedLayerNormalization", at+"/LayerNorm", []string{x, f.vector(role, l, true)},
		onnx.Int("axis", -1), onnx.Float("epsilon", f.spec.NormEps), onnx.Int("stash_type", 1))
	return f.node("Reshape", at+"/Reshape_2", []string{x, flat})
}

// rotate appends a RotaryEmbedding node, for head sizes that
// GroupQueryAttention cannot rotate itself.
func (f *fusedDecoder) rotate(at, x string, heads int, t rotary) string {
	return f.contrib("RotaryEmbedding", at+"/RotaryEmbedding", []string{x, f.positions, t.cos, t.sin},
		onnx.Int("interleaved", 0), onnx.Int("num_heads", int64(heads)), onnx.Int("rotary_embedding_dim", int64(f.spec.Rotary())))
}

// mlp appends down(act(gate(x))·up(x)) and returns it in float32. QuickGelu
// with alpha 1 is SiLU in one node.
func (f *fusedDecoder) mlp(l int, at, x string) string {
	gate, up := f.gateUp(l, at, x)
	silu := f.activated(at, gate, func(gate string) string {
		return f.contrib("QuickGelu", at+"/act/QuickGelu", []string{gate}, onnx.Float("alpha", 1))
	})
	dw := f.weight(arch.FFNDown, l)
	return f.down(at, silu, up, func(x string) string {
		return f.linear(at+"/down_proj/MatMul", x, f.matrix(dw.Name, dw), "")
	})
}
