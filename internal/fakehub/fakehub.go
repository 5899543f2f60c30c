// Package fakehub is a server that speaks as much of the Hugging Face hub's API
// as a download takes, for tests: revisions, lists of files in pages, files by
// range, large ones by way of a second host, private and gated models, and
// whatever failures a test puts in between. Python's huggingface_hub 2.4.0
// downloads from it.
//
// A [Server] may be used concurrently; its models and hooks are set before the
// first request.
package fakehub

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Model is one repository.
type Model struct {
	// Files by path.
	Files map[string][]byte
	// Large says which files are in LFS; nil means those named *.safetensors
	// and *.gguf.
	Large func(path string) bool
	// Commit is the commit of main; "" is made of the files.
	Commit string
	// Revisions are further names of it.
	Revisions []string
	// Token opens the model; "" leaves it open to all.
	Token string
	// Gated shows the model to all, but gives files for Token only.
	Gated bool
	// PageSize cuts the list of files; 0 means one page.
	PageSize int
}

// Server is a running hub.
type Server struct {
	// URL is the endpoint. CDN is the host that large files come from.
	URL, CDN string
	// Hook may answer a request, of either host, in the hub's stead; it then
	// returns true.
	Hook func(w http.ResponseWriter, r *http.Request) bool
	// NoCodes leaves out the X-Error-Code headers, as mirrors do.
	NoCodes bool

	models   map[string]*Model
	mu       sync.Mutex
	requests []Request
}

// Request is what a server was asked.
type Request struct {
	CDN    bool
	Method string
	Path   string // with the query
	Header http.Header
}

// New starts a server, which ends with the test.
func New(t testing.TB, models map[string]*Model) *Server {
	t.Helper()
	s, stop := Start(models)
	t.Cleanup(stop)
	return s
}

// Start starts a server and returns what ends it.
func Start(models map[string]*Model) (s *Server, stop func()) {
	s = &Server{models: models}
	for _, m := range models {
		m.fill()
	}
	hub := httptest.NewServer(s.handler(false, s.serveHub))
	cdn := httptest.NewServer(s.handler(true, s.serveCDN))
	s.URL, s.CDN = hub.URL, cdn.URL
	return s, func() {
		// A client that was cut off keeps its connection, which Close would
		// wait for.
		hub.CloseClientConnections()
		cdn.CloseClientConnections()
		hub.Close()
		cdn.Close()
	}
}

// FromFS makes the files of a model.
func FromFS(dir fs.FS) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := fs.WalkDir(dir, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files[p], err = fs.ReadFile(dir, p)
		return err
	})
	return files, err
}

func (m *Model) fill() {
	if m.Large == nil {
		m.Large = func(p string) bool { return strings.HasSuffix(p, ".safetensors") || strings.HasSuffix(p, ".gguf") }
	}
	if m.Commit == "" {
		h := sha1.New()
		for _, p := range slices.Sorted(maps.Keys(m.Files)) {
			fmt.Fprintf(h, "%s %s\n", p, m.ETag(p))
		}
		m.Commit = hex.EncodeToString(h.Sum(nil))
	}
}

// ETag is the sha256 of a large file, the git blob sha1 of another.
func (m *Model) ETag(path string) string {
	if m.Large(path) {
		sum := sha256.Sum256(m.Files[path])
		return hex.EncodeToString(sum[:])
	}
	return blobID(m.Files[path])
}

func blobID(data []byte) string {
	sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(data), data))
	return hex.EncodeToString(sum[:])
}

// Requests returns what came so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Forget empties the list of requests.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

func (s *Server) handler(cdn bool, serve http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, Request{cdn, r.Method, r.RequestURI, r.Header.Clone()})
		s.mu.Unlock()
		if s.Hook == nil || !s.Hook(w, r) {
			serve(w, r)
		}
	})
}

// fail answers as the hub does.
func (s *Server) fail(w http.ResponseWriter, status int, code, message string) {
	if !s.NoCodes {
		w.Header().Set("X-Error-Code", code)
		w.Header().Set("X-Error-Message", message)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"error": message})
}

