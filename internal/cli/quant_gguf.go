package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/convert/togguf"
	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
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

// ggufFiles are the GGUF files of a folder that convert wrote for llama.cpp; nil
// for other folders.
func ggufFiles(dir string) []string {
	b, err := os.ReadFile(filepath.Join(dir, modeldir.MetadataFile))
	if err != nil {
		return nil
	}
	m, err := modeldir.ParseMetadata(b)
	if err != nil || m.Target.Format != "gguf" {
		return nil
	}
	var files []string
	for _, f := range m.Files {
		if strings.HasSuffix(f.Name, ".gguf") && filepath.IsLocal(f.Name) {
			files = append(files, filepath.Join(dir, f.Name))
		}
	}
	return files
}

// inspectGGUF shows what the file holds on the whole, then keys and tensors, of
// each file where there are several.
func inspectGGUF(w io.Writer, paths []string) error {
	for i, path := range paths {
		if i > 0 {
			fmt.Fprintln(w)
		}
		g, err := gguf.Open(path)
		if err != nil {
			return err
		}
		if len(paths) > 1 {
			fmt.Fprintf(w, "%s\n", filepath.Base(path))
		}
		if err := errors.Join(printGGUF(w, g), g.Close()); err != nil {
			return err
		}
	}
	return nil
}

func printGGUF(w io.Writer, g *gguf.Reader) error {
	fmt.Fprintf(w, "GGUF version %d, alignment %d, %d keys, %d tensors\n", g.Version(), g.Alignment(), len(g.Values()), len(g.Infos()))
	fmt.Fprintf(w, "%s\n\n", ggufSummary(g))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range g.Values() {
		fmt.Fprintf(tw, "%s\t%s\n", v.Key, v.Summary(60))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	return printTensors(w, g.Tensors())
}

// ggufSummary says in a line what kind of file it is, how large, and which types
// its tensors have.
func ggufSummary(g *gguf.Reader) string {
	var parts []string
	for _, key := range []string{"general.type", "general.architecture"} {
		if v, ok := g.Value(key); ok {
			parts = append(parts, strings.Trim(v.Summary(40), `"`))
		}
	}
	if v, ok := g.Value("general.file_type"); ok {
		if n, err := v.Int(); err == nil && n >= 0 && n <= math.MaxUint32 {
			parts = append(parts, "file type "+togguf.FileType(n).String())
		}
	}
	var elements, bytes int64
	types := map[string]int{}
	for _, i := range g.Infos() {
		n, _ := i.Shape.Elements()
		elements, bytes = elements+n, bytes+i.Bytes
		types[i.Type.String()]++
	}
	if elements > 0 {
		parts = append(parts, count(elements)+" elements", fmt.Sprintf("%s of tensors, %.3f bits each", humanBytes(bytes), float64(bytes)*8/float64(elements)))
	}
	var kinds []string
	for _, t := range slices.SortedFunc(maps.Keys(types), func(a, b string) int { return cmp.Or(types[b]-types[a], strings.Compare(a, b)) }) {
		kinds = append(kinds, fmt.Sprintf("%d %s", types[t], t))
	}
	if v, ok := g.Value("split.count"); ok {
		if n, err := v.Int(); err == nil && n > 1 {
			no := int64(0)
			if v, ok := g.Value("split.no"); ok {
				no, _ = v.Int()
			}
			parts = append(parts, fmt.Sprintf("file %d of %d", no+1, n))
		}
	}
	return strings.Join(append(parts, strings.Join(kinds, ", ")), "; ")
}
