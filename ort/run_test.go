package ort_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/llama-pajamas/llama-pajamas/ort"
)

// slowModel multiplies a matrix [n,n] by itself many times: a run of seconds
// that can be ended after any node.
func slowModel(n, nodes int) []byte {
	var g graph
	g.input("X", ort.Float32, n, n)
	g.output("Y", ort.Float32, n, n)
	last := "X"
	for i := range nodes {
		out := fmt.Sprintf("t%d", i)
		if i == nodes-1 {
			out = "Y"
		}
		g.node("MatMul", []string{last, "X"}, []string{out})
		last = out
	}
	return g.model()
}

// slowCall is a prepared run of slowModel that takes well over a second.
func slowCall(t *testing.T, env *ort.Env) *ort.Call {
	t.Helper()
	const n = 512
	s := session(t, env, slowModel(n, 600), ort.SessionOptions{IntraOpThreads: 1})
	call, err := s.NewCall([]string{"X"}, []string{"Y"})
	must(t, err)
	t.Cleanup(call.Close)
	must(t, call.SetInput(0, tensor(t, env.Library(), make([]float32, n*n), n, n)))
	return call
}

func TestCancel(t *testing.T) {
	env := open(t)
	call := slowCall(t, env)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the user pressed Ctrl-C")
	start := time.Now()
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	err := call.Run(ctx, nil)
	took := time.Since(start)
	if !errors.Is(err, cause) {
		t.Fatalf("a cancelled run gives %v after %v", err, took)
	}
	if err := call.Run(ctx, nil); !errors.Is(err, cause) {
		t.Errorf("a run under a cancelled context gives %v", err)
	}
	// The same call runs again under another context: it is not cancelled but
	// ended by a later deadline, so it did start.
	ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	start = time.Now()
	if err := call.Run(ctx, nil); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) < 90*time.Millisecond {
		t.Errorf("a run with a deadline gives %v after %v", err, time.Since(start))
	}
}

func TestTerminate(t *testing.T) {
	env := open(t)
	call := slowCall(t, env)
	ro, err := env.Library().NewRunOptions()
	must(t, err)
	defer ro.Close()
	done := make(chan error)
	time.AfterFunc(50*time.Millisecond, func() { done <- ro.Terminate() })
	if err := call.Run(t.Context(), ro); !errors.Is(err, ort.ErrTerminated) {
		t.Fatalf("a terminated run gives %v", err)
	}
	must(t, <-done)
	if err := call.Run(t.Context(), ro); !errors.Is(err, ort.ErrTerminated) {
		t.Errorf("the flag does not stay: %v", err)
	}
	// A context that ends must not lower a flag raised by hand.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = call.Run(ctx, ro)
	if err := call.Run(context.Background(), ro); !errors.Is(err, ort.ErrTerminated) {
		t.Errorf("the flag was lowered: %v", err)
	}
	must(t, ro.Unset())
	s := session(t, env, addModel(), ort.SessionOptions{})
	v := tensor(t, env.Library(), make([]float32, 4), 1, 4)
	must(t, s.Run(t.Context(), ro, []ort.Named{{Name: "A", Value: v}, {Name: "B", Value: v}}, []ort.Named{{Name: "C", Value: v}}))
	ro.Close()
	if err := ro.Terminate(); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("terminate after Close: %v", err)
	}
}

func TestCloseDuringRun(t *testing.T) {
	env := open(t)
	const n = 256
	s := session(t, env, slowModel(n, 100), ort.SessionOptions{IntraOpThreads: 1})
	call, err := s.NewCall([]string{"X"}, []string{"Y"})
	must(t, err)
	x, err := ort.NewTensor(env.Library(), make([]float32, n*n), n, n)
	must(t, err)
	must(t, call.SetInput(0, x))
	time.AfterFunc(10*time.Millisecond, func() { s.Close(); x.Close(); env.Close() })
	must(t, call.Run(t.Context(), nil))
	time.Sleep(20 * time.Millisecond)
	if err := call.Run(t.Context(), nil); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("a run after Close gives %v", err)
	}
	call.Close()
}

