package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/convert/tomlx"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// mlxFlags say which folders for mlx-lm to write.
type mlxFlags struct {
	bits    []int
	group   int
	recipes []string
	dtype   string
}

func (m *mlxFlags) bind(f *pflag.FlagSet) {
	f.IntSliceVar(&m.bits, "mlx-bits", []int{4}, "MLX: bits of the weights, a folder each: 2, 3, 4, 5, 6, 8; 16 and 32 are floats")
	f.IntVar(&m.group, "mlx-group", 64, "MLX: weights that share a scale: 32, 64 or 128")
	f.StringSliceVar(&m.recipes, "mlx-recipe", nil, "MLX: mixtures instead of --mlx-bits: "+strings.Join(tomlx.Recipes(), ", "))
	f.StringVar(&m.dtype, "mlx-dtype", "", "MLX: type of scales and of what is not quantized: bfloat16, float16, float32\n(default: the model's own)")
}

// asked names the first flag that was given, "" where none was.
func (m *mlxFlags) asked(cmd *cobra.Command) string {
	for _, name := range []string{"mlx-bits", "mlx-group", "mlx-recipe", "mlx-dtype"} {
		if cmd.Flags().Changed(name) {
			return name
		}
	}
	return ""
}

// parsed turns the flags into options of package convert.
func (m *mlxFlags) parsed(cmd *cobra.Command) (convert.MLX, error) {
	var out convert.MLX
	o := tomlx.Options{Group: m.group}
	if m.dtype != "" {
		var err error
		if o.Type, err = tomlx.ParseType(m.dtype); err != nil {
			return out, usagef(cmd, "--mlx-dtype: %w", err)
		}
	}
	if len(m.recipes) == 0 || cmd.Flags().Changed("mlx-bits") {
		for _, b := range m.bits {
			with := o
			with.Bits = b
			out.Folders = append(out.Folders, with)
		}
	}
	for _, r := range m.recipes {
		with := o
		with.Recipe = r
		out.Folders = append(out.Folders, with)
	}
	seen := map[string]bool{}
	out.Folders = slices.DeleteFunc(out.Folders, func(o tomlx.Options) bool {
		twice := seen[o.Name()]
		seen[o.Name()] = true
		return twice
	})
	for _, f := range out.Folders {
		if err := f.Check(); err != nil {
			return out, usagef(cmd, "--formats mlx: %w", err)
		}
	}
	return out, nil
}

// isMLX reports whether a folder is one for mlx-lm that has something quantized,
// or says that it is one.
func isMLX(dir string) bool {
	if b, err := os.ReadFile(filepath.Join(dir, modeldir.MetadataFile)); err == nil {
		m, err := modeldir.ParseMetadata(b)
		return err == nil && m.Target.Format == "mlx"
	}
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	return err == nil && tomlx.Quantized(b)
}

// inspectMLX shows what a folder for mlx-lm holds, and whether it fits together.
func inspectMLX(ctx context.Context, w io.Writer, dir string) error {
	i, err := tomlx.Check(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "MLX folder: %s, %s parameters, %s of weights, %.3f bits per weight\n", i.ModelType, count(i.Parameters), humanBytes(i.WeightBytes), i.BitsPerWeight())
	modules := map[tomlx.Packing][]string{}
	for path, p := range i.Packed {
		modules[p] = append(modules[p], path)
	}
	for _, p := range slices.SortedFunc(maps.Keys(modules), func(a, b tomlx.Packing) int { return a.Bits*1000 + a.Group - b.Bits*1000 - b.Group }) {
		fmt.Fprintf(w, "  %d modules of %d bits, groups of %d\n", len(modules[p]), p.Bits, p.Group)
	}
	if !i.Complete {
		fmt.Fprintf(w, "  the architecture is not known here: tensors were compared with each other alone\n")
	}
	return nil
}

// checkMLX checks the folders for mlx-lm that a job has staged. What does not
// fit together would not load: it is dropped.
func checkMLX(ctx context.Context, job *convert.Job) error {
	broken := map[string]error{}
	for i, a := range job.Artifacts {
		if a.Metadata.Target.Format != "mlx" {
			continue
		}
		if _, err := tomlx.Check(ctx, job.Staged(i)); errors.Is(err, context.Canceled) {
			return err
		} else if err != nil {
			broken[a.Dir] = err
		}
	}
	return job.Fail(broken)
}
