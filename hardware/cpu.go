package hardware

import (
	"context"
	"runtime"
	"strings"

	"github.com/klauspost/cpuid/v2"
	"github.com/shirou/gopsutil/v4/cpu"
)

// CPU describes the processor.
type CPU struct {
	Name     string // as the maker calls it; the architecture where unknown
	Arch     string // GOARCH
	Physical int    // cores, at least 1
	Logical  int    // hardware threads, at least 1
	Features Features
}

// DetectCPU reads what the processor is.
func DetectCPU(ctx context.Context) CPU {
	c := CPU{
		Name: strings.TrimSpace(cpuid.CPU.BrandName), Arch: runtime.GOARCH,
		Logical: runtime.NumCPU(), Features: DetectFeatures(),
	}
	// ARM has no instruction that names the processor; the system may know.
	if c.Name == "" {
		if infos, err := cpu.InfoWithContext(ctx); err == nil && len(infos) > 0 {
			c.Name = strings.TrimSpace(infos[0].ModelName)
		}
	}
	if c.Name == "" {
		c.Name = runtime.GOARCH
	}
	if n, err := cpu.CountsWithContext(ctx, false); err == nil {
		c.Physical = n
	}
	// A virtual machine may hide its topology, and a container may be given
	// fewer threads than the machine has cores.
	if c.Physical < 1 || c.Physical > c.Logical {
		c.Physical = c.Logical
	}
	return c
}

// Threads is how many threads to compute with by default: one per physical
// core, within the limit a container sets.
func (c CPU) Threads() int { return max(1, min(c.Physical, runtime.GOMAXPROCS(0))) }
