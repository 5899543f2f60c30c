package hub_test

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llama-pajamas/llama-pajamas/hub"
	"github.com/llama-pajamas/llama-pajamas/internal/fakehub"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

// snapshotScript downloads a snapshot with huggingface_hub, or finds it in the
// cache, and prints its folder.
const snapshotScript = `
import json, os, sys
a = json.load(sys.stdin)
os.environ.update(a["env"])
import huggingface_hub
print(huggingface_hub.snapshot_download(a["id"], revision=a["revision"], allow_patterns=a["allow"], max_workers=2), end="")
`

// python runs huggingface_hub on a cache.
func python(t *testing.T, cache string, offline bool, env map[string]string) string {
	t.Helper()
	e := map[string]string{
		"HF_HUB_CACHE": cache, "HF_HOME": filepath.Join(cache, "home"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1",
		"HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "*", "no_proxy": "*",
	}
	if offline {
		e["HF_HUB_OFFLINE"] = "1"
	}
	for k, v := range env {
		e[k] = v
	}
	in, err := json.Marshal(map[string]any{"env": e, "id": id, "revision": "v1", "allow": wanted})
	if err != nil {
		t.Fatal(err)
	}
	return string(oracle.Run(t, snapshotScript, in))
}

// layout lists a cache: what each path is, and where links point.
func layout(t *testing.T, cache string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(cache, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(cache, p)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			out[rel] = "link " + target
			return err
		case rel == "CACHEDIR.TAG":
			out[rel] = "tag"
			return nil
		}
		b, err := os.ReadFile(p)
		if strings.HasPrefix(filepath.Base(filepath.Dir(p)), "trees") { // JSON may be spaced otherwise
			var v any
			if err := json.Unmarshal(b, &v); err != nil {
				return err
			}
			b, err = json.Marshal(v)
		}
		out[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPythonCache: Python and this package make the same cache of the same
// hub, and each finds the other's without a network.
func TestPythonCache(t *testing.T) {
	m := &fakehub.Model{Files: files(), PageSize: 7, Revisions: []string{"v1"}}
	s := fakehub.New(t, map[string]*fakehub.Model{id: m})

	theirs := t.TempDir()
	dir := python(t, theirs, false, map[string]string{"HF_ENDPOINT": s.URL})
	s.Forget()
	o := options(t, s)
	o.CacheDir, o.Offline = theirs, true
	snap, err := hub.Download(t.Context(), ref(t, id+"@v1"), o)
	if err != nil {
		t.Fatal(err)
	}
	check(t, snap, m, wanted)
	if resolved(t, snap.Dir) != resolved(t, dir) {
		t.Errorf("found %s, Python's is %s", snap.Dir, dir)
	}

	ours := t.TempDir()
	o.CacheDir, o.Offline = ours, false
	if snap, err = hub.Download(t.Context(), ref(t, id+"@v1"), o); err != nil {
		t.Fatal(err)
	}
	s.Hook = func(w http.ResponseWriter, r *http.Request) bool {
		t.Errorf("Python asked for %s", r.RequestURI)
		return false
	}
	if found := python(t, ours, true, map[string]string{"HF_ENDPOINT": s.URL}); resolved(t, found) != resolved(t, snap.Dir) {
		t.Errorf("Python found %s, ours is %s", found, snap.Dir)
	}
	if d := cmp.Diff(layout(t, theirs), layout(t, ours)); d != "" {
		t.Errorf("caches (-Python +ours):\n%s", d)
	}
}

func resolved(t *testing.T, p string) string {
	t.Helper()
	p, err := filepath.EvalSymlinks(p)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPythonLock: a lock that Python's filelock holds is waited for.
func TestPythonLock(t *testing.T) {
	m := &fakehub.Model{Files: files()}
	s := fakehub.New(t, map[string]*fakehub.Model{id: m})
	o := options(t, s)
	blob := filepath.Join(o.CacheDir, "models--tiny-org--Tiny-Model_1.0", "blobs", m.ETag("tokenizer.json"))
	lock := filepath.Join(o.CacheDir, ".locks", "models--tiny-org--Tiny-Model_1.0", m.ETag("tokenizer.json")+".lock")
	done := make(chan error, 1)
	started := make(chan struct{})
	s.Hook = func(w http.ResponseWriter, r *http.Request) bool { // Python says it holds the lock
		if r.URL.Path != "/locked" {
			return false
		}
		close(started)
		return true
	}
	go func() {
		<-started
		_, err := hub.Download(t.Context(), ref(t, id), o)
		done <- err
	}()
	// The lock is held until everything else is there and a moment longer; the
	// file must not be begun in the meantime.
	oracle.Run(t, `
import os, sys, time, urllib.request
from filelock import FileLock
lock, blob, url, other = sys.argv[1:]
os.makedirs(os.path.dirname(lock))
with FileLock(lock):
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url).read()
    end = time.time() + 20
    while not os.path.exists(other):
        assert time.time() < end, "the other files do not come"
        time.sleep(0.02)
    time.sleep(0.3)
    assert not os.path.exists(blob) and not os.path.exists(blob + ".incomplete"), "the lock was not respected"
`, nil, lock, blob, s.URL+"/locked", filepath.Join(filepath.Dir(blob), m.ETag("model-00002-of-00002.safetensors")))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
