package llama_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/llama"
)

// libraryFile is the pinned llama.cpp library.
func libraryFile(t testing.TB) string {
	t.Helper()
	name := "libllama.so"
	if runtime.GOOS == "darwin" {
		name = "libllama.dylib"
	}
	return filepath.Join(oracle.LlamaCpp(t), name)
}

func open(t testing.TB) *llama.Library {
	t.Helper()
	l, err := llama.Open(libraryFile(t), llama.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func load(t testing.TB, o llama.ModelOptions) *llama.Model {
	t.Helper()
	m, err := open(t).LoadModel(t.Context(), oracle.SampleGGUF(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func newContext(t testing.TB, m *llama.Model, o llama.ContextOptions) *llama.Context {
	t.Helper()
	c, err := m.NewContext(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestOpen(t *testing.T) {
	l := open(t)
	if !strings.HasPrefix(l.Version(), llama.Version) || l.Path() != libraryFile(t) {
		t.Errorf("version %q, path %s", l.Version(), l.Path())
	}
	devices := l.Devices()
	if !slices.ContainsFunc(devices, func(d llama.Device) bool {
		return d.Type == llama.CPU && d.Backend == "CPU" && d.Name == "CPU" && d.Total > 1<<28
	}) {
		t.Errorf("no CPU among the devices %+v", devices)
	}
	if !strings.Contains(l.SystemInfo(), "CPU") {
		t.Errorf("system info %q", l.SystemInfo())
	}
	again := open(t)
	if n := len(again.Devices()); n != len(devices) {
		t.Errorf("opened twice, there are %d devices, want %d", n, len(devices))
	}
	if _, err := l.AddRPC("localhost:1"); l.SupportsRPC() == (err != nil) && !strings.Contains(err.Error(), "localhost:1") {
		t.Errorf("RPC: supported %v, %v", l.SupportsRPC(), err)
	}
}

// TestOpenRefused gives what is no llama.cpp v0.5.0.
func TestOpenRefused(t *testing.T) {
	library := libraryFile(t)
	real, err := filepath.EvalSymlinks(library)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(real)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o755); err != nil {
			t.Fatal(err)
		}
		return file
	}
	// The libraries it needs must be beside it.
	siblings, err := filepath.Glob(filepath.Join(filepath.Dir(library), "libggml*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range siblings {
		if err := os.Symlink(s, filepath.Join(dir, filepath.Base(s))); err != nil {
			t.Fatal(err)
		}
	}
	// The same library under another number: its only place is llama_version.
	old := []byte("\x000.5.0-dev\x00")
	if bytes.Count(data, old) != 1 {
		t.Fatalf("the library has its version %d times, want once", bytes.Count(data, old))
	}
	other := bytes.Replace(data, old, []byte("\x000.6.1-dev\x00"), 1)
	for _, tt := range []struct{ name, path, want string }{
		{"absent", filepath.Join(dir, "none.so"), "no such file"},
		{"no library", write("text.so", []byte("text")), "not a library"},
		{"cut", write("cut.so", data[:len(data)/2]), "not a library"},
		{"another library", filepath.Join(filepath.Dir(library), "libggml-base.so"), "does not tell its version"},
		{"another version", write("libllama-061.so", other), `its version is "0.6.1-dev", this program works with llama.cpp v0.5.0`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := llama.Open(tt.path, llama.Options{}); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.path) {
				t.Errorf("error %v, want one with %q and the path", err, tt.want)
			}
		})
	}
}

func TestModelInfo(t *testing.T) {
	m := load(t, llama.ModelOptions{})
	got := m.Info()
	want := llama.ModelInfo{
		Description: "llama 256M Q4_1", Bytes: got.Bytes, Parameters: got.Parameters, TrainContext: 8192, Layers: 30,
		Hidden: 576, KVHeads: 3, Vocab: 49152,
	}
	if got.Parameters < 134e6 || got.Parameters > 163e6 || got.Bytes < 50e6 || got.Bytes > 150e6 {
		t.Errorf("size: %+v", got)
	}
	if want.Description = got.Description; got != want || !strings.HasPrefix(got.Description, "llama") {
		t.Errorf("info %+v, want %+v", got, want)
	}
	if s := m.Special(); s.BOS < 0 || s.EOS < 0 || !m.EndsGeneration(s.EOS) || m.EndsGeneration(-1) {
		t.Errorf("special tokens %+v", s)
	}
}

func TestLoadRefused(t *testing.T) {
	l := open(t)
	file := filepath.Join(t.TempDir(), "x.gguf")
	if err := os.WriteFile(file, []byte("GGUF but nothing else"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, file + ".none", "a\x00b"} {
		if _, err := l.LoadModel(t.Context(), path, llama.ModelOptions{}); err == nil || len(err.Error()) < 40 {
			t.Errorf("%q: %v", path, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.LoadModel(ctx, oracle.SampleGGUF(t), llama.ModelOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestLoadCancelled ends a loading that is under way: the library's first
// message cancels it.
func TestLoadCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l, err := llama.Open(libraryFile(t), llama.Options{Logger: slog.New(onLog(cancel))})
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.LoadModel(ctx, oracle.SampleGGUF(t), llama.ModelOptions{Load: llama.LoadCopied})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), oracle.SampleGGUF(t)) {
		t.Errorf("error %v", err)
	}
}

// onLog is a handler that calls a function for every message about tensors.
type onLog func()

func (f onLog) Enabled(context.Context, slog.Level) bool { return true }
func (f onLog) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if strings.Contains(a.Value.String(), "load_tensors") {
			f()
		}
		return true
	})
	return nil
}
func (f onLog) WithAttrs([]slog.Attr) slog.Handler { return f }
func (f onLog) WithGroup(string) slog.Handler      { return f }

func TestDecode(t *testing.T) {
	m := load(t, llama.ModelOptions{})
	o := llama.DefaultContext()
	o.Length, o.AllRows, o.Threads, o.Flash = 256, true, 1, llama.FlashOff
	o.Keys, o.Values = llama.F32, llama.F32
	c := newContext(t, m, o)
	ids, err := m.Tokenize("The capital of France is", true, false)
	if err != nil || len(ids) != 5 {
		t.Fatalf("ids %v, %v", ids, err)
	}
	if c.Length() != 256 {
		t.Errorf("length %d", c.Length())
	}
	if err := c.Decode(t.Context(), ids, 0, true); err != nil {
		t.Fatal(err)
	}
	rows := make([][]float32, len(ids))
	for i := range ids {
		row, err := c.Logits(i)
		if err != nil || len(row) != 49152 {
			t.Fatalf("row %d has %d logits, %v", i, len(row), err)
		}
		rows[i] = slices.Clone(row)
	}
	best := argmax(rows[len(ids)-1])
	if piece, err := m.Piece(best, false); err != nil || piece != " Paris" {
		t.Errorf("the capital of France is %q, %v", piece, err)
	}
	// Forgotten and evaluated one by one, the rows are alike.
	if err := c.Forget(2); err != nil {
		t.Fatal(err)
	}
	if first, last := c.Positions(); first != 0 || last != 1 {
		t.Errorf("positions %d to %d, want 0 to 1", first, last)
	}
	for i := 2; i < len(ids); i++ {
		if err := c.Decode(t.Context(), ids[i:i+1], i, false); err != nil {
			t.Fatal(err)
		}
		row, err := c.Logits(-1)
		if err != nil {
			t.Fatal(err)
		}
		// Not to the last bit: some processors have other kernels for one token,
		// and a last bit of an activation may become a step of its 8.
		if d := distance(row, rows[i]); d > 1.5 || argmax(row) != argmax(rows[i]) {
			t.Errorf("row %d differs by %g", i, d)
		}
	}
	// The state goes to another context.
	state, err := c.State()
	if err != nil {
		t.Fatal(err)
	}
	other := newContext(t, m, o)
	if err := other.SetState(state); err != nil {
		t.Fatal(err)
	}
	for _, x := range []*llama.Context{c, other} {
		if err := x.Decode(t.Context(), []int32{best}, len(ids), false); err != nil {
			t.Fatal(err)
		}
	}
	a, err1 := c.Logits(-1)
	b, err2 := other.Logits(-1)
	if err1 != nil || err2 != nil || distance(a, b) != 0 {
		t.Errorf("logits after the state was restored differ by %g (%v, %v)", distance(a, b), err1, err2)
	}
	for _, bad := range [][]byte{nil, state[:len(state)/2], make([]byte, 100)} {
		if err := other.SetState(bad); err == nil {
			t.Errorf("a state of %d bytes was accepted", len(bad))
		}
	}
}

func TestDecodeRefused(t *testing.T) {
	m := load(t, llama.ModelOptions{})
	o := llama.DefaultContext()
	o.Length, o.Batch, o.Threads = 256, 16, 1 // more wait for each other on a busy machine
	c := newContext(t, m, o)
	ids := make([]int32, 17)
	if err := c.Decode(t.Context(), ids, 0, false); err == nil || !strings.Contains(err.Error(), "1 to 16") {
		t.Errorf("too many: %v", err)
	}
	if err := c.Decode(t.Context(), ids[:2], 0, true); err == nil || !strings.Contains(err.Error(), "AllRows") {
		t.Errorf("rows: %v", err)
	}
	if err := c.Decode(t.Context(), []int32{1 << 20}, 0, false); err == nil {
		t.Error("a token beyond the vocabulary was evaluated")
	}
	if _, err := c.Logits(3); err == nil {
		t.Error("logits of a token that was not evaluated")
	}
	for at := 0; at < 256; at += 16 {
		if err := c.Decode(t.Context(), ids[:16], at, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Decode(t.Context(), ids[:1], 256, false); !errors.Is(err, llama.ErrFull) {
		t.Errorf("full: %v", err)
	}
	if err := m.Close(); err == nil {
		t.Error("the model was closed under its context")
	}
	c.Close()
	c.Close()
	if err := c.Decode(t.Context(), ids[:1], 0, false); err == nil {
		t.Error("a closed context evaluates")
	}
	if _, err := c.Logits(-1); err == nil {
		t.Error("a closed context has logits")
	}
}

// TestDecodeCancelled interrupts a batch half-way.
func TestDecodeCancelled(t *testing.T) {
	m := load(t, llama.ModelOptions{})
	o := llama.DefaultContext()
	o.Length, o.Batch, o.Threads = 256, 128, 1
	c := newContext(t, m, o)
	ids := make([]int32, 128)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := c.Decode(ctx, ids, 0, false)
	took := time.Since(start)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("after %v: %v", took, err)
	}
	if err := c.Forget(0); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	if err := c.Decode(t.Context(), ids, 0, false); err != nil {
		t.Fatal(err)
	}
	if whole := time.Since(start); took > whole/2 {
		t.Errorf("interrupted after %v, the whole batch takes %v", took, whole)
	}
}

func argmax(x []float32) int32 {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return int32(best)
}

func distance(a, b []float32) float64 {
	var d float64
	for i := range a {
		d = max(d, math.Abs(float64(a[i])-float64(b[i])))
	}
	return d
}
