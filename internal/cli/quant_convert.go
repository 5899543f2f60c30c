package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/chattemplate"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

type convertOptions struct {
	model, output string
	lora          string
	formats       []string
	targetFlags
	mlx              mlxFlags
	gguf             ggufFlags
	recipes          []string
	noBase, force    bool
	dryRun, noVerify bool
	context          int
	allLogits        bool
	calibration      calibration
	budget           budget
}

func convertCommand(c *common) *cobra.Command {
	var o convertOptions
	cmd := command("convert", "Convert a checkpoint",
		`Converts a checkpoint to model folders below OUTPUT:

  onnx/base/fp16          the model in 16-bit floats and standard operators
  onnx/cpu/int4, int8, …  quantized for one execution provider each: tensorrt,
                          cuda, coreml, cpu
  gguf/Q4_K_M, …          a file for llama.cpp each (--formats gguf)
  mlx/4bit, mixed_4_6, …  a folder for mlx-lm each (--formats mlx)

Without --target-eps base alone is written of ONNX. After writing, each ONNX
artifact is loaded and compared with the float32 graph; the figures go into
metadata.json. GGUF files and MLX folders are not run.
Where an artifact cannot be made the others are, and the command fails.`,
		cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return runConvert(cmd.Context(), c, cmd, o) })
	f := cmd.Flags()
	f.StringVar(&o.model, "model", "", "checkpoint: a Hugging Face folder, a GGUF file, "+hubHelp+",\nor sample:stories260K, a 1 MB model inside this program (required)")
	f.StringVar(&o.lora, "lora", "", loraHelp)
	f.StringVar(&o.output, "output", "", "folder that receives onnx/…, gguf/…, mlx/… (required)")
	f.StringSliceVar(&o.formats, "formats", []string{"onnx"}, "formats to write: onnx, gguf, mlx")
	o.targetFlags.bind(f)
	o.mlx.bind(f)
	o.gguf.bind(f)
	f.StringSliceVar(&o.recipes, "recipe", nil, "recipe names or files to use instead of --target-precisions")
	f.BoolVar(&o.noBase, "no-base", false, "leave out onnx/base/fp16")
	f.BoolVar(&o.force, "force", false, "replace artifacts in an output folder that is not empty")
	f.BoolVar(&o.dryRun, "dry-run", false, "print files, sizes, bits, peak memory and disk needed; write nothing")
	f.BoolVar(&o.noVerify, "no-verify", false, "do not run and compare what was written")
	f.IntVar(&o.context, "context", 0, "longest context the files are made for, in tokens (default: the model's own)")
	o.calibration.bind(f)
	o.budget.bind(f)
	f.BoolVar(&o.allLogits, "all-logits", false, "compute the logits of every position, not the last alone")
	return cmd
}

// plan turns flags into options of package convert.
func (o convertOptions) plan(cmd *cobra.Command, c *common) (convert.Options, error) {
	out := convert.Options{
		Output: o.output, NoBase: o.noBase, Force: o.force, Workers: c.Threads,
		MaxContext: o.context, AllLogits: o.allLogits,
	}
	if o.model == "" || o.output == "" {
		return out, usagef(cmd, "--model and --output are required")
	}
	var formats struct{ onnx, gguf, mlx bool }
	for _, f := range o.formats {
		switch strings.ToLower(f) {
		case "onnx":
			formats.onnx = true
		case "gguf":
			formats.gguf = true
		case "mlx":
			formats.mlx = true
		default:
			return out, usagef(cmd, "--formats %q: this release writes onnx, gguf and mlx", f)
		}
	}
	var err error
	if formats.gguf {
		if out.GGUF, err = o.gguf.parsed(cmd); err != nil {
			return out, err
		}
	} else if name := o.gguf.asked(cmd); name != "" {
		return out, usagef(cmd, "--%s needs --formats gguf", name)
	}
	if formats.mlx {
		if out.MLX, err = o.mlx.parsed(cmd); err != nil {
			return out, err
		}
	} else if name := o.mlx.asked(cmd); name != "" {
		return out, usagef(cmd, "--%s needs --formats mlx", name)
	}
	if o.context < 0 {
		return out, usagef(cmd, "--context %d: want a positive number of tokens", o.context)
	}
	if err := o.calibration.check(cmd); err != nil {
		return out, err
	}
	if err := o.budget.check(cmd, o); err != nil {
		return out, err
	}
	if err := o.settle(cmd); err != nil {
		return out, err
	}
	if out.Hints, err = o.parsed(cmd); err != nil {
		return out, err
	}
	recipes := o.recipes
	if len(recipes) == 0 {
		recipes = o.precisions
	}
	if !formats.onnx {
		if len(o.targets) > 0 || len(o.recipes) > 0 || o.budget.asked() {
			return out, usagef(cmd, "--target-eps, --recipe and a budget need --formats onnx")
		}
		out.NoBase = true
		return out, nil
	}
	seen := map[string]bool{}
	for _, t := range o.targets {
		name, err := convert.ParseTarget(t)
		if err != nil {
			return out, usagef(cmd, "--target-eps: %w", err)
		}
		if !seen[name] {
			out.Targets = append(out.Targets, convert.Target{Name: name, Recipes: recipes})
		}
		seen[name] = true
	}
	if len(o.targets) == 0 && len(o.recipes) > 0 {
		return out, usagef(cmd, "--recipe needs --target-eps")
	}
	return out, nil
}

