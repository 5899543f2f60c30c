package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v4/process"
)

// TestMain lets the test binary be a worker process that fails in a way of its
// own; whole measurements are tested with the commands, by real runtimes.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "worker" {
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if err != nil {
			os.Exit(4)
		}
		switch os.Args[2] {
		case "crash":
			fmt.Fprintln(os.Stderr, "out of   order")
			os.Exit(3)
		case "babble":
			fmt.Println("hello")
		case "refuse":
			fmt.Println(`{"error":"it is no model"}`)
		case "hang": // where the description says
			file, err := strconv.Unquote(strings.TrimSpace(line))
			if err == nil {
				err = os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())), 0o600)
			}
			if err != nil {
				os.Exit(5)
			}
			time.Sleep(time.Minute)
		}
		return
	}
	os.Exit(m.Run())
}

func options(t *testing.T, how string) Options {
	t.Helper()
	return Options{
		Model: "m", Settings: Settings{Prompt: 4, Generate: 2, Repetitions: 1, Loads: 1, Threads: 1}, Worker: []string{os.Args[0], "worker", how},
		Artifacts: []Artifact{
			{Measured: Measured{Artifact: "onnx/cpu/int4", Format: "onnx"}, Path: t.TempDir(), Description: "x"},
			{Measured: Measured{Artifact: "mlx/4bit", Format: "mlx", Error: "mlx-lm is not set up"}},
		},
	}
}

// A process that fails ends its row, with what it said last.
func TestRunFailures(t *testing.T) {
	for how, want := range map[string]string{
		"crash":  "the process that ran the model ended with exit status 3: out of order",
		"babble": `the measuring process answered "hello\n"`,
		"refuse": "it is no model",
	} {
		r, err := Run(t.Context(), options(t, how))
		if err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if len(r.Artifacts) != 2 || r.Artifacts[1].Error != want || r.Artifacts[1].OK() || r.Artifacts[0].Error != "mlx-lm is not set up" {
			t.Errorf("%s: %+v, want the error %q", how, r.Artifacts, want)
		}
	}
}

// When the caller gives up, Run returns at once and its processes are gone.
func TestRunCancelled(t *testing.T) {
	o := options(t, "hang")
	file := filepath.Join(t.TempDir(), "pid")
	o.Artifacts[0].Description = file
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	o.Progress = func(string, float64, time.Duration) {
		go func() {
			for {
				if b, err := os.ReadFile(file); err == nil && len(b) > 0 {
					cancel(why)
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
	began := time.Now()
	if r, err := Run(ctx, o); r != nil || !errors.Is(err, why) {
		t.Errorf("%+v, %v; want nothing and the cause", r, err)
	}
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("it took %v to end", d)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(b))
	if err != nil {
		t.Fatal(err)
	}
	if alive, err := process.PidExists(int32(pid)); err != nil || alive {
		t.Errorf("its process %d is there: %v, %v", pid, alive, err)
	}
}

func TestRunRefuses(t *testing.T) {
	o := options(t, "crash")
	o.Settings.Generate = 1
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "times between tokens") {
		t.Errorf("one token: %v", err)
	}
	o = options(t, "crash")
	o.Baseline = sample()
	var different *DifferentError
	if _, err := Run(t.Context(), o); !errors.As(err, &different) {
		t.Errorf("another machine's baseline: %v", err)
	}
}

// Over many turns nobody is always first, and each comes before each other.
func TestOrder(t *testing.T) {
	r := &runner{}
	for i := range 4 {
		r.rows = append(r.rows, &row{m: Measured{Artifact: strconv.Itoa(i)}})
	}
	first, before := map[*row]int{}, map[[2]*row]int{}
	for turn := range 8 {
		o := r.order(turn)
		first[o[0]]++
		for i := range o {
			for j := range i {
				before[[2]*row{o[j], o[i]}]++
			}
		}
	}
	for _, a := range r.rows {
		if first[a] == 0 || first[a] > 4 {
			t.Errorf("%s is first in %d of 8 turns", a.m.Artifact, first[a])
		}
		for _, b := range r.rows {
			if a != b && before[[2]*row{a, b}] < 2 {
				t.Errorf("%s comes before %s in %d of 8 turns", a.m.Artifact, b.m.Artifact, before[[2]*row{a, b}])
			}
		}
	}
}

// Files dropped are read from the disk again; those of a memory file system cannot
// be, which must show.
func TestDropCache(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "weights")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := filesOf(dir)
	if err != nil || len(files) != 1 || files[0] != file {
		t.Fatalf("files of the folder: %v, %v", files, err)
	}
	if err := dropCache(files); err != nil && !strings.Contains(err.Error(), "in memory") && !strings.Contains(err.Error(), "only Linux") {
		t.Error(err)
	}
	if err := dropCache([]string{filepath.Join(dir, "none")}); err == nil {
		t.Error("no error of a file that is not there")
	}
}
