package togguf

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
)

// Override gives the matrices whose names match Pattern a type of their own; the
// first that matches counts. Vectors stay F32.
type Override struct {
	Pattern *regexp.Regexp
	Type    ggml.Type
}

// ParseOverride reads PATTERN=TYPE as llama-quantize --tensor-type does: a
// regular expression that is looked for in the tensor's name, in lower case,
// such as "attn_v=q8_0" or "\.([0-3])\.ffn_down=q6_k".
func ParseOverride(s string) (Override, error) {
	i := strings.LastIndexByte(s, '=')
	if i <= 0 {
		return Override{}, fmt.Errorf("tensor type %q is not PATTERN=TYPE", s)
	}
	t, ok := ggml.ParseType(strings.ToUpper(strings.TrimSpace(s[i+1:])))
	if !ok || !t.Encodes() {
		return Override{}, fmt.Errorf("tensor type %q: %q is no type that can be written", s, s[i+1:])
	}
	p, err := regexp.Compile(s[:i])
	if err != nil {
		return Override{}, fmt.Errorf("tensor type %q: %w", s, err)
	}
	return Override{p, t}, nil
}
