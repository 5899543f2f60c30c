package hardware

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Accelerators is what else than the CPU can compute here.
type Accelerators struct {
	NVIDIA []GPU
	// Jetson is the board's model, such as "NVIDIA Jetson AGX Orin Developer
	// Kit", "" elsewhere. Its GPU shares the main memory.
	Jetson string
	// Apple is true on Apple silicon: GPU and Neural Engine through CoreML and
	// Metal, with shared memory.
	Apple bool
}

// GPU is one NVIDIA card. Figures are 0 and texts "" where unknown.
type GPU struct {
	Name        string
	Driver      string
	Compute     string // compute capability, such as "8.9"
	TotalMemory uint64 // bytes
	FreeMemory  uint64 // bytes
}

// DetectAccelerators looks for accelerators. It never fails: what cannot be
// asked is not listed.
func DetectAccelerators(ctx context.Context) Accelerators {
	a := Accelerators{Apple: runtime.GOOS == "darwin" && runtime.GOARCH == "arm64"}
	if runtime.GOOS == "linux" {
		a.Jetson = jetson(os.DirFS("/"))
	}
	if a.NVIDIA = smi(ctx); a.NVIDIA == nil && runtime.GOOS == "linux" {
		a.NVIDIA = procGPUs(os.DirFS("/"))
	}
	return a
}

// jetson reads the device tree's model, a zero-terminated string.
func jetson(root fs.FS) string {
	text, err := fs.ReadFile(root, "proc/device-tree/model")
	if err != nil {
		return ""
	}
	model := strings.TrimSpace(strings.TrimRight(string(text), "\x00"))
	if strings.Contains(model, "Jetson") || strings.Contains(model, "Orin") || strings.Contains(model, "Thor") {
		return model
	}
	return ""
}

// smi asks nvidia-smi, which comes with every driver but Jetson's.
func smi(ctx context.Context) []GPU {
	program, err := exec.LookPath("nvidia-smi")
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // a sick driver hangs it
	defer cancel()
	out, err := exec.CommandContext(ctx, program,
		"--query-gpu=name,driver_version,compute_cap,memory.total,memory.free", "--format=csv,noheader,nounits").Output()
	if err != nil {
		return nil
	}
	gpus, err := parseSMI(string(out))
	if err != nil {
		return nil
	}
	return gpus
}

// parseSMI reads one card a line: name, driver, compute capability, and total
// and free memory in MiB, each of which may be "[N/A]".
func parseSMI(out string) ([]GPU, error) {
	var gpus []GPU
	for line := range strings.Lines(out) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		f := strings.Split(line, ",")
		if len(f) != 5 {
			return nil, fmt.Errorf("read nvidia-smi: %d fields in %q, want 5", len(f), line)
		}
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
			if strings.HasPrefix(f[i], "[") {
				f[i] = ""
			}
		}
		gpus = append(gpus, GPU{Name: f[0], Driver: f[1], Compute: f[2], TotalMemory: mebibytes(f[3]), FreeMemory: mebibytes(f[4])})
	}
	return gpus, nil
}

func mebibytes(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 43)
	if err != nil {
		return 0
	}
	return n << 20
}

// procGPUs lists the cards the kernel driver knows, where nvidia-smi is
// missing, as in many containers.
func procGPUs(root fs.FS) []GPU {
	files, err := fs.Glob(root, "proc/driver/nvidia/gpus/*/information")
	if err != nil {
		return nil
	}
	var gpus []GPU
	for _, file := range files {
		text, err := fs.ReadFile(root, file)
		if err != nil {
			continue
		}
		g := GPU{Name: "NVIDIA GPU"}
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "Model" {
				g.Name = strings.TrimSpace(value)
			}
		}
		gpus = append(gpus, g)
	}
	return gpus
}
