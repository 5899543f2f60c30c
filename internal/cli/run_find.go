package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/autoselect"
	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer/mlxlm"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/nativelib"
)

// llamaEnv names the variable that points at the llama.cpp library, mlxEnv the
// one that points at a Python interpreter with mlx-lm.
const (
	llamaEnv = "LLAMA_PAJAMAS_LLAMACPP"
	mlxEnv   = "LLAMA_PAJAMAS_MLX_PYTHON"
)

// runSetupCommand is what a user types to fetch what any format needs.
const runSetupCommand = "llama-pajamas-run setup"

// findArtifacts lists what a path holds: a file, one artifact's folder, or the
// output folder of a conversion.
func findArtifacts(path string) (artifacts, error) {
	info, err := os.Stat(path)
	if err != nil {
		return artifacts{}, fmt.Errorf("open model %s: no such file or folder, and no hub id", path)
	}
	root, err := filepath.Abs(path)
	if err != nil {
		return artifacts{}, fmt.Errorf("open model %s: %w", path, err)
	}
	one := func(format, target, recipe string) artifacts {
		return artifacts{root: root, list: []modeldir.Artifact{{Path: ".", Format: format, Target: target, Recipe: recipe, Bytes: sizeOf(root)}}}
	}
	if !info.IsDir() {
		switch strings.ToLower(filepath.Ext(path)) {
		case ".gguf":
			return one("gguf", "llama.cpp", ""), nil
		case ".onnx":
			return one("onnx", onnxTarget(path), ""), nil
		}
		return artifacts{}, fmt.Errorf("open model %s: neither a .gguf nor an .onnx file", path)
	}
	list, err := modeldir.Artifacts(path)
	if err != nil {
		return artifacts{}, err
	}
	if len(list) > 0 {
		return artifacts{root: root, list: list}, nil
	}
	if _, ok := firstGGUF(path); ok {
		return one("gguf", "llama.cpp", ""), nil
	}
	if folder, err := modeldir.Open(path); err == nil {
		return one("onnx", onnxTarget(folder.Dir), ""), nil
	}
	if mlxlm.IsFolder(path) {
		return one("mlx", "mlx-lm", ""), nil
	}
	return artifacts{}, fmt.Errorf("open model %s: there is no model in it: no onnx/, gguf/ or mlx/ folder as convert writes them, no model.onnx, no .gguf file, and no config.json with model*.safetensors", path)
}

// onnxTarget is the target a graph was made for; "base" where nothing tells.
func onnxTarget(path string) string {
	if f, err := modeldir.Open(path); err == nil && f.Metadata != nil && f.Metadata.Target.Target != "" {
		return f.Metadata.Target.Target
	}
	return "base"
}

// firstGGUF is the GGUF file of a folder, of a split one the first part; ok is
// false where there are none or several models.
func firstGGUF(dir string) (file string, ok bool) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", false
	}
	var files []string
	for _, e := range entries { // by name
		if name := e.Name(); strings.EqualFold(filepath.Ext(name), ".gguf") && !strings.HasPrefix(strings.ToLower(name), "mmproj") {
			files = append(files, name)
		}
	}
	if len(files) == 0 || (len(files) > 1 && !strings.Contains(files[0], fmt.Sprintf("-00001-of-%05d", len(files)))) {
		return "", false
	}
	return filepath.Join(dir, files[0]), true
}

// sizeOf is the bytes of a file, or of the weight files of a folder.
func sizeOf(path string) (n int64) {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	if !info.IsDir() {
		n = info.Size()
		if data, err := os.Stat(path + ".data"); err == nil {
			n += data.Size()
		}
		return n
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		ext := strings.ToLower(filepath.Ext(e.Name()))
		if info, err := e.Info(); err == nil && slices.Contains([]string{".gguf", ".safetensors", ".onnx", ".data"}, ext) {
			n += info.Size()
		}
	}
	return n
}

// locateLlama finds the llama.cpp library: the build for this machine's cards
// where it is installed, else that for the processor.
func (c *common) locateLlama() (nativelib.Found, error) {
	o := c.findOptions()
	o.Flag, o.FlagName = c.LlamaCpp, "--llama-library"
	o.Env, o.EnvName = c.Getenv(llamaEnv), llamaEnv
	o.SetupCommand = runSetupCommand + " --backend llama.cpp"
	for _, backend := range []string{"llama.cpp-cuda", "llama.cpp-vulkan"} {
		p, err := nativelib.FindPin(backend, runtime.GOOS, runtime.GOARCH)
		if err == nil && o.CacheDir != "" && p.Installed(o.CacheDir) {
			o.Backend, o.SetupCommand = backend, runSetupCommand+" --backend "+backend
			return nativelib.Find(nativelib.LlamaCpp, o)
		}
	}
	return nativelib.Find(nativelib.LlamaCpp, o)
}

// locateMLX finds the interpreter with mlx-lm.
func (c *common) locateMLX() (string, error) {
	if python := c.Getenv(mlxEnv); python != "" {
		if _, err := os.Stat(python); err != nil {
			return "", fmt.Errorf("find the Python interpreter named by %s: %w", mlxEnv, err)
		}
		return python, nil
	}
	if why := mlxlm.Supported(runtime.GOOS, runtime.GOARCH); why != "" {
		return "", errors.New(why)
	}
	cache, err := c.CacheDir()
	if err != nil {
		return "", err
	}
	return mlxlm.Find(cache)
}

// probe describes the machine with what is missing on it.
func (c *common) probe(ctx context.Context) autoselect.Machine {
	m := autoselect.Probe(ctx)
	acc := hardware.Accelerators{NVIDIA: m.NVIDIA, Jetson: m.Jetson, Apple: m.Apple}
	for _, b := range c.judgeBackends(c.examineLibrary("cpu"), acc) {
		if !b.OK {
			m.Missing[autoselect.Runtime(b.Name)] = reason(b)
		}
	}
	for _, b := range []backendReport{c.judgeLlama(), c.judgeMLX()} {
		if !b.OK {
			m.Missing[autoselect.Runtime(b.Name)] = reason(b)
		}
	}
	return m
}

func reason(b backendReport) string {
	if b.Do == "" {
		return b.Why
	}
	return b.Why + "; " + b.Do
}

// judgeLlama says whether GGUF files can be run.
func (c *common) judgeLlama() backendReport {
	r := backendReport{Name: string(autoselect.LlamaCpp)}
	_, err := c.locateLlama()
	var missing *nativelib.NotFoundError
	switch {
	case errors.As(err, &missing):
		r.Why, r.Do = "the llama.cpp library was not found", missing.Setup
		if _, err := nativelib.FindPin("llama.cpp", runtime.GOOS, runtime.GOARCH); err == nil {
			r.Do = "run " + runSetupCommand + " --backend llama.cpp"
		}
	case err != nil:
		r.Why = err.Error()
	}
	r.OK = r.Why == ""
	return r
}

// judgeMLX says whether MLX folders can be run.
func (c *common) judgeMLX() backendReport {
	r := backendReport{Name: string(autoselect.MLX)}
	_, err := c.locateMLX()
	var missing *mlxlm.NotSetUpError
	switch {
	case errors.As(err, &missing):
		r.Why, r.Do = "mlx-lm is not set up", "run "+runSetupCommand+" --backend mlx"
	case err != nil:
		r.Why = err.Error()
	}
	r.OK = r.Why == ""
	return r
}

// judgeMore adds the backends of the other formats to a diagnosis.
func (c *common) judgeMore(_ context.Context, d *diagnosis) {
	d.Backends = append(d.Backends, c.judgeLlama(), c.judgeMLX())
}
