package toonnx

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

func (b *builder) fail(format string, a ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, a...)
	}
}

// rotary is what the layers of one kind look their angles up in.
type rotary struct {
	cos, sin string // tables, or rows of them where a dialect looks up first
}

// rotaryKinds are the prefixes of the embeddings that the layers have: one, or
// another for those that slide.
func (b *builder) rotaryKinds() map[string]arch.RoPE {
	kinds := map[string]arch.RoPE{"rotary": b.spec.RoPE}
	if b.spec.LocalRoPE != nil {
		kinds["rotary_local"] = *b.spec.LocalRoPE
	}
	return kinds
}

// rotaryKind is the prefix of layer l's.
func (b *builder) rotaryKind(l int) string {
	if b.spec.LocalRoPE != nil && b.spec.WindowOf(l) > 0 {
		return "rotary_local"
	}
	return "rotary"
}

// longRoPE reports whether runs beyond the original context turn by other
// angles. Their table then lies behind the other one.
func (b *builder) longRoPE() bool {
	_, ok := b.spec.RoPE.Long()
	return ok && b.opts.MaxContext > b.spec.RoPE.OriginalContext
}

// rotaryTables makes the cos and sin tables [positions, rotary/2] in the
// activation type. A table of all positions would weigh 67 MB at 131,072
// positions of 128; so the file holds the angles of multiples of n and of
// 0…n-1, and the graph combines them by the addition theorem
//
//	cos(a+b) = cos a·cos b − sin a·sin b,  sin(a+b) = sin a·cos b + cos a·sin b
//
// on constants, which runtimes fold at load. The error, two float32 roundings,
// is that of a float32 table within a factor of two. Where [builder.longRoPE]
// two tables follow one another, and [builder.rotaryPositions] chooses.
func (b *builder) rotaryTables(kind string, r arch.RoPE) rotary {
	out := b.rotaryTablesOf(kind, r)
	if long, ok := r.Long(); ok && b.longRoPE() {
		more := b.rotaryTablesOf(kind+"_long", long)
		both := func(name, x, y string) string {
			return b.node("Concat", "/model/"+kind+"/"+name+"/Concat", []string{x, y}, onnx.Int("axis", 0))
		}
		out = rotary{both("cos", out.cos, more.cos), both("sin", out.sin, more.sin)}
	}
	return out
}

func (b *builder) rotaryTablesOf(kind string, r arch.RoPE) rotary {
	half := b.spec.Rotary() / 2
	outer, inner := split(b.opts.MaxContext)
	plain := r
	plain.Scale = 0 // the other factor has it
	table := func(name string, r arch.RoPE, rows, step int, sin bool, dims ...int64) string {
		return b.rotaryTable(kind+"."+name, r, rows, step, sin, dims...)
	}
	h := int64(half)
	cosA := table("cos_outer", r, outer, inner, false, int64(outer), 1, h)
	sinA := table("sin_outer", r, outer, inner, true, int64(outer), 1, h)
	cosB := table("cos_inner", plain, inner, 1, false, 1, int64(inner), h)
	sinB := table("sin_inner", plain, inner, 1, true, 1, int64(inner), h)
	shape := onnx.Const(b.g, kind+".shape", nil, int64(outer*inner), h)
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
	at := "/model/" + kind
	return rotary{
		cos: combine(at+"/cos", cosA, cosB, "Sub", sinA, sinB),
		sin: combine(at+"/sin", sinA, cosB, "Add", cosA, sinB),
	}
}

// rotaryPositions are the rows of the tables for a run's positions: where
// [builder.longRoPE], a run that ends beyond the original context uses those of
// the second table.
func (b *builder) rotaryPositions(positions string) string {
	if !b.longRoPE() {
		return positions
	}
	const at = "/model/rotary/long"
	outer, inner := split(b.opts.MaxContext)
	last := onnx.Const(b.g, "rotary.last_short", []int64{}, int64(b.spec.RoPE.OriginalContext-1))
	rows := onnx.Const(b.g, "rotary.rows", []int64{}, int64(outer*inner))
	none := onnx.Const(b.g, "rotary.no_rows", []int64{}, int64(0))
	end := b.node("ReduceMax", at+"/ReduceMax", []string{positions}, onnx.Int("keepdims", 0))
	beyond := b.node("Greater", at+"/Greater", []string{end, last})
	return b.node("Add", at+"/Add", []string{positions, b.node("Where", at+"/Where", []string{beyond, rows, none})})
}

// rotaryTable stores cosines or sines of the angles of positions 0, step,
// 2·step … as float32.
func (b *builder) rotaryTable(name string, r arch.RoPE, rows, step int, sin bool, dims ...int64) string {
	inv := r.InvFreq(b.spec.Rotary())
	data := make([]byte, 0, rows*len(inv)*4)
	for p := range rows {
		for _, w := range inv {
			c, s := r.CosSin(float64(p*step) * float64(w))
			if sin {
				c = s
			}
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(c))
		}
	}
	e := b.place(name, int64(len(data)))
	b.consts = append(b.consts, plan.Const{Name: name, Offset: e.Offset, Data: data})
	return b.external(name, onnx.F32, e, dims...)
}
