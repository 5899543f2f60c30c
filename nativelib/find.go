package nativelib

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// FindOptions says where to look for a library. Fields left empty are passed
// over.
type FindOptions struct {
	// Flag is a file or folder named on the command line, and FlagName what
	// the flag is called. Env and EnvName are the same of an environment
	// variable. What is named must be right: nothing else is tried then.
	Flag, FlagName string
	Env, EnvName   string
	// ExeDir is the folder of the running program.
	ExeDir string
	// CacheDir is the product's cache folder, which setup installs into.
	CacheDir string
	// LibraryPath lists folders the system's loader searches besides its own,
	// such as the value of LD_LIBRARY_PATH, split.
	LibraryPath []string
	// Backend picks the installed package: "cpu" by default for ONNX Runtime.
	Backend string
	// SetupCommand is what the user types to install it for Backend, for the
	// error. Default "setup", with --backend where that is not "cpu".
	SetupCommand string
	// OS and Arch are GOOS and GOARCH of this machine by default.
	OS, Arch string
}

// Found is a library that was found.
type Found struct {
	Path  string // of the file, symbolic links not followed
	Where string // which place it was found in, for doctor
}

// Place is where a library was looked for, in vain.
type Place struct {
	Where string // such as "beside the program"
	Path  string
	Why   string // such as "no such folder"
}

// NotFoundError says where a library was looked for and what would fetch it.
type NotFoundError struct {
	Kind   Kind
	Looked []Place
	// Setup is the remedy in words.
	Setup string
}

// Error names every place and the remedy.
func (e *NotFoundError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the %s library was not found; looked", e.Kind)
	for i, p := range e.Looked {
		if i > 0 {
			b.WriteString(";")
		}
		fmt.Fprintf(&b, " %s in %s (%s)", p.Where, p.Path, p.Why)
	}
	if len(e.Looked) == 0 {
		b.WriteString(" nowhere")
	}
	return b.String() + ". " + e.Setup
}

// fileNames are the names a library has on a system, the plainest first.
func fileNames(kind Kind, goos string) []string {
	base := map[Kind]string{ONNXRuntime: "onnxruntime", LlamaCpp: "llama"}[kind]
	switch goos {
	case "windows":
		return []string{base + ".dll"}
	case "darwin":
		return []string{"lib" + base + ".dylib", "lib" + base + ".*.dylib"}
	}
	return []string{"lib" + base + ".so", "lib" + base + ".so.*", "lib" + base + ".*.so"}
}

// systemDirs are the folders the system's loader searches. Windows has none
// here: its System32 may hold an old onnxruntime.dll of its own.
func systemDirs(goos, arch string) []string {
	switch goos {
	case "darwin":
		return []string{"/opt/homebrew/lib", "/usr/local/lib"}
	case "linux":
		triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[arch]
		return []string{"/usr/local/lib", "/usr/lib/" + triplet, "/usr/lib64", "/usr/lib"}
	}
	return nil
}

// Find returns the library to open: what the flag or the variable names, else
// the first found beside the program, in the cache folder (what the user
// brought before what setup pinned), or in the system.
func Find(kind Kind, o FindOptions) (Found, error) {
	o.defaults(kind)
	for _, given := range []struct{ path, name, kind string }{{o.Flag, o.FlagName, "flag"}, {o.Env, o.EnvName, "variable"}} {
		if given.path != "" {
			return findGiven(kind, o.OS, given.path, strings.TrimSpace(given.kind+" "+given.name))
		}
	}
	e := &NotFoundError{Kind: kind, Setup: o.remedy(kind)}
	for _, p := range o.places(kind) {
		file, why := firstIn(p.Path, fileNames(kind, o.OS))
		if why == "" {
			return Found{Path: file, Where: p.Where}, nil
		}
		p.Why = why
		e.Looked = append(e.Looked, p)
	}
	return Found{}, e
}

