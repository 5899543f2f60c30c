package hub

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/llama-pajamas/llama-pajamas/internal/filelock"
)

// fetch brings one file into the snapshot. Its size counts in the tracker's
// total already.
func (d *download) fetch(ctx context.Context, f File) error {
	blob := d.repo.blob(f.etag())
	if err := os.MkdirAll(filepath.Dir(blob), 0o777); err != nil {
		return fmt.Errorf("write the hub's cache: %w", err)
	}
	incomplete := blob + ".incomplete"
	unlock, err := filelock.Lock(ctx, d.repo.lock(f.etag()), func() {
		d.o.Logger.Info("wait for another program that fetches the file", "file", f.Path)
	})
	switch {
	case errors.Is(err, filelock.ErrUnsupported):
		// Without locks two processes would write to one file: each gets its
		// own, which cannot be resumed (huggingface_hub pull request 4228).
		incomplete = blob + "." + rand.Text()[:8] + ".incomplete"
		defer os.Remove(incomplete)
	case err != nil:
		return err
	default:
		defer unlock()
	}
	if has(d.repo.pointer(d.commit, f.Path), f.Size) {
		d.tracker.add(f.Size) // another process was faster
		return nil
	}
	fresh := !has(blob, f.Size)
	if fresh {
		d.tracker.begin(f.Path)
		defer d.tracker.end(f.Path)
		if err := d.content(ctx, f, incomplete); err != nil {
			return err
		}
		if err := os.Rename(incomplete, blob); err != nil {
			return fmt.Errorf("write the hub's cache: %w", err)
		}
	} else {
		d.tracker.add(f.Size)
	}
	return d.repo.link(f.etag(), d.commit, f.Path, fresh, d.o.NoSymlinks)
}

// content fetches the file to path and checks it. A wrong one is removed and
// fetched once more from its beginning.
func (d *download) content(ctx context.Context, f File, path string) error {
	for again := false; ; again = true {
		err := d.receive(ctx, f, path)
		var wrong *HashError
		if !errors.As(err, &wrong) {
			return err
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove a wrong file: %w", err)
		}
		if again {
			return wrong
		}
		d.o.Logger.Warn("a file came wrong, fetch it again", "file", f.Path, "kind", wrong.Kind, "want", wrong.Want, "got", wrong.Got)
	}
}

// receive appends to path until it has the file's size, over as many
// connections as it takes, and compares the hash.
func (d *download) receive(ctx context.Context, f File, path string) (err error) {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return fmt.Errorf("write the hub's cache: %w", err)
	}
	s := &sink{file: out, want: f, tracker: d.tracker}
	defer func() {
		var wrong *HashError
		if err := out.Close(); err != nil && s.err == nil {
			s.err = err
		}
		switch {
		case err == nil && s.err != nil:
			err = fmt.Errorf("write the hub's cache: %w", s.err)
		case errors.As(err, &wrong):
			d.tracker.add(-s.at)
		}
	}()
	if err := s.resume(ctx); err != nil {
		return fmt.Errorf("go on with %s: %w", path, err)
	}
	b, best := backoff{c: d.client, what: f.Path}, s.at
	for s.at < f.Size {
		err := d.part(ctx, s)
		if err == nil {
			continue
		}
		if s.at > best { // new bytes: the connection is worth another try
			best, b.tries = s.at, 0
		}
		if err := b.again(ctx, err); err != nil {
			return fmt.Errorf("fetch %s: %w", f.Path, err)
		}
	}
	if got := s.sum(); got != f.etag() {
		kind := "git blob sha1"
		if f.SHA256 != "" {
			kind = "sha256"
		}
		return &HashError{ID: d.ref.ID, File: f.Path, Kind: kind, Want: f.etag(), Got: got}
	}
	return nil
}

// sink is a file that grows, with the hash of what it has.
type sink struct {
	file    *os.File
	want    File
	tracker *tracker
	hash    hash.Hash
	at      int64
	err     error // of the file: no reason to ask the hub again
}

