package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// runONNXCommand is the tree of llama-pajamas-run-onnx.
func runONNXCommand(c *common) *cobra.Command {
	c.program = RunONNX
	root := c.root("llama-pajamas-run-onnx",
		"Run ONNX language models",
		`Runs the ONNX language models that llama-pajamas-quant convert or
onnxruntime-genai's builder wrote, through the ONNX Runtime library.`)
	root.PersistentFlags().IntVar(&c.Context, "context", 0, "longest sequence, in tokens; memory is taken as it grows (default: the model's own limit)")
	root.AddCommand(chatCommand(c, &modelFlags{}), generateCommand(c, &modelFlags{}), tokenizeCommand(c), detokenizeCommand(c), renderCommand(c),
		setupONNXCommand(c), benchCommand(c), benchChildCommand(c), evalCommand(c), askChildCommand(c), verifyChildCommand(c), doctorCommand(c), selftestCommand(c))
	return root
}

// opener is how a command gets its model: by flags of its own.
type opener interface {
	bind(cmd *cobra.Command)
	open(ctx context.Context, c *common, cmd *cobra.Command) (*loaded, error)
}

// modelFlags say which ONNX model is run by what.
type modelFlags struct {
	backendFlags
	model      string
	chunk      int
	noFitCheck bool
}

func (m *modelFlags) bind(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&m.model, "model", "m", "", "model folder, or the model.onnx in it (required)")
	m.backendFlags.bind(f)
	f.IntVar(&m.chunk, "chunk", 0, "tokens of a prompt evaluated at once (default: the backend's)")
	f.BoolVar(&m.noFitCheck, "no-fit-check", false, "load even if weights and cache exceed the free memory")
}

// loaded is an open model.
type loaded struct {
	folder  *modeldir.Folder
	tok     *tokenizer.Tokenizer
	session infer.Session
	backend *onnxruntime.Backend // nil for other formats
	choice  *choice
	passed  []onnxruntime.Fallback // backends that could not be used
	load    time.Duration
}

func (l *loaded) close() error {
	err := l.session.Close()
	if l.backend != nil {
		l.backend.Close()
	}
	return err
}

// open loads folder, tokenizer, library and graph.
func (m *modelFlags) open(ctx context.Context, c *common, cmd *cobra.Command) (*loaded, error) {
	return m.openWith(ctx, c, cmd, infer.OpenOptions{}, nil)
}

// openWith is open with more session options and changed backend options.
func (m *modelFlags) openWith(ctx context.Context, c *common, cmd *cobra.Command, o infer.OpenOptions, change func(*onnxruntime.Options)) (l *loaded, err error) {
	start := time.Now()
	if m.model == "" {
		return nil, usagef(cmd, "--model is required")
	}
	l = &loaded{}
	if l.folder, err = modeldir.Open(m.model); err != nil {
		return nil, err
	}
	if l.tok, err = tokenizer.Load(l.folder.Dir); err != nil {
		return nil, err
	}
	if l.choice, err = m.choose(ctx, c, cmd, l.folder); err != nil {
		return nil, err
	}
	if l.backend, l.passed, err = c.newBackend(cmd, l.choice, change); err != nil {
		return nil, err
	}
	o.Context, o.Threads, o.Chunk, o.NoFitCheck, o.Rows = c.Context, c.Threads, m.chunk, m.noFitCheck, lookupRows(cmd)
	if l.session, err = l.backend.Open(ctx, l.folder, o); err != nil {
		l.backend.Close()
		return nil, err
	}
	l.passed = append(l.passed, onnxruntime.Fallbacks(l.session)...)
	c.advise(l.backend, l.passed)
	l.load = time.Since(start)
	return l, nil
}

// samplingFlags choose tokens and the end of an answer.
type samplingFlags struct {
	o         infer.SamplerOptions
	maxTokens int
	stop      []string
	stopIDs   []int
	bias      []string
	ignoreEnd bool
	lookup    string
}

