package cli

import (
	"path/filepath"
	"runtime"

	"github.com/llama-pajamas/llama-pajamas/nativelib"
)

// libraryEnv names the variable that points at the ONNX Runtime library.
const libraryEnv = "LLAMA_PAJAMAS_ONNXRUNTIME"

// setupCommand is what a user types to fetch it, whichever program says so.
const setupCommand = "llama-pajamas-run-onnx setup"

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
	o.Backend, o.SetupCommand = backend, setupCommand
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
