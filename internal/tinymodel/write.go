package tinymodel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/samples"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Write makes dir, where need be, and writes v as a Hugging Face folder:
// config.json, generation_config.json, one or more safetensors files, the
// tokenizer of stories260K.
func Write(dir string, v Variant) error {
	s, err := v.Spec()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write tiny checkpoint %s: %w", v.Name, err)
	}
	files := map[string][]byte{"config.json": v.ConfigJSON()}
	if err := v.tokenizer(files); err != nil {
		return fmt.Errorf("write tiny checkpoint %s: %w", v.Name, err)
	}
	gen := v.Generation
	if gen == nil {
		gen = map[string]any{"bos_token_id": s.BOS, "eos_token_id": s.EOS[0]}
	}
	if files["generation_config.json"], err = json.MarshalIndent(gen, "", "  "); err != nil {
		return fmt.Errorf("write tiny checkpoint %s: %w", v.Name, err)
	}
	if err := v.shards(v.weights(s), files); err != nil {
		return fmt.Errorf("write tiny checkpoint %s: %w", v.Name, err)
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return fmt.Errorf("write tiny checkpoint %s: %w", v.Name, err)
		}
	}
	return nil
}

// tokenizer adds stories260K's tokenizer files and the chat template.
func (v Variant) tokenizer(files map[string][]byte) error {
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"} {
		b, err := fs.ReadFile(samples.Stories260K(), name)
		if err != nil {
			return err
		}
		files[name] = b
	}
	switch {
	case v.TemplateInConfig:
		var c map[string]any
		if err := json.Unmarshal(files["tokenizer_config.json"], &c); err != nil {
			return err
		}
		c["chat_template"] = v.ChatTemplate
		b, err := json.MarshalIndent(c, "", "  ")
		if err != nil {
			return err
		}
		files["tokenizer_config.json"] = b
	case v.ChatTemplate != "":
		files["chat_template.jinja"] = []byte(v.ChatTemplate)
	}
	return nil
}

// shards deals the tensors, in checkpoint order and by number, to v.Shards
// files. [safetensors.ShardedWriter] would deal by size, and such small ones
// to a single file.
func (v Variant) shards(ws []weight, files map[string][]byte) error {
	if v.Shards < 2 {
		b, err := v.safetensors(ws)
		files["model.safetensors"] = b
		return err
	}
	weightMap := map[string]string{}
	total := 0
	for i := range v.Shards {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, v.Shards)
		part := ws[len(ws)*i/v.Shards : len(ws)*(i+1)/v.Shards]
		for _, w := range part {
			weightMap[w.name] = name
			total += len(w.values) * v.DType.Size()
		}
		b, err := v.safetensors(part)
		if err != nil {
			return err
		}
		files[name] = b
	}
	index := map[string]any{"metadata": map[string]any{"total_size": total}, "weight_map": weightMap}
	b, err := json.MarshalIndent(index, "", "  ")
	files[safetensors.IndexName] = b
	return err
}

// safetensors is one file.
func (v Variant) safetensors(ws []weight) ([]byte, error) {
	var file bytes.Buffer
	w := safetensors.NewWriter(&file, map[string]string{"format": "pt"})
	for _, t := range ws {
		w.Declare(safetensors.Decl{Name: t.name, Type: v.DType.String(), Shape: t.shape})
	}
	if err := w.WriteHeader(); err != nil {
		return nil, err
	}
	for _, t := range ws {
		if err := w.WriteTensor(t.name, bytes.NewReader(v.encode(t.values))); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return file.Bytes(), nil
}

func (v Variant) encode(x []float32) []byte {
	b := make([]byte, len(x)*v.DType.Size())
	switch v.DType {
	case tensor.F16:
		tensor.EncodeF16(b, x)
	case tensor.BF16:
		tensor.EncodeBF16(b, x)
	default:
		tensor.EncodeF32(b, x)
	}
	return b
}
