package toonnx

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// linearMatrix places a matrix for DequantizeLinear, or a float one stored by
// columns: ws side by side as columns of [K, N], or one above the other.
func (b *builder) linearMatrix(m *matrix, ws []arch.Weight) {
	f := m.form
	rowBytes, scaleBytes, _ := f.RowBytes(m.cols)
	blocks := f.Blocks(m.cols)
	m.data = b.place(m.name, int64(m.rows)*int64(rowBytes))
	if !f.IsFloat() {
		m.scaleAt = b.place(m.name+".scales", int64(m.rows)*int64(scaleBytes))
		switch {
		case f.Block == 0:
			m.scales = b.scales(m.name+".scales", f, m.scaleAt, int64(m.rows), 0)
		case f.Columns:
			m.scales = b.scales(m.name+".scales", f, m.scaleAt, int64(blocks), int64(m.rows))
		default:
			m.scales = b.scales(m.name+".scales", f, m.scaleAt, int64(m.rows), int64(blocks))
		}
	}
	var offsetAt onnx.External
	if f.Offsets {
		offsetAt = b.place(m.name+".offsets", int64(m.rows)*int64(scaleBytes))
		m.offsets = b.scales(m.name+".offsets", f, offsetAt, int64(blocks), int64(m.rows))
	}
	if f.Int8Input {
		for _, w := range ws {
			if w.Layer < 0 {
				b.fail("%v: only matrices of the layers take int8 activations", w.Role)
			}
		}
	}
	row := 0
	for _, w := range ws {
		if f.Columns && f.ElementBits() == 4 && row%2 != 0 {
			b.fail("%s: 4-bit columns must start in pairs", m.name)
		}
		out := plan.Output{
			Form:   f,
			Data:   plan.Region{Offset: m.data.Offset + int64(row)*int64(rowBytes), RowBytes: rowBytes},
			Scales: plan.Region{Offset: m.scaleAt.Offset + int64(row)*int64(scaleBytes), RowBytes: scaleBytes},
		}
		if f.Columns {
			out.Data = plan.Region{Offset: m.data.Offset + int64(row*f.ElementBits()/8), RowBytes: m.rows * f.ElementBits() / 8}
			if blocks > 0 && f.Block != 0 {
				out.Scales = plan.Region{Offset: m.scaleAt.Offset + int64(row*f.Scale.Size()), RowBytes: m.rows * f.Scale.Size()}
			}
			if f.Offsets {
				out.Zeros = plan.Region{Offset: offsetAt.Offset + int64(row*f.Scale.Size()), RowBytes: m.rows * f.Scale.Size()}
			}
		}
		b.pieces = append(b.pieces, Piece{w, out})
		row += w.Shape[0]
	}
	m.first = ws[0]
}

// intType is the element type of a linear form's data.
func intType(f plan.Form) onnx.ElemType {
	if f.Bits == 4 {
		return onnx.I4
	}
	return onnx.I8
}

// dequantized returns the matrix behind its DequantizeLinear, as [K, N].
func (b *builder) dequantized(node string, m *matrix) string {
	f := m.form
	dims := []int64{int64(m.rows), int64(m.cols)}
	axis := int64(0) // of N for one scale a row, of K for blocks
	if f.Block != 0 {
		axis = 1
	}
	if f.Columns {
		dims[0], dims[1] = dims[1], dims[0]
		axis = 1 - axis
	}
	attrs := []onnx.Attr{onnx.Int("axis", axis)}
	if f.Block != 0 {
		attrs = append(attrs, onnx.Int("block_size", int64(f.Block)))
	}
	w := b.external(m.name, intType(f), m.data, dims...)
	in := []string{w, m.scales}
	if f.Block == 0 {
		in = append(in, b.zeroPoints(node, m))
	}
	w = b.node("DequantizeLinear", node+"/DequantizeLinear", in, attrs...)
	if f.Columns {
		return w
	}
	return b.node("Transpose", node+"/Transpose", []string{w}, onnx.Ints("perm", 1, 0))
}

// dequantizedLinear multiplies with a matrix behind DequantizeLinear; where its
// form says so the input passes through int8 as well.
func (b *builder) dequantizedLinear(node, x string, m *matrix, bias string) string {
	if m.form.Int8Input {
		x = b.quantizedInput(node, x, m.first)
	}
	y := b.node("MatMul", node, []string{x, b.dequantized(node, m)})
	if m.offsets != "" {
		more := b.node("MatMul", node+"/offsets/MatMul", []string{b.blockSums(node, x, m), m.offsets})
		y = b.node("Add", node+"/offsets/Add", []string{y, more})
	}
	if bias != "" {
		y = b.node("Add", node+"/Add", []string{y, bias})
	}
	return y
}

