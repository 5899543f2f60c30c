package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/eval"
	"github.com/llama-pajamas/llama-pajamas/eval/questions"
	"github.com/llama-pajamas/llama-pajamas/eval/runcode"
	"github.com/llama-pajamas/llama-pajamas/fidelity"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/infer/llamacpp"
	"github.com/llama-pajamas/llama-pajamas/infer/mlxlm"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tensor"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// measure runs an artifact over the text by the machinery of verify.
func (e *evaluation) measure(ctx context.Context, a eval.Artifact, w eval.Work) (eval.Measured, error) {
	d, err := fidelity.ParseDefinition(w.Definition)
	if err != nil {
		return eval.Measured{}, err
	}
	dir := e.paths[a.Path]
	req := verifyRequest{
		Library: e.forText[a.Path], Artifacts: []string{dir}, ModelID: e.options.Model,
		TextFile: e.textFile, TextName: e.options.Settings.Text, Tokens: e.options.Settings.Tokens, Definition: d,
		SaveLogits: w.SaveLogits, Threads: e.c.Threads, FreeMemory: freeMemory(), TempDir: e.temp,
	}
	if req.Tokens == 0 {
		req.Tokens = maxText
	}
	if a.Format != formatONNX {
		req.Format = a.Format
	}
	if w.SaveLogits != "" {
		req.ReferenceName = a.Path
	}
	if w.ReferenceLogits != "" { // the file says what text, and how it is cut
		req.ReferenceLogits, req.TextFile, req.TextName, req.Tokens, req.Definition = w.ReferenceLogits, "", "", 0, fidelity.Definition{}
	}
	results, err := e.c.runVerify(ctx, req, w.Progress)
	var cannot *cannotRun
	if errors.As(err, &cannot) {
		return eval.Measured{}, &eval.NotRunError{Why: shorten(err, dir, a.Path)}
	}
	if err != nil {
		return eval.Measured{}, errors.New(shorten(err, dir, a.Path))
	}
	f, g := results[0].Fidelity, results[0].Figures
	m := eval.Measured{Perplexity: eval.Perplexity{
		Definition: w.Definition, Text: f.Text, Scored: g.Scored, Arithmetic: f.Arithmetic, Value: g.Perplexity, StdErr: g.PerplexityStdErr,
	}}
	if w.ReferenceLogits != "" {
		m.Fidelity = &eval.Fidelity{Reference: f.Reference, Text: f.Text, Definition: f.Definition, Arithmetic: f.Arithmetic, Result: g}
	}
	return m, nil
}

// askRequest goes to the child process that puts questions to an artifact.
type askRequest struct {
	Format    string   `json:"format"`
	Path      string   `json:"path"`
	Library   string   `json:"library"` // or, of MLX, the Python interpreter
	Provider  string   `json:"provider"`
	Threads   int      `json:"threads"`
	Context   int      `json:"context"`
	MaxTokens int      `json:"max_tokens"`
	AllowCode bool     `json:"allow_code"`
	Questions []string `json:"questions"` // ids
}

// askLine is one line of its standard output: an answer, or the end.
type askLine struct {
	Record       *eval.Record `json:"record,omitempty"`
	Share        float64      `json:"share,omitempty"`
	ChatTemplate bool         `json:"chat_template,omitempty"`
	NotRun       string       `json:"not_run,omitempty"`
	Error        string       `json:"error,omitempty"`
}

// askChild names the hidden command of the child process.
const askChild = "ask-questions"

// ask puts questions to an artifact, in a child process, or in this one where
// there is no program to start (tests).
func (e *evaluation) ask(ctx context.Context, a eval.Artifact, qs []questions.Question, each func(eval.Record, float64) error) (bool, error) {
	req := askRequest{
		Format: a.Format, Path: e.paths[a.Path], Library: e.forQuestions[a.Path], Provider: providerOf(a.Target),
		Threads: e.c.Threads, Context: e.options.Settings.Context, MaxTokens: e.req.MaxTokens, AllowCode: e.req.AllowCode,
	}
	for _, q := range qs {
		req.Questions = append(req.Questions, q.ID)
	}
	template, err := false, error(nil)
	if e.c.Program == "" {
		template, err = e.c.askHere(ctx, req, each)
	} else {
		var kept error // of each, which the child cannot know
		err = e.c.child(ctx, askChild, req, func(out io.Reader) error {
			s := bufio.NewScanner(out)
			s.Buffer(nil, 16<<20)
			for s.Scan() {
				var line askLine
				if err := json.Unmarshal(s.Bytes(), &line); err != nil {
					return fmt.Errorf("read the answering process's line: %w", err)
				}
				switch {
				case line.NotRun != "":
					return &cannotRun{line.NotRun}
				case line.Error != "":
					return errors.New(line.Error)
				case line.Record != nil && kept == nil:
					kept = each(*line.Record, line.Share)
				}
				template = template || line.ChatTemplate
			}
			return s.Err()
		})
		err = errors.Join(kept, err)
	}
	var cannot *cannotRun
	if errors.As(err, &cannot) {
		return false, &eval.NotRunError{Why: shorten(cannot, req.Path, a.Path)}
	}
	if err != nil && ctx.Err() == nil {
		return false, errors.New(shorten(err, req.Path, a.Path))
	}
	return template, err
}

