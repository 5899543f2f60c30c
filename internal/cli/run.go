package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/autoselect"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/infer/llamacpp"
	"github.com/llama-pajamas/llama-pajamas/infer/mlxlm"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// runCommand is the tree of llama-pajamas-run.
func runCommand(c *common) *cobra.Command {
	c.program = RunAny
	root := c.root("llama-pajamas-run",
		"Run language models in whichever format is best here",
		`Runs ONNX, GGUF and MLX models: a folder that llama-pajamas-quant convert wrote,
from which it takes what is best for this machine, or a single model.`)
	root.PersistentFlags().IntVar(&c.Context, "context", 0, "longest sequence, in tokens (default: the model's own limit)")
	c.bindLlamaLibrary(root)
	root.AddCommand(chatCommand(c, &runFlags{}), generateCommand(c, &runFlags{}), listCommand(c), benchCommand(c), benchChildCommand(c), evalCommand(c), askChildCommand(c), verifyChildCommand(c),
		tokenizeCommand(c), detokenizeCommand(c), renderCommand(c), setupAnyCommand(c), doctorCommand(c, c.judgeMore), tryDeviceCommand(c))
	return root
}

// runFlags say which model is run, and how much of the choice is made already.
type runFlags struct {
	model, format, backend, recipe string
	auto, explain                  bool
	gpuLayers, kvCache, flash      string
	rpc                            []string
	profile                        string
	options                        []string
	chunk                          int
	noFitCheck                     bool
}

func (r *runFlags) bind(cmd *cobra.Command) {
	var names []string
	for _, b := range autoselect.Runtimes() {
		names = append(names, string(b))
	}
	f := cmd.Flags()
	f.StringVarP(&r.model, "model", "m", "", "a folder that convert wrote, a .gguf file, an MLX folder, an ONNX folder, or\n"+hubHelp+" (required)")
	f.BoolVar(&r.auto, "auto-select-format", true, "take the format that is best for this machine; what fails is passed over\nwith a warning")
	f.StringVar(&r.format, "format", "", "onnx, gguf or mlx; failing is final then")
	f.StringVar(&r.backend, "backend", "auto", "what computes: "+strings.Join(names, ", ")+", or auto; failing is final then")
	f.StringVar(&r.recipe, "recipe", "", "recipe of the artifact, such as int4 or Q4_K_M (default: the most exact that fits\nand is fast enough)")
	f.BoolVar(&r.explain, "explain", false, "say why what was chosen, and why each other was left out")
	f.StringVar(&r.gpuLayers, "gpu-layers", "auto", "GGUF: layers to compute on devices, a number or auto for what their memory holds")
	f.StringVar(&r.kvCache, "kv-cache", "", "GGUF: type of the cache: "+strings.Join(llamacpp.CacheTypes(), ", ")+" (default f16)")
	f.StringVar(&r.flash, "flash-attention", "auto", "GGUF: on, off or auto")
	f.StringSliceVar(&r.rpc, "rpc", nil, "GGUF: host:port,… of machines that run llama.cpp's rpc-server")
	f.StringVar(&r.profile, "profile", "", "ONNX: settings of a known machine, such as jetson-orin (docs/hardware-profiles.md)")
	f.StringArrayVar(&r.options, "ep-option", nil, "ONNX: KEY=VALUE for the execution provider, in its own words")
	f.IntVar(&r.chunk, "chunk", 0, "tokens of a prompt evaluated at once (default: the backend's)")
	f.BoolVar(&r.noFitCheck, "no-fit-check", false, "load even if weights and cache exceed the free memory")
}

// force is what the user has decided.
func (r *runFlags) force(cmd *cobra.Command) (autoselect.Force, error) {
	f := autoselect.Force{Format: strings.ToLower(r.format), Recipe: r.recipe}
	if f.Format != "" && !slices.Contains([]string{"onnx", "gguf", "mlx"}, f.Format) {
		return f, usagef(cmd, "--format %q: choose onnx, gguf or mlx", r.format)
	}
	if b := strings.ToLower(r.backend); b != "auto" && b != "" {
		f.Runtime = autoselect.Runtime(b)
		if !slices.Contains(autoselect.Runtimes(), f.Runtime) {
			return f, usagef(cmd, "--backend %q: choose one of %v, or auto", r.backend, autoselect.Runtimes())
		}
		if f.Format != "" && f.Format != f.Runtime.Format() {
			return f, usagef(cmd, "--backend %s runs %s, not --format %s", b, f.Runtime.Format(), f.Format)
		}
	}
	if !r.auto && f == (autoselect.Force{}) {
		return f, usagef(cmd, "--auto-select-format=false needs --format or --backend")
	}
	return f, nil
}

