package convert_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/convert/tomlx"
	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/samples"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

//go:embed testdata/mlx/convert.py
var mlxConvertScript string

//go:embed testdata/mlx/answer.py
var mlxAnswerScript string

// toMLX converts src to one folder.
func toMLX(t *testing.T, src string, o tomlx.Options) string {
	t.Helper()
	out := t.TempDir()
	run(t, src, convert.Options{Output: out, NoBase: true, MLX: convert.MLX{Folders: []tomlx.Options{o}}})
	return filepath.Join(out, "mlx", o.Name())
}

// low is the width of most matrices in mlx-lm's mixtures.
var low = map[string]int{"mixed_2_6": 2, "mixed_3_4": 3, "mixed_3_6": 3, "mixed_4_6": 4}

// mlxJob is a conversion by mlx_lm.convert.
type mlxJob struct {
	Src    string `json:"src"`
	Dst    string `json:"dst"`
	Bits   int    `json:"bits"`
	Group  int    `json:"group"`
	Recipe string `json:"recipe"`
	DType  string `json:"dtype"`
}

func mlxConvert(t *testing.T, jobs []mlxJob) {
	t.Helper()
	in, err := json.Marshal(jobs)
	if err != nil {
		t.Fatal(err)
	}
	oracle.Run(t, mlxConvertScript, in)
}

// weightFiles reads the tensors of a folder's weight files: type, shape, digest.
func weightFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "model*.safetensors"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s has no weights: %v", dir, err)
	}
	out := map[string]string{}
	for _, p := range paths {
		r, err := safetensors.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		if r.Metadata()["format"] != "mlx" {
			t.Errorf("%s: metadata %v", p, r.Metadata())
		}
		for _, info := range r.Infos() {
			s, _ := r.Section(info.Name)
			h := sha256.New()
			if _, err := io.Copy(h, s); err != nil {
				t.Fatal(err)
			}
			out[info.Name] = fmt.Sprintf("%s %v %x", info.Type, info.Shape, h.Sum(nil)[:8])
		}
		r.Close()
	}
	return out
}

