package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// convertOptions are the flags of the convert command.
type convertOptions struct {
	setup
	rounds int
	eightB bool
}

// conversion is one way to convert, measured in every round.
type conversion struct {
	Name    string    `json:"name"`
	Seconds []float64 `json:"seconds"`
	// PeakRSS is the most that all processes of it held at once, in bytes.
	PeakRSS []float64 `json:"peak_rss"`

	argv func(out string) []string
}

// convertReport is the outcome of the convert command.
type convertReport struct {
	Machine machine       `json:"machine"`
	Rounds  int           `json:"rounds"`
	Runs    []*conversion `json:"runs"`
	Claims  []claim       `json:"claims"`
	Large   *largeReport  `json:"qwen3_8b_shape,omitempty"`
	// LargeRun says which run Large is of, where it is of an earlier one.
	LargeRun string `json:"qwen3_8b_run,omitempty"`
}

// convertSpeed times conversions of a BF16 folder to CPU int4.
func convertSpeed(ctx context.Context, o convertOptions) error {
	shop, backend, err := o.open(ctx)
	if err != nil {
		return err
	}
	backend.Close()
	report := convertReport{Machine: describeMachine(ctx), Rounds: o.rounds}
	if w := report.Machine.warn(); w != "" {
		o.note("warning: %s", w)
	}
	if o.eightB {
		if report.Large, err = o.large(ctx, shop); err != nil {
			return err
		}
	}
	folder, err := halfSample(ctx, o.source, shop.dir)
	if err != nil {
		return err
	}
	mine := func(name string, extra ...string) *conversion {
		return &conversion{Name: name, argv: func(out string) []string {
			return append([]string{o.program, "convert", "--quiet", "--model", folder, "--output", out, "--no-base", "--target-eps", "cpu", "--target-precisions", "int4"}, extra...)
		}}
	}
	runs := []*conversion{
		mine("llama-pajamas int4, probe", "--no-verify", "--calibration", "probe"),
		mine("llama-pajamas int4", "--no-verify"),
		mine("llama-pajamas int4, verified"),
		{Name: "onnxruntime-genai int4", argv: func(out string) []string {
			return append([]string{shop.python}, builderArgs(folder, out, []string{"int4"})...)
		}},
	}
	for round := range o.rounds {
		for i := range runs {
			if err := o.time(ctx, shop, runs[(i+round)%len(runs)]); err != nil {
				return err
			}
		}
	}
	report.Runs = runs
	return report.write(o.out)
}

// halfSample is the plain sample as a BF16 folder.
func halfSample(ctx context.Context, path, dir string) (string, error) {
	src, err := openSource(ctx, path)
	if err != nil {
		return "", err
	}
	defer src.Close()
	folder := filepath.Join(dir, "plain", "hf-bf16")
	return folder, once(folder, func(tmp string) error { return src.writeFolder(tmp, tensor.BF16, nil) })
}

// time runs a conversion once into a new folder, which is removed, with an empty
// cache: nothing is known of the model.
func (o *convertOptions) time(ctx context.Context, shop *workshop, c *conversion) error {
	out, err := os.MkdirTemp(shop.dir, "convert-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(out)
	u, err := runMeasured(ctx, append(os.Environ(), "LLAMA_PAJAMAS_ONNXRUNTIME="+o.library, "HF_HUB_OFFLINE=1",
		"LLAMA_PAJAMAS_CACHE="+filepath.Join(out, "cache")), c.argv(filepath.Join(out, "model")))
	if err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	o.note("%-32s %.2f s, %.0f MB", c.Name, u.Seconds, float64(u.PeakRSS)/1e6)
	c.Seconds, c.PeakRSS = append(c.Seconds, u.Seconds), append(c.PeakRSS, float64(u.PeakRSS))
	return nil
}

// use is what a command took.
type use struct {
	Seconds float64 `json:"seconds"`
	PeakRSS int64   `json:"peak_rss"`
}

// runMeasured runs a command and watches its memory: at each look the high
// water marks of the process, or the sizes of it and its children together
// where that is more. (The system's own figure for children counts what this
// process held when it started them.)
func runMeasured(ctx context.Context, env, argv []string) (use, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = env
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return use{}, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var u use
	for {
		select {
		case err := <-done:
			u.Seconds = time.Since(start).Seconds()
			if err != nil {
				b := text.Bytes()
				err = fmt.Errorf("%w\n%s", err, b[max(0, len(b)-2000):])
			}
			return u, err
		case <-tick.C:
			u.PeakRSS = max(u.PeakRSS, peakRSS(cmd.Process.Pid), treeRSS(cmd.Process.Pid))
		}
	}
}

// treeRSS is the resident memory of a process and its descendants.
func treeRSS(pid int) int64 {
	var n int64
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid)); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			pages, _ := strconv.ParseInt(f[1], 10, 64) // 0 where it is no number
			n = pages * int64(os.Getpagesize())
		}
	}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is well formed
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue
		}
		for _, f := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(f); err == nil {
				n += treeRSS(child)
			}
		}
	}
	return n
}

// write adds the claims and writes the files.
func (r *convertReport) write(dir string) error {
	if r.Large == nil { // a run of half an hour: the last one stays
		var last convertReport
		if _, err := readReport(dir, convertFile, &last); err != nil {
			return err
		}
		if r.Large, r.LargeRun = last.Large, last.LargeRun; r.Large != nil && r.LargeRun == "" {
			r.LargeRun = last.Machine.Commit + ", " + last.Machine.Date
		}
	}
	theirs := r.Runs[len(r.Runs)-1]
	for _, c := range r.Runs[:len(r.Runs)-1] {
		r.Claims = append(r.Claims, newClaim("time, theirs / ours", c.Name, theirs.Name, theirs.Seconds, c.Seconds, goal{atLeast: 7}))
	}
	var b strings.Builder
	b.WriteString("# Conversion of SmolLM2-135M to CPU int4\n\n")
	fmt.Fprintf(&b, "Written by `go run ./internal/peers convert`. From a Hugging Face folder of bfloat16; wall time and most resident memory of all processes, medians of %d alternating rounds. probe: 32 random token ids say which channels matter; without it 4096 tokens of text do, through ONNX Runtime, as is the default; onnxruntime-genai's recipe has no calibration. verified: the artifact is loaded, run and compared with the float32 graph.\n\n", r.Rounds)
	b.WriteString("| conversion | seconds | peak MB |\n|---|---|---|\n")
	for _, c := range r.Runs {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", c.Name, spread(c.Seconds, 2), spread(scaled(c.PeakRSS, 1e-6), 0))
	}
	b.WriteString("\n| ours | times as fast as | ratio | goal | |\n|---|---|---|---|---|\n")
	for _, c := range r.Claims {
		fmt.Fprintf(&b, "| %s | %s | %.1f [%.1f – %.1f] (%.0f %%) | %s | %s |\n", c.Ours, c.Peer, c.Ratio, c.Low, c.High, 100*c.Coverage, c.Goal, verdict(c.Met))
	}
	if r.Large != nil {
		b.WriteString("\n" + r.Large.String())
		if r.LargeRun != "" {
			fmt.Fprintf(&b, "\nThat is of an earlier run (%s), with the probe.\n", r.LargeRun)
		}
	}
	fmt.Fprintf(&b, "\n%s\n", r.Machine)
	if err := writeReport(dir, convertFile, r, b.String()); err != nil {
		return err
	}
	return printTable(dir, convertFile)
}

func scaled(x []float64, by float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = v * by
	}
	return out
}
