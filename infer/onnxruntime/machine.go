package onnxruntime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/nativelib"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// machine is what a provider may ask of this computer.
type machine struct {
	library string // ONNX Runtime's file
	depend  nativelib.DependOptions
	once    sync.Once
	found   hardware.Accelerators
}

func newMachine(library string, depend nativelib.DependOptions) *machine {
	if real, err := filepath.EvalSymlinks(library); err == nil {
		library = real // the providers' libraries lie beside the file itself
	}
	return &machine{library: library, depend: depend}
}

// accelerators asks for them once: it starts a program of the driver.
func (m *machine) accelerators(ctx context.Context) hardware.Accelerators {
	m.once.Do(func() { m.found = hardware.DetectAccelerators(ctx) })
	return m.found
}

// providerLibrary is the path of a provider's own library.
func providerLibrary(library, name string) string {
	file := "lib" + name + ".so"
	switch runtime.GOOS {
	case "windows":
		file = name + ".dll"
	case "darwin":
		file = "lib" + name + ".dylib"
	}
	return filepath.Join(filepath.Dir(library), file)
}

// needs says which library is missing for a provider, "" if none is; what the
// system's loader would not find is opened for it.
func (m *machine) needs(name string) string {
	why, list := lacking(m.library, name, m.depend)
	if why != "" {
		return why
	}
	for _, d := range list {
		if d.Searched {
			continue
		}
		if err := ort.Preload(d.Path); err != nil {
			return err.Error()
		}
	}
	return ""
}

// lacking says which library is missing for the provider library called name
// that belongs to an ONNX Runtime library, "" if none is, and lists what it
// needs.
func lacking(library, name string, depend nativelib.DependOptions) (why string, list []nativelib.Dependency) {
	file := providerLibrary(library, name)
	if _, err := os.Stat(file); err != nil {
		return fmt.Sprintf("%s is missing in %s", filepath.Base(file), filepath.Dir(file)), nil
	}
	list, err := nativelib.Dependencies(file, depend)
	if err != nil {
		return err.Error(), nil
	}
	missing := nativelib.Missing(list)
	if len(missing) == 0 {
		return "", list
	}
	why = fmt.Sprintf("%s needs %s, not found", filepath.Base(file), strings.Join(missing, ", "))
	if hint := nativelib.MissingHint(missing); hint != "" {
		why += ": " + hint
	}
	return why, list
}

// Lacking says which shared library is missing for a provider beside the ONNX
// Runtime library at a path, "" if none is. Nothing is opened.
func Lacking(library, provider string, depend nativelib.DependOptions) string {
	p, err := findProvider(provider)
	if err != nil {
		return ""
	}
	if real, err := filepath.EvalSymlinks(library); err == nil {
		library = real
	}
	for _, file := range p.files() {
		if why, _ := lacking(library, file, depend); why != "" {
			return why
		}
	}
	return ""
}

// gpu is the NVIDIA card of provider option device_id.
func (m *machine) gpu(ctx context.Context, options map[string]string) (hardware.GPU, bool) {
	id, err := strconv.Atoi(options["device_id"])
	if err != nil {
		id = 0
	}
	list := m.accelerators(ctx).NVIDIA
	if id < 0 || id >= len(list) {
		return hardware.GPU{}, false
	}
	return list[id], true
}

// gpuMemory is the free memory of the NVIDIA card; a Jetson's is the main
// memory.
func gpuMemory(ctx context.Context, m *machine, options map[string]string) int64 {
	if g, ok := m.gpu(ctx, options); ok && g.TotalMemory > 0 {
		return int64(g.FreeMemory)
	}
	if m.accelerators(ctx).Jetson != "" {
		return hostMemory(ctx, m, options)
	}
	return 0
}

// device describes the card and its driver, for keys of compiled files.
func (m *machine) device(ctx context.Context, options map[string]string) (gpu, driver string) {
	if g, ok := m.gpu(ctx, options); ok {
		return strings.TrimSpace(g.Name + " " + g.Compute), g.Driver
	}
	// Jetson's driver comes with its release of Linux for Tegra.
	release, err := os.ReadFile("/etc/nv_tegra_release")
	if err != nil {
		return m.accelerators(ctx).Jetson, ""
	}
	line, _, _ := strings.Cut(string(release), "\n")
	return m.accelerators(ctx).Jetson, line
}

// fileVersion tells releases of a library apart by its full name and size,
// without opening it: "libnvinfer.so.10.9.0, 631450112 bytes".
func (m *machine) fileVersion(provider, prefix string) string {
	list, err := nativelib.Dependencies(providerLibrary(m.library, provider), m.depend)
	if err != nil {
		return ""
	}
	for _, d := range list {
		if !strings.HasPrefix(d.Name, prefix) || d.Path == "" {
			continue
		}
		real, err := filepath.EvalSymlinks(d.Path)
		if err != nil {
			return d.Name
		}
		info, err := os.Stat(real)
		if err != nil {
			return d.Name
		}
		return fmt.Sprintf("%s, %d bytes", filepath.Base(real), info.Size())
	}
	return ""
}
