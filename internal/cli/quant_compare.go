package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/bench"
	"github.com/llama-pajamas/llama-pajamas/eval"
	"github.com/llama-pajamas/llama-pajamas/report"
)

type compareOptions struct {
	evidenceFlags
	model, output   string
	formats         []string
	quick, asJSON   bool
	rounds, loads   int
	prompt, decoded int
	questions       int
	seed            uint64
	maxTokens       int
	allowCode       bool
	resume, raw     bool
}

func compareCommand(c *common) *cobra.Command {
	var o compareOptions
	cmd := command("compare PATH", "Compare the artifacts of a model: size, loss, speed, memory, questions",
		`Prints one table of every artifact in a folder that convert wrote: size, bits per
weight, what was lost against the reference (as verify measures it), and, where
this machine can run it, load time, tokens per second and memory. Speed is
measured as 'llama-pajamas-run bench' does: a process per artifact, artifacts
taking turns, medians. With --quick the losses are those that convert recorded.
With --num-questions each artifact that runs here answers them too.

--output writes a page: NAME.md with NAME.html (complete in one file) and the
folder NAME (charts as SVG, every single value as JSON) beside it; NAME.html
alone; or, into a folder, `+report.DefaultName+`.md and what belongs to it.`,
		cobra.MaximumNArgs(1), func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if o.model != "" {
					return usagef(cmd, "give PATH or --model, not both")
				}
				o.model = args[0]
			}
			return runCompare(cmd.Context(), c, cmd, o)
		})
	o.bind(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.model, "model", "m", "", "the folder, as PATH")
	f.StringVarP(&o.output, "output", "o", "", "page to write: a file ending in .md or .html, or a folder")
	f.StringSliceVar(&o.formats, "formats", nil, "formats to compare: onnx, gguf, mlx (default: all that are there)")
	f.BoolVar(&o.asJSON, "json", false, "print one JSON object")
	f.BoolVar(&o.quick, "quick", false, "do not measure losses; take what convert recorded")
	f.IntVar(&o.rounds, "rounds", 3, "rounds of the speed measurement; 0 for none")
	f.IntVar(&o.loads, "loads", 1, "loads of each artifact that are timed, from disk and from memory")
	f.IntVar(&o.prompt, "prompt-tokens", 128, "length of the prompt of a round")
	f.IntVar(&o.decoded, "decode-tokens", 32, "tokens made after it")
	f.IntVar(&o.questions, "num-questions", 0, "questions put to each artifact, balanced over six categories; 0 for none")
	f.Uint64Var(&o.seed, "seed", 0, "which of the questions are asked, where not all are; 0 takes the first of the set")
	f.IntVar(&o.maxTokens, "max-tokens", eval.DefaultMaxTokens, "longest answer in tokens, where the question allows more; 0 for the question's own limit")
	f.BoolVar(&o.allowCode, "allow-code-execution", false, "run programs that the model wrote, in a process without network, with limits of\ntime and memory; without it the likelihood of the right program is measured")
	f.BoolVar(&o.raw, "raw", true, "keep every single value, prompts and answers among them, beside the page;\n--raw=false leaves them out")
	f.BoolVar(&o.resume, "resume", false, "go on with the questions of an interrupted run of the same --output")
	return cmd
}

func (o *compareOptions) check(cmd *cobra.Command) error {
	switch {
	case o.model == "":
		return usagef(cmd, "give the folder that convert wrote")
	case o.rounds < 0 || o.prompt < 1 || o.decoded < 2 || o.loads < 0:
		return usagef(cmd, "--rounds %d, --loads %d, --prompt-tokens %d, --decode-tokens %d: want 0 or more rounds and loads, a prompt of 1 token or more, and 2 or more after it", o.rounds, o.loads, o.prompt, o.decoded)
	case o.resume && (o.questions == 0 || o.questionsFile() == ""):
		return usagef(cmd, "--resume needs --num-questions and the --output, a .md file or a folder, of the run to go on with, without --raw=false")
	}
	if o.questions != 0 {
		req := o.evalRequest()
		if err := req.check(); err != nil {
			return usagef(cmd, "%w", err)
		}
	}
	for _, f := range o.formats {
		if !slices.Contains([]string{formatONNX, formatGGUF, formatMLX}, strings.ToLower(f)) {
			return usagef(cmd, "--formats %q: choose among onnx, gguf and mlx", f)
		}
	}
	if o.output != "" {
		if _, err := report.ParseOutput(o.output); err != nil {
			return usagef(cmd, "--output: %w", err)
		}
	}
	return nil
}

