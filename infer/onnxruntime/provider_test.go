package onnxruntime

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/nativelib"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// TestDeviceCache drives the path of a cache on a device, its allocator and its
// copies by graph, with memory that the test can check.
func TestDeviceCache(t *testing.T) {
	b := newBackend(t)
	place := ort.CPUMemory()
	for name, m := range variants() {
		t.Run(name, func(t *testing.T) {
			tolerance := 2e-4
			if m.half {
				tolerance = 0.02
			}
			ids := sequence(300)
			b.placeCache = nil
			want := eval(t, open(t, b, m, infer.OpenOptions{}), ids)
			b.placeCache = &place
			s := open(t, b, m, infer.OpenOptions{Chunk: 100})
			near(t, "chunks of 100", eval(t, s, ids), want, tolerance)
			if s.cache.memory.onHost() {
				t.Fatal("the cache is on the host")
			}
			eval(t, s, slices.Repeat([]int32{3}, 40))
			for _, keep := range []int{299, 130, 0} {
				if err := s.Truncate(keep); err != nil {
					t.Fatal(err)
				}
				near(t, fmt.Sprintf("kept %d", keep), eval(t, s, ids[keep:]), want, tolerance)
			}
			var got []float32
			if err := s.Truncate(100); err != nil {
				t.Fatal(err)
			}
			for _, id := range ids[100:] {
				got = eval(t, s, []int32{id})
			}
			near(t, "token by token", got, want, tolerance)
			if err := s.warm(t.Context()); err == nil {
				if s.Len() != 0 {
					t.Errorf("%d tokens after the first run", s.Len())
				}
				near(t, "after a first run", eval(t, s, ids), want, tolerance)
			}
		})
	}
	b.placeCache = nil
}

// warnings is a logger that keeps the warnings' text.
func warnings(t *testing.T) (*slog.Logger, *bytes.Buffer) {
	t.Helper()
	var b bytes.Buffer
	return slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})), &b
}

