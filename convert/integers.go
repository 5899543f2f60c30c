package convert

import (
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
	"github.com/llama-pajamas/llama-pajamas/convert/toonnx"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// integerInputs says which matrices multiply activations of 8 bits, how, and
// why; "" where none does.
func integerInputs(s *arch.Spec, r *recipe.Recipe) string {
	var roles []string
	for _, w := range s.Weights() {
		if w.Role.IsMatrix() && toonnx.Form(s, r, w).Int8Input && !slices.Contains(roles, w.Role.String()) {
			roles = append(roles, w.Role.String())
		}
	}
	switch {
	case len(roles) == 0:
		return ""
	case r.Dialect == "fused":
		return strings.Join(roles, ", ") + ": a step for each position, found at run time; " +
			"measured faster than blocks for prompts on x86 with VNNI and without (docs/kernels.md)"
	}
	return strings.Join(roles, ", ") + ": one step, found by calibration; what " + r.Target + " computes in 8-bit integers"
}

// multipliesIntegers reports whether a graph quantizes activations.
func multipliesIntegers(m *onnx.Model) bool {
	return slices.ContainsFunc(m.Graph.Nodes, func(n *onnx.Node) bool { return n.Op == "QuantizeLinear" })
}

// keepsBlocks reports whether the checkpoint's own blocks are to be found again
// in an artifact, for which its weights must not be folded. Where activations
// take 8 bits a fold is worth more than exact weights: on SmolLM2-135M KL is
// 0.024 without and 0.005 with it.
func (j *Job) keepsBlocks(a *Artifact) bool {
	return j.lossless() && a.Metadata.Target.IntegerInputs == ""
}
