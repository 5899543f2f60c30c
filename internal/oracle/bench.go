package oracle

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// benchRequirements lists the peers that need torch. They are pinned without
// hashes, and their dependencies are pip's choice: they are measured, and
// nothing is compared with their bytes.
//
//go:embed bench-requirements.txt
var benchRequirements []byte

// InstallBench makes the Python environment of the peers that need torch, if
// it is not complete yet, and returns its interpreter. It takes some GB of
// disk. Progress goes to log.
func InstallBench(ctx context.Context, log io.Writer) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder: %w", err)
	}
	sum := sha256.Sum256(benchRequirements)
	venv := filepath.Join(cache, "llama-pajamas", "bench", "venv-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(filepath.Join(venv, marker)); err == nil {
		return interpreter(venv), nil
	}
	python, err := findPython(ctx)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(log, "installing the peers into %s\n", venv)
	if err := os.RemoveAll(venv); err != nil {
		return "", fmt.Errorf("remove a half-made environment: %w", err)
	}
	if err := command(ctx, log, python, "-m", "venv", "--without-pip", venv); err != nil {
		return "", err
	}
	list := filepath.Join(venv, "requirements.txt")
	if err := os.WriteFile(list, benchRequirements, 0o644); err != nil {
		return "", fmt.Errorf("write the requirements: %w", err)
	}
	if err := command(ctx, log, python, "-m", "pip", "--python", interpreter(venv), "install", "--quiet",
		"--disable-pip-version-check", "--only-binary", ":all:", "-r", list); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(venv, marker), nil, 0o644); err != nil {
		return "", fmt.Errorf("mark the environment complete: %w", err)
	}
	return interpreter(venv), nil
}
