package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

func inspectCommand(c *common) *cobra.Command {
	return command("inspect PATH", "Show what is in a model file or folder",
		`Shows header, keys, tensors and sizes of a safetensors file, a GGUF file, a
Hugging Face folder, a folder for mlx-lm, or an ONNX model or its folder. A hub id
(owner/name[@revision][:gguf-file]) is downloaded first.`,
		cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error {
			log, err := c.logger(cmd)
			if err != nil {
				return err
			}
			path, err := c.source(cmd.Context(), log, args[0])
			if err != nil {
				return err
			}
			return runInspect(cmd.Context(), c.Out, path)
		})
}

func runInspect(ctx context.Context, w io.Writer, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("inspect: %w", err)
	}
	switch ext := strings.ToLower(filepath.Ext(path)); {
	case info.IsDir():
		if _, err := os.Stat(filepath.Join(path, modeldir.ModelFile)); err == nil {
			return inspectArtifact(w, path)
		}
		if isMLX(path) {
			return inspectMLX(ctx, w, path)
		}
		if shards := ggufFiles(path); len(shards) > 0 {
			return inspectGGUF(w, shards)
		}
		return inspectCheckpoint(ctx, w, path)
	case ext == ".onnx":
		return inspectONNX(w, path)
	case ext == ".gguf":
		return inspectGGUF(w, []string{path})
	case ext == ".safetensors":
		return inspectSafetensors(w, path)
	}
	return &tensor.UnsupportedError{
		What: fmt.Sprintf("file %s", path),
		Hint: "inspect knows .safetensors, .gguf and .onnx files and their folders",
	}
}

// inspectArtifact shows metadata, then the graph.
func inspectArtifact(w io.Writer, dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, modeldir.MetadataFile))
	if err == nil {
		m, err := modeldir.ParseMetadata(b)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, modeldir.MetadataFile), err)
		}
		if err := printMetadata(w, m); err != nil {
			return err
		}
	} else if !os.IsNotExist(err) {
		return fmt.Errorf("inspect: %w", err)
	}
	return inspectONNX(w, filepath.Join(dir, modeldir.ModelFile))
}

func printMetadata(w io.Writer, m *modeldir.Metadata) error {
	a, t := m.Architecture, m.Target
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "model\t%s, %s parameters, %d layers, hidden %d, heads %d/%d of %d, vocabulary %d, context %d\n",
		a.Name, count(a.Parameters), a.Layers, a.Hidden, a.Heads, a.KVHeads, a.HeadDim, a.Vocab, a.MaxContext)
	fmt.Fprintf(tw, "source\t%s (%s)\n", m.Source.ID, m.Source.Format)
	fmt.Fprintf(tw, "target\t%s, recipe %s, %s operators, opset %d, ONNX Runtime %s or newer\n", t.ExecutionProvider, t.Recipe, t.Dialect, t.Opset, t.MinORTVersion)
	fmt.Fprintf(tw, "size\t%s, %.3f bits per weight (floor %.3f)\n", humanBytes(m.Size.WeightBytes+m.Size.GraphBytes), m.Size.BitsPerWeight, m.Size.BitsPerWeightFloor)
	for _, b := range m.Bits {
		layers := ""
		if len(b.Layers) > 0 {
			layers = ", layers " + ranges(b.Layers)
		}
		fmt.Fprintf(tw, "  %s\t%d bits: %s%s\n", b.Role, b.Bits, b.Scheme, layers)
	}
	if f := m.Fidelity; f != nil {
		fmt.Fprintf(tw, "fidelity\tKL %.4f, top-1 %.1f %%, perplexity × %.4f on %d tokens of the %s, against the %s\n",
			f.KLMean, 100*f.Top1Agreement, f.PerplexityRatio, f.Tokens, f.Text, f.Reference)
		for _, r := range f.Ranges {
			fmt.Fprintf(tw, "  range\t%.1f in %s (limit %.0f)\n", r.MaxAbs, r.Tensor, r.Limit)
		}
	}
	fmt.Fprintln(tw)
	return tw.Flush()
}

func inspectONNX(w io.Writer, path string) error {
	f, err := onnx.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return onnx.Describe(w, f.Model)
}

func inspectSafetensors(w io.Writer, path string) error {
	r, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	for k, v := range r.Metadata() {
		fmt.Fprintf(w, "%s = %s\n", k, v)
	}
	return printTensors(w, r.Tensors())
}

// inspectCheckpoint shows a Hugging Face folder: what the converter makes of
// its configuration, and its tensors.
func inspectCheckpoint(ctx context.Context, w io.Writer, dir string) error {
	ck, err := checkpoint.Open(ctx, dir, checkpoint.Options{})
	if err != nil {
		return err
	}
	defer ck.Close()
	fmt.Fprintf(w, "%s (%s)\n", ck.ID(), ck.Format())
	spec, err := arch.Parse(ck.Config())
	if err != nil {
		fmt.Fprintf(w, "cannot be converted: %v\n", err)
		return printTensors(w, ck.Tensors())
	}
	fmt.Fprintf(w, "%s: %s parameters, %d layers, hidden %d, intermediate %d, heads %d/%d of %d, vocabulary %d, context %d, RoPE %s %g, tied head: %v\n",
		spec.Architecture, count(spec.Parameters()), spec.Layers, spec.Hidden, spec.Intermediate, spec.Heads, spec.KVHeads, spec.HeadDim,
		spec.Vocab, spec.MaxContext, spec.RoPE.Type, spec.RoPE.Theta, spec.Tied)
	if err := ck.Check(spec.Weights()); err != nil {
		fmt.Fprintf(w, "cannot be converted: %v\n", err)
	}
	for _, f := range ck.SupportFiles() {
		fmt.Fprintf(w, "  %s\n", f.Name)
	}
	return printTensors(w, ck.Tensors())
}

func printTensors(w io.Writer, ts []*tensor.Tensor) error {
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "tensor\ttype\tshape\tbytes")
	var bytes, elements int64
	for _, t := range ts {
		fmt.Fprintf(tw, "%s\t%s\t%v\t%d\n", t.Name, t.Type, t.Shape, t.Bytes)
		bytes += t.Bytes
		elements += t.Elements()
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d tensors, %s elements, %s\n", len(ts), count(elements), humanBytes(bytes))
	return err
}

// count prints a number of parameters: "135 M".
func count(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f B", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f M", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f k", float64(n)/1e3)
	}
	return fmt.Sprint(n)
}
