package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/verify"
)

type verifyCommandOptions struct {
	evidenceFlags
	asJSON, details, noRun bool
}

func verifyCommand(c *common) *cobra.Command {
	var o verifyCommandOptions
	cmd := command("verify PATH", "Check converted models again",
		`Checks every artifact in a folder that convert wrote (or the one artifact at
PATH): files complete and unchanged, graph well formed, stored numbers finite,
size what the recipe needs. Then runs each in a process of its own and compares
its logits with a reference: the checkpoint's float32 graph (--source), logits
saved before (--reference-logits), or else onnx/base/fp16 of the same folder.
Artifacts for TensorRT and CoreML are computed on the CPU as their graph says,
nothing fused; GGUF files by llama.cpp and MLX folders by mlx-lm, where
'`+runSetupCommand+`' has installed them. Ends with exit code 1 where an artifact fails.`,
		cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error {
			return runVerifyCommand(cmd.Context(), c, cmd, args[0], o)
		})
	o.bind(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.asJSON, "json", false, "print one JSON object")
	f.BoolVar(&o.details, "details", false, "also print the bits of each kind of matrix, the largest 16-bit tensors,\nand where the target would run each operator")
	f.BoolVar(&o.noRun, "no-run", false, "check files only; run nothing")
	return cmd
}

func runVerifyCommand(ctx context.Context, c *common, cmd *cobra.Command, path string, o verifyCommandOptions) error {
	if _, err := o.request(cmd, c, ""); err != nil {
		return err
	}
	e, err := c.gather(ctx, path)
	if err != nil {
		return err
	}
	if !o.noRun {
		if err := c.measure(ctx, cmd, path, &o.evidenceFlags, e); err != nil {
			return err
		}
	}
	broken := e.close()
	if o.asJSON {
		err = printJSON(c.Out, e)
	} else {
		err = e.print(c.Out, o.details)
	}
	if err != nil {
		return err
	}
	return failed(broken, len(e.Artifacts))
}

// failed is the error that ends a command some of whose artifacts failed.
func failed(broken []string, all int) error {
	if len(broken) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d artifacts failed: %s", len(broken), all, strings.Join(broken, ", "))
}

// headline says what was compared with what.
func (e *evidence) headline() string {
	model := e.Model
	if model == "" {
		model = "model"
	}
	switch {
	case e.Reference != "" && e.Tokens > 0:
		return fmt.Sprintf("%s, against the %s,\non %d tokens of the %s, cut as %s", model, e.Reference, e.Tokens, e.Text, e.Definition)
	case e.Tokens > 0:
		return fmt.Sprintf("%s, on %d tokens of the %s, cut as %s", model, e.Tokens, e.Text, e.Definition)
	}
	return model
}

// print writes the table for people.
func (e *evidence) print(w io.Writer, details bool) error {
	fmt.Fprintf(w, "%s\n\n", e.headline())
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "artifact\tsize\tbits/weight\tfloor\tKL\ttop-1\ttop-5\tperplexity\t16-bit range\tresult")
	for _, a := range e.Artifacts {
		fmt.Fprintln(tw, strings.Join([]string{
			a.Artifact, humanBytes(a.WeightBytes), decimals(a.BitsPerWeight, 3), decimals(a.Floor, 3),
			a.kl(), a.top(1), a.top(5), a.perplexity(), a.widest(), a.verdict(),
		}, "\t"))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, a := range e.Artifacts {
		if len(a.Problems) > 0 {
			fmt.Fprintln(w)
		}
		for _, p := range a.Problems {
			fmt.Fprintf(w, "%s: %s\n", a.Artifact, p)
		}
	}
	if details {
		for _, a := range e.Artifacts {
			if err := a.printDetails(w); err != nil {
				return err
			}
		}
	}
	return e.printNotes(w)
}

// printNotes ends a report with what must be known to read it.
func (e *evidence) printNotes(w io.Writer) error {
	notes := slices.Clone(e.Notes)
	type note struct{ before, after string }
	said := map[note][]string{} // artifacts
	var order []note
	var elsewhere []string
	for _, a := range e.Artifacts {
		n := note{}
		arithmetic := a.computedBy()
		switch {
		case arithmetic == verify.Plain:
			n.before = "plain arithmetic on CPU, nothing fused: "
		case arithmetic != "":
			n.before = "computed by " + arithmetic + ": "
		case a.NotRun != "":
			n.before, n.after = "files checked, not run: ", ": "+a.NotRun
		case !a.graph():
			n.before = "files checked, not run: "
		}
		if n.before != "" && said[n] == nil {
			order = append(order, n)
		}
		said[n] = append(said[n], a.Artifact)
		if a.format() == formatGGUF || !a.graph() && arithmetic == "" {
			continue
		}
		if a.RanOnDevice != "" && !strings.HasPrefix(a.RanOnDevice, "yes") && a.Target != "base" && a.Target != "cpu" {
			elsewhere = append(elsewhere, a.Artifact)
		}
	}
	for _, n := range order {
		notes = append(notes, n.before+strings.Join(said[n], ", ")+n.after)
	}
	if len(elsewhere) > 0 {
		notes = append(notes, "not run on the device: "+strings.Join(elsewhere, ", "))
	}
	if len(notes) > 0 {
		fmt.Fprintln(w)
	}
	for _, n := range notes {
		if _, err := fmt.Fprintln(w, n); err != nil {
			return err
		}
	}
	return nil
}