func (s *samplingFlags) bind(cmd *cobra.Command, maxTokens int) {
	const config = " (default: the model's generation_config.json)"
	f := cmd.Flags()
	f.IntVarP(&s.maxTokens, "max-tokens", "n", maxTokens, "longest answer in tokens; 0 for no limit but the context")
	f.Float64Var(&s.o.Temperature, "temperature", 0, "0 always takes the likeliest token"+config)
	f.IntVar(&s.o.TopK, "top-k", 0, "choose among the K likeliest tokens; 0 for all"+config)
	f.Float64Var(&s.o.TopP, "top-p", 0, "choose among the likeliest tokens that make up this probability; 0 for all"+config)
	f.Float64Var(&s.o.MinP, "min-p", 0, "choose among tokens at least this likely relative to the likeliest; 0 for all"+config)
	f.Float64Var(&s.o.RepetitionPenalty, "repetition-penalty", 0, "above 1 makes tokens of prompt and answer less likely"+config)
	f.Float64Var(&s.o.PresencePenalty, "presence-penalty", 0, "subtracted from tokens the answer has")
	f.Float64Var(&s.o.FrequencyPenalty, "frequency-penalty", 0, "subtracted once for each time the answer has a token")
	f.IntVar(&s.o.PenaltyWindow, "penalty-window", 0, "penalties look at this many last tokens; 0 for all")
	f.Uint64Var(&s.o.Seed, "seed", 0, "makes sampling repeatable; 0 draws one")
	f.StringArrayVar(&s.stop, "stop", nil, "text that ends the answer; may be given several times")
	f.IntSliceVar(&s.stopIDs, "stop-token", nil, "token id that ends the answer, beside the model's own")
	f.StringSliceVar(&s.bias, "logit-bias", nil, "ID=NUMBER added to a token's logit; -inf forbids it")
	f.BoolVar(&s.ignoreEnd, "ignore-end", false, "do not stop at the model's end tokens")
	f.StringVar(&s.lookup, lookupFlag, "auto", `check in one run what followed the last words before, which is faster where text
is repeated: auto where that changes nothing to the last bit, which is tried;
loose also where rounding may change the text; off`)
}

const lookupFlag = "lookup"

// lookupRows is the OpenOptions.Rows of a command with --lookup.
func lookupRows(cmd *cobra.Command) int {
	if f := cmd.Flags().Lookup(lookupFlag); f == nil || f.Value.String() == "off" {
		return 0
	}
	return infer.LookupRows
}

// noteLookup says why an answer was made without drafts.
func (c *common) noteLookup(cmd *cobra.Command, r infer.Result) {
	log, err := c.logger(cmd)
	if st := r.Lookup; err == nil && st != (infer.LookupStats{}) {
		log.Debug("lookup", "runs", st.Runs, "drafted", st.Drafted, "accepted", st.Accepted, "trials", st.Trials, "off", st.Off)
	}
}

// options are the model's defaults with what was given on the command line.
func (s *samplingFlags) options(cmd *cobra.Command, folder *modeldir.Folder) (infer.Options, error) {
	given := cmd.Flags().Changed
	advice := folder.Generation
	if given("temperature") || given("top-k") || given("top-p") || given("min-p") {
		sample := true // sampling was asked for: the model's other advice counts
		advice.DoSample = &sample
	}
	o := infer.DefaultSampler(advice)
	for name, set := range map[string]func(){
		"temperature":        func() { o.Temperature = s.o.Temperature },
		"top-k":              func() { o.TopK = s.o.TopK },
		"top-p":              func() { o.TopP = s.o.TopP },
		"min-p":              func() { o.MinP = s.o.MinP },
		"repetition-penalty": func() { o.RepetitionPenalty = s.o.RepetitionPenalty },
	} {
		if given(name) {
			set()
		}
	}
	o.PresencePenalty, o.FrequencyPenalty = s.o.PresencePenalty, s.o.FrequencyPenalty
	o.PenaltyWindow, o.Seed = s.o.PenaltyWindow, s.o.Seed
	for _, b := range s.bias {
		var id int32
		var v float32
		if n, err := fmt.Sscanf(b, "%d=%g", &id, &v); n != 2 || err != nil {
			return infer.Options{}, usagef(cmd, "--logit-bias %q: want ID=NUMBER, such as 42=-1.5 or 42=-inf", b)
		}
		if o.LogitBias == nil {
			o.LogitBias = map[int32]float32{}
		}
		o.LogitBias[id] = v
	}
	if err := o.Check(); err != nil {
		return infer.Options{}, usagef(cmd, "%w", err)
	}
	if s.maxTokens < 0 {
		return infer.Options{}, usagef(cmd, "--max-tokens %d: use 0 for no limit, or more", s.maxTokens)
	}
	out := infer.Options{Sampler: o, MaxTokens: s.maxTokens, StopStrings: s.stop}
	switch s.lookup {
	case "auto", "loose":
		out.Lookup = infer.NewLookup(infer.LookupOptions{Loose: s.lookup == "loose"})
	case "", "off":
	default:
		return infer.Options{}, usagef(cmd, "--lookup %q: choose auto, loose or off", s.lookup)
	}
	for _, id := range s.stopIDs {
		out.StopTokens = append(out.StopTokens, int32(id))
	}
	return out, nil
}

// explain adds what to do to errors a user meets with a model.
func explain(err error) error {
	var full *infer.ContextError
	if errors.As(err, &full) {
		return fmt.Errorf("%w (--context, up to the model's own limit)", err)
	}
	return err
}
