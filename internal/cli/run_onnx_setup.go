package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/nativelib"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

type setupOptions struct {
	backend, from, downloadOnly string
	list, sample                bool
}

func setupONNXCommand(c *common) *cobra.Command {
	var o setupOptions
	cmd := command("setup", "Fetch the ONNX Runtime library, or a sample model",
		`Fetches the pinned ONNX Runtime package with pip, checks its sha256 and unpacks
the library into the cache folder; what is there already is checked and kept.
The library's path goes to standard output, the rest to standard error.

Where there is no pip or no network, it says which file to bring:
  setup --download-only DIR    on a machine that has both
  setup --from DIR             here; a wheel, or a folder with your own build of
                               the library (Jetson), will do as well

CUDA, cuDNN and TensorRT are NVIDIA's and yours to install: with the system's
packages, or with pip in a Python environment that is active when the program
runs. What is missing is said by name, here and by doctor.

--sample fetches a small model in its place, SmolLM2-135M-Instruct as a GGUF
file, and prints the path of that.`,
		cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return runSetup(cmd.Context(), c, cmd, o) })
	f := cmd.Flags()
	f.StringVar(&o.backend, "backend", "cpu", "what the library is for: "+strings.Join(ortBackends(), ", "))
	f.StringVar(&o.from, "from", "", "install from this wheel, or from this folder with a wheel or the libraries")
	f.StringVar(&o.downloadOnly, "download-only", "", "fetch the package into this folder and install nothing")
	f.BoolVar(&o.list, "list", false, "list what can be fetched for this machine and what is there")
	f.BoolVar(&o.sample, "sample", false, "fetch the sample model")
	cmd.MarkFlagsMutuallyExclusive("from", "download-only", "list")
	cmd.MarkFlagsMutuallyExclusive("sample", "backend")
	cmd.MarkFlagsMutuallyExclusive("sample", "list")
	return cmd
}

// ortBackends lists the backends that ONNX Runtime packages are pinned for.
func ortBackends() []string {
	var names []string
	for _, b := range []string{"cpu", "cuda", "tensorrt", "coreml"} {
		if slices.Contains(nativelib.Backends(), b) {
			names = append(names, b)
		}
	}
	return names
}

func runSetup(ctx context.Context, c *common, cmd *cobra.Command, o setupOptions) error {
	if !slices.Contains(ortBackends(), o.backend) {
		return usagef(cmd, "--backend %q: choose one of %s", o.backend, strings.Join(ortBackends(), ", "))
	}
	cache, err := c.CacheDir()
	if err != nil && o.downloadOnly == "" {
		return err
	}
	if o.list {
		return listPackages(c.Out, cache)
	}
	setup := nativelib.Setup
	opts := nativelib.SetupOptions{
		Backend: o.backend, CacheDir: cache, From: o.from, DownloadOnly: o.downloadOnly,
		Log: func(line string) { c.note("%s", line) },
		Open: func(path string) error {
			_, err := ort.Open(path)
			return err
		},
	}
	if o.sample {
		setup = nativelib.SetupSample
	}
	in, err := setup(ctx, opts)
	if err != nil {
		return c.byHand(err)
	}
	c.note("%s", setupResult(in, o))
	if in.Needs != "" && o.downloadOnly == "" {
		c.note("backend %s also needs %s", o.backend, in.Needs)
		if why := onnxruntime.Lacking(in.Path, o.backend, c.dependOptions()); why != "" {
			c.note("missing here: %s", why)
		}
	}
	if other := c.Getenv(libraryEnv); other != "" && !o.sample && o.downloadOnly == "" {
		c.note("%s is set: the programs open %s as long as it is", libraryEnv, other)
	}
	_, err = fmt.Fprintln(c.Out, in.Path)
	return err
}

// setupResult is the closing line, above the path.
func setupResult(in nativelib.Installed, o setupOptions) string {
	what := strings.TrimSpace(in.Package + " " + in.Version)
	switch {
	case o.downloadOnly != "":
		return fmt.Sprintf("%s is fetched and checked; there, run setup --from with it", what)
	case in.Before:
		return what + " is there already, and unharmed:"
	case what == "":
		return "what you brought is installed:"
	}
	return what + " is ready:"
}

// byHand turns a failed fetch into instructions a person can follow. Other
// errors stay as they are.
func (c *common) byHand(err error) error {
	var e *nativelib.FetchError
	if !errors.As(err, &e) {
		return err
	}
	command := "llama-pajamas-run-onnx " + e.Remedy()
	if c.program == RunAny {
		command = c.setupCommand(e.Pin.Backends[0]) + " --from"
	}
	return fmt.Errorf(`fetch %s %s: %s
To go on without it, get this file on any machine and bring it here:
  package  %s %s, from %s
  file     %s (%.0f MB)
  sha256   %s
then run   %s FILE
which unpacks it into %s`,
		e.Pin.Package, e.Pin.Version, e.Why(),
		e.Pin.Package, e.Pin.Version, e.Pin.Source, e.Pin.File, float64(e.Pin.Size)/1e6, e.Pin.SHA256,
		command, e.Target)
}

// listPackages is the answer to --list.
func listPackages(w io.Writer, cache string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "backend\tpackage\tdownload\there\tneeds")
	for _, b := range ortBackends() {
		p, err := nativelib.FindPin(b, runtime.GOOS, runtime.GOARCH)
		if err != nil {
			why := err.Error()
			if e := (*tensor.UnsupportedError)(nil); errors.As(err, &e) {
				why = e.Hint
			}
			fmt.Fprintf(tw, "%s\tnone\t-\t-\t%s\n", b, why)
			continue
		}
		listPackage(tw, b, p, cache)
	}
	listPackage(tw, "--sample", nativelib.SamplePin(), cache)
	return tw.Flush()
}

func listPackage(w io.Writer, name string, p nativelib.Pin, cache string) {
	here, needs := "no", "nothing else"
	if p.Installed(cache) {
		here = "yes"
	}
	if p.Needs != "" {
		needs = p.Needs
	}
	fmt.Fprintf(w, "%s\t%s %s\t%.0f MB\t%s\t%s\n", name, p.Package, p.Version, float64(p.Size)/1e6, here, needs)
}
