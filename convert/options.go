package convert

import (
	"fmt"
	"log/slog"
	"runtime"
	"strings"

	"github.com/shirou/gopsutil/v4/disk"

	"github.com/llama-pajamas/llama-pajamas/target"
)

// Version is stamped into every artifact.
const Version = "0.2.0"

// ToolName is stamped beside it.
const ToolName = "llama-pajamas-quant"

// staging is the folder, inside the output folder, that a job writes to.
const staging = ".llama-pajamas-partial"

// Target asks for one execution provider's artifacts.
type Target struct {
	// Name is the folder below onnx/, such as "cpu", with "@RELEASE" where
	// graphs may use what a newer release of the provider's library knows.
	Name string
	// Recipes are built-in names or recipe files.
	Recipes []string
}

// Options say what to convert to. The zero value of each field is its default.
type Options struct {
	// Output is the folder that receives onnx/…; required.
	Output string
	// Targets beside base; none writes base alone.
	Targets []Target
	// GGUF files to write; by default none.
	GGUF GGUF
	// MLX folders to write; by default none.
	MLX MLX
	// NoBase leaves out onnx/base/fp16.
	NoBase bool
	// Reference also writes a float32 artifact into the staging folder, which
	// verify compares with and Publish does not keep.
	Reference bool
	// Keep names artifacts, by Dir, that are not to be made, since they are there:
	// see [Job.Unchanged].
	Keep []string
	// Force replaces artifacts that are there.
	Force bool
	// Workers is the number of goroutines that read, encode and write;
	// default GOMAXPROCS.
	Workers int
	// MaxContext caps the positions the model is made for; default its own.
	MaxContext int
	// Hints shape the graphs of the targets; what they say of the model must be
	// right.
	Hints target.Hints
	// AllLogits computes the logits of every position instead of the last.
	AllLogits bool
	// Progress is called with source elements done and in all, from several
	// goroutines, one at a time; may be nil.
	Progress func(done, total int64)
	// FreeSpace tells the bytes free on the disk of a folder; default asks the
	// system.
	FreeSpace func(dir string) (int64, error)
	// Logger may be nil.
	Logger *slog.Logger
}

// ParseTarget finds an execution provider by any name package target knows,
// ignoring case, and returns its folder's name, with the release where one was
// asked for: "tensorrt@10.15".
func ParseTarget(name string) (string, error) {
	t, err := target.Find(name)
	if err != nil {
		return "", err
	}
	if _, release, ok := strings.Cut(name, "@"); ok {
		return t.Name + "@" + strings.TrimSpace(release), nil
	}
	return t.Name, nil
}

func (o *Options) fill() error {
	if o.Output == "" {
		return fmt.Errorf("no output folder given")
	}
	if o.NoBase && len(o.Targets) == 0 && !o.Reference && len(o.GGUF.Types) == 0 && len(o.MLX.Folders) == 0 {
		return fmt.Errorf("nothing to write: no targets, and base is left out")
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.FreeSpace == nil {
		o.FreeSpace = func(dir string) (int64, error) {
			u, err := disk.Usage(dir)
			if err != nil {
				return 0, fmt.Errorf("ask for the free space of %s: %w", dir, err)
			}
			return int64(u.Free), nil
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}
