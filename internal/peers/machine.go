package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/process"

	"github.com/llama-pajamas/llama-pajamas/nativelib"
)

// machine says where and of what results were taken.
type machine struct {
	Processor string            `json:"processor"`
	Cores     int               `json:"cores"`
	Memory    uint64            `json:"memory_bytes"`
	System    string            `json:"system"`
	Load      float64           `json:"load_before"` // one-minute average
	Busy      float64           `json:"busy_before"` // share of the cores in use by others, over 2 s
	Date      string            `json:"date"`
	Commit    string            `json:"commit"`
	Versions  map[string]string `json:"versions"`
}

// describeMachine measures the machine at rest.
func describeMachine(ctx context.Context) machine {
	m := machine{Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH,
		Date:     time.Now().UTC().Format("2006-01-02 15:04 MST"),
		Versions: map[string]string{"onnxruntime-genai": "0.18.0", "llama.cpp": "0.5.0", "go": runtime.Version()}}
	if pin, err := nativelib.FindPin("cpu", runtime.GOOS, runtime.GOARCH); err == nil {
		m.Versions["onnxruntime"] = pin.Version
	}
	if info, err := cpu.InfoWithContext(ctx); err == nil && len(info) > 0 {
		m.Processor = info[0].ModelName
	}
	if v, err := mem.VirtualMemoryWithContext(ctx); err == nil {
		m.Memory = v.Total
	}
	if l, err := load.AvgWithContext(ctx); err == nil {
		m.Load = l.Load1
	}
	before, start := busySeconds(ctx), time.Now()
	time.Sleep(2 * time.Second)
	m.Busy = (busySeconds(ctx) - before) / (time.Since(start).Seconds() * float64(m.Cores))
	if out, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		m.Commit = strings.TrimSpace(string(out))
	}
	return m
}

// busyLimit is the share of the cores that others may use before figures are
// called noisy.
const busyLimit = 0.1

// warn tells of a machine with other work on it.
func (m machine) warn() string {
	if m.Busy < busyLimit && m.Load < float64(m.Cores) {
		return ""
	}
	return fmt.Sprintf("the machine was busy before the run (load %.1f, %.0f %% of the cores in use): these figures are noisy", m.Load, 100*m.Busy)
}

// String is the line under a table.
func (m machine) String() string {
	return fmt.Sprintf("%s, %d threads, %.0f GB, %s; ONNX Runtime %s, onnxruntime-genai %s, llama.cpp %s; commit %s, %s; load before %.2f.",
		m.Processor, m.Cores, float64(m.Memory)/1e9, m.System, m.Versions["onnxruntime"], m.Versions["onnxruntime-genai"], m.Versions["llama.cpp"], m.Commit, m.Date, m.Load)
}

// busySeconds is the time that all cores together have worked, 0 where the
// system does not tell.
func busySeconds(ctx context.Context) float64 {
	t, err := cpu.TimesWithContext(ctx, false)
	if err != nil || len(t) == 0 {
		return 0
	}
	c := t[0]
	return c.User + c.System + c.Nice + c.Irq + c.Softirq + c.Steal
}

// processSeconds is the time that the cores have worked for a process.
func processSeconds(ctx context.Context, pid int) float64 {
	p, err := process.NewProcessWithContext(ctx, int32(pid))
	if err != nil {
		return 0
	}
	t, err := p.TimesWithContext(ctx)
	if err != nil {
		return 0
	}
	return t.User + t.System
}

// peakRSS is the largest resident memory a process has had, in bytes, 0 where
// the system does not tell. Pages of mapped files count.
func peakRSS(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kb int64
	if _, err := fmt.Sscanf(rest, "%d kB", &kb); err != nil {
		return 0
	}
	return kb * 1024
}
