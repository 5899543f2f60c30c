package ort_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// open loads the pinned library and makes an environment for the test.
func open(t testing.TB) *ort.Env {
	t.Helper()
	lib, err := ort.Open(oracle.Library(t))
	if err != nil {
		t.Fatal(err)
	}
	env, err := lib.NewEnv(ort.EnvOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	return env
}

func session(t testing.TB, env *ort.Env, model []byte, o ort.SessionOptions) *ort.Session {
	t.Helper()
	s, err := env.NewSessionFromBytes(t.Context(), model, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func tensor[T ort.Element](t testing.TB, lib *ort.Library, data []T, shape ...int64) *ort.Value {
	t.Helper()
	v, err := ort.NewTensor(lib, data, shape...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

func floats(t testing.TB, v *ort.Value) []float32 {
	t.Helper()
	data, err := ort.Data[float32](v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// must fails the test on an error; wantError where err lacks the text.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", texts)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q lacks %q", err, text)
		}
	}
}

func TestLibrary(t *testing.T) {
	lib := open(t).Library()
	if !strings.HasPrefix(lib.Version(), "1.") || !strings.HasSuffix(filepath.Base(lib.Path()), lib.Version()) && runtime.GOOS == "linux" {
		t.Errorf("version %q of %s", lib.Version(), lib.Path())
	}
	if !strings.Contains(lib.BuildInfo(), "ORT Build Info") {
		t.Errorf("build info %q", lib.BuildInfo())
	}
	providers, err := lib.AvailableProviders()
	must(t, err)
	if !slices.Contains(providers, "CPUExecutionProvider") {
		t.Errorf("providers %q", providers)
	}
}

func TestOpenWrongLibrary(t *testing.T) {
	text := filepath.Join(t.TempDir(), "libonnxruntime.so")
	must(t, os.WriteFile(text, []byte("not a library"), 0o600))
	_, err := ort.Open(text)
	wantError(t, err, text, runtime.GOOS)
	_, err = ort.Open(filepath.Join(t.TempDir(), "absent.so"))
	wantError(t, err, "absent.so")
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
	for _, libc := range []string{"libc.so.6", "/usr/lib/libSystem.B.dylib", `C:\Windows\System32\kernel32.dll`} {
		if _, err := ort.Open(libc); err != nil && strings.Contains(err.Error(), "not ONNX Runtime") {
			return
		}
	}
	t.Error("opening another library was not refused by its missing OrtGetApiBase")
}

func TestSessionInfo(t *testing.T) {
	env := open(t)
	s := session(t, env, addModel(), ort.SessionOptions{})
	in := s.Inputs()
	if len(in) != 2 || in[0].Name != "A" || in[0].Type != ort.Float32 ||
		!slices.Equal(in[0].Shape, []int64{-1, 4}) || !slices.Equal(in[0].DimNames, []string{"n", ""}) {
		t.Errorf("inputs %+v", in)
	}
	if out := s.Outputs(); len(out) != 1 || out[0].Name != "C" {
		t.Errorf("outputs %+v", out)
	}
	m, err := s.Metadata()
	must(t, err)
	if m.Producer != "ort tests" || m.Graph != "test graph" || m.Version != 7 || m.Custom["purpose"] != "a test" || len(m.Custom) != 1 {
		t.Errorf("metadata %+v", m)
	}
}

func TestSessionFromFile(t *testing.T) {
	env := open(t)
	path := filepath.Join(t.TempDir(), "módel ☃.onnx")
	must(t, os.WriteFile(path, addModel(), 0o600))
	s, err := env.NewSession(t.Context(), path, ort.SessionOptions{})
	must(t, err)
	defer s.Close()
	_, err = env.NewSession(t.Context(), path+".absent", ort.SessionOptions{})
	wantError(t, err, "load model", "absent")
	var e *ort.Error
	if !errors.As(err, &e) || e.Code != ort.CodeNoSuchFile {
		t.Errorf("a missing model gives %v", err)
	}
	_, err = env.NewSessionFromBytes(t.Context(), []byte("not a model"), ort.SessionOptions{})
	wantError(t, err, "from memory")
	_, err = env.NewSession(t.Context(), "a\x00b", ort.SessionOptions{})
	wantError(t, err, "zero byte")
}

func TestRun(t *testing.T) {
	env := open(t)
	s := session(t, env, addModel(), ort.SessionOptions{})
	for _, n := range []int64{1, 3, 0} { // a dynamic dimension
		x, y := make([]float32, 4*n), make([]float32, 4*n)
		for i := range x {
			x[i], y[i] = float32(i), float32(10*i)
		}
		a, b := tensor(t, env.Library(), x, n, 4), tensor(t, env.Library(), y, n, 4)
		out := []ort.Named{{Name: "C"}}
		must(t, s.Run(t.Context(), nil, []ort.Named{{Name: "A", Value: a}, {Name: "B", Value: b}}, out))
		c := out[0].Value
		if !slices.Equal(c.Shape(), []int64{n, 4}) || c.Type() != ort.Float32 || c.Location() != ort.CPUMemory() {
			t.Errorf("output %v %v at %v", c.Type(), c.Shape(), c.Location())
		}
		for i, v := range floats(t, c) {
			if v != float32(11*i) {
				t.Errorf("element %d is %v", i, v)
			}
		}
		c.Close()
		if _, err := c.Bytes(); !errors.Is(err, ort.ErrClosed) {
			t.Errorf("bytes of a closed value: %v", err)
		}
	}
}

func TestRunInPlace(t *testing.T) {
	env := open(t)
	s := session(t, env, addModel(), ort.SessionOptions{})
	sum := []float32{0, 0, 0, 0}
	a := tensor(t, env.Library(), sum, 1, 4)
	b := tensor(t, env.Library(), []float32{1, 2, 3, 4}, 1, 4)
	for range 3 {
		must(t, s.Run(t.Context(), nil, []ort.Named{{Name: "A", Value: a}, {Name: "B", Value: b}}, []ort.Named{{Name: "C", Value: a}}))
	}
	if !slices.Equal(sum, []float32{3, 6, 9, 12}) {
		t.Errorf("after three runs onto the input: %v", sum)
	}
}

func TestRunErrors(t *testing.T) {
	env := open(t)
	lib := env.Library()
	s := session(t, env, addModel(), ort.SessionOptions{})
	good := tensor(t, lib, make([]float32, 4), 1, 4)
	closed, err := ort.NewTensor(lib, make([]float32, 4), 1, 4)
	must(t, err)
	closed.Close()
	closed.Close()
	c := "C"
	for _, tt := range []struct {
		name   string
		a      *ort.Value
		input  string
		output string
		want   []string
	}{
		{"wrong type", tensor(t, lib, make([]int64, 4), 1, 4), "A", c, []string{"the model in memory", "int64"}},
		{"wrong shape", tensor(t, lib, make([]float32, 5), 1, 5), "A", c, []string{"Expected: 4"}},
		{"wrong rank", tensor(t, lib, make([]float32, 4), 4), "A", c, []string{"rank"}},
		{"unknown input", good, "X", c, []string{`no input "X"`, "A, B"}},
		{"unknown output", good, "A", "Y", []string{`no output "Y"`, "it has C"}},
		{"closed value", closed, "A", c, []string{"already closed"}},
		{"nil value", nil, "A", c, []string{"nil"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := s.Run(t.Context(), nil, []ort.Named{{Name: tt.input, Value: tt.a}, {Name: "B", Value: good}}, []ort.Named{{Name: tt.output}})
			wantError(t, err, tt.want...)
		})
	}
	missing := s.Run(t.Context(), nil, []ort.Named{{Name: "A", Value: good}}, []ort.Named{{Name: "C"}})
	wantError(t, missing, "B")
	wantError(t, s.Run(t.Context(), nil, nil, nil), "no outputs")
}

func TestTensorErrors(t *testing.T) {
	lib := open(t).Library()
	for _, tt := range []struct {
		name  string
		typ   ort.ElementType
		bytes int
		shape []int64
		want  string
	}{
		{"too short", ort.Float32, 12, []int64{4}, "needs 16 bytes"},
		{"too long", ort.Float32, 20, []int64{4}, "needs 16 bytes"},
		{"negative", ort.Float32, 16, []int64{-4}, "negative"},
		{"overflow", ort.Float32, 16, []int64{1 << 40, 1 << 40}, "too many"},
		{"strings", ort.String, 16, []int64{1}, "not supported"},
		{"unknown", ort.ElementType(99), 16, []int64{1}, "not supported"},
		{"int4 odd", ort.Int4, 1, []int64{3}, "needs 2 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ort.NewTensorBytes(lib, tt.typ, make([]byte, tt.bytes), tt.shape...)
			wantError(t, err, tt.want)
		})
	}
	v := tensor(t, lib, []float32{1}, 1)
	_, err := ort.Data[int32](v)
	wantError(t, err, "float32, not int32")
}

func TestElementTypes(t *testing.T) {
	lib := open(t).Library()
	check := func(v *ort.Value, err error, want ort.ElementType, bytes int) {
		t.Helper()
		must(t, err)
		defer v.Close()
		b, err := v.Bytes()
		must(t, err)
		if v.Type() != want || len(b) != bytes {
			t.Errorf("%v tensor of %d bytes, want %v of %d", v.Type(), len(b), want, bytes)
		}
	}
	v, err := ort.NewTensor(lib, []ort.Float16{0x3c00}, 1)
	check(v, err, ort.Float16Type, 2)
	v, err = ort.NewTensor(lib, []ort.BFloat16{0x3f80}, 1)
	check(v, err, ort.BFloat16Type, 2)
	v, err = ort.NewTensor(lib, []bool{true, false}, 2)
	check(v, err, ort.Bool, 2)
	v, err = ort.NewTensor(lib, []float64{1}, 1)
	check(v, err, ort.Float64, 8)
	v, err = ort.NewTensor(lib, []uint64{1})
	check(v, err, ort.Uint64, 8)
	v, err = ort.NewTensorBytes(lib, ort.Uint4, make([]byte, 2), 3)
	check(v, err, ort.Uint4, 2)
	v, err = ort.NewTensorBytes(lib, ort.Float8E4M3FN, make([]byte, 3), 3)
	check(v, err, ort.Float8E4M3FN, 3)
}

func TestAllocated(t *testing.T) {
	env := open(t)
	s := session(t, env, addModel(), ort.SessionOptions{})
	v, err := env.NewAllocated(ort.Float32, 1, 4)
	must(t, err)
	defer v.Close()
	w, err := s.NewAllocated(ort.CPUMemory(), ort.Float32, 1, 4)
	must(t, err)
	defer w.Close()
	copy(floats(t, v), []float32{1, 2, 3, 4})
	copy(floats(t, w), []float32{1, 1, 1, 1})
	must(t, s.Run(t.Context(), nil, []ort.Named{{Name: "A", Value: v}, {Name: "B", Value: w}}, []ort.Named{{Name: "C", Value: w}}))
	if got := floats(t, w); !slices.Equal(got, []float32{2, 3, 4, 5}) {
		t.Errorf("sum in allocated memory: %v", got)
	}
	_, err = s.NewAllocated(ort.CUDAMemory(0), ort.Float32, 1, 4)
	wantError(t, err, "Cuda")
	wantError(t, v.Reshape(2, 2), "belongs to the library")
	s.Close() // the value made by its allocator keeps the session
	if got := floats(t, w); got[0] != 2 {
		t.Errorf("memory of a closed session: %v", got)
	}
}

func TestCopy(t *testing.T) {
	env := open(t)
	src := tensor(t, env.Library(), []float32{1, 2, 3}, 3)
	data := make([]float32, 3)
	dst := tensor(t, env.Library(), data, 3)
	must(t, env.Copy([]*ort.Value{dst}, []*ort.Value{src}))
	if !slices.Equal(data, []float32{1, 2, 3}) {
		t.Errorf("copied %v", data)
	}
	wantError(t, env.Copy(nil, []*ort.Value{src}), "1 sources for 0")
	must(t, env.Copy(nil, nil))
	wantError(t, env.Copy([]*ort.Value{dst}, []*ort.Value{tensor(t, env.Library(), []int32{1, 2, 3}, 3)}), "int32", "float32")
}

func TestReshape(t *testing.T) {
	env := open(t)
	s := session(t, env, addModel(), ort.SessionOptions{})
	data := make([]float32, 12)
	for i := range data {
		data[i] = float32(i)
	}
	v := tensor(t, env.Library(), data, 3, 4)
	call, err := s.NewCall([]string{"A", "B"}, []string{"C"})
	must(t, err)
	defer call.Close()
	must(t, call.SetInput(0, v))
	must(t, call.SetInput(1, v))
	for n := int64(1); n <= 3; n++ {
		must(t, v.Reshape(n, 4))
		must(t, call.Run(t.Context(), nil))
		c := floats(t, call.Output(0))
		if len(c) != int(4*n) || c[len(c)-1] != 2*data[len(c)-1] {
			t.Errorf("%d rows give %v", n, c)
		}
	}
	wantError(t, v.Reshape(4, 4), "needs 64 bytes")
	must(t, v.Reshape(12))
	wantError(t, call.Run(t.Context(), nil), "rank")
}

func TestSubgraphOfOutputs(t *testing.T) {
	env := open(t)
	var g graph
	g.input("A", ort.Float32, 2)
	g.output("B", ort.Float32, 2)
	g.output("C", ort.Float32, 2)
	g.node("Neg", []string{"A"}, []string{"B"})
	g.node("Abs", []string{"B"}, []string{"C"})
	s := session(t, env, g.model(), ort.SessionOptions{})
	a := tensor(t, env.Library(), []float32{1, -2}, 2)
	out := []ort.Named{{Name: "C"}, {Name: "B"}}
	must(t, s.Run(t.Context(), nil, []ort.Named{{Name: "A", Value: a}}, out))
	defer out[0].Value.Close()
	defer out[1].Value.Close()
	if c, b := floats(t, out[0].Value), floats(t, out[1].Value); c[0] != 1 || b[0] != -1 {
		t.Errorf("outputs in another order: C %v, B %v", c, b)
	}
}

func TestConcurrentRuns(t *testing.T) {
	env := open(t)
	s := session(t, env, addModel(), ort.SessionOptions{IntraOpThreads: 1})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for range 50 {
				a, err := ort.NewTensor(env.Library(), []float32{float32(w), 0, 0, 0}, 1, 4)
				if err != nil {
					t.Error(err)
					return
				}
				out := []ort.Named{{Name: "C"}}
				if err := s.Run(t.Context(), nil, []ort.Named{{Name: "A", Value: a}, {Name: "B", Value: a}}, out); err != nil {
					t.Error(err)
					return
				}
				if c, err := ort.Data[float32](out[0].Value); err != nil || c[0] != float32(2*w) {
					t.Errorf("worker %d: %v, %v", w, c, err)
				}
				out[0].Value.Close()
				a.Close()
			}
		})
	}
	wg.Wait()
}

