package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/autoselect"
	"github.com/llama-pajamas/llama-pajamas/bench"
	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/infer/llamacpp"
	"github.com/llama-pajamas/llama-pajamas/infer/mlxlm"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/target"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
	"github.com/llama-pajamas/llama-pajamas/verify"
)

// benchFlags are the flags of bench.
type benchFlags struct {
	benchRequest
	quick                       bool
	json, csv, markdown, output string
	baseline                    string
}

// benchRequest says what is measured; see [common.bench].
type benchRequest struct {
	Model     string
	Formats   []string // nil for all
	Artifacts []string // patterns of paths; nil for all
	Settings  bench.Settings
	Baseline  *bench.Report // measured only where the runs can be compared
}

// quickSettings are those of --quick.
var quickSettings = bench.Settings{Prompt: 128, Generate: 32, Repetitions: 3, Loads: 1}

func benchCommand(c *common) *cobra.Command {
	var o benchFlags
	long := `Measures every artifact of a folder that convert wrote, or a single model: time to
load, to the first token and between tokens, tokens per second, memory, and energy
where the machine tells it, beside what the memory's bandwidth allows.

Each artifact runs in a process of its own. The processes take turns: loads from
disk and from memory, a round to warm up, then the rounds that count. Figures are
medians with 95 % intervals. What other programs use of the processor meanwhile is
measured too, and a busy machine is warned of.`
	cmd := command("bench", "Measure speed, memory and load time of a model's artifacts", long, cobra.NoArgs,
		func(cmd *cobra.Command, _ []string) error { return runBench(cmd.Context(), c, cmd, o) })
	f := cmd.Flags()
	f.StringVarP(&o.Model, "model", "m", "", "a folder that convert wrote, or a single model (required)")
	if c.program != RunONNX {
		f.StringSliceVar(&o.Formats, "formats", nil, "formats to measure: gguf, mlx, onnx (default: all there are)")
	}
	f.StringSliceVar(&o.Artifacts, "artifacts", nil, "artifacts to measure, as patterns of their paths: 'onnx/cpu/*',gguf/Q4_K_M\n(default: all)")
	f.IntVar(&o.Settings.Prompt, "prompt", bench.DefaultPrompt, "tokens of the prompt")
	f.IntVar(&o.Settings.Generate, "generate", bench.DefaultGenerate, "tokens generated after it")
	f.IntVar(&o.Settings.Repetitions, "repetitions", bench.DefaultRepetitions, "rounds that count; the intervals need 6 for their 95 %")
	f.IntVar(&o.Settings.Loads, "loads", bench.DefaultLoads, "times each artifact is loaded from disk, and from memory; 0 measures no loads")
	f.BoolVar(&o.quick, "quick", false, fmt.Sprintf("a glance: --prompt %d --generate %d --repetitions %d --loads %d unless given", quickSettings.Prompt, quickSettings.Generate, quickSettings.Repetitions, quickSettings.Loads))
	f.StringVar(&o.json, "json", "", "file that receives everything as JSON; - prints it in place of the tables")
	f.StringVar(&o.csv, "csv", "", "file that receives a line an artifact; - prints it in place of the tables")
	f.StringVar(&o.markdown, "markdown", "", "file that receives the tables; - prints it in place of the tables")
	f.StringVarP(&o.output, "output", "o", "", "all three: NAME.json, NAME.csv and NAME.md")
	f.StringVar(&o.baseline, "baseline", "", "JSON of an earlier run to compare with; refused where settings or machine differ")
	return cmd
}

