package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// imatrixOptions say what llama.cpp's importance matrix is made from.
type imatrixOptions struct {
	text   string // file
	tokens int
}

// imatrixSource is what a report tells of it.
type imatrixSource struct {
	Text   string `json:"text"`
	SHA256 string `json:"sha256"`
	Tokens int    `json:"tokens"`
}

func (o *imatrixOptions) describe() (*imatrixSource, error) {
	text, err := os.ReadFile(o.text)
	if err != nil {
		return nil, err
	}
	return &imatrixSource{filepath.ToSlash(o.text), fmt.Sprintf("%x", sha256.Sum256(text)), o.tokens}, nil
}

// imatrix makes the importance matrix of a sample, unless it is kept from
// before, and returns its file.
func (w *workshop) imatrix(ctx context.Context, s *sample, o *imatrixOptions) (string, error) {
	text, err := os.ReadFile(o.text)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", o.tokens, text))
	path := filepath.Join(w.dir, s.Name, "peers", fmt.Sprintf("imatrix-%x.npz", sum[:6]))
	return path, once(path, func(tmp string) error {
		cmd := exec.CommandContext(ctx, w.python, "-c", imatrixScript, s.HF, strconv.Itoa(o.tokens), strconv.Itoa(window), tmp)
		cmd.Stdin = bytes.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out[max(0, len(out)-2000):])
		}
		return nil
	})
}
