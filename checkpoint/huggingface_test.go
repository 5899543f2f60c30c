package checkpoint_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
)

// stories is the smallest real checkpoint.
const stories = "../../shared/data/stories260K-hf"

func TestStories(t *testing.T) {
	c, err := checkpoint.Open(t.Context(), stories, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	spec, err := arch.Parse(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(spec.Weights()); err != nil {
		t.Fatal(err)
	}
	if extra := c.Extra(spec.Weights()); len(extra) > 0 {
		t.Errorf("extra tensors: %v", extra)
	}
	for _, f := range c.SupportFiles() {
		got, err := f.Data()
		want, wantErr := os.ReadFile(filepath.Join(stories, f.Name))
		if err != nil || wantErr != nil || string(got) != string(want) {
			t.Errorf("%s: %v, %v, or content differs", f.Name, err, wantErr)
		}
	}
}
