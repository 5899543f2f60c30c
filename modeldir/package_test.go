package modeldir

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// TestPackage checks every rule of the package schema: long names of
// providers, distinct strings for variants of one provider, folders that exist
// and hold a genai_config.json, and none in the package itself.
func TestPackage(t *testing.T) {
	dir := t.TempDir()
	for _, a := range []string{"base/fp16", "cpu/int4", "cpu/int8", "tensorrt/int8", "coreml/int4"} {
		folder := filepath.Join(dir, "onnx", filepath.FromSlash(a))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{ModelFile, GenAIConfigFile} {
			if err := os.WriteFile(filepath.Join(folder, name), []byte("{}"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := WritePackage(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "onnx", PackageFile))
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		SchemaVersion string `json:"schema_version"`
		Components    map[string]struct {
			Variants map[string]map[string]string `json:"variants"`
		} `json:"components"`
	}
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	variants := p.Components["model"].Variants
	if p.SchemaVersion != "1.0" || len(variants) != 4 {
		t.Fatalf("schema %q, %d variants: %s", p.SchemaVersion, len(variants), b)
	}
	seen := map[string]bool{}
	for name, v := range variants {
		key := v["ep"] + " " + v["compatibility_string"]
		if len(v) != 4 || v["device"] == "" || seen[key] {
			t.Errorf("variant %s: %v", name, v)
		}
		seen[key] = true
		if _, err := os.Stat(filepath.Join(dir, "onnx", v["variant_directory"], GenAIConfigFile)); err != nil {
			t.Errorf("variant %s: %v", name, err)
		}
	}
	if !seen["TensorrtExecutionProvider int8"] || !seen["CPUExecutionProvider int4"] {
		t.Errorf("variants %v", seen)
	}
	if err := WritePackage(t.TempDir()); err != nil {
		t.Errorf("a folder without artifacts: %v", err)
	}
}
