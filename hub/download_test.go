package hub_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/llama-pajamas/llama-pajamas/hub"
	"github.com/llama-pajamas/llama-pajamas/internal/fakehub"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

const id = "tiny-org/Tiny-Model_1.0"

// noise is n bytes that differ with the seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	r.Read(b)
	return b
}

// files is a repository with everything that is not wanted too.
func files() map[string][]byte {
	return map[string][]byte{
		"config.json":                      []byte(`{"model_type": "llama"}`),
		"generation_config.json":           []byte(`{}`),
		"tokenizer.json":                   noise(1, 30_000),
		"tokenizer_config.json":            []byte(`{"a": 1}`),
		"special_tokens_map.json":          []byte(`{}`),
		"chat_template.jinja":              []byte(`{{ messages }}`),
		"LICENSE":                          []byte("free"),
		"README.md":                        []byte("# Tiny"),
		"empty.json":                       {},
		"model.safetensors.index.json":     []byte(`{"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}`),
		"model-00001-of-00002.safetensors": noise(2, 700_001),
		"model-00002-of-00002.safetensors": noise(3, 300_000),
		"consolidated.safetensors":         noise(4, 1000),
		"pytorch_model.bin":                noise(5, 1000),
		"onnx/model.onnx":                  noise(6, 1000),
		"original/consolidated.00.pth":     noise(7, 1000),
		"training_args.bin":                noise(8, 100),
	}
}

// wanted are the files of it that the default filter takes.
var wanted = []string{
	"LICENSE", "README.md", "chat_template.jinja", "config.json", "generation_config.json",
	"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
	"special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
}

// options are for a server and a fresh cache, without waits.
func options(t *testing.T, s *fakehub.Server) hub.Options {
	o := hub.Options{CacheDir: t.TempDir(), Endpoint: s.URL}
	hub.SetWait(&o, func(ctx context.Context, _ time.Duration) error { return ctx.Err() })
	return o
}

