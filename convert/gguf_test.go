package convert_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/convert/togguf"
	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/internal/reference"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
)

// deep is a model whose rows are whole blocks of 256, with enough layers for
// every rule of the mixtures and four query heads for each key head.
func deep(t *testing.T, layers int) string {
	t.Helper()
	v, err := tinymodel.ByName("llama2")
	if err != nil {
		t.Fatal(err)
	}
	v.Config = maps.Clone(v.Config)
	maps.Copy(v.Config, map[string]any{
		"hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 1,
		"num_hidden_layers": layers,
	})
	dir := filepath.Join(t.TempDir(), fmt.Sprintf("deep-%d", layers))
	if err := tinymodel.Write(dir, v); err != nil {
		t.Fatal(err)
	}
	return dir
}

// allTypes are all file types by name.
func allTypes(t *testing.T) []togguf.FileType {
	t.Helper()
	var types []togguf.FileType
	for _, name := range togguf.FileTypes() {
		ft, err := togguf.ParseFileType(name)
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, ft)
	}
	return types
}

// toGGUF converts src and returns the folders by type.
func toGGUF(t *testing.T, src string, g convert.GGUF) map[togguf.FileType]string {
	t.Helper()
	out := t.TempDir()
	run(t, src, convert.Options{Output: out, NoBase: true, GGUF: g})
	dirs := map[togguf.FileType]string{}
	for _, ft := range g.Types {
		dirs[ft] = filepath.Join(out, "gguf", ft.String())
	}
	return dirs
}

// theGGUF is the one GGUF file in a folder.
func theGGUF(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*.gguf"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s holds %q, %v: want one GGUF file", dir, found, err)
	}
	return found[0]
}

// stored is a tensor as a file has it.
type stored struct {
	typ   ggml.Type
	shape string
	sum   [32]byte
}

// tensors reads the tensors of files.
func tensors(t *testing.T, paths ...string) map[string]stored {
	t.Helper()
	out := map[string]stored{}
	for _, p := range paths {
		r, err := gguf.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range r.Infos() {
			s, _ := r.Section(info.Name)
			h := sha256.New()
			if _, err := io.Copy(h, s); err != nil {
				t.Fatal(err)
			}
			out[info.Name] = stored{info.Type, info.Shape.String(), [32]byte(h.Sum(nil))}
		}
		r.Close()
	}
	return out
}

func sameTensors(t *testing.T, what string, got, want map[string]stored) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d tensors, want %d", what, len(got), len(want))
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		g, w := got[name], want[name]
		if g.typ != w.typ || g.shape != w.shape {
			t.Errorf("%s: %s is %v %s, want %v %s", what, name, g.typ, g.shape, w.typ, w.shape)
		} else if g.sum != w.sum {
			t.Errorf("%s: %s (%v) has other bytes", what, name, g.typ)
		}
	}
}

// quantizeScript runs llama_model_quantize for each job of a JSON list on stdin
// and prints the codes it returns.
const quantizeScript = `
import json, pathlib
lib = load_library(pathlib.Path(sys.argv[1]))
class Override(c.Structure):
    _fields_ = [("pattern", c.c_char_p), ("type", i32)]
codes = []
for job in json.load(sys.stdin):
    p = lib.llama_model_quantize_default_params()
    p.ftype, p.nthread = job["ftype"], 2
    if job.get("imatrix"):
        rows = {k.encode(): np.array(v, np.float32) for k, v in job["imatrix"].items()}
        data = (ImatrixData * (len(rows) + 1))(*((k, v.ctypes.data_as(c.POINTER(f32)), v.size) for k, v in rows.items()))
        p.imatrix = c.cast(data, ptr)
    if job.get("overrides"):
        list_ = (Override * (len(job["overrides"]) + 1))(*((a.encode(), b) for a, b in job["overrides"]))
        p.tt_overrides = c.cast(list_, ptr)
    codes.append(lib.llama_model_quantize(job["in"].encode(), job["out"].encode(), c.byref(p)))
print(json.dumps(codes))
`

