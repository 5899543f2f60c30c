package checkpoint

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// maxProblems is how many problems an error of [Checkpoint.Check] spells out.
const maxProblems = 8

// Check makes sure that every wanted weight is there, with the wanted shape and
// an element type that converts to float32. All problems come in one error.
func (c *Checkpoint) Check(want []arch.Weight) error {
	var problems []string
	unsupported := ""
	for _, w := range want {
		t, ok := c.Tensor(w.Name)
		switch {
		case !ok:
			problems = append(problems, fmt.Sprintf("tensor %q is missing", w.Name))
		case !t.Shape.Equal(w.Shape):
			problems = append(problems, fmt.Sprintf("tensor %q has shape %v, the config asks for %v", t.Name, t.Shape, w.Shape))
		case !readable(t.Type):
			problems = append(problems, fmt.Sprintf("tensor %q has element type %s", t.Name, t.Type))
			unsupported = t.Type
		}
	}
	if len(problems) == 0 {
		return nil
	}
	text := strings.Join(problems[:min(len(problems), maxProblems)], "; ")
	if n := len(problems) - maxProblems; n > 0 {
		text += fmt.Sprintf("; and %d more", n)
	}
	if unsupported != "" && strings.Count(text, "element type") == len(problems) {
		return &tensor.UnsupportedError{What: text + " in " + c.path, Hint: "weights must be floats (F32, F16, BF16) or a GGUF block type this release reads; convert the original checkpoint instead"}
	}
	return &tensor.FormatError{Path: c.path, Offset: -1, Field: "weights", Err: fmt.Errorf("%s", text)}
}

// harmless matches buffers that old checkpoints carry and that follow from the
// config: rotary tables and attention masks.
var harmless = regexp.MustCompile(`(rotary_emb\.(inv_freq|cos_cached|sin_cached)|\.attn\.(bias|masked_bias)|\.self_attn\.(bias|masked_bias))$`)

// Extra lists the tensors that are not wanted: parts of the checkpoint that the
// conversion leaves out. Buffers known to be harmless are not listed, nor is a
// head beside a tied embedding.
func (c *Checkpoint) Extra(want []arch.Weight) []string {
	known := map[string]bool{"lm_head.weight": true}
	for _, w := range want {
		if t, ok := c.Tensor(w.Name); ok {
			known[t.Name] = true
		}
	}
	var extra []string
	for _, t := range c.tensors {
		if !known[t.Name] && !harmless.MatchString(t.Name) {
			extra = append(extra, t.Name)
		}
	}
	return extra
}
