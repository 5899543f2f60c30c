package toonnx

import (
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// perTokenLinear multiplies in 8-bit integers, with a step for every position
// that is found at run time and one for every output channel:
//
//	p = max|x| over the channels of a position                    [batch, seq, 1]
//	q = round(127·x/p) + 128                                uint8 [batch, seq, K]
//	y = p · ((q − 128)·W · scales/127)                            [batch, seq, N]
//
// A position of zeros needs no care: 0/0 becomes some integer, and y that integer
// times 0.
//
// One step for all positions would be one operator (DynamicQuantizeMatMul), but a
// few positions carry activations a hundred times larger than the others, whose
// steps they would set: on SmolLM2-135M KL is 0.011 with one step, 0.005 with one a
// position (docs/kernels.md).
//
// The weights are int8 and not uint8, which takes 2.2 times as long where VNNI
// is. Without VNNI the session must be told to avoid a kernel that saturates (see
// package infer/onnxruntime): it makes the weights unsigned then, and for those
// int8 activations have no kernel in ONNX Runtime 1.32; so they are uint8.
func (b *builder) perTokenLinear(node, x string, m *matrix, bias string) string {
	if b.act != onnx.F32 || !m.form.Linear || m.form.Bits != 8 || m.form.Block != 0 || !m.form.Columns {
		b.fail("%s: int8 activations by position want float32 activations and 8-bit weights stored by columns with one scale each, not %v", node, m.form)
		return x
	}
	c := b.perTokenConstants()
	w := b.external(m.name, onnx.I8, m.data, int64(m.cols), int64(m.rows))
	peak := b.node("ReduceMax", node+"/peak/ReduceMax", []string{b.node("Abs", node+"/peak/Abs", []string{x}), c.last}, onnx.Int("keepdims", 1))
	unit := b.node("Div", node+"/quantize/Div", []string{x, peak})
	q := b.node("QuantizeLinear", node+"/quantize/QuantizeLinear", []string{unit, c.step, c.zero})
	y := b.contrib("MatMulIntegerToFloat", node+"/integer/MatMul", []string{q, w, c.step, m.scales, c.zero})
	if bias == "" {
		return b.node("Mul", node, []string{y, peak})
	}
	return b.node("Add", node, []string{b.node("Mul", node+"/Mul", []string{y, peak}), bias})
}

// perTokenConstants are shared by all of a graph's [builder.perTokenLinear].
type perTokenConstants struct{ last, step, zero string }

func (b *builder) perTokenConstants() perTokenConstants {
	const at = "per_token"
	c := perTokenConstants{at + ".axis", at + ".step", at + ".zero_point"}
	for _, i := range b.g.Initializers {
		if i.Name == c.last {
			return c
		}
	}
	onnx.Const(b.g, c.last, nil, int64(-1))
	onnx.Const(b.g, c.step, []int64{}, float32(1)/127)
	b.g.Initializer(onnx.Initializer{Name: c.zero, Elem: onnx.U8, Dims: []int64{}, Data: []byte{128}})
	return c
}
