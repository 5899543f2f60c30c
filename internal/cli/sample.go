package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/llama-pajamas/llama-pajamas/samples"
)

// embeddedSample is the model that the program carries: a name where a path of
// a checkpoint is asked for.
const embeddedSample = "sample:stories260K"

// checkpointPath is the path of a checkpoint that a user named: the path
// itself, or the embedded sample, unpacked into the cache folder.
func (c *common) checkpointPath(name string) (string, error) {
	if name != embeddedSample {
		return name, nil
	}
	cache, err := c.CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "samples", "stories260K")
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("unpack the sample: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".stories260K-")
	if err != nil {
		return "", fmt.Errorf("unpack the sample: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := os.CopyFS(tmp, samples.Stories260K()); err != nil {
		return "", fmt.Errorf("unpack the sample: %w", err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", fmt.Errorf("unpack the sample: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		if _, statErr := os.Stat(dir); statErr != nil {
			return "", fmt.Errorf("unpack the sample: %w", err)
		}
	}
	return dir, nil
}
