package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/calibrate/layerwise"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/convert/mix"
	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
)

// budget asks for a recipe that fits a size.
type budget struct {
	bits float64
	size string
}

func (b *budget) bind(f *pflag.FlagSet) {
	f.Float64Var(&b.bits, "target-bits", 0, "choose the bits of every matrix so that the CPU file takes so many bits per weight, such as 5.0,\nby what each costs in quality (measured, a few minutes for small models)")
	f.StringVar(&b.size, "target-size", "", "the same for a size, such as 4.2GB or 900MiB")
}

func (b budget) asked() bool { return b.bits != 0 || b.size != "" }

// check refuses what does not go together.
func (b budget) check(cmd *cobra.Command, o convertOptions) error {
	switch {
	case !b.asked():
		return nil
	case b.bits != 0 && b.size != "":
		return usagef(cmd, "--target-bits and --target-size exclude each other")
	case b.bits < 0 || b.bits > 16:
		return usagef(cmd, "--target-bits %g: want a number of bits per weight, such as 5.0", b.bits)
	case len(o.recipes) > 0:
		return usagef(cmd, "--recipe and a budget exclude each other")
	case o.calibration.from == calibrationProbe:
		return usagef(cmd, "a budget wants a calibration with text")
	}
	if b.size != "" {
		if _, err := parseBytes(b.size); err != nil {
			return usagef(cmd, "--target-size: %w", err)
		}
	}
	return nil
}

// parseBytes reads a size such as 4.2GB (10^9) or 900MiB (2^20).
func parseBytes(s string) (int64, error) {
	text := strings.ToUpper(strings.TrimSpace(s))
	factor := 1.0
	for _, u := range []struct {
		name  string
		bytes float64
	}{{"KIB", 1 << 10}, {"MIB", 1 << 20}, {"GIB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}} {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			text, factor = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n > 0) || n*factor > 1e18 {
		return 0, fmt.Errorf("%q: want a size such as 4.2GB or 900MiB", s)
	}
	return int64(n * factor), nil
}

// budgetTokens is how much text the sensitivity of matrices is measured on.
const budgetTokens = 256

// budgetBase is the recipe that the chosen rules go into.
const budgetBase = "int4-small"

// recipeFor measures the checkpoint's matrices and writes the best recipe for
// the budget to a file in dir, which it names.
func (c *common) recipeFor(ctx context.Context, ck *checkpoint.Checkpoint, o convertOptions, dir string) (string, error) {
	spec, err := arch.Parse(ck.Config())
	if err != nil {
		return "", err
	}
	bits := o.budget.bits
	if o.budget.size != "" {
		n, err := parseBytes(o.budget.size)
		if err != nil {
			return "", err
		}
		bits = float64(n) * 8 / float64(spec.Parameters())
	}
	stats, err := c.stats(ctx, ck, spec, o.calibration, true)
	if err != nil {
		return "", err
	}
	table, err := c.mixTable(ctx, ck, spec, o.calibration, stats)
	if err != nil {
		return "", err
	}
	base, err := recipe.Load("cpu", budgetBase)
	if err != nil {
		return "", err
	}
	base.Name = fmt.Sprintf("int4-%.2f", bits)
	base.Calibration = "text"
	file := filepath.Join(dir, base.Name+".json")
	// What the file holds beside the matrices (tables, alignment, graph) is
	// known once it is planned: the budget gives way until it fits.
	_, most := table.Bits()
	give := min(bits, most)
	for range 6 {
		r, kl, err := table.Recipe(base, give)
		if err != nil && give < min(bits, most) {
			return "", fmt.Errorf("%.2f bits per weight: too few; tables, tokenizer and graph of this model take %.2f beside the matrices: %w", bits, bits-give, err)
		}
		if err != nil {
			return "", err
		}
		r.Summary = fmt.Sprintf("Chosen for %.2f bits per weight by what each matrix costs: the parts add up to KL %.4f.", bits, kl)
		b, err := r.File()
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			return "", fmt.Errorf("write the chosen recipe: %w", err)
		}
		job, err := convert.New(ctx, ck, convert.Options{Output: dir, NoBase: true, MaxContext: o.context, Targets: []convert.Target{{Name: "cpu", Recipes: []string{file}}}})
		if err != nil {
			return "", err
		}
		takes := job.Artifacts[0].Metadata.Size.BitsPerWeight
		if o.budget.size != "" {
			takes = float64(job.Plan.Bytes()) * 8 / float64(spec.Parameters())
		}
		over := takes - bits
		if over <= 0 {
			return file, nil
		}
		give -= over + 0.001
	}
	return "", fmt.Errorf("%.2f bits per weight: no recipe fits beside the tables and the graph of this model", bits)
}

