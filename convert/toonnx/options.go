package toonnx

import (
	"maps"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// MaxContext is the longest context of a recipe's graphs, of limit that the
// model or its user gives. The fixed graphs of a model with longrope end where
// its other frequencies begin.
func MaxContext(spec *arch.Spec, rec *recipe.Recipe, limit int) int {
	if limit <= 0 || limit > spec.MaxContext {
		limit = spec.MaxContext
	}
	if _, ok := spec.RoPE.Long(); ok && rec.Dialect == "static" {
		limit = min(limit, spec.RoPE.OriginalContext)
	}
	return limit
}

// rotaryTablesByKind declares the tables of every kind of layer.
func (b *builder) rotaryTablesByKind() map[string]rotary {
	out := map[string]rotary{}
	kinds := b.rotaryKinds()
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		out[kind] = b.rotaryTables(kind, kinds[kind])
	}
	return out
}

// window is the number of positions a query of layer l sees, 0 where it sees
// all that the graph can hold.
func (b *builder) window(l, context int) int {
	if w := b.spec.WindowOf(l); w < context {
		return w
	}
	return 0
}

// scaledEmbedding multiplies the float32 embeddings where the model does.
func (b *builder) scaledEmbedding(x string) string {
	if b.spec.EmbedScale == 0 {
		return x
	}
	return b.node("Mul", "/model/embed_tokens/scale/Mul", []string{x, onnx.Const(b.g, "embed.scale", []int64{}, b.spec.EmbedScale)})
}

// activated is the MLP's activation of the gate: SiLU, by silu, or GELU.
func (b *builder) activated(at, gate string, silu func(gate string) string) string {
	if b.spec.GELU {
		return b.node("Gelu", at+"/act/Gelu", []string{gate}, onnx.String("approximate", "tanh"))
	}
	return silu(gate)
}

// softcapped appends cap·tanh(x/cap) in the type of x; 0 passes x through.
func (b *builder) softcapped(at, x string, limit float32, number func(name string, v float32) string) string {
	if limit == 0 {
		return x
	}
	inverse, cap := number(at+"/inverse_cap", 1/limit), number(at+"/cap", limit)
	x = b.node("Tanh", at+"/softcap/Tanh", []string{b.node("Mul", at+"/softcap/smaller/Mul", []string{x, inverse})})
	return b.node("Mul", at+"/softcap/Mul", []string{x, cap})
}

// number32 declares a float32 scalar.
func (b *builder) number32(name string, v float32) string {
	return onnx.Const(b.g, name, []int64{}, v)
}
