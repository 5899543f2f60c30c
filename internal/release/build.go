package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llama-pajamas/llama-pajamas/convert"
)

const (
	product = "llama-pajamas"
	module  = "github.com/llama-pajamas/llama-pajamas"
	sums    = "SHA256SUMS"
	notes   = "RELEASE_NOTES.md"
)

// source is the state of the checkout that is released.
type source struct {
	version string
	commit  string    // "" where files were changed since
	time    time.Time // of the commit
}

// name of an archive without its ending, and of the folder in it.
func (s source) name(platform string) string {
	return product + "-" + s.version + "-" + strings.ReplaceAll(platform, "/", "-")
}

// archive is the file name of a platform's archive.
func (s source) archive(platform string) string {
	if strings.HasPrefix(platform, "windows/") {
		return s.name(platform) + ".zip"
	}
	return s.name(platform) + ".tar.gz"
}

func (o *options) source(ctx context.Context) (source, error) {
	s := source{version: convert.Version}
	out, err := o.command(ctx, nil, "git", "log", "-1", "--format=%H %ct")
	if err != nil {
		return s, fmt.Errorf("read the commit: %w", err)
	}
	commit, seconds, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return s, fmt.Errorf("read the time of commit %s: %w", commit, err)
	}
	s.commit, s.time = commit, time.Unix(n, 0).UTC()
	changed, err := o.command(ctx, nil, "git", "status", "--porcelain", "--untracked-files=no")
	switch {
	case err != nil:
		return s, fmt.Errorf("look for changes: %w", err)
	case len(changed) > 0 && !o.changes:
		return s, fmt.Errorf("the checkout has changes, so that no commit is what would be built: commit them, or give --changes for a trial\n%s", bytes.TrimRight(changed, "\n"))
	case len(changed) > 0:
		s.commit = ""
	}
	return s, nil
}

// command runs a program in the root of the checkout.
func (o *options) command(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = o.root, append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// compile builds the programs for a platform into a folder and returns their
// paths. Everything that could make the bytes depend on the machine is fixed.
func (o *options) compile(ctx context.Context, src source, platform, dir string) ([]string, error) {
	goos, goarch, ok := strings.Cut(platform, "/")
	if !ok {
		return nil, fmt.Errorf("platform %q: want OS/ARCH", platform)
	}
	env := []string{
		"GOOS=" + goos, "GOARCH=" + goarch, "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off",
		"GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GODEBUG=", "GO_EXTLINK_ENABLED=0",
	}
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X " + module + "/internal/cli.commit=" + src.commit, "-o", dir + string(filepath.Separator)}
	var files []string
	for _, p := range o.names() {
		args = append(args, "./cmd/"+p)
		if goos == "windows" {
			p += ".exe"
		}
		files = append(files, filepath.Join(dir, p))
	}
	if _, err := o.command(ctx, env, "go", args...); err != nil {
		return nil, fmt.Errorf("build for %s: %w", platform, err)
	}
	return files, nil
}

// write makes the release in a folder.
func (o *options) write(ctx context.Context, src source, dir string) error {
	tmp, err := os.MkdirTemp("", "llama-pajamas-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	common, err := o.commonFiles(src)
	if err != nil {
		return err
	}
	parts := &parts{}
	programs := map[string][]string{} // by platform
	for _, platform := range o.platforms {
		at := filepath.Join(tmp, src.name(platform))
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		files, err := o.compile(ctx, src, platform, at)
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := parts.add(f); err != nil {
				return err
			}
		}
		programs[platform] = files
	}
	licences, err := o.licences(ctx, parts)
	if err != nil {
		return err
	}
	common = append(common, file{name: "THIRD_PARTY_LICENSES.txt", data: licences})
	for _, platform := range o.platforms {
		files := slices.Clone(common)
		for _, p := range programs[platform] {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			files = append(files, file{name: filepath.Base(p), data: data, program: true})
		}
		if err := archive(filepath.Join(dir, src.archive(platform)), src.name(platform), files, src.time); err != nil {
			return fmt.Errorf("write the archive of %s: %w", platform, err)
		}
	}
	bom, err := parts.bom(src)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, product+"-"+src.version+".cdx.json"), bom, 0o644); err != nil {
		return err
	}
	text, err := o.releaseNotes(src)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, notes), text, 0o644); err != nil {
		return err
	}
	return writeSums(dir)
}

// commonFiles are what every archive has beside the programs.
func (o *options) commonFiles(src source) ([]file, error) {
	var files []file
	for _, name := range []string{"LICENSE", "NOTICE", "README.md", "CHANGELOG.md"} {
		data, err := os.ReadFile(filepath.Join(o.root, name))
		if err != nil {
			return nil, err
		}
		files = append(files, file{name: name, data: data})
	}
	docs, err := documentation(src)
	if err != nil {
		return nil, err
	}
	return append(files, docs...), nil
}

// writeSums lists the SHA-256 of every file, as sha256sum -c reads it.
func writeSums(dir string) error {
	text, err := sumsOf(dir)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, sums), []byte(text), 0o644)
}

func sumsOf(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, e := range entries { // sorted
		if e.Name() == sums {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", err
		}
		sum := sha256.Sum256(data)
		fmt.Fprintf(&b, "%s  %s\n", hex.EncodeToString(sum[:]), e.Name())
	}
	return b.String(), nil
}

// isRelease reports whether a folder is one that this program wrote.
func isRelease(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, sums))
	return err == nil
}