func runBench(ctx context.Context, c *common, cmd *cobra.Command, o benchFlags) error {
	if o.quick {
		for name, set := range map[string]func(){
			"prompt":      func() { o.Settings.Prompt = quickSettings.Prompt },
			"generate":    func() { o.Settings.Generate = quickSettings.Generate },
			"repetitions": func() { o.Settings.Repetitions = quickSettings.Repetitions },
			"loads":       func() { o.Settings.Loads = quickSettings.Loads },
		} {
			if !cmd.Flags().Changed(name) {
				set()
			}
		}
	}
	if o.Model == "" {
		return usagef(cmd, "--model is required")
	}
	o.Settings.Threads = c.Threads
	if o.Settings.Threads == 0 {
		o.Settings.Threads = hardware.DetectCPU(ctx).Threads()
	}
	if err := o.Settings.Check(); err != nil {
		return usagef(cmd, "%w", err)
	}
	for _, f := range o.Formats {
		if !slices.Contains([]string{formatONNX, formatGGUF, formatMLX}, f) {
			return usagef(cmd, "--formats %q: choose gguf, mlx or onnx", f)
		}
	}
	outputs, err := o.outputs(cmd)
	if err != nil {
		return err
	}
	if c.program == RunONNX {
		o.Formats = []string{formatONNX}
	}
	if o.baseline != "" {
		if o.Baseline, err = bench.Read(o.baseline); err != nil {
			return err
		}
	}
	report, err := c.bench(ctx, o.benchRequest)
	if err != nil {
		return err
	}
	printed := false
	for _, out := range outputs {
		if err := out.write(c, report); err != nil {
			return err
		}
		printed = printed || out.path == "-"
	}
	if !printed {
		if err := report.WriteText(c.Out); err != nil {
			return err
		}
	}
	if o.Baseline != nil && !printed {
		fmt.Fprintln(c.Out)
		if err := bench.WriteChanges(c.Out, o.Baseline, report); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(report.Artifacts, func(m bench.Measured) bool { return m.OK() }) {
		return errors.New("no artifact could be measured")
	}
	return nil
}

// benchOutput is a file to write.
type benchOutput struct {
	path string
	make func(*bench.Report, io.Writer) error
}

// outputs lists the files asked for; one of them may be standard output.
func (o *benchFlags) outputs(cmd *cobra.Command) (out []benchOutput, err error) {
	add := func(path string, make func(*bench.Report, io.Writer) error) {
		if path != "" {
			out = append(out, benchOutput{path, make})
		}
	}
	add(o.json, (*bench.Report).WriteJSON)
	add(o.csv, (*bench.Report).WriteCSV)
	add(o.markdown, (*bench.Report).WriteMarkdown)
	if o.output == "-" {
		return nil, usagef(cmd, "--output names three files; to print one use --json -, --csv - or --markdown -")
	}
	if o.output != "" {
		base := strings.TrimSuffix(strings.TrimSuffix(o.output, ".json"), ".md")
		add(base+".json", (*bench.Report).WriteJSON)
		add(base+".csv", (*bench.Report).WriteCSV)
		add(base+".md", (*bench.Report).WriteMarkdown)
	}
	printed := 0
	for _, f := range out {
		if f.path == "-" {
			printed++
			continue
		}
		// Hours of measuring shall not end at a folder that is not there.
		if info, err := os.Stat(filepath.Dir(f.path)); err != nil || !info.IsDir() {
			return nil, usagef(cmd, "%s cannot be written: there is no folder %s", f.path, filepath.Dir(f.path))
		}
	}
	if printed > 1 {
		return nil, usagef(cmd, "only one of --json, --csv and --markdown can be -")
	}
	return out, nil
}

// write makes the file under another name first.
func (f benchOutput) write(c *common, r *bench.Report) error {
	if f.path == "-" {
		return f.make(r, c.Out)
	}
	var b bytes.Buffer
	if err := f.make(r, &b); err != nil {
		return err
	}
	tmp := f.path + ".part"
	err := os.WriteFile(tmp, b.Bytes(), 0o644)
	if err == nil {
		err = os.Rename(tmp, f.path)
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("write the benchmark: %w", err)
	}
	return nil
}

// bench measures the artifacts that a request names, those that nothing here can
// run with the reason in their Error. Settings.Threads 0 is one per core.
func (c *common) bench(ctx context.Context, req benchRequest) (*bench.Report, error) {
	if c.Program == "" {
		return nil, errors.New("the benchmark needs the program's own file, which was not found")
	}
	if req.Settings.Threads == 0 {
		req.Settings.Threads = hardware.DetectCPU(ctx).Threads()
	}
	found, err := findArtifacts(req.Model)
	if err != nil {
		return nil, err
	}
	chosen, err := chooseArtifacts(found, req.Formats, req.Artifacts)
	if err != nil {
		return nil, err
	}
	o := bench.Options{
		Program: "llama-pajamas " + Version, Model: filepath.Base(found.root), Settings: req.Settings,
		Worker: []string{c.Program, benchChild}, Bandwidth: autoselect.MeasureBandwidth, Device: deviceBandwidth(ctx),
		Baseline: req.Baseline,
	}
	missing := c.probe(ctx).Missing
	for _, a := range chosen {
		o.Artifacts = append(o.Artifacts, c.benchArtifact(found, a, req.Settings, missing))
		if id := sourceOf(found.path(a)); id != "" {
			o.Model = id
		}
	}
	line := c.benchProgress()
	o.Progress = line.show
	defer line.clear()
	return bench.Run(ctx, o)
}

// sourceOf is the id of the model an artifact was made from, "" where its
// metadata does not tell.
func sourceOf(dir string) string {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		dir = filepath.Dir(dir)
	}
	text, err := os.ReadFile(filepath.Join(dir, modeldir.MetadataFile))
	if err != nil {
		return ""
	}
	m, err := modeldir.ParseMetadata(text)
	if err != nil {
		return ""
	}
	return m.Source.ID
}

