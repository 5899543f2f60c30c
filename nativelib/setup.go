package nativelib

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// SetupOptions says what to install. Only CacheDir is required, or
// DownloadOnly in its place.
type SetupOptions struct {
	// Backend is one of [Backends]; default "cpu".
	Backend string
	// CacheDir is the product's cache folder.
	CacheDir string
	// From is an archive or a folder to install from instead of fetching: the
	// pinned archive or a folder with it (its checksum must be right), another
	// archive, or a folder with the libraries themselves. What is not pinned
	// is the user's own choice and is found before what is.
	From string
	// DownloadOnly is a folder to fetch and check the pinned archive into,
	// for carrying it to another machine; nothing is installed.
	DownloadOnly string
	// OS and Arch are this machine's by default.
	OS, Arch string
	// Log gets what happens, a line at a time; nil is silent.
	Log func(string)
	// Pip and NPM are the programs to use; default: those in the path.
	Pip, NPM string
	// Open, where not nil, tries the installed library at the end.
	Open func(path string) error
}

// Installed is the outcome of [Setup].
type Installed struct {
	// Path is the library to open, or the archive after DownloadOnly.
	Path string
	// Package and Version are "" for libraries the user brought.
	Package, Version string
	// Before is true where all was there, and unharmed, already.
	Before bool
	// Needs is what else must be installed for the backend; "" for nothing.
	Needs string
}

// Setup installs a backend's library into the cache folder. It can be
// interrupted at any time and run again: files get their final names when they
// are complete and checked.
func Setup(ctx context.Context, o SetupOptions) (Installed, error) {
	if err := o.defaults(); err != nil {
		return Installed{}, err
	}
	pin, err := FindPin(o.Backend, o.OS, o.Arch)
	return o.run(ctx, pin, err)
}

// run is Setup with the pin found, or the reason why there is none.
func (o SetupOptions) run(ctx context.Context, pin Pin, pinErr error) (Installed, error) {
	if o.DownloadOnly != "" {
		if pinErr != nil {
			return Installed{}, pinErr
		}
		file, err := fetch(ctx, pin, o.DownloadOnly, o)
		return Installed{Path: file, Package: pin.Package, Version: pin.Version, Needs: pin.Needs}, err
	}
	if pinErr != nil && (o.From == "" || !slices.Contains(Backends(), o.Backend)) {
		return Installed{}, pinErr
	}
	unlock, err := lock(ctx, o.CacheDir, o.Log)
	if err != nil {
		return Installed{}, err
	}
	defer unlock()
	removeLeftovers(filepath.Join(o.CacheDir, "lib"))
	in, err := o.install(ctx, pin)
	if err != nil {
		return Installed{}, err
	}
	if o.Open != nil {
		if err := o.Open(in.Path); err != nil {
			return Installed{}, fmt.Errorf("the library was installed as %s but does not open: %w", in.Path, err)
		}
	}
	return in, nil
}

