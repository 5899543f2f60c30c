//go:build unix

// The stand-ins for pip and npm are shell scripts.

package nativelib

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// entry is a file of a test archive.
type entry struct{ name, data string }

var wheel = []entry{
	{"onnxruntime/__init__.py", "python"},
	{"onnxruntime/LICENSE", "MIT"},
	{"onnxruntime/capi/libonnxruntime.so.9.8.7", "the library"},
	{"onnxruntime/capi/libonnxruntime_providers_shared.so", "providers"},
	{"onnxruntime/capi/onnxruntime_pybind11_state.cpython-312-x86_64-linux-gnu.so", "python's"},
	{"onnxruntime/tools/LICENSE", "another"},
}

func zipOf(t testing.TB, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		w, err := z.Create(e.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarOf(t testing.TB, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	g := gzip.NewWriter(&b)
	w := tar.NewWriter(g)
	for _, e := range entries {
		if err := w.WriteHeader(&tar.Header{Name: e.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(e.data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), g.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t testing.TB, data []byte, mode os.FileMode, path ...string) string {
	t.Helper()
	file := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

// world is a stand-in for a registry and a machine: a pin, its archive, and
// programs called pip and npm that copy the archive to where they are told.
type world struct {
	pin     Pin
	archive string // the registry's file
	o       SetupOptions
	calls   string // file that gets a line for each call of pip or npm
	logged  []string
}

func newWorld(t *testing.T, source Source, archive []byte) *world {
	t.Helper()
	dir := t.TempDir()
	sum := sha256.Sum256(archive)
	w := &world{
		pin: Pin{
			Kind: ONNXRuntime, Backends: []string{"cpu"}, OS: "linux", Arch: "amd64", Source: source,
			Package: "some-package", Version: "9.8.7", File: "some-package-9.8.7.whl",
			SHA256: hex.EncodeToString(sum[:]), Size: int64(len(archive)), platform: "some_platform",
			Links: map[string]string{"libonnxruntime.so": "libonnxruntime.so.9.8.7"},
		},
		calls: filepath.Join(dir, "calls"),
	}
	if source == NPM {
		w.pin.File = "some-package-9.8.7.tgz"
	}
	w.archive = write(t, archive, 0o644, dir, "registry", w.pin.File)
	script := `#!/bin/sh
echo "$@" >> '` + w.calls + `'
while [ $# -gt 0 ]; do
	case "$1" in
	--dest|--pack-destination) dest="$2" ;;
	--requirement) cat "$2" >> '` + w.calls + `' ;;
	esac
	shift
done
exec cp '` + w.archive + `' "$dest/"
`
	program := write(t, []byte(script), 0o755, dir, "tool")
	w.o = SetupOptions{
		CacheDir: filepath.Join(dir, "cache"), OS: "linux", Arch: "amd64", Pip: program, NPM: program,
		Log: func(s string) { w.logged = append(w.logged, s) },
	}
	if err := w.o.defaults(); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) called(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(w.calls)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// files lists a folder as "name=content" of each file.
func files(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if e.Name() == manifestName {
			b = nil
		}
		list = append(list, e.Name()+"="+string(b))
	}
	return strings.Join(list, " ")
}

const unpacked = "LICENSE=MIT installed.json= libonnxruntime.so=the library " +
	"libonnxruntime.so.9.8.7=the library libonnxruntime_providers_shared.so=providers"

func TestSetup(t *testing.T) {
	for _, source := range []Source{PyPI, NPM} {
		t.Run(string(source), func(t *testing.T) {
			archive := zipOf(t, wheel)
			if source == NPM {
				archive = tarOf(t, wheel)
			}
			w := newWorld(t, source, archive)
			opened := ""
			w.o.Open = func(path string) error { opened = path; return nil }
			in, err := w.o.run(t.Context(), w.pin, nil)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(w.o.CacheDir, "lib", "onnxruntime-9.8.7", "linux-amd64")
			if in.Path != filepath.Join(dir, "libonnxruntime.so") || in.Version != "9.8.7" || in.Before || opened != in.Path {
				t.Errorf("installed %+v, opened %q", in, opened)
			}
			if got := files(t, dir); got != unpacked {
				t.Errorf("files %s", got)
			}
			if got := files(t, filepath.Join(w.o.CacheDir, "download")); got != "" {
				t.Errorf("downloads left: %s", got)
			}
			call := w.called(t)
			wants := []string{"download", "--require-hashes", "--no-deps", "--only-binary=:all:", "--platform some_platform", "some-package==9.8.7 --hash=sha256:" + w.pin.SHA256}
			if source == NPM {
				wants = []string{"pack", "some-package@9.8.7"}
			}
			for _, want := range wants {
				if !strings.Contains(call, want) {
					t.Errorf("the call %q lacks %q", call, want)
				}
			}
			// A second run finds all there; a damaged file makes it install anew.
			if in, err = w.o.run(t.Context(), w.pin, nil); err != nil || !in.Before || w.called(t) != call {
				t.Errorf("second run: %+v, %v, calls %q", in, err, w.called(t))
			}
			write(t, []byte("damaged"), 0o644, dir, "libonnxruntime.so.9.8.7")
			wantError(t, Check(dir), "damaged or another file", "run setup again")
			if in, err = w.o.run(t.Context(), w.pin, nil); err != nil || in.Before || files(t, dir) != unpacked {
				t.Errorf("repair: %+v, %v, %s", in, err, files(t, dir))
			}
			if err := Check(dir); err != nil {
				t.Error(err)
			}
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), ".*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestSetupResumes(t *testing.T) {
	w := newWorld(t, PyPI, zipOf(t, wheel))
	// As an interrupted setup leaves it: staging folders, an archive complete.
	write(t, []byte("x"), 0o644, w.o.CacheDir, "lib", "onnxruntime-9.8.7", stagingPrefix+"1", "new", "libonnxruntime.so.9.8.7")
	archive, err := os.ReadFile(w.archive)
	if err != nil {
		t.Fatal(err)
	}
	write(t, archive, 0o644, w.o.CacheDir, "download", w.pin.File)
	if _, err := w.o.run(t.Context(), w.pin, nil); err != nil {
		t.Fatal(err)
	}
	if c := w.called(t); c != "" {
		t.Errorf("fetched again: %s", c)
	}
	if left, _ := filepath.Glob(filepath.Join(w.o.CacheDir, "lib", "onnxruntime-9.8.7", ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestSetupFailures(t *testing.T) {
	good := zipOf(t, wheel)
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, w *world)
		want    []string
	}{
		{"wrong checksum", func(t *testing.T, w *world) { w.pin.SHA256 = strings.Repeat("0", 64) },
			[]string{"sha256", "damaged or another file", "By hand", "--from"}},
		{"pip fails", func(t *testing.T, w *world) {
			write(t, []byte("#!/bin/sh\necho line 1; echo 'ERROR: no network' >&2; exit 1\n"), 0o755, w.o.Pip)
		}, []string{"failed", "exit status 1", "ERROR: no network", w0File, "PyPI"}},
		{"pip brings another file", func(t *testing.T, w *world) { w.pin.File = "other.whl" },
			[]string{"other.whl is not there"}},
		{"no pip", func(t *testing.T, w *world) { w.o.Pip = ""; t.Setenv("PATH", t.TempDir()) },
			[]string{"pip was not found", w0File, "sha256", "--from", "onnxruntime-9.8.7"}},
		{"not an archive", func(t *testing.T, w *world) { w.repack(t, []byte("not a zip")) }, []string{"unpack", "zip"}},
		{"no library in it", func(t *testing.T, w *world) { w.repack(t, zipOf(t, wheel[:1])) }, []string{"no shared library"}},
		{"two of one name", func(t *testing.T, w *world) {
			w.repack(t, zipOf(t, append([]entry{{"../../libonnxruntime.so.9.8.7", "evil"}}, wheel...)))
		}, []string{"have one name"}},
		{"link target missing", func(t *testing.T, w *world) { w.pin.Links = map[string]string{"libx.so": "libx.so.1"} },
			[]string{"the archive has no libx.so.1"}},
		{"library does not open", func(t *testing.T, w *world) {
			w.o.Open = func(string) error { return errors.New("wrong ELF class") }
		}, []string{"does not open", "wrong ELF class"}},
		{"cache folder is a file", func(t *testing.T, w *world) { w.o.CacheDir = w.archive }, []string{"make the library folder"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, PyPI, good)
			tt.prepare(t, w)
			_, err := w.o.run(t.Context(), w.pin, nil)
			wantError(t, err, tt.want...)
			if w.o.Open != nil {
				return
			}
			if left, _ := filepath.Glob(filepath.Join(w.o.CacheDir, "lib", "*", "*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

const w0File = "some-package-9.8.7.whl"

// repack replaces the registry's archive and pins the new one.
func (w *world) repack(t *testing.T, archive []byte) {
	t.Helper()
	write(t, archive, 0o644, w.archive)
	sum := sha256.Sum256(archive)
	w.pin.SHA256 = hex.EncodeToString(sum[:])
}

// TestUnpackStaysInside unpacks names that point elsewhere.
func TestUnpackStaysInside(t *testing.T) {
	w := newWorld(t, PyPI, zipOf(t, []entry{{"../../../libonnxruntime.so.9.8.7", "a"}, {"/etc/libevil.so", "b"}}))
	if _, err := w.o.run(t.Context(), w.pin, nil); err != nil {
		t.Fatal(err)
	}
	dir := w.o.target(w.pin)
	if got := files(t, dir); got != "installed.json= libevil.so=b libonnxruntime.so=a libonnxruntime.so.9.8.7=a" {
		t.Errorf("files %s", got)
	}
}

func TestSetupFrom(t *testing.T) {
	good := zipOf(t, wheel)
	w := newWorld(t, PyPI, good)
	w.o.Pip = "/absent" // nothing may be fetched
	for _, from := range []string{w.archive, filepath.Dir(w.archive)} {
		w.o.From = from
		in, err := w.o.run(t.Context(), w.pin, nil)
		if err != nil || in.Path != filepath.Join(w.o.target(w.pin), "libonnxruntime.so") || in.Package != "some-package" {
			t.Errorf("from %s: %+v, %v", from, in, err)
		}
	}
	write(t, append(good, 'x'), 0o644, w.archive)
	_, err := w.o.run(t.Context(), w.pin, nil)
	wantError(t, err, "damaged or another file")

	local := filepath.Join(w.o.CacheDir, "lib", "onnxruntime-local", "linux-amd64")
	w.o.From = write(t, good, 0o644, t.TempDir(), "onnxruntime_gpu-1.24-jetson.whl")
	in, err := w.o.run(t.Context(), w.pin, nil)
	if err != nil || in.Path != filepath.Join(local, "libonnxruntime.so.9.8.7") || in.Version != "" {
		t.Errorf("another wheel: %+v, %v", in, err)
	}
	own := t.TempDir()
	write(t, []byte("own build"), 0o644, own, "libonnxruntime.so.1.30")
	write(t, []byte("secret"), 0o600, own, "notes.txt")
	if err := os.Symlink("libonnxruntime.so.1.30", filepath.Join(own, "libonnxruntime.so")); err != nil {
		t.Fatal(err)
	}
	w.o.From = own
	if in, err = w.o.run(t.Context(), Pin{}, errors.New("no pin for this machine")); err != nil || in.Path != filepath.Join(local, "libonnxruntime.so") {
		t.Errorf("own folder: %+v, %v", in, err)
	}
	if got := files(t, local); got != "installed.json= libonnxruntime.so=own build libonnxruntime.so.1.30=own build" {
		t.Errorf("files %s", got)
	}
	w.o.From = t.TempDir()
	_, err = w.o.run(t.Context(), w.pin, nil)
	wantError(t, err, "no libonnxruntime.so in it")
	w.o.From = filepath.Join(own, "absent")
	_, err = w.o.run(t.Context(), w.pin, nil)
	wantError(t, err, "absent")
	if got := files(t, local); !strings.Contains(got, "own build") {
		t.Errorf("a failed setup changed the folder: %s", got)
	}
	// What the user brought is told of when the pinned package is set up.
	w.o.From = ""
	if _, err := w.o.run(t.Context(), w.pin, nil); err != nil || !strings.Contains(strings.Join(w.logged, "\n"), "are found first") {
		t.Errorf("%v, log %q", err, w.logged)
	}
}

func TestDownloadOnly(t *testing.T) {
	w := newWorld(t, PyPI, zipOf(t, wheel))
	w.o.CacheDir, w.o.DownloadOnly = "", t.TempDir()
	in, err := w.o.run(t.Context(), w.pin, nil)
	if err != nil || in.Path != filepath.Join(w.o.DownloadOnly, w.pin.File) {
		t.Fatalf("%+v, %v", in, err)
	}
	if entries, _ := os.ReadDir(w.o.DownloadOnly); len(entries) != 1 {
		t.Errorf("%d files, want the archive alone", len(entries))
	}
	t.Chdir(t.TempDir())
	w.o.DownloadOnly = "usb" // as users name folders
	if in, err = w.o.run(t.Context(), w.pin, nil); err != nil || in.Path != filepath.Join("usb", w.pin.File) {
		t.Errorf("a relative folder: %+v, %v", in, err)
	}
	_, err = Setup(t.Context(), SetupOptions{DownloadOnly: t.TempDir(), Backend: "tpu"})
	wantError(t, err, `backend "tpu" is not known`)
	_, err = Setup(t.Context(), SetupOptions{DownloadOnly: "x", From: "y"})
	wantError(t, err, "exclude each other")
	_, err = Setup(t.Context(), SetupOptions{})
	wantError(t, err, "no cache folder")
}

// TestSetupsAtOnce runs several setups: one installs, the others wait and find
// it done.
func TestSetupsAtOnce(t *testing.T) {
	w := newWorld(t, PyPI, zipOf(t, wheel))
	w.o.Log = func(string) {}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := w.o.run(t.Context(), w.pin, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := strings.Count(w.called(t), "--require-hashes"); n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

func TestSetupCancelled(t *testing.T) {
	w := newWorld(t, PyPI, zipOf(t, wheel))
	unlock, err := lock(t.Context(), w.o.CacheDir, w.o.Log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	if _, err := w.o.run(ctx, w.pin, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for the lock: %v", err)
	}
	if len(w.logged) != 1 || !strings.Contains(w.logged[0], "waiting for another setup") {
		t.Errorf("log %q", w.logged)
	}
	unlock()
	write(t, []byte("#!/bin/sh\nexec sleep 60\n"), 0o755, w.o.Pip)
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := w.o.run(ctx, w.pin, nil); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 10*time.Second {
		t.Errorf("a fetch that hangs: %v after %v", err, time.Since(start))
	}
}

// FuzzUnpack unpacks arbitrary bytes as a zip and as a tar.
func FuzzUnpack(f *testing.F) {
	f.Add(zipOf(f, wheel), true)
	f.Add(tarOf(f, wheel), false)
	f.Add([]byte("PK"), true)
	f.Fuzz(func(t *testing.T, data []byte, isZip bool) {
		name := "a.tgz"
		if isZip {
			name = "a.whl"
		}
		dir := t.TempDir()
		out := filepath.Join(dir, "out")
		if err := os.Mkdir(out, 0o755); err != nil {
			t.Fatal(err)
		}
		u := newUnpacker(t.Context(), out)
		u.left, u.sync = 1<<20, false
		file := write(t, data, 0o644, dir, name)
		var err error
		if isZip {
			err = u.zip(file)
		} else {
			err = u.tarGz(file)
		}
		entries, readErr := os.ReadDir(dir)
		if readErr != nil || len(entries) != 2 {
			t.Fatalf("unpacked beside its folder: %v, %v (%v)", entries, readErr, err)
		}
		if err == nil && u.left < 0 {
			t.Fatal(fmt.Errorf("unpacked more than allowed"))
		}
	})
}
