package oracle

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// requirements is the pinned list, with hashes, made from requirements.in.
//
//go:embed requirements.txt
var requirements []byte

// marker is written into a Python environment when it is complete.
const marker = "installed"

// cacheDir is the oracle folder under the user's cache folder.
func cacheDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder: %w", err)
	}
	return filepath.Join(cache, "llama-pajamas", "oracle"), nil
}

// venvDir is the environment of exactly these requirements: changed ones get a
// new folder, and branches with different ones do not disturb each other.
func venvDir(cache string) string {
	sum := sha256.Sum256(requirements)
	return filepath.Join(cache, "venv-"+hex.EncodeToString(sum[:6]))
}

func interpreter(venv string) string {
	if runtime.GOOS == "windows" {
		return filepath.Join(venv, "Scripts", "python.exe")
	}
	return filepath.Join(venv, "bin", "python")
}

// Install makes the Python environment, if it is not complete yet, and returns
// its folder. It wants Python 3.11 or newer with pip; wheels only, so nothing
// is compiled. Progress goes to log. A half-made environment is made again.
func Install(ctx context.Context, log io.Writer) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	venv := venvDir(cache)
	if _, err := os.Stat(filepath.Join(venv, marker)); err == nil {
		return venv, nil
	}
	python, err := findPython(ctx)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(log, "oracle: installing the reference programs into %s\n", venv)
	if err := os.RemoveAll(venv); err != nil {
		return "", fmt.Errorf("remove a half-made environment: %w", err)
	}
	// Debian's python3 has venv but not the module that puts pip into one:
	// pip installs from outside.
	if err := command(ctx, log, python, "-m", "venv", "--without-pip", venv); err != nil {
		return "", err
	}
	list := filepath.Join(venv, "requirements.txt")
	if err := os.WriteFile(list, requirements, 0o644); err != nil {
		return "", fmt.Errorf("write the requirements: %w", err)
	}
	if err := command(ctx, log, python, "-m", "pip", "--python", interpreter(venv), "install", "--quiet",
		"--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", list); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(venv, marker), nil, 0o644); err != nil {
		return "", fmt.Errorf("mark the environment complete: %w", err)
	}
	return venv, nil
}

// findPython returns the first interpreter on PATH that is new enough and has
// pip.
func findPython(ctx context.Context) (string, error) {
	const check = "import sys, pip, venv; sys.exit(sys.version_info < (3, 11))"
	for _, name := range []string{"python3", "python", "python3.14", "python3.13", "python3.12", "python3.11"} {
		path, err := exec.LookPath(name)
		if err == nil && exec.CommandContext(ctx, path, "-c", check).Run() == nil {
			return path, nil
		}
	}
	return "", errors.New("find Python: no Python 3.11 or newer with pip on PATH; install python3 and python3-pip")
}

func command(ctx context.Context, log io.Writer, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return nil
}
