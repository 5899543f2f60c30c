package checkpoint_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// matrix is a tensor in memory.
type matrix struct {
	shape tensor.Shape
	v     []float32
}

func random(r *rand.Rand, shape ...int) matrix {
	n, _ := tensor.Shape(shape).Elements()
	m := matrix{shape, make([]float32, n)}
	for i := range m.v {
		m.v[i] = float32(r.NormFloat64())
	}
	return m
}

// saveAdapter writes an adapter folder; set overrides what PEFT writes for a
// plain one, nil takes it out.
func saveAdapter(t testing.TB, dir string, tensors map[string]matrix, typ string, set map[string]any) string {
	t.Helper()
	config := map[string]any{
		"alpha_pattern": map[string]any{}, "auto_mapping": nil, "base_model_name_or_path": "some/model", "bias": "none",
		"corda_config": nil, "eva_config": nil, "exclude_modules": nil, "fan_in_fan_out": false, "inference_mode": true,
		"init_lora_weights": true, "layer_replication": nil, "layers_pattern": nil, "layers_to_transform": nil, "loftq_config": map[string]any{},
		"lora_alpha": 16, "lora_bias": false, "lora_dropout": 0.05, "megatron_config": nil, "megatron_core": "megatron.core",
		"modules_to_save": nil, "peft_type": "LORA", "peft_version": "0.18.0", "qalora_group_size": 16, "r": 4, "rank_pattern": map[string]any{},
		"revision": nil, "target_modules": []string{"q_proj", "v_proj"}, "target_parameters": nil, "task_type": "CAUSAL_LM",
		"trainable_token_indices": nil, "use_dora": false, "use_qalora": false, "use_rslora": false,
	}
	for k, v := range set {
		config[k] = v
		if v == nil {
			delete(config, k)
		}
	}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "adapter_config.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := safetensors.NewWriter(&out, map[string]string{"format": "pt"})
	names := slices.Sorted(maps.Keys(tensors))
	for _, n := range names {
		w.Declare(safetensors.Decl{Name: n, Type: typ, Shape: tensors[n].shape})
	}
	if err := w.WriteHeader(); err != nil {
		t.Fatal(err)
	}
	d, _ := tensor.ParseDType(typ)
	for _, n := range names {
		if err := w.WriteTensor(n, tensor.Stream{R: tensor.Floats(tensors[n].v), Elements: int64(len(tensors[n].v)), DType: d}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), os.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), out.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return dir
}

const layer0 = "base_model.model.model.layers.0."

// pairOf makes the factors of a module under PEFT's names.
func pairOf(r *rand.Rand, m map[string]matrix, module string, rank, in, out int) {
	m[module+".lora_A.weight"] = random(r, rank, in)
	m[module+".lora_B.weight"] = random(r, out, rank)
}

// base writes a tiny checkpoint: hidden 64, in F32.
func base(t testing.TB, variant string) string {
	t.Helper()
	v, err := tinymodel.ByName(variant)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), variant)
	if err := tinymodel.Write(dir, v); err != nil {
		t.Fatal(err)
	}
	return dir
}