func TestTakeOutput(t *testing.T) {
	env := open(t)
	s := session(t, env, addModel(), ort.SessionOptions{})
	call, err := s.NewCall([]string{"A", "B"}, []string{"C"})
	must(t, err)
	defer call.Close()
	wantError(t, call.Run(t.Context(), nil), `input "A" is not set`)
	v := tensor(t, env.Library(), []float32{1, 2, 3, 4}, 1, 4)
	must(t, call.SetInput(0, v))
	must(t, call.SetInput(1, v))
	must(t, call.Run(t.Context(), nil))
	taken := call.TakeOutput(0)
	defer taken.Close()
	must(t, call.Run(t.Context(), nil)) // would close an output not taken
	if got := floats(t, taken); got[3] != 8 {
		t.Errorf("a taken output after the next run: %v", got)
	}
	kept := call.Output(0)
	must(t, call.SetOutput(0, v)) // in place from now on
	must(t, call.Run(t.Context(), nil))
	if _, err := kept.Bytes(); !errors.Is(err, ort.ErrClosed) || call.Output(0) != v {
		t.Errorf("an output not taken outlives the next run: %v", err)
	}
	wantError(t, call.SetInput(2, v), "it has 2")
	wantError(t, call.SetOutput(-1, v), "it has 1")
	if s.Env() != env || s.Library() != env.Library() || s.Name() != "the model in memory" {
		t.Errorf("session %q of another environment", s.Name())
	}
}

// TestLoadCancelledHalfway cancels the load of a model whose optimization
// takes long: thousands of nodes.
func TestLoadCancelledHalfway(t *testing.T) {
	env := open(t)
	model := slowModel(4, 20000)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s, err := env.NewSessionFromBytes(ctx, model, ort.SessionOptions{})
	if !errors.Is(err, context.DeadlineExceeded) || s != nil {
		t.Errorf("loading under a deadline gives %v", err)
	}
}

func TestLoadCancelled(t *testing.T) {
	env := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := env.NewSessionFromBytes(ctx, addModel(), ort.SessionOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("loading under a cancelled context: %v", err)
	}
}

func TestRunConfig(t *testing.T) {
	ro, err := open(t).Library().NewRunOptions()
	must(t, err)
	defer ro.Close()
	must(t, ro.AddConfig("memory.enable_memory_arena_shrinkage", "cpu:0"))
	wantError(t, ro.AddConfig("", "x"), "run config entry")
	wantError(t, ro.AddConfig("a\x00", "x"), "zero byte")
	wantError(t, ro.SetTag("a\x00"), "zero byte")
}

func TestBinding(t *testing.T) {
	env := open(t)
	lib := env.Library()
	s := session(t, env, addModel(), ort.SessionOptions{})
	b, err := s.NewBinding()
	must(t, err)
	defer b.Close()
	sum := []float32{0, 0, 0, 0}
	a := tensor(t, lib, sum, 1, 4)
	must(t, b.BindInput("A", a))
	must(t, b.BindInput("B", tensor(t, lib, []float32{1, 2, 3, 4}, 1, 4)))
	must(t, b.BindOutput("C", a)) // in place
	must(t, b.SynchronizeInputs())
	for range 3 {
		must(t, b.Run(t.Context(), nil))
	}
	must(t, b.SynchronizeOutputs())
	if !slices.Equal(sum, []float32{3, 6, 9, 12}) {
		t.Errorf("in place: %v", sum)
	}
	out, err := b.Outputs()
	must(t, err)
	if len(out) != 1 || out[0].Value != a {
		t.Errorf("outputs %+v", out)
	}

	must(t, b.BindOutputToDevice("C", ort.CPUMemory()))
	must(t, b.Run(context.Background(), nil))
	out, err = b.Outputs()
	must(t, err)
	if len(out) != 1 || out[0].Name != "C" || floats(t, out[0].Value)[3] != 16 {
		t.Errorf("allocated outputs %+v", out)
	}
	out[0].Value.Close()

	wantError(t, b.BindInput("X", a), "no input")
	wantError(t, b.BindOutput("X", a), "no output")
	wantError(t, b.BindOutputToDevice("X", ort.CPUMemory()), "no output")
	wantError(t, b.BindInput("A", nil), "nil")
	must(t, b.Clear())
	wantError(t, b.Run(t.Context(), nil), "A")
	b.Close()
	if err := b.Run(t.Context(), nil); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("run of a closed binding: %v", err)
	}
}

