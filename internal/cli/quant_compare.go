package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer"
)

type compareOptions struct {
	evidenceFlags
	model, output   string
	quick, asJSON   bool
	rounds          int
	prompt, decoded int
}

func compareCommand(c *common) *cobra.Command {
	var o compareOptions
	cmd := command("compare PATH", "Compare the artifacts of a model: size, loss, speed, memory",
		`Prints one table of every artifact in a folder that convert wrote: size, bits per
weight, what was lost against the reference (as verify measures it), and, where
this machine can run it, load time, tokens per second and memory. Speed is
measured in a process per artifact and round, artifacts taking turns; the table
has medians. With --quick the losses are those that convert recorded.`,
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
	f.StringVarP(&o.output, "output", "o", "", "file that receives the table as Markdown")
	f.BoolVar(&o.asJSON, "json", false, "print one JSON object")
	f.BoolVar(&o.quick, "quick", false, "do not measure losses; take what convert recorded")
	f.IntVar(&o.rounds, "rounds", 3, "rounds of the speed measurement; 0 for none")
	f.IntVar(&o.prompt, "prompt-tokens", 128, "length of the prompt of a round")
	f.IntVar(&o.decoded, "decode-tokens", 32, "tokens made after it")
	return cmd
}

func runCompare(ctx context.Context, c *common, cmd *cobra.Command, o compareOptions) error {
	switch {
	case o.model == "":
		return usagef(cmd, "give the folder that convert wrote")
	case o.rounds < 0 || o.prompt < 1 || o.decoded < 1:
		return usagef(cmd, "--rounds %d, --prompt-tokens %d, --decode-tokens %d: want 0 or more rounds, of 1 token or more", o.rounds, o.prompt, o.decoded)
	}
	if _, err := o.request(cmd, c, ""); err != nil {
		return err
	}
	e, err := c.gather(ctx, o.model)
	if err != nil {
		return err
	}
	if !o.quick {
		if err := c.measure(ctx, cmd, o.model, &o.evidenceFlags, e); err != nil {
			return err
		}
	}
	e.recall()
	broken := e.close()
	if o.rounds > 0 {
		if err := c.measureSpeed(ctx, o, e); err != nil {
			return err
		}
	}
	t := e.table(ctx, c, o)
	if o.output != "" {
		if err := os.WriteFile(o.output, []byte(t.markdown()), 0o644); err != nil {
			return fmt.Errorf("write the table: %w", err)
		}
	}
	if o.asJSON {
		err = printJSON(c.Out, e)
	} else {
		err = t.print(c.Out)
	}
	if err != nil {
		return err
	}
	return failed(broken, len(e.Artifacts))
}

// recall fills in what convert recorded where nothing was measured now.
func (e *evidence) recall() {
	for _, a := range e.Artifacts {
		if a.metadata != nil && a.Fidelity == nil && a.metadata.Fidelity != nil {
			a.Fidelity, a.Recorded = a.metadata.Fidelity, true
		}
	}
}

// speedEvidence is how an artifact runs here.
type speedEvidence struct {
	Provider string  `json:"execution_provider,omitempty"`
	Load     float64 `json:"load_seconds,omitempty"` // the runtime and the model
	Prefill  float64 `json:"prefill_tokens_per_second,omitempty"`
	Decode   float64 `json:"decode_tokens_per_second,omitempty"`
	Peak     int64   `json:"peak_memory_bytes,omitempty"` // resident, of the process
	Rounds   int     `json:"rounds,omitempty"`
	// Spread is the fastest round's decode rate over the slowest's.
	Spread float64 `json:"decode_spread,omitempty"`
	// Error says why it did not run.
	Error string `json:"error,omitempty"`
}

// providerOf is the backend that runs a target's artifacts.
func providerOf(target string) string {
	if target == "base" || target == "" {
		return "cpu"
	}
	return target
}

// measureSpeed runs every sound artifact in rounds. Each run is a process of
// its own, so that memory and load time are of that artifact alone and a crash
// ends one row.
func (c *common) measureSpeed(ctx context.Context, o compareOptions, e *evidence) error {
	runtimes := c.runtimes(e)
	if slices.ContainsFunc(e.Artifacts, (*artifactEvidence).graph) {
		library, err := c.findORT()
		if err != nil {
			e.note("speed of ONNX artifacts was not measured: %v", err)
		} else {
			runtimes[formatONNX] = library
		}
	}
	if len(runtimes) == 0 {
		return nil
	}
	runs := map[*artifactEvidence][]speedEvidence{}
	bar := c.newProgress("measuring speed", int64(o.rounds*len(e.Artifacts)))
	defer bar.stop()
	for round := range o.rounds {
		for i := range e.Artifacts {
			a := e.Artifacts[(i+round)%len(e.Artifacts)] // nobody is always first
			if runtime := runtimes[a.format()]; a.OK && runtime != "" && a.Speed == nil {
				r, err := c.runSpeed(ctx, speedRequest{
					Library: runtime, Format: a.format(), Dir: a.dir, Provider: providerOf(a.Target), Threads: c.Threads,
					Prompt: o.prompt, Decode: o.decoded,
				})
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil {
					a.Speed = &speedEvidence{Error: shorten(err, a.dir, a.Artifact)}
				}
				runs[a] = append(runs[a], r)
			}
			bar.set(int64(round*len(e.Artifacts)+i+1), 0)
		}
	}
	for _, a := range e.Artifacts {
		r := runs[a]
		if len(r) == 0 || a.Speed != nil {
			continue
		}
		decode := func(s speedEvidence) float64 { return s.Decode }
		spread := 0.0
		if slowest := slices.MinFunc(r, func(x, y speedEvidence) int { return cmp.Compare(x.Decode, y.Decode) }).Decode; slowest > 0 {
			spread = slices.MaxFunc(r, func(x, y speedEvidence) int { return cmp.Compare(x.Decode, y.Decode) }).Decode / slowest
		}
		a.Speed = &speedEvidence{
			Provider: r[0].Provider, Rounds: len(r), Spread: spread,
			Load:    median(r, func(s speedEvidence) float64 { return s.Load }),
			Prefill: median(r, func(s speedEvidence) float64 { return s.Prefill }),
			Decode:  median(r, decode),
			Peak:    int64(median(r, func(s speedEvidence) float64 { return float64(s.Peak) })),
		}
	}
	return nil
}

// median of an even number of runs is the mean of the middle two.
func median(runs []speedEvidence, of func(speedEvidence) float64) float64 {
	v := make([]float64, len(runs))
	for i, r := range runs {
		v[i] = of(r)
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// cpuProvider is what ONNX Runtime calls the CPU.
const cpuProvider = "CPUExecutionProvider"

// speedRequest goes to the process that measures one artifact once.
type speedRequest struct {
	Library  string `json:"library"` // or, of MLX, the Python interpreter
	Format   string `json:"format"`
	Dir      string `json:"dir"`
	Provider string `json:"provider"`
	Threads  int    `json:"threads"`
	Prompt   int    `json:"prompt_tokens"`
	Decode   int    `json:"decode_tokens"`
}

// speedChild names the hidden command that runs in it.
const speedChild = "measure-speed"

func (c *common) runSpeed(ctx context.Context, req speedRequest) (speedEvidence, error) {
	if c.Program == "" {
		return speedHere(ctx, req)
	}
	var r speedEvidence
	err := c.child(ctx, speedChild, req, func(out io.Reader) error {
		return json.NewDecoder(io.LimitReader(out, 1<<20)).Decode(&r)
	})
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	return r, err
}

func speedChildCommand(c *common) *cobra.Command {
	cmd := command(speedChild, "", "", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
		var req speedRequest
		if err := json.NewDecoder(io.LimitReader(c.In, 1<<20)).Decode(&req); err != nil {
			return fmt.Errorf("read the request: %w", err)
		}
		r, err := speedHere(cmd.Context(), req)
		if err != nil {
			r.Error = err.Error()
		}
		return json.NewEncoder(c.Out).Encode(r)
	})
	cmd.Hidden = true
	return cmd
}

// comparison is the table of compare, as text.
type comparison struct {
	headline string
	head     []string
	rows     [][]string
	notes    []string
}

// table makes the table of everything measured.
func (e *evidence) table(ctx context.Context, c *common, o compareOptions) *comparison {
	t := &comparison{
		headline: e.headline(),
		head:     []string{"artifact", "size", "bits/weight", "KL", "top-1", "perplexity", "load", "prefill", "decode", "memory"},
	}
	recorded := false
	why := map[string][]string{} // artifacts that were not run, by reason
	var reasons []string
	for _, a := range e.Artifacts {
		row := []string{a.Artifact, humanBytes(a.WeightBytes), decimals(a.BitsPerWeight, 2), a.kl(), a.top(1), a.loss()}
		recorded = recorded || a.Recorded
		t.rows = append(t.rows, append(row, a.Speed.cells()...))
		for _, p := range a.Problems {
			t.notes = append(t.notes, fmt.Sprintf("%s: %s", a.Artifact, p))
		}
		if s := a.Speed; s != nil && s.Error != "" {
			if why[s.Error] == nil {
				reasons = append(reasons, s.Error)
			}
			why[s.Error] = append(why[s.Error], a.Artifact)
		}
	}
	for _, reason := range reasons {
		t.notes = append(t.notes, fmt.Sprintf("speed not measured: %s: %s", strings.Join(why[reason], ", "), reason))
	}
	if recorded {
		t.notes = append(t.notes, "losses are those recorded at the conversion")
	}
	if o.rounds > 0 {
		cpu := hardware.DetectCPU(ctx)
		threads := c.Threads
		if threads == 0 {
			threads = cpu.Threads()
		}
		name := strings.TrimSpace(cpu.Name)
		if name == "" {
			name = runtime.GOARCH
		}
		widest := 0.0
		for _, a := range e.Artifacts {
			if a.Speed != nil {
				widest = max(widest, a.Speed.Spread)
			}
		}
		if widest > calmSpread {
			t.notes = append(t.notes, fmt.Sprintf("rounds of one artifact differed by up to × %.1f: the machine did other work, trust no small difference of speed", widest))
		}
		t.notes = append(t.notes, fmt.Sprintf("speed: %s, %d threads; medians of %d rounds, %d tokens of prompt, then %d one by one; memory is the process's largest", name, threads, o.rounds, o.prompt, o.decoded))
	}
	var tail strings.Builder
	_ = e.printNotes(&tail)
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

// cells are load, prefill, decode and memory.
func (s *speedEvidence) cells() []string {
	if s == nil || s.Error != "" {
		return []string{"-", "-", "-", "-"}
	}
	memory := "-"
	if s.Peak > 0 {
		memory = humanBytes(s.Peak)
	}
	return []string{fmt.Sprintf("%.2f s", s.Load), fmt.Sprintf("%.0f tok/s", s.Prefill), fmt.Sprintf("%.1f tok/s", s.Decode), memory}
}

func (t *comparison) print(w io.Writer) error {
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

// markdown is the table for a file.
func (t *comparison) markdown() string {
	var b strings.Builder
	line := func(cells []string) {
		for i, s := range cells {
			cells[i] = strings.ReplaceAll(s, "|", `\|`)
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	fmt.Fprintf(&b, "%s\n\n", t.headline)
	line(slices.Clone(t.head))
	rule := slices.Repeat([]string{"---:"}, len(t.head))
	rule[0] = "---"
	line(rule)
	for _, r := range t.rows {
		line(slices.Clone(r))
	}
	b.WriteString("\n")
	for _, n := range t.notes {
		fmt.Fprintf(&b, "- %s\n", n)
	}
	return b.String()
}

// calmSpread is how far the rounds of one artifact may differ on a machine that
// has nothing else to do.
const calmSpread = 1.25

// speedHere loads an artifact, evaluates a prompt and makes tokens, after a
// short one to warm up.
func speedHere(ctx context.Context, req speedRequest) (speedEvidence, error) {
	var r speedEvidence
	l, err := openForSpeed(ctx, req)
	if err != nil {
		return r, err
	}
	defer l.close()
	r.Load, r.Provider = l.load.Seconds(), l.session.Info().Provider
	if r.Provider == cpuProvider && req.Provider != "cpu" {
		return r, errors.New("this machine has only the CPU for it, which it is not made for")
	}
	prompt, err := speedPrompt(l.tok, req.Prompt)
	if err != nil {
		return r, err
	}
	if _, err := infer.Generate(l.session, nil, prompt[:min(8, len(prompt))], infer.Options{MaxTokens: 2}).Run(ctx, nil); err != nil {
		return r, err
	}
	if err := l.session.Truncate(0); err != nil {
		return r, err
	}
	got, err := infer.Generate(l.session, nil, prompt, infer.Options{MaxTokens: req.Decode + 1}).Run(ctx, nil)
	if err != nil {
		return r, err
	}
	r.Prefill, r.Decode = got.Timings.PrefillRate(), got.Timings.DecodeRate()
	if req.Format != formatMLX { // whose memory is another process's
		r.Peak = peakMemory(ctx)
	}
	return r, nil
}