// chooseArtifacts takes those of the formats and patterns.
func chooseArtifacts(found artifacts, formats, patterns []string) ([]modeldir.Artifact, error) {
	var names []string
	used := make([]bool, len(patterns))
	var out []modeldir.Artifact
	for _, a := range found.list {
		names = append(names, a.Path)
		if len(formats) > 0 && !slices.Contains(formats, a.Format) {
			continue
		}
		take := len(patterns) == 0
		for i, p := range patterns {
			ok, err := matchArtifact(p, a)
			if err != nil {
				return nil, err
			}
			take, used[i] = take || ok, used[i] || ok
		}
		if take {
			out = append(out, a)
		}
	}
	for i, p := range patterns {
		if !used[i] {
			return nil, fmt.Errorf("--artifacts %q names none of %s", p, strings.Join(names, ", "))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has nothing of the formats %s: it has %s", found.root, strings.Join(formats, ", "), strings.Join(names, ", "))
	}
	return out, nil
}

// matchArtifact tells whether a pattern names an artifact, a folder above it, or
// its recipe.
func matchArtifact(pattern string, a modeldir.Artifact) (bool, error) {
	pattern = strings.Trim(path.Clean(filepath.ToSlash(pattern)), "/")
	for p := a.Path; p != "." && p != "/"; p = path.Dir(p) {
		if ok, err := path.Match(pattern, p); ok || err != nil {
			if err != nil {
				err = fmt.Errorf("--artifacts %q: %w", pattern, err)
			}
			return ok, err
		}
	}
	return pattern == a.Recipe || pattern == "." && a.Path == ".", nil
}

// benchArtifact says how an artifact is run, or why not.
func (c *common) benchArtifact(found artifacts, a modeldir.Artifact, s bench.Settings, missing map[autoselect.Runtime]string) bench.Artifact {
	out := bench.Artifact{Path: found.path(a)}
	out.Artifact, out.Format, out.Target, out.Recipe = a.Path, a.Format, a.Target, a.Recipe
	if a.Path == "." {
		out.Artifact = filepath.Base(found.root)
	}
	out.Bytes, out.BitsPerWeight = a.Bytes, a.BitsPerWeight
	d := benchDescription{Format: a.Format, Path: out.Path, Threads: s.Threads, Prompt: s.Prompt, Generate: s.Generate}
	runtime := autoselect.LlamaCpp
	var err error
	switch a.Format {
	case formatGGUF:
		if missing[runtime] == "" {
			found, lookErr := c.locateLlama()
			d.Library, err = found.Path, lookErr
		}
	case formatMLX:
		if runtime = autoselect.MLX; missing[runtime] == "" {
			d.Library, err = c.locateMLX()
		}
	default:
		d.Provider = providerOf(a.Target)
		if runtime = autoselect.Runtime(d.Provider); missing[runtime] == "" {
			found, lookErr := c.locateORT(d.Provider)
			d.Library, err = found.Path, lookErr
		}
	}
	switch {
	case missing[runtime] != "":
		out.Error = missing[runtime]
	case err != nil:
		out.Error = err.Error()
	default:
		out.Description = d
	}
	return out
}

// deviceBandwidth is the memory bandwidth of this machine's accelerator as its
// profile gives it.
func deviceBandwidth(ctx context.Context) func() (float64, string) {
	return func() (float64, string) {
		m := target.Machine{CPU: hardware.DetectCPU(ctx), Accelerators: hardware.DetectAccelerators(ctx)}
		if mem, err := hardware.DetectMemory(ctx); err == nil {
			m.Memory = mem
		}
		p, fits, err := target.DetectProfile(m)
		if err != nil || !fits {
			return 0, ""
		}
		return p.Bandwidth * 1e9, fmt.Sprintf("of the data sheet of %s, not measured", p.Title)
	}
}

// benchDescription is what the child process is told of an artifact.
type benchDescription struct {
	Format   string `json:"format"`
	Path     string `json:"path"`
	Library  string `json:"library"` // or, of MLX, the Python interpreter
	Provider string `json:"provider"`
	Threads  int    `json:"threads"`
	Prompt   int    `json:"prompt_tokens"`
	Generate int    `json:"generate_tokens"`
}

// benchChild names the hidden command of the child process.
const benchChild = "measure-artifact"

func benchChildCommand(c *common) *cobra.Command {
	cmd := command(benchChild, "Measure an artifact (started by the program itself)", "", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
		return bench.Serve(cmd.Context(), c.In, c.Out, func(ctx context.Context, description json.RawMessage) (*bench.Loaded, error) {
			var d benchDescription
			if err := json.Unmarshal(description, &d); err != nil {
				return nil, fmt.Errorf("read what to measure: %w", err)
			}
			return c.openBench(ctx, d)
		})
	})
	cmd.Hidden = true
	return cmd
}

