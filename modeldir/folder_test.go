package modeldir

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// folderOf writes files into a temporary folder.
func folderOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// genaiConfig is what genai 0.18's builder writes for a small model, shortened.
const genaiConfig = `{"model":{"type":"llama","bos_token_id":1,"eos_token_id":[2,7],"pad_token_id":2,"vocab_size":49152,"context_length":8192,
 "decoder":{"session_options":{"log_id":"onnxruntime-genai","provider_options":[]},"filename":"model.onnx","head_size":64,"hidden_size":576,
 "inputs":{"input_ids":"input_ids","attention_mask":"attention_mask","past_key_names":"past_key_values.%d.key","past_value_names":"past_key_values.%d.value"},
 "outputs":{"logits":"logits","present_key_names":"present.%d.key","present_value_names":"present.%d.value"},
 "num_attention_heads":9,"num_hidden_layers":30,"num_key_value_heads":3}},
 "search":{"do_sample":true,"max_length":8192,"past_present_share_buffer":true,"temperature":0.2,"top_k":1}}`

func TestOpenForeignFolder(t *testing.T) {
	dir := folderOf(t, map[string]string{
		"model.onnx": "0123456789", "model.onnx.data": "abc", "genai_config.json": genaiConfig,
		"tokenizer_config.json": `{"bos_token":{"content":"<s>","lstrip":false},"eos_token":"</s>","pad_token":null,"add_bos_token":true,
			"chat_template":[{"name":"default","template":"A"},{"name":"tool_use","template":"B"}]}`,
	})
	for _, path := range []string{dir, filepath.Join(dir, "model.onnx")} {
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if f.Dir != dir || f.Model != filepath.Join(dir, "model.onnx") || f.Metadata != nil {
			t.Errorf("folder %q, model %q, metadata %v", f.Dir, f.Model, f.Metadata)
		}
		d := f.GenAI.Model.Decoder
		if d.Layers != 30 || d.KVHeads != 3 || d.HeadSize != 64 || d.Inputs.PositionIDs != "position_ids" || !f.GenAI.Search.ShareBuffer {
			t.Errorf("decoder %+v", d)
		}
		if got := f.EndTokens(); !slices.Equal(got, []int32{2, 7}) {
			t.Errorf("end tokens %v", got)
		}
		if f.MaxContext() != 8192 || f.Tokenizer.BOSToken != "<s>" || f.Tokenizer.EOSToken != "</s>" || f.Tokenizer.PadToken != "" || !*f.Tokenizer.AddBOS {
			t.Errorf("context %d, tokenizer %+v", f.MaxContext(), f.Tokenizer)
		}
		for name, want := range map[string]string{"": "A", "default": "A", "tool_use": "B", "rag": "A"} {
			if got, err := f.Template(name); err != nil || got != want {
				t.Errorf("template %q is %q, %v; want %q", name, got, err, want)
			}
		}
		if n, err := f.WeightBytes(); err != nil || n != 13 {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
}

func TestOpenOwnFolder(t *testing.T) {
	dir := folderOf(t, map[string]string{
		"model.onnx": "x", "chat_template.jinja": "own file", "tokenizer_config.json": `{"chat_template":"inside"}`,
		"metadata.json":          `{"schema_version":1,"target_specs":{"execution_provider":"CPUExecutionProvider"},"architecture":{"max_context":512}}`,
		"generation_config.json": `{"eos_token_id":[5,6],"do_sample":true,"temperature":0.6,"top_k":20,"top_p":0.95,"transformers_version":"5"}`,
		"genai_config.json":      genaiConfig,
	})
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if f.MaxContext() != 512 || f.Metadata.Target.ExecutionProvider != "CPUExecutionProvider" {
		t.Errorf("context %d, metadata %+v", f.MaxContext(), f.Metadata)
	}
	if got, err := f.Template("default"); err != nil || got != "own file" {
		t.Errorf("template %q, %v", got, err)
	}
	if !slices.Equal(f.EndTokens(), []int32{5, 6}) || !*f.Generation.DoSample || *f.Generation.Temperature != 0.6 || f.Generation.MinP != nil {
		t.Errorf("generation %+v", f.Generation)
	}
}

func TestOpenFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		path  string
		want  string // in the message
	}{
		{"nothing there", nil, "none", "none"},
		{"not a graph", map[string]string{"a.txt": ""}, "a.txt", "not an .onnx file"},
		{"empty folder", map[string]string{"a.txt": ""}, "", "llama-pajamas-quant convert"},
		{"output folder", map[string]string{"onnx/cpu/int4/model.onnx": "", "onnx/base/fp16/model.onnx": ""}, "", filepath.Join("cpu", "int4", "model.onnx")},
		{"several graphs", map[string]string{"a.onnx": "", "b.onnx": ""}, "", "give the path of one"},
		{"broken config", map[string]string{"model.onnx": "", "genai_config.json": "{"}, "", "genai_config.json"},
		{"wrong type", map[string]string{"model.onnx": "", "genai_config.json": `{"model":{"vocab_size":"many"}}`}, "", "vocab_size"},
		{"negative size", map[string]string{"model.onnx": "", "genai_config.json": `{"model":{"decoder":{"head_size":-4}}}`}, "", "head_size"},
		{"file outside", map[string]string{"model.onnx": "", "genai_config.json": `{"model":{"decoder":{"filename":"../x.onnx"}}}`}, "", "plain file name"},
		{"pattern", map[string]string{"model.onnx": "", "genai_config.json": `{"model":{"decoder":{"inputs":{"past_key_names":"%s%d"}}}}`}, "", "%d once"},
		{"newer schema", map[string]string{"model.onnx": "", "metadata.json": `{"schema_version":99}`}, "", "99 is newer"},
		{"broken template list", map[string]string{"model.onnx": "", "tokenizer_config.json": `{"chat_template":7}`}, "", "tokenizer_config.json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(filepath.Join(folderOf(t, c.files), c.path))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			var format *tensor.FormatError
			if strings.Contains(c.name, "broken") && !errors.As(err, &format) {
				t.Errorf("%v is no FormatError", err)
			}
		})
	}
}

