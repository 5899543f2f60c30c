package gguf_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// TestReadByOracle: the Python package reads what we wrote.
func TestReadByOracle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.gguf")
	if err := os.WriteFile(path, write(t, gguf.WriterOptions{Alignment: 64}), 0o600); err != nil {
		t.Fatal(err)
	}
	oracle.Run(t, `
import sys, numpy as np, gguf
r = gguf.GGUFReader(sys.argv[1])
want = {"GGUF.version": 3, "general.alignment": 64, "general.architecture": "llama", "u8": 200, "i8": -3, "u16": 60000, "i16": -300,
  "u32": 4000000000, "i32": -70000, "f32": float(np.float32(1e-5)), "yes": True, "no": False, "u64": 1 << 40, "i64": -(1 << 40), "f64": 0.1,
  "empty": "", "strings": ["a", "", "ĠĠ", "\x00"], "i32s": [1, -2], "f32s": [-0.5, 3], "bools": [True, False], "u8s": [7], "u64s": [1 << 50]}
for k, v in want.items():
    got = r.get_field(k).contents()
    assert got == v, (k, got, v)
assert set(r.fields) == set(want) | {"GGUF.tensor_count", "GGUF.kv_count"}, set(r.fields)
t = {t.name: t for t in r.tensors}
assert t["m"].data.tolist() == [[0, 1, 2], [3, 4, 5]], t["m"].data
assert list(t["m"].shape) == [3, 2]
assert t["v"].data.astype(np.float32).tolist() == [1, 2, -3]
assert t["q"].tensor_type.name == "Q8_0" and t["q"].data.tobytes() == bytes(range(68))
`, nil, path)
}

// TestReadOracle: we read what the Python package wrote.
func TestReadOracle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.gguf")
	oracle.Run(t, `
import sys, numpy as np, gguf
w = gguf.GGUFWriter(sys.argv[1], "qwen3")
w.add_uint32("qwen3.block_count", 2)
w.add_float32("f", 0.25)
w.add_array("tokens", ["<s>", "é", ""])
w.add_array("types", [3, 1, 1])
w.add_array("scores", [0.5, -1.0, 2.0])
a = np.arange(96, dtype=np.float32).reshape(3, 32)
w.add_tensor("a", a)
w.add_tensor("h", a.astype(np.float16))
w.add_tensor("q", gguf.quants.quantize(a, gguf.GGMLQuantizationType.Q8_0), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
`, nil, path)
	r, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	tokens, _ := r.Value("tokens")
	if s, err := tokens.Strings(); err != nil || !slices.Equal(s, []string{"<s>", "é", ""}) {
		t.Errorf("tokens: %q, %v", s, err)
	}
	scores, _ := r.Value("scores")
	if s, err := scores.Floats(); err != nil || !slices.Equal(s, []float32{0.5, -1, 2}) {
		t.Errorf("scores: %v, %v", s, err)
	}
	for _, name := range []string{"a", "h", "q"} {
		x, ok := r.Tensor(name)
		if !ok || !x.Shape.Equal(tensor.Shape{3, 32}) {
			t.Fatalf("tensor %s: %+v, %v", name, x, ok)
		}
		got := make([]float32, 96)
		if err := x.ReadFloat32(got, 0); err != nil {
			t.Fatal(err)
		}
		for i, g := range got {
			if d := g - float32(i); d > 0.4 || d < -0.4 || name != "q" && d != 0 {
				t.Errorf("%s[%d] = %v", name, i, g)
			}
		}
	}
}
