package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// File is a file of a model at one commit.
type File struct {
	// Path is slash-separated.
	Path string `json:"path"`
	// Size is in bytes, -1 where it is not known.
	Size int64 `json:"size"`
	// Blob is the git blob sha1 in hex, of the LFS pointer for a large file.
	Blob string `json:"blob"`
	// SHA256 of a large file (LFS) in hex; "" for a file in git itself.
	SHA256 string `json:"sha256,omitempty"`
	// xet is the hash in the hub's chunk storage, kept for the list of files.
	xet string
}

// etag is the hash that names the file's blob in the cache.
func (f File) etag() string {
	if f.SHA256 != "" {
		return f.SHA256
	}
	return f.Blob
}

const (
	// maxFiles bounds a model's list of files; the hub advises against more
	// than 100 000.
	maxFiles = 200_000
	// maxFileSize bounds a claim of the hub: the largest it takes is 500 GB.
	maxFileSize = 1 << 42
)

// remote asks the hub about one model.
type remote struct {
	*client
	ref Ref
}

// api is the address of the model in the API.
func (r remote) api() string { return r.o.Endpoint + "/api/models/" + r.ref.ID }

// commit asks which commit the revision is.
func (r remote) commit(ctx context.Context) (string, error) {
	var info struct {
		SHA string `json:"sha"`
	}
	if _, err := r.json(ctx, r.api()+"/revision/"+url.PathEscape(r.ref.revision()), &info); err != nil {
		return "", r.explain(ctx, err, "")
	}
	if !commitHash.MatchString(info.SHA) {
		return "", fmt.Errorf("%s names no commit for %s; is HF_ENDPOINT a hub?", r.o.Endpoint, r.ref.ID)
	}
	return info.SHA, nil
}

// treeEntry is an element of the answer of /tree.
type treeEntry struct {
	Type string `json:"type"`
	Path string `json:"path"`
	Size int64  `json:"size"`
	OID  string `json:"oid"`
	LFS  *struct {
		OID  string `json:"oid"`
		Size int64  `json:"size"`
	} `json:"lfs"`
	XetHash string `json:"xetHash"`
}

// files lists the commit's files, all pages of them.
func (r remote) files(ctx context.Context, commit string) ([]File, error) {
	var files []File
	entries := 0
	for next := r.api() + "/tree/" + commit + "?recursive=true&expand=false"; next != ""; {
		var page []treeEntry
		h, err := r.json(ctx, next, &page)
		if err != nil {
			return nil, r.explain(ctx, err, "")
		}
		for _, e := range page {
			if e.Type != "file" {
				continue
			}
			f, err := e.file()
			if err != nil {
				return nil, fmt.Errorf("list the files of %s: %w", r.ref.ID, err)
			}
			files = append(files, f)
		}
		entries += len(page)
		if len(page) == 0 || entries > maxFiles {
			break
		}
		if next, err = r.nextPage(h, next); err != nil {
			return nil, err
		}
	}
	if entries > maxFiles {
		return nil, fmt.Errorf("list the files of %s: more than %d", r.ref.ID, maxFiles)
	}
	return files, nil
}

var (
	sha1Hex   = regexp.MustCompile(`^[0-9a-f]{40}$`)
	sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// file checks an entry: its path and its hashes become file names.
func (e treeEntry) file() (File, error) {
	f := File{Path: e.Path, Size: e.Size, Blob: e.OID, xet: e.XetHash}
	if e.LFS != nil {
		f.Size, f.SHA256 = e.LFS.Size, e.LFS.OID
	}
	return f, f.check()
}

func (f File) check() error {
	switch {
	case !isLocal(f.Path):
		return fmt.Errorf("%q is no path inside a model", f.Path)
	case f.Size < 0 || f.Size > maxFileSize:
		return fmt.Errorf("%s cannot have %d bytes", f.Path, f.Size)
	case !sha1Hex.MatchString(f.Blob):
		return fmt.Errorf("%s has no git hash: %q", f.Path, f.Blob)
	case f.SHA256 != "" && !sha256Hex.MatchString(f.SHA256):
		return fmt.Errorf("%s has no sha256: %q", f.Path, f.SHA256)
	}
	return nil
}

// isLocal reports whether a path of the hub stays inside a folder, also under
// Windows' rules where this is Windows.
func isLocal(p string) bool {
	return p != "." && !strings.ContainsAny(p, "\\\x00") && filepath.IsLocal(filepath.FromSlash(p))
}

var linkNext = regexp.MustCompile(`<([^<>]+)>\s*;[^,<]*\brel="?next"?`)

// nextPage reads the Link header (RFC 8288). A mirror passes on links to the
// hub proper: only path and query count.
func (r remote) nextPage(h http.Header, page string) (string, error) {
	m := linkNext.FindStringSubmatch(strings.Join(h.Values("Link"), ", "))
	if m == nil {
		return "", nil
	}
	base, err := url.Parse(page)
	if err != nil {
		return "", err
	}
	next, err := base.Parse(m[1])
	if err != nil {
		return "", fmt.Errorf("list the files of %s: next page: %w", r.ref.ID, err)
	}
	base.RawQuery = next.RawQuery
	return base.String(), nil
}

// address is where the content of a file is.
func (r remote) address(commit, file string) string {
	parts := strings.Split(file, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return r.o.Endpoint + "/" + r.ref.ID + "/resolve/" + commit + "/" + strings.Join(parts, "/")
}

// explain turns a status into what it means for the model. file is the file
// asked for, "" for a question about the model.
func (r remote) explain(ctx context.Context, err error, file string) error {
	var e *hubError
	if !errors.As(err, &e) {
		return err
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return &AccessError{
			ID: r.ref.ID, Endpoint: r.o.Endpoint, Status: e.Status,
			Gated: e.code == "GatedRepo", Token: r.o.Token != "", Message: e.Message,
		}
	case http.StatusNotFound:
		switch {
		case e.code == "RepoNotFound":
			return &NotFoundError{ID: r.ref.ID}
		case e.code == "EntryNotFound", file != "" && e.code == "":
			return &NotFoundError{ID: r.ref.ID, Revision: r.ref.revision(), File: file}
		case e.code == "RevisionNotFound", r.exists(ctx):
			return &NotFoundError{ID: r.ref.ID, Revision: r.ref.revision()}
		}
		return &NotFoundError{ID: r.ref.ID}
	}
	return err
}

// exists asks for the model without a revision, for mirrors that do not say
// what it is that they lack.
func (r remote) exists(ctx context.Context) bool {
	resp, err := r.get(ctx, r.api(), nil)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return true
}
