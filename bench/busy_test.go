package bench

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
)

func TestLoad(t *testing.T) {
	for _, tt := range []struct {
		name               string
		all, own, cores, s float64 // cpu seconds in s seconds
		want               float64
	}{
		{"nobody else", 8, 8, 4, 2, 0},
		{"one of four cores", 10, 8, 4, 2, 0.25},
		{"clocks that disagree", 8, 8.1, 4, 2, 0},
		{"more than there is", 40, 8, 4, 2, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			l := load{
				cores: int(tt.cores),
				all:   func(context.Context) float64 { asked++; return map[int]float64{1: 100, 2: 100 + tt.all}[asked] },
				of:    func(context.Context, int) float64 { return map[int]float64{1: 30, 2: 30 + tt.own}[asked] },
			}
			share := l.start(t.Context(), 1)
			time.Sleep(time.Duration(tt.s * float64(time.Second)))
			if got := share(); got < tt.want-1e-9 || got > tt.want+1e-9 {
				t.Errorf("%s: %v of the cores, want %v", tt.name, got, tt.want)
			}
		})
	}
}

// The real figures: a core kept busy by this process is its own, and foreign to
// another.
func TestLoadReal(t *testing.T) {
	l := newLoad()
	own, other := l.of(t.Context(), 0), 0.0
	before := busySeconds(t.Context())
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		other++
	}
	if after := busySeconds(t.Context()); after <= before {
		t.Errorf("cores worked %v s before and %v s after some work", before, after)
	}
	if own < 0 {
		t.Errorf("a process that is not there used %v s", own)
	}
}

func TestThrottle(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	root := fstest.MapFS{
		"sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": file("3\n"),
		"sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": file("4\n"),
		"sys/fs/cgroup/cpu.stat": file("usage_usec 5\nnr_periods 9\nnr_throttled 2\nthrottled_usec 8\n"),
	}
	before := readThrottle(root)
	if before != (throttle{hot: 7, limited: 2}) {
		t.Fatalf("got %+v", before)
	}
	if s := readThrottle(root).since(before); s != "" {
		t.Errorf("nothing happened, yet %q", s)
	}
	root["sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count"] = file("9\n")
	root["sys/fs/cgroup/cpu.stat"] = file("nr_throttled 3\n")
	if s := readThrottle(root).since(before); !strings.Contains(s, "5 times because they were too hot") || !strings.Contains(s, "stopped the work 1 times") {
		t.Errorf("got %q", s)
	}
	if got := readThrottle(fstest.MapFS{}); got != (throttle{}) {
		t.Errorf("of a system that tells nothing: %+v", got)
	}
}

func TestWarnings(t *testing.T) {
	report := func(repetitions int, busy ...float64) *Report {
		return &Report{Settings: Settings{Repetitions: repetitions}, Machine: Machine{Busy: newStat(busy)}}
	}
	for _, tt := range []struct {
		name string
		r    *Report
		want string // "" for no warning
	}{
		{"calm", report(5, 0.01, 0.02, 0.01, 0.03, 0.02), ""},
		{"busy", report(5, 0.4, 0.5, 0.3, 0.6, 0.7), "used 50 % of the cores"},
		{"busy once", report(5, 0, 0, 0, 0, 0.6), "in some rounds"},
		{"one round", report(1, 0), "one round"},
		{"two rounds", report(2, 0, 0), "50 % only"},
	} {
		got := strings.Join(warnings(tt.r), "\n")
		if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	hot := report(6, 0)
	hot.Machine.Throttled = "cores were slowed down"
	if got := warnings(hot); len(got) != 1 || !strings.Contains(got[0], "slowed down") {
		t.Errorf("throttled: %q", got)
	}
}
