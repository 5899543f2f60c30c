package main

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
	"path/filepath"
	"strconv"
	"time"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

// contender is one artifact run in one way.
type contender struct {
	artifact
	Flash  string `json:"flash_attention,omitempty"` // llama.cpp: "on" or "off"
	Cold   []pass `json:"cold"`                      // first passes of fresh processes
	Warm   []pass `json:"warm"`                      // the others, round by round
	Tokens []int32

	argv   []string
	rounds int // at most so many rounds, where it is slow; 0 for all
}

func (c *contender) title() string {
	if c.Flash == "" {
		return c.label()
	}
	return c.label() + ", flash attention " + c.Flash
}

// speedOptions are the flags of the speed command.
type speedOptions struct {
	setup
	rounds, passes, prompt, generate int
	text, match                      string
	mlx                              bool
}

// speed measures all contenders in rounds. A round starts a fresh process for
// each, one after the other, whose first pass tells of loading and memory;
// then all of them, loaded, take turns. Passes with the same number form a
// pair. The order is another in every round.
func speed(ctx context.Context, o speedOptions) error {
	shop, backend, err := o.open(ctx)
	if err != nil {
		return err
	}
	backend.Close() // workers have their own
	s, err := makeSample(ctx, o.source, shop.dir, "plain")
	if err != nil {
		return err
	}
	list, err := o.contenders(ctx, shop, s)
	if err != nil {
		return err
	}
	report := speedReport{Machine: describeMachine(ctx), Prompt: o.prompt, Generate: o.generate, Threads: o.threads,
		Passes: o.passes, Parameters: s.Parameters}
	if w := report.Machine.warn(); w != "" {
		o.note("warning: %s", w)
	}
	for round := range o.rounds {
		start := time.Now()
		if err := o.round(ctx, list, round); err != nil {
			return err
		}
		o.note("round %d of %d: %.0f s", round+1, o.rounds, time.Since(start).Seconds())
		report.Rounds, report.Contenders = round+1, list
		if err := report.write(o.out); err != nil { // so far; an interrupted run keeps it
			return err
		}
	}
	return printTable(o.out, speedFile)
}

// contenders builds every artifact and says how it is run.
func (o *speedOptions) contenders(ctx context.Context, shop *workshop, s *sample) ([]*contender, error) {
	prompt := filepath.Join(shop.dir, "prompt.json")
	ids, err := readTokens(s, o.text, o.prompt)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(prompt, b, 0o644); err != nil {
		return nil, err
	}
	n, threads := strconv.Itoa(o.generate), strconv.Itoa(o.threads)
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	mine := ourArtifacts([]string{"int4-small", "int4", budgetPrefix + "6.4", "int8", "int8-w8a8"})
	if err := shop.convertOurs(ctx, s, mine); err != nil {
		return nil, fmt.Errorf("convert the sample: %w", err)
	}
	var out []*contender
	for _, a := range mine {
		out = append(out, &contender{artifact: *a, argv: []string{program, "worker", "--onnxruntime", o.library, "--threads", threads,
			"--model", a.path, "--prompt", prompt, "--generate", n}})
	}
	for _, a := range append(genaiArtifacts(), prunedArtifacts()...) {
		if a.Name != "int4" && a.Name != "int8" && a.Name != "int4 k_quant_mixed" && a.Name != "int4 prune_lm_head" {
			continue
		}
		if !o.wants(a, o.match) {
			continue
		}
		if err := shop.build(ctx, s, a); err != nil {
			return nil, err
		}
		out = append(out, &contender{artifact: *a, argv: []string{shop.python, "-c", genaiScript, "speed", a.path, prompt, n, threads}})
	}
	for _, a := range llamaArtifacts() {
		if a.Name != "Q4_0" && a.Name != "Q4_K_M" && a.Name != "Q5_K_M" && a.Name != "Q8_0" || !o.wants(a, o.match) {
			continue
		}
		if err := shop.build(ctx, s, a); err != nil {
			return nil, err
		}
		for i, flash := range []string{"off", "on"} {
			out = append(out, &contender{artifact: *a, Flash: flash,
				argv: []string{shop.python, "-c", llamaScript, shop.llamaLib, "speed", a.path, prompt, n, threads, strconv.Itoa(i)}})
		}
	}
	for _, more := range []func(context.Context, *workshop, *sample, string) ([]*contender, error){o.mlxContender, o.ollamaContender} {
		list, err := more(ctx, shop, s, prompt)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	kept := out[:0]
	for _, c := range out {
		if o.wants(&c.artifact, o.match) {
			kept = append(kept, c)
		}
	}
	return kept, nil
}

// mlxRounds is how often mlx-lm is run: on a processor without Metal it reads a
// prompt of 512 tokens in minutes.
const mlxRounds = 1

// mlxContender is mlx-lm on the file that its own converter makes by default.
func (o *speedOptions) mlxContender(ctx context.Context, shop *workshop, s *sample, prompt string) ([]*contender, error) {
	a := &artifact{Maker: mlxlm, Name: "4bit"}
	if !o.mlx || !o.wants(a, o.match) {
		return nil, nil
	}
	venv, err := oracle.Install(ctx, o.log) // has mlx-lm, the bench environment has not
	if err != nil {
		return nil, err
	}
	python := filepath.Join(venv, "bin", "python")
	a.path = filepath.Join(shop.dir, s.Name, "peers", "mlx-lm-4bit")
	err = once(a.path, func(tmp string) error {
		o.note("building %s of the %s sample", a.label(), s.Name)
		return shop.command(ctx, python, "-m", "mlx_lm", "convert", "--hf-path", s.HF, "--mlx-path", tmp, "-q")
	})
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", a.label(), err)
	}
	return []*contender{{artifact: *a, rounds: mlxRounds, argv: []string{python, "-c", mlxScript, "speed", a.path, prompt, strconv.Itoa(o.generate)}}}, nil
}