// restart begins anew.
func (s *sink) restart() {
	s.tracker.add(-s.at)
	s.at = 0
	if s.want.SHA256 != "" {
		s.hash = sha256.New()
		return
	}
	s.hash = sha1.New()
	fmt.Fprintf(s.hash, "blob %d\x00", s.want.Size) // git's object header
}

// resume reads what an earlier try has left.
func (s *sink) resume(ctx context.Context) error {
	s.restart()
	st, err := s.file.Stat()
	if err != nil {
		return err
	}
	if st.Size() > s.want.Size {
		return s.file.Truncate(0)
	}
	buf := make([]byte, 1<<20)
	for s.at < st.Size() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := s.file.ReadAt(buf[:min(int64(len(buf)), st.Size()-s.at)], s.at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		s.hash.Write(buf[:n])
		s.at += int64(n)
		s.tracker.add(int64(n))
	}
	return nil
}

func (s *sink) write(b []byte) error {
	if _, err := s.file.WriteAt(b, s.at); err != nil {
		s.err = err
		return err
	}
	s.hash.Write(b)
	s.at += int64(len(b))
	s.tracker.add(int64(len(b)))
	return nil
}

func (s *sink) sum() string { return hex.EncodeToString(s.hash.Sum(nil)) }

// permanent marks an error that another try would only repeat.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

var (
	errStalled = errors.New("nothing came for too long")
	errRange   = errors.New("the hub did not answer with the range asked for")
)

var contentRange = regexp.MustCompile(`^bytes (\d{1,18})-\d{1,18}/(\d{1,18})$`)

// part makes one request for the rest of the file.
func (d *download) part(ctx context.Context, s *sink) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	header := http.Header{}
	if s.at > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", s.at))
	}
	resp, err := d.get(ctx, d.address(d.commit, s.want.Path), header)
	if err != nil {
		return d.refused(ctx, s, err)
	}
	defer resp.Body.Close()
	total := resp.ContentLength
	if resp.StatusCode == http.StatusPartialContent {
		m := contentRange.FindStringSubmatch(resp.Header.Get("Content-Range"))
		if m == nil || m[1] != strconv.FormatInt(s.at, 10) {
			s.restart()
			return errRange
		}
		total, _ = strconv.ParseInt(m[2], 10, 64) // digits, by the pattern
	} else if s.at > 0 {
		s.restart() // a server that knows no ranges
	}
	if total >= 0 && total != s.want.Size {
		return d.wrongSize(s, strconv.FormatInt(total, 10))
	}
	stall := time.AfterFunc(d.o.Timeout, func() { cancel(errStalled) })
	defer stall.Stop()
	return d.body(ctx, s, resp.Body, stall)
}

// body copies the answer, which must not be longer than the file.
func (d *download) body(ctx context.Context, s *sink, r io.Reader, stall *time.Timer) error {
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		stall.Reset(d.o.Timeout)
		if int64(n) > s.want.Size-s.at {
			return d.wrongSize(s, "more")
		}
		if werr := s.write(buf[:n]); werr != nil {
			return permanent{fmt.Errorf("write the hub's cache: %w", werr)}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) && s.at == s.want.Size:
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("the answer ended after %d of %d bytes", s.at, s.want.Size)
		case context.Cause(ctx) != nil:
			return context.Cause(ctx)
		default:
			return err
		}
	}
}

// wrongSize is a file of another size than the list says, which asking for the
// rest cannot mend.
func (d *download) wrongSize(s *sink, got string) error {
	return permanent{&HashError{ID: d.ref.ID, File: s.want.Path, Kind: "size", Want: strconv.FormatInt(s.want.Size, 10), Got: got}}
}

// refused says what an error of a request means for the file.
func (d *download) refused(ctx context.Context, s *sink, err error) error {
	var status *StatusError
	switch {
	case !errors.As(err, &status), status.transient():
		return err
	case status.Status == http.StatusRequestedRangeNotSatisfiable && s.at > 0:
		s.restart()
		return errRange
	}
	return permanent{d.explain(ctx, err, s.want.Path)}
}
