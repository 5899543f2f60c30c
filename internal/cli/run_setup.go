package cli

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer/mlxlm"
	"github.com/llama-pajamas/llama-pajamas/llama"
	"github.com/llama-pajamas/llama-pajamas/nativelib"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

func setupAnyCommand(c *common) *cobra.Command {
	var o setupOptions
	cmd := command("setup", "Fetch what a format needs to run",
		`Fetches pinned packages with pip or npm, checks their sha256 and unpacks them into
the cache folder; what is there already is checked and kept. The paths go to
standard output, the rest to standard error.

  cpu, cuda, tensorrt, coreml          ONNX Runtime
  llama.cpp, llama.cpp-cuda, llama.cpp-vulkan   llama.cpp, for GGUF
  mlx                                  a Python environment with mlx-lm, for MLX
  auto                                 what suits this machine

Where there is no network: --download-only DIR on a machine that has one, then
--from DIR here. A folder with your own build of a library will do as well;
llama.cpp must be of version `+llama.Version+`.`,
		cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return runSetupAny(cmd.Context(), c, cmd, o) })
	f := cmd.Flags()
	f.StringVar(&o.backend, "backend", "auto", "what to set up: "+strings.Join(anyBackends(), ", ")+", or auto")
	f.StringVar(&o.from, "from", "", "install from this package file or folder")
	f.StringVar(&o.downloadOnly, "download-only", "", "fetch the packages into this folder and install nothing")
	cmd.MarkFlagsMutuallyExclusive("from", "download-only")
	return cmd
}

// mlxBackend is what setup calls the environment of mlx-lm.
const mlxBackend = "mlx"

func anyBackends() []string { return append(nativelib.Backends(), mlxBackend) }

// suitable lists what suits a machine: a runtime for GGUF, one for ONNX, and on
// Apple silicon MLX.
func suitable(goos, goarch string, acc hardware.Accelerators) []string {
	pinned := func(b string) bool { _, err := nativelib.FindPin(b, goos, goarch); return err == nil }
	var list []string
	if acc.Apple {
		list = append(list, mlxBackend)
	}
	nvidia := len(acc.NVIDIA) > 0
	for _, of := range [][]string{{"llama.cpp-cuda", "llama.cpp"}, {"cuda", "cpu"}} {
		for _, b := range of {
			if pinned(b) && (nvidia || !strings.Contains(b, "cuda")) {
				list = append(list, b)
				break
			}
		}
	}
	return list
}

func runSetupAny(ctx context.Context, c *common, cmd *cobra.Command, o setupOptions) error {
	list := []string{o.backend}
	switch {
	case o.backend == "auto":
		if o.from != "" {
			return usagef(cmd, "--from needs --backend, to say what is in it")
		}
		if list = suitable(runtime.GOOS, runtime.GOARCH, hardware.DetectAccelerators(ctx)); len(list) == 0 {
			return fmt.Errorf("there is no package for %s/%s: bring your own build with --backend and --from", runtime.GOOS, runtime.GOARCH)
		}
	case !slices.Contains(anyBackends(), o.backend):
		return usagef(cmd, "--backend %q: choose one of %s, or auto", o.backend, strings.Join(anyBackends(), ", "))
	}
	for _, b := range list {
		one := o
		one.backend = b
		if err := c.setUp(ctx, one); err != nil {
			return err
		}
	}
	return nil
}

// setUp sets one backend up and prints its path.
func (c *common) setUp(ctx context.Context, o setupOptions) error {
	cache, err := c.CacheDir()
	if err != nil && o.downloadOnly == "" {
		return err
	}
	log := func(line string) { c.note("%s", line) }
	if o.backend == mlxBackend {
		path, err := mlxlm.Setup(ctx, mlxlm.SetupOptions{CacheDir: cache, From: o.from, DownloadOnly: o.downloadOnly, Log: log})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.Out, path)
		return err
	}
	opts := nativelib.SetupOptions{Backend: o.backend, CacheDir: cache, From: o.from, DownloadOnly: o.downloadOnly, Log: log}
	if strings.HasPrefix(o.backend, string(nativelib.LlamaCpp)) {
		opts.Open = func(path string) error { _, err := llama.Open(path, llama.Options{}); return err }
	} else {
		opts.Open = func(path string) error { _, err := ort.Open(path); return err }
	}
	in, err := nativelib.Setup(ctx, opts)
	if err != nil {
		return c.byHand(err)
	}
	c.note("%s", setupResult(in, o))
	if in.Needs != "" && o.downloadOnly == "" {
		c.note("backend %s also needs %s", o.backend, in.Needs)
	}
	_, err = fmt.Fprintln(c.Out, in.Path)
	return err
}
