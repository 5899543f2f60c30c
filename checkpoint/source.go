package checkpoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// SourceFile is a file that the conversion depends on, for the record.
type SourceFile struct {
	Path  string
	Name  string // last element of Path
	Bytes int64
}

// SourceFiles lists config, index and weight files.
func (c *Checkpoint) SourceFiles() []SourceFile { return c.sources }

func (c *Checkpoint) addSource(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	c.sources = append(c.sources, SourceFile{Path: path, Name: filepath.Base(path), Bytes: st.Size()})
	return nil
}

// SHA256 reads the file and returns its digest in hex. It stops when ctx ends.
func (f SourceFile) SHA256(ctx context.Context) (string, error) {
	r, err := os.Open(f.Path)
	if err != nil {
		return "", fmt.Errorf("hash source file: %w", err)
	}
	defer r.Close()
	h := sha256.New()
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return "", fmt.Errorf("hash source file %s: %w", f.Path, err)
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", fmt.Errorf("hash source file %s: %w", f.Path, err)
		}
	}
}