// serveHub answers /api/models/ID[/revision/REV|/tree/REV] and
// /ID/resolve/REV/PATH.
func (s *Server) serveHub(w http.ResponseWriter, r *http.Request) {
	var parts []string
	for p := range strings.SplitSeq(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/") {
		u, err := url.PathUnescape(p)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		parts = append(parts, u)
	}
	api := len(parts) > 2 && parts[0] == "api" && parts[1] == "models"
	if api {
		parts = parts[2:]
	}
	if len(parts) < 2 {
		http.NotFound(w, r)
		return
	}
	m := s.models[parts[0]+"/"+parts[1]]
	id, what := parts[0]+"/"+parts[1], parts[2:]
	auth := r.Header.Get("Authorization")
	may := m != nil && (m.Token == "" || auth == "Bearer "+m.Token)
	switch {
	case m == nil && auth != "":
		s.fail(w, http.StatusNotFound, "RepoNotFound", "Repository not found")
	case m == nil, !may && !m.Gated:
		s.fail(w, http.StatusUnauthorized, "RepoNotFound", "Invalid username or password.")
	case len(what) > 1 && what[1] != m.Commit && what[1] != "main" && !slices.Contains(m.Revisions, what[1]):
		s.fail(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+what[1])
	case api && (len(what) == 0 || what[0] == "revision"):
		s.serveInfo(w, id, m)
	case api && what[0] == "tree":
		s.serveTree(w, r, m)
	case len(what) > 2 && what[0] == "resolve" && !may:
		status := http.StatusUnauthorized
		if auth != "" {
			status = http.StatusForbidden
		}
		s.fail(w, status, "GatedRepo", "Access to model "+id+" is restricted.")
	case len(what) > 2 && what[0] == "resolve":
		s.serveFile(w, r, id, m, strings.Join(what[2:], "/"))
	default:
		http.NotFound(w, r)
	}
}

func (s *Server) serveInfo(w http.ResponseWriter, id string, m *Model) {
	var siblings []map[string]string
	for _, p := range slices.Sorted(maps.Keys(m.Files)) {
		siblings = append(siblings, map[string]string{"rfilename": p})
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{
		"id": id, "modelId": id, "sha": m.Commit, "private": m.Token != "" && !m.Gated, "gated": m.Gated, "siblings": siblings, "tags": []string{},
	})
}

func (s *Server) serveTree(w http.ResponseWriter, r *http.Request, m *Model) {
	var entries []map[string]any
	folders := map[string]bool{}
	for _, p := range slices.Sorted(maps.Keys(m.Files)) {
		if dir, _, ok := strings.Cut(p, "/"); ok && !folders[dir] {
			folders[dir] = true
			entries = append(entries, map[string]any{"type": "directory", "oid": blobID([]byte(dir)), "size": 0, "path": dir})
		}
		e := map[string]any{"type": "file", "oid": blobID(m.Files[p]), "size": len(m.Files[p]), "path": p}
		if m.Large(p) {
			pointer := fmt.Appendf(nil, "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", m.ETag(p), len(m.Files[p]))
			e["oid"] = blobID(pointer)
			e["lfs"] = map[string]any{"oid": m.ETag(p), "size": len(m.Files[p]), "pointerSize": len(pointer)}
		}
		entries = append(entries, e)
	}
	from, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	from = min(max(from, 0), len(entries))
	to := len(entries)
	if m.PageSize > 0 && from+m.PageSize < to {
		to = from + m.PageSize
		q := r.URL.Query()
		q.Set("cursor", strconv.Itoa(to))
		w.Header().Set("Link", fmt.Sprintf("<%s%s?%s>; rel=\"next\"", s.URL, r.URL.EscapedPath(), q.Encode()))
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(entries[from:to])
}

func (s *Server) serveFile(w http.ResponseWriter, r *http.Request, id string, m *Model, path string) {
	data, ok := m.Files[path]
	h := w.Header()
	h.Set("X-Repo-Commit", m.Commit)
	if !ok {
		s.fail(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
		return
	}
	h.Set("ETag", `"`+m.ETag(path)+`"`)
	if m.Large(path) {
		h.Set("X-Linked-Size", strconv.Itoa(len(data)))
		h.Set("X-Linked-ETag", `"`+m.ETag(path)+`"`)
		http.Redirect(w, r, s.CDN+"/"+id+"/"+path+"?signature=secret", http.StatusFound)
		return
	}
	serve(w, r, data)
}

// serveCDN answers /OWNER/NAME/PATH.
func (s *Server) serveCDN(w http.ResponseWriter, r *http.Request) {
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/"), "/", 3)
	if len(parts) == 3 {
		if m := s.models[parts[0]+"/"+parts[1]]; m != nil {
			if data, ok := m.Files[parts[2]]; ok {
				w.Header().Set("ETag", `"`+blobID(data)[:32]+`"`) // a storage's own, of no use
				serve(w, r, data)
				return
			}
		}
	}
	http.NotFound(w, r)
}

func serve(w http.ResponseWriter, r *http.Request, data []byte) {
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}
