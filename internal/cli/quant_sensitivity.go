package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/convert/mix"
)

// sensitivityCommand shows what a budget's choice rests on.
func sensitivityCommand(c *common) *cobra.Command {
	var o calibration
	var model, lora string
	var asJSON bool
	cmd := command("sensitivity", "Measure what each matrix costs when it alone is stored in 4 bits",
		`Quantizes one matrix at a time to 4-bit blocks of 32 and measures the KL
divergence of the model's output from the float model's, in one pass over the
checkpoint. The table is what convert --target-bits chooses by, and is kept.`,
		cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
			if model == "" {
				return usagef(cmd, "--model is required")
			}
			if err := o.check(cmd); err != nil {
				return err
			}
			log, err := c.logger(cmd)
			if err != nil {
				return err
			}
			ck, err := c.openCheckpoint(cmd.Context(), log, model, lora)
			if err != nil {
				return err
			}
			defer ck.Close()
			spec, err := arch.Parse(ck.Config())
			if err != nil {
				return err
			}
			stats, err := c.stats(cmd.Context(), ck, spec, o, true)
			if err != nil {
				return err
			}
			if stats == nil {
				return usagef(cmd, "sensitivity wants a calibration with text")
			}
			table, err := c.mixTable(cmd.Context(), ck, spec, o, stats)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(c.Out)
				e.SetIndent("", "  ")
				return e.Encode(table)
			}
			return c.printSensitivity(table)
		})
	f := cmd.Flags()
	f.StringVar(&model, "model", "", "checkpoint, as for convert (required)")
	f.StringVar(&lora, "lora", "", loraHelp)
	f.BoolVar(&asJSON, "json", false, "print the whole table, with the sizes and costs of every form")
	o.bind(f)
	return cmd
}

// printSensitivity is a row for each layer, a column for each matrix.
func (c *common) printSensitivity(t *mix.Table) error {
	roles := []arch.Role{arch.AttnQ, arch.AttnK, arch.AttnV, arch.AttnO, arch.FFNGate, arch.FFNUp, arch.FFNDown}
	sums := make([]float64, len(roles))
	rows := make([][]float64, t.Spec.Layers)
	for l := range rows {
		rows[l] = make([]float64, len(roles))
	}
	head := 0.0
	for _, e := range t.Entries {
		kl := e.KL
		if e.Unit.Layer < 0 {
			head = kl
			continue
		}
		i := slices.Index(roles, e.Unit.Role)
		rows[e.Unit.Layer][i], sums[i] = kl, sums[i]+kl
	}
	tw := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(tw, "layer\t")
	for _, r := range roles {
		fmt.Fprintf(tw, "%v\t", r)
	}
	fmt.Fprintln(tw)
	for l, row := range append(rows, sums) {
		if l == len(rows) {
			fmt.Fprint(tw, "sum\t")
		} else {
			fmt.Fprintf(tw, "%d\t", l)
		}
		for _, v := range row {
			fmt.Fprintf(tw, "%.4f\t", v)
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	least, most := t.Bits()
	_, err := fmt.Fprintf(c.Out, "head: %.4f\nbits per weight a recipe can have: %.2f to %.2f\n", head, least, most)
	return err
}
