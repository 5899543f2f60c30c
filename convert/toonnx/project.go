package toonnx

import (
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// projection multiplies x with the stacked matrices of a group.
func (b *builder) projection(l int, at, x string, g []arch.Weight) string {
	name := ""
	for _, w := range g {
		name += w.Role.String()
	}
	m := b.matrix(fmt.Sprintf("model.layers.%d.self_attn.%s_proj.weight", l, name), g...)
	bias := ""
	if b.spec.QKVBias {
		var bs []arch.Weight
		for _, w := range g {
			bs = append(bs, b.weight(biasOf[w.Role], l))
		}
		bias = b.packedVector(fmt.Sprintf("model.layers.%d.self_attn.%s_proj.bias", l, name), bs)
	}
	return b.linear(at+"/"+name+"_proj/MatMul", x, m, bias)
}

var biasOf = map[arch.Role]arch.Role{arch.AttnQ: arch.AttnQBias, arch.AttnK: arch.AttnKBias, arch.AttnV: arch.AttnVBias}

// apart returns q, k and v as three tensors, splitting groups of more than one.
func (b *builder) apart(at string, groups [][]arch.Weight, parts []string) (q, k, v string) {
	var out []string
	for i, g := range groups {
		if len(g) == 1 {
			out = append(out, parts[i])
			continue
		}
		widths := make([]int64, len(g))
		name := at + "/"
		for j, w := range g {
			widths[j] = int64(w.Shape[0])
			name += w.Role.String()
		}
		sizes := onnx.Const(b.g, name+"/widths", nil, widths...)
		out = append(out, b.nodeN(onnx.DomainONNX, "Split", name+"/Split", []string{parts[i], sizes}, len(g), onnx.Int("axis", -1))...)
	}
	return out[0], out[1], out[2]
}

// gateUp appends the two projections of the MLP, as one multiplication where
// both are stored alike.
func (b *builder) gateUp(l int, at, x string) (gate, up string) {
	gw, uw := b.weight(arch.FFNGate, l), b.weight(arch.FFNUp, l)
	if b.form(gw) != b.form(uw) {
		gate = b.linear(at+"/gate_proj/MatMul", x, b.matrix(gw.Name, gw), "")
		return gate, b.linear(at+"/up_proj/MatMul", x, b.matrix(uw.Name, uw), "")
	}
	m := b.matrix(fmt.Sprintf("model.layers.%d.mlp.gate_up_proj.weight", l), gw, uw)
	both := b.linear(at+"/gate_up_proj/MatMul", x, m, "")
	halves := b.nodeN(onnx.DomainONNX, "Split", at+"/Split", []string{both}, 2, onnx.Int("axis", -1), onnx.Int("num_outputs", 2))
	return halves[0], halves[1]
}

// downScale divides the down projection's input and multiplies its output.
// Some models send values beyond 20,000 through this projection; a power
// of two costs no precision and keeps float16 far from its end, 65504.
const downScale = 16

// down multiplies silu by up, appends the projection of the product, and
// returns it in float32. With float16 activations the product is made
// [downScale] times smaller before it is narrow.
func (b *builder) down(at, silu, up string, project func(x string) string) string {
	if b.act != onnx.F16 {
		return project(b.node("Mul", at+"/Mul", []string{silu, up}))
	}
	if b.smaller == "" {
		b.larger = onnx.Const(b.g, "down.scale", []int64{}, float32(downScale))
		b.smaller = b.number("down.inverse_scale", 1.0/downScale)
	}
	up = b.node("Mul", at+"/down_scale/Mul", []string{up, b.smaller})
	y := b.widen(at+"/down_proj", project(b.node("Mul", at+"/Mul", []string{silu, up})))
	return b.node("Mul", at+"/down_proj/scale/Mul", []string{y, b.larger})
}

// widen casts to float32, narrow to the activation type; both pass float32
// graphs through.
func (b *builder) widen(at, x string) string {
	if b.act == onnx.F32 {
		return x
	}
	return b.node("Cast", at+"/to_float32/Cast", []string{x}, onnx.Int("to", int64(onnx.F32)))
}

func (b *builder) narrow(at, x string) string {
	if b.act == onnx.F32 {
		return x
	}
	return b.node("Cast", at+"/to_float16/Cast", []string{x}, onnx.Int("to", int64(onnx.F16)))
}
