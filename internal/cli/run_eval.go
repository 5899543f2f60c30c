package cli

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/autoselect"
	"github.com/llama-pajamas/llama-pajamas/eval"
	"github.com/llama-pajamas/llama-pajamas/eval/questions"
	"github.com/llama-pajamas/llama-pajamas/eval/runcode"
	"github.com/llama-pajamas/llama-pajamas/fidelity"
	"github.com/llama-pajamas/llama-pajamas/infer/llamacpp"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// evalFlags are the flags of eval.
type evalFlags struct {
	evalRequest
	asJSON bool
}

// evalRequest says what is evaluated; see [common.evaluate].
type evalRequest struct {
	Model     string
	Formats   []string // nil for all
	Artifacts []string // patterns of paths; nil for all
	// Questions to ask, 0 for none.
	Questions int
	Seed      uint64
	MaxTokens int // of a written answer, 0 for no limit but the question's
	AllowCode bool
	// Perplexity lists definitions: "llama.cpp", "huggingface" with their usual
	// windows, or what fidelity.ParseDefinition reads; none measures none.
	Perplexity []string
	Text       string // file; "" for eval.Text
	Tokens     int    // of the text
	// Reference is an artifact's path or a file of logits; "" chooses one,
	// "none" has none.
	Reference string
	Output    string
	Resume    bool
}

// evalTokens is how much of the text is used unless told otherwise: 2,040 scored
// tokens by llama.cpp's definition.
const evalTokens = 4096

// The names of definitions with their usual windows.
const (
	nameLlamaCpp    = fidelity.LlamaCpp
	nameHuggingFace = fidelity.HuggingFace
)

func evalCommand(c *common) *cobra.Command {
	var o evalFlags
	cmd := command("eval", "Measure how good a model's artifacts are",
		`Measures every artifact of a folder that convert wrote, or a single model:
perplexity by llama.cpp's and Hugging Face's definitions, how far its logits are
from a reference's, and 120 questions of six kinds, of which each answer is judged
by likelihood or by program. The reference is the base artifact, else the most
exact one. docs/eval.md has the formulas.

Each artifact runs in a process of its own. With --output all prompts, answers and
scores are kept; what an interrupted run has found is in FILE.journal, and --resume
goes on with it. Programs that a model wrote are run only with
--allow-code-execution.`,
		cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return runEval(cmd.Context(), c, cmd, o) })
	f := cmd.Flags()
	f.StringVarP(&o.Model, "model", "m", "", "a folder that convert wrote, or a single model (required)")
	if c.program != RunONNX {
		f.StringSliceVar(&o.Formats, "formats", nil, "formats to measure: gguf, mlx, onnx (default: all there are)")
	}
	f.StringSliceVar(&o.Artifacts, "artifacts", nil, "artifacts to measure, as patterns of their paths: 'onnx/cpu/*',gguf/Q4_K_M\n(default: all)")
	f.IntVar(&o.Questions, "num-questions", questions.Size, "questions to ask, balanced over the six kinds; 0 for none")
	f.Uint64Var(&o.Seed, "seed", 0, "which of the questions are asked, where not all are; 0 takes the first of the set")
	f.IntVar(&o.MaxTokens, "max-tokens", eval.DefaultMaxTokens, "longest answer in tokens, where the question allows more; 0 for the question's own limit")
	f.BoolVar(&o.AllowCode, "allow-code-execution", false, "run programs that the model wrote, in a process without network, with limits of\ntime and memory; without it the likelihood of the right program is measured")
	f.StringSliceVar(&o.Perplexity, "perplexity", []string{nameLlamaCpp, nameHuggingFace}, "definitions of perplexity: llama.cpp, huggingface, or one with its windows, such as\nllama.cpp:512, huggingface:1024:512, windows:512; none for none")
	f.StringVar(&o.Text, "text", "", "text file to measure perplexity on (default: "+eval.TextName+")")
	f.IntVar(&o.Tokens, "tokens", evalTokens, "tokens of the text, at most; 0 for all")
	f.StringVar(&o.Reference, "reference", "", "artifact to compare the others with, as its path, or a file of logits\n(verify --save-logits); none for none (default: onnx/base/fp16, else the most exact)")
	f.StringVarP(&o.Output, "output", "o", "", "results file, JSON")
	f.BoolVar(&o.Resume, "resume", false, "go on with an interrupted run of the same --output, or add artifacts to a finished one")
	f.BoolVar(&o.asJSON, "json", false, "print the results as JSON in place of tables")
	return cmd
}

