package modeldir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestManifest(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("onnx/cpu/int4/model.onnx", "graph")
	write("onnx/cpu/int4/model.onnx.data", "weights")
	write("onnx/base/fp16/model.onnx", "graph")
	write("onnx/base/fp16/metadata.json", `{"schema_version": 1, "size": {"weight_bytes": 1000, "bits_per_weight": 16},
		"files": [{"name": "model.onnx", "sha256": "aa"}, {"name": "a.json", "sha256": "bb"}], "fidelity": {"perplexity": 3}}`)
	write("gguf/Q4_K_M/x-Q4_K_M.gguf", "12345")
	write("gguf/Q4_K_M/metadata.json", "broken")
	write("mlx/4bit/model.safetensors", "123")
	write("gguf/empty/README", "")
	write("other/model.onnx", "")
	want := []Artifact{
		{Path: "onnx/base/fp16", Format: "onnx", Target: "base", Recipe: "fp16", Bytes: 1000, BitsPerWeight: 16, Fidelity: &Fidelity{Perplexity: 3},
			SHA256: sumOf([]FileRecord{{Name: "a.json", SHA256: "bb"}, {Name: "model.onnx", SHA256: "aa"}})},
		{Path: "onnx/cpu/int4", Format: "onnx", Target: "cpu", Recipe: "int4", Bytes: 12},
		{Path: "gguf/Q4_K_M", Format: "gguf", Target: "llama.cpp", Recipe: "Q4_K_M", Bytes: 5},
		{Path: "mlx/4bit", Format: "mlx", Target: "mlx-lm", Recipe: "4bit", Bytes: 3},
	}
	got, err := Artifacts(dir)
	if err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got))
	}
	if err := WriteManifest(dir, Tool{Name: "x"}, Source{ID: "y"}); err != nil {
		t.Fatal(err)
	}
	m, err := ReadManifest(dir)
	if err != nil || cmp.Diff(want, m.Artifacts) != "" || m.Tool.Name != "x" || m.Source.ID != "y" {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := Artifacts(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	for bad, want := range map[string]string{
		"{": "", `{"schema_version": 2}`: "newer", `{"artifacts": [{"path": "../x"}]}`: "leaves the folder",
		`{"artifacts": [{"path": "/x"}]}`: "leaves the folder", `{"artifacts": [{"path": ""}]}`: "leaves the folder",
	} {
		if _, err := ParseManifest([]byte(bad)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schema_version": 1, "artifacts": [{"path": "gguf/Q4_0"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest(data)
		if err != nil {
			return
		}
		for _, a := range m.Artifacts {
			if !filepath.IsLocal(filepath.FromSlash(a.Path)) {
				t.Errorf("path %q", a.Path)
			}
		}
	})
}
