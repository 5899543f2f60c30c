package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// repo is one model's folder in the cache.
type repo struct {
	cache string // the folder of all models
	dir   string // models--OWNER--NAME
}

func newRepo(cache, id string) repo {
	return repo{cache, filepath.Join(cache, "models--"+strings.ReplaceAll(id, "/", "--"))}
}

func (r repo) blob(etag string) string       { return filepath.Join(r.dir, "blobs", etag) }
func (r repo) snapshot(commit string) string { return filepath.Join(r.dir, "snapshots", commit) }
func (r repo) tree(commit string) string     { return filepath.Join(r.dir, "trees", commit+".json") }
func (r repo) ref(revision string) string {
	return filepath.Join(r.dir, "refs", filepath.FromSlash(revision))
}
func (r repo) pointer(commit, file string) string {
	return filepath.Join(r.snapshot(commit), filepath.FromSlash(file))
}
func (r repo) lock(etag string) string {
	return filepath.Join(r.cache, ".locks", filepath.Base(r.dir), etag+".lock")
}

// has reports whether a file of a snapshot is there in full: the pointer, or
// the blob it stands for, has the size.
func has(path string, size int64) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && (size < 0 || st.Size() == size)
}

// commitOf reads the commit that a revision stood for when it was last asked
// for; "" where that never happened.
func (r repo) commitOf(revision string) (string, error) {
	if commitHash.MatchString(revision) {
		return revision, nil
	}
	b, err := os.ReadFile(r.ref(revision))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the hub's cache: %w", err)
	}
	commit := strings.TrimSpace(string(b))
	if !commitHash.MatchString(commit) {
		return "", fmt.Errorf("read the hub's cache: %s holds no commit", r.ref(revision))
	}
	return commit, nil
}

// setRef notes the commit of a revision, where it is news.
func (r repo) setRef(revision, commit string) error {
	if revision == commit {
		return nil
	}
	if b, err := os.ReadFile(r.ref(revision)); err == nil && string(b) == commit {
		return nil
	}
	return replaceFile(r.ref(revision), []byte(commit))
}

// replaceFile writes a file under a temporary name and renames it.
func replaceFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return fmt.Errorf("write the hub's cache: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("write the hub's cache: %w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write the hub's cache: %w", err)
	}
	return nil
}

// treeJSON is trees/COMMIT.json (huggingface_hub, _tree_cache.py).
type treeJSON struct {
	Version int                 `json:"format_version"`
	Files   map[string]treeFile `json:"files"`
}

type treeFile struct {
	Size      int64  `json:"size"`
	BlobID    string `json:"blob_id"`
	LFSSHA256 string `json:"lfs_sha256,omitempty"`
	LFSSize   *int64 `json:"lfs_size,omitempty"`
	XetHash   string `json:"xet_hash,omitempty"`
}

const treeVersion = 1

// readTree returns the list of a commit's files; ok is false where the cache
// has none that can be used.
func (r repo) readTree(commit string) (files []File, ok bool) {
	f, err := os.Open(r.tree(commit))
	if err != nil {
		return nil, false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPage))
	if err != nil {
		return nil, false
	}
	files, err = parseTree(b)
	return files, err == nil
}

func parseTree(b []byte) ([]File, error) {
	var t treeJSON
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, err
	}
	if t.Version != treeVersion {
		return nil, fmt.Errorf("list of files of version %d", t.Version)
	}
	var files []File
	for path, e := range t.Files {
		f := File{Path: path, Size: e.Size, Blob: e.BlobID, SHA256: e.LFSSHA256, xet: e.XetHash}
		if e.LFSSHA256 != "" && e.LFSSize != nil {
			f.Size = *e.LFSSize
		}
		if err := f.check(); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

// writeTree keeps the list, in Python's form.
func (r repo) writeTree(commit string, files []File) error {
	t := treeJSON{Version: treeVersion, Files: map[string]treeFile{}}
	for _, f := range files {
		e := treeFile{Size: f.Size, BlobID: f.Blob, LFSSHA256: f.SHA256, XetHash: f.xet}
		if f.SHA256 != "" {
			e.LFSSize = &f.Size
		}
		t.Files[f.Path] = e
	}
	b, err := json.MarshalIndent(t, "", " ")
	if err != nil {
		return err
	}
	return replaceFile(r.tree(commit), b)
}

// listSnapshot lists what a snapshot folder holds, for caches of
// huggingface_hub before 2.0, which kept no list of files.
func (r repo) listSnapshot(commit string) ([]File, error) {
	dir := r.snapshot(commit)
	var files []File
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() || !has(p, -1) {
			return nil
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		files = append(files, File{Path: filepath.ToSlash(rel), Size: -1})
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the hub's cache: %w", err)
	}
	return files, nil
}

// tag marks the cache for backup programs (https://bford.info/cachedir/).
func (r repo) tag() {
	path := filepath.Join(r.cache, "CACHEDIR.TAG")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return // there already, or not to be had: the cache works without
	}
	defer f.Close()
	fmt.Fprint(f, "Signature: 8a477f597d28d172789f06886806bc55\n# This folder is a cache of models from the Hugging Face hub.\n")
}

// link makes the pointer of a snapshot to a blob: a relative symbolic link, so
// that the cache can be moved. Where the system has none, the blob moves to the
// pointer's place if it is fresh, and is copied if other snapshots may hold it,
// as huggingface_hub does.
func (r repo) link(etag, commit, file string, fresh, noSymlinks bool) error {
	pointer, blob := r.pointer(commit, file), r.blob(etag)
	if err := os.MkdirAll(filepath.Dir(pointer), 0o777); err != nil {
		return fmt.Errorf("write the hub's cache: %w", err)
	}
	tmp, err := tempName(pointer)
	if err != nil {
		return err
	}
	defer os.Remove(tmp) // gone already, if all went well
	if !noSymlinks {
		target, err := filepath.Rel(filepath.Dir(pointer), blob)
		if err == nil {
			err = os.Symlink(target, tmp)
		}
		noSymlinks = err != nil
	}
	switch {
	case !noSymlinks:
		err = os.Rename(tmp, pointer)
	case fresh:
		err = os.Rename(blob, pointer)
	default:
		if err = copyFile(tmp, blob); err == nil {
			err = os.Rename(tmp, pointer)
		}
	}
	if err != nil {
		return fmt.Errorf("write the hub's cache: %w", err)
	}
	return nil
}

// tempName returns a name beside path that nothing has.
func tempName(path string) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-")
	if err != nil {
		return "", fmt.Errorf("write the hub's cache: %w", err)
	}
	f.Close()
	return f.Name(), os.Remove(f.Name())
}

func copyFile(dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
