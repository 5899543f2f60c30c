package tinymodel

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

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

// shards deals the tensors, in checkpoint order, to Shards files.
func (v Variant) shards(ws []weight, files map[string][]byte) error {
	if v.Shards < 2 {
		files["model.safetensors"] = v.safetensors(ws)
		return nil
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
		files[name] = v.safetensors(part)
	}
	index := map[string]any{"metadata": map[string]any{"total_size": total}, "weight_map": weightMap}
	b, err := json.MarshalIndent(index, "", "  ")
	files["model.safetensors.index.json"] = b
	return err
}

// safetensors is one file: header length, JSON header, data.
func (v Variant) safetensors(ws []weight) []byte {
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	var data []byte
	for _, w := range ws {
		at := len(data)
		data = append(data, make([]byte, len(w.values)*v.DType.Size())...)
		switch v.DType {
		case tensor.F16:
			tensor.EncodeF16(data[at:], w.values)
		case tensor.BF16:
			tensor.EncodeBF16(data[at:], w.values)
		default:
			tensor.EncodeF32(data[at:], w.values)
		}
		header[w.name] = map[string]any{"dtype": v.DType.String(), "shape": w.shape, "data_offsets": []int{at, len(data)}}
	}
	h, err := json.Marshal(maps.Clone(header))
	if err != nil {
		panic(err) // strings and numbers only
	}
	for len(h)%8 != 0 {
		h = append(h, ' ')
	}
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(h))), h...), data...)
}
