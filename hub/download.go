package hub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Snapshot is a model on this machine.
type Snapshot struct {
	Ref Ref
	// Commit is what the revision stood for.
	Commit string
	// Dir holds the files.
	Dir string
	// Files are those that the filter chose.
	Files []File
}

// Path is what to open: the (first) GGUF file where one was chosen, since Dir
// may hold several, else Dir.
func (s *Snapshot) Path() string {
	for _, f := range s.Files {
		if strings.HasSuffix(strings.ToLower(f.Path), ".gguf") {
			return filepath.Join(s.Dir, filepath.FromSlash(f.Path))
		}
	}
	return s.Dir
}

// Download brings the files of r that the filter chooses into the cache, those
// that are not there yet. Where the hub cannot be reached or refuses, a
// snapshot that is complete in the cache serves, with a warning; with
// Options.Offline the hub is not asked.
//
// When ctx ends, what has come stays, and the next call goes on from there.
// Errors: [AccessError], [NotFoundError], [MissingError], [SpaceError],
// [HashError], [StatusError], those of the filter, of the network and of the
// disk.
func Download(ctx context.Context, r Ref, o Options) (*Snapshot, error) {
	s, err := resolve(ctx, r, o)
	if err != nil {
		return nil, fmt.Errorf("download %s: %w", r, err)
	}
	return s, nil
}

func resolve(ctx context.Context, r Ref, o Options) (*Snapshot, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if err := o.fill(r); err != nil {
		return nil, err
	}
	d := &download{
		remote:  remote{newClient(o), r},
		repo:    newRepo(o.CacheDir, r.ID),
		tracker: &tracker{report: o.Progress},
	}
	defer d.close()
	if o.Offline {
		return d.local(ctx, nil)
	}
	err := d.list(ctx)
	if err == nil {
		return d.run(ctx)
	}
	var gone *NotFoundError
	if ctx.Err() != nil || errors.As(err, &gone) {
		return nil, err
	}
	s, localErr := d.local(ctx, err)
	if localErr != nil {
		var refused *AccessError
		if errors.As(err, &refused) {
			return nil, err // that is the trouble, not what is missing
		}
		return nil, localErr
	}
	o.Logger.Warn("the hub does not answer, the cache is used", "model", r.ID, "commit", s.Commit, "error", err)
	return s, nil
}

// download is one call of [Download].
type download struct {
	remote
	repo    repo
	commit  string
	files   []File // all of the commit
	tracker *tracker
}

// list finds the commit and its files. A full commit whose list is in the
// cache needs no request.
func (d *download) list(ctx context.Context) (err error) {
	revision := d.ref.revision()
	if d.commit = revision; !commitHash.MatchString(revision) {
		if d.commit, err = d.remote.commit(ctx); err != nil {
			return err
		}
	}
	var ok bool
	if d.files, ok = d.repo.readTree(d.commit); !ok {
		if d.files, err = d.remote.files(ctx, d.commit); err != nil {
			return err
		}
		if err := d.repo.writeTree(d.commit, d.files); err != nil {
			return err
		}
		d.repo.tag()
	}
	return d.repo.setRef(revision, d.commit)
}

