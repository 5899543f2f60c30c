package convert_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// TestIntegerInputs converts every tiny checkpoint with 8-bit activations and
// wants the reference's logits, as near as 8-bit weights alone come, in one run
// and token by token; and the artifact to say what it does.
func TestIntegerInputs(t *testing.T) {
	backend := openBackend(t)
	for _, v := range tinymodel.Variants() {
		t.Run(v.Name, func(t *testing.T) {
			src, out := filepath.Join(t.TempDir(), v.Name), t.TempDir()
			if err := tinymodel.Write(src, v); err != nil {
				t.Fatal(err)
			}
			run(t, src, convert.Options{Output: out, NoBase: true, Targets: []convert.Target{{Name: "cpu", Recipes: []string{"int8", "int8-w8a8"}}}})
			tokens, want := referenceLogits(t, v)
			dir := filepath.Join(out, "onnx", "cpu", "int8-w8a8")
			compareAll(t, backend, dir, tokens, want, 0.1, 0.1)
			compareSteps(t, backend, dir, tokens, want, 0.1, 0.1)

			for name, integers := range map[string]bool{"int8-w8a8": true, "int8": false} {
				f, err := modeldir.Open(filepath.Join(out, "onnx", "cpu", name))
				if err != nil {
					t.Fatal(err)
				}
				said := f.Metadata.Target.IntegerInputs
				if strings.HasPrefix(said, "q, k, v, o, gate, up: a step for each position") != integers || (said == "") == integers {
					t.Errorf("%s: metadata says %q of integer inputs", name, said)
				}
				if got := f.GenAI.Model.Decoder.SessionOptions.ExactProducts; (got == "1") != integers {
					t.Errorf("%s: genai_config.json has x64quantprecision %q", name, got)
				}
			}
		})
	}
}
