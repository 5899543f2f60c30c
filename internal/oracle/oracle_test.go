package oracle_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

func TestRun(t *testing.T) {
	got := oracle.Run(t, "import sys\nprint(sys.stdin.read()[::-1], sys.argv[1])", []byte("abc"), "x")
	if string(got) != "cba x\n" {
		t.Fatalf("script printed %q", got)
	}
}

func TestLibrary(t *testing.T) {
	if _, err := os.Stat(oracle.Library(t)); err != nil {
		t.Fatal(err)
	}
}

func TestNPM(t *testing.T) {
	dir := oracle.NPM(t, "is-number", "7.0.0")
	if _, err := os.Stat(filepath.Join(dir, "index.js")); err != nil {
		t.Fatal(err)
	}
}