func TestOpenPicksTheGraph(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"named in the config": {"decoder.onnx": "", "model.onnx": "", "genai_config.json": `{"model":{"decoder":{"filename":"decoder.onnx"}}}`},
		"the only one":        {"decoder.onnx": ""},
	} {
		f, err := Open(folderOf(t, files))
		if err != nil || filepath.Base(f.Model) != "decoder.onnx" {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	f, err := Open(folderOf(t, map[string]string{"model.onnx": ""}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Template("default"); !errors.Is(err, ErrNoTemplate) {
		t.Errorf("no template gives %v", err)
	}
	if f.MaxContext() != 0 || f.EndTokens() != nil {
		t.Errorf("context %d, end tokens %v of a bare graph", f.MaxContext(), f.EndTokens())
	}
}

func TestTokenIDs(t *testing.T) {
	for in, want := range map[string]string{`5`: `5`, `[5]`: `5`, `[1,2]`: `[1,2]`, `null`: `null`, `[]`: `null`, `-1`: `null`, `[3,-1]`: `3`} {
		var ids TokenIDs
		if err := json.Unmarshal([]byte(in), &ids); err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got, err := json.Marshal(ids); err != nil || string(got) != want {
			t.Errorf("%s is written as %s, %v; want %s", in, got, err, want)
		}
	}
	for _, bad := range []string{`"x"`, `[1.5]`, `{}`, `99999999999`} {
		var ids TokenIDs
		if err := json.Unmarshal([]byte(bad), &ids); err == nil {
			t.Errorf("%s reads as %v", bad, ids)
		}
	}
}

func TestLayerName(t *testing.T) {
	if got := LayerName("past_key_values.%d.key", 12); got != "past_key_values.12.key" {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(genaiConfig))
	f.Add([]byte(`{"eos_token_id":[1,2],"do_sample":true,"top_k":5}`))
	f.Add([]byte(`{"bos_token":{"content":"<s>"},"chat_template":[{"name":"a","template":"b"}]}`))
	f.Add([]byte(`{"schema_version":1,"files":[{"name":"a","bytes":-1}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		// No panic; and what is accepted can be written and read again.
		if g, err := ParseGenAI(data); err == nil {
			again, err := json.Marshal(g)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseGenAI(again); err != nil {
				t.Fatalf("%s: %v", again, err)
			}
		}
		if g, err := ParseGeneration(data); err == nil {
			if _, err := json.Marshal(g); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = ParseTokenizerConfig(data)
		_, _ = ParseMetadata(data)
		_, _ = ParseSelfTest(data)
	})
}