func runCompare(ctx context.Context, c *common, cmd *cobra.Command, o compareOptions) error {
	if err := o.check(cmd); err != nil {
		return err
	}
	if _, err := o.request(cmd, c, ""); err != nil {
		return err
	}
	e, err := c.gather(ctx, o.model)
	if err != nil {
		return err
	}
	if err := e.keep(o.formats); err != nil {
		return err
	}
	if !o.quick {
		if err := c.measure(ctx, cmd, o.model, &o.evidenceFlags, e); err != nil {
			return err
		}
	}
	e.recall()
	e.close()
	v := &comparison{evidence: e}
	if err := c.compareSpeed(ctx, o, v); err != nil {
		return err
	}
	if err := c.compareQuestions(ctx, o, v); err != nil {
		return err
	}
	broken := e.close()
	if o.asJSON {
		err = printJSON(c.Out, v.json())
	} else {
		err = v.table(o).print(c.Out)
	}
	// The page comes last: whatever is wrong with it, the table was printed.
	return errors.Join(err, c.writePage(ctx, cmd, o, v), failed(broken, len(e.Artifacts)))
}

// keep leaves artifacts of some formats; none means all.
func (e *evidence) keep(formats []string) error {
	if len(formats) == 0 {
		return nil
	}
	e.Artifacts = slices.DeleteFunc(e.Artifacts, func(a *artifactEvidence) bool {
		return !slices.ContainsFunc(formats, func(f string) bool { return strings.EqualFold(f, a.format()) })
	})
	if len(e.Artifacts) == 0 {
		return fmt.Errorf("there is no artifact of %s", strings.Join(formats, ", "))
	}
	return nil
}

// writePage writes what --output asks for.
func (c *common) writePage(ctx context.Context, cmd *cobra.Command, o compareOptions, v *comparison) error {
	if o.output == "" {
		return nil
	}
	to, err := report.ParseOutput(o.output)
	if err != nil {
		return err
	}
	var raw []report.File
	if o.raw {
		if raw, err = v.raw(); err != nil {
			return err
		}
	}
	written, err := report.Write(to, v.page(ctx, c, cmd, o), raw)
	c.note("written: %s", strings.Join(written, ", "))
	return err
}

// raw is every single value, for the folder beside the page.
func (v *comparison) raw() (out []report.File, err error) {
	add := func(name, title string, value any) {
		data, e := json.MarshalIndent(value, "", " ")
		err = errors.Join(err, e)
		out = append(out, report.File{Name: name, Title: title, Data: append(data, '\n')})
	}
	add("artifacts.json", "artifacts and losses", v.json())
	if v.bench != nil {
		add("speed.json", "rounds of the speed measurement", v.bench)
	}
	if v.eval != nil { // which wrote its file itself
		out = append(out, report.File{Name: "questions.json", Title: "questions with prompts, answers and scores"})
	}
	return out, err
}

// comparedJSON is what --json prints.
type comparedJSON struct {
	*evidence
	Machine       *bench.Machine  `json:"machine,omitempty"`
	SpeedSettings *bench.Settings `json:"speed_settings,omitempty"`
	Questions     *eval.Settings  `json:"question_settings,omitempty"`
	Warnings      []string        `json:"warnings,omitempty"`
}

func (v *comparison) json() comparedJSON {
	out := comparedJSON{evidence: v.evidence}
	if v.bench != nil {
		out.Machine, out.SpeedSettings, out.Warnings = &v.bench.Machine, &v.bench.Settings, v.warnings()
	}
	if v.eval != nil {
		out.Questions = &v.eval.Settings
	}
	return out
}

