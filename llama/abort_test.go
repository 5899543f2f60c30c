//go:build linux || darwin

package llama_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/ebitengine/purego"

	"github.com/llama-pajamas/llama-pajamas/llama"
)

// abortEnv names the library to a child process that lets it abort.
const abortEnv = "LLAMA_TEST_ABORT"

// TestOnAbort: what llama.cpp says before it ends the process is heard.
func TestOnAbort(t *testing.T) {
	if library := os.Getenv(abortEnv); library != "" {
		abortIn(t, library)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestOnAbort$")
	cmd.Env = append(os.Environ(), abortEnv+"="+libraryFile(t))
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 7 || !strings.Contains(string(out), "heard: ") || !strings.Contains(string(out), "fatal error") {
		t.Errorf("%v: %.500s", err, out)
	}
}

// abortIn asks for the name of a mode that is none, which the library takes for
// a programmer's mistake.
func abortIn(t *testing.T, library string) {
	if _, err := llama.Open(library, llama.Options{OnAbort: func(why string) {
		fmt.Println("heard:", why)
		os.Exit(7)
	}}); err != nil {
		t.Fatal(err)
	}
	h, err := purego.Dlopen(library, purego.RTLD_NOW)
	if err != nil {
		t.Fatal(err)
	}
	var name func(mode int32) string
	purego.RegisterLibFunc(&name, h, "llama_load_mode_name")
	name(99)
}
