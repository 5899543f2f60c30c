//go:build !windows

package docstest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/llama-pajamas/llama-pajamas/internal/cli"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

const module = "github.com/llama-pajamas/llama-pajamas"

// TestMain puts the programs on PATH: they are this test binary under other names.
func TestMain(m *testing.M) {
	commands := map[string]func(){}
	for name, p := range programs {
		commands[name] = func() { os.Exit(cli.Main(p)) }
	}
	testscript.Main(m, commands)
}

// tracked lists files of the repository that git knows.
func tracked(t *testing.T, patterns ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"ls-files", "-z", "--"}, patterns...)...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	var files []string
	for f := range strings.SplitSeq(string(out), "\x00") {
		if _, err := os.Stat(filepath.Join(root, f)); f != "" && err == nil {
			files = append(files, f)
		}
	}
	if len(files) == 0 {
		t.Fatal("git lists no files")
	}
	return files
}

const root = "../.."

// unchecked are languages of which there is no checker here.
var unchecked = []string{"text", "python", "diff", "mermaid", "html", "c", "toml", "csv", "jinja"}

// TestDocumentation goes over every Markdown file of the repository.
func TestDocumentation(t *testing.T) {
	repo, err := OpenRepository(root, module)
	if err != nil {
		t.Fatal(err)
	}
	source := &Source{}
	for _, f := range tracked(t, "*.go", "*.py") {
		if !strings.HasSuffix(f, "_test.go") && !strings.Contains(f, "testdata/") {
			if err := source.Add(filepath.Join(root, f)); err != nil {
				t.Fatal(err)
			}
		}
	}
	docs := map[string]Document{}
	files := tracked(t, "*.md")
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(root, f))
		if err != nil {
			t.Fatal(err)
		}
		docs[f] = Read(string(text))
	}
	for _, file := range files {
		if strings.Contains(file, "testdata/") {
			continue
		}
		t.Run(file, func(t *testing.T) {
			d, dir := docs[file], path.Dir(file)
			for _, l := range d.Links {
				if why := follow(l.Target, file, docs); why != "" {
					t.Errorf("%s:%d: %s", file, l.Line, why)
				}
			}
			for _, s := range d.Spans {
				for _, p := range repo.Usage(s.Text) {
					t.Errorf("%s:%d: `%s`: %s", file, s.Line, s.Text, p.Text)
				}
			}
			for _, s := range d.Messages {
				if why := source.Message(s.Text); why != "" {
					t.Errorf("%s:%d: %s", file, s.Line, why)
				}
			}
			var run []Block
			for _, b := range d.Blocks {
				for _, p := range check(t, repo, source, b, dir) {
					t.Errorf("%s:%d: %s", file, b.Line+p.Line, p.Text)
				}
				if b.Info == "sh run" {
					run = append(run, b)
				}
			}
			execute(t, file, run)
		})
	}
}

// check looks at one block.
func check(t *testing.T, repo *Repository, source *Source, b Block, dir string) []Problem {
	var out problems
	fail := func(err error) {
		if err != nil {
			out.add(0, "%v", err)
		}
	}
	switch b.Info {
	case "sh", "sh run":
		return repo.Shell(b.Text, dir)
	case "console":
		for i, line := range strings.Split(b.Text, "\n") {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				for _, p := range repo.Shell(command, dir) {
					out.add(i, "%s", p.Text)
				}
			}
		}
	case "text usage":
		return repo.Usage(b.Text)
	case "text message":
		for i, line := range strings.Split(b.Text, "\n") {
			if strings.TrimSpace(line) != "" {
				if why := source.Message(line); why != "" {
					out.add(i, "%s", why)
				}
			}
		}
	case "yaml":
		fail(YAML(b.Text))
	case "json":
		fail(JSON(b.Text))
	case "jsonl":
		for i, line := range strings.Split(b.Text, "\n") {
			if err := JSON(line); strings.TrimSpace(line) != "" && err != nil {
				out.add(i, "%v", err)
			}
		}
	case "go":
		if strings.HasPrefix(b.Text, "package ") || strings.Contains(b.Text, "\npackage ") {
			fail(vet(t, b.Text))
		} else {
			fail(Go(b.Text))
		}
	case "dockerfile":
		return repo.Dockerfile(b.Text, dir)
	case "systemd":
		return repo.Unit(b.Text, dir)
	default:
		if !slices.Contains(unchecked, b.Info) {
			out.add(-1, "a block marked %q: say what it is, as the package comment of internal/docstest lists", b.Info)
		}
	}
	return out
}

// vet compiles and vets a whole Go file within this module.
func vet(t *testing.T, text string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "block.go")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(t.Context(), "go", "vet", file)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return &exec.Error{Name: "go vet", Err: errorText(out)}
	}
	return nil
}

type errorText []byte

func (e errorText) Error() string { return string(e) }

// follow says what is wrong with a link, "" where nothing is.
func follow(link, from string, docs map[string]Document) string {
	if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
		return ""
	}
	name, anchor, _ := strings.Cut(link, "#")
	file := from
	if name != "" {
		file = path.Join(path.Dir(from), name)
		if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(file))); err != nil {
			return "the link " + link + " leads nowhere"
		}
	}
	if d, ok := docs[file]; ok && anchor != "" && !d.Anchors[anchor] {
		return file + " has no heading for the link " + link
	}
	return ""
}

// execute runs blocks one after another in a folder of their own.
func execute(t *testing.T, file string, blocks []Block) {
	if len(blocks) == 0 {
		return
	}
	dir, home := t.TempDir(), t.TempDir()
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LANG=C.UTF-8", "HF_HUB_OFFLINE=1", "NO_COLOR=1",
		"LLAMA_PAJAMAS_CACHE=" + filepath.Join(home, "cache"),
		"LLAMA_PAJAMAS_ONNXRUNTIME=" + oracle.Library(t), "LLAMA_PAJAMAS_LLAMACPP=" + oracle.LlamaCpp(t),
	}
	for _, b := range blocks {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", b.Text)
		cmd.Dir, cmd.Env = dir, env
		start := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s:%d: %v on %s\n%s\nin\n%s", file, b.Line, err, runtime.GOOS, bytes.TrimSpace(out), b.Text)
		}
		t.Logf("%s:%d ran for %v", file, b.Line, time.Since(start).Round(time.Millisecond))
	}
}