// recall fills in what convert recorded where nothing was measured now.
func (e *evidence) recall() {
	for _, a := range e.Artifacts {
		if a.metadata != nil && a.Fidelity == nil && a.metadata.Fidelity != nil {
			a.Fidelity, a.Recorded = a.metadata.Fidelity, true
		}
	}
}

// providerOf is the backend that runs a target's artifacts.
func providerOf(target string) string {
	if target == "base" || target == "" {
		return "cpu"
	}
	return target
}

// compareSpeed benchmarks the sound artifacts. What nothing here runs has its
// reason in the report.
func (c *common) compareSpeed(ctx context.Context, o compareOptions, v *comparison) error {
	var sound []string
	for _, a := range v.Artifacts {
		if a.OK {
			sound = append(sound, a.Artifact)
		}
	}
	if o.rounds == 0 || len(sound) == 0 {
		return nil
	}
	req := benchRequest{
		Model:    o.model,
		Settings: bench.Settings{Prompt: o.prompt, Generate: o.decoded, Repetitions: o.rounds, Loads: o.loads, Threads: c.Threads},
	}
	if len(v.Artifacts) > 1 {
		for _, name := range sound {
			req.Artifacts = append(req.Artifacts, globEscape.Replace(name))
		}
	}
	r, err := c.bench(ctx, req)
	if err != nil {
		return fmt.Errorf("measure speed: %w", err)
	}
	v.bench = r
	for i := range r.Artifacts {
		m := &r.Artifacts[i]
		for _, a := range v.Artifacts {
			if a.Artifact == m.Artifact || len(v.Artifacts) == 1 {
				a.Speed, m.Artifact = m, a.Artifact
			}
		}
	}
	return nil
}

// compareQuestions puts questions to the sound artifacts that run here. With a
// page in a folder its results file is written as they are answered, for
// --resume.
func (c *common) compareQuestions(ctx context.Context, o compareOptions, v *comparison) error {
	if o.questions == 0 {
		return nil
	}
	req := o.evalRequest()
	for _, a := range v.Artifacts {
		if a.OK && len(v.Artifacts) > 1 {
			req.Artifacts = append(req.Artifacts, globEscape.Replace(a.Artifact))
		}
	}
	if len(v.Artifacts) > 1 && len(req.Artifacts) == 0 {
		return nil
	}
	if file := o.questionsFile(); file != "" {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return fmt.Errorf("make the page's folder: %w", err)
		}
		req.Output, req.Resume = file, o.resume
	}
	r, err := c.evaluate(ctx, req)
	if err != nil {
		if ctx.Err() != nil && req.Output != "" {
			c.note("answers so far are kept; --resume goes on with them")
		}
		return fmt.Errorf("ask questions: %w", err)
	}
	v.eval = r
	if len(v.Artifacts) == 1 && len(r.Artifacts) == 1 {
		r.Artifacts[0].Path = v.Artifacts[0].Artifact
	}
	for _, a := range v.Artifacts {
		if found := r.Find(a.Artifact); found != nil {
			for _, p := range found.Problems {
				a.problem("%s", p)
			}
		}
	}
	return nil
}

// evalRequest asks for questions alone: losses are measured as verify does.
func (o *compareOptions) evalRequest() evalRequest {
	return evalRequest{
		Model: o.model, Questions: o.questions, Seed: o.seed, MaxTokens: o.maxTokens, AllowCode: o.allowCode,
		Perplexity: []string{"none"},
	}
}

// questionsFile is where the answers go, "" where the page has no folder.
func (o *compareOptions) questionsFile() string {
	if o.output == "" || !o.raw {
		return ""
	}
	to, err := report.ParseOutput(o.output)
	if err != nil || to.Folder == "" {
		return ""
	}
	return filepath.Join(to.Folder, "questions.json")
}

// globEscape makes a name a pattern of itself, for package path.
var globEscape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// textTable is the table of compare, as text.
type textTable struct {
	headline string
	head     []string
	rows     [][]string
	notes    []string
}

