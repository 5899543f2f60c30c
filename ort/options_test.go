package ort_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

func TestOptions(t *testing.T) {
	env := open(t)
	dir := t.TempDir()
	s := session(t, env, addModel(), ort.SessionOptions{
		IntraOpThreads: 2, InterOpThreads: 2, Optimization: ort.OptimizeAll, ExecutionMode: ort.Parallel,
		LogLevel: ort.LogFatal, DisableMemPattern: true, DisableCPUArena: true,
		Config: map[string]string{
			"session.intra_op.allow_spinning":              "0",
			"session.record_ep_graph_assignment_info":      "1",
			"session.set_denormal_as_zero":                 "1",
			"session.model_external_initializers_file_dir": "",
		},
		Providers:          []ort.Provider{{Name: "CPUExecutionProvider"}},
		OptimizedModelPath: filepath.Join(dir, "optimized.onnx"),
	})
	if _, err := os.Stat(filepath.Join(dir, "optimized.onnx")); err != nil {
		t.Error(err)
	}
	nodes, err := s.Assignments()
	must(t, err)
	want := []ort.NodeAssignment{{Provider: "CPUExecutionProvider", Node: "Add_C", Operator: "Add"}}
	if !slices.Equal(nodes, want) {
		t.Errorf("assignments %+v", nodes)
	}
}

func TestOptionErrors(t *testing.T) {
	env := open(t)
	closed, err := ort.NewTensor(env.Library(), []float32{1}, 1)
	must(t, err)
	closed.Close()
	for _, tt := range []struct {
		name string
		o    ort.SessionOptions
		want []string
	}{
		{"unknown provider", ort.SessionOptions{Providers: []ort.Provider{{Name: "CUDAExecutionProvider", Options: map[string]string{"device_id": "0"}}}},
			[]string{"CUDAExecutionProvider", "built without it", "it has", "CPUExecutionProvider"}},
		{"empty key", ort.SessionOptions{Config: map[string]string{"": "x"}}, []string{"config entry"}},
		{"zero byte", ort.SessionOptions{Config: map[string]string{"k\x00": "x"}}, []string{"zero byte"}},
		{"negative dimension", ort.SessionOptions{FreeDimensions: map[string]int64{"n": -1}}, []string{`"n"`, "negative"}},
		{"closed initializer", ort.SessionOptions{Initializers: map[string]*ort.Value{"W": closed}}, []string{"already closed"}},
		{"nil initializer", ort.SessionOptions{ExternalInitializers: map[string]*ort.Value{"W": nil}}, []string{"nil"}},
		{"profile", ort.SessionOptions{ProfilePrefix: "a\x00"}, []string{"profile"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := env.NewSessionFromBytes(t.Context(), addModel(), tt.o)
			wantError(t, err, tt.want...)
		})
	}
}

func TestFreeDimension(t *testing.T) {
	env := open(t)
	s := session(t, env, addModel(), ort.SessionOptions{FreeDimensions: map[string]int64{"n": 2}})
	if in := s.Inputs()[0]; !slices.Equal(in.Shape, []int64{2, 4}) {
		t.Errorf("shape with n fixed: %v", in.Shape)
	}
	v := tensor(t, env.Library(), make([]float32, 4), 1, 4)
	err := s.Run(t.Context(), nil, []ort.Named{{Name: "A", Value: v}, {Name: "B", Value: v}}, []ort.Named{{Name: "C"}})
	wantError(t, err, "Expected: 2")
}

// weighted is Y = X + W with W as the graph's initializer or external data.
func weighted(external bool) []byte {
	var g graph
	g.input("X", ort.Float32, 4)
	g.output("Y", ort.Float32, 4)
	if external {
		g.external("W", "weights.bin", []int64{4})
	} else {
		g.initializer("W", []int64{4}, []float32{1, 1, 1, 1})
	}
	g.node("Add", []string{"X", "W"}, []string{"Y"})
	return g.model()
}

func TestInitializers(t *testing.T) {
	env := open(t)
	lib := env.Library()
	w := []float32{10, 20, 30, 40}
	for _, tt := range []struct {
		name     string
		external bool
		o        ort.SessionOptions
		want     float32
	}{
		{"of the graph", false, ort.SessionOptions{}, 1},
		{"shared", false, ort.SessionOptions{Initializers: map[string]*ort.Value{"W": tensor(t, lib, w, 4)}}, 10},
		{"external values", true, ort.SessionOptions{ExternalInitializers: map[string]*ort.Value{"W": tensor(t, lib, w, 4)}}, 10},
		{"external file in memory", true, ort.SessionOptions{ExternalFiles: map[string][]byte{"weights.bin": floatBytes(w)}}, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := session(t, env, weighted(tt.external), tt.o)
			x := tensor(t, lib, make([]float32, 4), 4)
			out := []ort.Named{{Name: "Y"}}
			must(t, s.Run(t.Context(), nil, []ort.Named{{Name: "X", Value: x}}, out))
			defer out[0].Value.Close()
			if y := floats(t, out[0].Value); y[0] != tt.want {
				t.Errorf("Y = %v", y)
			}
		})
	}
	_, err := env.NewSessionFromBytes(t.Context(), weighted(true), ort.SessionOptions{})
	wantError(t, err, "weights.bin")
}

func TestProfiling(t *testing.T) {
	env := open(t)
	prefix := filepath.Join(t.TempDir(), "profile")
	s := session(t, env, addModel(), ort.SessionOptions{ProfilePrefix: prefix})
	v := tensor(t, env.Library(), make([]float32, 4), 1, 4)
	ro, err := env.Library().NewRunOptions()
	must(t, err)
	defer ro.Close()
	must(t, ro.SetTag("tagged run"))
	must(t, s.Run(t.Context(), ro, []ort.Named{{Name: "A", Value: v}, {Name: "B", Value: v}}, []ort.Named{{Name: "C", Value: v}}))
	file, err := s.EndProfiling()
	must(t, err)
	trace, err := os.ReadFile(file)
	must(t, err)
	if !strings.HasPrefix(file, prefix) || !strings.Contains(string(trace), "Add_C") {
		t.Errorf("profile %s: %.200s", file, trace)
	}
	plain := session(t, env, addModel(), ort.SessionOptions{})
	_, err = plain.EndProfiling()
	wantError(t, err, "not switched on")
}

func TestLogger(t *testing.T) {
	lib, err := ort.Open(oracle.Library(t))
	must(t, err)
	var mu sync.Mutex
	var got []ort.LogMessage
	env, err := lib.NewEnv(ort.EnvOptions{Name: "logged", LogLevel: ort.LogVerbose, Logger: func(m ort.LogMessage) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, m)
	}})
	must(t, err)
	s, err := env.NewSessionFromBytes(t.Context(), addModel(), ort.SessionOptions{})
	must(t, err)
	s.Close()
	env.Close()
	mu.Lock()
	defer mu.Unlock()
	if len(got) == 0 {
		t.Fatal("no log messages")
	}
	for _, m := range got {
		if m.Level < ort.LogVerbose || m.Level > ort.LogFatal || m.Text == "" || m.Category == "" || m.Location == "" {
			t.Fatalf("message %+v", m)
		}
	}
}