// TestFallback asks for TensorRT where it cannot be had, for each of the
// reasons, and gets the reason as a warning and the CPU's answer.
func TestFallback(t *testing.T) {
	library := oracle.Library(t)
	m := testModel{fused: true, last: true, context: 1024}
	ids := sequence(20)
	want := eval(t, open(t, newBackend(t), m, infer.OpenOptions{}), ids)

	// A GPU build as far as the fakes go: its providers' libraries lie beside
	// a library of that name.
	dir := t.TempDir()
	file := func(name, content string) string {
		path := providerLibrary(filepath.Join(dir, "x"), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	gpu := []string{"TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"}
	base := func(name string) string { return filepath.Base(providerLibrary("x", name)) }
	onlyHere := filepath.Join(dir, "") // where the fakes lie
	for _, c := range []struct {
		name      string
		available []string
		files     []string
		change    func(b *Backend)
		trt, cuda string
	}{
		{name: "not in the build",
			trt:  fmt.Sprintf("the ONNX Runtime library %s (%s) was built without TensorrtExecutionProvider", library, newBackend(t).Library().Version()),
			cuda: fmt.Sprintf("the ONNX Runtime library %s (%s) was built without CUDAExecutionProvider", library, newBackend(t).Library().Version())},
		{name: "library removed", available: gpu,
			trt:  base("onnxruntime_providers_tensorrt") + " is missing in " + onlyHere,
			cuda: base("onnxruntime_providers_cuda") + " is missing in " + onlyHere},
		{name: "load failed", available: gpu, change: func(b *Backend) {
			for i := range b.chain[:2] {
				b.chain[i].file = ""
			}
		}, trt: "it could not be added: the library " + library, cuda: "it could not be added: the library " + library},
		{name: "configure fails", available: gpu, change: func(b *Backend) {
			for i := range b.chain[:2] {
				b.chain[i].file = ""
				b.chain[i].configure = func(*ort.SessionOptions, *request) error { return fmt.Errorf("wrong shapes of %d", i) }
			}
		}, trt: "the model could not be loaded: wrong shapes of 0", cuda: "the model could not be loaded: wrong shapes of 1"},
		{name: "first run failed", available: gpu, change: func(b *Backend) {
			for i := range b.chain[:2] {
				b.chain[i].file = "" // and the cache in memory this build does not have
				b.chain[i].configure = cpu.configure
			}
		}, trt: "the first run failed: grow the KV cache", cuda: "the first run failed: grow the KV cache"},
		{name: "no memory", available: gpu, change: func(b *Backend) {
			for i := range b.chain[:2] {
				b.chain[i].file, b.chain[i].overhead = "", 1<<50
				b.chain[i].free = hostMemory
			}
		}, trt: "does not fit", cuda: "does not fit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			log, text := warnings(t)
			b, err := New(Options{Library: library, Provider: "tensorrt", Logger: log})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if c.available != nil {
				b.available = c.available
				b.machine.library = filepath.Join(dir, "libonnxruntime.so")
			}
			if c.change != nil {
				c.change(b)
			}
			s, err := b.Open(t.Context(), m.write(t), infer.OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			near(t, "the answer", eval(t, s, ids), want, 2e-4)
			if s.Info().Provider != "CPUExecutionProvider" {
				t.Errorf("provider %s", s.Info().Provider)
			}
			got := Fallbacks(s)
			if len(got) != 2 || got[0].From != "tensorrt" || got[0].To != "cuda" || got[1].From != "cuda" || got[1].To != "cpu" {
				t.Fatalf("fallbacks %+v", got)
			}
			if !strings.Contains(got[0].Why, c.trt) || !strings.Contains(got[1].Why, c.cuda) {
				t.Errorf("reasons\n%s\n%s, want\n%s\n%s", got[0].Why, got[1].Why, c.trt, c.cuda)
			}
			if c.name == "library removed" {
				want := fmt.Sprintf("level=WARN msg=\"falling back to another execution provider\" from=tensorrt to=cuda why=%q\n", c.trt) +
					fmt.Sprintf("level=WARN msg=\"falling back to another execution provider\" from=cuda to=cpu why=%q\n", c.cuda)
				if text.String() != want {
					t.Errorf("warnings\n%s, want exactly\n%s", text, want)
				}
			} else if n := strings.Count(text.String(), "level=WARN"); n != 2 {
				t.Errorf("%d warnings: %s", n, text)
			}
			b.chain = b.chain[:1] // as NoFallback does
			if _, err := b.Open(t.Context(), m.write(t), infer.OpenOptions{}); err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(c.trt, "it could not be added: ")) {
				t.Errorf("without fallback: %v", err)
			}
		})
	}
	file("onnxruntime_providers_tensorrt", "not a library")
	if runtime.GOOS != "darwin" {
		m := newMachine(filepath.Join(dir, "libonnxruntime.so"), nativelib.DependOptions{})
		if why := m.needs("onnxruntime_providers_tensorrt"); !strings.Contains(why, "list the libraries") {
			t.Errorf("a broken provider library: %q", why)
		}
	}
}

// TestProviderThatWorks takes a provider that this build has, beside the CPU,
// through the same doors.
func TestProviderThatWorks(t *testing.T) {
	b, err := New(Options{Library: oracle.Library(t), Provider: "cuda", CacheDir: t.TempDir(), Record: true})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if !slices.Contains(b.available, "AzureExecutionProvider") {
		t.Skip("this build has no provider beside the CPU's")
	}
	p := &b.chain[0]
	p.ep, p.file, p.memory, p.compiles, p.free = "AzureExecutionProvider", "", "", "*.engine", hostMemory
	var dir string
	p.configure = func(o *ort.SessionOptions, r *request) error {
		dir = r.dir
		o.Providers = []ort.Provider{{Name: "AzureExecutionProvider"}}
		return nil
	}
	m := testModel{fused: true, last: true, context: 1024}
	ids := sequence(20)
	want := eval(t, open(t, newBackend(t), m, infer.OpenOptions{}), ids)
	s := open(t, b, m, infer.OpenOptions{})
	near(t, "the answer", eval(t, s, ids), want, 2e-4)
	if len(Fallbacks(s)) != 0 || s.Info().Provider != "AzureExecutionProvider" {
		t.Errorf("%+v, %+v", s.Info(), Fallbacks(s))
	}
	if _, err := os.Stat(dir + "." + keyFile); err != nil {
		t.Error(err)
	}
	counts, err := NodeCounts(s)
	if err != nil || len(counts) != 1 || counts[0].Provider != "CPUExecutionProvider" || counts[0].Nodes < 10 {
		t.Errorf("nodes %+v, %v", counts, err)
	}
}

// TestBuilding: a compilation is reported until it ends, unless its result is
// there already.
func TestBuilding(t *testing.T) {
	dir := t.TempDir()
	calls := make(chan bool, 10)
	b := &Backend{o: Options{Building: func(_ string, _ time.Duration, done bool) { calls <- done }}}
	done := b.watch(&tensorrt, dir)
	if first := <-calls; first {
		t.Error("done before it ended")
	}
	done()
	if last := <-calls; !last {
		t.Error("the end is not reported")
	}
	if err := os.WriteFile(filepath.Join(dir, "x_sm87.engine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*provider{&tensorrt, &cpu} {
		done = b.watch(p, dir)
		time.Sleep(1200 * time.Millisecond)
		done()
	}
	if len(calls) != 0 {
		t.Errorf("%d reports though nothing is built", len(calls))
	}
}

func TestArtifactKey(t *testing.T) {
	root := t.TempDir()
	key := artifactKey{Provider: "tensorrt", Runtime: "1.31.1", Files: []string{"model.onnx 12"}, GPU: "Orin 8.7", Driver: "540", TensorRT: "libnvinfer.so.10.3.0, 5 bytes"}
	seen := map[string]bool{}
	folder := func(k artifactKey) string {
		dir, err := k.folder(root, "models/x")
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	first := folder(key)
	if folder(key) != first {
		t.Error("the same key gives another folder")
	}
	seen[first] = true
	for i := range 7 {
		k := key
		k.Files = slices.Clone(key.Files)
		for j, f := range []*string{&k.Provider, &k.Runtime, &k.Files[0], &k.GPU, &k.Driver, &k.TensorRT, &k.Shapes} {
			if i == j {
				*f += "x"
			}
		}
		if dir := folder(k); seen[dir] {
			t.Errorf("a change of part %d of the key gives the same folder", i)
		} else {
			seen[dir] = true
		}
	}

	m := testModel{fused: true, context: 64}
	f := m.write(t)
	before, err := contentOf(f)
	if err != nil || len(before) != 2 {
		t.Fatalf("%v, %v", before, err)
	}
	f.Metadata = &modeldir.Metadata{Files: []modeldir.FileRecord{
		{Name: "model.onnx", Bytes: size(t, f.Model), SHA256: "aa"}, {Name: "tokenizer.json", SHA256: "bb"},
		{Name: "model.onnx.data", Bytes: size(t, f.Model+".data"), SHA256: "cc"},
	}}
	got, err := contentOf(f)
	if want := []string{"model.onnx aa", "model.onnx.data cc"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if err := os.WriteFile(f.Model+".data", []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := contentOf(f); err != nil || slices.Equal(changed, got) {
		t.Errorf("a changed data file gives the same key: %v, %v", changed, err)
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestProfileShapes checks the ranges TensorRT is given, at each end of which
// the shapes must fit together: past + tokens = mask.
func TestProfileShapes(t *testing.T) {
	b := newBackend(t)
	gs, err := readGraphs(b.lib, testModel{context: 1024}.write(t), infer.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer gs.close()
	r := &request{graph: gs.decode, context: 1024, open: infer.OpenOptions{Chunk: 256}}
	p, err := r.profile()
	if err != nil {
		t.Fatal(err)
	}
	past := func(n string) (s string) {
		for l := range testLayers {
			s += fmt.Sprintf(",past_key_values.%d.key:1x2x%sx16,past_key_values.%d.value:1x2x%sx16", l, n, l, n)
		}
		return s
	}
	for _, c := range []struct{ got, want string }{
		{p.min, "input_ids:1x1,attention_mask:1x1,position_ids:1x1" + past("0")},
		{p.opt, "input_ids:1x1,attention_mask:1x513,position_ids:1x1" + past("512")},
		{p.max, "input_ids:1x256,attention_mask:1x1280,position_ids:1x256" + past("1024")},
	} {
		if c.got != c.want {
			t.Errorf("profile\n%s, want\n%s", c.got, c.want)
		}
	}
	o := ort.SessionOptions{Config: map[string]string{}}
	r.dir = "/cache/x"
	r.options = map[string]string{"trt_max_workspace_size": "1073741824", "device_id": "1"}
	if err := tensorrt.configure(&o, r); err != nil {
		t.Fatal(err)
	}
	if len(o.Providers) != 2 || o.Providers[1].Options["device_id"] != "1" || o.Providers[0].Options["trt_engine_cache_path"] != "/cache/x" ||
		o.Providers[0].Options["trt_max_workspace_size"] != "1073741824" || o.Providers[1].Options["trt_max_workspace_size"] != "" {
		t.Errorf("providers %+v", o.Providers)
	}
	for k := range o.Providers[0].Options {
		if strings.HasSuffix(k, "_enable") && !strings.Contains(k, "cache") {
			t.Errorf("precision flag or the like set: %s", k)
		}
	}
	r.graph.inputs = append(r.graph.inputs, onnx.Value{Name: "extra", Elem: onnx.F32, Shape: onnx.Shape{onnx.Named("n")}})
	if _, err := r.profile(); err == nil || !strings.Contains(err.Error(), "extra") {
		t.Errorf("an input without a range: %v", err)
	}
	r.options["enable_cuda_graph"] = "1"
	if err := cuda.configure(&o, r); err == nil || !strings.Contains(err.Error(), "fixed shapes") {
		t.Errorf("a CUDA graph over open shapes: %v", err)
	}
	r.graphs = &graphs{prefill: r.graph}
	if err := cuda.configure(&o, r); err != nil || o.Providers[0].Options["enable_cuda_graph"] != "0" {
		t.Errorf("the graph for prompts beside a decode graph: %v, %+v", err, o.Providers)
	}
	if err := coreml.configure(&o, r); err == nil || !strings.Contains(err.Error(), "fixed shapes") {
		t.Errorf("CoreML over open shapes: %v", err)
	}
}

// TestContextDefault: a provider that plans memory for the longest sequence
// gets a shorter one unless more is asked for.
func TestContextDefault(t *testing.T) {
	b := newBackend(t)
	f := testModel{fused: true, context: 8192}.write(t)
	gs, err := readGraphs(b.lib, f, infer.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer gs.close()
	trt := tensorrt
	trt.free = hostMemory
	for _, c := range []struct {
		p           *provider
		asked, want int
	}{{&trt, 0, 4096}, {&trt, 100, 100}, {&trt, 8192, 8192}, {&cpu, 0, 8192}} {
		r := &request{folder: f, open: infer.OpenOptions{Context: c.asked}}
		if got, err := b.contextLimit(t.Context(), c.p, r, gs); got != c.want || err != nil {
			t.Errorf("%s, %d asked for: %d, %v; want %d", c.p.name, c.asked, got, err, c.want)
		}
	}
}

func TestChain(t *testing.T) {
	for name, want := range map[string]string{"tensorrt": "tensorrt cuda cpu", "cuda": "cuda cpu", "coreml": "coreml cpu", "cpu": "cpu"} {
		if got, err := Chain(name); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := Chain("abacus"); err == nil || !strings.Contains(err.Error(), "tensorrt") {
		t.Errorf("unknown: %v", err)
	}
	card := hardware.Accelerators{NVIDIA: []hardware.GPU{{Name: "x"}}}
	for _, c := range []struct {
		made string
		acc  hardware.Accelerators
		want string
	}{
		{"TensorrtExecutionProvider", card, "tensorrt"}, {"TensorrtExecutionProvider", hardware.Accelerators{}, "cpu"},
		{"TensorrtExecutionProvider", hardware.Accelerators{Jetson: "Orin"}, "tensorrt"},
		{"CUDAExecutionProvider", card, "cuda"}, {"any", card, "cuda"}, {"any", hardware.Accelerators{Apple: true}, "cpu"},
		{"CoreMLExecutionProvider", hardware.Accelerators{Apple: true}, "coreml"}, {"CoreMLExecutionProvider", card, "cpu"},
		{"CPUExecutionProvider", card, "cpu"}, {"", card, "cpu"},
	} {
		f := &modeldir.Folder{Metadata: &modeldir.Metadata{Target: modeldir.TargetSpecs{ExecutionProvider: c.made}}}
		if c.made == "" {
			f.Metadata = nil
		}
		if got := Best(f, c.acc); got != c.want {
			t.Errorf("made for %q on %+v: %s, want %s", c.made, c.acc, got, c.want)
		}
	}
}

func TestProviderOptions(t *testing.T) {
	for _, c := range []struct {
		provider, key, value, want string
	}{
		{"tensorrt", "trt_max_workspace_sise", "1", `did you mean "trt_max_workspace_size"`},
		{"tensorrt", "trt_fp16_enable", "maybe", "maybe"},
		{"cuda", "trt_fp16_enable", "1", "TensorRT"},
		{"cpu", "device_id", "0", "device_id"},
	} {
		_, err := New(Options{Library: "none", Provider: c.provider, ProviderOptions: map[string]string{c.key: c.value}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s=%s: %v, want %q", c.provider, c.key, c.value, err, c.want)
		}
	}
}

// TestGPUBuildFallback does the same with the pinned GPU build, where setup
// has fetched it: without the TensorRT provider's library, and without CUDA's
// libraries, the CPU answers.
func TestGPUBuildFallback(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	found, err := nativelib.Find(nativelib.ONNXRuntime, nativelib.FindOptions{Backend: "cuda", CacheDir: filepath.Join(cache, "llama-pajamas")})
	if err != nil || !strings.Contains(found.Path, "gpu") {
		t.Skip("the GPU build is not installed (llama-pajamas-run-onnx setup --backend cuda)")
	}
	from := filepath.Dir(found.Path)
	dir := t.TempDir()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), "tensorrt") || !strings.Contains(e.Name(), ".so") {
			continue
		}
		// Links to files elsewhere: the library finds its parts beside its name.
		if err := os.Link(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			t.Skip(err)
		}
	}
	log, text := warnings(t)
	b, err := New(Options{Library: filepath.Join(dir, filepath.Base(found.Path)), Provider: "tensorrt", Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	m := testModel{fused: true, last: true, context: 1024}
	ids := sequence(20)
	s := open(t, b, m, infer.OpenOptions{})
	got := eval(t, s, ids)
	near(t, "the answer", got, eval(t, open(t, newBackend(t), m, infer.OpenOptions{}), ids), 2e-4)
	passed := Fallbacks(s)
	if len(passed) == 0 || passed[0].From != "tensorrt" || passed[0].Why != "libonnxruntime_providers_tensorrt.so is missing in "+dir {
		t.Fatalf("fallbacks %+v", passed)
	}
	if s.Info().Provider == "CPUExecutionProvider" && (len(passed) != 2 || !strings.Contains(passed[1].Why, "libonnxruntime_providers_cuda.so needs ")) {
		t.Errorf("fallbacks %+v", passed)
	}
	if n := strings.Count(text.String(), "level=WARN"); n != len(passed) {
		t.Errorf("%d warnings: %s", n, text)
	}
	t.Log(text)
}

// TestCPUWidensOnce: weights behind float16 activations of 8 bits are widened
// at load, as the CPU has no products of 8 bits for them; behind float32 ones
// they stay.
func TestCPUWidensOnce(t *testing.T) {
	b := newBackend(t)
	for _, elem := range []onnx.ElemType{onnx.F16, onnx.F32} {
		g := onnx.NewGraph("steps")
		x := g.Input("x", elem, onnx.Fixed(1), onnx.Fixed(2))
		step := g.Initializer(onnx.Initializer{Name: "step", Elem: elem, Dims: []int64{}, Data: make([]byte, elem.Bits()/8)})
		zero := g.Initializer(onnx.Initializer{Name: "zero", Elem: onnx.I8, Dims: []int64{}, Data: []byte{0}})
		g.Node("", "QuantizeLinear", "/q", []string{x, step, zero}, []string{"y"})
		g.Output("y", onnx.I8, onnx.Fixed(1), onnx.Fixed(2))
		data, err := onnx.NewModel(g, onnx.Opset{Version: 21}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), modeldir.ModelFile)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readGraph(b.lib, &modeldir.Folder{}, path, 1)
		if err != nil {
			t.Fatal(err)
		}
		if !got.quantizes || got.halfSteps != (elem == onnx.F16) {
			t.Errorf("%v: 8-bit activations %v, of float16 %v", elem, got.quantizes, got.halfSteps)
		}
		o := ort.SessionOptions{Config: map[string]string{}}
		if err := cpu.configure(&o, &request{ctx: t.Context(), graph: got, machine: b.machine, env: b.env}); err != nil {
			t.Fatal(err)
		}
		if folds := o.Config["session.disable_quant_qdq"] == "1"; folds != (elem == onnx.F16) {
			t.Errorf("%v: widened at load: %v", elem, folds)
		}
		got.weights.close()
	}
}
