package cli

import (
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/nativelib"
)

// libraryEnv names the variable that points at the ONNX Runtime library.
const libraryEnv = "LLAMA_PAJAMAS_ONNXRUNTIME"

// setupCommand is what a user types to fetch it for a backend, in the words of
// the program that runs; llama-pajamas-quant has no such command and names the
// smaller program.
func (c *common) setupCommand(backend string) string {
	switch {
	case c.program == RunAny:
		return runSetupCommand + " --backend " + backend
	case backend == "cpu":
		return "llama-pajamas-run-onnx setup"
	}
	return "llama-pajamas-run-onnx setup --backend " + backend
}

// bindLlamaLibrary adds the flag that names the llama.cpp library.
func (c *common) bindLlamaLibrary(root *cobra.Command) {
	root.PersistentFlags().StringVar(&c.LlamaCpp, "llama-library", "", "llama.cpp library, a file or its folder (default: $"+llamaEnv+",\nbeside the program, what setup fetched, the system's)")
}

// findORT returns the path of the ONNX Runtime library.
func (c *common) findORT() (string, error) {
	found, err := c.locateORT("cpu")
	return found.Path, err
}

// locateORT finds the library for a backend and says where it was found: named
// by --library or by the variable, beside the program, in the cache folder, in
// the system. Its error tells all these places and what setup would do.
func (c *common) locateORT(backend string) (nativelib.Found, error) {
	o := c.findOptions()
	o.Flag, o.FlagName = c.Library, "--library"
	o.Env, o.EnvName = c.Getenv(libraryEnv), libraryEnv
	o.Backend, o.SetupCommand = backend, c.setupCommand(backend)
	return nativelib.Find(nativelib.ONNXRuntime, o)
}

// findOptions are the places where any library may lie.
func (c *common) findOptions() nativelib.FindOptions {
	var o nativelib.FindOptions
	if c.Program != "" {
		program := c.Program
		if real, err := filepath.EvalSymlinks(program); err == nil {
			program = real // beside the program itself, not beside a link to it
		}
		o.ExeDir = filepath.Dir(program)
	}
	if dir, err := c.CacheDir(); err == nil {
		o.CacheDir = dir
	}
	// Windows looks for libraries in PATH, but System32 is in it too and may
	// hold an onnxruntime.dll of its own, which is too old.
	switch runtime.GOOS {
	case "linux":
		o.LibraryPath = filepath.SplitList(c.Getenv("LD_LIBRARY_PATH"))
	case "darwin":
		o.LibraryPath = filepath.SplitList(c.Getenv("DYLD_LIBRARY_PATH"))
	}
	return o
}
