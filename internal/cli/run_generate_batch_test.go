package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/llama-pajamas/llama-pajamas/infer/mlxlm"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

// TestGenerateBatch runs the scripts of testdata/batch: many prompts from a file,
// by each runtime.
func TestGenerateBatch(t *testing.T) {
	library, libllama := oracle.Library(t), filepath.Join(oracle.LlamaCpp(t), "libllama.so")
	if runtime.GOOS == "darwin" {
		libllama = filepath.Join(oracle.LlamaCpp(t), "libllama.dylib")
	}
	python, err := mlxlm.Setup(t.Context(), mlxlm.SetupOptions{CacheDir: oracle.Dir(t)})
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "stories")
	var stderr bytes.Buffer
	code := Run(t.Context(), Quant, []string{
		"convert", "--model", filepath.Join("..", "..", "samples", "stories260K"), "--output", out, "--formats", "onnx,gguf,mlx",
		"--target-eps", "cpu", "--target-precisions", "int8", "--gguf-precision", "F32", "--mlx-bits", "8", "--no-base", "--no-verify",
	}, Stdio{Out: io.Discard, Err: &stderr, Env: func(string) string { return "" }})
	if code != ExitOK {
		t.Fatalf("convert the sample: exit code %d: %s", code, stderr.Bytes())
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "batch"),
		Setup: func(e *testscript.Env) error {
			e.Setenv(libraryEnv, library)
			e.Setenv(llamaEnv, libllama)
			e.Setenv(mlxEnv, python)
			e.Setenv("LLAMA_PAJAMAS_CACHE", filepath.Join(e.WorkDir, "cache"))
			e.Setenv("STORIES", out)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"texts": textsCmd, "cut": cutCmd, "distinct": distinctCmd},
	})
}

// textsCmd writes what of a file of answers does not depend on the time.
func textsCmd(ts *testscript.TestScript, _ bool, args []string) {
	var buf bytes.Buffer
	for line := range bytes.Lines([]byte(ts.ReadFile(args[0]))) {
		var a answerLine
		ts.Check(json.Unmarshal(line, &a))
		fmt.Fprintf(&buf, "%q %v %s %d\n", a.Text, a.TokenIDs, a.FinishReason, a.PromptTokens)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), buf.Bytes(), 0o600))
}

// cutCmd takes so many bytes off the end of a file.
func cutCmd(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), info.Size()-n))
}

// distinctCmd fails where two lines are equal.
func distinctCmd(ts *testscript.TestScript, _ bool, args []string) {
	seen := map[string]bool{}
	for line := range bytes.Lines([]byte(ts.ReadFile(args[0]))) {
		if seen[string(line)] {
			ts.Fatalf("%s has two lines %s", args[0], line)
		}
		seen[string(line)] = true
	}
}
