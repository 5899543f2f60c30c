package checkpoint_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
)

// exercise does with a checkpoint what a conversion does.
func exercise(t *testing.T, c *checkpoint.Checkpoint) {
	t.Helper()
	if spec, err := arch.Parse(c.Config()); err == nil && spec.Layers < 64 {
		if c.Check(spec.Weights()) == nil {
			for _, w := range spec.Weights() {
				x, ok := c.Tensor(w.Name)
				if !ok || !x.Shape.Equal(w.Shape) {
					t.Errorf("Check passed, but tensor %s is %v", w.Name, x)
				}
			}
		}
		c.Extra(spec.Weights())
	}
	for _, w := range c.Tensors() {
		n := min(w.Elements(), 1000)
		w.ReadFloat32(make([]float32, n), w.Elements()-n)
	}
	for _, f := range c.SupportFiles() {
		f.Data()
	}
}

func FuzzGGUF(f *testing.F) {
	for _, m := range []*model{
		newModel("llama", nil), newModel("qwen2", nil),
		newModel("llama", func(m *model) {
			m.add("rope_freqs.weight", 2)
			m.keys["tokenizer.ggml.model"], m.keys["tokenizer.ggml.scores"] = "llama", []float32{0, -1, -2, 0, 0, 0}
		}),
	} {
		path := filepath.Join(f.TempDir(), "seed.gguf")
		m.write(f, path, nil)
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	path := filepath.Join(f.TempDir(), "x.gguf")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := checkpoint.Open(t.Context(), path, checkpoint.Options{})
		if err != nil {
			return
		}
		defer c.Close()
		if !json.Valid(c.Config()) {
			t.Errorf("config is no JSON: %s", c.Config())
		}
		exercise(t, c)
	})
}

func FuzzFolder(f *testing.F) {
	f.Add([]byte(tiny), []byte(`{"chat_template":[{"name":"default","template":"x"}]}`), []byte(`{"weight_map":{"a":"model.safetensors"}}`))
	f.Add([]byte(tiny), []byte(`{"chat_template":"x"}`), []byte(nil))
	dir := f.TempDir()
	weights(f, filepath.Join(dir, "model.safetensors"), nil)
	f.Fuzz(func(t *testing.T, config, tokenizerConfig, index []byte) {
		for name, b := range map[string][]byte{"config.json": config, "tokenizer_config.json": tokenizerConfig, "model.safetensors.index.json": index} {
			path := filepath.Join(dir, name)
			err := os.WriteFile(path, b, 0o600)
			if len(b) == 0 {
				err = os.Remove(path)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		c, err := checkpoint.Open(t.Context(), dir, checkpoint.Options{})
		if err != nil {
			return
		}
		defer c.Close()
		exercise(t, c)
	})
}
