package mlxlm

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/internal/reference"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/samples"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// python makes the product's own environment, once for this machine.
func python(t testing.TB) string {
	t.Helper()
	oracle.Python(t) // where the oracle is, so are pip and a network
	if why := Supported(runtime.GOOS, runtime.GOARCH); why != "" {
		t.Skip(why)
	}
	p, err := Setup(context.Background(), SetupOptions{CacheDir: oracle.Dir(t), Log: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func sample(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "stories260K")
	if err := os.CopyFS(dir, samples.Stories260K()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t testing.TB, dir string, o infer.OpenOptions) *session {
	t.Helper()
	b, err := New(Options{Python: python(t)})
	if err != nil {
		t.Fatal(err)
	}
	o.NoFitCheck = true
	s, err := b.Open(t.Context(), &modeldir.Folder{Dir: dir}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.(*session)
}

func referenceOf(t testing.TB, path string) *reference.Model {
	t.Helper()
	ck, err := checkpoint.Open(t.Context(), path, checkpoint.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	spec, err := arch.Parse(ck.Config())
	if err != nil {
		t.Fatal(err)
	}
	m, err := reference.New(spec, ck.Tensor)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func distance(a, b []float32) (d float64) {
	for i := range a {
		d = max(d, math.Abs(float64(a[i])-float64(b[i])))
	}
	return d
}

// TestGreedyStory: mlx-lm tells the sample's story token for token, by this
// module's tokenizer and sampler.
func TestGreedyStory(t *testing.T) {
	data, err := fs.ReadFile(samples.Stories260K(), "expected_greedy.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Prompt []int32 `json:"prompt_ids"`
		IDs    []int32 `json:"greedy_ids"` // the prompt's too
	}
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	dir := sample(t)
	folder, tok, err := OpenText(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(folder.EndTokens()) == 0 || !IsFolder(dir) || IsFolder(t.TempDir()) {
		t.Errorf("end tokens %v", folder.EndTokens())
	}
	s := open(t, dir, infer.OpenOptions{})
	r, err := infer.Generate(s, tok.NewDecoder(true), want.Prompt, infer.Options{MaxTokens: len(want.IDs) - len(want.Prompt)}).Run(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := append(slices.Clone(want.Prompt), r.TokenIDs...); len(got) != 256 || !slices.Equal(got, want.IDs) {
		t.Errorf("ids\n%v, want\n%v", got, want.IDs)
	}
	if i := s.Info(); i.Backend != "mlx-lm" || i.Version != Version || i.Vocab != 512 || i.MaxContext != 512 || !strings.HasPrefix(i.Provider, "MLX ") {
		t.Errorf("info %+v", i)
	}
}

// TestSession: chunks, single tokens, rewinding and logits of every position
// are the plain forward pass's.
func TestSession(t *testing.T) {
	dir := sample(t)
	m := referenceOf(t, dir)
	ids := make([]int32, 60)
	for i := range ids {
		ids[i] = int32((i*31 + i*i*7) % 512)
	}
	want := m.Forward(ids)
	s := open(t, dir, infer.OpenOptions{Chunk: 16, AllLogits: true})
	check := func(what string, logits []float32, err error, row int) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if d := distance(logits, want[row]); len(logits) != 512 || d > 1e-3 {
			t.Errorf("%s: logits differ by %g", what, d)
		}
	}
	n := 0
	err := s.EvalAll(t.Context(), ids, func(pos int, logits []float32) error {
		check("every position", logits, nil, pos)
		n++
		return nil
	})
	if err != nil || n != len(ids) {
		t.Fatalf("%d positions, %v", n, err)
	}
	if err := s.Truncate(20); err != nil || s.Len() != 20 || s.held != 20 {
		t.Fatalf("%d tokens, %d held, %v", s.Len(), s.held, err)
	}
	for i := 20; i < 24; i++ {
		logits, err := s.Eval(t.Context(), ids[i:i+1])
		check("one by one", logits, err, i)
	}
	if n, err := infer.Rewind(s, ids[:50]); n != 24 || err != nil {
		t.Errorf("reused %d, %v", n, err)
	}
	logits, err := s.Eval(t.Context(), ids[24:50])
	check("after a rewind", logits, err, 49)
	if !slices.Equal(s.Tokens(), ids[:50]) {
		t.Errorf("tokens %v", s.Tokens())
	}
	if err := s.Truncate(0); err != nil {
		t.Fatal(err)
	}
	logits, err = s.Eval(t.Context(), ids[:3])
	check("from the start", logits, err, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Eval(ctx, ids[3:5]); !errors.Is(err, context.Canceled) || s.Len() != 3 {
		t.Errorf("cancelled: %v", err)
	}
	logits, err = s.Eval(t.Context(), ids[3:5])
	check("after a cancellation", logits, err, 4)
}

// TestWorkerDies kills the worker in the middle of an answer, twice.
func TestWorkerDies(t *testing.T) {
	dir := sample(t)
	_, tok, err := OpenText(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, infer.OpenOptions{})
	answer := func(kill bool) (infer.Result, error) {
		return infer.Generate(s, tok.NewDecoder(true), []int32{1}, infer.Options{MaxTokens: 20}).Run(t.Context(), func(tk infer.Token) {
			if kill && s.Len() == 8 {
				if err := s.w.cmd.Process.Kill(); err != nil {
					t.Error(err)
				}
				<-s.w.ended
			}
		})
	}
	good, err := answer(false)
	if err != nil {
		t.Fatal(err)
	}
	// Killed between two calls, it is started again and nothing is lost.
	r, err := answer(true)
	if err != nil || !slices.Equal(r.TokenIDs, good.TokenIDs) {
		t.Errorf("after one death: %v, %v, want %v", r.TokenIDs, err, good.TokenIDs)
	}
	if !s.restarted {
		t.Error("the worker was not started again")
	}
	if r, err = answer(true); !errors.Is(err, errFinal) || r.Reason != infer.FinishError {
		t.Errorf("after two deaths: %v", err)
	}
}

// TestWorkerDiesInCall: the worker dies while it computes. A stand-in for Python
// dies at the second request, and its words come with the error.
func TestWorkerDiesInCall(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell script")
	}
	dir := sample(t)
	stand := filepath.Join(t.TempDir(), "python")
	hello := `{"mlx_lm": "0", "device": "CPU", "vocab": 512}`
	logits := filepath.Join(t.TempDir(), "logits")
	if err := os.WriteFile(logits, append(binary.LittleEndian.AppendUint32([]byte("L"), 2048), make([]byte, 2048)...), 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("#!/bin/sh\nprintf 'H\\%03o\\000\\000\\000%%s' '%s'\nhead -c 10 >/dev/null\ncat %s\nhead -c 10 > /dev/null\necho out of memory >&2\nkill -9 $$\n", len(hello), hello, logits)
	if err := os.WriteFile(stand, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := New(Options{Python: stand})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := b.Open(t.Context(), &modeldir.Folder{Dir: dir}, infer.OpenOptions{NoFitCheck: true})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if _, err := opened.Eval(t.Context(), []int32{1}); err != nil {
		t.Fatal(err)
	}
	var died *DiedError
	_, err = opened.Eval(t.Context(), []int32{2})
	if !errors.As(err, &died) || !strings.Contains(err.Error(), "signal: killed") || !strings.Contains(err.Error(), "out of memory") || !strings.Contains(err.Error(), "position 1") {
		t.Errorf("error %v", err)
	}
	// The next call starts another, which evaluates the sequence first and dies
	// in the call's own request.
	if _, err = opened.Eval(t.Context(), []int32{2}); !errors.As(err, &died) || !errors.Is(err, errFinal) {
		t.Errorf("second death: %v", err)
	}
	if _, err = opened.Eval(t.Context(), []int32{2}); err == nil {
		t.Error("after the second death a call succeeds")
	}
}

// TestWorkerEndsWithUs: the worker ends when its input does.
func TestWorkerEndsWithUs(t *testing.T) {
	s := open(t, sample(t), infer.OpenOptions{})
	w := s.w
	if err := w.in.Close(); err != nil { // as the system does when this process ends
		t.Fatal(err)
	}
	select {
	case <-w.ended:
		if w.state != "exit status 0" {
			t.Errorf("the worker ended with %s", w.state)
		}
	case <-time.After(20 * time.Second):
		t.Error("the worker lives on")
	}
}

// TestBadFolders: broken folders are errors that say what is wrong.
func TestBadFolders(t *testing.T) {
	change := func(name, content string) func(dir string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600) }
	}
	config, err := fs.ReadFile(samples.Stories260K(), "config.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		spoil func(dir string) error
		want  string
		alive bool // Python has to look at it
	}{
		{"no config", func(dir string) error { return os.Remove(filepath.Join(dir, "config.json")) }, "no MLX model", false},
		{"no JSON", change("config.json", "{"), "config.json", false},
		{"no weights", func(dir string) error { return os.Remove(filepath.Join(dir, "model.safetensors")) }, "no model*.safetensors", false},
		{"cut weights", change("model.safetensors", "\x08\x00\x00\x00\x00\x00\x00\x00{}"), "model.safetensors", false},
		{"unknown model", change("config.json", strings.Replace(string(config), `"model_type": "llama"`, `"model_type": "lXama"`, 1)), "lXama", true},
		{"other sizes", change("config.json", strings.Replace(string(config), `"num_hidden_layers": 5`, `"num_hidden_layers": 6`, 1)), "layers.5", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := Options{Python: "no-such-python"}
			if tt.alive {
				o.Python = python(t)
			}
			b, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			dir := sample(t)
			if err := tt.spoil(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Open(t.Context(), &modeldir.Folder{Dir: dir}, infer.OpenOptions{NoFitCheck: true}); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("error %v, want one with %q and the folder", err, tt.want)
			}
		})
	}
}

// TestPacking compares sizes of packed weights with what config.json says.
func TestPacking(t *testing.T) {
	q, err := parseQuant([]byte(`{"group_size": 64, "bits": 4, "mode": "affine", "model.a": {"group_size": 32, "bits": 8}, "model.b": false}`))
	if err != nil || q.of("model.x") != (packing{64, 4, "affine"}) || q.of("model.a") != (packing{32, 8, "affine"}) {
		t.Errorf("%+v, %v", q, err)
	}
	for _, bad := range []string{`[]`, `{"bits": "four"}`, `{"model.a": {"bits": "x"}}`} {
		if _, err := parseQuant([]byte(bad)); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	for _, tt := range []struct {
		p         packing
		w, s      []int
		typ, want string
	}{
		{packing{64, 4, ""}, []int{8, 16}, []int{8, 2}, "U32", ""},
		{packing{32, 3, ""}, []int{8, 3}, []int{8, 1}, "U32", ""},
		{packing{64, 4, ""}, []int{8, 15}, []int{8, 2}, "U32", "not 4 bits in groups of 64"},
		{packing{64, 4, ""}, []int{8, 16}, []int{7, 2}, "U32", "scales [7, 2]"},
		{packing{64, 4, ""}, []int{8, 16}, []int{8}, "U32", "scales [8]"},
		{packing{64, 4, ""}, []int{8, 16}, []int{8, 2}, "F32", "not U32"},
		{packing{}, []int{8, 16}, []int{8, 2}, "U32", "no bits"},
	} {
		all := map[string]*tensor.Tensor{"m.weight": {Shape: tt.w, Type: tt.typ}}
		err := tt.p.check("m", all, &tensor.Tensor{Shape: tt.s})
		if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%+v %v %v: %v, want %q", tt.p, tt.w, tt.s, err, tt.want)
		}
	}
	if err := (packing{64, 4, ""}).check("m", nil, &tensor.Tensor{}); err == nil {
		t.Error("scales without a weight")
	}
}

func TestSetupRefused(t *testing.T) {
	if Supported("windows", "amd64") == "" || Supported("darwin", "amd64") == "" || Supported("darwin", "arm64") != "" {
		t.Error("platforms")
	}
	var missing *NotSetUpError
	if _, err := Find(t.TempDir()); !errors.As(err, &missing) || !strings.Contains(err.Error(), "setup --backend mlx") {
		t.Errorf("%v", err)
	}
	if Supported(runtime.GOOS, runtime.GOARCH) != "" {
		return
	}
	for _, o := range []SetupOptions{{}, {From: "a", DownloadOnly: "b"}, {CacheDir: t.TempDir(), Python: "no-such-python"}} {
		if _, err := Setup(t.Context(), o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	if _, err := Setup(t.Context(), SetupOptions{CacheDir: t.TempDir(), Python: "/bin/false"}); err == nil {
		t.Error("an environment was made by a program that fails")
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"num_hidden_layers": 5, "eos_token_id": [1, 2], "quantization": {"group_size": 64, "bits": 4, "a": {"bits": 8}}}`), 16, 2)
	f.Add([]byte(`{"text_config": {"head_dim": 64}, "quantization": null}`), 1, 1)
	f.Fuzz(func(t *testing.T, data []byte, words, groups int) {
		c, err := parseConfig(data)
		if err != nil {
			return
		}
		if n := c.cacheBytesPerToken(); n < 0 {
			t.Errorf("%d bytes a token", n)
		}
		q, err := parseQuant(c.Quant)
		if err != nil {
			return
		}
		all := map[string]*tensor.Tensor{"a.weight": {Shape: tensor.Shape{1, words}, Type: "U32"}}
		_ = q.of("a").check("a", all, &tensor.Tensor{Shape: tensor.Shape{1, groups}})
	})
}
