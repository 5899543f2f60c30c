package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

// stories converts the sample model and returns the folder that holds
// onnx/base/fp16 and onnx/cpu/int8.
func stories(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "stories")
	var stderr bytes.Buffer
	code := Run(t.Context(), Quant, []string{
		"convert", "--model", filepath.Join("..", "..", "samples", "stories260K"), "--output", out,
		"--target-eps", "cpu", "--target-precisions", "int8", "--no-verify",
	}, Stdio{Out: io.Discard, Err: &stderr, Env: func(string) string { return "" }})
	if code != ExitOK {
		t.Fatalf("convert the sample: exit code %d: %s", code, stderr.Bytes())
	}
	return out
}

// TestRunONNX runs the scripts of testdata/run-onnx: the program as a user
// meets it.
func TestRunONNX(t *testing.T) {
	library, model, gguf := oracle.Library(t), stories(t), oracle.SampleGGUF(t)
	program, err := exec.LookPath("llama-pajamas-run-onnx")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "run-onnx"),
		Setup: func(e *testscript.Env) error {
			sample, err := filepath.Abs(filepath.Join("..", "..", "samples", "stories260K"))
			e.Setenv(libraryEnv, library)
			e.Setenv("LLAMA_PAJAMAS_CACHE", filepath.Join(e.WorkDir, "cache"))
			e.Setenv("STORIES", filepath.Join(model, "onnx"))
			e.Setenv("SAMPLE", sample)
			e.Setenv("GGUF", gguf)
			e.Setenv("LIBRARYDIR", filepath.Dir(library))
			e.Setenv("PROGRAM", program) // for scripts that empty PATH
			return err
		},
	})
}

// runONNX runs the program in this process.
func runONNX(t *testing.T, ctx context.Context, stdio Stdio, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	library := oracle.Library(t)
	stdio.Out, stdio.Err = &out, &errs
	stdio.Env = func(key string) string { return map[string]string{libraryEnv: library}[key] }
	code = Run(ctx, RunONNX, args, stdio)
	return code, out.String(), errs.String()
}

// TestGreedyStory: the converted sample tells the story that its makers'
// program tells, token for token.
func TestGreedyStory(t *testing.T) {
	var want struct {
		Prompt []int32 `json:"prompt_ids"`
		IDs    []int32 `json:"greedy_ids"` // the prompt's too
		Text   string  `json:"text"`
	}
	data, err := os.ReadFile(filepath.Join("..", "..", "samples", "stories260K", "expected_greedy.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := runONNX(t, t.Context(), Stdio{}, "generate", "--model", filepath.Join(stories(t), "onnx", "base", "fp16"),
		"--prompt", "", "--temperature", "0", "--max-tokens", "255", "--json")
	if code != ExitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var got generateJSON
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if got.Text != want.Text {
		t.Errorf("text\n%q, want\n%q", got.Text, want.Text)
	}
	want.IDs = want.IDs[len(want.Prompt):]
	if len(want.IDs) != 255 || len(got.TokenIDs) != 255 {
		t.Fatalf("%d ids, the sample has %d", len(got.TokenIDs), len(want.IDs))
	}
	for i, id := range got.TokenIDs {
		if id != want.IDs[i] {
			t.Fatalf("id %d is %d, want %d", i, id, want.IDs[i])
		}
	}
	if tm := got.Timings; got.FinishReason != "length" || got.PromptTokens != 1 || got.CompletionTokens != 255 ||
		!(tm.Load > 0 && tm.Prefill > 0 && tm.FirstToken > 0 && tm.Decode > 0) {
		t.Errorf("%+v", got)
	}
}

func TestExitCodes(t *testing.T) {
	model := filepath.Join(stories(t), "onnx", "cpu", "int8")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		args []string
		want int
		says string
	}{
		{"help", t.Context(), []string{"--help"}, ExitOK, ""},
		{"unknown command", t.Context(), []string{"sing"}, ExitUsage, "sing"},
		{"unknown flag", t.Context(), []string{"generate", "--loud"}, ExitUsage, "--loud"},
		{"no model", t.Context(), []string{"generate", "-p", "x"}, ExitUsage, "--model"},
		{"no prompt", t.Context(), []string{"generate", "-m", model}, ExitUsage, "--prompt"},
		{"two prompts", t.Context(), []string{"generate", "-m", model, "-p", "x", "-"}, ExitUsage, "one way"},
		{"bad option", t.Context(), []string{"generate", "-m", model, "-p", "x", "--top-p", "2"}, ExitUsage, "top-p 2 is out of range"},
		{"bad bias", t.Context(), []string{"generate", "-m", model, "-p", "x", "--logit-bias", "7"}, ExitUsage, "ID=NUMBER"},
		{"bad backend", t.Context(), []string{"generate", "-m", model, "-p", "x", "--backend", "abacus"}, ExitUsage, "cpu"},
		{"no such folder", t.Context(), []string{"generate", "-m", model + "4", "-p", "x"}, ExitFailure, "int84"},
		{"output folder", t.Context(), []string{"generate", "-m", filepath.Dir(filepath.Dir(model)), "-p", "x"}, ExitFailure, "int8"},
		{"too long", t.Context(), []string{"generate", "-m", model, "-p", strings.Repeat("story ", 600)}, ExitFailure, "the context holds 512"},
		{"context over the model's", t.Context(), []string{"generate", "-m", model, "-p", "x", "--context", "9999"}, ExitFailure, "512"},
		{"base model chat", t.Context(), []string{"chat", "-m", model}, ExitFailure, "no chat template"},
		{"interrupted", cancelled, []string{"generate", "-m", model, "-p", "x"}, ExitInterrupted, "interrupted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, stderr := runONNX(t, c.ctx, Stdio{In: strings.NewReader("")}, c.args...)
			if code != c.want || !strings.Contains(stderr, c.says) {
				t.Errorf("exit code %d, want %d; standard error %q, want %q in it", code, c.want, stderr, c.says)
			}
		})
	}
}

