package nativelib

import (
	"debug/elf"
	"debug/pe"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Dependency is a shared library that another one was linked with.
type Dependency struct {
	Name     string // as the file says it, such as "libnvinfer.so.10"
	Path     string // where it was found; "" if it was not
	NeededBy string // base name of the file that needs it
	// Searched is true where the system's loader finds it by itself: in the
	// system's folders or the library path. Others must be opened first.
	Searched bool
}

// DependOptions says where the libraries of a GPU's maker may lie.
type DependOptions struct {
	// LibraryPath lists folders the loader searches besides the system's, such
	// as the value of LD_LIBRARY_PATH, split.
	LibraryPath []string
	// SitePackages lists folders of Python packages: pip's packages of CUDA,
	// cuDNN and TensorRT carry the libraries.
	SitePackages []string
	// OS and Arch are GOOS and GOARCH of this machine by default.
	OS, Arch string
	// Root stands for the folder "/", for tests.
	Root string
}

// maxDependencies bounds the walk: CUDA, cuDNN and TensorRT have some thirty.
const maxDependencies = 256

// Dependencies lists what file needs, and what that needs in turn, those first
// that others need. Libraries of the operating system itself are left out:
// those that lie in its folders, of which nothing further is asked. A missing
// library is in the list with an empty Path.
//
// It reads ELF and PE files; on macOS the list is empty, as no package there
// leaves its libraries to the user.
func Dependencies(file string, o DependOptions) ([]Dependency, error) {
	if o.OS == "" {
		o.OS = runtime.GOOS
	}
	if o.Arch == "" {
		o.Arch = runtime.GOARCH
	}
	if o.OS == "darwin" {
		return nil, nil
	}
	w := &dependWalk{o: o, seen: map[string]bool{}, system: o.systemFolders(), extra: o.packageFolders()}
	if err := w.visit(file); err != nil {
		return nil, fmt.Errorf("list the libraries %s needs: %w", file, err)
	}
	return w.list, nil
}

// Missing lists the names of the dependencies that were not found.
func Missing(list []Dependency) []string {
	var names []string
	for _, d := range list {
		if d.Path == "" {
			names = append(names, d.Name)
		}
	}
	return names
}

// MissingHint says what installs libraries of these names.
func MissingHint(names []string) string {
	var hints []string
	add := func(h string) {
		if !slices.Contains(hints, h) {
			hints = append(hints, h)
		}
	}
	for _, n := range names {
		n = strings.ToLower(n)
		switch {
		case strings.Contains(n, "nvinfer") || strings.Contains(n, "nvonnxparser"):
			add("TensorRT 10.x (Debian package libnvinfer10 and libnvonnxparsers10, or pip package tensorrt-cu13-libs 10.x)")
		case strings.Contains(n, "cudnn"):
			add("cuDNN 9 (Debian package libcudnn9-cuda-13, or pip package nvidia-cudnn-cu13)")
		case strings.Contains(n, "libcuda.so") || strings.Contains(n, "nvcuda"):
			add("the NVIDIA driver")
		case strings.Contains(n, "cublas") || strings.Contains(n, "cudart") || strings.Contains(n, "curand") || strings.Contains(n, "cufft") || strings.Contains(n, "nvrtc"):
			add("CUDA 13 (NVIDIA's installer, or pip packages nvidia-cuda-runtime, nvidia-cublas, nvidia-curand)")
		}
	}
	if len(hints) == 0 {
		return ""
	}
	return "install " + strings.Join(hints, "; ") + "; folders in LD_LIBRARY_PATH and Python's site-packages are searched"
}

// dependWalk visits files depth first.
type dependWalk struct {
	o      DependOptions
	seen   map[string]bool
	system []string // folders of the system
	extra  []string // folders of packages
	list   []Dependency
}

func (w *dependWalk) visit(file string) error {
	names, err := imports(file, w.o.OS)
	if err != nil {
		return err
	}
	for _, name := range names {
		key := strings.ToLower(name)
		if w.seen[key] || len(w.seen) >= maxDependencies {
			continue
		}
		w.seen[key] = true
		d := Dependency{Name: name, NeededBy: filepath.Base(file)}
		ours := true
		d.Path, d.Searched, ours = w.find(name, filepath.Dir(file))
		if !ours {
			continue
		}
		if d.Path != "" {
			// What cannot be read here will not load either; the loader's own
			// message tells more.
			_ = w.visit(d.Path)
		}
		w.list = append(w.list, d)
	}
	return nil
}

// find looks for a library; ours is false for those of the system.
func (w *dependWalk) find(name, beside string) (path string, searched, ours bool) {
	if w.o.OS == "windows" && isWindowsName(name) {
		return "", true, false
	}
	for _, dir := range w.o.LibraryPath {
		if p := fileIn(dir, name); p != "" {
			return p, true, true
		}
	}
	for _, dir := range w.system {
		if p := fileIn(dir, name); p != "" {
			return p, true, vendorName(name)
		}
	}
	for _, dir := range append([]string{beside}, w.extra...) {
		if p := fileIn(dir, name); p != "" {
			return p, false, true
		}
	}
	// The loader itself has other names in other systems.
	return "", false, vendorName(name) || !strings.HasPrefix(name, "ld-")
}

// vendorName reports libraries of NVIDIA, which are worth listing wherever they
// lie.
func vendorName(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"cuda", "cublas", "cudnn", "cudart", "curand", "cufft", "cusparse", "cusolver", "nvrtc", "nvinfer", "nvonnxparser", "nvjitlink"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// isWindowsName reports what every Windows has.
func isWindowsName(name string) bool {
	n := strings.ToLower(name)
	for _, p := range []string{"api-ms-win-", "ext-ms-", "kernel32", "user32", "advapi32", "msvcp", "vcruntime", "ucrtbase", "ole32", "shell32", "dbghelp", "dxgi", "d3d12", "setupapi", "ws2_32", "onnxruntime"} {
		if strings.HasPrefix(n, p) {
			return true
		}
	}
	return false
}

func fileIn(dir, name string) string {
	if dir == "" || name != filepath.Base(name) {
		return ""
	}
	p := filepath.Join(dir, name)
	if info, err := os.Stat(p); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return p
}

// imports reads the names of the libraries a file is linked with.
func imports(file, goos string) ([]string, error) {
	if goos == "windows" {
		f, err := pe.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return f.ImportedLibraries()
	}
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ImportedLibraries()
}

// systemFolders are the loader's: the fixed ones and those its configuration
// lists.
func (o *DependOptions) systemFolders() []string {
	var dirs []string
	add := func(dir string) {
		dir = filepath.Join(o.Root, dir)
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range systemDirs(o.OS, o.Arch) {
		add(dir)
	}
	if o.OS != "linux" {
		return dirs
	}
	triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[o.Arch]
	add("/lib/" + triplet)
	add("/lib64")
	add("/lib")
	files, err := filepath.Glob(filepath.Join(escapeMeta(o.Root), "/etc/ld.so.conf.d/*.conf"))
	if err != nil {
		return dirs
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if line, _, _ = strings.Cut(strings.TrimSpace(line), "#"); strings.HasPrefix(line, "/") {
				add(strings.TrimSpace(line))
			}
		}
	}
	return dirs
}

// packageFolders are the folders of CUDA's installer and of pip's packages:
// nvidia/<part>/lib, nvidia/cu13/lib, tensorrt_libs.
func (o *DependOptions) packageFolders() []string {
	var dirs []string
	glob := func(pattern string) {
		found, err := filepath.Glob(pattern)
		if err != nil { // the patterns are well formed
			return
		}
		slices.Sort(found)
		dirs = append(dirs, found...)
	}
	sub := "lib"
	if o.OS == "windows" {
		sub = "bin"
	} else {
		for _, pattern := range []string{"/usr/local/cuda/lib64", "/usr/local/cuda-13*/lib64", "/usr/local/cuda/targets/*/lib"} {
			glob(escapeMeta(o.Root) + pattern)
		}
	}
	for _, site := range o.SitePackages {
		site = escapeMeta(site)
		glob(filepath.Join(site, "tensorrt_libs"))
		glob(filepath.Join(site, "nvidia", "cu13", sub))
		glob(filepath.Join(site, "nvidia", "*", sub))
	}
	return dirs
}

func escapeMeta(dir string) string {
	if filepath.Separator == '\\' {
		return dir // no escapes in Windows patterns
	}
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(dir)
}
