package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"

	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/hub"
)

// hubHelp says what a hub id looks like.
const hubHelp = "a Hugging Face hub id owner/name[@revision][:gguf-file]"

// loraHelp is the text of --lora.
const loraHelp = "LoRA adapter to merge into the weights: a folder as PEFT saves it, or its hub id"

// openCheckpoint opens what --model and --lora name.
func (c *common) openCheckpoint(ctx context.Context, log *slog.Logger, model, lora string) (*checkpoint.Checkpoint, error) {
	path, err := c.source(ctx, log, model)
	if err != nil {
		return nil, err
	}
	if lora, err = c.adapter(ctx, log, lora); err != nil {
		return nil, err
	}
	return checkpoint.Open(ctx, path, checkpoint.Options{Logger: log, LoRA: lora})
}

// source is the path of a checkpoint that a user named: a file or folder that
// is there, the embedded sample, or a hub id, whose files are fetched into the
// hub's cache first. What is none of these is returned as it is, for the one
// who opens it to say what is wrong.
func (c *common) source(ctx context.Context, log *slog.Logger, name string) (string, error) {
	if _, err := os.Stat(name); err == nil || name == embeddedSample {
		return c.checkpointPath(name)
	}
	return c.fetch(ctx, log, name, nil)
}

// adapter is the folder of a LoRA adapter: one that is there, or a hub id.
func (c *common) adapter(ctx context.Context, log *slog.Logger, name string) (string, error) {
	if _, err := os.Stat(name); err == nil || name == "" {
		return name, nil
	}
	return c.fetch(ctx, log, name, hub.Adapter)
}

// fetch downloads a hub id's files and shows how it gets on.
func (c *common) fetch(ctx context.Context, log *slog.Logger, name string, filter hub.Filter) (string, error) {
	ref, err := hub.ParseRef(name)
	if err != nil {
		return name, nil
	}
	o, err := hub.FromEnv(c.Getenv)
	if err != nil {
		return "", err
	}
	o.Filter, o.Logger = filter, log
	o.Proxy = http.ProxyFromEnvironment
	o.UserAgent = "llama-pajamas/" + Version
	var (
		bar   *progress
		start sync.Once
	)
	o.Progress = func(p hub.Progress) {
		start.Do(func() {
			c.note("downloading %s into %s", ref, o.CacheDir)
			bar = c.newProgress("downloading", 0)
		})
		bar.grow(p.Done, p.Total)
	}
	s, err := hub.Download(ctx, ref, o)
	if bar != nil {
		bar.finish(err == nil)
	}
	if err != nil {
		return "", fmt.Errorf("there is no file or folder %s here, and as a hub id: %w", name, err)
	}
	return s.Path(), nil
}
