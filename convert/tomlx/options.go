package tomlx

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/quant/affine"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Options say what folder to make of a model.
type Options struct {
	// Bits of the quantized weights: 2, 3, 4, 5, 6 or 8; 0 means 4, or what
	// Recipe says. 16 and 32 quantize nothing and store floats.
	Bits int
	// Group is the number of weights that share scale and bias: 32, 64 or 128;
	// 0 means 64.
	Group int
	// Recipe is one of mlx-lm's mixtures; see [Recipes].
	Recipe string
	// Type of everything that is not quantized, scales and biases included:
	// [tensor.BF16], [tensor.F16] or [tensor.F32]; 0 means what the
	// configuration names, else BF16.
	Type tensor.DType
	// ShardBytes is the most tensor data in one file; 0 means mlx-lm's 5 GiB. A
	// larger tensor gets a file of its own.
	ShardBytes int64

	// ID is the model's name, with its owner where one is known.
	ID string
	// Config is the checkpoint's config.json.
	Config []byte
	// Support are the files that go along as they are: tokenizer, template,
	// generation_config.json, licence. A README.md among them is replaced by a
	// card that names it as its base.
	Support []plan.File
	// Tool and Version are named in the card.
	Tool, Version string
}

// mixture says how many bits most matrices have, and how many those that matter
// more.
type mixture struct{ low, high int }

// recipes are those of mlx-lm's mixed_quant_predicate_builder (convert.py).
var recipes = map[string]mixture{
	"mixed_2_6": {2, 6}, "mixed_3_4": {3, 4}, "mixed_3_6": {3, 6}, "mixed_4_6": {4, 6},
}

// Recipes lists the mixtures by name.
func Recipes() []string { return slices.Sorted(maps.Keys(recipes)) }

// Name is the artifact's folder: "4bit", "mixed_4_6", with "-g32" where groups
// are not of 64.
func (o Options) Name() string {
	name := o.Recipe
	if name == "" {
		bits := o.Bits
		if bits == 0 {
			bits = 4
		}
		name = fmt.Sprintf("%dbit", bits)
	}
	if o.Quantizes() && o.Group != 0 && o.Group != 64 {
		name += fmt.Sprintf("-g%d", o.Group)
	}
	return name
}

// Quantizes reports whether anything is quantized.
func (o Options) Quantizes() bool { return o.Bits != 16 && o.Bits != 32 }

// Precision is a short name: "int4", "bf16". Of filled-in options alone.
func (o Options) Precision() string {
	if o.Quantizes() {
		return fmt.Sprintf("int%d", o.Bits)
	}
	return map[tensor.DType]string{tensor.BF16: "bf16", tensor.F16: "fp16", tensor.F32: "fp32"}[o.Type]
}

// Summary says in words how weights are stored. Of filled-in options alone.
func (o Options) Summary() string {
	switch {
	case o.Recipe != "":
		return fmt.Sprintf("mixture %s, groups of %d", o.Recipe, o.Group)
	case o.Quantizes():
		return fmt.Sprintf("%d-bit weights, groups of %d", o.Bits, o.Group)
	}
	return typeName(o.Type) + " weights"
}

// Check reports options that no model could be written with.
func (o Options) Check() error { return o.fill(&arch.Spec{}) }

// fill checks the options and fills in what the model decides.
func (o *Options) fill(spec *arch.Spec) error {
	if o.Recipe != "" {
		r, ok := recipes[o.Recipe]
		if !ok {
			return fmt.Errorf("mlx recipe %q: choose one of %s", o.Recipe, strings.Join(Recipes(), ", "))
		}
		if o.Bits != 0 && o.Bits != r.low {
			return fmt.Errorf("mlx recipe %s has %d bits for most weights: leave the bits out", o.Recipe, r.low)
		}
		o.Bits = r.low
	}
	if o.Type == tensor.Invalid {
		o.Type = tensor.BF16
		if t, ok := typeNames[spec.DType]; ok {
			o.Type = t
		}
	}
	if o.ShardBytes <= 0 {
		o.ShardBytes = 5 << 30
	}
	switch o.Bits {
	case 16:
		if o.Type == tensor.F32 {
			o.Type = tensor.BF16
		}
		return nil
	case 32:
		o.Type = tensor.F32
		return nil
	}
	a := affine.Options{Bits: o.Bits, Group: o.Group, Type: o.Type}.Filled()
	o.Bits, o.Group = a.Bits, a.Group
	return a.Check(0)
}

// typeNames are the types as config.json spells them.
var typeNames = map[string]tensor.DType{"bfloat16": tensor.BF16, "float16": tensor.F16, "float32": tensor.F32}

// ParseType finds an element type by its name in config.json.
func ParseType(name string) (tensor.DType, error) {
	t, ok := typeNames[strings.ToLower(name)]
	if !ok {
		return 0, fmt.Errorf("element type %q: choose bfloat16, float16 or float32", name)
	}
	return t, nil
}

func typeName(t tensor.DType) string {
	for name, x := range typeNames {
		if x == t {
			return name
		}
	}
	return ""
}

// bits is the width of a matrix in the recipe, as mlx-lm chooses it: value and
// down projections of the first and last eighth of the layers, and of every
// third between, and the head, get more.
func (o Options) bits(spec *arch.Spec, w arch.Weight) int {
	m, ok := recipes[o.Recipe]
	if !ok {
		return o.Bits
	}
	n := spec.Layers
	more := w.Layer < n/8 || w.Layer >= 7*n/8 || (w.Layer-n/8)%3 == 2
	role := w.Role
	if w.Stored != "" && (role == arch.AttnQ || role == arch.AttnK) {
		role = arch.AttnV // mlx-lm goes by the name, and v_proj is in qkv_proj
	}
	switch role {
	case arch.AttnV, arch.FFNDown, arch.ExpertDown:
		if more {
			return m.high
		}
	case arch.LMHead:
		return m.high
	}
	return m.low
}

// form is how a weight is stored. mlx-lm quantizes every linear layer and
// embedding whose rows are whole groups.
func (o Options) form(spec *arch.Spec, w arch.Weight) plan.Form {
	if !o.Quantizes() || !w.Role.IsMatrix() || w.Shape[len(w.Shape)-1]%o.Group != 0 {
		return plan.Form{Float: o.Type}
	}
	bits, group := o.bits(spec, w), o.Group
	if w.Role == arch.Router && isQwen3MoE(w) && o.Recipe == "" {
		if bits, group = 8, 64; w.Shape[1]%group != 0 {
			return plan.Form{Float: o.Type}
		}
	}
	return plan.Form{Affine: true, Bits: bits, Block: group, Scale: o.Type}
}
