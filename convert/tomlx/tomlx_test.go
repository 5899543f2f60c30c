package tomlx

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// build plans a tiny model.
func build(t *testing.T, variant string, o Options, edit map[string]any) (*Artifact, *arch.Spec) {
	t.Helper()
	v, err := tinymodel.ByName(variant)
	if err != nil {
		t.Fatal(err)
	}
	v.Config = maps.Clone(v.Config)
	maps.Copy(v.Config, edit)
	for k, x := range edit {
		if x == nil {
			delete(v.Config, k)
		}
	}
	o.Config, o.ID = v.ConfigJSON(), "owner/"+variant
	spec, err := arch.Parse(o.Config)
	if err != nil {
		t.Fatal(err)
	}
	a, err := Build(spec, o)
	if err != nil {
		t.Fatal(err)
	}
	return a, spec
}

func file(t *testing.T, a *Artifact, name string) []byte {
	t.Helper()
	for _, f := range a.Files {
		if f.Name == name {
			return f.Data
		}
	}
	t.Fatalf("no %s", name)
	return nil
}

func config(t *testing.T, a *Artifact) map[string]any {
	t.Helper()
	var c map[string]any
	if err := json.Unmarshal(file(t, a, "config.json"), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestConfig: what mlx-lm's models read is at the root and says what the
// checkpoint's configuration means.
func TestConfig(t *testing.T) {
	for _, c := range []struct {
		name, variant string
		edit          map[string]any
		support       []plan.File
		want          map[string]any
		absent        []string
	}{
		{name: "transformers 5", variant: "llama3-tied",
			want: map[string]any{"rope_theta": 10000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16"}},
		{name: "nested", variant: "qwen3-text",
			want:   map[string]any{"hidden_size": 80.0, "rope_theta": 5000000.0, "model_type": "qwen3", "num_key_value_heads": 4.0},
			absent: []string{"text_config"}},
		// mlx-lm's llama ties by default, Hugging Face's does not.
		{name: "tied by default", variant: "llama2", edit: map[string]any{"tie_word_embeddings": nil},
			want: map[string]any{"tie_word_embeddings": false}},
		// mlx-lm's qwen2 has a million by default, Hugging Face's ten thousand.
		{name: "theta by default", variant: "qwen2", edit: map[string]any{"rope_theta": nil},
			want: map[string]any{"rope_theta": 10000.0}},
		{name: "left out", variant: "qwen3", edit: map[string]any{"head_dim": nil, "hidden_size": 256, "num_attention_heads": 2, "vision_config": map[string]any{}, "_name_or_path": "x"},
			want: map[string]any{"head_dim": 128.0}, absent: []string{"vision_config", "_name_or_path"}},
		{name: "end tokens", variant: "llama3", support: []plan.File{{Name: "generation_config.json", Data: []byte(`{"eos_token_id": [2, 13, 7]}`)}},
			want: map[string]any{"eos_token_id": []any{2.0, 13.0, 7.0}}},
		{name: "a type of one's own", variant: "qwen2-untied", want: map[string]any{"torch_dtype": "bfloat16", "dtype": "bfloat16"}},
	} {
		a, _ := build(t, c.variant, Options{Group: 32, Type: tensor.BF16, Support: c.support}, c.edit)
		got := config(t, a)
		for k, v := range c.want {
			g, _ := json.Marshal(got[k])
			w, _ := json.Marshal(v)
			if !bytes.Equal(g, w) {
				t.Errorf("%s: %s is %s, want %s", c.name, k, g, w)
			}
		}
		for _, k := range c.absent {
			if _, ok := got[k]; ok {
				t.Errorf("%s: %s is there", c.name, k)
			}
		}
		if q, _ := got["quantization"].(map[string]any); len(q) != 3 || q["bits"] != 4.0 || q["group_size"] != 32.0 || q["mode"] != "affine" {
			t.Errorf("%s: quantization %v", c.name, got["quantization"])
		}
	}
	a, _ := build(t, "qwen3", Options{Bits: 16}, nil)
	if c := config(t, a); c["quantization"] != nil || c["quantization_config"] != nil {
		t.Error("floats have a quantization block")
	}
}

func TestCard(t *testing.T) {
	card := "---\nlanguage: en\nlicense: apache-2.0\ntags: [x]\n---\n# Model\nlicense: none\n"
	a, _ := build(t, "qwen3", Options{Bits: 16, Tool: "tool", Version: "1", Support: []plan.File{{Name: "README.md", Data: []byte(card)}}}, nil)
	got := string(file(t, a, "README.md"))
	for _, want := range []string{"library_name: mlx\n", "- mlx\n", "base_model: owner/qwen3\n", "license: apache-2.0\n", "bfloat16 weights. Converted by tool 1."} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "license: none") {
		t.Errorf("text beyond the front matter is taken:\n%s", got)
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		o          Options
		name, want string // of the error; "" for none
	}{
		{Options{}, "4bit", ""},
		{Options{Bits: 3, Group: 128}, "3bit-g128", ""},
		{Options{Recipe: "mixed_2_6"}, "mixed_2_6", ""},
		{Options{Recipe: "mixed_2_6", Group: 32}, "mixed_2_6-g32", ""},
		{Options{Bits: 16, Group: 32}, "16bit", ""},
		{Options{Bits: 7}, "7bit", "7 bits"},
		{Options{Group: 16}, "4bit-g16", "groups of 16"},
		{Options{Recipe: "mixed_9"}, "mixed_9", "mixed_9"},
		{Options{Recipe: "mixed_4_6", Bits: 3}, "mixed_4_6", "4 bits"},
		{Options{Type: tensor.F64}, "4bit", "F64"},
	} {
		err := c.o.Check()
		if c.o.Name() != c.name || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %s, %v; want %s, %q", c.o, c.o.Name(), err, c.name, c.want)
		}
	}
}

// TestLayout: no two tensors overlap, every byte belongs to one, no tensor
// crosses from a file to the next.
func TestLayout(t *testing.T) {
	a, spec := build(t, "smollm2", Options{Group: 32, ShardBytes: 20000}, nil)
	type span struct{ from, to int64 }
	var spans []span
	for _, c := range a.Data.Consts {
		spans = append(spans, span{c.Offset, c.Offset + int64(len(c.Data))})
	}
	for _, p := range a.Pieces {
		rows := int64(1)
		if len(p.Weight.Shape) == 2 {
			rows = int64(p.Weight.Shape[0])
		}
		for _, r := range []plan.Region{p.Output.Data, p.Output.Scales, p.Output.Zeros} {
			if r.RowBytes > 0 {
				spans = append(spans, span{r.Offset, r.Offset + rows*int64(r.RowBytes)})
			}
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return int(a.from - b.from) })
	end := int64(0)
	for _, s := range spans {
		if s.from != end {
			t.Fatalf("a gap or an overlap at %d, %d", end, s.from)
		}
		end = s.to
		for _, part := range a.Data.Parts {
			if s.from < part.Offset && part.Offset < s.to {
				t.Errorf("%d … %d crosses into %s", s.from, s.to, part.Name)
			}
		}
	}
	if end != a.Data.Size || len(a.Data.Parts) < 3 {
		t.Errorf("%d bytes in %d files, want %d", end, len(a.Data.Parts), a.Data.Size)
	}
	if len(a.Pieces) != len(spec.Weights()) {
		t.Errorf("%d pieces of %d weights", len(a.Pieces), len(spec.Weights()))
	}
}

// folder writes a planned model with zeros for weights, and returns it.
func folder(t *testing.T, a *Artifact) string {
	t.Helper()
	dir := t.TempDir()
	data := make([]byte, a.Data.Size)
	for _, c := range a.Data.Consts {
		copy(data[c.Offset:], c.Data)
	}
	for _, p := range a.Data.Parts {
		if err := os.WriteFile(filepath.Join(dir, p.Name), data[p.Offset:][:p.Size], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range a.Files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// headers reads the tensors' headers of a folder.
func headers(t *testing.T, a *Artifact) []safetensors.Info {
	t.Helper()
	r, err := safetensors.Open(filepath.Join(folder(t, a), "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return r.Infos()
}

// TestCheck: folders that are not what they say.
func TestCheck(t *testing.T) {
	a, spec := build(t, "smollm2", Options{Recipe: "mixed_3_6", Group: 32}, nil)
	info, err := Check(context.Background(), folder(t, a))
	if err != nil {
		t.Fatal(err)
	}
	if !info.Complete || info.Parameters != spec.Parameters() || info.Bits != 3 || info.Packed["model.layers.1.mlp.down_proj"].Bits != 6 {
		t.Errorf("%+v", info)
	}
	good := headers(t, a)
	configText := file(t, a, "config.json")
	const q = "model.layers.0.self_attn.q_proj"
	alter := func(name string, f func(*safetensors.Info)) []safetensors.Info {
		out := slices.Clone(good)
		for i := range out {
			if out[i].Name == name {
				out[i].Shape = slices.Clone(out[i].Shape)
				f(&out[i])
			}
		}
		return out
	}
	drop := func(name string) []safetensors.Info {
		return slices.DeleteFunc(slices.Clone(good), func(i safetensors.Info) bool { return i.Name == name })
	}
	with := func(k string, v any) []byte {
		var c map[string]any
		if err := json.Unmarshal(configText, &c); err != nil {
			t.Fatal(err)
		}
		c[k] = v
		b, _ := json.Marshal(c)
		return b
	}
	block := func(k string, v any) []byte {
		m := map[string]any{"group_size": 32, "bits": 3, k: v}
		return with("quantization", m)
	}
	for _, c := range []struct {
		name        string
		config      []byte
		infos       []safetensors.Info
		want        string
		unsupported bool
	}{
		{name: "words too few", infos: alter(q+".weight", func(i *safetensors.Info) { i.Shape[1]-- }), want: "words"},
		{name: "rows too few", infos: alter(q+".weight", func(i *safetensors.Info) { i.Shape[0]-- }), want: "shape"},
		{name: "scales too few", infos: alter(q+".scales", func(i *safetensors.Info) { i.Shape[1] = 1 }), want: "shape"},
		{name: "both too few", infos: func() []safetensors.Info {
			x := alter(q+".scales", func(i *safetensors.Info) { i.Shape[1] = 1 })
			for i := range x {
				if x[i].Name == q+".biases" {
					x[i].Shape = tensor.Shape{x[i].Shape[0], 1}
				}
			}
			return x
		}(), want: "scales a row"},
		{name: "types", infos: alter(q+".scales", func(i *safetensors.Info) { i.Type = "F16" }), want: "F16"},
		{name: "words of another type", infos: alter(q+".weight", func(i *safetensors.Info) { i.Type = "I32" }), want: "U32"},
		{name: "no biases", infos: drop(q + ".biases"), want: "no biases"},
		{name: "no scales", infos: drop(q + ".scales"), want: "shape"},
		{name: "no weight", infos: drop(q + ".weight"), want: "missing"},
		{name: "no norm", infos: drop("model.norm.weight"), want: "missing"},
		{name: "one more", infos: append(slices.Clone(good), safetensors.Info{Name: "model.extra", Type: "F32", Shape: tensor.Shape{1}}), want: "no module"},
		{name: "norm's shape", infos: alter("model.norm.weight", func(i *safetensors.Info) { i.Shape[0] = 95 }), want: "shape"},
		{name: "another width named", config: block(q, map[string]any{"bits": 4, "group_size": 32}), want: "not 4 bits"},
		{name: "said to be floats", config: block(q, false), want: "says that it is not"},
		{name: "bits", config: block("bits", 7), want: "7 bits"},
		{name: "bits are text", config: block("bits", "3"), want: "bits is 3"},
		{name: "group", config: block("group_size", -1), want: "group_size"},
		{name: "huge group", config: block("group_size", 1e18), want: "group_size"},
		{name: "mode", config: block("mode", "mxfp4"), want: "mxfp4", unsupported: true},
		{name: "another packer's", config: func() []byte {
			var c map[string]any
			_ = json.Unmarshal(configText, &c)
			delete(c, "quantization")
			c["quantization_config"] = map[string]any{"quant_method": "awq"}
			b, _ := json.Marshal(c)
			return b
		}(), want: "awq", unsupported: true},
		{name: "no JSON", config: []byte("{"), want: "not a JSON object"},
		{name: "sizes", config: with("hidden_size", 97), want: "want [97]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, infos := c.config, c.infos
			if cfg == nil {
				cfg = configText
			}
			if infos == nil {
				infos = good
			}
			_, err := checkTensors(cfg, infos)
			var broken *tensor.FormatError
			var unknown *tensor.UnsupportedError
			if err == nil || !strings.Contains(err.Error(), c.want) || c.unsupported != errors.As(err, &unknown) || !c.unsupported && !errors.As(err, &broken) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	// An architecture that is not known is compared with itself alone.
	other := bytes.ReplaceAll(configText, []byte("LlamaForCausalLM"), []byte("NewForCausalLM"))
	if i, err := checkTensors(other, good); err != nil || i.Complete || len(i.Packed) != len(info.Packed) {
		t.Errorf("unknown architecture: %+v, %v", i, err)
	}
	if _, err := checkTensors(other, drop(q+".scales")); err == nil {
		t.Error("words without scales are taken")
	}
}

// TestCheckNumbers: a scale that is no number, a file cut short, an empty
// folder.
func TestCheckNumbers(t *testing.T) {
	a, _ := build(t, "smollm2", Options{Group: 32}, nil)
	dir := folder(t, a)
	path := filepath.Join(dir, "model.safetensors")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range a.Pieces {
		if p.Output.Form.Affine {
			copy(data[p.Output.Scales.Offset:], []byte{0xff, 0xff, 0xff, 0x7f})
			break
		}
	}
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(data)
	if _, err := Check(context.Background(), dir); err == nil || !strings.Contains(err.Error(), "NaN") {
		t.Errorf("NaN among the scales: %v", err)
	}
	write(data[:len(data)-1])
	if _, err := Check(context.Background(), dir); err == nil {
		t.Error("a cut file is taken")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(context.Background(), dir); err == nil || !strings.Contains(err.Error(), "no model*.safetensors") {
		t.Errorf("no weights: %v", err)
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Check(cancelled, folder(t, a)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// FuzzCheck: no configuration and no header makes it panic.
func FuzzCheck(f *testing.F) {
	header, _, err := safetensors.Layout([]safetensors.Decl{
		{Name: "a.weight", Type: "U32", Shape: tensor.Shape{2, 4}}, {Name: "a.scales", Type: "BF16", Shape: tensor.Shape{2, 1}},
		{Name: "a.biases", Type: "BF16", Shape: tensor.Shape{2, 1}}, {Name: "n.weight", Type: "F32", Shape: tensor.Shape{4}},
	}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"quantization":{"bits":4,"group_size":32,"a":{"bits":4,"group_size":32}}}`), append(header, make([]byte, 64)...))
	f.Add([]byte(`{"architectures":["LlamaForCausalLM"],"quantization":{"bits":4,"group_size":32,"a":false}}`), append(header, make([]byte, 64)...))
	f.Fuzz(func(t *testing.T, config, data []byte) {
		r, err := safetensors.NewReader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		defer r.Close()
		if i, err := checkTensors(config, r.Infos()); err == nil && i.Parameters < 0 {
			t.Errorf("%d parameters", i.Parameters)
		}
	})
}