// chatModel is the sample with a chat template.
func chatModel(t *testing.T) string {
	t.Helper()
	model := filepath.Join(stories(t), "onnx", "cpu", "int8")
	if err := os.WriteFile(filepath.Join(model, "chat_template.jinja"), []byte("{{ bos_token }}{{ messages[-1].content }}"), 0o600); err != nil {
		t.Fatal(err)
	}
	return model
}

// pipe gives chat its lines one at a time.
type pipe struct {
	r *io.PipeReader
	w *io.PipeWriter
}

// TestChatInterrupt: Ctrl-C ends the answer, the next message is answered, and
// nothing is left running.
func TestChatInterrupt(t *testing.T) {
	model := chatModel(t)
	before := runtime.NumGoroutine()
	p := pipe{}
	p.r, p.w = io.Pipe()
	in := &Interrupts{}
	out := &interruptAfter{in: in, after: 20}
	var errs bytes.Buffer
	library := oracle.Library(t)
	done := make(chan int)
	go func() {
		done <- Run(t.Context(), RunONNX, []string{"chat", "-m", model, "--ignore-end"}, Stdio{
			In: p.r, Out: out, Err: &errs, Interrupts: in,
			Env: func(key string) string { return map[string]string{libraryEnv: library}[key] },
		})
	}()
	for _, line := range []string{"Once upon a time\n", "/stats\n", "The cat\n", "/exit\n"} {
		if _, err := io.WriteString(p.w, line); err != nil {
			t.Fatal(err)
		}
	}
	if code := <-done; code != ExitOK {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	p.r.Close()
	if n := strings.Count(errs.String(), "interrupted"); n != 2 {
		t.Errorf("%d answers interrupted, want 2: %s", n, errs.String())
	}
	if !strings.Contains(errs.String(), "1 answers") {
		t.Errorf("no statistics of one answer: %s", errs.String())
	}
	for deadline := time.Now().Add(3 * time.Second); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

// interruptAfter presses Ctrl-C after every so many writes.
type interruptAfter struct {
	in       *Interrupts
	n, after int
}

func (w *interruptAfter) Write(b []byte) (int, error) {
	if w.n++; w.n%w.after == 0 {
		w.in.raise()
	}
	return len(b), nil
}

func TestPlainLines(t *testing.T) {
	p := newPlainLines(strings.NewReader("one\r\ntwo \\\nmore\n\nlast"))
	defer p.close()
	for _, want := range []string{"one", "two \nmore", "", "last"} {
		got, err := p.read(t.Context())
		if err != nil || got != want {
			t.Fatalf("read %q, %v; want %q", got, err, want)
		}
	}
	for range 2 {
		if _, err := p.read(t.Context()); !errors.Is(err, io.EOF) {
			t.Fatalf("at the end: %v", err)
		}
	}
}

// TestPlainText: a model cannot send control characters to a terminal.
func TestPlainText(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		var b strings.Builder
		w := &plainText{w: &b, terminal: terminal}
		w.write("a\x1b[2J\tb\n\u009bc")
		want := "a\x1b[2J\tb\n\u009bc"
		if terminal {
			want = "a\uFFFD[2J\tb\n\uFFFDc"
		}
		if b.String() != want {
			t.Errorf("terminal %v: wrote %q, want %q", terminal, b.String(), want)
		}
	}
}