// job is one call of llama_model_quantize.
type quantizeJob struct {
	In        string               `json:"in"`
	Out       string               `json:"out"`
	FType     togguf.FileType      `json:"ftype"`
	Imatrix   map[string][]float32 `json:"imatrix,omitempty"`
	Overrides [][2]any             `json:"overrides,omitempty"`
}

func llamaQuantize(t *testing.T, jobs []quantizeJob) []int {
	t.Helper()
	in, err := json.Marshal(jobs)
	if err != nil {
		t.Fatal(err)
	}
	var codes []int
	out := oracle.Run(t, oracle.LlamaCppModule+quantizeScript, in, oracle.LlamaCpp(t))
	if err := json.Unmarshal(out, &codes); err != nil || len(codes) != len(jobs) {
		t.Fatalf("script printed %q: %v", out, err)
	}
	return codes
}

// TestGGUFTensorsAreLlamaCpps wants the bytes that llama_model_quantize makes of
// our F32 file, for every type and tensor.
func TestGGUFTensorsAreLlamaCpps(t *testing.T) {
	oracle.LlamaCpp(t)
	for _, src := range []string{
		tiny(t, "llama2"), tiny(t, "llama3"), tiny(t, "llama-bias"), tiny(t, "smollm2"), tiny(t, "qwen2"),
		tiny(t, "qwen3"), tiny(t, "qwen3-text"), deep(t, 18), deep(t, 3),
		tiny(t, "mistral"), tiny(t, "gemma3"), tiny(t, "phi3"), tiny(t, "phi4"),
		tiny(t, "mixtral"), tiny(t, "qwen3-moe"),
	} {
		t.Run(filepath.Base(src), func(t *testing.T) {
			dirs := toGGUF(t, src, convert.GGUF{Types: allTypes(t)})
			f32 := theGGUF(t, dirs[togguf.F32])
			theirs := t.TempDir()
			var jobs []quantizeJob
			for _, ft := range allTypes(t) {
				jobs = append(jobs, quantizeJob{In: f32, Out: filepath.Join(theirs, ft.String()+".gguf"), FType: ft})
			}
			for i, code := range llamaQuantize(t, jobs) {
				got := tensors(t, theGGUF(t, dirs[jobs[i].FType]))
				if code != 0 {
					// Rows that blocks of 32 do not fill: llama.cpp gives up.
					if !slices.ContainsFunc(slices.Collect(maps.Values(got)), func(s stored) bool { return s.typ == ggml.F16 }) {
						t.Errorf("%v: llama_model_quantize failed", jobs[i].FType)
					}
					continue
				}
				sameTensors(t, jobs[i].FType.String(), got, tensors(t, jobs[i].Out))
			}
		})
	}
}

