package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/convert/togguf"
)

// ggufFlags say which GGUF files to write.
type ggufFlags struct {
	types        []string
	overrides    []string
	imatrix      string
	splitSize    string
	splitTensors int
}

// imatrixAuto asks for an importance matrix of the calibration text.
const imatrixAuto = "auto"

func (g *ggufFlags) bind(f *pflag.FlagSet) {
	f.StringSliceVar(&g.types, "gguf-precision", []string{"Q4_K_M"}, "GGUF: types to write, a file each:\n"+strings.Join(togguf.FileTypes(), ", "))
	f.StringArrayVar(&g.overrides, "tensor-type", nil, "GGUF: PATTERN=TYPE gives tensors whose names match a type of their own, as in\n'attn_v=q8_0'; may be given several times, the first that matches counts")
	f.StringVar(&g.imatrix, "gguf-imatrix", "", "GGUF: importance matrix: a file of llama.cpp or of 'imatrix', a statistics file of\n'calibrate', or auto (made from the calibration text)")
	f.StringVar(&g.splitSize, "gguf-split-size", "", "GGUF: start a new file before one would hold more tensor data than this, as in 2GB")
	f.IntVar(&g.splitTensors, "gguf-split-tensors", 0, "GGUF: start a new file before one would hold more tensors than this")
}

// asked names the first flag that was given, "" where none was.
func (g *ggufFlags) asked(cmd *cobra.Command) string {
	for _, name := range []string{"gguf-precision", "tensor-type", "gguf-imatrix", "gguf-split-size", "gguf-split-tensors"} {
		if cmd.Flags().Changed(name) {
			return name
		}
	}
	return ""
}

// parsed turns the flags into options of package convert, but for the importance
// matrix.
func (g *ggufFlags) parsed(cmd *cobra.Command) (convert.GGUF, error) {
	var out convert.GGUF
	seen := map[togguf.FileType]bool{}
	for _, name := range g.types {
		t, err := togguf.ParseFileType(name)
		if err != nil {
			return out, usagef(cmd, "--gguf-precision: %w", err)
		}
		if !seen[t] {
			out.Types = append(out.Types, t)
		}
		seen[t] = true
	}
	for _, s := range g.overrides {
		o, err := togguf.ParseOverride(s)
		if err != nil {
			return out, usagef(cmd, "--tensor-type: %w", err)
		}
		out.Overrides = append(out.Overrides, o)
	}
	if g.splitSize != "" {
		n, err := parseBytes(g.splitSize)
		if err != nil {
			return out, usagef(cmd, "--gguf-split-size: %w", err)
		}
		out.SplitBytes = n
	}
	if g.splitTensors < 0 {
		return out, usagef(cmd, "--gguf-split-tensors %d: want a positive number", g.splitTensors)
	}
	out.SplitTensors = g.splitTensors
	return out, nil
}

// importance reads or makes the importance matrix; nil where none is asked for.
func (g *ggufFlags) importance(ctx context.Context, c *common, ck *checkpoint.Checkpoint, o calibration) (*togguf.Imatrix, error) {
	if g.imatrix == "" {
		return nil, nil
	}
	if g.imatrix != imatrixAuto && !strings.HasSuffix(g.imatrix, ".safetensors") {
		return togguf.OpenImatrix(g.imatrix)
	}
	spec, err := arch.Parse(ck.Config())
	if err != nil {
		return nil, err
	}
	var stats *calibrate.Stats
	switch {
	case g.imatrix != imatrixAuto:
		stats, _, err = calibrate.Load(g.imatrix, spec)
	case o.from == calibrationProbe:
		return nil, fmt.Errorf("--gguf-imatrix auto needs a text: --calibration auto or FILE")
	default:
		stats, err = c.textStats(ctx, ck, spec, o)
	}
	if err != nil {
		return nil, err
	}
	m, err := togguf.NewImatrix(spec, stats, imatrixChunk)
	if err != nil {
		return nil, err
	}
	m.File = g.imatrix
	return m, nil
}