func runEval(ctx context.Context, c *common, cmd *cobra.Command, o evalFlags) error {
	if o.Model == "" {
		return usagef(cmd, "--model is required")
	}
	for _, f := range o.Formats {
		if !slices.Contains([]string{formatONNX, formatGGUF, formatMLX}, f) {
			return usagef(cmd, "--formats %q: choose gguf, mlx or onnx", f)
		}
	}
	if c.program == RunONNX {
		o.Formats = []string{formatONNX}
	}
	if o.Resume && o.Output == "" {
		return usagef(cmd, "--resume needs --output, the results file of the run to go on with")
	}
	if err := o.check(); err != nil {
		return usagef(cmd, "%w", err)
	}
	report, err := c.evaluate(ctx, o.evalRequest)
	if err != nil {
		if ctx.Err() != nil && o.Output != "" {
			c.note("what was found so far is in %s; --resume goes on with it", eval.Journal(o.Output))
		}
		return err
	}
	if o.asJSON {
		err = printJSON(c.Out, report)
	} else {
		err = printEval(c.Out, report)
	}
	if err != nil {
		return err
	}
	return evalFailed(report)
}

// check refuses what no run can use.
func (r *evalRequest) check() error {
	switch {
	case r.Questions < 0 || r.Questions > questions.Size:
		return fmt.Errorf("--num-questions %d: want 0 to %d", r.Questions, questions.Size)
	case r.MaxTokens < 0:
		return fmt.Errorf("--max-tokens %d: use 0 for the question's own limit, or more", r.MaxTokens)
	case r.Tokens < 0:
		return fmt.Errorf("--tokens %d: use 0 for the whole text, or more", r.Tokens)
	case r.Questions == 0 && len(r.definitions()) == 0 && (r.Reference == "" || r.Reference == "none"):
		return errors.New("neither questions nor perplexity: nothing is left to measure")
	}
	if r.Output != "" {
		if info, err := os.Stat(filepath.Dir(r.Output)); err != nil || !info.IsDir() {
			return fmt.Errorf("--output %s cannot be written: there is no folder %s", r.Output, filepath.Dir(r.Output))
		}
	}
	_, err := resolve(r.definitions(), 0)
	return err
}

// definitions are those asked for.
func (r *evalRequest) definitions() []string {
	if slices.Equal(r.Perplexity, []string{"none"}) {
		return nil
	}
	return r.Perplexity
}

// resolve gives names their windows: 512 tokens as llama-perplexity, 1024 with a
// stride of half as Hugging Face's example, less where the context is shorter.
func resolve(names []string, context int) (out []string, err error) {
	limit := func(n int) int {
		if context > 0 {
			return min(n, context)
		}
		return n
	}
	for _, name := range names {
		d := fidelity.Definition{Kind: name, Window: limit(512)}
		switch name {
		case nameLlamaCpp:
		case nameHuggingFace:
			d.Window = limit(1024)
			d.Stride = d.Window / 2
		default:
			if d, err = fidelity.ParseDefinition(name); err != nil {
				return nil, fmt.Errorf("--perplexity: %w", err)
			}
			if context > 0 && d.Window > context {
				return nil, fmt.Errorf("--perplexity %s: the model's context is %d tokens", name, context)
			}
		}
		if s := d.String(); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out, nil
}

// evalFailed is the error that ends the command where artifacts failed.
func evalFailed(r *eval.Report) error {
	var broken []string
	ran := false
	for _, a := range r.Artifacts {
		if len(a.Problems) > 0 {
			broken = append(broken, a.Path)
		}
		ran = ran || a.NotRun == ""
	}
	if !ran {
		return errors.New("no artifact could be run here")
	}
	return failed(broken, len(r.Artifacts))
}

// evaluation is a run of eval: where artifacts lie, and what runs them.
type evaluation struct {
	c       *common
	req     evalRequest
	options eval.Options
	paths   map[string]string // folder or file, by artifact
	// runtimes are libraries or interpreters by artifact: of the text and of the
	// questions.
	forText, forQuestions map[string]string
	temp                  string
	textFile              string
}

// evaluate measures the artifacts that a request names. Those that nothing here
// can run are in the report with the reason.
func (c *common) evaluate(ctx context.Context, req evalRequest) (_ *eval.Report, err error) {
	if err := req.check(); err != nil {
		return nil, err
	}
	found, err := findArtifacts(req.Model)
	if err != nil {
		return nil, err
	}
	chosen, err := chooseArtifacts(found, req.Formats, req.Artifacts)
	if err != nil {
		return nil, err
	}
	e := &evaluation{
		c: c, req: req, paths: map[string]string{}, forText: map[string]string{}, forQuestions: map[string]string{},
		options: eval.Options{
			Program: "llama-pajamas " + Version, Model: filepath.Base(found.root), Machine: c.machineLine(ctx),
			Output: req.Output, Resume: req.Resume,
		},
	}
	if chosen, err = e.reference(found, chosen); err != nil {
		return nil, err
	}
	missing := c.probe(ctx).Missing
	limit := c.Context
	for _, a := range chosen {
		if e.add(found, a, missing) == "" {
			continue
		}
		if n := contextOf(ctx, a.Format, found.path(a)); n > 0 && (limit == 0 || n < limit) {
			limit = n
		}
	}
	if e.temp, err = tempFolder(found.root); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(e.temp)) }()
	if err := e.settings(limit); err != nil {
		return nil, err
	}
	if req.AllowCode && len(e.options.Questions) > 0 {
		if err := runcode.Check(ctx, runcode.Options{Allow: true}); err != nil {
			return nil, fmt.Errorf("--allow-code-execution: %w", err)
		}
	}
	line := c.evalProgress()
	defer line.clear()
	e.options.Progress = line.tell
	e.options.TempDir = e.temp
	e.options.Measure = e.measure
	e.options.Ask = e.ask
	return eval.Run(ctx, e.options)
}