func TestClosed(t *testing.T) {
	lib, err := ort.Open(oracle.Library(t))
	must(t, err)
	env, err := lib.NewEnv(ort.EnvOptions{Name: "closing"})
	must(t, err)
	s, err := env.NewSessionFromBytes(t.Context(), addModel(), ort.SessionOptions{})
	must(t, err)
	call, err := s.NewCall([]string{"A", "B"}, []string{"C"})
	must(t, err)
	v, err := ort.NewTensor(lib, []float32{1, 2, 3, 4}, 1, 4)
	must(t, err)
	must(t, call.SetInput(0, v))
	must(t, call.SetInput(1, v))
	v.Close() // the call still holds it
	env.Close()
	must(t, call.Run(t.Context(), nil))
	s.Close()
	s.Close()
	closed := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ort.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
	closed("run", call.Run(t.Context(), nil))
	call.Close()
	call.Close()
	closed("run of a closed call", call.Run(t.Context(), nil))
	_, err = s.NewBinding()
	closed("binding", err)
	_, err = s.Metadata()
	closed("metadata", err)
	_, err = s.NewCall(nil, []string{"C"})
	closed("call", err)
	_, err = env.NewAllocated(ort.Float32, 1)
	closed("allocate", err)
	_, err = env.NewSessionFromBytes(t.Context(), addModel(), ort.SessionOptions{})
	closed("session", err)
	closed("reshape", v.Reshape(4))
}

