package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/internal/fakehub"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/samples"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// TestLoRA runs the scripts of testdata/lora, which have
//
//	same A B    wants two files of the same content; with ! other ones
//
// They find an adapter for the
// sample in ./adapter and as the hub's tiny/lora, and in ./merged the sample
// with the adapter in its weights.
func TestLoRA(t *testing.T) {
	library := oracle.Library(t)
	dir := t.TempDir()
	sample, adapter, merged := filepath.Join(dir, "sample"), filepath.Join(dir, "adapter"), filepath.Join(dir, "merged")
	for _, d := range []string{sample, merged} {
		if err := os.CopyFS(d, samples.Stories260K()); err != nil {
			t.Fatal(err)
		}
	}
	writeAdapter(t, adapter)
	mergeInto(t, merged, sample, adapter)
	files, err := fakehub.FromFS(os.DirFS(adapter))
	if err != nil {
		t.Fatal(err)
	}
	s := fakehub.New(t, map[string]*fakehub.Model{"tiny/lora": {Files: files}})
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "lora"),
		Setup: func(e *testscript.Env) error {
			e.Setenv(libraryEnv, library)
			e.Setenv("LLAMA_PAJAMAS_CACHE", filepath.Join(e.WorkDir, "cache"))
			e.Setenv("HF_HOME", filepath.Join(e.WorkDir, "hf"))
			e.Setenv("HF_ENDPOINT", s.URL)
			return os.CopyFS(e.WorkDir, os.DirFS(dir))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"same": sameCmd},
	})
}

// sameCmd is cmp for files that nobody wants to see in a log.
func sameCmd(ts *testscript.TestScript, neg bool, args []string) {
	a, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	b, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	if equal := bytes.Equal(a, b); equal == neg {
		ts.Fatalf("%s and %s: equal is %v", args[0], args[1], equal)
	}
}

// writeAdapter writes a LoRA adapter of rank 2 for two matrices of the sample.
func writeAdapter(t *testing.T, dir string) {
	t.Helper()
	config, err := json.Marshal(map[string]any{"peft_type": "LORA", "r": 2, "lora_alpha": 3, "target_modules": []string{"q_proj", "down_proj"}})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	values := func(n int) tensor.Floats {
		v := make(tensor.Floats, n)
		for i := range v {
			v[i] = float32(0.2 * r.NormFloat64())
		}
		return v
	}
	ts := map[string]*tensor.Tensor{}
	for module, shape := range map[string][2]int{"self_attn.q_proj": {64, 64}, "mlp.down_proj": {64, 172}} {
		name := "base_model.model.model.layers.1." + module
		ts[name+".lora_A.weight"] = &tensor.Tensor{Shape: tensor.Shape{2, shape[1]}, Reader: values(2 * shape[1])}
		ts[name+".lora_B.weight"] = &tensor.Tensor{Shape: tensor.Shape{shape[0], 2}, Reader: values(2 * shape[0])}
	}
	var list []*tensor.Tensor
	for name, x := range ts {
		x.Name = name
		list = append(list, x)
	}
	err = os.MkdirAll(dir, 0o755)
	err = errors.Join(err, os.WriteFile(filepath.Join(dir, "adapter_config.json"), config, 0o600))
	if err := errors.Join(err, writeF32(filepath.Join(dir, "adapter_model.safetensors"), list)); err != nil {
		t.Fatal(err)
	}
}

// mergeInto writes the weights of a checkpoint with an adapter.
func mergeInto(t *testing.T, dst, src, adapter string) {
	t.Helper()
	ck, err := checkpoint.Open(t.Context(), src, checkpoint.Options{LoRA: adapter})
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	if err := writeF32(filepath.Join(dst, "model.safetensors"), ck.Tensors()); err != nil {
		t.Fatal(err)
	}
}

func writeF32(path string, ts []*tensor.Tensor) error {
	var b bytes.Buffer
	w := safetensors.NewWriter(&b, nil)
	for _, x := range ts {
		w.Declare(safetensors.Decl{Name: x.Name, Type: "F32", Shape: x.Shape})
	}
	err := w.WriteHeader()
	for _, x := range ts {
		err = errors.Join(err, w.WriteTensor(x.Name, tensor.Stream{R: x, Elements: x.Elements(), DType: tensor.F32}))
	}
	return errors.Join(err, w.Close(), os.WriteFile(path, b.Bytes(), 0o600))
}