// layers reads --gpu-layers.
func (r *runFlags) layers(cmd *cobra.Command) (int, error) {
	if r.gpuLayers == "auto" || r.gpuLayers == "" {
		return llamacpp.AutoLayers, nil
	}
	n, err := strconv.Atoi(r.gpuLayers)
	if err != nil || n < 0 {
		return 0, usagef(cmd, "--gpu-layers %q: want a number of layers, or auto", r.gpuLayers)
	}
	return n, nil
}

// open chooses, loads, and tries one token.
func (r *runFlags) open(ctx context.Context, c *common, cmd *cobra.Command) (*loaded, error) {
	start := time.Now()
	if r.model == "" {
		return nil, usagef(cmd, "--model is required")
	}
	force, err := r.force(cmd)
	if err != nil {
		return nil, err
	}
	layers, err := r.layers(cmd)
	if err != nil {
		return nil, err
	}
	log, err := c.logger(cmd)
	if err != nil {
		return nil, err
	}
	path, err := c.source(ctx, log, r.model)
	if err != nil {
		return nil, err
	}
	found, err := findArtifacts(path)
	if err != nil {
		return nil, err
	}
	machine := c.probe(ctx)
	trials := autoselect.Trials{}
	if dir, err := c.CacheDir(); err == nil {
		trials.Dir = dir
	}
	if len(found.list) > 1 {
		machine.Bandwidth = trials.Bandwidth(ctx, machine)
	}
	plan := autoselect.Rank(machine, found.list, force)
	load := func(ctx context.Context, choice autoselect.Choice) (*loaded, error) {
		return r.load(ctx, c, cmd, choice, found.path(choice.Artifact), layers)
	}
	plan, err = trials.Settle(ctx, machine, found.root, plan, func(ctx context.Context, choice autoselect.Choice) (float64, error) {
		c.note("trying %s, once for this machine and model", choice)
		rate, err := measureRate(ctx, choice, load)
		if err != nil && ctx.Err() == nil {
			fmt.Fprintf(c.Err, "warning: %s fails: %v\n", choice, err)
		}
		return rate, err
	})
	if err != nil {
		return nil, err
	}
	if r.explain {
		fmt.Fprintf(c.Err, "%s\n%s", machine.String(), plan.Explain())
	}
	l, choice, err := autoselect.First(ctx, plan, load, func(f autoselect.Failure, next autoselect.Choice) {
		fmt.Fprintf(c.Err, "warning: %s fails: %v; going on with %s\n", f.Choice, f.Err, next)
	})
	if err != nil {
		if len(plan.Choices) == 0 {
			return nil, noChoice(plan, found)
		}
		return nil, err
	}
	c.note("chosen: %s · %s", choice, choice.Why)
	l.load = time.Since(start)
	return l, nil
}

// noChoice says why nothing can run the model, leaving out runtimes of formats
// it has not.
func noChoice(p autoselect.Plan, found artifacts) error {
	var why, forced []string
	for _, l := range p.LeftOut {
		line := fmt.Sprintf("%s: %s", l.Runtime, l.Why)
		switch {
		case !slices.ContainsFunc(found.list, func(a modeldir.Artifact) bool { return a.Format == l.Runtime.Format() }):
		case strings.HasSuffix(l.Why, "was asked for"):
			forced = append(forced, line)
		default:
			why = append(why, line)
		}
	}
	if len(why) == 0 {
		why = forced // all there is speaks against the user's choice
	}
	return fmt.Errorf("nothing here can run %s. %s", found.root, strings.Join(why, "; "))
}