func ref(t testing.TB, s string) hub.Ref {
	t.Helper()
	r, err := hub.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// check compares what lies in a snapshot with the model.
func check(t *testing.T, s *hub.Snapshot, m *fakehub.Model, want []string) {
	t.Helper()
	var names []string
	for _, f := range s.Files {
		names = append(names, f.Path)
		got, err := os.ReadFile(filepath.Join(s.Dir, filepath.FromSlash(f.Path)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, m.Files[f.Path]) {
			t.Errorf("%s: the content differs", f.Path)
		}
	}
	slices.Sort(names)
	if d := cmp.Diff(want, names); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	if s.Commit != m.Commit {
		t.Errorf("commit %s, want %s", s.Commit, m.Commit)
	}
}

// paths counts the requests for a part of a path.
func paths(s *fakehub.Server, part string) (n int) {
	for _, r := range s.Requests() {
		if strings.Contains(r.Path, part) {
			n++
		}
	}
	return n
}

func TestDownload(t *testing.T) {
	m := &fakehub.Model{Files: files(), PageSize: 5, Revisions: []string{"v1.0", "refs/pr/3"}}
	s := fakehub.New(t, map[string]*fakehub.Model{id: m})
	o := options(t, s)
	var last hub.Progress
	o.Progress = func(p hub.Progress) {
		if p.Done < last.Done || p.Done > p.Total {
			t.Errorf("progress %d of %d after %d of %d", p.Done, p.Total, last.Done, last.Total)
		}
		last = p
	}
	snap, err := hub.Download(t.Context(), ref(t, id), o)
	if err != nil {
		t.Fatal(err)
	}
	check(t, snap, m, wanted)
	var total int64
	for _, f := range snap.Files {
		total += f.Size
	}
	if last.Done != total || last.Total != total || len(last.Files) != 0 {
		t.Errorf("last progress %+v, want %d bytes and no files", last, total)
	}
	if n := paths(s, "/tree/"); n < 4 {
		t.Errorf("%d requests for 18 entries in pages of 5", n)
	}
	if snap.Path() != snap.Dir {
		t.Errorf("Path %s, Dir %s", snap.Path(), snap.Dir)
	}
	checkLayout(t, o.CacheDir, m)

	s.Forget()
	last = hub.Progress{}
	if _, err := hub.Download(t.Context(), ref(t, id), o); err != nil {
		t.Fatal(err)
	}
	if len(s.Requests()) != 1 {
		t.Errorf("a complete cache was filled again: %v", s.Requests())
	}
	s.Forget()
	if _, err := hub.Download(t.Context(), ref(t, id+"@"+m.Commit), o); err != nil || len(s.Requests()) != 0 {
		t.Errorf("a known commit was asked for: %v, %v", err, s.Requests())
	}
	for _, revision := range m.Revisions {
		if _, err := hub.Download(t.Context(), ref(t, id+"@"+revision), o); err != nil {
			t.Error(err)
		}
		b, err := os.ReadFile(filepath.Join(o.CacheDir, "models--tiny-org--Tiny-Model_1.0", "refs", filepath.FromSlash(revision)))
		if err != nil || string(b) != m.Commit {
			t.Errorf("ref %s: %q, %v", revision, b, err)
		}
	}
	if n := paths(s, "/resolve/"); n != 0 {
		t.Errorf("other names of the commit fetched %d files", n)
	}
}

// checkLayout checks the cache against the layout that huggingface_hub
// documents.
func checkLayout(t *testing.T, cache string, m *fakehub.Model) {
	t.Helper()
	dir := filepath.Join(cache, "models--tiny-org--Tiny-Model_1.0")
	for _, name := range wanted {
		pointer := filepath.Join(dir, "snapshots", m.Commit, name)
		if runtime.GOOS != "windows" {
			target, err := os.Readlink(pointer)
			if err != nil || target != filepath.Join("..", "..", "blobs", m.ETag(name)) {
				t.Errorf("%s points to %q (%v)", name, target, err)
			}
		}
		if _, err := os.Stat(filepath.Join(cache, ".locks", "models--tiny-org--Tiny-Model_1.0", m.ETag(name)+".lock")); err != nil {
			t.Error(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "refs", "main"))
	if err != nil || string(b) != m.Commit {
		t.Errorf("refs/main: %q, %v", b, err)
	}
	err = filepath.WalkDir(cache, func(p string, d fs.DirEntry, err error) error {
		if err == nil && (strings.Contains(d.Name(), "incomplete") || strings.Contains(d.Name(), "tmp")) {
			t.Errorf("left behind: %s", p)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestBroken breaks connections at many places; what came is never asked for
// again.
func TestBroken(t *testing.T) {
	m := &fakehub.Model{Files: files()}
	s := fakehub.New(t, map[string]*fakehub.Model{id: m})
	var sent atomic.Int64
	cut := "model-00001-of-00002.safetensors"
	s.Hook = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, cut) || strings.Contains(r.URL.Path, "/resolve/") {
			return false
		}
		data := m.Files[cut]
		from := 0
		if v := r.Header.Get("Range"); v != "" {
			fmt.Sscanf(v, "bytes=%d-", &from)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)-from))
		if from > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		n, _ := w.Write(data[from:min(from+150_000, len(data))])
		sent.Add(int64(n))
		if from+150_000 < len(data) {
			panic(http.ErrAbortHandler)
		}
		return true
	}
	o := options(t, s)
	o.Tries = 2 // far fewer than the cuts: each that brings something starts anew
	snap, err := hub.Download(t.Context(), ref(t, id), o)
	if err != nil {
		t.Fatal(err)
	}
	check(t, snap, m, wanted)
	if got := sent.Load(); got > int64(len(m.Files[cut])) {
		t.Errorf("%d bytes sent of a file of %d", got, len(m.Files[cut]))
	}
}

// TestNoRanges: a server without ranges starts over, and one that is always cut
// at the same place is given up.
func TestNoRanges(t *testing.T) {
	m := &fakehub.Model{Files: files()}
	cuts := 1
	s := fakehub.New(t, map[string]*fakehub.Model{id: m})
	var mu sync.Mutex
	s.Hook = func(w http.ResponseWriter, r *http.Request) bool {
		name := "model-00002-of-00002.safetensors"
		if !strings.HasSuffix(r.URL.Path, name) || strings.Contains(r.URL.Path, "/resolve/") {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		data := m.Files[name]
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		if cuts--; cuts >= 0 {
			w.Write(data[:100_000])
			panic(http.ErrAbortHandler)
		}
		w.Write(data)
		return true
	}
	o := options(t, s)
	snap, err := hub.Download(t.Context(), ref(t, id), o)
	if err != nil {
		t.Fatal(err)
	}
	check(t, snap, m, wanted)

	cuts = 1000
	o.CacheDir = t.TempDir()
	if _, err := hub.Download(t.Context(), ref(t, id), o); err == nil || !strings.Contains(err.Error(), "model-00002-of-00002.safetensors") || !strings.Contains(err.Error(), "tried") {
		t.Errorf("error %v", err)
	}
}

// TestResume: an earlier process left a part, right or wrong.
func TestResume(t *testing.T) {
	m := &fakehub.Model{Files: files()}
	name := "model-00001-of-00002.safetensors"
	right := m.Files[name]
	for what, tc := range map[string]struct {
		left  []byte
		fetch int // bytes asked for
	}{
		"half":       {right[:400_000], len(right) - 400_000},
		"all":        {right, 0},
		"all but 1":  {right[:len(right)-1], 1},
		"too long":   {append(slices.Clone(right), 1), len(right)},
		"wrong half": {noise(9, 400_000), 2*len(right) - 400_000},
		"all wrong":  {noise(9, len(right)), len(right)},
		"empty":      {nil, len(right)},
	} {
		t.Run(what, func(t *testing.T) {
			s := fakehub.New(t, map[string]*fakehub.Model{id: m})
			o := options(t, s)
			blobs := filepath.Join(o.CacheDir, "models--tiny-org--Tiny-Model_1.0", "blobs")
			if err := os.MkdirAll(blobs, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(blobs, m.ETag(name)+".incomplete"), tc.left, 0o644); err != nil {
				t.Fatal(err)
			}
			snap, err := hub.Download(t.Context(), ref(t, id), o)
			if err != nil {
				t.Fatal(err)
			}
			check(t, snap, m, wanted)
			got := 0
			for _, r := range s.Requests() {
				if r.CDN && strings.Contains(r.Path, name) {
					from := 0
					fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
					got += len(right) - from
				}
			}
			if got != tc.fetch {
				t.Errorf("%d bytes asked for, want %d", got, tc.fetch)
			}
		})
	}
}

// TestWrong: contents that are not what the list says.
func TestWrong(t *testing.T) {
	m := &fakehub.Model{Files: files()}
	for what, tc := range map[string]struct {
		file  string
		send  func(right []byte) []byte
		kind  string
		times int // wrong answers; -1 all
	}{
		"sha256 once":   {"model-00001-of-00002.safetensors", flip, "", 1},
		"sha256":        {"model-00001-of-00002.safetensors", flip, "sha256", -1},
		"git sha1 once": {"tokenizer.json", flip, "", 1},
		"git sha1":      {"tokenizer.json", flip, "git blob sha1", -1},
		"short":         {"tokenizer.json", func(b []byte) []byte { return b[:len(b)-1] }, "size", -1},
		"long":          {"model-00002-of-00002.safetensors", func(b []byte) []byte { return append(slices.Clone(b), 0) }, "size", -1},
	} {
		t.Run(what, func(t *testing.T) {
			s := fakehub.New(t, map[string]*fakehub.Model{id: m})
			var n atomic.Int64
			s.Hook = func(w http.ResponseWriter, r *http.Request) bool {
				large := strings.HasSuffix(tc.file, ".safetensors")
				if !strings.HasSuffix(r.URL.Path, tc.file) || large == strings.Contains(r.URL.Path, "/resolve/") {
					return false
				}
				if k := n.Add(1); tc.times >= 0 && k > int64(tc.times) {
					return false
				}
				data := tc.send(m.Files[tc.file])
				w.Header().Set("Content-Length", strconv.Itoa(len(data)))
				w.Write(data)
				return true
			}
			o := options(t, s)
			snap, err := hub.Download(t.Context(), ref(t, id), o)
			if tc.kind == "" {
				if err != nil {
					t.Fatal(err)
				}
				check(t, snap, m, wanted)
				return
			}
			var wrong *hub.HashError
			if !errors.As(err, &wrong) || wrong.File != tc.file || wrong.Kind != tc.kind {
				t.Fatalf("error %v", err)
			}
			if n.Load() != 2 {
				t.Errorf("%d tries, want 2", n.Load())
			}
			blobs := filepath.Join(o.CacheDir, "models--tiny-org--Tiny-Model_1.0", "blobs", m.ETag(tc.file))
			if left, _ := filepath.Glob(blobs + "*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func flip(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

// TestToken: the token goes to the hub and to nobody else.
func TestToken(t *testing.T) {
	m := &fakehub.Model{Files: files(), Token: "hf_secret"}
	s := fakehub.New(t, map[string]*fakehub.Model{id: m})
	o := options(t, s)
	o.Token = "hf_secret"
	if _, err := hub.Download(t.Context(), ref(t, id), o); err != nil {
		t.Fatal(err)
	}
	cdn := 0
	for _, r := range s.Requests() {
		auth := r.Header.Get("Authorization")
		if r.CDN {
			cdn++
			if auth != "" {
				t.Errorf("the other host got %q", auth)
			}
		} else if auth != "Bearer hf_secret" {
			t.Errorf("%s: the hub got %q", r.Path, auth)
		}
	}
	if cdn != 2 {
		t.Errorf("%d requests to the other host, want 2", cdn)
	}
}

// TestRefusals: every answer that is no success becomes an error that says what
// to do.
func TestRefusals(t *testing.T) {
	models := map[string]*fakehub.Model{
		id:                 {Files: files()},
		"tiny-org/private": {Files: files(), Token: "good"},
		"tiny-org/gated":   {Files: files(), Token: "good", Gated: true},
		"tiny-org/broken":  {Files: map[string][]byte{"config.json": nil, "model.safetensors.index.json": []byte(`{"weight_map": {"a": "x.safetensors"}}`)}},
		"tiny-org/pickle":  {Files: map[string][]byte{"config.json": nil, "pytorch_model.bin": nil}},
		"tiny-org/lora":    {Files: map[string][]byte{"adapter_config.json": nil, "adapter_model.safetensors": nil}},
		"tiny-org/none":    {Files: map[string][]byte{"README.md": nil}},
		"tiny-org/bare":    {Files: map[string][]byte{"model.safetensors": nil}},
	}
	for _, noCodes := range []bool{false, true} {
		s := fakehub.New(t, models)
		s.NoCodes = noCodes
		for _, tc := range []struct {
			ref, token string
			want       []string
			coded      bool // only where the hub sends codes
		}{
			{"tiny-org/nobody", "", []string{"does not exist, or is private or gated", "HF_TOKEN"}, false},
			{"tiny-org/nobody", "good", []string{"the hub has no model tiny-org/nobody"}, false},
			{"tiny-org/private", "", []string{"HF_TOKEN"}, false},
			{"tiny-org/private", "bad", []string{"not valid"}, false},
			{"tiny-org/gated", "", []string{"is gated", "/tiny-org/gated", "HF_TOKEN"}, true},
			{"tiny-org/gated", "bad", []string{"is gated", "has no access yet"}, true},
			{"tiny-org/gated", "", []string{"HF_TOKEN"}, false},
			{id + "@v9", "", []string{id + " has no revision v9"}, false},
			{"tiny-org/broken", "", []string{"tiny-org/broken has no file x.safetensors at revision main"}, false},
			{"tiny-org/pickle", "", []string{"pickle checkpoint pytorch_model.bin", "refs/pr/"}, false},
			{"tiny-org/lora", "", []string{"--lora"}, false},
			{"tiny-org/none", "", []string{"neither safetensors nor GGUF"}, false},
			{"tiny-org/bare", "", []string{"no file config.json"}, false},
			{id + ":Q4_K_M", "", []string{"no file Q4_K_M"}, false},
		} {
			if tc.coded && noCodes {
				continue
			}
			o := options(t, s)
			o.Token = tc.token
			_, err := hub.Download(t.Context(), ref(t, tc.ref), o)
			if err == nil {
				t.Errorf("%s with token %q: no error", tc.ref, tc.token)
				continue
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s with token %q, codes left out %v: %v; want %q", tc.ref, tc.token, noCodes, err, want)
				}
			}
			if tc.token != "" && strings.Contains(err.Error(), tc.token+" ") {
				t.Errorf("the error tells the token: %v", err)
			}
		}
	}
}

// TestBusy: 429 and 5xx are asked again, after as long as the hub says.
func TestBusy(t *testing.T) {
	for what, tc := range map[string]struct {
		header map[string]string
		status int
		fails  int
		wait   time.Duration // of the first wait; 0: some backoff
		err    string
	}{
		"429 seconds":    {map[string]string{"Retry-After": "7"}, 429, 2, 7 * time.Second, ""},
		"429 rate limit": {map[string]string{"RateLimit": `"api";r=0;t=55`}, 429, 1, 55 * time.Second, ""},
		"429 not it":     {map[string]string{"RateLimit": `"api";r=10;t=55`}, 429, 1, 0, ""},
		"429 too long":   {map[string]string{"Retry-After": "3600"}, 429, 1, 0, "try again in 1h0m0s"},
		"429 forever":    {map[string]string{"Retry-After": "1"}, 429, 1000, time.Second, "too many requests"},
		"500":            {nil, 500, 3, 0, ""},
		"503":            {nil, 503, 5, 0, ""},
		"504 forever":    {nil, 504, 1000, 0, "504"},
		"418":            {nil, 418, 1, 0, "418"},
	} {
		for _, where := range []string{"/revision/", "/tree/", "/resolve/", "signature"} {
			t.Run(what+where, func(t *testing.T) {
				m := &fakehub.Model{Files: map[string][]byte{"config.json": []byte("{}"), "model.safetensors": noise(1, 1000)}}
				s := fakehub.New(t, map[string]*fakehub.Model{id: m})
				var n atomic.Int64
				s.Hook = func(w http.ResponseWriter, r *http.Request) bool {
					if !strings.Contains(r.RequestURI, where) || n.Add(1) > int64(tc.fails) {
						return false
					}
					for k, v := range tc.header {
						w.Header().Set(k, v)
					}
					w.WriteHeader(tc.status)
					return true
				}
				o := options(t, s)
				o.Workers = 1
				var waits []time.Duration
				hub.SetWait(&o, func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil })
				_, err := hub.Download(t.Context(), ref(t, id), o)
				switch {
				case tc.err == "" && err != nil, tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
					t.Errorf("error %v, want %q", err, tc.err)
				case tc.wait > 0 && (len(waits) == 0 || waits[0] != tc.wait):
					t.Errorf("waits %v, want %v", waits, tc.wait)
				case tc.err == "" && tc.wait == 0 && (len(waits) != tc.fails || waits[0] < time.Second || waits[0] > 2*time.Second):
					t.Errorf("waits %v for %d failures", waits, tc.fails)
				}
			})
		}
	}
}

func TestOffline(t *testing.T) {
	m := &fakehub.Model{Files: files(), Revisions: []string{"v1"}}
	s, stop := fakehub.Start(map[string]*fakehub.Model{id: m})
	o := options(t, s)
	snap, err := hub.Download(t.Context(), ref(t, id), o)
	if err != nil {
		t.Fatal(err)
	}
	s.Forget()
	off := o
	off.Offline = true
	for _, r := range []string{id, id + "@" + m.Commit} {
		snap, err := hub.Download(t.Context(), ref(t, r), off)
		if err != nil {
			t.Fatal(err)
		}
		check(t, snap, m, wanted)
	}
	wants := func(r string, o hub.Options, want ...string) {
		t.Helper()
		_, err := hub.Download(t.Context(), ref(t, r), o)
		var missing *hub.MissingError
		if !errors.As(err, &missing) {
			t.Fatalf("%s: error %v", r, err)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: error %v, want %q", r, err, w)
			}
		}
	}
	wants(id+"@v1", off, "lacks "+id+" at revision v1", "HF_HUB_OFFLINE")
	wants("tiny-org/other", off, "lacks tiny-org/other at revision main")
	if len(s.Requests()) != 0 {
		t.Errorf("offline, yet asked for: %v", s.Requests())
	}

	stop() // from here on the hub does not answer
	if snap, err := hub.Download(t.Context(), ref(t, id), o); err != nil {
		t.Error(err)
	} else {
		check(t, snap, m, wanted)
	}
	wants(id+"@v1", o, "lacks "+id+" at revision v1", "refused")

	if err := os.Remove(filepath.Join(snap.Dir, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	wants(id, off, "lacks tokenizer.json of "+id)
	wants(id, o, "lacks tokenizer.json of "+id, "refused")
	blob := filepath.Join(o.CacheDir, "models--tiny-org--Tiny-Model_1.0", "blobs", m.ETag("model-00002-of-00002.safetensors"))
	if err := os.Truncate(blob, 10); err != nil {
		t.Fatal(err)
	}
	wants(id, off, "lacks", "model-00002-of-00002.safetensors", "tokenizer.json")

	// A cache of an older library has no list of files.
	if err := os.RemoveAll(filepath.Join(o.CacheDir, "models--tiny-org--Tiny-Model_1.0", "trees")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(snap.Dir, "model-00001-of-00002.safetensors")); err != nil {
		t.Fatal(err)
	}
	wants(id, off, "lacks model-00001-of-00002.safetensors")
	if err := os.Remove(filepath.Join(snap.Dir, "model.safetensors.index.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(snap.Dir, "model-00002-of-00002.safetensors")); err != nil {
		t.Fatal(err)
	}
	wants(id, off, "lacks files", "neither safetensors nor GGUF")
}

// TestCancel: what came before the end stays and is not fetched again, and no
// goroutine is left.
func TestCancel(t *testing.T) {
	m := &fakehub.Model{Files: files()}
	s := fakehub.New(t, map[string]*fakehub.Model{id: m})
	o := options(t, s)
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	name := "model-00001-of-00002.safetensors"
	hold := make(chan struct{})
	s.Hook = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, name) || strings.Contains(r.URL.Path, "/resolve/") {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(m.Files[name])))
		w.Write(m.Files[name][:300_000])
		w.(http.Flusher).Flush()
		<-hold
		return true
	}
	o.Progress = func(p hub.Progress) {
		if slices.Equal(p.Files, []string{name}) && p.Done > p.Total-500_000 {
			cancel()
		}
	}
	_, err := hub.Download(ctx, ref(t, id), o)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	close(hold)
	s.Hook = nil
	for i := 0; runtime.NumGoroutine() > before+4 && i < 100; i++ { // the server's own end a moment later
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before+4 {
		t.Errorf("%d goroutines, %d before", n, before)
	}
	s.Forget()
	o.Progress = nil
	snap, err := hub.Download(t.Context(), ref(t, id), o)
	if err != nil {
		t.Fatal(err)
	}
	check(t, snap, m, wanted)
	for _, r := range s.Requests() {
		if r.CDN && (!strings.Contains(r.Path, name) || r.Header.Get("Range") == "") {
			t.Errorf("fetched again: %s, range %q", r.Path, r.Header.Get("Range"))
		}
	}
}

// TestStall: a connection on which nothing comes is given up and made again.
func TestStall(t *testing.T) {
	m := &fakehub.Model{Files: files()}
	s := fakehub.New(t, map[string]*fakehub.Model{id: m})
	hold := make(chan struct{})
	defer close(hold)
	var stalled atomic.Bool
	s.Hook = func(w http.ResponseWriter, r *http.Request) bool {
		name := "model-00001-of-00002.safetensors"
		if !strings.HasSuffix(r.URL.Path, name) || strings.Contains(r.URL.Path, "/resolve/") || stalled.Swap(true) {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(m.Files[name])))
		w.Write(m.Files[name][:1000])
		w.(http.Flusher).Flush()
		<-hold
		return true
	}
	o := options(t, s)
	o.Timeout = 200 * time.Millisecond
	snap, err := hub.Download(t.Context(), ref(t, id), o)
	if err != nil {
		t.Fatal(err)
	}
	check(t, snap, m, wanted)
}

// TestTwoAtOnce: downloads into one cache at once fetch each file once.
func TestTwoAtOnce(t *testing.T) {
	m := &fakehub.Model{Files: files()}
	s := fakehub.New(t, map[string]*fakehub.Model{id: m})
	o := options(t, s)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			snap, err := hub.Download(t.Context(), ref(t, id), o)
			if err != nil {
				t.Error(err)
				return
			}
			check(t, snap, m, wanted)
		})
	}
	wg.Wait()
	for _, name := range []string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"} {
		n := 0
		for _, r := range s.Requests() {
			if r.CDN && strings.Contains(r.Path, name) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s: fetched %d times", name, n)
		}
	}
	checkLayout(t, o.CacheDir, m)
}

// TestNoSymlinks: without links the files lie in the snapshot, and a second
// commit gets its own.
func TestNoSymlinks(t *testing.T) {
	m := &fakehub.Model{Files: files()}
	s := fakehub.New(t, map[string]*fakehub.Model{id: m})
	o := options(t, s)
	if _, err := hub.Download(t.Context(), ref(t, id), o); err != nil { // blobs are there
		t.Fatal(err)
	}
	next := &fakehub.Model{Files: files(), Commit: strings.Repeat("ab", 20)}
	next.Files["config.json"] = []byte(`{"model_type": "qwen3"}`)
	s = fakehub.New(t, map[string]*fakehub.Model{id: next})
	o.Endpoint, o.NoSymlinks = s.URL, true
	snap, err := hub.Download(t.Context(), ref(t, id), o)
	if err != nil {
		t.Fatal(err)
	}
	check(t, snap, next, wanted)
	for _, f := range snap.Files {
		if st, err := os.Lstat(filepath.Join(snap.Dir, f.Path)); err != nil || !st.Mode().IsRegular() {
			t.Errorf("%s is no plain file", f.Path)
		}
	}
	if n := paths(s, "/resolve/"); n != 1 {
		t.Errorf("%d files fetched, want the one that is new", n)
	}
	o.Offline = true
	if snap, err = hub.Download(t.Context(), ref(t, id), o); err != nil {
		t.Fatal(err)
	}
	check(t, snap, next, wanted)
}

func TestSpace(t *testing.T) {
	m := &fakehub.Model{Files: files()}
	s := fakehub.New(t, map[string]*fakehub.Model{id: m})
	o := options(t, s)
	o.FreeSpace = func(string) (int64, error) { return 900_000, nil }
	_, err := hub.Download(t.Context(), ref(t, id), o)
	var space *hub.SpaceError
	if !errors.As(err, &space) || space.Need < 1_000_000 || space.Free != 900_000 {
		t.Fatalf("error %v", err)
	}
	if n := paths(s, "signature"); n != 0 {
		t.Errorf("%d large files begun all the same", n)
	}
	o.FreeSpace = func(string) (int64, error) { return 0, errors.New("no answer") }
	if _, err := hub.Download(t.Context(), ref(t, id), o); err != nil {
		t.Error(err)
	}
}

func TestProxy(t *testing.T) {
	m := &fakehub.Model{Files: files()}
	s := fakehub.New(t, map[string]*fakehub.Model{id: m})
	o := options(t, s)
	var hosts atomic.Int64
	o.Endpoint = "http://hub.invalid"
	o.Proxy = func(r *http.Request) (*url.URL, error) {
		if r.URL.Host == "hub.invalid" {
			hosts.Add(1)
			return url.Parse(s.URL)
		}
		return nil, nil
	}
	snap, err := hub.Download(t.Context(), ref(t, id), o)
	if err != nil {
		t.Fatal(err)
	}
	check(t, snap, m, wanted)
	if hosts.Load() == 0 {
		t.Error("the proxy was not used")
	}
}

// TestMalicious: what a server says about files stays inside the cache.
func TestMalicious(t *testing.T) {
	sum := sha256.Sum256(nil)
	good := `{"type":"file","path":"config.json","size":0,"oid":"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"}`
	lfs := func(path, oid string, size int) string {
		return fmt.Sprintf(`{"type":"file","path":"%s","size":1,"oid":"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391","lfs":{"oid":%q,"size":%d}}`, path, oid, size)
	}
	hash := hex.EncodeToString(sum[:])
	for what, tc := range map[string]struct{ sha, tree, want string }{
		"parent":        {"", "[" + lfs("../../evil.safetensors", hash, 0) + "]", "no path inside"},
		"absolute":      {"", "[" + lfs("/etc/evil.safetensors", hash, 0) + "]", "no path inside"},
		"backslash":     {"", "[" + lfs(`..\\evil.safetensors`, hash, 0) + "]", "no path inside"},
		"nul":           {"", "[" + lfs(`a\u0000.safetensors`, hash, 0) + "]", "no path inside"},
		"hash":          {"", "[" + lfs("model.safetensors", "../../../../evil", 0) + "]", "no sha256"},
		"hash case":     {"", "[" + lfs("model.safetensors", strings.ToUpper(hash), 0) + "]", "no sha256"},
		"size":          {"", "[" + lfs("model.safetensors", hash, -1) + "]", "cannot have"},
		"huge":          {"", "[" + lfs("model.safetensors", hash, 1<<50) + "]", "cannot have"},
		"commit":        {"../../../evil", "[" + good + "]", "names no commit"},
		"no commit":     {"-", "[" + good + "]", "names no commit"},
		"no JSON":       {"", "<html>log in</html>", "not what the hub's API answers"},
		"another JSON":  {"", `{"a": 1}`, "not what the hub's API answers"},
		"empty":         {"", "[]", "neither safetensors nor GGUF"},
		"config folder": {"", "[" + good + "," + lfs("model.safetensors", hash, 0) + "," + lfs("config.json/x", hash, 0) + "]", ""},
	} {
		t.Run(what, func(t *testing.T) {
			s := fakehub.New(t, nil)
			s.Hook = func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case strings.Contains(r.URL.Path, "/revision/"):
					sha := tc.sha
					if sha == "" {
						sha = strings.Repeat("0", 40)
					}
					fmt.Fprintf(w, `{"sha": %q}`, sha)
				case strings.Contains(r.URL.Path, "/tree/"):
					fmt.Fprint(w, tc.tree)
				default:
					return false
				}
				return true
			}
			o := options(t, s)
			parent := o.CacheDir
			o.CacheDir = filepath.Join(parent, "a", "b", "cache")
			_, err := hub.Download(t.Context(), ref(t, id), o)
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) || tc.want == "" && err != nil {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			filepath.WalkDir(parent, func(p string, d fs.DirEntry, err error) error {
				if strings.Contains(p, "evil") {
					t.Errorf("written: %s", p)
				}
				return nil
			})
		})
	}
}

// TestUnsupported: a filter's error arrives as it is.
func TestUnsupported(t *testing.T) {
	s := fakehub.New(t, map[string]*fakehub.Model{id: {Files: map[string][]byte{"config.json": nil, "model.pth": nil}}})
	_, err := hub.Download(t.Context(), ref(t, id), options(t, s))
	if !errors.As(err, new(*tensor.UnsupportedError)) {
		t.Errorf("error %v", err)
	}
}