// ollamaContender runs llama.cpp's Q4_K_M file, where the program is on PATH: no package
// registry has it. Its answers differ, as it takes text and not ids; the work
// is the same.
func (o *speedOptions) ollamaContender(ctx context.Context, shop *workshop, s *sample, prompt string) ([]*contender, error) {
	server, err := exec.LookPath("ollama")
	if err != nil {
		o.note("no program ollama on PATH: it is left out")
		return nil, nil
	}
	a := &artifact{Maker: llama, Name: "Q4_K_M", ftype: 15}
	if err := shop.build(ctx, s, a); err != nil {
		return nil, err
	}
	a.Maker = ollama
	if !o.wants(a, o.match) {
		return nil, nil
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return []*contender{{artifact: *a, argv: []string{program, "ollama", "--server", server, "--model", a.path, "--tokenizer", s.HF, "--prompt", prompt,
		"--generate", strconv.Itoa(o.generate), "--threads", strconv.Itoa(o.threads)}}}, nil
}

// running is a worker process.
type running struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr bytes.Buffer
}

// round measures every contender once cold and passes times warm.
func (o *speedOptions) round(ctx context.Context, list []*contender, round int) (err error) {
	procs := make([]*running, len(list))
	defer func() {
		for _, p := range procs {
			if p != nil {
				err = errors.Join(err, p.close())
			}
		}
	}()
	order := func(turn int) []int {
		out := make([]int, len(list))
		for i := range out {
			out[i] = (i + turn) % len(list)
			if turn%2 == 1 { // forwards and backwards, so that no pair keeps its order
				out[i] = len(list) - 1 - out[i]
			}
		}
		return out
	}
	for _, i := range order(round) {
		c := list[i]
		if c.rounds > 0 && round >= c.rounds {
			continue
		}
		p, first, err := start(ctx, c.argv)
		procs[i] = p
		if err == nil {
			err = first.check(o.generate)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.title(), err)
		}
		c.Tokens, first.IDs = first.IDs, nil
		c.Cold = append(c.Cold, first)
	}
	for turn := range o.passes {
		for _, i := range order(round + turn) {
			c := list[i]
			if procs[i] == nil {
				continue
			}
			p, err := procs[i].pass(ctx)
			if err == nil {
				err = p.check(o.generate)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", c.title(), err)
			}
			p.IDs = nil
			c.Warm = append(c.Warm, p)
		}
	}
	return nil
}

// start runs a worker up to the end of its first pass.
func start(ctx context.Context, argv []string) (*running, pass, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "ORT_DISABLE_TELEMETRY=1")
	p := &running{cmd: cmd}
	cmd.Stderr = &p.stderr
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, pass{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, pass{}, err
	}
	p.out = bufio.NewReaderSize(out, 1<<16)
	if err := cmd.Start(); err != nil {
		return nil, pass{}, err
	}
	first, err := p.read(ctx, func() error { return nil })
	return p, first, err
}

// pass asks for another one.
func (p *running) pass(ctx context.Context) (pass, error) {
	return p.read(ctx, func() error { _, err := io.WriteString(p.in, "again\n"); return err })
}

// read waits for a pass and notes how much else ran meanwhile.
func (p *running) read(ctx context.Context, ask func() error) (pass, error) {
	began, busy, own := time.Now(), busySeconds(ctx), processSeconds(ctx, p.cmd.Process.Pid)
	if err := ask(); err != nil {
		return pass{}, err
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return pass{}, fmt.Errorf("the worker ended: %w\n%s", err, p.stderr.Bytes())
	}
	var out pass
	if err := json.Unmarshal(line, &out); err != nil {
		return pass{}, fmt.Errorf("the worker's answer %q: %w", line, err)
	}
	foreign := busySeconds(ctx) - busy - (processSeconds(ctx, p.cmd.Process.Pid) - own)
	out.Foreign = max(0, foreign/(time.Since(began).Seconds()*float64(cores())))
	return out, nil
}

// close ends the worker.
func (p *running) close() error {
	err := p.in.Close()
	if waitErr := p.cmd.Wait(); waitErr != nil && err == nil {
		err = fmt.Errorf("worker: %w\n%s", waitErr, p.stderr.Bytes())
	}
	return err
}
