package nativelib

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// maxLibrary bounds what is unpacked of one archive, in bytes: an archive that
// the user brings has no known checksum, and 100 bytes of it may claim
// terabytes.
const maxLibrary = 4 << 30

// notices are kept beside the libraries, as their licences ask for.
var notices = []string{"LICENSE", "ThirdPartyNotices.txt"}

var sharedLibrary = regexp.MustCompile(`\.(so(\.[0-9]+)*|dylib|dll)$`)

// wanted reports whether a file of an archive or folder is unpacked. Python's
// own module is not: it is as large as the library, and nothing here opens it.
func wanted(name string) bool {
	base := path.Base(name)
	for _, n := range notices {
		if base == n && strings.Count(name, "/") <= 1 {
			return true
		}
	}
	return sharedLibrary.MatchString(base) && !strings.Contains(base, "pybind11") && !strings.Contains(base, "cpython")
}

// unpacker copies wanted files into a folder, all at its top, and refuses two
// of one name.
type unpacker struct {
	ctx    context.Context
	dir    string
	wanted func(name string) bool
	left   int64 // bytes that may still be written
	sync   bool  // write through to the disk before the next file
	seen   map[string]string
}

func newUnpacker(ctx context.Context, dir string) *unpacker {
	return &unpacker{ctx: ctx, dir: dir, wanted: wanted, left: maxLibrary, sync: true, seen: map[string]string{}}
}

// add writes one file. Only the last part of its name is used, so no name
// leaves the folder.
func (u *unpacker) add(name string, r io.Reader) error {
	if err := u.ctx.Err(); err != nil {
		return context.Cause(u.ctx)
	}
	base := path.Base(name)
	if other, ok := u.seen[base]; ok {
		return fmt.Errorf("%s and %s have one name", other, name)
	}
	u.seen[base] = name
	mode := os.FileMode(0o644)
	if sharedLibrary.MatchString(base) {
		mode = 0o755
	}
	w, err := os.OpenFile(filepath.Join(u.dir, base), os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	n, err := io.Copy(w, io.LimitReader(r, u.left+1))
	if u.left -= n; err == nil && u.left < 0 {
		err = fmt.Errorf("%s: the archive unpacks to more than %d GB", name, maxLibrary>>30)
	}
	if err == nil && u.sync {
		err = w.Sync()
	}
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	return err
}

// unpackArchive copies the libraries and notices of a wheel or npm archive
// into dir.
func unpackArchive(ctx context.Context, file, dir string) error {
	u := newUnpacker(ctx, dir)
	if err := u.archive(file); err != nil {
		return err
	}
	if len(u.seen) == 0 {
		return fmt.Errorf("unpack %s: it holds no shared library", file)
	}
	return nil
}

// archive copies the wanted files of a zip (a wheel) or a compressed tar.
func (u *unpacker) archive(file string) error {
	unpack := u.zip
	if strings.HasSuffix(file, ".tgz") || strings.HasSuffix(file, ".tar.gz") {
		unpack = u.tarGz
	}
	if err := unpack(file); err != nil {
		return fmt.Errorf("unpack %s: %w", file, err)
	}
	return nil
}

func (u *unpacker) zip(file string) error {
	z, err := zip.OpenReader(file)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, f := range z.File {
		if !f.Mode().IsRegular() || !u.wanted(f.Name) {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		err = u.add(f.Name, r)
		r.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) tarGz(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeReg && u.wanted(h.Name) {
			if err := u.add(h.Name, tr); err != nil {
				return err
			}
		}
	}
}

// copyFolder copies the libraries and notices at the top of a folder the user
// brought; links are followed, so that what is copied stands alone.
func copyFolder(ctx context.Context, from, dir string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	u := newUnpacker(ctx, dir)
	for _, e := range entries {
		full := filepath.Join(from, e.Name())
		if info, err := os.Stat(full); err != nil || !info.Mode().IsRegular() || !u.wanted(e.Name()) {
			continue
		}
		f, err := os.Open(full)
		if err != nil {
			return err
		}
		err = u.add(e.Name(), f)
		f.Close()
		if err != nil {
			return fmt.Errorf("copy %s: %w", full, err)
		}
	}
	return nil
}

// link makes the names that loaders expect. Where the file system has no
// symbolic links the file is linked hard, or copied.
func link(dir string, links map[string]string) error {
	for name, file := range links {
		target := filepath.Join(dir, file)
		if _, err := os.Stat(target); err != nil {
			return fmt.Errorf("link %s: the archive has no %s", name, file)
		}
		full := filepath.Join(dir, name)
		if os.Symlink(file, full) == nil || os.Link(target, full) == nil {
			continue
		}
		if err := copyFile(target, full); err != nil {
			return fmt.Errorf("link %s: %w", name, err)
		}
	}
	return nil
}

func copyFile(from, to string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		w.Close()
		return err
	}
	return w.Close()
}