// machineLine describes this machine.
func (c *common) machineLine(ctx context.Context) string {
	m := autoselect.Probe(ctx)
	return m.String()
}

// contextOf is the longest sequence of an artifact's model, 0 where it is not
// known.
func contextOf(ctx context.Context, format, path string) int {
	if format == formatGGUF {
		facts, err := llamacpp.Check(ctx, path)
		if err != nil {
			return 0 // opening it will say why
		}
		return facts.Context
	}
	f, _, err := openText(format, path)
	if err != nil {
		return 0
	}
	return f.MaxContext()
}

// name is an artifact's in reports.
func (e *evaluation) name(found artifacts, a modeldir.Artifact) string {
	if a.Path == "." {
		return filepath.Base(found.root)
	}
	return a.Path
}

// add enters an artifact with what runs it; why says what is missing.
func (e *evaluation) add(found artifacts, a modeldir.Artifact, missing map[autoselect.Runtime]string) string {
	one := eval.Artifact{
		Path: e.name(found, a), Format: a.Format, Target: a.Target, Recipe: a.Recipe,
		Bytes: a.Bytes, BitsPerWeight: a.BitsPerWeight, SHA256: cmp.Or(a.SHA256, stamp(found.path(a))),
	}
	e.paths[one.Path] = found.path(a)
	if id := sourceOf(found.path(a)); id != "" {
		e.options.Model = id
	}
	why := ""
	switch a.Format {
	case formatGGUF, formatMLX:
		runtime, err := e.c.sessionRuntime(a.Format)
		if err != nil {
			why = err.Error()
		}
		e.forText[one.Path], e.forQuestions[one.Path] = runtime, runtime
	default:
		library, err := e.c.findORT()
		if err != nil {
			why = err.Error()
		}
		e.forText[one.Path] = library
		provider := providerOf(a.Target)
		if provider == "cpu" {
			e.forQuestions[one.Path] = library
			break
		}
		if lack := missing[autoselect.Runtime(provider)]; lack != "" {
			one.QuestionsNotRun = lack
		} else if at, err := e.c.locateORT(provider); err != nil {
			one.QuestionsNotRun = err.Error()
		} else {
			e.forQuestions[one.Path] = at.Path
		}
	}
	one.NotRun = why
	e.options.Artifacts = append(e.options.Artifacts, one)
	if why != "" {
		return ""
	}
	return one.Path
}

// stamp tells files apart whose hash is not known: by size and time.
func stamp(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	h := sha256.New()
	fmt.Fprintln(h, info.Size(), info.ModTime().UnixNano())
	if info.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil {
			return ""
		}
		for _, entry := range entries {
			if info, err := entry.Info(); err == nil && !info.IsDir() {
				fmt.Fprintln(h, info.Name(), info.Size(), info.ModTime().UnixNano())
			}
		}
	}
	return "stamp:" + hex.EncodeToString(h.Sum(nil))
}

