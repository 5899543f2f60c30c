package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/fidelity"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/verify"
	"github.com/shirou/gopsutil/v4/mem"
)

// verifyRequest goes to the child process as JSON on standard input.
type verifyRequest struct {
	// Library is that of ONNX Runtime or, of artifacts of another Format, what
	// runs those.
	Library         string              `json:"library"`
	Format          string              `json:"format,omitempty"` // "" is ONNX
	Reference       string              `json:"reference"`
	ReferenceName   string              `json:"reference_name"`
	ReferenceLogits string              `json:"reference_logits"`
	SaveLogits      string              `json:"save_logits"`
	TempDir         string              `json:"temp_dir"`
	Artifacts       []string            `json:"artifacts"`
	ModelID         string              `json:"model_id"`
	TextFile        string              `json:"text_file"`
	TextName        string              `json:"text_name,omitempty"` // "" for the file's
	Tokens          int                 `json:"tokens"`
	Definition      fidelity.Definition `json:"definition"`
	Threads         int                 `json:"threads"`
	FreeMemory      int64               `json:"free_memory"`
}

// maxText bounds the text file that is read: more tokens than anyone verifies
// on.
const maxText = 64 << 20

// verifyLine is one line of the child's standard output: a step of progress,
// or the end.
type verifyLine struct {
	Share   float64         `json:"share,omitempty"`
	Results []verify.Result `json:"results,omitempty"`
	NotRun  string          `json:"not_run,omitempty"` // a cannotRun
	Error   string          `json:"error,omitempty"`
}

// verifyChild names the hidden command that runs in the child process.
const verifyChild = "verify-staged"

// errProblems is what convert ends with when artifacts were written but do
// not pass.
var errProblems = errors.New("verification found problems; the files were written, see above")

// verifyJob compares what a job has staged with its float32 reference and
// enters the figures into its metadata. Each model is loaded in a child
// process of its own: what a runtime does with a broken model, and the memory
// it takes, stay there, and an artifact that does not run is dropped from the
// job without the others.
func verifyJob(ctx context.Context, c *common, job *convert.Job) (problems bool, err error) {
	path, err := c.findORT()
	if err != nil {
		// Not a note: what the command promises was not done, and a script
		// that runs it with --quiet must see that.
		fmt.Fprintf(c.Err, "not verified: %v\n", err)
		return false, nil
	}
	bar := c.newProgress("verifying ", 1000)
	defer bar.stop()
	done := 0
	run := func(req verifyRequest) ([]verify.Result, error) {
		defer func() { done++ }()
		if req.Format == "" {
			req.Library = path
		}
		req.Threads, req.FreeMemory = c.Threads, freeMemory()
		return c.runVerify(ctx, req, func(share float64) {
			bar.set(int64(1000*(float64(done)+share)/float64(len(job.Artifacts))), 1000)
		})
	}
	i := slices.IndexFunc(job.Artifacts, func(a *convert.Artifact) bool { return a.Reference })
	if i < 0 {
		return false, errors.New("verify: the job has no reference")
	}
	reference := job.Staged(i)
	logits := filepath.Join(filepath.Dir(reference), "reference.logits") // goes with the staging folder
	if _, err := run(verifyRequest{Reference: reference, SaveLogits: logits}); err != nil {
		return false, err
	}
	broken := map[string]error{}
	for i, a := range job.Artifacts {
		if a.Reference || a.Metadata.Target.Format != "onnx" {
			continue
		}
		results, err := run(verifyRequest{ReferenceLogits: logits, Artifacts: []string{job.Staged(i)}})
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil {
			broken[a.Dir] = errors.New(shorten(err, job.Staged(i), a.Dir))
			continue
		}
		if own := results[0].SelfTest; own != nil && len(own.Cases) > 0 {
			if err := job.SetSelfTest(i, own); err != nil {
				return false, err
			}
		}
		for _, p := range enterFidelity(a, results[0]) {
			problems = true
			fmt.Fprintf(c.Err, "%s: %s\n", a.Dir, p)
		}
	}
	more, err := c.verifySessions(ctx, job, run, logits)
	if err != nil {
		return false, err
	}
	return problems || more, job.Fail(broken)
}

// enterFidelity enters what was measured into an artifact's metadata and
// returns in what it fails.
func enterFidelity(a *convert.Artifact, r verify.Result) (problems []string) {
	a.Metadata.Fidelity = &r.Fidelity
	switch format := a.Metadata.Target.Format; {
	case format != formatONNX:
		a.Metadata.Target.RanOnDevice = ranOn(format, r.Fidelity.Arithmetic)
	case a.Recipe.Target == "cpu" || a.Recipe.Target == "base":
		a.Metadata.Target.RanOnDevice = "yes: on the CPU"
	}
	if p := verify.Far(a.Recipe.Precision, r.Fidelity.KLMean); p != "" {
		return append(r.Problems, p)
	}
	return r.Problems
}

