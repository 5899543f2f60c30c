package cli

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/hub"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// textModel is the part of a model that turns messages into text and text into
// tokens: no graph, no weights.
type textModel struct {
	folder *modeldir.Folder
	tok    *tokenizer.Tokenizer
}

const textModelHelp = "an artifact folder, or one of several such, the model.onnx in it, a Hugging Face folder,\na GGUF file, or " + hubHelp + " (required)"

// openText opens the text part of what --model names.
func (c *common) openText(ctx context.Context, cmd *cobra.Command, path string) (textModel, error) {
	if path == "" {
		return textModel{}, usagef(cmd, "--model is required: %s", strings.TrimSuffix(textModelHelp, " (required)"))
	}
	log, err := c.logger(cmd)
	if err != nil {
		return textModel{}, err
	}
	path, err = c.textSource(ctx, log, path)
	if err != nil {
		return textModel{}, err
	}
	if isGGUF(path) {
		return openGGUFText(ctx, path)
	}
	folder, err := modeldir.OpenFiles(path)
	if err != nil {
		return textModel{}, err
	}
	tok, err := tokenizer.Load(folder.Dir)
	return textModel{folder, tok}, err
}

// textSource is the path of what --model names. Of a hub id only the files that
// text takes are fetched; of a folder that convert wrote the first artifact is
// taken, since all have the checkpoint's tokenizer and template.
func (c *common) textSource(ctx context.Context, log *slog.Logger, name string) (string, error) {
	if _, err := os.Stat(name); err != nil && name != embeddedSample {
		ref, err := hub.ParseRef(name)
		if err != nil {
			return name, nil // no hub id: who opens it says what is wrong
		}
		return c.fetch(ctx, log, name, hub.Text(ref.Choice))
	}
	path, err := c.checkpointPath(name)
	if err != nil {
		return "", err
	}
	if list, err := modeldir.Artifacts(path); err == nil && len(list) > 0 {
		return artifacts{root: path, list: list}.path(list[0]), nil
	}
	return path, nil
}

// isGGUF reports whether path is a GGUF file, or a folder whose tokenizer can
// only come from one.
func isGGUF(path string) bool {
	if strings.EqualFold(filepath.Ext(path), ".gguf") {
		return true
	}
	if _, err := os.Stat(filepath.Join(path, "tokenizer.json")); err == nil {
		return false
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if strings.EqualFold(filepath.Ext(e.Name()), ".gguf") {
			return true
		}
	}
	return false
}

// openGGUFText rebuilds the files from the keys of a GGUF file.
func openGGUFText(ctx context.Context, path string) (textModel, error) {
	ck, err := checkpoint.Open(ctx, path, checkpoint.Options{})
	if err != nil {
		return textModel{}, err
	}
	defer ck.Close()
	read := func(name string) ([]byte, error) {
		f, ok := ck.SupportFile(name)
		if !ok {
			return nil, fs.ErrNotExist
		}
		return f.Data()
	}
	data, err := read("tokenizer.json")
	if err != nil {
		return textModel{}, fmt.Errorf("rebuild the tokenizer of %s: %w", path, err)
	}
	tok, err := tokenizer.Parse(data)
	if err != nil {
		return textModel{}, fmt.Errorf("rebuild the tokenizer of %s: %w", path, err)
	}
	folder, err := modeldir.FromFiles(path, read)
	return textModel{folder, tok}, err
}