// table makes the table of everything measured.
func (v *comparison) table(o compareOptions) *textTable {
	t := &textTable{
		headline: v.headline(),
		head:     []string{"artifact", "size", "bits/weight", "KL", "top-1", "perplexity", "load", "prefill", "decode", "memory"},
	}
	if v.eval != nil {
		t.head = append(t.head, "questions")
	}
	recorded := false
	missing := reasons{}
	for _, a := range v.Artifacts {
		row := []string{a.Artifact, humanBytes(a.WeightBytes), decimals(a.BitsPerWeight, 2), a.kl(), a.top(1), a.loss()}
		recorded = recorded || a.Recorded
		row = append(row, speedCells(a.Speed)...)
		if v.eval != nil {
			cell := "-"
			if q := v.questionsOf(a, missing); q != nil {
				cell = fmt.Sprintf("%d/%d", q.Total.Right, q.Total.Of)
			}
			row = append(row, cell)
		}
		t.rows = append(t.rows, row)
		for _, p := range a.Problems {
			t.notes = append(t.notes, fmt.Sprintf("%s: %s", a.Artifact, p))
		}
		if m := a.Speed; m != nil && m.Error != "" {
			missing.add("speed", m.Error, a.Artifact)
		}
	}
	for _, m := range missing.list() {
		t.notes = append(t.notes, fmt.Sprintf("%s not measured: %s: %s", m.What, strings.Join(m.Artifacts, ", "), m.Why))
	}
	if recorded {
		t.notes = append(t.notes, "losses are those recorded at the conversion")
	}
	if b := v.bench; b != nil {
		t.notes = append(t.notes, v.warnings()...)
		s := b.Settings
		name := b.Machine.CPU
		if name == "" {
			name = runtime.GOARCH
		}
		t.notes = append(t.notes, fmt.Sprintf("speed: %s, %d threads; medians of %d rounds, %d tokens of prompt, then %d one by one; memory is the most of the process and its children", name, s.Threads, s.Repetitions, s.Prompt, s.Generate))
	}
	if v.eval != nil {
		t.notes = append(t.notes, v.eval.Notes...)
	}
	var tail strings.Builder
	_ = v.printNotes(&tail)
	if s := strings.TrimSpace(tail.String()); s != "" {
		t.notes = append(t.notes, strings.Split(s, "\n")...)
	}
	return t
}

// loss is the ratio of perplexities, or the perplexity alone.
func (a *artifactEvidence) loss() string {
	switch f := a.Fidelity; {
	case a.IsReference:
		return "-"
	case f != nil && f.PerplexityRatioStdErr == 0:
		return fmt.Sprintf("× %.4f", f.PerplexityRatio)
	case f != nil:
		return fmt.Sprintf("× %.4f ± %.4f", f.PerplexityRatio, f.PerplexityRatioStdErr)
	}
	return decimals(a.Perplexity, 2)
}

// speedCells are load, prefill, decode and memory.
func speedCells(m *bench.Measured) []string {
	out := []string{"-", "-", "-", "-"}
	if m == nil {
		return out
	}
	for i, f := range []struct {
		stat *bench.Stat
		as   string
	}{{m.LoadWarm, "%.2f s"}, {m.Prefill, "%.0f tok/s"}, {m.Decode, "%.1f tok/s"}} {
		if f.stat != nil {
			out[i] = fmt.Sprintf(f.as, f.stat.Median)
		}
	}
	if m.PeakMemory > 0 {
		out[3] = humanBytes(m.PeakMemory)
	}
	return out
}

func (t *textTable) print(w io.Writer) error {
	fmt.Fprintf(w, "%s\n\n", t.headline)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(t.head, "\t"))
	for _, r := range t.rows {
		fmt.Fprintln(tw, strings.Join(r, "\t"))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if len(t.notes) > 0 {
		fmt.Fprintln(w)
	}
	for _, n := range t.notes {
		if _, err := fmt.Fprintln(w, n); err != nil {
			return err
		}
	}
	return nil
}
