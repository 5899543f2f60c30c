package safetensors_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// section makes an io.WriterTo of a reader.
type section struct{ r io.Reader }

func (s section) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, s.r) }

var floats = []float32{0, 1, -1, 0.1, 65504, -6e-5, 6e-8, float32(math.Pi)}

// sample declares the same eight floats in three types.
func sample(declare func(safetensors.Decl), write func(string, io.WriterTo) error) error {
	types := map[string]tensor.DType{"f32": tensor.F32, "f16 <&>": tensor.F16, "bf16": tensor.BF16}
	names := []string{"bf16", "f16 <&>", "f32"}
	for _, n := range names {
		declare(safetensors.Decl{Name: n, Type: types[n].String(), Shape: tensor.Shape{2, 4}})
	}
	declare(safetensors.Decl{Name: "scalar", Type: "U8"})
	for _, n := range names {
		if err := write(n, tensor.Stream{R: tensor.Floats(floats), Elements: 8, DType: types[n]}); err != nil {
			return err
		}
	}
	return write("scalar", section{strings.NewReader("\x07")})
}

func TestShardedWriter(t *testing.T) {
	for _, tc := range []struct {
		name   string
		o      safetensors.ShardOptions
		shards int
		index  bool
	}{
		{"one", safetensors.ShardOptions{}, 1, false},
		{"one with index", safetensors.ShardOptions{Index: true}, 1, true},
		{"two", safetensors.ShardOptions{MaxBytes: 33}, 2, true},
		{"each its own", safetensors.ShardOptions{MaxBytes: 1}, 4, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := folder(t, map[string][]byte{safetensors.IndexName: []byte("old")})
			w := safetensors.NewShardedWriter(dir, tc.o)
			if err := sample(w.Declare, w.WriteTensor); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			index := filepath.Join(dir, safetensors.IndexName)
			var s *safetensors.Set
			var err error
			if tc.index {
				s, err = safetensors.OpenIndex(index)
			} else {
				s, err = safetensors.OpenFiles(filepath.Join(dir, "model.safetensors"))
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := os.Stat(index); (err == nil) != tc.index {
				t.Errorf("index: %v", err)
			}
			if len(s.Shards()) != tc.shards || tc.index && s.Index().TotalSize != s.Bytes() {
				t.Errorf("%d shards of %d bytes, index %+v", len(s.Shards()), s.Bytes(), s.Index())
			}
			f32, _ := s.Tensor("f32")
			got := make([]float32, 8)
			if err := f32.ReadFloat32(got, 0); err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if got[i] != floats[i] {
					t.Errorf("element %d: %v, want %v", i, got[i], floats[i])
				}
			}
			if tmp, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(tmp) > 0 {
				t.Errorf("left behind: %v", tmp)
			}
		})
	}
}