func jsonFile(t *testing.T, path string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// manyLayers is a model with layers enough for every rule of the mixtures.
func manyLayers(t *testing.T) string {
	t.Helper()
	v, err := tinymodel.ByName("llama2")
	if err != nil {
		t.Fatal(err)
	}
	v.Config = maps.Clone(v.Config)
	maps.Copy(v.Config, map[string]any{"hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 17, "torch_dtype": "float16"})
	dir := filepath.Join(t.TempDir(), "many")
	if err := tinymodel.Write(dir, v); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestMLXIsTheConverters compares folders with those of mlx_lm.convert: every
// tensor byte for byte, and what the configuration says of quantization.
func TestMLXIsTheConverters(t *testing.T) {
	oracle.Python(t)
	type pair struct {
		name      string
		o         tomlx.Options
		src, want string
	}
	var pairs []pair
	var jobs []mlxJob
	root := t.TempDir()
	add := func(src string, o tomlx.Options, dtype string) {
		p := pair{fmt.Sprintf("%s/%s", filepath.Base(src), o.Name()), o, src, filepath.Join(root, fmt.Sprint(len(jobs)))}
		bits := o.Bits
		switch bits {
		case 0:
			bits = 4
		case 16, 32:
			bits = 0
		}
		group := o.Group
		if group == 0 {
			group = 64
		}
		pairs = append(pairs, p)
		jobs = append(jobs, mlxJob{src, p.want, bits, group, o.Recipe, dtype})
	}
	for _, v := range append(tinymodel.Variants(), tinymodel.Mixtures()...) {
		add(tiny(t, v.Name), tomlx.Options{Group: 32}, "")
	}
	smol := tiny(t, "smollm2")
	for _, bits := range []int{2, 3, 5, 6, 8} {
		add(smol, tomlx.Options{Bits: bits, Group: 32}, "")
	}
	add(smol, tomlx.Options{Bits: 16}, "bfloat16")
	add(smol, tomlx.Options{}, "") // rows of 96 are no groups of 64: floats
	add(smol, tomlx.Options{Group: 32, Type: tensor.F16}, "float16")
	add(smol, tomlx.Options{Bits: 32}, "float32")
	many := manyLayers(t)
	for _, r := range tomlx.Recipes() {
		add(many, tomlx.Options{Recipe: r}, "")
	}
	add(many, tomlx.Options{Group: 128}, "")
	mlxConvert(t, jobs)
	for _, p := range pairs {
		t.Run(p.name, func(t *testing.T) {
			got := toMLX(t, p.src, p.o)
			have, want := weightFiles(t, got), weightFiles(t, p.want)
			for name := range want {
				if have[name] != want[name] {
					t.Errorf("%s: %s, want %s", name, have[name], want[name])
				}
				delete(have, name)
			}
			if len(have) > 0 {
				t.Errorf("besides: %v", slices.Sorted(maps.Keys(have)))
			}
			ours, theirs := jsonFile(t, filepath.Join(got, "config.json")), jsonFile(t, filepath.Join(p.want, "config.json"))
			for _, k := range []string{"quantization", "quantization_config"} {
				if q, ok := theirs[k].(map[string]any); ok && p.o.Recipe != "" {
					q["bits"] = float64(low[p.o.Recipe]) // theirs names the default, which none of the modules has
				}
				if !reflect.DeepEqual(ours[k], theirs[k]) {
					t.Errorf("%s: %v, want %v", k, ours[k], theirs[k])
				}
			}
			if !reflect.DeepEqual(ours["eos_token_id"], theirs["eos_token_id"]) {
				t.Errorf("eos_token_id: %v, want %v", ours["eos_token_id"], theirs["eos_token_id"])
			}
			our, their := jsonFile(t, filepath.Join(got, safetensors.IndexName)), jsonFile(t, filepath.Join(p.want, safetensors.IndexName))
			if !reflect.DeepEqual(our, their) {
				t.Errorf("index %v, want %v", our["metadata"], their["metadata"])
			}
			if info, err := tomlx.Check(context.Background(), p.want); err != nil {
				t.Errorf("mlx-lm's own folder is refused: %v", err)
			} else if mine, err := tomlx.Check(context.Background(), got); err != nil || !maps.Equal(info.Packed, mine.Packed) ||
				info.Parameters != mine.Parameters || info.WeightBytes != mine.WeightBytes || !mine.Complete {
				t.Errorf("checked otherwise than mlx-lm's: %v", err)
			}
		})
	}
}

// mlxAnswer is what a folder answers.
type mlxAnswer struct {
	Greedy []int     `json:"greedy"`
	Gaps   []float64 `json:"gaps"`
	NLL    float64   `json:"nll"`
	Tokens int       `json:"tokens"`
	Last   []float64 `json:"last"`
}

func mlxAnswers(t *testing.T, dirs []string, greedy int, prompt, text string, most int) []mlxAnswer {
	t.Helper()
	in, err := json.Marshal(dirs)
	if err != nil {
		t.Fatal(err)
	}
	out := oracle.Run(t, mlxAnswerScript, in, fmt.Sprint(greedy), prompt, text, fmt.Sprint(most))
	var answers []mlxAnswer
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var a mlxAnswer
		if err := d.Decode(&a); err == io.EOF {
			return answers
		} else if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, a)
	}
}

// sameAnswers wants texts that part only where the best two logits lie within
// 1e-3, and perplexities within 0.1 %.
func sameAnswers(t *testing.T, what string, got, want mlxAnswer) {
	t.Helper()
	for i := range want.Greedy {
		if got.Greedy[i] != want.Greedy[i] {
			if min(got.Gaps[i], want.Gaps[i]) > 1e-3 {
				t.Errorf("%s: token %d is %d, want %d; the best two lie %g apart", what, i, got.Greedy[i], want.Greedy[i], want.Gaps[i])
			}
			break
		}
	}
	ratio := math.Exp(got.NLL - want.NLL)
	t.Logf("%s: perplexity %.4f and %.4f on %d tokens", what, math.Exp(got.NLL), math.Exp(want.NLL), want.Tokens)
	if math.Abs(ratio-1) > 1e-3 || want.Tokens == 0 {
		t.Errorf("%s: perplexity × %.5f of mlx-lm's folder", what, ratio)
	}
}

// stories writes the sample model and a text it knows.
func stories(t *testing.T) (dir, text string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "stories260K")
	if err := os.CopyFS(dir, samples.Stories260K()); err != nil {
		t.Fatal(err)
	}
	b, err := fs.ReadFile(samples.Stories260K(), "expected_greedy.json")
	if err != nil {
		t.Fatal(err)
	}
	var greedy struct{ Text string }
	if err := json.Unmarshal(b, &greedy); err != nil || greedy.Text == "" {
		t.Fatalf("expected_greedy.json: %v", err)
	}
	text = filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte(greedy.Text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, text
}

// TestMLXAnswers lets mlx-lm answer from our folders and from its own of the
// same checkpoint.
func TestMLXAnswers(t *testing.T) {
	oracle.Python(t)
	src, text := stories(t)
	root := t.TempDir()
	var jobs []mlxJob
	var dirs []string
	var names []string
	for i, o := range []tomlx.Options{{}, {Bits: 8, Group: 32}, {Recipe: "mixed_3_6", Group: 32}, {Bits: 16}} {
		j := mlxJob{Src: src, Dst: filepath.Join(root, fmt.Sprint(i)), Bits: 4, Group: 64, Recipe: o.Recipe}
		switch {
		case o.Bits == 16:
			j.Bits, j.DType = 0, "bfloat16"
		case o.Bits != 0:
			j.Bits = o.Bits
		}
		if o.Group != 0 {
			j.Group = o.Group
		}
		jobs = append(jobs, j)
		dirs = append(dirs, toMLX(t, src, o), j.Dst)
		names = append(names, o.Name())
	}
	mlxConvert(t, jobs)
	answers := mlxAnswers(t, dirs, 200, "Once upon a time", text, 1<<20)
	for i, name := range names {
		sameAnswers(t, name, answers[2*i], answers[2*i+1])
	}
	if ppl := math.Exp(answers[len(answers)-2].NLL); ppl > 2 {
		t.Errorf("perplexity %.2f on the model's own text: the weights are not its", ppl)
	}
}

// TestMLXOfGGUF lets mlx-lm load a folder made from a GGUF file, tokenizer and
// all.
func TestMLXOfGGUF(t *testing.T) {
	oracle.Python(t)
	src := oracle.SampleGGUF(t)
	dir := toMLX(t, src, tomlx.Options{})
	if c := jsonFile(t, filepath.Join(dir, "config.json")); c["torch_dtype"] != "bfloat16" {
		t.Errorf("type %v, want bfloat16", c["torch_dtype"])
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("The capital of France is Paris."), 0o644); err != nil {
		t.Fatal(err)
	}
	a := mlxAnswers(t, []string{dir}, 1, "The capital of France is", text, 512)[0]
	if ppl := math.Exp(a.NLL); ppl > 100 { // a model that is wired wrongly has thousands
		t.Errorf("perplexity %.2f on plain facts", ppl)
	}
}

// TestMLXShards: the same tensors in several files, whose index names them.
func TestMLXShards(t *testing.T) {
	src := manyLayers(t)
	whole := toMLX(t, src, tomlx.Options{})
	parts := toMLX(t, src, tomlx.Options{ShardBytes: 200 << 10})
	if found, _ := filepath.Glob(filepath.Join(parts, "model-0000?-of-0000?.safetensors")); len(found) < 3 {
		t.Fatalf("%d files", len(found))
	}
	if !maps.Equal(weightFiles(t, whole), weightFiles(t, parts)) {
		t.Error("tensors differ")
	}
	set, err := safetensors.OpenIndex(filepath.Join(parts, safetensors.IndexName))
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if set.Index().TotalSize != set.Bytes() {
		t.Errorf("index says %d bytes, the tensors have %d", set.Index().TotalSize, set.Bytes())
	}
	if _, err := tomlx.Check(context.Background(), parts); err != nil {
		t.Error(err)
	}
}

// TestMLXFolder: bytes do not depend on workers or on what else is written, and
// the folder has what it needs.
func TestMLXFolder(t *testing.T) {
	src := tiny(t, "qwen3")
	o := tomlx.Options{Group: 32}
	one, many := t.TempDir(), t.TempDir()
	run(t, src, convert.Options{Output: one, NoBase: true, Workers: 1, MLX: convert.MLX{Folders: []tomlx.Options{o}}})
	run(t, src, convert.Options{Output: many, Workers: 3, Targets: []convert.Target{{Name: "cpu", Recipes: []string{"int4"}}},
		MLX: convert.MLX{Folders: []tomlx.Options{o, {Bits: 8}, {Recipe: "mixed_4_6"}, {Bits: 16}}}})
	a, b := files(t, filepath.Join(one, "mlx", "4bit-g32")), files(t, filepath.Join(many, "mlx", "4bit-g32"))
	for name, data := range a {
		if !bytes.Equal(data, b[name]) {
			t.Errorf("%s differs", name)
		}
	}
	for _, name := range []string{"README.md", "chat_template.jinja", "config.json", "generation_config.json", "metadata.json",
		"model.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"} {
		if len(a[name]) == 0 {
			t.Errorf("no %s", name)
		}
	}
	m, err := modeldir.ParseMetadata(a["metadata.json"])
	if err != nil {
		t.Fatal(err)
	}
	if m.Target.Format != "mlx" || m.Target.Precision != "int4" || m.Target.BlockLength != 32 || m.Size.WeightBytes != int64(len(a["model.safetensors"])) {
		t.Errorf("metadata %+v, %+v", m.Target, m.Size)
	}
	if floor := m.Size.BitsPerWeightFloor; floor < 6 || floor > 6.2 || m.Size.BitsPerWeight < floor {
		t.Errorf("%.3f bits per weight, floor %.3f", m.Size.BitsPerWeight, floor)
	}
	if !strings.Contains(string(a["README.md"]), "library_name: mlx") {
		t.Errorf("card %s", a["README.md"])
	}
	if entries, _ := os.ReadDir(filepath.Join(many, "mlx")); len(entries) != 4 {
		t.Errorf("%d folders, want 4", len(entries))
	}
}
