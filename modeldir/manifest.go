package modeldir

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// ManifestFile lists the artifacts of a conversion's output folder.
const ManifestFile = "manifest.json"

// ManifestVersion is the schema number of [Manifest]. Readers refuse a higher
// one.
const ManifestVersion = 1

// Manifest is manifest.json: every artifact of one model.
type Manifest struct {
	SchemaVersion int        `json:"schema_version"`
	Tool          Tool       `json:"tool"`
	Source        Source     `json:"source"`
	Artifacts     []Artifact `json:"artifacts"`
}

// Artifact is one runnable form of a model in an output folder:
// onnx/TARGET/RECIPE, gguf/TYPE or mlx/BITSbit.
type Artifact struct {
	Path          string  `json:"path"`   // of its folder, below the output folder, with slashes
	Format        string  `json:"format"` // "onnx", "gguf", "mlx"
	Target        string  `json:"target"` // of ONNX "cpu", "tensorrt", "base", …; else the format's runtime
	Recipe        string  `json:"recipe"` // "int4", "Q4_K_M", "4bit"
	Bytes         int64   `json:"bytes"`  // of the weight files
	BitsPerWeight float64 `json:"bits_per_weight,omitempty"`
	// SHA256 is that of the list of its files, a line "sum  name" each, in order
	// of name; "" where metadata.json tells no sums.
	SHA256   string    `json:"sha256,omitempty"`
	Fidelity *Fidelity `json:"fidelity,omitempty"`
}

// Artifacts lists what lies in an output folder, by looking: manifest.json may
// be missing or old. A folder with a broken metadata.json is listed by its files.
func Artifacts(dir string) ([]Artifact, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("list the artifacts in %s: %w", dir, errors.Join(cause(err), fs.ErrNotExist))
	}
	var list []Artifact
	for _, layout := range []struct {
		format, pattern, file string
	}{
		{"onnx", "onnx/*/*", "*.onnx"}, {"gguf", "gguf/*", "*.gguf"}, {"mlx", "mlx/*", "model*.safetensors"},
	} {
		folders, err := filepath.Glob(filepath.Join(escapeGlob(dir), filepath.FromSlash(layout.pattern)))
		if err != nil {
			return nil, fmt.Errorf("list the artifacts in %s: %w", dir, err)
		}
		for _, folder := range folders {
			files, err := filepath.Glob(filepath.Join(escapeGlob(folder), layout.file))
			if err != nil {
				return nil, fmt.Errorf("list the artifacts in %s: %w", dir, err)
			}
			if len(files) == 0 {
				continue
			}
			rel, err := filepath.Rel(dir, folder)
			if err != nil {
				return nil, fmt.Errorf("list the artifacts in %s: %w", dir, err)
			}
			list = append(list, describe(folder, filepath.ToSlash(rel), layout.format, files))
		}
	}
	return list, nil
}

// describe fills an artifact from its metadata.json, or from its files alone.
func describe(folder, rel, format string, files []string) Artifact {
	parts := strings.Split(rel, "/")
	a := Artifact{Path: rel, Format: format, Recipe: parts[len(parts)-1], Target: map[string]string{"gguf": "llama.cpp", "mlx": "mlx-lm"}[format]}
	if format == "onnx" {
		a.Target = parts[1]
	}
	if data, err := readSmall(filepath.Join(folder, MetadataFile)); err == nil {
		if m, err := ParseMetadata(data); err == nil {
			a.Bytes, a.BitsPerWeight, a.Fidelity = m.Size.WeightBytes, m.Size.BitsPerWeight, m.Fidelity
			a.SHA256 = sumOf(m.Files)
		}
	}
	if a.Bytes <= 0 {
		for _, f := range files {
			for _, name := range []string{f, f + ".data"} {
				if info, err := os.Stat(name); err == nil {
					a.Bytes += info.Size()
				}
			}
		}
	}
	return a
}

func sumOf(files []FileRecord) string {
	if len(files) == 0 {
		return ""
	}
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b FileRecord) int { return strings.Compare(a.Name, b.Name) })
	h := sha256.New()
	for _, f := range files {
		if f.SHA256 == "" {
			return ""
		}
		fmt.Fprintf(h, "%s  %s\n", f.SHA256, f.Name)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// WriteManifest writes manifest.json of what lies in an output folder.
func WriteManifest(dir string, tool Tool, source Source) error {
	list, err := Artifacts(dir)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(Manifest{SchemaVersion: ManifestVersion, Tool: tool, Source: source, Artifacts: list}, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s of %s: %w", ManifestFile, dir, err)
	}
	tmp := filepath.Join(dir, "."+ManifestFile+".tmp")
	if err = os.WriteFile(tmp, append(data, '\n'), 0o644); err == nil {
		err = os.Rename(tmp, filepath.Join(dir, ManifestFile))
	}
	if err != nil {
		return fmt.Errorf("write %s of %s: %w", ManifestFile, dir, cause(err))
	}
	return nil
}

// ReadManifest reads manifest.json of an output folder.
func ReadManifest(dir string) (*Manifest, error) {
	data, err := readSmall(filepath.Join(dir, ManifestFile))
	if err != nil {
		return nil, fmt.Errorf("read %s of %s: %w", ManifestFile, dir, err)
	}
	m, err := ParseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("read %s of %s: %w", ManifestFile, dir, err)
	}
	return m, nil
}

// ParseManifest reads manifest.json, refuses newer schemas, and paths that leave
// the folder.
func ParseManifest(data []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, jsonError(err)
	}
	if m.SchemaVersion > ManifestVersion {
		return nil, fieldError("schema_version", "%d is newer than the %d this program reads; update the program", m.SchemaVersion, ManifestVersion)
	}
	for i, a := range m.Artifacts {
		if !filepath.IsLocal(filepath.FromSlash(a.Path)) || strings.Contains(a.Path, `\`) {
			return nil, &tensor.FormatError{Offset: -1, Field: "artifacts", Err: fmt.Errorf("number %d has path %q, which leaves the folder", i, a.Path)}
		}
	}
	return &m, nil
}
