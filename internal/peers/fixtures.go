package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// fixtures lets genai's builder convert tiny checkpoints into testdata/genai,
// where tests run them: the builder needs torch, which tests do without.
func fixtures(ctx context.Context, s *setup) error {
	shop, backend, err := s.open(ctx)
	if err != nil {
		return err
	}
	backend.Close()
	for _, f := range []struct {
		variant, name string
		recipe        []string
	}{
		{"smollm2", "smollm2-int4", []string{"int4"}},
		{"qwen3", "qwen3-int8", []string{"int8", "prune_lm_head=true"}},
		{"qwen2", "qwen2-int4-rtn", []string{"int4", "algo_config=rtn"}},
		{"llama3", "llama3-fp32", []string{"fp32"}},
	} {
		if err := fixture(ctx, shop, f.variant, filepath.Join("internal", "peers", "testdata", "genai", f.name), f.recipe); err != nil {
			return fmt.Errorf("make %s: %w", f.name, err)
		}
	}
	return nil
}

func fixture(ctx context.Context, shop *workshop, variant, to string, recipe []string) error {
	v, err := tinymodel.ByName(variant)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(shop.dir, "fixture-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	in, out := filepath.Join(tmp, "in"), filepath.Join(tmp, "out")
	if err := tinymodel.Write(in, v); err != nil {
		return err
	}
	if err := shop.command(ctx, shop.python, builderArgs(in, out, recipe)...); err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, name := range []string{modeldir.ModelFile, modeldir.DataFile, modeldir.GenAIConfigFile} {
		b, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