// printDetails lists the matrices and ranges of one artifact.
func (a *artifactEvidence) printDetails(w io.Writer) error {
	fmt.Fprintf(w, "\n%s\n", a.Artifact)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, m := range a.Matrices {
		layers := ""
		if len(m.Layers) > 0 {
			layers = "layers " + ranges(m.Layers)
		}
		fmt.Fprintf(tw, "  %s\t%s weights\t%.3f bits\t%s\n", m.Name, count(m.Weights), m.Bits, layers)
	}
	for _, r := range a.Ranges {
		fmt.Fprintf(tw, "  %s\treaches %.1f\tof %.0f\t\n", r.Tensor, r.MaxAbs, r.Limit)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, p := range a.Placements {
		if err := p.print(w); err != nil {
			return err
		}
	}
	return nil
}

// print says what becomes of the nodes: a line for each fate, then each node
// that the target leaves.
func (p placementEvidence) print(w io.Writer) error {
	fmt.Fprintf(w, "  %s on %s (predicted from its lists):\n", p.Graph, p.Target)
	var fates []string
	by := map[string][]string{}
	for _, o := range p.Operators {
		if by[o.Fate] == nil {
			fates = append(fates, o.Fate)
		}
		by[o.Fate] = append(by[o.Fate], fmt.Sprintf("%d %s", o.Nodes, o.Operator))
	}
	for _, fate := range fates {
		fmt.Fprintf(w, "    %s: %s\n", fate, strings.Join(by[fate], ", "))
	}
	for _, text := range append(slices.Clone(p.Left), p.Warnings...) {
		if _, err := fmt.Fprintf(w, "    %s\n", text); err != nil {
			return err
		}
	}
	return nil
}

// The cells of tables: "-" where a figure was not measured.

func decimals(x float64, n int) string {
	if x == 0 {
		return "-"
	}
	return fmt.Sprintf("%.*f", n, x)
}

func (a *artifactEvidence) kl() string {
	f := a.Fidelity
	switch {
	case f == nil:
		return "-"
	case a.IsReference:
		return "reference"
	case f.KLStdErr == 0:
		return fmt.Sprintf("%.4f", f.KLMean)
	}
	return fmt.Sprintf("%.4f ± %.4f", f.KLMean, f.KLStdErr)
}

func (a *artifactEvidence) top(k int) string {
	if a.Fidelity == nil || a.IsReference {
		return "-"
	}
	share := a.Fidelity.Top1Agreement
	if k == 5 {
		share = a.Fidelity.Top5Agreement
	}
	return fmt.Sprintf("%.1f %%", 100*share)
}

func (a *artifactEvidence) perplexity() string {
	switch f := a.Fidelity; {
	case a.IsReference:
		return decimals(a.Perplexity, 2)
	case f != nil && f.PerplexityRatioStdErr == 0:
		return fmt.Sprintf("%.2f = × %.4f", f.Perplexity, f.PerplexityRatio)
	case f != nil:
		return fmt.Sprintf("%.2f = × %.4f ± %.4f", f.Perplexity, f.PerplexityRatio, f.PerplexityRatioStdErr)
	}
	return decimals(a.Perplexity, 2)
}

// widest is the largest 16-bit value, against the largest 16-bit float.
func (a *artifactEvidence) widest() string {
	if len(a.Ranges) == 0 {
		return "-"
	}
	r := slices.MaxFunc(a.Ranges, func(x, y modeldir.Range) int { return int(x.MaxAbs - y.MaxAbs) })
	return fmt.Sprintf("%.0f of %.0f", r.MaxAbs, r.Limit)
}

func (a *artifactEvidence) verdict() string {
	switch n := len(a.Problems); n {
	case 0:
		return "ok"
	case 1:
		return "1 problem"
	default:
		return fmt.Sprintf("%d problems", n)
	}
}