// openBench loads an artifact; its load time covers library, graph and weights,
// not the tokenizer.
func (c *common) openBench(ctx context.Context, d benchDescription) (_ *bench.Loaded, err error) {
	var folder *modeldir.Folder
	var tok *tokenizer.Tokenizer
	switch d.Format {
	case formatGGUF:
		folder, tok, err = llamacpp.OpenText(d.Path)
	case formatMLX:
		folder, tok, err = mlxlm.OpenText(d.Path)
	default:
		if folder, err = modeldir.Open(d.Path); err == nil {
			tok, err = tokenizer.Load(folder.Dir)
		}
	}
	if err != nil {
		return nil, err
	}
	need := d.Prompt + d.Generate
	if limit := folder.MaxContext(); limit > 0 && need > limit {
		return nil, fmt.Errorf("the model's context of %d tokens is too short for a prompt of %d and %d tokens after it: give smaller --prompt and --generate", limit, d.Prompt, d.Generate)
	}
	text := tok.Encode(verify.Text, tokenizer.EncodeOptions{})
	prompt, err := bench.Repeat(text, d.Prompt)
	if err != nil {
		return nil, err
	}
	l := &bench.Loaded{Prompt: prompt, Decoder: func() infer.TextDecoder { return primedDecoder(tok, prompt) }}
	open := infer.OpenOptions{Context: need, Threads: d.Threads}
	start := time.Now()
	var free func()
	switch d.Format {
	case formatGGUF:
		b, err := llamacpp.New(llamacpp.Options{Library: d.Library, Depend: c.dependOptions(), GPULayers: llamacpp.AutoLayers})
		if err != nil {
			return nil, err
		}
		if l.Session, err = b.Open(ctx, folder, open); err != nil {
			return nil, err
		}
		l.Library = func() time.Duration { s, _ := llamacpp.StatsOf(l.Session); return s.Library }
	case formatMLX:
		b, err := mlxlm.New(mlxlm.Options{Python: d.Library})
		if err != nil {
			return nil, err
		}
		if l.Session, err = b.Open(ctx, folder, open); err != nil {
			return nil, err
		}
	default:
		o := onnxruntime.Options{Library: d.Library, Provider: d.Provider, NoFallback: true, Depend: c.dependOptions()}
		if dir, err := c.CacheDir(); err == nil {
			o.CacheDir = dir
		}
		b, err := onnxruntime.New(o)
		if err != nil {
			return nil, err
		}
		free = b.Close
		if l.Session, err = b.Open(ctx, folder, open); err != nil {
			b.Close()
			return nil, err
		}
		l.Library = func() time.Duration { s, _ := onnxruntime.StatsOf(l.Session); return s.Library }
	}
	l.Load = time.Since(start)
	l.Close = func() error {
		err := l.Session.Close()
		if free != nil {
			free()
		}
		return err
	}
	return l, nil
}

// benchLine is the line that says how a benchmark gets on.
type benchLine struct {
	w     io.Writer // nil shows nothing
	shown bool
}

func (c *common) benchProgress() *benchLine {
	if c.Quiet || !c.ErrTerminal {
		return &benchLine{}
	}
	return &benchLine{w: c.Err}
}

func (l *benchLine) show(what string, share float64, left time.Duration) {
	if l.w == nil {
		return
	}
	l.shown = true
	rest := ""
	if left > 0 {
		rest = " · " + about(left) + " left"
	}
	fmt.Fprintf(l.w, "\r%3.0f %% · %s%s\x1b[K", 100*share, what, rest)
}

func (l *benchLine) clear() {
	if l.shown {
		fmt.Fprint(l.w, "\r\x1b[K")
	}
}

// about is a time as people say it.
func about(d time.Duration) string {
	switch s := int(d.Round(time.Second).Seconds()); {
	case s < 1:
		return "1 s"
	case s < 100:
		return fmt.Sprintf("%d s", s)
	case s < 100*60:
		return fmt.Sprintf("%d min", (s+30)/60)
	default:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	}
}