func (o *SetupOptions) defaults() error {
	if o.CacheDir == "" && o.DownloadOnly == "" {
		return fmt.Errorf("set up a library: no cache folder was given")
	}
	if o.From != "" && o.DownloadOnly != "" {
		return fmt.Errorf("set up a library: --from and --download-only exclude each other")
	}
	if o.Backend == "" {
		o.Backend = "cpu"
	}
	if o.OS == "" {
		o.OS = runtime.GOOS
	}
	if o.Arch == "" {
		o.Arch = runtime.GOARCH
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	return nil
}

// target is the folder a pin is installed into.
func (o *SetupOptions) target(p Pin) string {
	if o.CacheDir == "" {
		return o.DownloadOnly
	}
	return filepath.Join(o.CacheDir, filepath.FromSlash(p.dir()))
}

// localDir is the folder of libraries that the user brought.
func (o *SetupOptions) localDir(kind Kind) string {
	return filepath.Join(o.CacheDir, filepath.FromSlash(localDir(kind, o.OS, o.Arch)))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// install installs the pinned package or what the user brought.
func (o SetupOptions) install(ctx context.Context, pin Pin) (Installed, error) {
	if o.From != "" {
		file, pinned, err := o.resolveFrom(pin)
		if err != nil {
			return Installed{}, err
		}
		if !pinned {
			return o.installLocal(ctx, file)
		}
		return o.installPin(ctx, pin, file)
	}
	if local := o.localDir(pin.Kind); exists(local) {
		o.Log("the libraries you brought in " + local + " are found first; remove that folder to use the pinned ones")
	}
	if dir := o.target(pin); pin.holds(dir) {
		in, err := o.installed(pin, dir)
		in.Before = true
		return in, err
	}
	file, err := fetch(ctx, pin, o.downloads(), o)
	if err != nil {
		return Installed{}, err
	}
	in, err := o.installPin(ctx, pin, file)
	if err == nil {
		o.dropDownload(file)
	}
	return in, err
}

// downloads is the folder of archives that are being installed.
func (o *SetupOptions) downloads() string { return filepath.Join(o.CacheDir, "download") }

// dropDownload removes an installed archive from the downloads, where it is of
// no further use; failing to do so harms nothing. What the user brought stays.
func (o *SetupOptions) dropDownload(file string) {
	if filepath.Dir(file) == o.downloads() {
		_ = os.Remove(file)
	}
}

// resolveFrom finds out what the user brought. A file of the pinned archive's
// name must have its checksum.
func (o SetupOptions) resolveFrom(pin Pin) (file string, pinned bool, err error) {
	info, err := os.Stat(o.From)
	if err != nil {
		return "", false, fmt.Errorf("set up from a file or folder: %w", err)
	}
	file = o.From
	if info.IsDir() && pin.File != "" {
		if _, err := os.Stat(filepath.Join(o.From, pin.File)); err == nil {
			file = filepath.Join(o.From, pin.File)
		}
	}
	if pin.File == "" || filepath.Base(file) != pin.File {
		return file, false, nil
	}
	if err := checkSum(file, pin.SHA256); err != nil {
		return "", false, fmt.Errorf("set up from %s: %w", o.From, err)
	}
	return file, true, nil
}

func (o SetupOptions) installPin(ctx context.Context, pin Pin, file string) (Installed, error) {
	dir := o.target(pin)
	o.Log("unpacking into " + dir)
	err := replaceDir(dir, func(tmp string) error {
		if err := unpackArchive(ctx, file, tmp); err != nil {
			return err
		}
		if err := link(tmp, pin.Links); err != nil {
			return err
		}
		return writeManifest(tmp, manifest{Package: pin.Package, Version: pin.Version, Archive: pin.File, SHA256: pin.SHA256})
	})
	if err != nil {
		return Installed{}, fmt.Errorf("install %s %s: %w", pin.Package, pin.Version, err)
	}
	return o.installed(pin, dir)
}

func (o SetupOptions) installed(pin Pin, dir string) (Installed, error) {
	file, why := firstIn(dir, fileNames(pin.Kind, o.OS))
	if why != "" {
		return Installed{}, fmt.Errorf("install %s %s: %s in %s", pin.Package, pin.Version, why, dir)
	}
	return Installed{Path: file, Package: pin.Package, Version: pin.Version, Needs: pin.Needs}, nil
}

// installLocal installs an archive or folder of the user's choice.
func (o SetupOptions) installLocal(ctx context.Context, from string) (Installed, error) {
	kind := ONNXRuntime
	if strings.HasPrefix(o.Backend, string(LlamaCpp)) {
		kind = LlamaCpp
	}
	dir := o.localDir(kind)
	o.Log("installing what you brought, unchecked, into " + dir)
	err := replaceDir(dir, func(tmp string) error {
		info, err := os.Stat(from)
		if err != nil {
			return err
		}
		var sum string
		if info.IsDir() {
			err = copyFolder(ctx, from, tmp)
		} else if err = unpackArchive(ctx, from, tmp); err == nil {
			sum, err = sha256Of(from)
		}
		if err != nil {
			return err
		}
		if _, why := firstIn(tmp, fileNames(kind, o.OS)); why != "" {
			return fmt.Errorf("%s in it", why)
		}
		return writeManifest(tmp, manifest{Archive: from, SHA256: sum})
	})
	if err != nil {
		return Installed{}, fmt.Errorf("install %s from %s: %w", kind, from, err)
	}
	file, why := firstIn(dir, fileNames(kind, o.OS))
	if why != "" {
		return Installed{}, fmt.Errorf("install %s from %s: %s in %s", kind, from, why, dir)
	}
	return Installed{Path: file}, nil
}

// stagingPrefix begins the names of folders that are not complete, or no
// longer wanted.
const stagingPrefix = ".staging-"

// replaceDir lets fill write a new folder beside dir and then puts it in dir's
// place; whatever fails, dir is the old one or the new one.
func replaceDir(dir string, fill func(tmp string) error) error {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, stagingPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	fresh := filepath.Join(tmp, "new")
	if err := os.Mkdir(fresh, 0o755); err != nil {
		return err
	}
	if err := fill(fresh); err != nil {
		return err
	}
	old := filepath.Join(tmp, "old")
	if err := os.Rename(dir, old); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("put the old folder aside (is a program using it?): %w", err)
	}
	if err := os.Rename(fresh, dir); err != nil {
		_ = os.Rename(old, dir) // the first error tells more
		return err
	}
	return nil
}

// removeLeftovers removes staging folders that interrupted setups left in dir
// and in its folders. The lock is held, so none is in use.
func removeLeftovers(dir string) {
	for _, e := range entriesOf(dir) {
		full := filepath.Join(dir, e)
		if strings.HasPrefix(e, stagingPrefix) {
			_ = os.RemoveAll(full) // what stays is tried again by the next setup
			continue
		}
		for _, inner := range entriesOf(full) {
			if strings.HasPrefix(inner, stagingPrefix) {
				_ = os.RemoveAll(filepath.Join(full, inner))
			}
		}
	}
}

// entriesOf lists the names in a folder, none where it cannot be read.
func entriesOf(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}
