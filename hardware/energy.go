package hardware

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// EnergyCounter counts what a device has used since some time in the past,
// whatever program used it.
type EnergyCounter struct {
	Kind string // "RAPL" or "NVML"
	Name string // "package-0", "dram", "NVIDIA GeForce RTX 3060"
	// Accelerator tells a card's counter from those of processor and memory.
	Accelerator bool

	read func() (uint64, error) // microjoules
	// wrap is the value after which the counter begins again at 0; 0: never.
	wrap uint64
}

// String is "RAPL package-0".
func (c *EnergyCounter) String() string { return c.Kind + " " + c.Name }

// Read is the counter's value now, for Joules.
func (c *EnergyCounter) Read() (uint64, error) {
	v, err := c.read()
	if err != nil {
		return 0, fmt.Errorf("read the energy counter %s: %w", c, err)
	}
	return v, nil
}

// Joules is the energy between two values. A counter that began again in between
// did so once: at 200 W the usual one takes 20 minutes.
func (c *EnergyCounter) Joules(from, to uint64) float64 {
	if to < from {
		if c.wrap < from {
			return 0 // the counter was reset
		}
		return float64(c.wrap-from+to) / 1e6
	}
	return float64(to-from) / 1e6
}

// EnergyCounters lists the counters of this machine: processor and memory by
// RAPL (Linux's powercap files), NVIDIA cards by NVML, the driver's own library.
// missing says of each kind why there is none.
func EnergyCounters() (counters []EnergyCounter, missing []string) {
	if runtime.GOOS != "linux" {
		return nil, []string{"energy is measured on Linux only: RAPL and NVML"}
	}
	rapl, err := raplCounters(os.DirFS("/"))
	if err != nil {
		missing = append(missing, "RAPL: "+err.Error())
	}
	cards, err := nvmlCounters(loadNVML)
	if err != nil {
		missing = append(missing, "NVML: "+err.Error())
	}
	return append(rapl, cards...), missing
}

// raplCounters reads below sys/class/powercap: a folder intel-rapl:N (of AMD's
// processors too) for each package, with intel-rapl:N:M below it for parts of
// it. Parts are counted in their package, but for dram, which is beside it; psys,
// the whole board, holds all others and is left out.
//
// https://docs.kernel.org/power/powercap/powercap.html
func raplCounters(root fs.FS) ([]EnergyCounter, error) {
	const dir = "sys/class/powercap"
	zones, err := fs.Glob(root, dir+"/intel-rapl:*")
	if err != nil || len(zones) == 0 {
		return nil, fmt.Errorf("there are no counters in /%s: a virtual machine, a container that hides them, or a processor without", dir)
	}
	slices.Sort(zones)
	var out []EnergyCounter
	for _, zone := range zones {
		text, err := fs.ReadFile(root, zone+"/name")
		if err != nil {
			continue
		}
		name := strings.TrimSpace(string(text))
		part := strings.Count(path.Base(zone), ":") > 1
		if part && name != "dram" || !part && !strings.HasPrefix(name, "package") {
			continue
		}
		c := EnergyCounter{Kind: "RAPL", Name: name, read: func() (uint64, error) { return readCounter(root, zone+"/energy_uj") }}
		if _, err := c.read(); err != nil {
			if errors.Is(err, fs.ErrPermission) {
				err = fmt.Errorf("/%s/energy_uj may be read by root only; allow it until the next start with: sudo chmod -R a+r /sys/class/powercap/intel-rapl/", zone)
			}
			return nil, err
		}
		if c.wrap, err = readCounter(root, zone+"/max_energy_range_uj"); err != nil {
			c.wrap = 0
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("/%s has no counter of a whole processor", dir)
	}
	return out, nil
}

func readCounter(root fs.FS, name string) (uint64, error) {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("/%s: %w", name, err)
	}
	return v, nil
}