func TestBindingOutlivesSession(t *testing.T) {
	env := open(t)
	s := session(t, env, addModel(), ort.SessionOptions{})
	b, err := s.NewBinding()
	must(t, err)
	s.Close()
	if err := b.Run(t.Context(), nil); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("run of a closed session's binding: %v", err)
	}
	b.Close()
}

// prepared is a call with every value set.
func prepared(t testing.TB) *ort.Call {
	env := open(t)
	s := session(t, env, addModel(), ort.SessionOptions{IntraOpThreads: 1})
	call, err := s.NewCall([]string{"A", "B"}, []string{"C"})
	must(t, err)
	t.Cleanup(call.Close)
	must(t, call.SetInput(0, tensor(t, env.Library(), make([]float32, 4), 1, 4)))
	must(t, call.SetInput(1, tensor(t, env.Library(), make([]float32, 4), 1, 4)))
	must(t, call.SetOutput(0, tensor(t, env.Library(), make([]float32, 4), 1, 4)))
	return call
}

func TestRunAllocatesNothing(t *testing.T) {
	call := prepared(t)
	mask := tensor(t, open(t).Library(), make([]int64, 2048), 1, 2048)
	length := int64(0)
	for _, tt := range []struct {
		name string
		ctx  context.Context
	}{{"background", context.Background()}, {"cancellable", t.Context()}} {
		perRun := testing.AllocsPerRun(1000, func() {
			length = length%2000 + 1
			if err := mask.Reshape(1, length); err != nil {
				t.Fatal(err)
			}
			if err := call.Run(tt.ctx, nil); err != nil {
				t.Fatal(err)
			}
		})
		if perRun >= 1 {
			t.Errorf("%s: %v allocations a run", tt.name, perRun)
		}
	}
}

func BenchmarkCall(b *testing.B) {
	call := prepared(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := call.Run(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRun(b *testing.B) {
	env := open(b)
	s := session(b, env, addModel(), ort.SessionOptions{IntraOpThreads: 1})
	v := tensor(b, env.Library(), make([]float32, 4), 1, 4)
	in, out := []ort.Named{{Name: "A", Value: v}, {Name: "B", Value: v}}, []ort.Named{{Name: "C", Value: v}}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Run(b.Context(), nil, in, out); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBinding(b *testing.B) {
	env := open(b)
	s := session(b, env, addModel(), ort.SessionOptions{IntraOpThreads: 1})
	v := tensor(b, env.Library(), make([]float32, 4), 1, 4)
	binding, err := s.NewBinding()
	must(b, err)
	defer binding.Close()
	must(b, binding.BindInput("A", v))
	must(b, binding.BindInput("B", v))
	must(b, binding.BindOutput("C", v))
	b.ReportAllocs()
	for b.Loop() {
		if err := binding.Run(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewTensor(b *testing.B) {
	lib := open(b).Library()
	data := make([]float32, 64)
	b.ReportAllocs()
	for b.Loop() {
		v, err := ort.NewTensor(lib, data, 1, 64)
		if err != nil {
			b.Fatal(err)
		}
		v.Close()
	}
}

func BenchmarkReshape(b *testing.B) {
	lib := open(b).Library()
	v := tensor(b, lib, make([]int64, 64), 1, 64)
	b.ReportAllocs()
	for b.Loop() {
		if err := v.Reshape(1, 32); err != nil {
			b.Fatal(err)
		}
	}
}