func runConvert(ctx context.Context, c *common, cmd *cobra.Command, o convertOptions) (err error) {
	opts, err := o.plan(cmd, c)
	if err != nil {
		return err
	}
	if opts.Logger, err = c.logger(cmd); err != nil {
		return err
	}
	ck, err := c.openCheckpoint(ctx, opts.Logger, o.model, o.lora)
	if err != nil {
		return err
	}
	defer ck.Close()
	if err := checkText(ck); err != nil {
		return err
	}
	if o.budget.asked() {
		dir, err := os.MkdirTemp("", "llama-pajamas-recipe-")
		if err != nil {
			return fmt.Errorf("make a folder for the chosen recipe: %w", err)
		}
		defer os.RemoveAll(dir)
		file, err := c.recipeFor(ctx, ck, o, dir)
		if err != nil {
			return err
		}
		opts.Targets = []convert.Target{{Name: "cpu", Recipes: []string{file}}}
	}
	if opts.GGUF.Importance, err = o.gguf.importance(ctx, c, ck, o.calibration); err != nil {
		return err
	}
	graphs := !opts.NoBase || len(opts.Targets) > 0
	opts.Reference = !o.noVerify && !o.dryRun && (graphs || c.canVerifySessions(opts))
	bar := &progress{}
	opts.Progress = func(done, total int64) { bar.set(done, total) }
	job, err := convert.New(ctx, ck, opts)
	var noReference error
	if opts.Reference && !graphs {
		// Files of other formats do not need the graph that they would be
		// compared with.
		if noReference = err; err == nil {
			noReference = roomFor(job.Plan.Bytes(), o.output)
		}
		if noReference != nil {
			opts.Reference = false
			job, err = convert.New(ctx, ck, opts)
		}
	}
	if err != nil {
		return err
	}
	if o.dryRun {
		if err := errors.Join(printPlan(c.Out, job), printFailures(c.Out, job)); err != nil {
			return err
		}
		return failures(job)
	}
	start := time.Now()
	if asked := job.Calibration(); asked == "text" || asked != "" && o.calibration.from != calibrationAuto {
		stats, err := c.stats(ctx, ck, job.Spec, o.calibration, job.NeedsRanges())
		if err != nil {
			return err
		}
		job.SetStats(stats)
	}
	kept, err := c.keepUnchanged(ctx, ck, &job, opts)
	if err != nil {
		return err
	}
	if len(kept) > 0 && !slices.ContainsFunc(job.Artifacts, func(a *convert.Artifact) bool { return !a.Reference }) {
		return nil
	}
	published := false
	defer func() {
		if err != nil && !published {
			err = errors.Join(err, job.Discard())
		}
	}()
	bar = c.newProgress("converting", job.Plan.SourceElements())
	err = job.Write(ctx)
	bar.stop()
	if err != nil {
		return err
	}
	written := time.Since(start)
	problems := false
	if err := checkMLX(ctx, job); err != nil {
		return err
	}
	if opts.Reference {
		if problems, err = verifyJob(ctx, c, job); err != nil {
			return err
		}
	} else if !o.noVerify {
		c.noteNoReference(job, noReference)
	}
	if err := job.WriteMetadata(ctx); err != nil {
		return err
	}
	if err := job.Publish(); err != nil {
		return err
	}
	published = true
	if err := printResult(c.Out, job, written); err != nil {
		return err
	}
	if err := printFailures(c.Out, job); err != nil {
		return err
	}
	if err := failures(job); err != nil {
		return err
	}
	if problems {
		return errProblems
	}
	return nil
}

