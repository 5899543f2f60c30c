package toonnx

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

func (b *builder) fail(format string, a ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, a...)
	}
}

// rotaryTables makes the cos and sin tables [positions, head_dim/2] in the
// activation type. A table of all positions would weigh 67 MB at 131,072
// positions of 128; so the file holds the angles of multiples of n and of
// 0…n-1, and the graph combines them by the addition theorem
//
//	cos(a+b) = cos a·cos b − sin a·sin b,  sin(a+b) = sin a·cos b + cos a·sin b
//
// on constants, which runtimes fold at load. The error, two float32 roundings,
// is that of a float32 table within a factor of two.
func (b *builder) rotaryTables() (cos, sin string) {
	half := b.spec.HeadDim / 2
	outer, inner := split(b.opts.MaxContext)
	inv := b.spec.RoPE.InvFreq(b.spec.HeadDim)
	table := func(name string, rows, step int, f func(float64) float64, dims ...int64) string {
		return b.rotaryTable(name, rows, step, inv, f, dims...)
	}
	h := int64(half)
	cosA := table("rotary.cos_outer", outer, inner, math.Cos, int64(outer), 1, h)
	sinA := table("rotary.sin_outer", outer, inner, math.Sin, int64(outer), 1, h)
	cosB := table("rotary.cos_inner", inner, 1, math.Cos, 1, int64(inner), h)
	sinB := table("rotary.sin_inner", inner, 1, math.Sin, 1, int64(inner), h)
	shape := onnx.Const(b.g, "rotary.shape", nil, int64(outer*inner), h)
	combine := func(name, x1, y1, op, x2, y2 string) string {
		first := b.node("Mul", name+"/Mul_1", []string{x1, y1})
		second := b.node("Mul", name+"/Mul_2", []string{x2, y2})
		sum := b.node(op, name+"/"+op, []string{first, second})
		out := b.node("Reshape", name+"/Reshape", []string{sum, shape})
		if b.act != onnx.F32 {
			out = b.node("Cast", name+"/Cast", []string{out}, onnx.Int("to", int64(b.act)))
		}
		return out
	}
	cos = combine("/model/rotary/cos", cosA, cosB, "Sub", sinA, sinB)
	sin = combine("/model/rotary/sin", sinA, cosB, "Add", cosA, sinB)
	return cos, sin
}

// rotaryTable stores f of the angles of positions 0, step, 2·step … as float32.
func (b *builder) rotaryTable(name string, rows, step int, inv []float32, f func(float64) float64, dims ...int64) string {
	data := make([]byte, 0, rows*len(inv)*4)
	for p := range rows {
		for _, w := range inv {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(f(float64(p*step)*float64(w)))))
		}
	}
	e := b.place(name, int64(len(data)))
	b.consts = append(b.consts, plan.Const{Name: name, Offset: e.Offset, Data: data})
	return b.external(name, onnx.F32, e, dims...)
}