// runVerify runs verify in a child process, or in this one where there is no
// program to start (tests).
func (c *common) runVerify(ctx context.Context, req verifyRequest, progress func(float64)) ([]verify.Result, error) {
	if c.Program == "" {
		return verifyHere(ctx, req, progress)
	}
	var last verifyLine
	err := c.child(ctx, verifyChild, req, func(out io.Reader) (err error) {
		last, err = readVerifyLines(out, progress)
		return err
	})
	switch {
	case last.NotRun != "":
		return nil, &cannotRun{last.NotRun}
	case last.Error != "":
		return nil, errors.New(last.Error)
	case err != nil:
		return nil, fmt.Errorf("verify: %w", err)
	case len(last.Results) != len(req.Artifacts):
		return nil, fmt.Errorf("verify: %d results for %d artifacts", len(last.Results), len(req.Artifacts))
	}
	return last.Results, nil
}

// child runs a hidden command of this program as a process, with a request as
// JSON on its standard input, and hands its standard output to read.
func (c *common) child(ctx context.Context, command string, request any, read func(io.Reader) error) error {
	in, err := json.Marshal(request)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, c.Program, command)
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.Program, err)
	}
	readErr := read(out)
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("the process that ran the model ended with %w: %s", err, tail(stderr.String(), 400))
	}
	return readErr
}

// tail is the end of a text, on one line.
func tail(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > n {
		s = "…" + strings.ToValidUTF8(s[len(s)-n:], "")
	}
	return s
}

// readVerifyLines passes progress on and returns the last line.
func readVerifyLines(r io.Reader, progress func(float64)) (verifyLine, error) {
	var last verifyLine
	s := bufio.NewScanner(r)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		last = verifyLine{}
		if err := json.Unmarshal(s.Bytes(), &last); err != nil {
			return last, fmt.Errorf("read the checking process's answer: %w", err)
		}
		if last.Share > 0 {
			progress(last.Share)
		}
	}
	return last, s.Err()
}

func verifyHere(ctx context.Context, req verifyRequest, progress func(float64)) ([]verify.Result, error) {
	var err error
	o := verify.Options{
		Reference: req.Reference, ReferenceName: req.ReferenceName, ReferenceLogits: req.ReferenceLogits,
		SaveLogits: req.SaveLogits, TempDir: req.TempDir, Artifacts: req.Artifacts, ModelID: req.ModelID,
		Tokens: req.Tokens, Definition: req.Definition,
		Threads: req.Threads, FreeMemory: req.FreeMemory, Progress: progress,
	}
	if req.TextFile != "" {
		if o.Text, err = readTextFile(req.TextFile); err != nil {
			return nil, err
		}
		o.TextName = cmp.Or(req.TextName, filepath.Base(req.TextFile))
	}
	if req.Format != "" {
		return verifySessionHere(ctx, req, o)
	}
	if o.Library, err = ort.Open(req.Library); err != nil {
		return nil, err
	}
	return verify.Run(ctx, o)
}

// readTextFile reads a text to compare on.
func readTextFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the text: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxText))
	if err != nil {
		return "", fmt.Errorf("read the text: %w", err)
	}
	if len(b) == 0 {
		return "", fmt.Errorf("read the text: %s is empty", path)
	}
	return strings.ToValidUTF8(string(b), ""), nil
}

// freeMemory is what new work may take, 0 where the system does not tell.
func freeMemory() int64 {
	m, err := mem.VirtualMemory()
	if err != nil {
		return 0
	}
	return int64(m.Available)
}

// verifyChildCommand is the child's side.
func verifyChildCommand(c *common) *cobra.Command {
	cmd := command(verifyChild, "", "", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
		var req verifyRequest
		if err := json.NewDecoder(io.LimitReader(c.In, 1<<20)).Decode(&req); err != nil {
			return fmt.Errorf("read the request: %w", err)
		}
		out := json.NewEncoder(c.Out)
		results, err := verifyHere(cmd.Context(), req, func(share float64) { _ = out.Encode(verifyLine{Share: share}) })
		line := verifyLine{Results: results}
		var cannot *cannotRun
		switch {
		case errors.As(err, &cannot):
			line = verifyLine{NotRun: cannot.why}
		case err != nil:
			line = verifyLine{Error: err.Error()}
		}
		return out.Encode(line)
	})
	cmd.Hidden = true
	return cmd
}

// programPath is the running program's file, "" where it is not known.
func programPath() string {
	p, err := os.Executable()
	if err != nil {
		return ""
	}
	return p
}
