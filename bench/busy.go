package bench

import (
	"context"
	"fmt"
	"io/fs"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/process"
)

// busyLimit is the share of the cores that others may use before figures are
// called doubtful.
const busyLimit = 0.1

// load watches what other programs use of the cores.
type load struct {
	cores int
	// all is the time that all cores have worked, of the time that a process has
	// had with its children; 0 where the system does not tell.
	all func(context.Context) float64
	of  func(context.Context, int) float64
}

func newLoad() load {
	return load{cores: runtime.NumCPU(), all: busySeconds, of: processSeconds}
}

// start begins a watch beside a process; the share of the cores that others
// used comes from the function returned.
func (l load) start(ctx context.Context, pid int) (share func() float64) {
	began, all, own := time.Now(), l.all(ctx), l.of(ctx, pid)
	return func() float64 {
		foreign := l.all(ctx) - all - (l.of(ctx, pid) - own)
		return min(max(0, foreign/(time.Since(began).Seconds()*float64(l.cores))), 1)
	}
}

func busySeconds(ctx context.Context) float64 {
	t, err := cpu.TimesWithContext(ctx, false)
	if err != nil || len(t) == 0 {
		return 0
	}
	c := t[0]
	return c.User + c.System + c.Nice + c.Irq + c.Softirq + c.Steal
}

func processSeconds(ctx context.Context, pid int) (s float64) {
	p, err := process.NewProcessWithContext(ctx, int32(pid))
	if err != nil {
		return 0
	}
	if t, err := p.TimesWithContext(ctx); err == nil {
		s = t.User + t.System
	}
	children, err := p.ChildrenWithContext(ctx)
	if err != nil { // none
		return s
	}
	for _, c := range children {
		s += processSeconds(ctx, int(c.Pid))
	}
	return s
}

// throttle counts how often the cores were slowed down, as far as Linux tells.
type throttle struct {
	hot     uint64 // events of cores that were too hot, x86 only
	limited uint64 // periods in which a container's limit stopped it
}

func readThrottle(root fs.FS) (t throttle) {
	cores, err := fs.Glob(root, "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
	if err != nil {
		return t
	}
	for _, name := range cores {
		if text, err := fs.ReadFile(root, name); err == nil {
			n, _ := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64) // 0 of what is no number
			t.hot += n
		}
	}
	// The group's own figures stand at the top of the tree a container sees.
	for _, name := range []string{"sys/fs/cgroup/cpu.stat", "sys/fs/cgroup/cpu/cpu.stat"} {
		text, err := fs.ReadFile(root, name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && key == "nr_throttled" {
				n, _ := strconv.ParseUint(value, 10, 64)
				t.limited += n
			}
		}
		break
	}
	return t
}

// since says what happened after before; "" for nothing.
func (t throttle) since(before throttle) string {
	var out []string
	if t.hot > before.hot {
		out = append(out, fmt.Sprintf("cores were slowed down %d times because they were too hot", t.hot-before.hot))
	}
	if t.limited > before.limited {
		out = append(out, fmt.Sprintf("the container's limit of processor time stopped the work %d times", t.limited-before.limited))
	}
	return strings.Join(out, "; ")
}
