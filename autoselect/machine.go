package autoselect

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/llama-pajamas/llama-pajamas/hardware"
)

// Machine is what a choice depends on.
type Machine struct {
	OS       string `json:"os"`   // GOOS
	Arch     string `json:"arch"` // GOARCH
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`    // that compute by default
	Features string `json:"features"` // of the CPU, by name
	Memory   uint64 `json:"memory"`   // bytes in all
	Free     uint64 `json:"free"`     // bytes free now
	// Bandwidth of the memory in bytes per second as measured here, 0 unknown.
	Bandwidth float64        `json:"bandwidth,omitempty"`
	NVIDIA    []hardware.GPU `json:"nvidia,omitempty"`
	Jetson    string         `json:"jetson,omitempty"` // the board
	Apple     bool           `json:"apple,omitempty"`  // silicon
	// Missing says of a runtime why it cannot be used here, such as a library
	// that was not found; runtimes not in it can.
	Missing map[Runtime]string `json:"missing,omitempty"`
}

// Probe describes this machine, but for Missing, which needs to know where
// libraries may lie. Nothing is measured; see [MeasureBandwidth].
func Probe(ctx context.Context) Machine {
	cpu := hardware.DetectCPU(ctx)
	acc := hardware.DetectAccelerators(ctx)
	m := Machine{
		OS: runtime.GOOS, Arch: runtime.GOARCH, CPU: cpu.Name, Cores: cpu.Threads(), Features: cpu.Features.String(),
		NVIDIA: acc.NVIDIA, Jetson: acc.Jetson, Apple: acc.Apple, Missing: map[Runtime]string{},
	}
	if mem, err := hardware.DetectMemory(ctx); err == nil {
		m.Memory, m.Free = mem.Total, mem.Available
	}
	return m
}

// hasNVIDIA reports a card or a Jetson.
func (m *Machine) hasNVIDIA() bool { return len(m.NVIDIA) > 0 || m.Jetson != "" }

// cpuOnly reports that nothing but the CPU computes.
func (m *Machine) cpuOnly() bool { return !m.hasNVIDIA() && !m.Apple }

// String is a line about the machine.
func (m *Machine) String() string {
	parts := []string{m.OS + "/" + m.Arch, strings.TrimSpace(m.CPU), fmt.Sprintf("%d cores", m.Cores)}
	if m.Memory > 0 {
		parts = append(parts, fmt.Sprintf("%.0f GB", float64(m.Memory)/1e9))
	}
	if m.Bandwidth > 0 {
		parts = append(parts, fmt.Sprintf("%.0f GB/s", m.Bandwidth/1e9))
	}
	for _, g := range m.NVIDIA {
		parts = append(parts, strings.TrimSpace(g.Name+" "+g.Compute))
	}
	if m.Jetson != "" {
		parts = append(parts, m.Jetson)
	}
	if m.Apple {
		parts = append(parts, "Apple silicon")
	}
	return strings.Join(parts, " · ")
}

// Size and time of a measurement: far more than caches hold, and short enough
// not to be noticed.
const (
	measureBytes = 192 << 20
	measureTime  = 150 * time.Millisecond
)

// MeasureBandwidth reads memory with so many threads at once and returns bytes
// per second: the best of some passes, as others may be computing too.
func MeasureBandwidth(ctx context.Context, threads int) float64 {
	threads = max(1, threads)
	words := measureBytes / 8 / threads
	data := make([][]uint64, threads)
	var wg sync.WaitGroup
	for i := range data {
		wg.Go(func() {
			data[i] = make([]uint64, words)
			for j := range data[i] { // touched by who reads it
				data[i][j] = uint64(j)
			}
		})
	}
	wg.Wait()
	sums := make([]uint64, threads*8) // a cache line each
	best := 0.0
	for start := time.Now(); ctx.Err() == nil; {
		pass := time.Now()
		for i := range data {
			wg.Go(func() { sums[8*i] += sum(data[i]) })
		}
		wg.Wait()
		best = max(best, float64(threads*words*8)/time.Since(pass).Seconds())
		if time.Since(start) > measureTime {
			break
		}
	}
	return best
}

// sum adds up words, four at a time so that the additions do not wait for each
// other.
func sum(w []uint64) uint64 {
	var a, b, c, d uint64
	for len(w) >= 8 {
		a += w[0] + w[4]
		b += w[1] + w[5]
		c += w[2] + w[6]
		d += w[3] + w[7]
		w = w[8:]
	}
	return a + b + c + d
}

// Bandwidth is the machine's memory bandwidth as remembered, else measured and
// remembered.
func (t Trials) Bandwidth(ctx context.Context, m Machine) float64 {
	file := t.bandwidthFile(m)
	if file != "" {
		if data, err := os.ReadFile(file); err == nil {
			if v, err := strconv.ParseFloat(strings.TrimSpace(string(data)), 64); err == nil && v > 1e6 && v < 1e15 {
				return v
			}
		}
	}
	v := MeasureBandwidth(ctx, m.Cores)
	if file == "" || ctx.Err() != nil {
		return v
	}
	// What cannot be remembered is measured again.
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err == nil {
		_ = os.WriteFile(file, []byte(strconv.FormatFloat(v, 'g', 4, 64)+"\n"), 0o644)
	}
	return v
}

func (t Trials) bandwidthFile(m Machine) string {
	if t.Dir == "" {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendln(nil, m.OS, m.Arch, m.CPU, m.Features, m.Cores, m.Memory))
	return filepath.Join(t.Dir, "autoselect", "bandwidth-"+hex.EncodeToString(sum[:8]))
}
