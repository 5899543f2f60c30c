package toonnx

import (
	"math/bits"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// matrix is a placed weight matrix [rows, cols], possibly several checkpoint
// matrices of equal form one above the other.
type matrix struct {
	name       string
	rows, cols int
	form       plan.Form
	data       onnx.External
	// scales and zeros name the initializers of a quantized matrix; zeros is ""
	// for symmetric ones. float names a float matrix once it is declared.
	scales, zeros, float string
	offsets              string        // initializer of the blocks' offsets, "" for none
	scaleAt              onnx.External // where the scales lie
	first                arch.Weight   // of those it is made of
}

// Form is how a recipe stores a weight of a model. It is the recipe's choice,
// with what only the model decides filled in: see [linearForm] and [blockForm].
func Form(spec *arch.Spec, rec *recipe.Recipe, w arch.Weight) plan.Form {
	embed := w.Role == arch.TokenEmbd || w.Role == arch.LMHead && spec.Tied
	role, layer := w.Role, w.Layer
	if embed {
		layer = -1
		if spec.Tied {
			role = arch.LMHead
		}
	}
	f := rec.Form(role, layer, spec.Layers)
	switch {
	case rec.Dialect == "qdq", rec.Dialect == "static":
		return linearForm(spec, w, f)
	case f.IsFloat():
		return f
	}
	return blockForm(spec, w, f, embed)
}

// billion is the number of parameters from which on longer blocks cost little.
const billion = 1_000_000_000

// blockForm completes a form of MatMulNBits. A quantized embedding is looked up
// in whole blocks: its block length is halved until it divides the width, and
// where even 16 does not, the embedding takes 16-bit floats and a tied head is
// stored on its own.
func blockForm(spec *arch.Spec, w arch.Weight, f plan.Form, embed bool) plan.Form {
	if f.Block == plan.AutoBlock {
		// From 64 on CUDA has a kernel for prompts that reads 4 bits directly.
		f.Block = 32
		if spec.Parameters() >= billion && w.Shape[1]%64 == 0 {
			f.Block = 64
		}
	}
	if !embed {
		return f
	}
	asked := f
	for f.Block > 16 && w.Shape[1]%f.Block != 0 {
		f.Block /= 2
	}
	switch {
	case w.Shape[1]%f.Block == 0:
		return f
	case w.Role == arch.LMHead:
		return asked
	}
	return plan.Form{Float: tensor.F16}
}

// linearForm completes a form of DequantizeLinear. The matrices of the layers
// are stored as [K, N]; embedding and head as they are, [N, K], so that a tied
// one serves both. A matrix whose rows have no whole number of blocks where
// scales must be positive (TensorRT wants whole blocks, of 64 or 128), or whose
// 4-bit elements do not pair up, takes 8 bits with one scale a row, and so does
// an embedding, which is looked up row by row.
func linearForm(spec *arch.Spec, w arch.Weight, f plan.Form) plan.Form {
	f.Columns = w.Layer >= 0
	if f.IsFloat() {
		return f
	}
	k := w.Shape[1]
	if f.Block == plan.AutoBlock {
		f.Block = 64
		if spec.Parameters() >= billion && k%128 == 0 {
			f.Block = 128
		}
	}
	whole := f.Block == 0 || k%f.Block == 0 || !f.Positive
	pairs := f.Bits == 8 || w.Shape[0]%2 == 0 && k%2 == 0
	if !whole || !pairs || w.Role == arch.TokenEmbd {
		f.Bits, f.Block = 8, 0
	}
	// Offsets need the inputs' sums over whole blocks; the head is not stored by
	// columns, as the offsets are multiplied.
	f.Offsets = f.Offsets && f.Bits == 4 && k%f.Block == 0 && f.Columns
	return f
}

// form is [Form] for this builder, with the exact 16-bit type where the
// options give one.
func (b *builder) form(w arch.Weight) plan.Form {
	f := Form(b.spec, b.rec, w)
	if f.Float == tensor.F32 && b.opts.Stored != nil {
		if d := b.opts.Stored(w); d == tensor.BF16 || d == tensor.F16 {
			f.Float = d
		}
	}
	return f
}

// headMatrix is the matrix that makes logits: the embedding's where the model
// ties them and both are stored alike.
func (b *builder) headMatrix(embed *matrix) *matrix {
	w, ok := b.byRole[key{arch.LMHead, -1}]
	if !ok {
		w = b.weight(arch.TokenEmbd, -1)
		w.Role = arch.LMHead
		if b.form(w) == embed.form {
			return embed
		}
	}
	return b.matrix("lm_head.weight", w)
}

// matrix places the rows of ws, which share form and columns. Packed data,
// scales and zero points lie in three ranges, each with the rows in order.
func (b *builder) matrix(name string, ws ...arch.Weight) *matrix {
	m := &matrix{name: name, cols: ws[0].Shape[1], form: b.form(ws[0])}
	for _, w := range ws {
		m.rows += w.Shape[0]
	}
	if m.form.Linear || m.form.Columns {
		b.linearMatrix(m, ws)
		return m
	}
	data, scales, zeros := m.form.RowBytes(m.cols)
	m.data = b.place(name, int64(m.rows)*int64(data))
	var scaleAt, zeroAt onnx.External
	if !m.form.IsFloat() {
		scaleAt = b.place(name+".scales", int64(m.rows)*int64(scales))
		blocks := int64(m.form.Options().Scheme().Blocks(m.cols))
		m.scales = b.scales(name+".scales", m.form, scaleAt, int64(m.rows), blocks)
		if zeros > 0 {
			zeroAt = b.place(name+".zero_points", int64(m.rows)*int64(zeros))
			m.zeros = b.external(name+".zero_points", onnx.U8, zeroAt, int64(m.rows), int64(zeros))
		}
	}
	row := int64(0)
	for _, w := range ws {
		at := func(e onnx.External, rowBytes int) plan.Region {
			return plan.Region{Offset: e.Offset + row*int64(rowBytes), RowBytes: rowBytes}
		}
		b.pieces = append(b.pieces, Piece{w, plan.Output{
			Form: m.form, Data: at(m.data, data), Scales: at(scaleAt, scales), Zeros: at(zeroAt, zeros),
		}})
		row += int64(w.Shape[0])
	}
	return m
}

// scales declares the scales [rows, blocks], or [rows] where blocks is 0,
// widening stored float16 to the float32 that graphs of float32 want by a Cast
// that ONNX Runtime folds at load.
func (b *builder) scales(name string, f plan.Form, e onnx.External, rows, blocks int64) string {
	dims := []int64{rows, blocks}
	if blocks == 0 {
		dims = dims[:1]
	}
	if f.Scale != tensor.F16 {
		return b.external(name, onnx.F32, e, dims...)
	}
	half := b.external(name+".f16", onnx.F16, e, dims...)
	if b.act == onnx.F16 {
		return half
	}
	b.g.Node(onnx.DomainONNX, "Cast", name+"/Cast", []string{half}, []string{name}, onnx.Int("to", int64(onnx.F32)))
	return name
}

// linear appends y = x·Wᵀ + bias for a placed matrix; bias is "" for none.
func (b *builder) linear(node, x string, m *matrix, bias string) string {
	switch {
	case m.form.IsFloat():
		return b.floatLinear(node, x, m, bias)
	case m.form.Int8Input && b.rec.Dialect == "fused":
		return b.perTokenLinear(node, x, m, bias)
	case m.form.Linear:
		return b.dequantizedLinear(node, x, m, bias)
	}
	s := m.form.Options().Scheme()
	blocks := int64(s.Blocks(m.cols))
	blob := int64(m.form.Block * m.form.Bits / 8)
	w := b.external(m.name, onnx.U8, m.data, int64(m.rows), blocks, blob)
	in := []string{x, w, m.scales}
	switch {
	case bias != "":
		in = append(in, m.zeros, "", bias)
	case m.zeros != "":
		in = append(in, m.zeros)
	}
	return b.contrib("MatMulNBits", node, in,
		onnx.Int("K", int64(m.cols)), onnx.Int("N", int64(m.rows)),
		onnx.Int("bits", int64(m.form.Bits)), onnx.Int("block_size", int64(m.form.Block)),
		onnx.Int("accuracy_level", int64(b.rec.AccuracyLevel)))
}

// floatLinear uses FusedMatMul, which takes the checkpoint's [out, in] order as
// it is; in the standard dialect a Transpose that runtimes fold at load.
func (b *builder) floatLinear(node, x string, m *matrix, bias string) string {
	w := b.floatMatrix(m)
	var y string
	switch {
	case m.form.Columns:
		y = b.node("MatMul", node, []string{x, w})
	case b.rec.Dialect == "fused":
		y = b.contrib("FusedMatMul", node, []string{x, w}, onnx.Int("transB", 1))
	default:
		t := b.node("Transpose", node+"/Transpose", []string{w}, onnx.Ints("perm", 1, 0))
		y = b.node("MatMul", node, []string{x, t})
	}
	if bias != "" {
		y = b.node("Add", node+"/Add", []string{y, bias})
	}
	return y
}

// floatMatrix declares a float matrix once and returns it in the activation
// type.
func (b *builder) floatMatrix(m *matrix) string {
	elem := onnx.ElemOf(m.form.Float)
	if m.float == "" {
		dims := []int64{int64(m.rows), int64(m.cols)}
		if m.form.Columns {
			dims[0], dims[1] = dims[1], dims[0]
		}
		m.float = b.external(m.name, elem, m.data, dims...)
		if elem != b.act {
			m.float = b.node("Cast", m.name+"/Cast", []string{m.float}, onnx.Int("to", int64(b.act)))
		}
	}
	return m.float
}

// gather appends the embedding look-up of ids in a placed matrix. A quantized
// matrix is read by GatherBlockQuantized over the same bytes that a tied head
// multiplies with.
func (b *builder) gather(node, ids string, m *matrix) string {
	if m.form.IsFloat() {
		return b.node("Gather", node, []string{b.floatMatrix(m), ids}, onnx.Int("axis", 0))
	}
	if m.form.Linear {
		return b.dequantizedRows(node, ids, m)
	}
	perByte := int64(8 / m.form.Bits)
	width := int64(m.form.Options().Scheme().DataBytes(m.cols))
	if width*perByte != int64(m.cols) {
		b.fail("embedding width %d is not a multiple of the block length %d", m.cols, m.form.Block)
	}
	data := b.external(m.name+".rows", onnx.U8, m.data, int64(m.rows), width)
	in := []string{data, ids, m.scales}
	if m.zeros != "" {
		in = append(in, m.zeros)
	}
	return b.contrib("GatherBlockQuantized", node, in,
		onnx.Int("bits", int64(m.form.Bits)), onnx.Int("block_size", int64(m.form.Block)),
		onnx.Int("gather_axis", 0), onnx.Int("quantize_axis", 1))
}

// group splits weights into runs of equal form, in order, so that each run can
// be one multiplication.
func (b *builder) group(ws []arch.Weight) [][]arch.Weight {
	var out [][]arch.Weight
	for i, w := range ws {
		if i > 0 && b.form(w) == b.form(ws[i-1]) {
			out[len(out)-1] = append(out[len(out)-1], w)
			continue
		}
		out = append(out, []arch.Weight{w})
	}
	return out
}

// split returns the two factors of the rotary table: positions are p = i·n + j
// with j < n, n a power of two near √positions.
func split(positions int) (outer, inner int) {
	inner = 1 << (bits.Len(uint(positions-1)) / 2)
	return (positions + inner - 1) / inner, inner
}
