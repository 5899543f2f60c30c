package hardware

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v4/mem"
)

// Memory is the machine's main memory, in bytes. Where a control group limits
// this process to less, the limit counts.
type Memory struct {
	Total     uint64
	Available uint64 // without swapping
}

// DetectMemory reads how much memory there is and is free now.
func DetectMemory(ctx context.Context) (Memory, error) {
	v, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return Memory{}, fmt.Errorf("read how much memory this machine has: %w", err)
	}
	m := Memory{Total: v.Total, Available: v.Available}
	if runtime.GOOS == "linux" {
		m.limit(os.DirFS("/"))
	}
	return m, nil
}

// limit lowers m to what the control groups of this process allow: memory.max
// of version 2 (cgroup-v2.rst), memory.limit_in_bytes of version 1
// (cgroup-v1/memory.rst). Every folder from the process's group up to the root
// may set a limit. In a container the group's own path is often not visible;
// then the root of the mount is the container's group. Files that are not
// there set no limit.
func (m *Memory) limit(root fs.FS) {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(groups)) {
		// hierarchy-ID:controllers:path
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(f) != 3:
		case f[0] == "0" && f[1] == "":
			m.climb(root, "sys/fs/cgroup", f[2], "memory.max", "memory.current")
		case f[1] == "memory":
			m.climb(root, "sys/fs/cgroup/memory", f[2], "memory.limit_in_bytes", "memory.usage_in_bytes")
		}
	}
}

// climb applies the limits of group and all above it.
func (m *Memory) climb(root fs.FS, mount, group, limit, usage string) {
	for g := path.Clean("/" + group); ; g = path.Dir(g) {
		dir := path.Join(mount, g)
		if most, ok := readNumber(root, path.Join(dir, limit)); ok && most < m.Total {
			m.Total = most
			used, _ := readNumber(root, path.Join(dir, usage)) // 0 when not told
			m.Available = min(m.Available, most-min(most, used))
		}
		if g == "/" {
			return
		}
	}
}

// readNumber reads a file that holds one number; "max" is none.
func readNumber(root fs.FS, name string) (uint64, bool) {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}