// keepUnchanged plans a job again without the artifacts that the output folder
// holds as it would write them, and says which they are.
func (c *common) keepUnchanged(ctx context.Context, ck *checkpoint.Checkpoint, job **convert.Job, opts convert.Options) ([]string, error) {
	if opts.Force {
		return nil, nil
	}
	kept, err := (*job).Unchanged(ctx)
	if err != nil || len(kept) == 0 {
		return nil, err
	}
	fmt.Fprintf(c.Out, "kept, unchanged: %s\n", strings.Join(kept, ", "))
	opts.Keep = kept
	stats := (*job).Stats()
	if *job, err = convert.New(ctx, ck, opts); err != nil {
		return nil, err
	}
	(*job).SetStats(stats)
	return kept, nil
}

// checkText reads the tokenizer and the chat template, which convert only
// copies: a model whose text cannot be read is of no use, and that should be
// known before hours of work. Neither need be there.
func checkText(ck *checkpoint.Checkpoint) error {
	for name, parse := range map[string]func([]byte) error{
		"tokenizer.json":             func(b []byte) error { _, err := tokenizer.Parse(b); return err },
		modeldir.TokenizerConfigFile: func(b []byte) error { _, err := modeldir.ParseTokenizerConfig(b); return err },
		modeldir.ChatTemplateFile:    func(b []byte) error { _, err := chattemplate.Parse("", string(b)); return err },
	} {
		f, ok := ck.SupportFile(name)
		if !ok {
			continue
		}
		data, err := f.Data()
		if err == nil {
			err = parse(data)
		}
		if err != nil {
			return fmt.Errorf("read %s of %s: %w", name, ck.Path(), err)
		}
	}
	return nil
}

// printPlan is the answer to --dry-run.
func printPlan(w io.Writer, job *convert.Job) error {
	for i, a := range job.Artifacts {
		pa := job.Plan.Artifacts[i]
		fmt.Fprintf(w, "%s  %s\n", a.Dir, a.Recipe.Summary)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, f := range pa.Files {
			fmt.Fprintf(tw, "  %s\t%s\n", f.Name, humanBytes(int64(len(f.Data))))
		}
		for _, f := range pa.Data.Files() {
			fmt.Fprintf(tw, "  %s\t%s\n", f.Name, humanBytes(f.Size))
		}
		if err := tw.Flush(); err != nil {
			return err
		}
		for _, b := range a.Metadata.Bits {
			layers := ""
			if len(b.Layers) > 0 {
				layers = " in layers " + ranges(b.Layers)
			}
			fmt.Fprintf(w, "    %s: %s%s\n", b.Role, b.Scheme, layers)
		}
		s := a.Metadata.Size
		fmt.Fprintf(w, "  bits per weight: %.3f (floor %.3f), %.1f %% of 16 bits", s.BitsPerWeight, s.BitsPerWeightFloor, s.BitsPerWeight/0.16)
		if s.BodyBitsPerWeight > 0 {
			fmt.Fprintf(w, "; the layers' matrices alone: %.3f", s.BodyBitsPerWeight)
		}
		fmt.Fprint(w, "\n\n")
	}
	fmt.Fprintf(w, "disk needed:  %s\n", humanBytes(job.Plan.Bytes()))
	fmt.Fprintf(w, "peak memory:  about %s (%d workers)\n", humanBytes(job.PeakMemory()), job.Workers())
	return nil
}

// printResult is the closing table.
func printResult(w io.Writer, job *convert.Job, written time.Duration) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "artifact\tsize\tbits/weight\tKL\ttop-1\tperplexity")
	for i, a := range job.Artifacts {
		if a.Reference {
			continue
		}
		f := a.Metadata.Fidelity
		row := "\t-\t-\t-"
		if f != nil {
			row = fmt.Sprintf("\t%.4f\t%.1f %%\t× %.4f", f.KLMean, 100*f.Top1Agreement, f.PerplexityRatio)
		}
		fmt.Fprintf(tw, "%s\t%s\t%.2f%s\n", a.Dir, humanBytes(job.Plan.Artifacts[i].Bytes()), a.Metadata.Size.BitsPerWeight, row)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "written in %.1f s\n", written.Seconds())
	return err
}
