package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// releaseNotes are docs/release-notes/VERSION.md, which has the comparison, and
// the version's section of the changelog.
func (o *options) releaseNotes(src source) ([]byte, error) {
	file := filepath.Join(o.root, "docs", "release-notes", src.version+".md")
	lead, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the release notes: %w", err)
	}
	changelog, err := os.ReadFile(filepath.Join(o.root, "CHANGELOG.md"))
	if err != nil {
		return nil, err
	}
	section, err := sectionOf(string(changelog), src.version)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n\n## What is new\n\n%s\n", bytes.TrimSpace(absolute(lead, src)), section)
	return b.Bytes(), nil
}

var relativeLink = regexp.MustCompile(`\]\(((?:\.\./)+)([^)]+)\)`)

// absolute lets links from docs/release-notes lead to the tagged files, since
// the notes are read away from them.
func absolute(text []byte, src source) []byte {
	return relativeLink.ReplaceAllFunc(text, func(link []byte) []byte {
		m := relativeLink.FindSubmatch(link)
		dir := "docs/"
		if string(m[1]) != "../" {
			dir = ""
		}
		return fmt.Appendf(nil, "](https://%s/blob/v%s/%s%s)", module, src.version, dir, m[2])
	})
}

// sectionOf is a version's section of the changelog, without its heading.
func sectionOf(changelog, version string) (string, error) {
	_, rest, ok := strings.Cut(changelog, "\n## ["+version+"]")
	if !ok {
		return "", fmt.Errorf("CHANGELOG.md has no section [%s]", version)
	}
	_, rest, _ = strings.Cut(rest, "\n") // the date
	rest, _, _ = strings.Cut(rest, "\n## ")
	if rest = strings.TrimSpace(rest); rest == "" {
		return "", fmt.Errorf("CHANGELOG.md says nothing of %s", version)
	}
	return rest, nil
}