// mixTable measures what each matrix costs, unless the cache holds it.
func (c *common) mixTable(ctx context.Context, ck *checkpoint.Checkpoint, spec *arch.Spec, o calibration, stats *calibrate.Stats) (*mix.Table, error) {
	library, err := c.findORT()
	if err != nil {
		return nil, err
	}
	text, _, err := o.text()
	if err != nil {
		return nil, err
	}
	key, dir, err := c.calibrationPlace(ck, text, o)
	if err != nil {
		return nil, err
	}
	kept := filepath.Join(dir, key+".mix2.json")
	table := &mix.Table{}
	if b, err := os.ReadFile(kept); err == nil && json.Unmarshal(b, table) == nil && len(table.Entries) > 0 {
		table.Spec = spec
		return table, nil
	}
	statsFile := filepath.Join(dir, key+".mix.safetensors")
	if err := stats.Save(statsFile, nil); err != nil {
		return nil, err
	}
	defer os.Remove(statsFile)
	if o.from == calibrationSelf || o.statistics() { // there is no text to cut
		text = layerwise.Text
	}
	windows, err := o.windows(ck, text, budgetTokens)
	if err != nil {
		return nil, err
	}
	req := mixRequest{Library: library, Model: ck.Path(), LoRA: ck.Adapter(), Threads: c.Threads, Windows: windows, Stats: statsFile}
	bar := c.newProgress("measuring what each matrix costs", 1000)
	err = c.runMix(ctx, req, func(permille int) { bar.set(int64(permille), 0) }, table)
	bar.stop()
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(table)
	if err == nil {
		err = os.WriteFile(kept, b, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("keep what was measured: %w", err)
	}
	table.Spec = spec
	return table, nil
}

// mixRequest goes to the child process as JSON on standard input.
type mixRequest struct {
	Library string    `json:"library"`
	Model   string    `json:"model"`
	LoRA    string    `json:"lora,omitempty"`
	Threads int       `json:"threads"`
	Windows [][]int32 `json:"windows"`
	Stats   string    `json:"stats"`
}

const mixChild = "measure-matrices"

func (c *common) runMix(ctx context.Context, req mixRequest, progress func(permille int), table *mix.Table) error {
	if c.Program == "" {
		return mixHere(ctx, req, progress, table)
	}
	return c.layerwise(ctx, mixChild, req, progress, table)
}

func mixHere(ctx context.Context, req mixRequest, progress func(permille int), table *mix.Table) error {
	return withModel(ctx, req.Library, req.Model, req.LoRA, len(req.Windows[0]), req.Threads, func(m *layerwise.Model, ck *checkpoint.Checkpoint) error {
		stats, _, err := calibrate.Load(req.Stats, m.Spec())
		if err != nil {
			return err
		}
		base, err := recipe.Load("cpu", budgetBase)
		if err != nil {
			return err
		}
		t, err := mix.Measure(ctx, m, ck.Tensor, mix.Options{
			Stats: stats, Fold: base.FoldOptions(), Windows: req.Windows, Workers: max(1, req.Threads),
			Progress: func(done, total int) { progress(1000 * done / total) },
		})
		if err == nil {
			*table = *t
		}
		return err
	})
}

// mixChildCommand is the child's side.
func mixChildCommand(c *common) *cobra.Command {
	cmd := command(mixChild, "", "", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
		var req mixRequest
		if err := json.NewDecoder(io.LimitReader(c.In, 64<<20)).Decode(&req); err != nil {
			return fmt.Errorf("read the request: %w", err)
		}
		if len(req.Windows) == 0 {
			return errors.New("no windows to run")
		}
		out := json.NewEncoder(c.Out)
		var table mix.Table
		if err := mixHere(cmd.Context(), req, func(p int) { _ = out.Encode(calibrateLine{Done: p}) }, &table); err != nil {
			return out.Encode(calibrateLine{Error: err.Error()})
		}
		b, err := json.Marshal(table)
		if err != nil {
			return err
		}
		return out.Encode(calibrateLine{Done: 1000, Result: b})
	})
	cmd.Hidden = true
	return cmd
}