// TestGGUFRoundTrip opens our F32 files as checkpoints and wants the logits of
// the model they were made of, from every tiny checkpoint.
func TestGGUFRoundTrip(t *testing.T) {
	for _, v := range append(tinymodel.Variants(), tinymodel.Mixtures()...) {
		t.Run(v.Name, func(t *testing.T) {
			if strings.HasPrefix(v.Name, "llama3") {
				t.Skip("scaling from contexts below 1024, which no reader guesses")
			}
			if v.Name == "gemma2" {
				v.Config = maps.Clone(v.Config)
				v.Config["query_pre_attn_scalar"] = 16 // what llama.cpp takes
			}
			src := filepath.Join(t.TempDir(), v.Name)
			if err := tinymodel.Write(src, v); err != nil {
				t.Fatal(err)
			}
			tokens := make([]int32, 60)
			if v.Name == "mistral" || v.Name == "phi3" { // beyond whose window the file's context does not go
				tokens = tokens[:11]
			}
			for i := range tokens {
				tokens[i] = int32((i*37 + 11) % 500)
			}
			logits := func(path string) [][]float32 {
				ck, err := checkpoint.Open(t.Context(), path, checkpoint.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer ck.Close()
				spec, err := arch.Parse(ck.Config())
				if err != nil {
					t.Fatalf("%v in %s", err, ck.Config())
				}
				if err := ck.Check(spec.Weights()); err != nil {
					t.Fatal(err)
				}
				ref, err := reference.New(spec, ck.Tensor)
				if err != nil {
					t.Fatal(err)
				}
				return ref.Forward(tokens)
			}
			want := logits(src)
			got := logits(theGGUF(t, toGGUF(t, src, convert.GGUF{Types: []togguf.FileType{togguf.F32}})[togguf.F32]))
			for i := range want {
				if err := near(fmt.Sprintf("position %d", i), got[i], want[i], 1e-5, 1e-5); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestGGUFImportance wants llama.cpp's bytes with an importance matrix and with
// types named for single tensors.
func TestGGUFImportance(t *testing.T) {
	oracle.LlamaCpp(t)
	src := deep(t, 9)
	f32 := theGGUF(t, toGGUF(t, src, convert.GGUF{Types: []togguf.FileType{togguf.F32}})[togguf.F32])
	r, err := gguf.Open(f32)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	m := &togguf.Imatrix{Datasets: []string{"text"}, Chunks: 3, ChunkSize: 512, Entries: map[string]togguf.Entry{}}
	means := map[string][]float32{}
	for _, info := range r.Infos() {
		if len(info.Shape) != 2 || strings.HasPrefix(info.Name, "token_embd") || strings.HasPrefix(info.Name, "blk.2.ffn") {
			continue // llama.cpp's tool sees no embedding; a gap must do no harm
		}
		e := togguf.Entry{Count: 1000, Sums: make([]float32, info.Shape[1])}
		mean := make([]float32, info.Shape[1])
		for i := range e.Sums {
			e.Sums[i] = float32(1000 * math.Exp(rng.NormFloat64()))
			mean[i] = e.Sums[i] / e.Count
		}
		m.Entries[info.Name], means[info.Name] = e, mean
	}
	path := filepath.Join(t.TempDir(), "imatrix.gguf")
	var file bytes.Buffer
	if _, err := m.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if m, err = togguf.OpenImatrix(path); err != nil {
		t.Fatal(err)
	}
	var overrides []togguf.Override
	for _, s := range []string{`blk\.[01]\.attn_q=q8_0`, "ffn_up=Q3_K", "attn_q=q5_0"} {
		o, err := togguf.ParseOverride(s)
		if err != nil {
			t.Fatal(err)
		}
		overrides = append(overrides, o)
	}
	theirs := t.TempDir()
	plain := toGGUF(t, src, convert.GGUF{Types: allTypes(t), Importance: m})
	named := toGGUF(t, src, convert.GGUF{Types: []togguf.FileType{togguf.Q4_K_M}, Importance: m, Overrides: overrides})
	var jobs []quantizeJob
	var ours []string
	for _, ft := range allTypes(t) {
		jobs = append(jobs, quantizeJob{In: f32, Out: filepath.Join(theirs, ft.String()+".gguf"), FType: ft, Imatrix: means})
		ours = append(ours, theGGUF(t, plain[ft]))
	}
	jobs = append(jobs, quantizeJob{In: f32, Out: filepath.Join(theirs, "named.gguf"), FType: togguf.Q4_K_M, Imatrix: means,
		Overrides: [][2]any{{`blk\.[01]\.attn_q`, ggml.Q8_0}, {"ffn_up", ggml.Q3_K}, {"attn_q", ggml.Q5_0}}})
	ours = append(ours, theGGUF(t, named[togguf.Q4_K_M]))
	for i, code := range llamaQuantize(t, jobs) {
		if code != 0 {
			t.Fatalf("%v: llama_model_quantize failed", jobs[i].FType)
		}
		sameTensors(t, filepath.Base(jobs[i].Out), tensors(t, ours[i]), tensors(t, jobs[i].Out))
	}
}
