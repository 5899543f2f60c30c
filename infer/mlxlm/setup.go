package mlxlm

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/internal/filelock"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// requirements is the pinned list, with hashes: mlx-lm and what it imports.
//
//go:embed requirements.txt
var requirements []byte

// Version is the release of mlx-lm that is pinned.
const Version = "0.32.2"

// marker is written into an environment when it is complete.
const marker = "installed"

// SetupOptions says where the environment goes. Only CacheDir is required, or
// DownloadOnly in its place.
type SetupOptions struct {
	// CacheDir is the product's cache folder.
	CacheDir string
	// From is a folder with the wheels, in place of fetching them.
	From string
	// DownloadOnly is a folder to fetch the wheels into, for a machine without
	// a network; nothing is installed.
	DownloadOnly string
	// Python is the interpreter to make the environment with, 3.11 or newer;
	// default: the first such in the path.
	Python string
	// Log gets what happens, a line at a time; nil is silent.
	Log func(string)
}

// environment is the folder of exactly these packages: others get another.
func environment(cacheDir string) string {
	sum := sha256.Sum256(requirements)
	return filepath.Join(cacheDir, "mlx", "mlx-lm-"+Version+"-"+hex.EncodeToString(sum[:4]))
}

func interpreter(dir string) string {
	if runtime.GOOS == "windows" {
		return filepath.Join(dir, "Scripts", "python.exe")
	}
	return filepath.Join(dir, "bin", "python")
}

// Supported says why MLX cannot run on a platform, "" where it can.
func Supported(goos, goarch string) string {
	switch goos + "/" + goarch {
	case "darwin/arm64", "linux/amd64", "linux/arm64":
		return ""
	case "darwin/amd64":
		return "MLX needs Apple silicon; this is an Intel Mac"
	}
	return fmt.Sprintf("the MLX packages are not published for %s/%s", goos, goarch)
}

// NotSetUpError says that there is no environment and what makes one.
type NotSetUpError struct{ Dir string }

func (e *NotSetUpError) Error() string {
	return fmt.Sprintf("the Python environment of mlx-lm %s is not there (%s); setup --backend mlx makes it", Version, e.Dir)
}

// Find returns the environment's interpreter, or a [NotSetUpError].
func Find(cacheDir string) (python string, err error) {
	dir := environment(cacheDir)
	if _, err := os.Stat(filepath.Join(dir, marker)); err != nil {
		return "", &NotSetUpError{Dir: dir}
	}
	return interpreter(dir), nil
}

// Setup makes the environment, where it is not complete yet, and returns its
// interpreter, or with DownloadOnly the folder of the wheels. Interrupted, it can
// be run again.
func Setup(ctx context.Context, o SetupOptions) (string, error) {
	if o.Log == nil {
		o.Log = func(string) {}
	}
	if why := Supported(runtime.GOOS, runtime.GOARCH); why != "" {
		return "", &tensor.UnsupportedError{What: "setting up mlx-lm: " + why}
	}
	if o.From != "" && o.DownloadOnly != "" {
		return "", errors.New("set up mlx-lm: --from and --download-only exclude each other")
	}
	if o.CacheDir == "" && o.DownloadOnly == "" {
		return "", errors.New("set up mlx-lm: no cache folder was given")
	}
	python := o.Python
	if python == "" {
		var err error
		if python, err = findPython(ctx); err != nil {
			return "", fmt.Errorf("set up mlx-lm %s: %w", Version, err)
		}
	}
	if o.DownloadOnly != "" {
		if err := o.download(ctx, python); err != nil {
			return "", fmt.Errorf("fetch mlx-lm %s: %w", Version, err)
		}
		return o.DownloadOnly, nil
	}
	dir := environment(o.CacheDir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("set up mlx-lm %s: %w", Version, err)
	}
	unlock, err := filelock.Lock(ctx, filepath.Join(filepath.Dir(dir), ".lock"), func() {
		o.Log("waiting for another setup that is using " + filepath.Dir(dir))
	})
	if err != nil {
		return "", fmt.Errorf("set up mlx-lm %s: %w", Version, err)
	}
	defer unlock()
	if python, err := Find(o.CacheDir); err == nil {
		return python, nil
	}
	if err := o.make(ctx, python, dir); err != nil {
		return "", fmt.Errorf("set up mlx-lm %s in %s: %w", Version, dir, err)
	}
	return interpreter(dir), nil
}

// make builds the environment. Debian's python3 can make one but not put pip
// into it, so pip installs from outside.
func (o *SetupOptions) make(ctx context.Context, python, dir string) error {
	o.Log("making a Python environment in " + dir)
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove a half-made environment: %w", err)
	}
	if err := run(ctx, python, "-m", "venv", "--without-pip", dir); err != nil {
		return err
	}
	list := filepath.Join(dir, "requirements.txt")
	if err := os.WriteFile(list, requirements, 0o644); err != nil {
		return err
	}
	o.Log("installing mlx-lm " + Version + " and what it imports, some 200 MB")
	args := []string{"-m", "pip", "--python", interpreter(dir), "install", "--quiet", "--disable-pip-version-check",
		"--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", list}
	if o.From != "" {
		args = append(args, "--no-index", "--find-links", o.From)
	}
	if err := run(ctx, python, args...); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, marker), nil, 0o644)
}

// download fetches the wheels for this platform.
func (o *SetupOptions) download(ctx context.Context, python string) error {
	if err := os.MkdirAll(o.DownloadOnly, 0o755); err != nil {
		return err
	}
	list := filepath.Join(o.DownloadOnly, "requirements.txt")
	if err := os.WriteFile(list, requirements, 0o644); err != nil {
		return err
	}
	o.Log("fetching mlx-lm " + Version + " and what it imports into " + o.DownloadOnly)
	return run(ctx, python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
		"--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", list, "-d", o.DownloadOnly)
}

// findPython returns the first interpreter in the path that is new enough and
// has pip.
func findPython(ctx context.Context) (string, error) {
	const check = "import sys, pip, venv; sys.exit(sys.version_info < (3, 11))"
	for _, name := range []string{"python3", "python", "python3.14", "python3.13", "python3.12", "python3.11"} {
		path, err := exec.LookPath(name)
		if err == nil && exec.CommandContext(ctx, path, "-c", check).Run() == nil {
			return path, nil
		}
	}
	return "", errors.New("no Python 3.11 or newer with pip and venv in the path; MLX models cannot be run without one")
}

func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%s: %w: %s", strings.Join(append([]string{name}, args...), " "), err, lastLines(out.String()))
	}
	return nil
}

// lastLines is the end of a program's output, on one line.
func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], " / ")
}
