package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"mvdan.cc/sh/v3/syntax"

	"github.com/llama-pajamas/llama-pajamas/convert"
)

var fixed = source{version: "1.2.3", commit: strings.Repeat("ab", 20), time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}

// TestRelease builds one program for this machine, twice: what a release does
// for all programs and platforms.
func TestRelease(t *testing.T) {
	platform := "linux/" + runtime.GOARCH
	if runtime.GOOS == "darwin" {
		platform = "darwin/" + runtime.GOARCH
	}
	build := func() *options {
		o := &options{root: "../..", output: filepath.Join(t.TempDir(), "dist"), platforms: []string{platform}, programs: allPrograms[:1], changes: true}
		if err := o.release(t.Context()); err != nil {
			t.Fatal(err)
		}
		return o
	}
	o := build()
	if runtime.GOOS != "windows" {
		if err := o.verify(t.Context(), platform); err != nil {
			t.Fatal(err)
		}
	}
	first, err := sumsOf(o.output)
	if err != nil {
		t.Fatal(err)
	}
	second, err := sumsOf(build().output)
	if err != nil {
		t.Fatal(err)
	}
	if first != second {
		t.Errorf("two builds differ:\n%s\n%s", first, second)
	}
	src, err := o.source(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkBOM(t, filepath.Join(o.output, "llama-pajamas-"+convert.Version+".cdx.json"))
	text, err := os.ReadFile(filepath.Join(o.output, notes))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "# llama-pajamas "+convert.Version+"\n") || !strings.Contains(string(text), "\n### Added\n") || bytes.Contains(text, []byte("](../")) {
		t.Errorf("release notes: %s", text)
	}
	dir := t.TempDir()
	if err := unpack(filepath.Join(o.output, src.archive(platform)), dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"LICENSE", "NOTICE", "THIRD_PARTY_LICENSES.txt", "llama-pajamas-quant", "man/man1/llama-pajamas-quant-convert.1",
		"completions/zsh/_llama-pajamas-run",
	} {
		if st, err := os.Stat(filepath.Join(dir, src.name(platform), name)); err != nil || !st.ModTime().After(time.Time{}) || st.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A file that is changed afterwards is found, and what is no release stays.
	if err := os.WriteFile(filepath.Join(o.output, notes), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkSums(o.output); err == nil {
		t.Error("a changed file is not found")
	}
	o.output = t.TempDir()
	if err := o.release(t.Context()); err == nil || !strings.Contains(err.Error(), "is no release") {
		t.Errorf("a folder of others is replaced: %v", err)
	}
}

// checkBOM looks at what CycloneDX 1.6 requires, and at what must be listed.
func checkBOM(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b := cdx.NewBOM()
	if err := cdx.NewBOMDecoder(bytes.NewReader(data), cdx.BOMFileFormatJSON).Decode(b); err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var raw struct {
		Schema       string `json:"$schema"`
		BOMFormat    string `json:"bomFormat"`
		SpecVersion  string `json:"specVersion"`
		SerialNumber string `json:"serialNumber"`
		Version      int    `json:"version"`
		Metadata     any    `json:"metadata"`
		Components   any    `json:"components"`
		Dependencies any    `json:"dependencies"`
	}
	if err := d.Decode(&raw); err != nil {
		t.Fatal(err)
	}
	serial := regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`) // the schema's pattern
	if raw.BOMFormat != "CycloneDX" || raw.SpecVersion != "1.6" || !serial.MatchString(raw.SerialNumber) || raw.Version != 1 {
		t.Errorf("%+v", raw)
	}
	var names []string
	refs := map[string]bool{}
	for _, c := range *b.Components {
		names = append(names, c.Name)
		if c.Type != cdx.ComponentTypeLibrary || c.Version == "" || c.PackageURL != "pkg:golang/"+c.Name+"@"+c.Version || refs[c.BOMRef] {
			t.Errorf("%+v", c)
		}
		refs[c.BOMRef] = true
	}
	for _, want := range []string{"std", "github.com/spf13/cobra", "github.com/ebitengine/purego"} {
		if !slices.Contains(names, want) {
			t.Errorf("no %s in %v", want, names)
		}
	}
	for _, not := range []string{"mvdan.cc/sh/v3", "github.com/CycloneDX/cyclonedx-go"} {
		if slices.Contains(names, not) {
			t.Errorf("%s is said to be in the programs", not)
		}
	}
	for _, dep := range *(*b.Dependencies)[0].Dependencies {
		if !refs[dep] {
			t.Errorf("%s is not a component", dep)
		}
	}
}

// TestDocumentation: every command has a page without a mistake of roff, and
// completions are scripts.
func TestDocumentation(t *testing.T) {
	files, err := documentation(fixed)
	if err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	for _, f := range files {
		content[f.name] = string(f.data)
		switch {
		case strings.HasPrefix(f.name, "man/"):
			page := string(f.data)
			if !strings.Contains(page, "\n.TH ") || !strings.Contains(page, `"llama-pajamas 1.2.3"`) || !strings.Contains(page, "\n.SH SYNOPSIS\n") || strings.Contains(page, "Auto generated") {
				t.Errorf("%s: %.300s", f.name, page)
			}
			if groff, err := exec.LookPath("groff"); err == nil { // where it is, it must have nothing to say
				cmd := exec.CommandContext(t.Context(), groff, "-man", "-Kutf8", "-ww", "-z")
				cmd.Stdin = bytes.NewReader(f.data)
				if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
					t.Errorf("%s: groff: %v\n%s", f.name, err, out)
				}
			}
		case strings.HasPrefix(f.name, "completions/bash/"):
			if _, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(bytes.NewReader(f.data), f.name); err != nil {
				t.Error(err)
			}
		}
	}
	for _, name := range []string{
		"man/man1/llama-pajamas-quant.1", "man/man1/llama-pajamas-quant-convert.1", "man/man1/llama-pajamas-run.1", "man/man1/llama-pajamas-run-chat.1",
		"man/man1/llama-pajamas-run-onnx.1", "man/man1/llama-pajamas-run-onnx-selftest.1", "completions/fish/llama-pajamas-run.fish", "completions/powershell/llama-pajamas-quant.ps1",
	} {
		if content[name] == "" {
			t.Errorf("no %s", name)
		}
	}
	if page := content["man/man1/llama-pajamas-quant-convert.1"]; !strings.Contains(page, "onnx/cpu/int4, int8, …  quantized for one execution provider each") {
		t.Errorf("columns are lost:\n%s", page)
	}
}

func TestArchives(t *testing.T) {
	files := []file{{name: "b", data: []byte("2"), program: true}, {name: "a/c", data: []byte("1")}}
	for _, name := range []string{"x.tar.gz", "x.zip"} {
		one, two := filepath.Join(t.TempDir(), name), filepath.Join(t.TempDir(), name)
		if err := archive(one, "x", files, fixed.time); err != nil {
			t.Fatal(err)
		}
		slices.Reverse(files)
		if err := archive(two, "x", files, fixed.time); err != nil {
			t.Fatal(err)
		}
		a, err := os.ReadFile(one)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(two)
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s depends on the order of files: %v", name, err)
		}
		if name == "x.zip" {
			continue
		}
		dir := t.TempDir()
		if err := unpack(one, dir); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(filepath.Join(dir, "x", "b"))
		if err != nil || st.Mode().Perm()&0o100 == 0 {
			t.Errorf("%v %v", st, err)
		}
		if data, err := fs.ReadFile(os.DirFS(dir), "x/a/c"); err != nil || string(data) != "1" {
			t.Errorf("%q %v", data, err)
		}
	}
}

func TestNotes(t *testing.T) {
	log := "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-02\n\n### Added\n- x\n\n## [1.2.2] - 2025\n- y\n"
	if got, err := sectionOf(log, "1.2.3"); err != nil || got != "### Added\n- x" {
		t.Errorf("%q %v", got, err)
	}
	for _, version := range []string{"1.2.4", "Unreleased"} {
		if got, err := sectionOf(log, version); err == nil {
			t.Errorf("%s: %q", version, got)
		}
	}
	got := string(absolute([]byte("[a](../b.md) [c](../../d.md#e) [f](https://g)"), fixed))
	want := "[a](https://github.com/llama-pajamas/llama-pajamas/blob/v1.2.3/docs/b.md) [c](https://github.com/llama-pajamas/llama-pajamas/blob/v1.2.3/d.md#e) [f](https://g)"
	if got != want {
		t.Errorf("got %s", got)
	}
}

// TestChanges: a checkout with changes is no release.
func TestChanges(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) {
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=x", "-c", "user.email=x@example.com"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	git("init", "-q")
	git("add", "f")
	git("commit", "-q", "-m", "x")
	o := &options{root: dir}
	src, err := o.source(t.Context())
	if err != nil || len(src.commit) != 40 || src.time.IsZero() {
		t.Errorf("%+v %v", src, err)
	}
	if err := os.WriteFile(name, []byte("2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := o.source(t.Context()); err == nil || !strings.Contains(err.Error(), "commit them") {
		t.Errorf("changes are released: %v", err)
	}
	o.changes = true
	if src, err := o.source(t.Context()); err != nil || src.commit != "" {
		t.Errorf("%+v %v", src, err)
	}
}