// blockSums are the sums of an activation [batch, sequence, K] over the blocks of
// a matrix, [batch, sequence, K/block], once for all the matrices that want them:
//
//	Σ_k x_k·(s·q_k + m) = x·(s·q) + Σ_blocks m·(Σ_k in block x_k)
//
// which gives TensorRT, where a zero point must be zero, what zero points give
// others.
func (b *builder) blockSums(node, x string, m *matrix) string {
	key := fmt.Sprintf("%s/block_sums_%d", x, m.form.Block)
	if y, ok := b.sums[key]; ok {
		return y
	}
	if b.sums == nil {
		b.sums = map[string]string{}
		onnx.Const(b.g, "block_sums.axis", nil, int64(-1))
	}
	blocks := int64(m.cols / m.form.Block)
	at := node + "/block_sums"
	y := b.reshape(at, "blocks", x, 0, 0, blocks, int64(m.form.Block))
	y = b.node("ReduceSum", at+"/ReduceSum", []string{y, "block_sums.axis"}, onnx.Int("keepdims", 0))
	b.sums[key] = y
	return y
}

// quantizedInput sends an activation through int8 and back, once for all the
// matrices that multiply it. The zero point is there to say int8: without one
// QuantizeLinear makes uint8.
func (b *builder) quantizedInput(node, x string, w arch.Weight) string {
	if y, ok := b.quantized[x]; ok {
		return y
	}
	if b.quantized == nil {
		b.quantized = map[string]string{}
	}
	stored := tensor.F32
	if b.act == onnx.F16 {
		stored = tensor.F16
	}
	name := w.Name + ".input_scale"
	e := b.place(name, int64(stored.Size()))
	b.actSteps = append(b.actSteps, plan.ActScale{Role: w.Role, Layer: w.Layer, Offset: e.Offset, Float: stored})
	scale := b.external(name, b.act, e)
	q := b.node("QuantizeLinear", node+"/input/QuantizeLinear", []string{x, scale, b.zero()})
	y := b.node("DequantizeLinear", node+"/input/DequantizeLinear", []string{q, scale, b.zero()})
	b.quantized[x] = y
	return y
}

// zero declares the int8 zero point of a whole tensor.
func (b *builder) zero() string {
	if b.zeroPoint == "" {
		b.zeroPoint = b.g.Initializer(onnx.Initializer{Name: "int8.zero_point", Elem: onnx.I8, Dims: []int64{}, Data: []byte{0}})
	}
	return b.zeroPoint
}

// zeroPoints declares a zero point for each row of a matrix. They say nothing,
// but with session.x64quantprecision ONNX Runtime 1.32 makes one of its own
// where there is none, for the whole tensor, and then refuses it. They lie in
// the graph, as a reader must see that they are zeros, and each node has its own,
// as the same pass of ONNX Runtime fails on shared ones.
func (b *builder) zeroPoints(node string, m *matrix) string {
	return b.g.Initializer(onnx.Initializer{Name: node + "/zero_points", Elem: onnx.I8, Dims: []int64{int64(m.rows)}, Data: make([]byte, m.rows)})
}

// dequantizedRows looks ids up in an int8 matrix with one scale a row: the
// integers of the rows and their scales. Where int8 may be read by
// DequantizeLinear alone it is, with a scale of 1. The result is that of
// dequantizing the whole matrix, without doing so.
func (b *builder) dequantizedRows(node, ids string, m *matrix) string {
	if m.form.Bits != 8 || m.form.Block != 0 || m.form.Columns {
		b.fail("%s: rows are looked up in 8 bits with one scale a row, not in %v", m.name, m.form)
		return ids
	}
	data := b.external(m.name+".rows", onnx.I8, m.data, int64(m.rows), int64(m.cols))
	scales := b.scales(m.name+".row_scales", m.form, m.scaleAt, int64(m.rows), 1)
	q := b.node("Gather", node, []string{data, ids}, onnx.Int("axis", 0))
	s := b.node("Gather", node+"_scales", []string{scales, ids}, onnx.Int("axis", 0))
	x := b.node("DequantizeLinear", node+"/DequantizeLinear", []string{q, b.number(node+"/one", 1), b.zero()})
	return b.node("Mul", node+"/Mul", []string{x, s})
}

// number declares a scalar constant in the activation type.
func (b *builder) number(name string, v float32) string {
	if b.act == onnx.F32 {
		return onnx.Const(b.g, name, []int64{}, v)
	}
	data := binary.LittleEndian.AppendUint16(nil, tensor.F32ToF16(v))
	if math.Float32bits(tensor.F16ToF32(tensor.F32ToF16(v))) != math.Float32bits(v) && math.Abs(float64(v)) < 0x1p-14 {
		b.fail("constant %s: %g is too small for float16", name, v)
	}
	return b.g.Initializer(onnx.Initializer{Name: name, Elem: onnx.F16, Dims: []int64{}, Data: data})
}