// TestShardedWriterFails: nothing may be left under a final name.
func TestShardedWriterFails(t *testing.T) {
	broken := errors.New("disk on fire")
	for _, tc := range []struct {
		name string
		use  func(w *safetensors.ShardedWriter)
		want string
	}{
		{"source breaks", func(w *safetensors.ShardedWriter) {
			w.Declare(safetensors.Decl{Name: "a", Type: "U8", Shape: tensor.Shape{1}})
			w.WriteTensor("a", section{io.MultiReader(strings.NewReader("x"), errReader{broken})})
		}, "disk on fire"},
		{"not all written", func(w *safetensors.ShardedWriter) {
			w.Declare(safetensors.Decl{Name: "a", Type: "U8", Shape: tensor.Shape{1}})
		}, `tensor "a" and 0 more were not written`},
		{"too few bytes", func(w *safetensors.ShardedWriter) {
			w.Declare(safetensors.Decl{Name: "a", Type: "U8", Shape: tensor.Shape{2}})
			w.WriteTensor("a", section{strings.NewReader("x")})
		}, "1 bytes came, 2 were declared"},
		{"wrong order", func(w *safetensors.ShardedWriter) {
			w.Declare(safetensors.Decl{Name: "a", Type: "U8", Shape: tensor.Shape{1}})
			w.WriteTensor("b", section{strings.NewReader("x")})
		}, `tensor "a" is next`},
		{"declared twice", func(w *safetensors.ShardedWriter) {
			w.Declare(safetensors.Decl{Name: "a", Type: "U8", Shape: tensor.Shape{1}})
			w.Declare(safetensors.Decl{Name: "a", Type: "U8", Shape: tensor.Shape{1}})
		}, "declared twice"},
		{"bad type", func(w *safetensors.ShardedWriter) {
			w.Declare(safetensors.Decl{Name: "a", Type: "Q9", Shape: tensor.Shape{1}})
		}, `"Q9" is none`},
	} {
		dir := t.TempDir()
		w := safetensors.NewShardedWriter(dir, safetensors.ShardOptions{})
		tc.use(w)
		if err := w.Close(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q in it", tc.name, err, tc.want)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left behind: %v", tc.name, left)
		}
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// TestDeterministic: the same declarations give the same bytes.
func TestDeterministic(t *testing.T) {
	write := func() []byte {
		var b bytes.Buffer
		w := safetensors.NewWriter(&b, map[string]string{"b": "2", "a": "1", "format": "pt"})
		err := sample(w.Declare, func(n string, d io.WriterTo) error {
			if b.Len() == 0 {
				if err := w.WriteHeader(); err != nil {
					return err
				}
			}
			return w.WriteTensor(n, d)
		})
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	if !bytes.Equal(write(), write()) {
		t.Error("two runs differ")
	}
}

// TestReadByOracle: Python reads what we wrote, shard by shard.
func TestReadByOracle(t *testing.T) {
	dir := t.TempDir()
	w := safetensors.NewShardedWriter(dir, safetensors.ShardOptions{MaxBytes: 32})
	if err := errors.Join(sample(w.Declare, w.WriteTensor), w.Close()); err != nil {
		t.Fatal(err)
	}
	out := oracle.Run(t, `
import sys, json, os, numpy as np, ml_dtypes
from safetensors import safe_open
d = sys.argv[1]
idx = json.load(open(os.path.join(d, "model.safetensors.index.json")))
res = {}
for name, shard in idx["weight_map"].items():
    with safe_open(os.path.join(d, shard), "np") as f:
        assert f.metadata() == {"format": "pt"}
        res[name] = f.get_tensor(name).astype(np.float32).reshape(-1).tolist()
print(json.dumps(res))`, nil, dir)
	var got map[string][]float32
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	for i, v := range floats {
		for name, want := range map[string]float32{
			"f32": v, "f16 <&>": tensor.F16ToF32(tensor.F32ToF16(v)), "bf16": tensor.BF16ToF32(tensor.F32ToBF16(v)),
		} {
			if len(got[name]) != 8 || got[name][i] != want {
				t.Errorf("%s[%d]: the oracle reads %v, want %v", name, i, got[name], want)
			}
		}
	}
	if len(got["scalar"]) != 1 || got["scalar"][0] != 7 {
		t.Errorf("scalar: %v", got["scalar"])
	}
}

// TestReadOracle: we read what Python wrote.
func TestReadOracle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	oracle.Run(t, `
import sys, numpy as np, ml_dtypes
from safetensors.numpy import save_file
a = np.arange(-12, 12, dtype=np.float32).reshape(2, 3, 4) / 3
save_file({"x": np.array([1, 2, 3], np.uint8), "f32": a, "f16": a.astype(np.float16), "bf16": a.astype(ml_dtypes.bfloat16),
  "i64": np.arange(-12, 12, dtype=np.int64), "e": np.zeros((0, 3), np.float32)}, sys.argv[1], {"who": "safetensors"})`, nil, path)
	r, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Metadata()["who"] != "safetensors" || len(r.Infos()) != 6 {
		t.Errorf("metadata %v, %d tensors", r.Metadata(), len(r.Infos()))
	}
	for name, round := range map[string]func(float32) float32{
		"f32":  func(v float32) float32 { return v },
		"f16":  func(v float32) float32 { return tensor.F16ToF32(tensor.F32ToF16(v)) },
		"bf16": func(v float32) float32 { return tensor.BF16ToF32(tensor.F32ToBF16(v)) },
		"i64":  func(v float32) float32 { return v * 3 },
	} {
		x, ok := r.Tensor(name)
		if !ok || x.Elements() != 24 {
			t.Fatalf("tensor %s: %+v, %v", name, x, ok)
		}
		got := make([]float32, 24)
		if err := x.ReadFloat32(got, 0); err != nil {
			t.Fatal(err)
		}
		for i, g := range got {
			want := round(float32(i-12) / 3)
			if name == "i64" {
				want = float32(i - 12)
			}
			if g != want {
				t.Errorf("%s[%d] = %v, want %v", name, i, g, want)
			}
		}
	}
}