// TestForgottenValues drops values without closing them: the collector must
// neither panic over their pins nor free memory that a Call still uses.
func TestForgottenValues(t *testing.T) {
	env := open(t)
	s := session(t, env, addModel(), ort.SessionOptions{})
	call, err := s.NewCall([]string{"A", "B"}, []string{"C"})
	must(t, err)
	defer call.Close()
	for i := range 50 {
		v, err := ort.NewTensor(env.Library(), []float32{float32(i), 0, 0, 0}, 1, 4)
		must(t, err)
		must(t, call.SetInput(0, v))
		must(t, call.SetInput(1, v))
		forgotten, err := s.NewCall([]string{"A"}, []string{"C"})
		must(t, err)
		w, err := ort.NewTensor(env.Library(), make([]float32, 4), 1, 4)
		must(t, err)
		must(t, forgotten.SetInput(0, w))
		runtime.GC()
		must(t, call.Run(t.Context(), nil))
		if c := floats(t, call.Output(0)); c[0] != float32(2*i) {
			t.Fatalf("round %d gives %v", i, c)
		}
	}
}

func TestView(t *testing.T) {
	env := open(t)
	s := session(t, env, addModel(), ort.SessionOptions{})
	base, err := s.NewAllocated(ort.CPUMemory(), ort.Float32, 3, 4)
	must(t, err)
	data := floats(t, base)
	for i := range data {
		data[i] = float32(i)
	}
	view, err := base.View(1, 4)
	must(t, err)
	out, err := s.NewAllocated(ort.CPUMemory(), ort.Float32, 3, 4)
	must(t, err)
	into, err := out.View(0, 4)
	must(t, err)
	call, err := s.NewCall([]string{"A", "B"}, []string{"C"})
	must(t, err)
	must(t, call.SetInput(0, view))
	must(t, call.SetInput(1, view))
	must(t, call.SetOutput(0, into))
	for n := int64(1); n <= 3; n++ {
		must(t, view.Reshape(n, 4))
		must(t, into.Reshape(n, 4))
		must(t, call.Run(t.Context(), nil))
		if c := floats(t, into); len(c) != int(4*n) || c[len(c)-1] != 2*data[len(c)-1] {
			t.Errorf("%d rows give %v", n, c)
		}
	}
	if out := floats(t, out); out[11] != 22 {
		t.Errorf("the views' memory holds %v", out)
	}
	wantError(t, view.Reshape(4, 4), "needs 64 bytes")
	_, err = base.View(4, 4)
	wantError(t, err, "needs 64 bytes")
	_, err = view.View(1)
	wantError(t, err, "not the library's own")
	_, err = tensor(t, env.Library(), data, 12).View(1)
	wantError(t, err, "not the library's own")
	// What is looked at lives as long as the view.
	base.Close()
	must(t, call.Run(t.Context(), nil))
	_, err = base.View(1)
	wantError(t, err, "closed")
	call.Close()
	for _, v := range []*ort.Value{view, into, out} {
		v.Close()
	}
	if _, err := view.Bytes(); err == nil {
		t.Error("a closed view can be read")
	}
}
