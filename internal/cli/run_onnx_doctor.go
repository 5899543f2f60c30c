package cli

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

func doctorCommand(c *common) *cobra.Command {
	var asJSON bool
	cmd := command("doctor", "Say what this machine can run, and why not the rest",
		`Looks at the machine and for the ONNX Runtime library and tells which execution
providers can be used. Exit code 1 if none can.`,
		cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return runDoctor(cmd.Context(), c, asJSON) })
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// diagnosis is what doctor --json prints.
type diagnosis struct {
	Program  string          `json:"program"`
	System   string          `json:"system"`
	CPU      string          `json:"cpu"`
	Threads  int             `json:"threads"`
	Features []string        `json:"cpu_features"`
	Memory   uint64          `json:"memory_bytes"`
	Free     uint64          `json:"memory_free_bytes"`
	GPUs     []string        `json:"gpus"`
	Library  libraryReport   `json:"onnxruntime"`
	Backends []backendReport `json:"backends"`
}

type libraryReport struct {
	Path    string `json:"path,omitempty"`
	Where   string `json:"where,omitempty"`
	Version string `json:"version,omitempty"`
	Error   string `json:"error,omitempty"`
}

// backendReport says whether a backend can be used; Why is the reason if not.
type backendReport struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Why  string `json:"why,omitempty"`
}

func runDoctor(ctx context.Context, c *common, asJSON bool) error {
	d := c.diagnose(ctx)
	var err error
	if asJSON {
		err = printJSON(c.Out, d)
	} else {
		err = d.print(c.Out)
	}
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(d.Backends, func(b backendReport) bool { return b.OK }) {
		return fmt.Errorf("no backend can be used: %s", d.Backends[0].Why)
	}
	return nil
}

func (c *common) diagnose(ctx context.Context) diagnosis {
	cpu := hardware.DetectCPU(ctx)
	d := diagnosis{
		Program: "llama-pajamas " + Version, System: runtime.GOOS + "/" + runtime.GOARCH,
		CPU: cpu.Name, Threads: cpu.Threads(), Features: strings.Fields(cpu.Features.String()), GPUs: []string{},
	}
	if m, err := hardware.DetectMemory(ctx); err == nil {
		d.Memory, d.Free = m.Total, m.Available
	}
	acc := hardware.DetectAccelerators(ctx)
	for _, g := range acc.NVIDIA {
		d.GPUs = append(d.GPUs, fmt.Sprintf("%s, compute capability %s, driver %s, %s free of %s", g.Name, g.Compute, g.Driver,
			humanBytes(int64(g.FreeMemory)), humanBytes(int64(g.TotalMemory))))
	}
	if acc.Jetson != "" {
		d.GPUs = append(d.GPUs, acc.Jetson)
	}
	if acc.Apple {
		d.GPUs = append(d.GPUs, "Apple GPU and Neural Engine")
	}
	providers := c.examineLibrary(&d.Library)
	d.Backends = backends(d, acc, providers)
	return d
}

// examineLibrary finds and opens the library and lists its providers.
func (c *common) examineLibrary(r *libraryReport) []string {
	found, err := c.locateORT()
	if err != nil {
		r.Error = err.Error()
		return nil
	}
	r.Path, r.Where = found.Path, found.Where
	lib, err := ort.Open(found.Path)
	if err != nil {
		r.Error = err.Error()
		return nil
	}
	r.Version = lib.Version()
	providers, err := lib.AvailableProviders()
	if err != nil {
		r.Error = err.Error()
	}
	return providers
}

// backends judges each backend: the library, its provider, the hardware.
func backends(d diagnosis, acc hardware.Accelerators, providers []string) []backendReport {
	nvidia, apple := len(acc.NVIDIA) > 0 || acc.Jetson != "", acc.Apple
	var list []backendReport
	for _, b := range []struct {
		name, provider, hardware string
		have, built              bool
	}{
		{"cpu", "CPUExecutionProvider", "", true, true},
		{"cuda", "CUDAExecutionProvider", "no NVIDIA card was found", nvidia, false},
		{"tensorrt", "TensorrtExecutionProvider", "no NVIDIA card was found", nvidia, false},
		{"coreml", "CoreMLExecutionProvider", "this is no Apple silicon Mac", apple, false},
	} {
		r := backendReport{Name: b.name}
		switch {
		case !b.have:
			r.Why = b.hardware
		case !b.built:
			r.Why = "this version of the program does not drive it yet"
		case d.Library.Error != "":
			r.Why = d.Library.Error
		case !slices.Contains(providers, b.provider):
			r.Why = fmt.Sprintf("the library has no %s", b.provider)
		default:
			r.OK = true
		}
		list = append(list, r)
	}
	return list
}

func (d *diagnosis) print(w io.Writer) error {
	var b strings.Builder
	row := func(name, format string, a ...any) { fmt.Fprintf(&b, "%-12s %s\n", name, fmt.Sprintf(format, a...)) }
	row("program", "%s on %s", d.Program, d.System)
	row("processor", "%s, %d threads (%s)", d.CPU, d.Threads, strings.Join(d.Features, " "))
	row("memory", "%s, %s free", humanBytes(int64(d.Memory)), humanBytes(int64(d.Free)))
	for _, g := range d.GPUs {
		row("accelerator", "%s", g)
	}
	switch lib := d.Library; {
	case lib.Error != "":
		row("library", "%s", lib.Error)
	default:
		row("library", "ONNX Runtime %s, %s (%s)", lib.Version, lib.Path, lib.Where)
	}
	for _, r := range d.Backends {
		if r.OK {
			row(r.Name, "can be used")
		} else {
			row(r.Name, "no: %s", r.Why)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
