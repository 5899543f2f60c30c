package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Options adjusts [Open]. The zero value works.
type Options struct {
	// Logger gets warnings about oddities that do no harm. Default: silent.
	Logger *slog.Logger
	// LoRA is the folder of an adapter as PEFT saves it, whose products are
	// added to the weights as they are read. Default: none.
	LoRA string
	// Aliases read architectures that package arch does not know, by the class
	// in config.json. Default: none.
	Aliases map[string]Alias
}

// The formats of [Checkpoint.Format].
const (
	HuggingFace = "huggingface"
	GGUF        = "gguf"
)

// Checkpoint is an open source of weights.
type Checkpoint struct {
	path, id, format, revision, adapter string

	config  []byte
	tensors []*tensor.Tensor
	byName  map[string]*tensor.Tensor
	view    func(name string) (*tensor.Tensor, bool) // nil: tensors as they are
	support []SupportFile
	sources []SourceFile
	closer  io.Closer
}

// SupportFile is a small file that belongs to the model beside its weights:
// tokenizer, chat template, generation defaults, licence, card.
type SupportFile struct {
	// Name is the file's name in a Hugging Face folder.
	Name string
	// Data reads or rebuilds the content.
	Data func() ([]byte, error)
}

// Open opens the checkpoint at path: a folder with config.json and safetensors
// files, a .safetensors file in such a folder, a .gguf file, or a folder that
// holds exactly one .gguf file.
func Open(ctx context.Context, path string, o Options) (*Checkpoint, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open checkpoint %s: %w", path, err)
	}
	c, err := open(path, o)
	if err != nil {
		return nil, fmt.Errorf("open checkpoint %s: %w", path, err)
	}
	if err := c.alias(o.Aliases); err != nil {
		return nil, errors.Join(fmt.Errorf("open checkpoint %s: %w", path, err), c.Close())
	}
	// Where the architecture is not known, whoever needs it says so.
	if spec, err := arch.Parse(c.config); err == nil {
		c.view = spec.View(c.Stored)
	}
	if o.LoRA != "" {
		if err := c.mergeLoRA(o.LoRA); err != nil {
			return nil, errors.Join(fmt.Errorf("add adapter %s to %s: %w", o.LoRA, path, err), c.Close())
		}
	}
	return c, nil
}

func open(path string, o Options) (*Checkpoint, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		return openFolder(path, o)
	}
	switch ext := strings.ToLower(filepath.Ext(path)); {
	case ext == ".gguf" && onlyModel(path):
		return openGGUFFolder(filepath.Dir(path), filepath.Base(path), o)
	case ext == ".gguf":
		return openGGUF(path, o)
	case ext == ".safetensors":
		return openHF(filepath.Dir(path), []string{path}, o)
	case filepath.Base(path) == "config.json", strings.HasSuffix(path, ".safetensors.index.json"):
		return openFolder(filepath.Dir(path), o)
	case isPickle(filepath.Base(path)):
		return nil, pickleErr(filepath.Base(path))
	default:
		return nil, &tensor.UnsupportedError{What: fmt.Sprintf("file type %q", ext), Hint: "give a Hugging Face folder with safetensors files, or a .gguf file"}
	}
}

// ID names the model: "owner/name" inside a Hugging Face cache, else the name
// of the folder or of the GGUF file.
func (c *Checkpoint) ID() string { return c.id }

// Format is [HuggingFace] or [GGUF].
func (c *Checkpoint) Format() string { return c.format }

// Adapter is the folder of the adapter that was merged, "" without one.
func (c *Checkpoint) Adapter() string { return c.adapter }

// Path is the folder or file that was opened.
func (c *Checkpoint) Path() string { return c.path }

// Revision is the hub commit the files came from, empty where unknown.
func (c *Checkpoint) Revision() string { return c.revision }

// Config is the model's config.json; for GGUF one rebuilt from its keys.
func (c *Checkpoint) Config() []byte { return c.config }

// SupportFiles lists the files beside the weights, sorted by name.
func (c *Checkpoint) SupportFiles() []SupportFile { return c.support }

// SupportFile returns the named support file.
func (c *Checkpoint) SupportFile(name string) (SupportFile, bool) {
	i := slices.IndexFunc(c.support, func(f SupportFile) bool { return f.Name == name })
	if i < 0 {
		return SupportFile{}, false
	}
	return c.support[i], true
}

// Tensors returns every tensor of the checkpoint, those of no use to a text
// model included, under the names the files give them (GGUF: the Hugging Face
// names).
func (c *Checkpoint) Tensors() []*tensor.Tensor { return c.tensors }

// Tensor returns a weight by the name that [arch.Spec.Weights] gives it, as the
// model computes with it: rows of a packed tensor are tensors of their own, and
// what norms add to their weights is added. [arch.AsStored] before a name asks
// for the tensor as it is stored.
func (c *Checkpoint) Tensor(name string) (*tensor.Tensor, bool) {
	if raw, ok := strings.CutPrefix(name, arch.AsStored); ok {
		return c.Stored(raw)
	}
	if c.view != nil {
		return c.view(name)
	}
	return c.Stored(name)
}

// Stored returns a tensor of the files by its Hugging Face name in a text model.
// Where the text model sits inside a multi-modal checkpoint its longer names are
// found too.
func (c *Checkpoint) Stored(name string) (*tensor.Tensor, bool) {
	for _, n := range spellings(name) {
		if t := c.byName[n]; t != nil {
			return t, true
		}
	}
	return nil, false
}

// spellings lists the names under which checkpoints keep the tensor that a
// text-only checkpoint calls name: as it is, as in Gemma3 and LLaVA checkpoints
// of transformers 4 ("language_model.model.layers..."), and as in those of
// transformers 5 ("model.language_model.layers...").
func spellings(name string) []string {
	return []string{
		name,
		"language_model." + name,
		"model.language_model." + strings.TrimPrefix(name, "model."),
	}
}

// textName is the inverse of [spellings]: the name in a text-only checkpoint.
func textName(name string) string {
	if rest, ok := strings.CutPrefix(name, "model.language_model."); ok {
		return "model." + rest
	}
	return strings.TrimPrefix(name, "language_model.")
}

// Close closes the files.
func (c *Checkpoint) Close() error {
	if c.closer == nil {
		return nil
	}
	if err := c.closer.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close checkpoint %s: %w", c.path, err)
	}
	return nil
}

// closers are closed together.
type closers []io.Closer

// Close implements [io.Closer].
func (c closers) Close() error {
	var errs []error
	for _, x := range c {
		if x != nil {
			errs = append(errs, x.Close())
		}
	}
	return errors.Join(errs...)
}

// setTensors fills the index by name.
func (c *Checkpoint) setTensors(ts []*tensor.Tensor) {
	c.tensors = ts
	c.byName = make(map[string]*tensor.Tensor, len(ts))
	for _, t := range ts {
		c.byName[t.Name] = t
	}
}

// addSupport adds files and keeps the list sorted.
func (c *Checkpoint) addSupport(files ...SupportFile) {
	c.support = append(c.support, files...)
	slices.SortFunc(c.support, func(a, b SupportFile) int { return strings.Compare(a.Name, b.Name) })
}
