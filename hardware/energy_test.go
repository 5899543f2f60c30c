package hardware

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestRAPL(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text + "\n")} }
	const dir = "sys/class/powercap/"
	tree := fstest.MapFS{
		dir + "intel-rapl:0/name":                  file("package-0"),
		dir + "intel-rapl:0/energy_uj":             file("262143000000"),
		dir + "intel-rapl:0/max_energy_range_uj":   file("262143328850"),
		dir + "intel-rapl:0:0/name":                file("core"), // is in package-0
		dir + "intel-rapl:0:0/energy_uj":           file("1"),
		dir + "intel-rapl:0:1/name":                file("dram"),
		dir + "intel-rapl:0:1/energy_uj":           file("5000000"),
		dir + "intel-rapl:0:1/max_energy_range_uj": file("65712999613"),
		dir + "intel-rapl:1/name":                  file("psys"), // the whole board
		dir + "intel-rapl:1/energy_uj":             file("7"),
	}
	got, err := raplCounters(tree)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range got {
		names = append(names, got[i].String())
	}
	if want := []string{"RAPL package-0", "RAPL dram"}; !slices.Equal(names, want) {
		t.Fatalf("counters %v, want %v", names, want)
	}
	from, err := got[0].Read()
	if err != nil {
		t.Fatal(err)
	}
	tree[dir+"intel-rapl:0/energy_uj"] = file("671150") // began again
	to, err := got[0].Read()
	if err != nil {
		t.Fatal(err)
	}
	if j := got[0].Joules(from, to); j != 1 {
		t.Errorf("over the end of the counter: %v J, want 1", j)
	}
	if j := got[1].Joules(5000000, 7500000); j != 2.5 {
		t.Errorf("%v J, want 2.5", j)
	}
	tree[dir+"intel-rapl:0/energy_uj"] = file("many")
	if _, err := got[0].Read(); err == nil || !strings.Contains(err.Error(), "package-0") {
		t.Errorf("a broken file: %v", err)
	}
}

// rootOnly refuses what the kernel lets only root read.
type rootOnly struct{ fstest.MapFS }

func (r rootOnly) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, "energy_uj") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return r.MapFS.Open(name)
}

func (r rootOnly) ReadFile(name string) ([]byte, error) {
	if strings.HasSuffix(name, "energy_uj") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return r.MapFS.ReadFile(name)
}

func TestRAPLMissing(t *testing.T) {
	named := fstest.MapFS{"sys/class/powercap/intel-rapl:0/name": {Data: []byte("package-0\n")}}
	for _, tt := range []struct {
		name string
		root fs.FS
		want string
	}{
		{"no folder", fstest.MapFS{}, "no counters in /sys/class/powercap"},
		{"root only", rootOnly{named}, "sudo chmod"},
		{"parts only", fstest.MapFS{"sys/class/powercap/intel-rapl:0/name": {Data: []byte("psys\n")}}, "no counter of a whole processor"},
	} {
		got, err := raplCounters(tt.root)
		if len(got) > 0 || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v; want an error with %q", tt.name, got, err, tt.want)
		}
	}
}

// driver stands for NVML with two cards, of which the second counts no energy.
func driver() *nvml {
	used := uint64(40)
	return &nvml{
		init:   func() int32 { return 0 },
		count:  func(n *uint32) int32 { *n = 2; return 0 },
		handle: func(i uint32, device *uintptr) int32 { *device = uintptr(i + 1); return 0 },
		name: func(device uintptr, text *byte, length uint32) int32 {
			*text = 'A' + byte(device) - 1
			return 0
		},
		energy: func(device uintptr, mj *uint64) int32 {
			if device == 2 {
				return 3
			}
			used += 2
			*mj = used
			return 0
		},
		text: func(int32) string { return "Not Supported" },
	}
}

func TestNVML(t *testing.T) {
	got, err := nvmlCounters(func() (*nvml, error) { return driver(), nil })
	if err != nil || len(got) != 1 || got[0].Name != "A" || !got[0].Accelerator {
		t.Fatalf("%+v, %v; want card A alone", got, err)
	}
	from, err := got[0].Read()
	if err != nil {
		t.Fatal(err)
	}
	to, err := got[0].Read()
	if err != nil {
		t.Fatal(err)
	}
	if j := got[0].Joules(from, to); j != 0.002 {
		t.Errorf("%v J, want 0.002", j)
	}
	old := driver()
	old.energy = func(uintptr, *uint64) int32 { return 3 }
	if _, err := nvmlCounters(func() (*nvml, error) { return old, nil }); err == nil || !strings.Contains(err.Error(), "Not Supported") {
		t.Errorf("cards without a counter: %v", err)
	}
	sick := driver()
	sick.init = func() int32 { return 9 }
	if _, err := nvmlCounters(func() (*nvml, error) { return sick, nil }); err == nil || !strings.Contains(err.Error(), "start the library") {
		t.Errorf("a driver that does not start: %v", err)
	}
	gone := errors.New("gone")
	if _, err := nvmlCounters(func() (*nvml, error) { return nil, gone }); !errors.Is(err, gone) {
		t.Errorf("no driver: %v", err)
	}
}

// What this machine has must be readable, or its lack explained.
func TestEnergyCounters(t *testing.T) {
	counters, missing := EnergyCounters()
	if len(counters) == 0 && len(missing) == 0 {
		t.Error("neither counters nor a reason")
	}
	for i := range counters {
		if _, err := counters[i].Read(); err != nil {
			t.Error(err)
		}
	}
	t.Log(counters, missing)
}
