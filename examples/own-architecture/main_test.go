package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/samples"
)

// TestRun gives the sample EXAONE's names: what comes out must tell the story
// that the sample tells.
func TestRun(t *testing.T) {
	library := oracle.Library(t)
	model, output := exaone(t), filepath.Join(t.TempDir(), "out")
	if _, err := checkpoint.Open(t.Context(), model, checkpoint.Options{}); err != nil {
		t.Fatal(err) // opening takes any class; converting does not
	}
	if err := run(t.Context(), model, output); err != nil {
		t.Fatal(err)
	}
	folder, err := modeldir.Open(filepath.Join(output, "onnx", "cpu", "int8"))
	if err != nil {
		t.Fatal(err)
	}
	backend, err := onnxruntime.New(onnxruntime.Options{Library: library})
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	session, err := backend.Open(t.Context(), folder, infer.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	var want struct {
		Prompt []int32 `json:"prompt_ids"`
		IDs    []int32 `json:"greedy_ids"`
	}
	data, err := fs.ReadFile(samples.Stories260K(), "expected_greedy.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	const n = 40 // 8 bits tell the same story for a while
	r, err := infer.Generate(session, nil, want.Prompt, infer.Options{MaxTokens: n}).Run(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.IDs[len(want.Prompt):][:n], r.TokenIDs); diff != "" {
		t.Error(diff)
	}
}

// exaone writes the sample as a checkpoint of EXAONE 3 would be.
func exaone(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "exaone")
	if err := os.CopyFS(dir, samples.Stories260K()); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	config = []byte(strings.NewReplacer(
		"LlamaForCausalLM", "ExaoneForCausalLM", `"llama"`, `"exaone"`, "num_hidden_layers", "num_layers",
		"rms_norm_eps", "layer_norm_epsilon", "hidden_act", "activation_function",
	).Replace(string(config)))
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	weights := filepath.Join(dir, "model.safetensors")
	f, err := safetensors.Open(weights)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(weights)
	if err != nil {
		t.Fatal(err)
	}
	theirs := strings.NewReplacer(
		"model.embed_tokens.", "transformer.wte.", "model.norm.", "transformer.ln_f.", "model.layers.", "transformer.h.",
		".input_layernorm.", ".ln_1.", ".post_attention_layernorm.", ".ln_2.",
		".self_attn.o_proj.", ".attn.attention.out_proj.", ".self_attn.", ".attn.attention.",
		".mlp.gate_proj.", ".mlp.c_fc_0.", ".mlp.up_proj.", ".mlp.c_fc_1.", ".mlp.down_proj.", ".mlp.c_proj.",
	)
	var decls []safetensors.Decl
	var bodies [][]byte
	for _, info := range f.Infos() {
		decls = append(decls, safetensors.Decl{Name: theirs.Replace(info.Name), Type: info.Type, Shape: info.Shape})
		bodies = append(bodies, data[info.Offset:info.Offset+info.Bytes])
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	header, _, err := safetensors.Layout(decls, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bodies {
		header = append(header, b...)
	}
	if err := os.WriteFile(weights, header, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
