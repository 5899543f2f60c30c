package cli

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/samples"
)

// TestQuant runs the scripts of testdata/quant: the program as a user meets
// it. Beside testscript's own commands they have
//
//	sample DIR               writes the embedded sample model anew
//	truncate FILE SIZE       cuts a file
//	patch FILE OFFSET HEX    overwrites bytes; a negative offset counts from the end
//	replace FILE OLD NEW     writes the sample's file of that name with OLD replaced
//	refused MODEL PATTERN    wants convert to fail with PATTERN and leave nothing
//	usage ARG...             wants the program to end with exit code 2
func TestQuant(t *testing.T) {
	library := oracle.Library(t)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "quant"),
		Setup: func(e *testscript.Env) error {
			e.Setenv(libraryEnv, library)
			e.Setenv("LIBRARY", library)
			e.Setenv("LLAMA_PAJAMAS_CACHE", filepath.Join(e.WorkDir, "cache"))
			e.Setenv("SAMPLE", filepath.Join(e.WorkDir, "stories260K"))
			return os.CopyFS(filepath.Join(e.WorkDir, "stories260K"), samples.Stories260K())
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"sample":   sampleCmd,
			"truncate": truncateCmd,
			"patch":    patchCmd,
			"replace":  replaceCmd,
			"refused":  refusedCmd,
			"usage":    usageCmd,
		},
	})
}

func sampleCmd(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.RemoveAll(dir))
	ts.Check(os.CopyFS(dir, samples.Stories260K()))
}

func truncateCmd(ts *testscript.TestScript, _ bool, args []string) {
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
}

func patchCmd(ts *testscript.TestScript, _ bool, args []string) {
	offset, err := strconv.Atoi(args[1])
	ts.Check(err)
	patch, err := hex.DecodeString(args[2])
	ts.Check(err)
	file := ts.MkAbs(args[0])
	data, err := os.ReadFile(file)
	ts.Check(err)
	if offset < 0 {
		offset += len(data)
	}
	if copy(data[offset:], patch) != len(patch) {
		ts.Fatalf("patch %s: the file ends within the patch", args[0])
	}
	ts.Check(os.WriteFile(file, data, 0o600))
}

func replaceCmd(ts *testscript.TestScript, _ bool, args []string) {
	file := ts.MkAbs(args[0])
	data, err := os.ReadFile(filepath.Join(ts.Getenv("SAMPLE"), filepath.Base(file)))
	ts.Check(err)
	if !bytes.Contains(data, []byte(args[1])) {
		ts.Fatalf("replace %s: there is no %s", args[0], args[1])
	}
	ts.Check(os.WriteFile(file, bytes.ReplaceAll(data, []byte(args[1]), []byte(args[2])), 0o600))
}

// refusedCmd runs convert with verification off, since broken input must be
// found before.
func refusedCmd(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.RemoveAll(ts.MkAbs("out")))
	code, stderr := runProgram(ts, "convert", "--model", args[0], "--output", "out", "--target-eps", "cpu", "--no-verify")
	if code != ExitFailure {
		ts.Fatalf("%s: exit code %d, want %d", args[0], code, ExitFailure)
	}
	if bytes.Count(stderr, []byte("\n")) != 1 || bytes.Contains(stderr, []byte("goroutine")) {
		ts.Fatalf("%s: want one line of error", args[0])
	}
	match(ts, args[1], stderr)
	if left, _ := filepath.Glob(filepath.Join(ts.MkAbs("out"), "*")); len(left) > 0 {
		ts.Fatalf("%s: left behind %q", args[0], left)
	}
	if left, _ := filepath.Glob(filepath.Join(ts.MkAbs("out"), ".*")); len(left) > 0 {
		ts.Fatalf("%s: left behind %q", args[0], left)
	}
}

func usageCmd(ts *testscript.TestScript, _ bool, args []string) {
	if code, _ := runProgram(ts, args...); code != ExitUsage {
		ts.Fatalf("exit code %d, want %d", code, ExitUsage)
	}
}

// runProgram runs llama-pajamas-quant; the stdout and stderr of the script are
// its own afterwards.
func runProgram(ts *testscript.TestScript, args ...string) (code int, stderr []byte) {
	err := ts.Exec("llama-pajamas-quant", args...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	return code, []byte(ts.ReadFile("stderr"))
}

func match(ts *testscript.TestScript, pattern string, text []byte) {
	re, err := regexp.Compile(pattern)
	ts.Check(err)
	if !re.Match(text) {
		ts.Fatalf("%q does not match %q", text, pattern)
	}
}
