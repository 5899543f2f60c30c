package tinymodel_test

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
)

var update = flag.Bool("update", false, "rewrite testdata")

// TestBytes holds the sha256 of every file: the same on every machine, so that
// goldens made from these checkpoints hold everywhere.
func TestBytes(t *testing.T) {
	var got []string
	for _, v := range append(tinymodel.Variants(), tinymodel.Mixtures()...) {
		dir := t.TempDir()
		if err := tinymodel.Write(dir, v); err != nil {
			t.Fatal(err)
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join(dir, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(b)
			got = append(got, fmt.Sprintf("%s  %s/%s", hex.EncodeToString(sum[:]), v.Name, f.Name()))
		}
	}
	text := strings.Join(got, "\n") + "\n"
	if *update {
		if err := os.WriteFile("testdata/sha256.txt", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/sha256.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("bytes changed (-want +got), go test -update rewrites:\n%s", diff)
	}
}

// TestLoad wants each weight of the spec, of the right shape, in memory.
func TestLoad(t *testing.T) {
	var names []string
	for _, v := range append(tinymodel.Variants(), tinymodel.Mixtures()...) {
		if slices.Contains(names, v.Name) {
			t.Errorf("two variants are named %q", v.Name)
		}
		names = append(names, v.Name)
		spec, get, err := tinymodel.Load(v)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, w := range spec.Weights() {
			x, ok := get(w.Name)
			if !ok || !x.Shape.Equal(w.Shape) {
				t.Errorf("%s: tensor %s is missing or of another shape", v.Name, w.Name)
			}
		}
	}
	if _, err := tinymodel.ByName("no-such"); err == nil {
		t.Error("ByName found a name that is not there")
	}
}
