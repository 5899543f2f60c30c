package hardware

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestFeatures(t *testing.T) {
	f := DetectFeatures()
	if runtime.GOOS == "linux" && runtime.GOARCH == "amd64" {
		info, err := os.ReadFile("/proc/cpuinfo")
		if err != nil {
			t.Fatal(err)
		}
		flags := strings.Fields(string(info))
		for _, n := range []struct {
			bit  Features
			flag string
		}{{AVX2, "avx2"}, {FMA, "fma"}, {F16C, "f16c"}, {AVX512VNNI, "avx512_vnni"}, {AVXVNNI, "avx_vnni"}} {
			if got, want := f.Has(n.bit), slices.Contains(flags, n.flag); got != want {
				t.Errorf("%s: found %v, the kernel says %v", n.flag, got, want)
			}
		}
	}
	all := AVX | AVX2 | DotProd
	if all.Without(AVX2) != AVX|DotProd || all.Has(FMA) || !all.Has(AVX|AVX2) || all.String() != "avx avx2 dotprod" {
		t.Errorf("set operations on %v", all)
	}
	if (AVX | AVX2).HasInt8Dot() || !(AVX | AVXVNNI).HasInt8Dot() {
		t.Error("int8 dot products")
	}
	if len(featureNames) != 17 || featureNames[16].bit != SVE2 {
		t.Error("a feature has no name")
	}
}

func TestCPU(t *testing.T) {
	c := DetectCPU(t.Context())
	if c.Name == "" || c.Physical < 1 || c.Logical < c.Physical || c.Threads() < 1 || c.Threads() > c.Logical {
		t.Errorf("%+v, %d threads", c, c.Threads())
	}
	if got := (CPU{}).Threads(); got != 1 {
		t.Errorf("an unknown CPU gets %d threads", got)
	}
}

func TestMemory(t *testing.T) {
	m, err := DetectMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m.Total < 1<<28 || m.Available == 0 || m.Available > m.Total {
		t.Errorf("%+v", m)
	}
}

func TestMemoryLimit(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	machine := Memory{Total: 1000, Available: 800}
	for _, tt := range []struct {
		name string
		fs   fstest.MapFS
		want Memory
	}{
		{"none", fstest.MapFS{}, machine},
		{"v2 unlimited", fstest.MapFS{
			"proc/self/cgroup": file("0::/a/b\n"), "sys/fs/cgroup/a/b/memory.max": file("max\n")}, machine},
		{"v2 group", fstest.MapFS{
			"proc/self/cgroup":                 file("0::/a/b\n"),
			"sys/fs/cgroup/a/b/memory.max":     file("500\n"),
			"sys/fs/cgroup/a/memory.max":       file("700\n"),
			"sys/fs/cgroup/a/memory.current":   file("699\n"),
			"sys/fs/cgroup/memory.max":         file("max\n"),
			"sys/fs/cgroup/a/b/memory.current": file("100\n")}, Memory{500, 400}},
		{"v2 parent is tighter", fstest.MapFS{
			"proc/self/cgroup":               file("0::/a/b\n"),
			"sys/fs/cgroup/a/b/memory.max":   file("500\n"),
			"sys/fs/cgroup/a/memory.max":     file("300\n"),
			"sys/fs/cgroup/a/memory.current": file("250\n")}, Memory{300, 50}},
		{"v2 container", fstest.MapFS{
			"proc/self/cgroup":         file("0::/docker/not/visible\n"),
			"sys/fs/cgroup/memory.max": file("600")}, Memory{600, 600}},
		{"v1", fstest.MapFS{
			"proc/self/cgroup": file("5:devices:/\n4:memory:/x\n0::/\n"),
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": file("200\n"),
			"sys/fs/cgroup/memory/x/memory.usage_in_bytes": file("300\n")}, Memory{200, 0}},
		{"larger than the machine", fstest.MapFS{
			"proc/self/cgroup":         file("0::/\n"),
			"sys/fs/cgroup/memory.max": file("9223372036854771712")}, machine},
		{"broken", fstest.MapFS{
			"proc/self/cgroup":         file("0:\nx\n0::/../..\n"),
			"sys/fs/cgroup/memory.max": file("many")}, machine},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := machine
			m.limit(tt.fs)
			if m != tt.want {
				t.Errorf("%+v, want %+v", m, tt.want)
			}
		})
	}
}

func TestParseSMI(t *testing.T) {
	gpus, err := parseSMI("NVIDIA GeForce RTX 4070, 580.65.06, 8.9, 12282, 11800\nOrin (nvgpu), 540.4.0, [N/A], [N/A], [N/A]\n")
	want := []GPU{
		{Name: "NVIDIA GeForce RTX 4070", Driver: "580.65.06", Compute: "8.9", TotalMemory: 12282 << 20, FreeMemory: 11800 << 20},
		{Name: "Orin (nvgpu)", Driver: "540.4.0"},
	}
	if err != nil || !slices.Equal(gpus, want) {
		t.Errorf("%+v, %v", gpus, err)
	}
	if _, err := parseSMI("No devices were found\n"); err == nil {
		t.Error("a message was read as a card")
	}
	if gpus, err := parseSMI(""); err != nil || gpus != nil {
		t.Errorf("no cards: %v, %v", gpus, err)
	}
}

func TestAccelerators(t *testing.T) {
	root := fstest.MapFS{
		"proc/device-tree/model":                              {Data: []byte("NVIDIA Jetson AGX Orin Developer Kit\x00")},
		"proc/driver/nvidia/gpus/0000:01:00.0/information":    {Data: []byte("Model: \t\t NVIDIA H100 PCIe\nIRQ:   \t\t 100\n")},
		"proc/driver/nvidia/gpus/0000:02:00.0/information":    {Data: []byte("garbage")},
		"proc/driver/nvidia/gpus/0000:03:00.0/something-else": {Data: []byte("Model: x")},
	}
	if got := jetson(root); got != "NVIDIA Jetson AGX Orin Developer Kit" {
		t.Errorf("Jetson %q", got)
	}
	if got := jetson(fstest.MapFS{"proc/device-tree/model": {Data: []byte("Raspberry Pi 5 Model B\x00")}}); got != "" {
		t.Errorf("a Raspberry Pi is %q", got)
	}
	if got := procGPUs(root); !slices.Equal(got, []GPU{{Name: "NVIDIA H100 PCIe"}, {Name: "NVIDIA GPU"}}) {
		t.Errorf("cards %+v", got)
	}
}

// TestSMIProgram runs a stand-in for nvidia-smi.
func TestSMIProgram(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // a script cannot stand in there
	}
	dir := t.TempDir()
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	program := filepath.Join(dir, "nvidia-smi")
	for _, tt := range []struct {
		script string
		want   int
	}{
		{"echo 'NVIDIA H100, 580.1, 9.0, 81559, 81000'", 1},
		{"echo 'NVIDIA-SMI has failed'; exit 9", 0},
		{"echo nonsense", 0},
	} {
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if got := DetectAccelerators(t.Context()).NVIDIA; len(got) != tt.want {
			t.Errorf("%s: %+v", tt.script, got)
		}
	}
}
