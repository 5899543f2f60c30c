package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// ollamaOptions are the flags of the ollama command.
type ollamaOptions struct {
	setup
	server, model, tokenizer, prompt string
	generate                         int
}

// ollamaWorker is ollama's side of the speed protocol: a server of its own with
// a folder of its own, asked through its API. Times are the server's: its
// prefill is prompt_eval_duration, so that its HTTP and JSON are not counted.
func ollamaWorker(ctx context.Context, o ollamaOptions) (err error) {
	b, err := os.ReadFile(o.prompt)
	if err != nil {
		return err
	}
	var ids []int32
	if err := json.Unmarshal(b, &ids); err != nil {
		return err
	}
	tok, err := tokenizer.Load(o.tokenizer)
	if err != nil {
		return err
	}
	text := tok.Decode(ids, true)
	dir, err := os.MkdirTemp("", "ollama-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := startOllama(ctx, o.server, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.create(ctx, o.model, dir); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	pass := func(n int) error {
		// Its server keeps the last prompt's cache: another beginning makes it
		// read all of it again.
		p, err := s.ask(ctx, fmt.Sprintf("%d %s", n, text), o.generate, o.threads)
		if err != nil {
			return err
		}
		return out.Encode(p)
	}
	if err := pass(0); err != nil {
		return err
	}
	n := 1
	for in := bufio.NewScanner(os.Stdin); in.Scan(); n++ {
		if err := pass(n); err != nil {
			return err
		}
	}
	return nil
}

// ollamaServer is a running server.
type ollamaServer struct {
	program, address string
	env              []string
	cmd              *exec.Cmd
	stderr           bytes.Buffer
}

// ollamaWait is how long a server may take to answer.
const ollamaWait = 30 * time.Second

func startOllama(ctx context.Context, program, dir string) (*ollamaServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &ollamaServer{program: program, address: l.Addr().String()}
	if err := l.Close(); err != nil {
		return nil, err
	}
	s.env = append(os.Environ(), "OLLAMA_HOST="+s.address, "OLLAMA_MODELS="+filepath.Join(dir, "models"), "OLLAMA_KEEP_ALIVE=1h", "HOME="+dir)
	s.cmd = exec.CommandContext(ctx, program, "serve")
	s.cmd.Env, s.cmd.Stderr = s.env, &s.stderr
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s serve: %w", program, err)
	}
	ctx, cancel := context.WithTimeout(ctx, ollamaWait)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+"/api/version", nil)
		if err != nil {
			return nil, errors.Join(err, s.stop())
		}
		if answer, err := http.DefaultClient.Do(req); err == nil {
			answer.Body.Close()
			return s, nil
		}
		select {
		case <-ctx.Done():
			stopErr := s.stop() // its output is complete then
			return nil, errors.Join(fmt.Errorf("%s serve does not answer: %w\n%s", program, ctx.Err(), s.stderr.Bytes()), stopErr)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *ollamaServer) stop() error {
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_ = s.cmd.Wait() // it was killed
	return nil
}

// ollamaModel is what the file is called there.
const ollamaModel = "peer"

func (s *ollamaServer) create(ctx context.Context, model, dir string) error {
	recipe := filepath.Join(dir, "Modelfile")
	if err := os.WriteFile(recipe, []byte("FROM "+model+"\n"), 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, s.program, "create", ollamaModel, "-f", recipe)
	cmd.Env = s.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s create: %w\n%s", s.program, err, out)
	}
	return nil
}

// ollamaAnswer is what /api/generate gives beside the text. Durations are in
// nanoseconds. Source: ollama, docs/api.md, "Generate a completion".
type ollamaAnswer struct {
	Error          string `json:"error"`
	Load           int64  `json:"load_duration"`
	PromptTokens   int    `json:"prompt_eval_count"`
	PromptDuration int64  `json:"prompt_eval_duration"`
	Tokens         int    `json:"eval_count"`
	Duration       int64  `json:"eval_duration"`
}

func (s *ollamaServer) ask(ctx context.Context, prompt string, generate, threads int) (pass, error) {
	body, err := json.Marshal(map[string]any{"model": ollamaModel, "prompt": prompt, "raw": true, "stream": false,
		"options": map[string]any{"num_predict": generate, "temperature": 0, "num_thread": threads, "num_ctx": 2048, "stop": []string{}}})
	if err != nil {
		return pass{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.address+"/api/generate", bytes.NewReader(body))
	if err != nil {
		return pass{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return pass{}, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(io.LimitReader(r.Body, 1<<24))
	if err != nil {
		return pass{}, err
	}
	var a ollamaAnswer
	if err := json.Unmarshal(text, &a); err != nil || a.Error != "" || r.StatusCode != http.StatusOK {
		return pass{}, fmt.Errorf("ollama answers %s: %s", r.Status, strings.TrimSpace(string(text[:min(len(text), 500)])))
	}
	seconds := func(ns int64) float64 { return time.Duration(ns).Seconds() }
	// Its eval_duration is of all tokens of the answer, ours of those after the
	// first: the first one's share is left out of both.
	share := float64(a.Tokens-1) / float64(max(a.Tokens, 1))
	return pass{Prefill: seconds(a.PromptDuration), Decode: seconds(a.Duration) * share, Decoded: a.Tokens - 1,
		Load: seconds(a.Load), FirstToken: seconds(a.Load + a.PromptDuration), PeakRSS: childPeak(s.cmd.Process.Pid)}, nil
}

// childPeak is the largest high water mark of a process and its descendants:
// the server runs models in a process of their own.
func childPeak(pid int) int64 {
	n := peakRSS(pid)
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is well formed
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue
		}
		for _, f := range strings.Fields(string(b)) {
			var child int
			if _, err := fmt.Sscan(f, &child); err == nil {
				n = max(n, childPeak(child))
			}
		}
	}
	return n
}
