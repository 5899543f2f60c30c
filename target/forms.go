package target

import (
	"slices"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// forms are the checks that no table can hold, by the names the data files use.
// Each returns why the node is not taken, nil where it is.
var forms = map[string]func(*call) *failure{
	"quantized":      (*call).quantized,
	"no_vectors":     (*call).noVectors,
	"same_types":     (*call).sameTypes,
	"output_rank":    (*call).outputRank,
	"scalar_indices": (*call).scalarIndices,
	"no_zero_shape":  (*call).noZeroShape,
	"two_parts":      (*call).twoParts,
	"not_first":      (*call).notFirst,
}

// quantize says which QuantizeLinear and DequantizeLinear a provider takes.
type quantize struct {
	Source string `json:"source"`
	// ZeroPoint is "zero" where a zero point, if given, must be constant
	// zeros; "" for any.
	ZeroPoint string `json:"zero_point"`
	// Weights are forms of DequantizeLinear over a constant, Activations those
	// of both operators over anything else.
	Weights     []quantForm `json:"weights"`
	Activations []quantForm `json:"activations"`
}

// quantForm is one accepted form.
type quantForm struct {
	Elem    elemSet `json:"elem"`
	From    string  `json:"from"`    // first release
	Tensor  bool    `json:"tensor"`  // one scale
	Channel bool    `json:"channel"` // a scale for each index of one axis
	Blocks  []int64 `json:"blocks"`  // block sizes along one axis
	// LastAxes is how many of the last axes blocks may run along; 0 for any.
	LastAxes int `json:"last_axes"`
}

// quantized checks a Q/DQ node against the provider's forms.
func (c *call) quantized() *failure {
	q := c.t.Quantize
	if q == nil {
		return nil
	}
	x := c.node.Input(0)
	elem := c.values[x].Elem
	if c.node.Op == "QuantizeLinear" {
		elem = c.values[c.node.Output(0)].Elem
	}
	_, constant := c.consts[x]
	constant = constant && c.node.Op == "DequantizeLinear"
	if zp := c.node.Input(2); zp != "" && q.ZeroPoint == "zero" {
		if f := c.zeroPoint(zp); f != nil {
			return f
		}
	}
	if _, ok := c.consts[c.node.Input(1)]; !ok {
		return fail(NotConstant, "%s must be constant", c.inName(1))
	}
	allowed, what := q.Activations, "an activation"
	if constant {
		allowed, what = q.Weights, "a weight"
	}
	var scale = c.values[c.node.Input(1)].Shape
	block := int64(0)
	if a := c.node.Attr("block_size"); a != nil {
		block = a.I
	}
	typeKnown := false
	for _, form := range allowed {
		if !form.Elem.has(elem) || !inRange(c.t.Release.Version, form.From, "") {
			continue
		}
		typeKnown = true
		if form.fits(scale, block, c.node, len(c.values[x].Shape)) {
			if constant && block == 0 && len(scale) == 1 {
				c.outputChannels(len(c.values[x].Shape))
			}
			return nil
		}
	}
	if !typeKnown {
		return fail(BadType, "%v as the quantized type of %s", elem, what)
	}
	if block > 0 {
		return fail(BadForm, "%v in blocks of %d along axis %s of %s", elem, block, c.attr("axis", map[string]string{"axis": "1"}), what)
	}
	return fail(BadForm, "%v with scales of shape %v for %s", elem, scale, what)
}

// outputChannels warns where the scales of a MatMul's right side run along its
// rows: a product in integers needs one scale for all of a column.
func (c *call) outputChannels(rank int) {
	axis := int64(1)
	if a := c.node.Attr("axis"); a != nil {
		axis = a.I
	}
	if axis == int64(rank-1) || axis == -1 {
		return
	}
	for _, user := range c.index.Consumers(c.node.Output(0)) {
		if user.Op == "MatMul" && user.Input(1) == c.node.Output(0) {
			c.warn(c.node, "scales along the input channels of MatMul: int8 products need them along the output channels")
		}
	}
}

// fits reports whether the scales of a node have the form.
func (f quantForm) fits(scale onnx.Shape, block int64, n *onnx.Node, rank int) bool {
	if block > 0 {
		axis := int64(1)
		if a := n.Attr("axis"); a != nil {
			axis = a.I
		}
		if axis < 0 {
			axis += int64(rank)
		}
		return slices.Contains(f.Blocks, block) && (f.LastAxes == 0 || axis >= int64(rank-f.LastAxes))
	}
	if !scale.Known() {
		return false
	}
	return f.Tensor && (len(scale) == 0 || slices.Equal(scale, onnx.FixedShape(1))) || f.Channel && len(scale) == 1
}

// zeroPoint wants constant zeros.
func (c *call) zeroPoint(name string) *failure {
	init, ok := c.consts[name]
	if !ok {
		return fail(NotConstant, "the zero point (%s) must be constant zeros", name)
	}
	if init == nil || init.External != nil {
		return fail(BadForm, "the zero point (%s) must be zeros and cannot be read here: store it in the model, or leave it out", name)
	}
	if slices.ContainsFunc(init.Data, func(b byte) bool { return b != 0 }) {
		return fail(BadForm, "the zero point (%s) is not 0: only symmetric quantization is taken", name)
	}
	return nil
}

// noVectors refuses a product of a vector and something of higher rank.
func (c *call) noVectors() *failure {
	a, b := c.values[c.node.Input(0)].Shape, c.values[c.node.Input(1)].Shape
	if (len(a) == 1) != (len(b) == 1) {
		return fail(BadRank, "shapes %v and %v: a vector times a matrix is not taken", a, b)
	}
	return nil
}

// sameTypes wants all inputs of one element type.
func (c *call) sameTypes() *failure {
	first := c.values[c.node.Input(0)].Elem
	for i, name := range c.node.Inputs {
		if e := c.values[name].Elem; name != "" && e != first {
			return fail(BadType, "%s is %v, input 0 is %v", c.inName(i), e, first)
		}
	}
	return nil
}

// outputRank wants an output of no higher rank than inputs may have.
func (c *call) outputRank() *failure {
	if s := c.values[c.node.Output(0)].Shape; c.t.MaxRank > 0 && len(s) > c.t.MaxRank {
		return fail(BadRank, "the output has rank %d, at most %d are taken", len(s), c.t.MaxRank)
	}
	return nil
}

// scalarIndices is Gather with one index: its data must be static and of rank 4
// at most.
func (c *call) scalarIndices() *failure {
	x, indices := c.values[c.node.Input(0)].Shape, c.values[c.node.Input(1)].Shape
	if !indices.Known() || len(indices) > 0 {
		return nil
	}
	if _, fixed := x.Ints(); !fixed || len(x) > 4 {
		return fail(DynamicShape, "one index into shape %v: the data must be static and of rank 4 at most", x)
	}
	return nil
}

// noZeroShape refuses zeros in Reshape's shape where they mean the extent 0,
// an empty shape, and more than five extents.
func (c *call) noZeroShape() *failure {
	out := c.values[c.node.Output(0)].Shape
	switch {
	case len(c.values[c.node.Input(0)].Shape) == 0:
		return fail(BadRank, "a scalar is not reshaped")
	case len(out) == 0:
		return fail(BadRank, "the new shape is a scalar or not known")
	case slices.Contains(out, onnx.Fixed(0)):
		return fail(DynamicShape, "the new shape %v has an extent of 0", out)
	}
	return nil
}

// twoParts wants Split to make two parts or more.
func (c *call) twoParts() *failure {
	if len(c.node.Outputs) < 2 {
		return fail(BadForm, "a split into one part")
	}
	return nil
}

// notFirst refuses a node that no other node feeds.
func (c *call) notFirst() *failure {
	for _, name := range c.node.Inputs {
		for _, v := range c.m.Graph.Inputs {
			if v.Name == name {
				return fail(BadForm, "no node comes before it")
			}
		}
	}
	return nil
}