func (o *FindOptions) defaults(kind Kind) {
	if o.OS == "" {
		o.OS = runtime.GOOS
	}
	if o.Arch == "" {
		o.Arch = runtime.GOARCH
	}
	if o.Backend == "" {
		o.Backend = "cpu"
		if kind == LlamaCpp {
			o.Backend = "llama.cpp"
		}
	}
	if o.SetupCommand == "" {
		o.SetupCommand = "setup"
		if o.Backend != "cpu" {
			o.SetupCommand += " --backend " + o.Backend
		}
	}
}

// places lists the folders to look in, in order.
func (o *FindOptions) places(kind Kind) []Place {
	var places []Place
	add := func(where, dir string) {
		if !slices.ContainsFunc(places, func(p Place) bool { return p.Path == dir }) {
			places = append(places, Place{Where: where, Path: dir})
		}
	}
	if o.ExeDir != "" {
		add("beside the program", o.ExeDir)
		add("beside the program", filepath.Join(o.ExeDir, "lib"))
		add("beside the program", filepath.Join(filepath.Dir(o.ExeDir), "lib"))
	}
	if o.CacheDir != "" {
		add("in the cache folder", filepath.Join(o.CacheDir, filepath.FromSlash(localDir(kind, o.OS, o.Arch))))
		if pin, err := FindPin(o.Backend, o.OS, o.Arch); err == nil && pin.Kind == kind {
			add("in the cache folder", filepath.Join(o.CacheDir, filepath.FromSlash(pin.dir())))
		}
	}
	for _, dir := range o.LibraryPath {
		if dir != "" {
			add("in the library path", dir)
		}
	}
	for _, dir := range systemDirs(o.OS, o.Arch) {
		add("in the system", dir)
	}
	return places
}

// remedy says what setup would do.
func (o *FindOptions) remedy(kind Kind) string {
	pin, err := FindPin(o.Backend, o.OS, o.Arch)
	if err != nil || pin.Kind != kind {
		return "There is no package to fetch for this machine: " + missingHint(o.Backend, o.OS, o.Arch)
	}
	dir := "the cache folder"
	if o.CacheDir != "" {
		dir = filepath.Join(o.CacheDir, filepath.FromSlash(pin.dir()))
	}
	return fmt.Sprintf("Run %q: it fetches %s %s (%s) with %s, checks it and unpacks it into %s",
		o.SetupCommand, pin.Package, pin.Version, megabytes(pin.Size), tool(pin.Source), dir)
}

func megabytes(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }

// findGiven resolves a file or folder the user named.
func findGiven(kind Kind, goos, path, how string) (Found, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Found{}, fmt.Errorf("find the %s library named by %s: %w", kind, how, err)
	}
	if !info.IsDir() {
		return Found{Path: path, Where: "named by " + how}, nil
	}
	file, why := firstIn(path, fileNames(kind, goos))
	if why != "" {
		return Found{}, fmt.Errorf("find the %s library named by %s: %s in %s", kind, how, why, path)
	}
	return Found{Path: file, Where: "named by " + how}, nil
}

// firstIn returns the first file in dir that a pattern matches, the newest
// version of several; why is "" when there is one.
func firstIn(dir string, patterns []string) (file, why string) {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return "", "no such folder"
	}
	if err != nil {
		return "", err.Error()
	}
	for _, pattern := range patterns {
		best := ""
		for _, e := range entries {
			if ok, _ := filepath.Match(pattern, e.Name()); !ok { // the patterns are well formed
				continue
			}
			full := filepath.Join(dir, e.Name())
			if info, err := os.Stat(full); err != nil || !info.Mode().IsRegular() {
				continue
			}
			if best == "" || newer(e.Name(), filepath.Base(best)) {
				best = full
			}
		}
		if best != "" {
			return best, ""
		}
	}
	return "", "no " + patterns[0]
}

// newer compares names by the numbers in them: libx.so.1.32.0 is newer than
// libx.so.1.9.
func newer(a, b string) bool {
	return slices.Compare(numbers(a), numbers(b)) > 0
}

func numbers(name string) []int {
	var list []int
	in := false
	for _, r := range name {
		if r < '0' || r > '9' {
			in = false
			continue
		}
		if !in {
			list = append(list, 0)
			in = true
		}
		list[len(list)-1] = min(list[len(list)-1]*10+int(r-'0'), 1<<20)
	}
	return list
}
