package nativelib

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// manifestName is the file that says what a library folder holds.
const manifestName = "installed.json"

// manifest is the content of a library folder, for checking it later.
type manifest struct {
	Package string         `json:"package"`
	Version string         `json:"version"`
	Archive string         `json:"archive"` // the file or folder it came from
	SHA256  string         `json:"sha256"`  // of the archive
	Files   []manifestFile `json:"files"`
}

type manifestFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// writeManifest lists the files of dir, links as the files they point to.
func writeManifest(dir string, m manifest) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		sum, err := sha256Of(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		m.Files = append(m.Files, manifestFile{Name: e.Name(), Size: info.Size(), SHA256: sum})
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, manifestName), append(text, '\n'), 0o644)
}

// readManifest reads what a library folder should hold.
func readManifest(dir string) (manifest, error) {
	var m manifest
	text, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("read %s: %w", filepath.Join(dir, manifestName), err)
	}
	return m, nil
}

// Check compares the files of an installed library folder with what was
// unpacked into it.
func Check(dir string) error {
	m, err := readManifest(dir)
	if err != nil {
		return fmt.Errorf("check the libraries in %s: %w", dir, err)
	}
	for _, f := range m.Files {
		if f.Name != filepath.Base(f.Name) {
			return fmt.Errorf("check the libraries in %s: the list names %q", dir, f.Name)
		}
		if err := checkSum(filepath.Join(dir, f.Name), f.SHA256); err != nil {
			return fmt.Errorf("check the libraries in %s: %w; run setup again", dir, err)
		}
	}
	return nil
}

// holds reports whether dir has, unharmed, what the pin installs.
func (p Pin) holds(dir string) bool {
	m, err := readManifest(dir)
	if err != nil || m.SHA256 != p.SHA256 || Check(dir) != nil {
		return false
	}
	for name := range p.Links {
		if !slices.ContainsFunc(m.Files, func(f manifestFile) bool { return f.Name == name }) {
			return false
		}
	}
	return true
}
