package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// The speed protocol: a worker loads its model, evaluates the prompt and
// generates, and writes a pass as one line of JSON, with the times of loading
// in this first, cold one. For each line on its input it does the same on the
// loaded model. At the end of the input it ends. The scripts do so too.

// pass is one prompt and its answer.
type pass struct {
	Prefill float64 `json:"prefill_seconds"` // from the prompt to the first token
	Decode  float64 `json:"decode_seconds"`  // from there to the last
	Decoded int     `json:"decoded"`         // tokens after the first
	PeakRSS int64   `json:"peak_rss"`        // bytes, of the process so far
	IDs     []int32 `json:"ids"`
	// The first pass of a process only: from before the model is loaded.
	Load       float64 `json:"load_seconds,omitempty"`
	FirstToken float64 `json:"first_token_seconds,omitempty"`

	// Outside is the part of Decode that is not spent evaluating: sampling and
	// the loop around it; this module's worker alone tells it.
	Outside float64 `json:"outside_seconds,omitempty"`

	// Foreign is the share of the cores that others used meanwhile.
	Foreign float64 `json:"foreign"`
}

// workerOptions are the flags of the worker command.
type workerOptions struct {
	setup
	model, prompt string
	generate      int
}

// worker is this module's side of the protocol.
func worker(ctx context.Context, o workerOptions) (err error) {
	b, err := os.ReadFile(o.prompt)
	if err != nil {
		return err
	}
	var prompt []int32
	if err := json.Unmarshal(b, &prompt); err != nil {
		return err
	}
	begin := time.Now()
	backend, err := onnxruntime.New(onnxruntime.Options{Library: o.library})
	if err != nil {
		return err
	}
	defer backend.Close()
	folder, err := modeldir.Open(o.model)
	if err != nil {
		return err
	}
	opened, err := backend.Open(ctx, folder, infer.OpenOptions{Threads: o.threads})
	if err != nil {
		return err
	}
	s := &timedSession{Session: opened}
	defer func() { err = errors.Join(err, s.Close()) }()
	loaded := time.Since(begin)
	out := json.NewEncoder(os.Stdout)
	once := func() (pass, error) {
		if err := s.Truncate(0); err != nil {
			return pass{}, err
		}
		s.steps = 0
		r, err := infer.Generate(s, nil, prompt, infer.Options{MaxTokens: o.generate}).Run(ctx, nil)
		if err != nil {
			return pass{}, err
		}
		return pass{Outside: (r.Timings.Decode - s.steps).Seconds(), Prefill: r.Timings.FirstToken.Seconds(), Decode: r.Timings.Decode.Seconds(), Decoded: len(r.TokenIDs) - 1,
			PeakRSS: peakRSS(os.Getpid()), IDs: r.TokenIDs}, nil
	}
	first, err := once()
	if err != nil {
		return err
	}
	first.Load, first.FirstToken = loaded.Seconds(), loaded.Seconds()+first.Prefill
	if err := out.Encode(first); err != nil {
		return err
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		p, err := once()
		if err != nil {
			return err
		}
		if err := out.Encode(p); err != nil {
			return err
		}
	}
	return nil
}

// timedSession adds up the time of evaluations of one token.
type timedSession struct {
	infer.Session
	steps time.Duration
}

// Eval implements infer.Session.
func (s *timedSession) Eval(ctx context.Context, tokens []int32) ([]float32, error) {
	start := time.Now()
	logits, err := s.Session.Eval(ctx, tokens)
	if len(tokens) == 1 {
		s.steps += time.Since(start)
	}
	return logits, err
}

// check refuses a pass that is not what was asked for.
func (p pass) check(generate int) error {
	if p.Decoded != generate-1 {
		return fmt.Errorf("%d tokens were generated, not %d: an end token?", p.Decoded+1, generate)
	}
	if p.Prefill <= 0 || p.Decode <= 0 {
		return errors.New("a time is missing")
	}
	return nil
}
