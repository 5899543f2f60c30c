package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/verify"
	"github.com/shirou/gopsutil/v4/mem"
)

// verifyRequest goes to the child process as JSON on standard input.
type verifyRequest struct {
	Library    string   `json:"library"`
	Reference  string   `json:"reference"`
	Artifacts  []string `json:"artifacts"`
	Threads    int      `json:"threads"`
	FreeMemory int64    `json:"free_memory"`
}

// verifyLine is one line of the child's standard output: a step of progress,
// or the end.
type verifyLine struct {
	Share   float64         `json:"share,omitempty"`
	Results []verify.Result `json:"results,omitempty"`
	Error   string          `json:"error,omitempty"`
}

// verifyChild names the hidden command that runs in the child process.
const verifyChild = "verify-staged"

// errProblems is what convert ends with when artifacts were written but do
// not pass.
var errProblems = errors.New("verification found problems; the files were written, see above")

// verifyJob compares what a job has staged with its float32 reference and
// enters the figures into its metadata. The models are loaded in a child
// process: what a runtime does with a broken model, and the memory it takes,
// stay there.
func verifyJob(ctx context.Context, c *common, job *convert.Job) (problems bool, err error) {
	path, err := c.findORT()
	if err != nil {
		c.note("not verified: %v", err)
		return false, nil
	}
	req := verifyRequest{Library: path, Threads: c.Threads}
	if m, err := mem.VirtualMemory(); err == nil {
		req.FreeMemory = int64(m.Available)
	}
	var index []int
	for i, a := range job.Artifacts {
		if a.Reference {
			req.Reference = job.Staged(i)
			continue
		}
		req.Artifacts = append(req.Artifacts, job.Staged(i))
		index = append(index, i)
	}
	bar := c.newProgress("verifying ", 1000)
	defer bar.stop()
	results, err := c.runVerify(ctx, req, func(share float64) { bar.set(int64(1000*share), 1000) })
	if err != nil {
		return false, err
	}
	for k, r := range results {
		a := job.Artifacts[index[k]]
		a.Metadata.Fidelity = &r.Fidelity
		if a.Recipe.Target == "cpu" || a.Recipe.Target == "base" {
			a.Metadata.Target.RanOnDevice = "yes: on the CPU"
		}
		if p := verify.Far(a.Recipe.Precision, r.Fidelity.KLMean); p != "" {
			r.Problems = append(r.Problems, p)
		}
		for _, p := range r.Problems {
			problems = true
			fmt.Fprintf(c.Err, "%s: %s\n", a.Dir, p)
		}
	}
	return problems, nil
}

// runVerify runs verify in a child process, or in this one where there is no
// program to start (tests).
func (c *common) runVerify(ctx context.Context, req verifyRequest, progress func(float64)) ([]verify.Result, error) {
	if c.Program == "" {
		return verifyHere(ctx, req, progress)
	}
	in, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, c.Program, verifyChild)
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("verify: start %s: %w", c.Program, err)
	}
	last, readErr := readVerifyLines(out, progress)
	if err := cmd.Wait(); err != nil && last.Error == "" {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("verify: the checking process ended with %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	switch {
	case last.Error != "":
		return nil, errors.New(last.Error)
	case readErr != nil:
		return nil, fmt.Errorf("verify: %w", readErr)
	case len(last.Results) != len(req.Artifacts):
		return nil, fmt.Errorf("verify: %d results for %d artifacts", len(last.Results), len(req.Artifacts))
	}
	return last.Results, nil
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
	lib, err := ort.Open(req.Library)
	if err != nil {
		return nil, err
	}
	return verify.Run(ctx, verify.Options{
		Library: lib, Reference: req.Reference, Artifacts: req.Artifacts,
		Threads: req.Threads, FreeMemory: req.FreeMemory, Progress: progress,
	})
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
		if err != nil {
			line.Error = err.Error()
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
