package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// parts are the Go modules that were linked into the programs, as the linker
// wrote them there.
type parts struct {
	goVersion string
	modules   map[string]debug.Module // by path
}

// add reads what a program consists of.
func (p *parts) add(program string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return fmt.Errorf("read what %s consists of: %w", filepath.Base(program), err)
	}
	if p.modules == nil {
		p.modules = map[string]debug.Module{}
	}
	p.goVersion = info.GoVersion
	for _, m := range info.Deps {
		if m.Replace != nil {
			return fmt.Errorf("%s is replaced by %s: a release is built from published modules", m.Path, m.Replace.Path)
		}
		p.modules[m.Path] = *m
	}
	return nil
}

func (p *parts) sorted() []string { return slices.Sorted(maps.Keys(p.modules)) }

// purl is the package URL of a Go module (github.com/package-url/purl-spec).
func purl(path, version string) string { return "pkg:golang/" + path + "@" + version }

// bom is the list of parts in CycloneDX JSON.
func (p *parts) bom(src source) ([]byte, error) {
	own := purl(module, "v"+src.version)
	library := func(path, version string) cdx.Component {
		ref := purl(path, version)
		return cdx.Component{BOMRef: ref, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: ref, Scope: cdx.ScopeRequired}
	}
	std := library("std", strings.TrimPrefix(p.goVersion, "go"))
	components := []cdx.Component{std}
	refs := []string{std.BOMRef}
	for _, path := range p.sorted() {
		m := p.modules[path]
		c := library(m.Path, m.Version)
		c.Properties = &[]cdx.Property{{Name: "go:sum", Value: m.Sum}}
		components, refs = append(components, c), append(refs, c.BOMRef)
	}
	b := cdx.NewBOM()
	b.SpecVersion = cdx.SpecVersion1_6
	b.JSONSchema = "http://cyclonedx.org/schema/bom-1.6.schema.json"
	b.Metadata = &cdx.Metadata{
		Timestamp: src.time.Format(time.RFC3339),
		Component: &cdx.Component{
			BOMRef: own, Type: cdx.ComponentTypeApplication, Name: product, Version: src.version, PackageURL: own,
			Licenses: &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}},
		},
	}
	if src.commit != "" {
		b.Metadata.Component.Properties = &[]cdx.Property{{Name: "commit", Value: src.commit}}
	}
	b.Components = &components
	b.Dependencies = &[]cdx.Dependency{{Ref: own, Dependencies: &refs}}
	var text bytes.Buffer
	encode := func() error {
		text.Reset()
		return cdx.NewBOMEncoder(&text, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(b, cdx.SpecVersion1_6)
	}
	if err := encode(); err != nil {
		return nil, fmt.Errorf("write the list of parts: %w", err)
	}
	// A number that follows from the content (RFC 9562, version 8).
	h := sha256.Sum256(text.Bytes())
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	b.SerialNumber = fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
	if err := encode(); err != nil {
		return nil, fmt.Errorf("write the list of parts: %w", err)
	}
	return text.Bytes(), nil
}

var licenceName = regexp.MustCompile(`(?i)^((un)?licen[cs]e|copying|notice|patents)([.-].*)?$`)

// licences are the texts that come with the modules, which their licences want
// to go with the programs, and Go's own.
func (o *options) licences(ctx context.Context, p *parts) ([]byte, error) {
	args := []string{"list", "-m", "-f", "{{.Path}}\t{{.Dir}}"}
	out, err := o.command(ctx, []string{"GOFLAGS=-mod=readonly"}, "go", append(args, p.sorted()...)...)
	if err != nil {
		return nil, fmt.Errorf("find the licences: %w", err)
	}
	goroot, err := o.command(ctx, nil, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("The programs contain the packages named here, under these licences.\n")
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for _, line := range append([]string{"Go " + strings.TrimPrefix(p.goVersion, "go") + "\t" + strings.TrimSpace(string(goroot))}, lines...) {
		path, dir, _ := strings.Cut(line, "\t")
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("find the licence of %s: %w", path, err)
		}
		title, found := path, false
		if m, ok := p.modules[path]; ok {
			title += " " + m.Version
		}
		for _, e := range entries {
			if e.IsDir() || !licenceName.MatchString(e.Name()) {
				continue
			}
			data, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, fmt.Errorf("read the licence of %s: %w", path, err)
			}
			fmt.Fprintf(&b, "\n%s\n%s: %s\n\n%s\n", strings.Repeat("=", 78), title, e.Name(), bytes.TrimSpace(data))
			found = true
		}
		// Debian and others keep Go's text elsewhere; modules always have theirs.
		if !found && !strings.HasPrefix(path, "Go ") {
			return nil, fmt.Errorf("%s has no licence file in %s", path, dir)
		}
	}
	return b.Bytes(), nil
}
