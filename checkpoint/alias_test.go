package checkpoint_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/samples"
)

// TestAlias: a class that is not known, read as one that is.
func TestAlias(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, samples.Stories260K()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.json")
	config, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(config), "LlamaForCausalLM", "OwnForCausalLM", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	back := func(config []byte) ([]byte, error) {
		return []byte(strings.Replace(string(config), "OwnForCausalLM", "LlamaForCausalLM", 1)), nil
	}
	tie := func(string) string { return "x" }
	broken := errors.New("broken")
	for _, c := range []struct {
		name    string
		aliases map[string]checkpoint.Alias
		open    string // error of Open
		known   bool
	}{
		{name: "none"},
		{name: "another class", aliases: map[string]checkpoint.Alias{"OtherForCausalLM": {Config: back}}},
		{name: "this class", aliases: map[string]checkpoint.Alias{"OwnForCausalLM": {Config: back}}, known: true},
		{name: "names that clash", aliases: map[string]checkpoint.Alias{"OwnForCausalLM": {Config: back, Tensor: tie}}, open: `both become "x"`},
		{name: "an error", aliases: map[string]checkpoint.Alias{"OwnForCausalLM": {Config: func([]byte) ([]byte, error) { return nil, broken }}}, open: "as that of a known architecture: broken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ck, err := checkpoint.Open(t.Context(), dir, checkpoint.Options{Aliases: c.aliases})
			if c.open != "" {
				if err == nil || !strings.Contains(err.Error(), c.open) {
					t.Fatalf("error %v, want one with %q", err, c.open)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer ck.Close()
			spec, err := arch.Parse(ck.Config())
			if (err == nil) != c.known {
				t.Fatalf("known %t: %v", c.known, err)
			}
			if err == nil {
				if err := ck.Check(spec.Weights()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestAliasOfKnown: what package arch knows is read as it is.
func TestAliasOfKnown(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, samples.Stories260K()); err != nil {
		t.Fatal(err)
	}
	ck, err := checkpoint.Open(t.Context(), dir, checkpoint.Options{Aliases: map[string]checkpoint.Alias{
		"LlamaForCausalLM": {Config: func([]byte) ([]byte, error) { return nil, errors.New("called") }},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := ck.Close(); err != nil {
		t.Error(err)
	}
}