// shapeOf is the shape of a base weight.
func shapeOf(t testing.TB, dir, name string) tensor.Shape {
	t.Helper()
	c, err := checkpoint.Open(t.Context(), dir, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w, ok := c.Tensor(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	return slices.Clone(w.Shape)
}

func wholeOf(t testing.TB, w *tensor.Tensor) []float32 {
	t.Helper()
	v := make([]float32, w.Elements())
	if err := w.ReadFloat32(v, 0); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestLoRAOracle merges adapters of every kind that is known here, and compares
// each tensor of the checkpoint with what numpy makes in float64.
func TestLoRAOracle(t *testing.T) {
	for what, tc := range map[string]struct {
		variant, typ string
		modules      []string
		rank         func(module string) int
		embedding    bool
		whole        []string
		set          map[string]any
	}{
		"plain":   {variant: "llama3-tied", typ: "F32", modules: []string{"layers.0.self_attn.q_proj", "layers.1.self_attn.v_proj"}},
		"bf16":    {variant: "llama3", typ: "BF16", modules: []string{"layers.0.self_attn.q_proj"}},
		"f16":     {variant: "smollm2", typ: "F16", modules: []string{"layers.1.self_attn.v_proj"}},
		"rslora":  {variant: "qwen3", typ: "F32", modules: []string{"layers.0.mlp.down_proj", "layers.0.mlp.up_proj"}, set: map[string]any{"use_rslora": true, "target_modules": "all-linear"}},
		"regexp":  {variant: "qwen3", typ: "F32", modules: []string{"layers.0.mlp.down_proj"}, set: map[string]any{"target_modules": `.*\.mlp\.(up|down)_proj`}},
		"default": {variant: "qwen2", typ: "F32", modules: []string{"layers.0.self_attn.q_proj.default"}},
		"patterns": {variant: "llama3", typ: "F32", modules: []string{"layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj", "layers.1.self_attn.k_proj", "layers.0.self_attn.o_proj"},
			rank: func(m string) int {
				switch {
				case strings.Contains(m, "layers.1.self_attn.q_proj"):
					return 7
				case strings.Contains(m, "k_proj"):
					return 1
				}
				return 4
			},
			set: map[string]any{
				"rank_pattern":  map[string]any{"layers.1.self_attn.q_proj": 7, "k_proj": 1},
				"alpha_pattern": map[string]any{"o_proj": 3.5, "^model.layers.0.*q_proj": 32}, "target_modules": []string{"q_proj", "k_proj", "o_proj"},
			}},
		"fan_in_fan_out": {variant: "llama3", typ: "F32", modules: []string{"layers.0.self_attn.q_proj", "layers.0.mlp.gate_proj"},
			set: map[string]any{"fan_in_fan_out": true, "target_modules": []string{"q_proj", "gate_proj"}}},
		"embedding": {variant: "llama3", typ: "F32", embedding: true, modules: []string{"layers.0.self_attn.q_proj"}, set: map[string]any{"target_modules": []string{"q_proj", "embed_tokens"}}},
		"whole":     {variant: "llama3", typ: "F32", modules: []string{"layers.0.self_attn.q_proj"}, whole: []string{"lm_head.weight", "model.norm.weight"}, set: map[string]any{"modules_to_save": []string{"lm_head", "norm"}}},
	} {
		t.Run(what, func(t *testing.T) {
			dir := base(t, tc.variant)
			r := rand.New(rand.NewPCG(1, 2))
			tensors := map[string]matrix{}
			for _, m := range tc.modules {
				shape := shapeOf(t, dir, "model."+strings.TrimSuffix(m, ".default")+".weight")
				rank := 4
				if tc.rank != nil {
					rank = tc.rank(m)
				}
				out, in := shape[0], shape[1]
				if tc.set["fan_in_fan_out"] == true {
					out, in = in, out
				}
				name, adapter := strings.TrimSuffix(m, ".default"), ""
				if name != m {
					adapter = ".default"
				}
				tensors["base_model.model.model."+name+".lora_A"+adapter+".weight"] = random(r, rank, in)
				tensors["base_model.model.model."+name+".lora_B"+adapter+".weight"] = random(r, out, rank)
			}
			if tc.embedding {
				shape := shapeOf(t, dir, "model.embed_tokens.weight")
				tensors["base_model.model.model.embed_tokens.lora_embedding_A"] = random(r, 4, shape[0])
				tensors["base_model.model.model.embed_tokens.lora_embedding_B"] = random(r, shape[1], 4)
			}
			for _, name := range tc.whole {
				tensors["base_model.model."+name] = random(r, shapeOf(t, dir, name)...)
			}
			adapter := saveAdapter(t, t.TempDir(), tensors, tc.typ, tc.set)
			want := filepath.Join(t.TempDir(), "merged.safetensors")
			oracle.Run(t, loraScript, nil, dir, adapter, want)
			compareMerged(t, dir, adapter, want)
		})
	}
}

// loraScript merges by the formulas of PEFT's documentation, in float64.
const loraScript = `
import sys, json, glob, re, math, numpy as np, ml_dtypes
base, adapter, out = sys.argv[1:]
def load(path):
    data = open(path, "rb").read()
    n = int.from_bytes(data[:8], "little")
    kinds = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    return {k: np.frombuffer(data[8+n:][v["data_offsets"][0]:v["data_offsets"][1]], kinds[v["dtype"]]).astype(np.float64).reshape(v["shape"])
            for k, v in json.loads(data[8:8+n]).items() if k != "__metadata__"}
w = {}
for f in glob.glob(base + "/*.safetensors"):
    w.update(load(f))
c = json.load(open(adapter + "/adapter_config.json"))
t = {re.sub(r"^base_model\.model\.", "", k).replace(".default", ""): v for k, v in load(adapter + "/adapter_model.safetensors").items()}
def pick(pattern, module, value):
    return next((v for k, v in pattern.items() if re.match(r"(.*\.)?(%s)$" % k, module)), value)
for k, v in t.items():
    if k.endswith(".lora_A.weight") or k.endswith(".lora_embedding_A"):
        module = re.sub(r"\.lora_(embedding_)?A(\.weight)?$", "", k)
        b = t[k.replace("lora_A", "lora_B").replace("embedding_A", "embedding_B")]
        r = pick(c["rank_pattern"], module, c["r"])
        alpha = pick(c["alpha_pattern"], module, c["lora_alpha"])
        delta = (b @ v) * (alpha / math.sqrt(r) if c["use_rslora"] else alpha / r)
        w[module + ".weight"] = w[module + ".weight"] + (delta.T if c["fan_in_fan_out"] or "embedding" in k else delta)
    elif "lora_" not in k:
        w[k] = v
from safetensors.numpy import save_file
save_file({k: v.astype(np.float32) for k, v in w.items()}, out)
`

// compareMerged compares every tensor of the base with the adapter against a
// file of merged ones: float32 rounding apart, the same; and pieces read alone
// are the pieces of the whole.
func compareMerged(t *testing.T, dir, adapter, merged string) {
	t.Helper()
	c, err := checkpoint.Open(t.Context(), dir, checkpoint.Options{LoRA: adapter})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Adapter() != adapter {
		t.Errorf("Adapter() = %q", c.Adapter())
	}
	var sources []string
	for _, f := range c.SourceFiles() {
		sources = append(sources, f.Name)
	}
	if !slices.Contains(sources, "adapter_config.json") || !slices.Contains(sources, "adapter_model.safetensors") {
		t.Errorf("source files %v lack the adapter's", sources)
	}
	want, err := safetensors.Open(merged)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	r := rand.New(rand.NewPCG(3, 4))
	for _, w := range c.Tensors() {
		x, ok := want.Tensor(w.Name)
		if !ok || !x.Shape.Equal(w.Shape) {
			t.Errorf("%s: the oracle has %v", w.Name, x)
			continue
		}
		got, exp := wholeOf(t, w), wholeOf(t, x)
		for i := range got {
			if d := math.Abs(float64(got[i]) - float64(exp[i])); d > 4e-6*math.Max(1, math.Abs(float64(exp[i]))) {
				t.Errorf("%s[%d] = %g, want %g", w.Name, i, got[i], exp[i])
				break
			}
		}
		for range 20 {
			from := r.IntN(len(got))
			piece := make([]float32, r.IntN(len(got)-from+1))
			if err := w.ReadFloat32(piece, int64(from)); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(piece, got[from:from+len(piece)]) {
				t.Errorf("%s: %d elements from %d differ from the whole", w.Name, len(piece), from)
			}
		}
		if err := w.ReadFloat32(make([]float32, 2), int64(len(got))-1); err == nil {
			t.Errorf("%s: read beyond the end", w.Name)
		}
	}
}

// TestLoRAGGUF: the rows of a GGUF file's q projection are put in order before
// the product is added.
func TestLoRAGGUF(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	m := newModel("llama", nil)
	r := rand.New(rand.NewPCG(5, 6))
	m.values["blk.0.attn_q.weight"] = random(r, 8, 8).v
	m.write(t, path, nil)
	tensors := map[string]matrix{}
	pairOf(r, tensors, layer0+"self_attn.q_proj", 4, 8, 8)
	adapter := saveAdapter(t, t.TempDir(), tensors, "F32", nil)
	plain, err := checkpoint.Open(t.Context(), path, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	merged, err := checkpoint.Open(t.Context(), path, checkpoint.Options{LoRA: adapter})
	if err != nil {
		t.Fatal(err)
	}
	defer merged.Close()
	w, _ := plain.Tensor("model.layers.0.self_attn.q_proj.weight")
	x, _ := merged.Tensor("model.layers.0.self_attn.q_proj.weight")
	before, after := wholeOf(t, w), wholeOf(t, x)
	a, b := tensors[layer0+"self_attn.q_proj.lora_A.weight"].v, tensors[layer0+"self_attn.q_proj.lora_B.weight"].v
	for i := range before {
		want := float64(before[i])
		for k := range 4 {
			want += 4 * float64(b[i/8*4+k]) * float64(a[k*8+i%8]) // lora_alpha 16 / r 4
		}
		if math.Abs(float64(after[i])-want) > 1e-4 {
			t.Fatalf("element %d: %g, want %g", i, after[i], want)
		}
	}
}

// TestLoRARefused: what cannot be merged is refused by name, not half done.
func TestLoRARefused(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	dir, tied := base(t, "llama3"), base(t, "llama3-tied")
	q := shapeOf(t, dir, "model.layers.0.self_attn.q_proj.weight")
	embed := shapeOf(t, dir, "model.embed_tokens.weight")
	plain := func(change func(m map[string]matrix)) map[string]matrix {
		m := map[string]matrix{}
		pairOf(r, m, layer0+"self_attn.q_proj", 4, q[1], q[0])
		if change != nil {
			change(m)
		}
		return m
	}
	qA, qB := layer0+"self_attn.q_proj.lora_A.weight", layer0+"self_attn.q_proj.lora_B.weight"
	for what, tc := range map[string]struct {
		base    string
		tensors map[string]matrix
		set     map[string]any
		want    string
	}{
		"DoRA":           {dir, plain(nil), map[string]any{"use_dora": true}, "use_dora = true"},
		"DoRA tensor":    {dir, plain(func(m map[string]matrix) { m[layer0+"self_attn.q_proj.lora_magnitude_vector"] = random(r, 8) }), nil, "lora_magnitude_vector"},
		"no LoRA":        {dir, plain(nil), map[string]any{"peft_type": "LOHA"}, "type LOHA"},
		"no PEFT":        {dir, plain(nil), map[string]any{"peft_type": nil}, "peft_type"},
		"unknown":        {dir, plain(nil), map[string]any{"use_magic": 0.5}, "use_magic = 0.5"},
		"bias":           {dir, plain(nil), map[string]any{"bias": "all"}, `bias = "all"`},
		"lora_bias":      {dir, plain(nil), map[string]any{"lora_bias": true}, "lora_bias"},
		"PiSSA":          {dir, plain(nil), map[string]any{"init_lora_weights": "pissa_niter_16"}, "pissa"},
		"tokens":         {dir, plain(nil), map[string]any{"trainable_token_indices": []int{1}}, "trainable_token_indices"},
		"parameters":     {dir, plain(nil), map[string]any{"target_parameters": []string{"x"}}, "target_parameters"},
		"aLoRA":          {dir, plain(nil), map[string]any{"alora_invocation_tokens": []int{1, 2}}, "alora_invocation_tokens"},
		"replication":    {dir, plain(nil), map[string]any{"layer_replication": [][]int{{0, 1}}}, "layer_replication"},
		"rank":           {dir, plain(nil), map[string]any{"r": 8}, "rank 8"},
		"rank 0":         {dir, plain(nil), map[string]any{"r": 0}, "rank 0"},
		"rank pattern 0": {dir, plain(func(m map[string]matrix) { m[qA], m[qB] = random(r, 0, q[1]), random(r, q[0], 0) }), map[string]any{"rank_pattern": map[string]any{"q_proj": 0}}, "rank 0"},
		"bad pattern":    {dir, plain(nil), map[string]any{"rank_pattern": map[string]any{"(": 4}}, "rank_pattern"},
		"bad type":       {dir, plain(nil), map[string]any{"r": "four"}, "r"},
		"bad targets":    {dir, plain(nil), map[string]any{"target_modules": 7}, "target_modules"},
		"other targets":  {dir, plain(nil), map[string]any{"target_modules": []string{"k_proj", "proj"}}, "none of the target_modules"},
		"target regexp":  {dir, plain(nil), map[string]any{"target_modules": ".*k_proj"}, "none of the target_modules"},
		"half":           {dir, plain(func(m map[string]matrix) { delete(m, qB) }), nil, "one of the factors"},
		"none":           {dir, map[string]matrix{}, nil, "none of them is a LoRA factor"},
		"shape":          {dir, plain(func(m map[string]matrix) { m[qA] = random(r, 4, q[1]+1) }), nil, "base model's weight is"},
		"vector":         {dir, plain(func(m map[string]matrix) { m[qA] = random(r, 4) }), nil, "no matrix"},
		"no such module": {dir, plain(func(m map[string]matrix) { pairOf(r, m, layer0+"self_attn.qq.q_proj", 4, 8, 8) }), nil, "no LoRA factor of a weight"},
		"layer beyond":   {dir, plain(func(m map[string]matrix) { pairOf(r, m, "base_model.model.model.layers.9.self_attn.q_proj", 4, 8, 8) }), nil, "layers.9"},
		"new tokens":     {dir, plain(func(m map[string]matrix) { m["base_model.model.lm_head.weight"] = random(r, embed[0]+1, embed[1]) }), nil, "vocabulary was extended"},
		"tied head":      {tied, plain(func(m map[string]matrix) { m["base_model.model.lm_head.weight"] = random(r, embed...) }), nil, "lm_head.weight"},
		"tied embedding": {tied, plain(func(m map[string]matrix) { m["base_model.model.model.embed_tokens.weight"] = random(r, embed...) }), nil, "tied to the head"},
		"tied embedding2": {tied, plain(func(m map[string]matrix) {
			m["base_model.model.model.embed_tokens.lora_embedding_A"] = random(r, 4, embed[0])
			m["base_model.model.model.embed_tokens.lora_embedding_B"] = random(r, embed[1], 4)
		}), map[string]any{"target_modules": []string{"q_proj", "embed_tokens"}}, "tied to the head"},
	} {
		t.Run(what, func(t *testing.T) {
			adapter := saveAdapter(t, t.TempDir(), tc.tensors, "F32", tc.set)
			c, err := checkpoint.Open(t.Context(), tc.base, checkpoint.Options{LoRA: adapter})
			if err == nil {
				c.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tc.want) || !errors.As(err, new(*tensor.UnsupportedError)) && !errors.As(err, new(*tensor.FormatError)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
	empty := t.TempDir()
	if _, err := checkpoint.Open(t.Context(), dir, checkpoint.Options{LoRA: empty}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	pickle := saveAdapter(t, t.TempDir(), plain(nil), "F32", nil)
	if err := os.Rename(filepath.Join(pickle, "adapter_model.safetensors"), filepath.Join(pickle, "adapter_model.bin")); err != nil {
		t.Fatal(err)
	}
	if _, err := checkpoint.Open(t.Context(), dir, checkpoint.Options{LoRA: pickle}); err == nil || !strings.Contains(err.Error(), "pickle") {
		t.Errorf("error %v", err)
	}
}

// FuzzLoRA opens adapters of any content on a sound base.
func FuzzLoRA(f *testing.F) {
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(tiny), 0o600); err != nil {
		f.Fatal(err)
	}
	weights(f, filepath.Join(dir, "model.safetensors"), nil)
	r := rand.New(rand.NewPCG(1, 1))
	tensors := map[string]matrix{}
	pairOf(r, tensors, layer0+"self_attn.q_proj", 4, 8, 8)
	adapter := saveAdapter(f, f.TempDir(), tensors, "F32", nil)
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(adapter, name))
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(read("adapter_config.json"), read("adapter_model.safetensors"))
	f.Add([]byte(`{"peft_type": "LORA", "r": 4, "rank_pattern": {"q_proj": 1e300}}`), read("adapter_model.safetensors"))
	f.Fuzz(func(t *testing.T, config, weights []byte) {
		for name, b := range map[string][]byte{"adapter_config.json": config, "adapter_model.safetensors": weights} {
			if err := os.WriteFile(filepath.Join(adapter, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c, err := checkpoint.Open(t.Context(), dir, checkpoint.Options{LoRA: adapter})
		if err != nil {
			return
		}
		defer c.Close()
		exercise(t, c)
	})
}

func BenchmarkLoRA(b *testing.B) {
	for _, rank := range []int{16, 64} {
		b.Run(fmt.Sprint(rank), func(b *testing.B) {
			const n = 1024
			dir := b.TempDir()
			r := rand.New(rand.NewPCG(1, 1))
			tensors := map[string]matrix{}
			pairOf(r, tensors, layer0+"mlp.gate_proj", rank, n, n)
			saveAdapter(b, dir, tensors, "F32", map[string]any{"r": rank, "target_modules": "all-linear"})
			big := strings.NewReplacer(`"hidden_size":8`, `"hidden_size":1024`, `"intermediate_size":12`, `"intermediate_size":1024`).Replace(tiny)
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(big), 0o600); err != nil {
				b.Fatal(err)
			}
			var out bytes.Buffer
			w := safetensors.NewWriter(&out, nil)
			w.Declare(safetensors.Decl{Name: "model.layers.0.mlp.gate_proj.weight", Type: "BF16", Shape: tensor.Shape{n, n}})
			if err := errors.Join(w.WriteHeader(), w.WriteTensor("model.layers.0.mlp.gate_proj.weight", tensor.Stream{R: tensor.Floats(random(r, n, n).v), Elements: n * n, DType: tensor.BF16}), w.Close(),
				os.WriteFile(filepath.Join(dir, "model.safetensors"), out.Bytes(), 0o600)); err != nil {
				b.Fatal(err)
			}
			c, err := checkpoint.Open(b.Context(), filepath.Join(dir, "model.safetensors"), checkpoint.Options{LoRA: dir})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			x, _ := c.Tensor("model.layers.0.mlp.gate_proj.weight")
			dst := make([]float32, 256*n)
			b.SetBytes(int64(4 * len(dst)))
			for b.Loop() {
				if err := x.ReadFloat32(dst, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