// run fetches the files that the filter chooses.
func (d *download) run(ctx context.Context) (*Snapshot, error) {
	chosen, err := d.o.Filter(ctx, Listing{Ref: d.ref, Files: d.files, read: d.read})
	if err != nil {
		return nil, err
	}
	missing, err := d.missing(chosen)
	if err != nil {
		return nil, err
	}
	if err := d.checkSpace(missing); err != nil {
		return nil, err
	}
	for _, f := range missing {
		d.tracker.expect(f.Size)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(d.o.Workers)
	for _, f := range missing {
		g.Go(func() error {
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			return d.fetch(gctx, f)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return d.snapshot(chosen), nil
}

func (d *download) snapshot(files []File) *Snapshot {
	return &Snapshot{Ref: d.ref, Commit: d.commit, Dir: d.repo.snapshot(d.commit), Files: files}
}

// missing lists the chosen files that the snapshot lacks. A filter may have
// made up files: only those of the list are safe to write.
func (d *download) missing(chosen []File) ([]File, error) {
	var missing []File
	for _, f := range chosen {
		switch {
		case !slices.Contains(d.files, f):
			return nil, fmt.Errorf("the filter chose %q, which is not in the list of files", f.Path)
		case !has(d.repo.pointer(d.commit, f.Path), f.Size):
			missing = append(missing, f)
		}
	}
	return missing, nil
}

// read fetches a file and reads it.
func (d *download) read(ctx context.Context, f File) ([]byte, error) {
	pointer := d.repo.pointer(d.commit, f.Path)
	if !has(pointer, f.Size) {
		d.tracker.expect(f.Size)
		if err := d.fetch(ctx, f); err != nil {
			return nil, err
		}
	}
	return os.ReadFile(pointer)
}

// checkSpace compares what is still to come with the disk. A system that does
// not tell its free space is not asked twice.
func (d *download) checkSpace(files []File) error {
	var need int64
	seen := map[string]bool{}
	for _, f := range files {
		blob := d.repo.blob(f.etag())
		if seen[blob] && !d.o.NoSymlinks {
			continue
		}
		seen[blob] = true
		switch st, err := os.Stat(blob + ".incomplete"); {
		case has(blob, f.Size) && !d.o.NoSymlinks: // a link is all it takes
		case err == nil && st.Size() <= f.Size:
			need += f.Size - st.Size()
		default:
			need += f.Size
		}
	}
	if need == 0 {
		return nil
	}
	dir := d.repo.dir
	for _, err := os.Stat(dir); err != nil && filepath.Dir(dir) != dir; _, err = os.Stat(dir) {
		dir = filepath.Dir(dir)
	}
	if free, err := d.o.FreeSpace(dir); err == nil && free < need {
		return &SpaceError{Dir: d.o.CacheDir, Need: need, Free: free}
	}
	return nil
}

// local makes the snapshot of the cache alone. why is the reason, nil for
// Options.Offline.
func (d *download) local(ctx context.Context, why error) (*Snapshot, error) {
	lacks := func(files ...string) error {
		return &MissingError{Ref: d.ref, Files: files, Cache: d.o.CacheDir, Err: why}
	}
	var err error
	if d.commit, err = d.repo.commitOf(d.ref.revision()); err != nil {
		return nil, err
	}
	if d.commit == "" {
		return nil, lacks()
	}
	files, listed := d.repo.readTree(d.commit)
	if !listed {
		if files, err = d.repo.listSnapshot(d.commit); err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, lacks()
	}
	chosen, err := d.o.Filter(ctx, Listing{Ref: d.ref, Files: files, read: func(_ context.Context, f File) ([]byte, error) {
		pointer := d.repo.pointer(d.commit, f.Path)
		if !has(pointer, f.Size) {
			return nil, lacks(f.Path)
		}
		return os.ReadFile(pointer)
	}})
	var gone *NotFoundError
	switch {
	case err != nil && !listed && errors.As(err, &gone) && gone.File != "":
		return nil, lacks(gone.File)
	case err != nil && !listed && !errors.As(err, new(*MissingError)):
		return nil, lacks("files: " + err.Error())
	case err != nil:
		return nil, err
	}
	var missing []string
	for _, f := range chosen {
		if !has(d.repo.pointer(d.commit, f.Path), f.Size) {
			missing = append(missing, f.Path)
		}
	}
	if len(missing) > 0 {
		return nil, lacks(missing...)
	}
	return d.snapshot(chosen), nil
}

// tracker adds up the progress of several files.
type tracker struct {
	report func(Progress)

	mu          sync.Mutex
	done, total int64
	files       []string
}

// expect adds a file's size to the total.
func (t *tracker) expect(n int64) { t.change(func() { t.total += n }) }

// add counts bytes that came, or that are to come again.
func (t *tracker) add(n int64) {
	if n != 0 {
		t.change(func() { t.done += n })
	}
}

func (t *tracker) begin(file string) { t.change(func() { t.files = append(t.files, file) }) }

func (t *tracker) end(file string) {
	t.change(func() { t.files = slices.DeleteFunc(t.files, func(f string) bool { return f == file }) })
}

func (t *tracker) change(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
	t.report(Progress{Done: t.done, Total: t.total, Files: slices.Clone(t.files)})
}
