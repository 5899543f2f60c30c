package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/autoselect"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

type listOptions struct {
	model string
	json  bool
}

func listCommand(c *common) *cobra.Command {
	var o listOptions
	cmd := command("list", "List a model's artifacts and what would run them here",
		`Lists the artifacts of a folder that convert wrote, best first for this machine,
then why each other runtime is left out. Nothing is loaded and nothing tried: where
only the processor computes, GGUF and ONNX are in their usual order.`,
		cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return runList(cmd.Context(), c, cmd, o) })
	f := cmd.Flags()
	f.StringVarP(&o.model, "model", "m", "", "a folder that convert wrote, or a single model (required)")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	return cmd
}

// listJSON is what list --json prints.
type listJSON struct {
	Model     string              `json:"model"`
	Machine   autoselect.Machine  `json:"machine"`
	Artifacts []modeldir.Artifact `json:"artifacts"`
	Plan      autoselect.Plan     `json:"plan"`
}

func runList(ctx context.Context, c *common, cmd *cobra.Command, o listOptions) error {
	if o.model == "" {
		return usagef(cmd, "--model is required")
	}
	found, err := findArtifacts(o.model)
	if err != nil {
		return err
	}
	m := c.probe(ctx)
	if len(found.list) > 1 {
		trials := autoselect.Trials{}
		if dir, err := c.CacheDir(); err == nil {
			trials.Dir = dir
		}
		m.Bandwidth = trials.Bandwidth(ctx, m)
	}
	p := autoselect.Rank(m, found.list, autoselect.Force{})
	if o.json {
		return printJSON(c.Out, listJSON{Model: found.root, Machine: m, Artifacts: found.list, Plan: p})
	}
	return printList(c.Out, m, found, p)
}

func printList(w io.Writer, m autoselect.Machine, found artifacts, p autoselect.Plan) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "format\ttarget\trecipe\tsize\tbits/weight\there")
	for _, a := range found.list {
		bits, here := "-", "-"
		if a.BitsPerWeight > 0 {
			bits = fmt.Sprintf("%.2f", a.BitsPerWeight)
		}
		i := slices.IndexFunc(p.Choices, func(c autoselect.Choice) bool { return c.Artifact.Path == a.Path })
		if i >= 0 {
			here = fmt.Sprintf("%d. by %s", i+1, p.Choices[i].Runtime)
		}
		recipe := a.Recipe
		if recipe == "" {
			recipe = "-"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", a.Format, a.Target, recipe, humanBytes(a.Bytes), bits, here)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n%s", m.String(), p.Explain())
	return err
}
