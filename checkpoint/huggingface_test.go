package checkpoint_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// stories is the smallest real checkpoint.
const stories = "../samples/stories260K"

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
	if c.Format() != checkpoint.HuggingFace || c.ID() != "stories260K" || c.Revision() != "" {
		t.Errorf("format %q, id %q, revision %q", c.Format(), c.ID(), c.Revision())
	}
	var names []string
	for _, f := range c.SupportFiles() {
		names = append(names, f.Name)
		got, err := f.Data()
		want, wantErr := os.ReadFile(filepath.Join(stories, f.Name))
		if err != nil || wantErr != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v, %v, or content differs", f.Name, err, wantErr)
		}
	}
	if want := []string{"LICENSE", "README.md", "generation_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"}; !slices.Equal(names, want) {
		t.Errorf("support files %v, want %v", names, want)
	}
	sources := c.SourceFiles()
	if len(sources) != 2 || sources[1].Name != "model.safetensors" || sources[1].Bytes != 1044992 {
		t.Fatalf("source files %+v", sources)
	}
	// The digest is the one in the data folder's README.
	if sum, err := sources[1].SHA256(t.Context()); err != nil || sum != "407a7c581bdd66972383ce9ad24857713fb98786d06ea564a2fe9b34ebe77dfd" {
		t.Errorf("sha256 %s, %v", sum, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sources[1].SHA256(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled digest: %v", err)
	}
}

// tiny is a config of one layer: 2 heads and 1 key head of 4, width 8.
const tiny = `{"architectures":["LlamaForCausalLM"],"hidden_size":8,"intermediate_size":12,"num_hidden_layers":1,
	"num_attention_heads":2,"num_key_value_heads":1,"vocab_size":16,"max_position_embeddings":64,"rms_norm_eps":1e-5}`

// weights writes a safetensors file with every weight of tiny; change may
// rename, reshape, retype (data is zeros) or, with an empty name, drop them.
func weights(t testing.TB, path string, change func(d *safetensors.Decl), extra ...safetensors.Decl) {
	t.Helper()
	spec, err := arch.Parse([]byte(tiny))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	var decls []safetensors.Decl
	for _, w := range spec.Weights() {
		d := safetensors.Decl{Name: w.Name, Type: "BF16", Shape: w.Shape}
		if change != nil {
			change(&d)
		}
		if d.Name != "" {
			decls = append(decls, d)
		}
	}
	header, infos, err := safetensors.Layout(append(decls, extra...), nil)
	if err != nil {
		t.Fatal(err)
	}
	b.Write(header)
	for _, i := range infos {
		b.Write(make([]byte, i.Bytes))
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// folder writes text files into a new folder; "FULL" stands for a file with
// every weight.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if text == "FULL" {
			weights(t, path, nil)
		} else if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOpenFolder(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files map[string]string
		open  string // inside the folder
		want  string // "" = opens and passes Check
	}{
		{"plain", map[string]string{"config.json": tiny, "model.safetensors": "FULL"}, "", ""},
		{"only file, other name", map[string]string{"config.json": tiny, "weights.safetensors": "FULL"}, "", ""},
		{"file named", map[string]string{"config.json": tiny, "a.safetensors": "FULL", "b.safetensors": "FULL"}, "a.safetensors", ""},
		{"config named", map[string]string{"config.json": tiny, "model.safetensors": "FULL"}, "config.json", ""},
		{"beside other files", map[string]string{"config.json": tiny, "model.safetensors": "FULL", "consolidated.safetensors": "x", "pytorch_model.bin": "x"}, "", ""},
		{"one of one shard", map[string]string{"config.json": tiny, "model-00001-of-00001.safetensors": "FULL"}, "", ""},
		{"nothing there", nil, "absent", "no such file"},
		{"empty folder", nil, "", "holds no model"},
		{"no config", map[string]string{"model.safetensors": "FULL"}, "", "no config.json beside the weights"},
		{"which of two", map[string]string{"config.json": tiny, "a.safetensors": "FULL", "b.safetensors": "FULL"}, "", "holds 2 safetensors files and no model.safetensors.index.json"},
		{"shard missing", map[string]string{"config.json": tiny, "model-00002-of-00002.safetensors": "FULL"}, "", "1 of 2 are here"},
		{"shards of two", map[string]string{"config.json": tiny, "a-00001-of-00002.safetensors": "FULL", "b-00002-of-00002.safetensors": "FULL"}, "", "shards of several checkpoints"},
		{"index leaves the folder", map[string]string{"config.json": tiny, "model.safetensors.index.json": `{"weight_map":{"a":"../model.safetensors"}}`}, "", `"../model.safetensors" is not a plain file name`},
		{"index names no file", map[string]string{"config.json": tiny, "model.safetensors.index.json": `{"weight_map":{"a":"gone.safetensors"}}`}, "", "shard gone.safetensors is missing"},
		{"index names no tensor", map[string]string{"config.json": tiny, "m.safetensors": "FULL", "model.safetensors.index.json": `{"weight_map":{"a":"m.safetensors"}}`}, "", `1 tensors that are not where it says: "a" in m.safetensors`},
		{"shard is no safetensors", map[string]string{"config.json": tiny, "model.safetensors": "version https://git-lfs.github.com/spec/v1"}, "", "Git LFS pointer"},
		{"GGUF is a pointer", map[string]string{"a.gguf": "version https://git-lfs.github.com/spec/v1"}, "", "Git LFS pointer"},
		{"shard is text", map[string]string{"config.json": tiny, "model.safetensors": "hello there, world"}, "", "is this a safetensors file?"},
		{"adapter", map[string]string{"adapter_config.json": "{}", "adapter_model.safetensors": "FULL"}, "", "adapter adapter_model.safetensors (merge it"},
		{"pickle folder", map[string]string{"config.json": tiny, "pytorch_model-00001-of-00002.bin": "x"}, "", "pickle checkpoint pytorch_model-00001-of-00002.bin"},
		{"pickle file", map[string]string{"consolidated.00.pth": "x"}, "consolidated.00.pth", "pickle checkpoint consolidated.00.pth"},
		{"checkpoint file", map[string]string{"model.ckpt": "x"}, "", "pickle checkpoint model.ckpt"},
		{"other file", map[string]string{"model.onnx": "x"}, "model.onnx", `file type ".onnx"`},
		{"which GGUF", map[string]string{"a.gguf": "x", "b.gguf": "x"}, "", "holds 2 GGUF files (a.gguf, b.gguf): name one"},
		{"broken GGUF", map[string]string{"a.gguf": "xxxxxxxxxxxxx"}, "", "not a GGUF file"},
		{"template broken", map[string]string{"config.json": tiny, "model.safetensors": "FULL", "tokenizer_config.json": `{"chat_template":3}`}, "", "neither a string nor a list of named templates"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := folder(t, tc.files)
			c, err := checkpoint.Open(t.Context(), filepath.Join(dir, tc.open), checkpoint.Options{})
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error %v, want %q in it", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			spec, err := arch.Parse(c.Config())
			if err == nil {
				err = c.Check(spec.Weights())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTruncated cuts a shard at every kind of place.
func TestTruncated(t *testing.T) {
	dir := folder(t, map[string]string{"config.json": tiny, "model.safetensors": "FULL"})
	path := filepath.Join(dir, "model.safetensors")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 7, 8, 100, len(whole) - 1} {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := checkpoint.Open(t.Context(), dir, checkpoint.Options{})
		var fe *tensor.FormatError
		if !errors.As(err, &fe) || !strings.Contains(err.Error(), "model.safetensors") {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
}

func TestCheck(t *testing.T) {
	const q = "model.layers.0.self_attn.q_proj.weight"
	only := func(name string, f func(*safetensors.Decl)) func(*safetensors.Decl) {
		return func(d *safetensors.Decl) {
			if d.Name == name {
				f(d)
			}
		}
	}
	for _, tc := range []struct {
		name        string
		change      func(*safetensors.Decl)
		extra       []safetensors.Decl
		want        string
		unsupported bool
	}{
		{"good", nil, nil, "", false},
		{"float32", func(d *safetensors.Decl) { d.Type = "F32" }, nil, "", false},
		{"missing", only(q, func(d *safetensors.Decl) { d.Name = "" }), nil, `tensor "` + q + `" is missing`, false},
		{"shape", only(q, func(d *safetensors.Decl) { d.Shape = tensor.Shape{4, 16} }), nil, "has shape [4, 16], the config asks for [8, 8]", false},
		{"integers", only(q, func(d *safetensors.Decl) { d.Type = "I8" }), nil, "has element type I8", true},
		{"fp8", only(q, func(d *safetensors.Decl) { d.Type = "F8_E4M3" }), nil, "has element type F8_E4M3", true},
		{"all missing", func(d *safetensors.Decl) { d.Name += "x" }, nil, "is missing; and ", false},
		{"bias", nil, []safetensors.Decl{{Name: "model.layers.0.self_attn.q_proj.bias", Type: "F32", Shape: tensor.Shape{8}}}, "q_proj.bias\" has no place", true},
		{"norm", nil, []safetensors.Decl{{Name: "model.layers.0.self_attn.q_norm.weight", Type: "F32", Shape: tensor.Shape{4}}}, "q_norm.weight\" has no place", true},
		{"head bias", nil, []safetensors.Decl{{Name: "lm_head.bias", Type: "F32", Shape: tensor.Shape{16}}}, "lm_head.bias\" has no place", true},
		{"rotary table", nil, []safetensors.Decl{{Name: "model.layers.0.self_attn.rotary_emb.inv_freq", Type: "F32", Shape: tensor.Shape{2}}}, "", false},
		{"layer beyond", nil, []safetensors.Decl{{Name: "model.layers.1.self_attn.q_proj.weight", Type: "F32", Shape: tensor.Shape{2}}}, "", false},
		{"inside a larger model", func(d *safetensors.Decl) { d.Name = "language_model." + d.Name }, []safetensors.Decl{{Name: "vision_tower.x", Type: "F32"}}, "", false},
		{"inside a larger model, transformers 5", func(d *safetensors.Decl) {
			if rest, ok := strings.CutPrefix(d.Name, "model."); ok {
				d.Name = "model.language_model." + rest
			}
		}, nil, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := folder(t, map[string]string{"config.json": tiny})
			weights(t, filepath.Join(dir, "model.safetensors"), tc.change, tc.extra...)
			c, err := checkpoint.Open(t.Context(), dir, checkpoint.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			spec, err := arch.Parse(c.Config())
			if err != nil {
				t.Fatal(err)
			}
			err = c.Check(spec.Weights())
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("error %v, want %q in it", err, tc.want)
			}
			var ue *tensor.UnsupportedError
			if err != nil && errors.As(err, &ue) != tc.unsupported {
				t.Errorf("error %v is of the wrong kind", err)
			}
			if err != nil && len(err.Error()) > 1500 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestTemplate(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"none", map[string]string{"tokenizer_config.json": `{}`}, ""},
		{"null", map[string]string{"tokenizer_config.json": `{"chat_template":null}`}, ""},
		{"string", map[string]string{"tokenizer_config.json": `{"chat_template":"<b>"}`}, "<b>"},
		{"list", map[string]string{"tokenizer_config.json": `{"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d"}]}`}, "d"},
		{"list without default", map[string]string{"tokenizer_config.json": `{"chat_template":[{"name":"tool_use","template":"t"}]}`}, ""},
		{"file", map[string]string{"tokenizer_config.json": `{"chat_template":"c"}`, "chat_template.jinja": "file"}, "file"},
		{"json", map[string]string{"chat_template.json": `{"chat_template":"j"}`, "tokenizer_config.json": `{}`}, "j"},
	} {
		tc.files["config.json"], tc.files["model.safetensors"] = tiny, "FULL"
		c, err := checkpoint.Open(t.Context(), folder(t, tc.files), checkpoint.Options{})
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		got := ""
		if f, ok := c.SupportFile("chat_template.jinja"); ok {
			b, err := f.Data()
			if err != nil {
				t.Error(err)
			}
			got = string(b)
		}
		if got != tc.want {
			t.Errorf("%s: template %q, want %q", tc.name, got, tc.want)
		}
		c.Close()
	}
}

func TestHubNames(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	dir := folder(t, map[string]string{
		"models--Own--the-name/snapshots/" + commit + "/config.json":       tiny,
		"models--Own--the-name/snapshots/" + commit + "/model.safetensors": "FULL",
		"plain/config.json":       tiny,
		"plain/model.safetensors": "FULL",
		"plain/.cache/huggingface/download/config.json.metadata": commit + "\netag\n1.5\n",
	})
	for path, id := range map[string]string{"models--Own--the-name/snapshots/" + commit: "Own/the-name", "plain": "plain"} {
		c, err := checkpoint.Open(t.Context(), filepath.Join(dir, path), checkpoint.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if c.ID() != id || c.Revision() != commit {
			t.Errorf("%s: id %q, revision %q", path, c.ID(), c.Revision())
		}
		c.Close()
	}
}

// TestTotalSize: a wrong total is worth a warning, no more.
func TestTotalSize(t *testing.T) {
	dir := folder(t, map[string]string{"config.json": tiny, "m.safetensors": "FULL",
		"model.safetensors.index.json": `{"metadata":{"total_size":5},"weight_map":{"model.norm.weight":"m.safetensors"}}`})
	var log bytes.Buffer
	c, err := checkpoint.Open(t.Context(), dir, checkpoint.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !strings.Contains(log.String(), "total_size=5") {
		t.Errorf("log: %s", fmt.Sprintf("%q", log.String()))
	}
}
