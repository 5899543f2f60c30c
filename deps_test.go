package llamapajamas

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/llama-pajamas/llama-pajamas"

// level says which packages may import which: a package imports only lower
// levels, and beside itself what besides lists. A package that is in neither
// list fails the test: decide where it belongs. A red rule is talked over, not
// loosened.
var level = map[string]int{
	"tensor": 0, "hardware": 0, "internal/mmap": 0, "internal/filelock": 0, "samples": 0,
	"format/safetensors": 1, "format/gguf": 1, "format/onnx": 1, "format/onnx/internal/pb": 0,
	"quant": 1, "quant/affine": 1, "quant/ggml": 1, "quant/matmulnbits": 1, "quant/qdq": 1,
	"tokenizer": 1, "chattemplate": 1, "fidelity": 1, "eval/instructions": 1, "eval/questions": 2, "eval/runcode": 1, "ort": 1, "llama": 1, "nativelib": 1,
	"arch": 2, "checkpoint": 2, "modeldir": 2, "hub": 2, "internal/fakehub": 1, "target": 2,
	"calibrate": 3, "calibrate/layerwise": 3,
	"convert": 3, "convert/plan": 3, "convert/recipe": 3, "convert/toonnx": 3, "convert/toonnx/passes": 3, "convert/togguf": 3, "convert/tomlx": 3, "convert/mix": 3,
	"infer": 3, "infer/onnxruntime": 3, "infer/llamacpp": 3, "infer/mlxlm": 3,
	"chat": 4, "verify": 4, "autoselect": 4, "report": 4, "bench": 4, "eval": 4,
	"internal/cli": 5, "internal/docstest": 6, "internal/release": 6,
	"cmd/llama-pajamas-quant": 6, "cmd/llama-pajamas-run": 6, "cmd/llama-pajamas-run-onnx": 6,
	"internal/peers": 6, "internal/oracle": 5, "internal/oracle/cmd/oracle-setup": 6,
	"internal/reference": 3, "internal/tinymodel": 3,
}

// besides lists imports within a level: "a: b" lets a import b.
var besides = map[string][]string{
	"eval":                {"chat"},
	"quant/matmulnbits":   {"quant"},
	"quant/qdq":           {"quant", "quant/matmulnbits"},
	"quant/ggml":          {"quant"},
	"format/gguf":         {"quant/ggml"},
	"checkpoint":          {"arch"},
	"target":              {"arch"},
	"convert/recipe":      {"convert/plan", "calibrate"},
	"convert/mix":         {"calibrate", "calibrate/layerwise", "convert/plan", "convert/recipe"},
	"calibrate/layerwise": {"calibrate", "convert/plan", "convert/recipe", "convert/toonnx"},
	"convert/togguf":      {"convert/plan", "calibrate"},
	"convert/tomlx":       {"convert/plan"},
	"convert/toonnx":      {"convert/plan", "convert/recipe", "convert/toonnx/passes"},
	"convert":             {"convert/plan", "convert/recipe", "convert/toonnx", "convert/togguf", "convert/tomlx", "calibrate"},
	"infer/onnxruntime":   {"infer"},
	"infer/llamacpp":      {"infer"},
	"infer/mlxlm":         {"infer"},
}

// never lists imports that are forbidden although the levels allow them.
var never = map[string][]string{
	"arch":  {"format/"},
	"infer": {"convert"},
}

func TestLayers(t *testing.T) {
	for pkg, files := range packages(t) {
		own, known := level[pkg]
		if !known {
			t.Errorf("package %s has no level in deps_test.go", pkg)
			continue
		}
		for imp := range importsOf(t, files) {
			l, ok := level[imp]
			switch {
			case !ok:
				t.Errorf("%s imports %s, which has no level", pkg, imp)
			case l > own, l == own && !slices.Contains(besides[pkg], imp):
				t.Errorf("%s (level %d) imports %s (level %d)", pkg, own, imp, l)
			}
			for root, banned := range never {
				if pkg != root && !strings.HasPrefix(pkg, root+"/") {
					continue
				}
				for _, b := range banned {
					if imp == b || strings.HasPrefix(imp, b) {
						t.Errorf("%s must not import %s", pkg, imp)
					}
				}
			}
		}
	}
}

// TestPackageComments wants one package comment in every package.
func TestPackageComments(t *testing.T) {
	for pkg, files := range packages(t) {
		n := 0
		for _, f := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if parsed.Doc != nil && !strings.HasPrefix(parsed.Doc.Text(), "Code generated") {
				n++
			}
		}
		if n != 1 {
			t.Errorf("package %s has %d package comments, want 1", pkg, n)
		}
	}
}

// TestPackageNames: a package is one idea, and its name says which.
func TestPackageNames(t *testing.T) {
	banned := []string{"util", "utils", "helper", "helpers", "common", "shared", "base", "misc", "lib", "types"}
	for pkg := range packages(t) {
		for _, part := range strings.Split(pkg, "/") {
			if slices.Contains(banned, part) {
				t.Errorf("package %s: %q says nothing of what is in it; name the idea", pkg, part)
			}
		}
	}
}

// packages maps each package of the module to its non-test files.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := fs.WalkDir(os.DirFS("."), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			if p != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "examples") {
				return fs.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(p, ".go") && !strings.HasSuffix(p, "_test.go") && path.Dir(p) != "." {
			out[path.Dir(p)] = append(out[path.Dir(p)], filepath.FromSlash(p))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// importsOf lists the packages of this module that files import.
func importsOf(t *testing.T, files []string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, f := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range parsed.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if rest, ok := strings.CutPrefix(p, module+"/"); ok {
				out[rest] = true
			}
		}
	}
	return out
}
