package cli

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/nativelib"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// doctorCommand judges ONNX Runtime's backends, and those that more adds.
func doctorCommand(c *common, more ...func(context.Context, *diagnosis)) *cobra.Command {
	var asJSON bool
	cmd := command("doctor", "Say what this machine can run, and why not the rest",
		`Looks at the machine, finds and opens the ONNX Runtime library, and tells for
each backend whether it can be used here, and if not, why and what to do. Exit
code 1 if none can.`,
		cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return runDoctor(cmd.Context(), c, asJSON, more...) })
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// diagnosis is what doctor --json prints. Sizes are in bytes, 0 where unknown.
type diagnosis struct {
	Version      string          `json:"version"`
	OS           string          `json:"os"`
	Arch         string          `json:"arch"`
	CPU          cpuReport       `json:"cpu"`
	Memory       memoryReport    `json:"memory"`
	Accelerators []accelerator   `json:"accelerators"`
	Library      libraryReport   `json:"onnxruntime"`
	Backends     []backendReport `json:"backends"`
	Cache        cacheReport     `json:"cache"`
}

type cpuReport struct {
	Name     string   `json:"name"`
	Cores    int      `json:"cores"`
	Logical  int      `json:"hardware_threads"`
	Threads  int      `json:"default_threads"`
	Features []string `json:"features"`
	Int8Dot  bool     `json:"int8_dot_product"`
}

type memoryReport struct {
	Total uint64 `json:"total_bytes"`
	Free  uint64 `json:"free_bytes"`
	Error string `json:"error,omitempty"`
}

type accelerator struct {
	Name    string `json:"name"`
	Driver  string `json:"driver,omitempty"`
	Compute string `json:"compute_capability,omitempty"`
	Total   uint64 `json:"memory_bytes,omitempty"`
	Free    uint64 `json:"memory_free_bytes,omitempty"`
}

type libraryReport struct {
	Path      string   `json:"path,omitempty"`
	Where     string   `json:"where,omitempty"`
	Version   string   `json:"version,omitempty"`
	Providers []string `json:"providers,omitempty"`
	Error     string   `json:"error,omitempty"`

	err error
}

// backendReport says whether a backend can be used: Why tells what is in the
// way, Do what would help; both are empty when OK.
type backendReport struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Why  string `json:"why,omitempty"`
	Do   string `json:"do,omitempty"`
}

type cacheReport struct {
	Dir   string `json:"dir"`
	Bytes int64  `json:"bytes"`
	Error string `json:"error,omitempty"`
}

func runDoctor(ctx context.Context, c *common, asJSON bool, more ...func(context.Context, *diagnosis)) error {
	d := c.diagnose(ctx)
	for _, add := range more {
		add(ctx, d)
	}
	var err error
	if asJSON {
		err = printJSON(c.Out, d)
	} else {
		err = d.print(c.Out, c.Color(c.OutTerminal))
	}
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(d.Backends, func(b backendReport) bool { return b.OK }) {
		return fmt.Errorf("this machine cannot run models yet: %s", d.Backends[0].Why)
	}
	return nil
}

func (c *common) diagnose(ctx context.Context) *diagnosis {
	cpu := hardware.DetectCPU(ctx)
	acc := hardware.DetectAccelerators(ctx)
	d := &diagnosis{
		Version: Version, OS: runtime.GOOS, Arch: runtime.GOARCH,
		CPU: cpuReport{
			Name: cpu.Name, Cores: cpu.Physical, Logical: cpu.Logical, Threads: cpu.Threads(),
			Features: strings.Fields(cpu.Features.String()), Int8Dot: cpu.Features.HasInt8Dot(),
		},
		Accelerators: listAccelerators(acc),
		Library:      c.examineLibrary("cpu"),
		Cache:        c.examineCache(ctx),
	}
	if m, err := hardware.DetectMemory(ctx); err != nil {
		d.Memory.Error = err.Error()
	} else {
		d.Memory.Total, d.Memory.Free = m.Total, m.Available
	}
	d.Backends = c.judgeBackends(d.Library, acc)
	return d
}

func listAccelerators(acc hardware.Accelerators) []accelerator {
	list := []accelerator{}
	for _, g := range acc.NVIDIA {
		list = append(list, accelerator{Name: g.Name, Driver: g.Driver, Compute: g.Compute, Total: g.TotalMemory, Free: g.FreeMemory})
	}
	if acc.Jetson != "" {
		list = append(list, accelerator{Name: acc.Jetson})
	}
	if acc.Apple {
		list = append(list, accelerator{Name: "Apple GPU and Neural Engine"})
	}
	return list
}

// examineLibrary finds and opens the library for a backend.
func (c *common) examineLibrary(backend string) libraryReport {
	found, err := c.locateORT(backend)
	r := libraryReport{Path: found.Path, Where: found.Where}
	if err == nil {
		var lib *ort.Library
		if lib, err = ort.Open(found.Path); err == nil {
			r.Version = lib.Version()
			r.Providers, err = lib.AvailableProviders()
		}
	}
	if err != nil {
		r.err, r.Error = err, err.Error()
	}
	return r
}

// examineCache sums up the files of the cache folder, which may not be there.
func (c *common) examineCache(ctx context.Context) cacheReport {
	dir, err := c.CacheDir()
	if err != nil {
		return cacheReport{Error: err.Error()}
	}
	r := cacheReport{Dir: dir}
	// Files that cannot be read, or go away meanwhile, count nothing.
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			r.Bytes += info.Size()
		}
		return nil
	})
	return r
}

// judgeBackends judges each backend: the hardware, this program, the library
// and the provider in it, in this order.
func (c *common) judgeBackends(cpuLibrary libraryReport, acc hardware.Accelerators) []backendReport {
	nvidia := len(acc.NVIDIA) > 0 || acc.Jetson != ""
	var list []backendReport
	for _, b := range []struct {
		name, provider string
		have           bool
		lack           string
	}{
		{"cpu", "CPUExecutionProvider", true, ""},
		{"cuda", "CUDAExecutionProvider", nvidia, "no NVIDIA card or driver was found"},
		{"tensorrt", "TensorrtExecutionProvider", nvidia, "no NVIDIA card or driver was found"},
		{"coreml", "CoreMLExecutionProvider", acc.Apple, "this is no Mac with Apple silicon"},
	} {
		r := backendReport{Name: b.name}
		switch {
		case !b.have:
			r.Why = b.lack
		default:
			lib := cpuLibrary
			if b.name != "cpu" {
				lib = c.examineLibrary(b.name)
			}
			r.Why, r.Do = lib.lacks(b.name, b.provider, c.setupCommand(b.name))
			if r.Why == "" {
				// What is missing and what installs it are one sentence each.
				r.Why, r.Do, _ = strings.Cut(onnxruntime.Lacking(lib.Path, b.name, c.dependOptions()), ": ")
			}
			r.OK = r.Why == ""
		}
		list = append(list, r)
	}
	return list
}

// lacks says what keeps the library from serving a provider, and what to do.
// setup is the command that fetches another.
func (r libraryReport) lacks(backend, provider, setup string) (why, do string) {
	switch {
	case r.Path == "":
		if _, err := nativelib.FindPin(backend, runtime.GOOS, runtime.GOARCH); err != nil {
			return "the ONNX Runtime library was not found", err.Error()
		}
		return "the ONNX Runtime library was not found", "run " + setup
	case r.err != nil:
		return "the library found does not work: " + r.Error, "run " + setup + ", or name another with --library"
	case !slices.Contains(r.Providers, provider):
		return "the library at " + r.Path + " was built without " + provider, "run " + setup
	}
	return "", ""
}