// reference settles what the artifacts are compared with, which is then among
// them.
func (e *evaluation) reference(found artifacts, chosen []modeldir.Artifact) ([]modeldir.Artifact, error) {
	want := e.req.Reference
	switch want {
	case "none":
		return chosen, nil
	case "":
		e.options.Reference = e.mostExact(found, chosen)
		return chosen, nil
	}
	name := strings.Trim(filepath.ToSlash(want), "/")
	for _, a := range found.list {
		if a.Path != name && e.name(found, a) != name {
			continue
		}
		e.options.Reference = e.name(found, a)
		if !slices.ContainsFunc(chosen, func(b modeldir.Artifact) bool { return b.Path == a.Path }) {
			chosen = append([]modeldir.Artifact{a}, chosen...)
		}
		return chosen, nil
	}
	l, err := fidelity.OpenLogits(want)
	if err != nil {
		var names []string
		for _, a := range found.list {
			names = append(names, a.Path)
		}
		return nil, fmt.Errorf("--reference %s: neither an artifact (%s) nor a file of logits: %w", want, strings.Join(names, ", "), err)
	}
	h := l.Header()
	if err := l.Close(); err != nil {
		return nil, err
	}
	e.options.ReferenceLogits, e.options.ReferenceName = want, h.Reference
	d := h.Definition.String()
	e.req.Perplexity = append([]string{d}, slices.DeleteFunc(slices.Clone(e.req.definitions()), func(s string) bool { return s == d })...)
	if h.Text != "" {
		e.options.Notes = append(e.options.Notes, fmt.Sprintf("compared by %s on %s, as the file of logits was made", d, h.Text))
	}
	return chosen, nil
}

// mostExact is the artifact that others are compared with unless told otherwise:
// base, else the one with most bits a weight; "" for one alone.
func (e *evaluation) mostExact(found artifacts, chosen []modeldir.Artifact) string {
	if len(chosen) < 2 {
		return ""
	}
	best := chosen[0]
	for _, a := range chosen {
		if a.Target == "base" {
			return e.name(found, a)
		}
		if a.BitsPerWeight > best.BitsPerWeight {
			best = a
		}
	}
	return e.name(found, best)
}

// settings fills in what decides figures.
func (e *evaluation) settings(limit int) error {
	r := e.req
	s := eval.Settings{
		NumQuestions: r.Questions, Seed: r.Seed, CodeExecution: r.AllowCode, MaxTokens: r.MaxTokens, Context: limit,
		Reference: cmp.Or(e.options.Reference, e.options.ReferenceName),
	}
	var err error
	if r.Questions > 0 {
		s.QuestionSet = questionSet
		if e.options.Questions, err = eval.Pick(r.Questions, r.Seed); err != nil {
			return err
		}
	}
	if s.Definitions, err = resolve(r.definitions(), limit); err != nil {
		return err
	}
	if e.options.ReferenceLogits != "" {
		if s.ReferenceSHA256, err = hashHead(e.options.ReferenceLogits); err != nil {
			return err
		}
	}
	if e.options.Reference != "" {
		for _, a := range e.options.Artifacts {
			if a.Path == e.options.Reference {
				s.ReferenceSHA256 = a.SHA256
			}
		}
	}
	if len(s.Definitions) > 0 {
		text := eval.Text
		s.Text = eval.TextName
		e.textFile = filepath.Join(e.temp, "text")
		if r.Text != "" {
			if text, err = readTextFile(r.Text); err != nil {
				return err
			}
			s.Text = filepath.Base(r.Text)
		}
		if err := os.WriteFile(e.textFile, []byte(text), 0o600); err != nil {
			return fmt.Errorf("keep the text: %w", err)
		}
		sum := sha256.Sum256([]byte(text))
		s.TextSHA256, s.Tokens = hex.EncodeToString(sum[:]), r.Tokens
	}
	e.options.Settings = s
	return nil
}

// questionSet names the set in reports.
const questionSet = "llama-pajamas 120, version 1: MMLU, ARC-Challenge, GSM8K, HumanEval, OpenBookQA, WinoGrande, IFEval"

// hashHead tells files of logits apart: the hash of the first MB, which has
// names, definition and tokens.
func hashHead(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the reference: %w", err)
	}
	defer f.Close()
	b := make([]byte, 1<<20)
	n, err := f.Read(b)
	if err != nil {
		return "", fmt.Errorf("read the reference: %w", err)
	}
	sum := sha256.Sum256(b[:n])
	return hex.EncodeToString(sum[:]), nil
}

// evalLine says how an evaluation gets on: one line on a terminal, else a note
// now and then.
type evalLine struct {
	benchLine
	c    *common
	last time.Time
}

func (c *common) evalProgress() *evalLine {
	return &evalLine{benchLine: *c.benchProgress(), c: c, last: time.Now()}
}

// quietTime passes between notes of progress where there is no terminal.
const quietTime = 20 * time.Second

func (l *evalLine) tell(p eval.Progress) {
	what := p.Artifact + " · " + p.What
	if l.w != nil {
		l.show(what, p.Share, p.Left)
		return
	}
	if time.Since(l.last) < quietTime {
		return
	}
	l.last = time.Now()
	rest := ""
	if p.Left > 0 {
		rest = ", " + about(p.Left) + " left"
	}
	l.c.note("%.0f %%%s: %s", 100*p.Share, rest, what)
}