// askChildCommand is the child's side.
func askChildCommand(c *common) *cobra.Command {
	cmd := command(askChild, "Put questions to an artifact (started by the program itself)", "", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
		var req askRequest
		if err := json.NewDecoder(io.LimitReader(c.In, 1<<20)).Decode(&req); err != nil {
			return fmt.Errorf("read the request: %w", err)
		}
		out := json.NewEncoder(c.Out)
		template, err := c.askHere(cmd.Context(), req, func(r eval.Record, share float64) error {
			return out.Encode(askLine{Record: &r, Share: share})
		})
		line := askLine{ChatTemplate: template}
		var cannot *cannotRun
		switch {
		case errors.As(err, &cannot):
			line = askLine{NotRun: cannot.why}
		case err != nil:
			line = askLine{Error: err.Error()}
		}
		return out.Encode(line)
	})
	cmd.Hidden = true
	return cmd
}

// askHere loads an artifact and puts the questions to it.
func (c *common) askHere(ctx context.Context, req askRequest, each func(eval.Record, float64) error) (template bool, err error) {
	all, err := questions.Set(0)
	if err != nil {
		return false, err
	}
	var qs []questions.Question
	for _, id := range req.Questions {
		i := slices.IndexFunc(all, func(q questions.Question) bool { return q.ID == id })
		if i < 0 {
			return false, fmt.Errorf("the set has no question %q", id)
		}
		qs = append(qs, all[i])
	}
	folder, tok, err := openText(req.Format, req.Path)
	if err != nil {
		return false, err
	}
	asker, err := eval.NewAsker(ctx, folder, tok, qs, eval.AskOptions{
		MaxTokens: req.MaxTokens, Code: runcode.Options{Allow: req.AllowCode}, Context: req.Context,
	})
	if err != nil {
		return false, err
	}
	m, closeModel, err := c.openEval(ctx, req, folder, asker.Context())
	if err != nil {
		var fit *infer.FitError
		if errors.As(err, &fit) {
			return false, &cannotRun{"there is too little free memory: " + fit.Error()}
		}
		return false, err
	}
	defer func() { err = errors.Join(err, closeModel()) }()
	return asker.ChatTemplate(), asker.Ask(ctx, m, nil, each)
}

// openText reads the small files of an artifact: a GGUF file or a folder.
func openText(format, path string) (folder *modeldir.Folder, tok *tokenizer.Tokenizer, err error) {
	switch format {
	case formatGGUF:
		return llamacpp.OpenText(path)
	case formatMLX:
		return mlxlm.OpenText(path)
	}
	if folder, err = modeldir.Open(path); err != nil {
		return nil, nil, err
	}
	tok, err = tokenizer.Load(folder.Dir)
	return folder, tok, err
}

// openEval loads an artifact for questions, with a batch where its runtime has
// batches.
func (c *common) openEval(ctx context.Context, req askRequest, folder *modeldir.Folder, context int) (m eval.Model, closeModel func() error, err error) {
	open := infer.OpenOptions{Context: context, Threads: req.Threads, Rows: eval.Rows}
	var free func()
	switch req.Format {
	case formatGGUF:
		b, err := llamacpp.New(llamacpp.Options{Library: req.Library, Depend: c.dependOptions(), GPULayers: llamacpp.AutoLayers})
		if err != nil {
			return m, nil, err
		}
		if m.Session, err = b.Open(ctx, folder, open); err != nil {
			return m, nil, err
		}
		m.Batch, err = llamacpp.NewBatch(ctx, m.Session, evalSlots())
		if err = batchless(err); err != nil {
			return m, nil, errors.Join(err, m.Session.Close())
		}
	case formatMLX:
		b, err := mlxlm.New(mlxlm.Options{Python: req.Library})
		if err != nil {
			return m, nil, err
		}
		if m.Session, err = b.Open(ctx, folder, open); err != nil {
			return m, nil, err
		}
	default:
		o := onnxruntime.Options{Library: req.Library, Provider: req.Provider, NoFallback: true, Depend: c.dependOptions()}
		if dir, err := c.CacheDir(); err == nil {
			o.CacheDir = dir
		}
		b, err := onnxruntime.New(o)
		if err != nil {
			return m, nil, err
		}
		free = b.Close
		if m.Session, err = b.Open(ctx, folder, open); err != nil {
			b.Close()
			return m, nil, err
		}
		m.Batch, err = onnxruntime.NewBatch(ctx, m.Session, evalSlots())
		if err = batchless(err); err != nil {
			err = errors.Join(err, m.Session.Close())
			b.Close()
			return m, nil, err
		}
	}
	return m, func() error {
		var err error
		if m.Batch != nil {
			err = m.Batch.Close()
		}
		err = errors.Join(err, m.Session.Close())
		if free != nil {
			free()
		}
		return err
	}, nil
}

// batchless is nil where a model is merely one that has no batches.
func batchless(err error) error {
	var not *tensor.UnsupportedError
	if errors.As(err, &not) {
		return nil
	}
	return err
}

// evalSlots is how many answers are written at once: enough for the weights to be
// read once for several tokens, few enough that all find an answer to write.
func evalSlots() int { return max(4, min(8, 2*runtime.NumCPU())) }
