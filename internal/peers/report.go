package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

func cores() int { return runtime.NumCPU() }

// The files of the results; each has a .json and a .md.
const (
	qualityFile = "quality"
	plainFile   = "quality-plain"
	storiesFile = "quality-stories"
	speedFile   = "speed"
	convertFile = "convert"
)

// writeReport writes a report as JSON and as a table.
func writeReport(dir, name string, report any, table string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		writeWhole(filepath.Join(dir, name+".json"), append(b, '\n')),
		writeWhole(filepath.Join(dir, name+".md"), []byte(table)))
}

// writeWhole replaces a file at once: others may be reading it.
func writeWhole(path string, b []byte) error {
	tmp := fmt.Sprintf("%s.%d.tmp", path, os.Getpid())
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// printTable prints a table that was written.
func printTable(dir, name string) error {
	b, err := os.ReadFile(filepath.Join(dir, name+".md"))
	if err == nil {
		fmt.Printf("%s", b)
	}
	return err
}

// readReport reads a report back; found is false where there is none.
func readReport(dir, name string, into any) (found bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(b, into)
}
