package checkpoint

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// maxProblems is how many problems an error of [Checkpoint.Check] spells out.
const maxProblems = 8

// Check makes sure that every wanted weight is there, with the wanted shape and
// an element type that converts to float32, and that the wanted layers hold
// nothing else: a bias or scale that the config does not speak of would be left
// out, and the model be wrong. All problems come in one error.
func (c *Checkpoint) Check(want []arch.Weight) error {
	var broken, unsupported []string
	want = arch.StoredAs(want)
	for _, w := range want {
		t, ok := c.Stored(w.Name)
		switch {
		case !ok:
			broken = append(broken, fmt.Sprintf("tensor %q is missing", w.Name))
		case !t.Shape.Equal(w.Shape):
			broken = append(broken, fmt.Sprintf("tensor %q has shape %v, the config asks for %v", t.Name, t.Shape, w.Shape))
		case !readable(t.Type):
			unsupported = append(unsupported, fmt.Sprintf("tensor %q has element type %s", t.Name, t.Type))
		}
	}
	for _, name := range c.unhonoured(want) {
		unsupported = append(unsupported, fmt.Sprintf("tensor %q has no place in the architecture that the config names", name))
	}
	switch {
	case len(broken) > 0:
		return &tensor.FormatError{Path: c.path, Offset: -1, Field: "weights", Err: errors.New(list(append(broken, unsupported...)))}
	case len(unsupported) > 0:
		return &tensor.UnsupportedError{What: list(unsupported) + " in " + c.path, Hint: "read are F32, F16, BF16 and the common GGUF block types, in the layout of the original model; convert the original checkpoint instead"}
	}
	return nil
}

// list joins problems, cutting a long list.
func list(problems []string) string {
	text := strings.Join(problems[:min(len(problems), maxProblems)], "; ")
	if n := len(problems) - maxProblems; n > 0 {
		text += fmt.Sprintf("; and %d more", n)
	}
	return text
}

// unhonoured lists the extra tensors that belong to a wanted layer or module.
func (c *Checkpoint) unhonoured(want []arch.Weight) []string {
	modules := map[string]bool{}
	for _, w := range want {
		if m := layerPrefix.FindString(w.Name); m != "" {
			modules[m] = true
		} else {
			modules[w.Name[:strings.LastIndexByte(w.Name, '.')+1]] = true
		}
	}
	var names []string
	for _, name := range c.Extra(want) {
		plain := textName(name)
		m := layerPrefix.FindString(plain)
		if m == "" {
			m = plain[:strings.LastIndexByte(plain, '.')+1]
		}
		if modules[m] {
			names = append(names, name)
		}
	}
	return names
}

var layerPrefix = regexp.MustCompile(`^model\.layers\.\d+\.`)

// harmless matches buffers that old checkpoints carry and that follow from the
// config: rotary tables and attention masks.
var harmless = regexp.MustCompile(`(rotary_emb\.(inv_freq|cos_cached|sin_cached)|\.attn\.(bias|masked_bias)|\.self_attn\.(bias|masked_bias))$`)

// Extra lists the tensors that are not wanted: parts of the checkpoint that the
// conversion leaves out. Buffers known to be harmless are not listed, nor is a
// head beside a tied embedding.
func (c *Checkpoint) Extra(want []arch.Weight) []string {
	known := map[string]bool{"lm_head.weight": true}
	for _, w := range arch.StoredAs(want) {
		if t, ok := c.Stored(w.Name); ok {
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