// load opens one choice and evaluates a token, so that what cannot run shows
// before an answer is promised.
func (r *runFlags) load(ctx context.Context, c *common, cmd *cobra.Command, choice autoselect.Choice, path string, layers int) (l *loaded, err error) {
	o := infer.OpenOptions{Context: c.Context, Threads: c.Threads, Chunk: r.chunk, NoFitCheck: r.noFitCheck, Rows: lookupRows(cmd)}
	log, err := c.logger(cmd)
	if err != nil {
		return nil, err
	}
	var backend infer.Backend
	l = &loaded{}
	switch choice.Runtime {
	case autoselect.LlamaCpp:
		if l.folder, l.tok, err = llamacpp.OpenText(path); err != nil {
			return nil, err
		}
		library, err := c.locateLlama()
		if err != nil {
			return nil, err
		}
		if backend, err = c.llamaBackend(ctx, llamacpp.Options{
			Library: library.Path, Depend: c.dependOptions(), GPULayers: layers, KVCache: r.kvCache, Flash: r.flash, RPC: r.rpc, Logger: log,
			OnAbort: func(why string) {
				fmt.Fprintf(c.Err, "llama-pajamas-run: llama.cpp ends the program: %s\n", why)
				os.Exit(ExitFailure)
			},
		}, path); err != nil {
			return nil, err
		}
	case autoselect.MLX:
		if l.folder, l.tok, err = mlxlm.OpenText(path); err != nil {
			return nil, err
		}
		python, err := c.locateMLX()
		if err != nil {
			return nil, err
		}
		if backend, err = mlxlm.New(mlxlm.Options{Python: python, Logger: log}); err != nil {
			return nil, err
		}
	default:
		return r.loadONNX(ctx, c, cmd, choice, path)
	}
	if l.session, err = backend.Open(ctx, l.folder, o); err != nil {
		return nil, err
	}
	if _, err = l.session.Eval(ctx, []int32{0}); err == nil {
		err = l.session.Truncate(0)
	}
	if err != nil {
		l.session.Close() // the first error tells more
		return nil, fmt.Errorf("the first run failed: %w", err)
	}
	return l, nil
}

// llamaBackend opens llama.cpp. Devices that fail a trial are final where layers
// were asked for; else the processor goes on alone.
func (c *common) llamaBackend(ctx context.Context, o llamacpp.Options, model string) (*llamacpp.Backend, error) {
	b, err := llamacpp.New(o)
	if err != nil {
		return nil, err
	}
	err = c.deviceWorks(ctx, b, o, model)
	if err == nil || ctx.Err() != nil || o.GPULayers != llamacpp.AutoLayers {
		return b, err
	}
	fmt.Fprintf(c.Err, "warning: %v; going on with the processor alone\n", err)
	o.GPULayers = 0
	return llamacpp.New(o)
}

// loadONNX opens an ONNX artifact with one execution provider and no other.
func (r *runFlags) loadONNX(ctx context.Context, c *common, cmd *cobra.Command, choice autoselect.Choice, path string) (*loaded, error) {
	m := modelFlags{
		backendFlags: backendFlags{backend: string(choice.Runtime), profile: r.profile, options: r.options},
		model:        path, chunk: r.chunk, noFitCheck: r.noFitCheck,
	}
	l, err := m.openWith(ctx, c, cmd, infer.OpenOptions{}, func(o *onnxruntime.Options) { o.NoFallback = true })
	if err != nil {
		return nil, err
	}
	if len(l.passed) > 0 {
		return nil, errors.Join(errors.New(l.passed[0].Why), l.close())
	}
	return l, nil
}

// Length of a trial: enough for the caches of a processor to matter no more.
const (
	trialPrompt = 32
	trialTokens = 24
	trialTime   = 2 * time.Minute
)

// measureRate is the tokens per second of a choice.
func measureRate(ctx context.Context, choice autoselect.Choice, load func(context.Context, autoselect.Choice) (*loaded, error)) (float64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, trialTime, errors.New("the trial took too long"))
	defer cancel()
	l, err := load(ctx, choice)
	if err != nil {
		return 0, err
	}
	defer l.close() // it was only tried
	prompt := make([]int32, trialPrompt)
	for i := range prompt {
		prompt[i] = int32((7*i + 3) % l.session.Info().Vocab)
	}
	room := l.session.Info().MaxContext - trialTokens
	if room < 1 {
		return 0, fmt.Errorf("a context of %d tokens is too short for a trial", l.session.Info().MaxContext)
	}
	var gaps []time.Duration
	var last time.Time
	_, err = infer.Generate(l.session, nil, prompt[:min(trialPrompt, room)], infer.Options{MaxTokens: trialTokens}).Run(ctx, func(infer.Token) {
		now := time.Now()
		if !last.IsZero() {
			gaps = append(gaps, now.Sub(last))
		}
		last = now
	})
	if err != nil {
		return 0, err
	}
	if len(gaps) == 0 {
		return 0, errors.New("the trial made no tokens")
	}
	slices.Sort(gaps)
	return 1 / max(gaps[len(gaps)/2].Seconds(), 1e-9), nil // the median: others may be computing too
}

// artifacts are what a path holds.
type artifacts struct {
	root string
	list []modeldir.Artifact
}

// path of an artifact: the file of a GGUF, the folder of others.
func (a artifacts) path(one modeldir.Artifact) string {
	p := filepath.Join(a.root, filepath.FromSlash(one.Path))
	if one.Format != "gguf" || strings.EqualFold(filepath.Ext(p), ".gguf") {
		return p
	}
	if file, ok := firstGGUF(p); ok {
		return file
	}
	return p
}
