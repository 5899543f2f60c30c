package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/llama-pajamas/llama-pajamas/hardware"
)

// The protocol of a worker: the first line of its input is the caller's own
// description of the artifact, which the worker loads; it answers with an opened
// or a failure. Each further line is a request; it answers with a pass or a
// failure. At the end of its input it ends.

type request struct {
	Prompt   int `json:"prompt"`
	Generate int `json:"generate"`
}

// answer holds one of its parts.
type answer struct {
	Opened *opened `json:"opened,omitempty"`
	Pass   *pass   `json:"pass,omitempty"`
	Error  string  `json:"error,omitempty"`
}

// Serve is the whole of a worker process: it loads with open what the first line
// of in describes, and measures it for each further line. Only it may write to
// out.
func Serve(ctx context.Context, in io.Reader, out io.Writer, open func(ctx context.Context, description json.RawMessage) (*Loaded, error)) (err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	reply := json.NewEncoder(out)
	next := func(v any) (bool, error) {
		if !lines.Scan() {
			return false, lines.Err()
		}
		if err := json.Unmarshal(lines.Bytes(), v); err != nil {
			return false, fmt.Errorf("read a request: %w", err)
		}
		return true, nil
	}
	var description json.RawMessage
	if ok, err := next(&description); !ok {
		return err
	}
	l, err := open(ctx, description)
	if err != nil {
		return reply.Encode(answer{Error: err.Error()})
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	o := describe(l)
	if err := reply.Encode(answer{Opened: &o}); err != nil {
		return err
	}
	var counters []hardware.EnergyCounter
	all, _ := hardware.EnergyCounters() // the caller says what is missing
	for _, c := range all {
		if !c.Accelerator || !onCPU(o.Provider) {
			counters = append(counters, c)
		}
	}
	for {
		var r request
		if ok, err := next(&r); !ok {
			return err
		}
		var a answer
		if r.Prompt < 1 || r.Prompt > len(l.Prompt) || r.Generate < 2 {
			a.Error = fmt.Sprintf("%d tokens after %d of %d: no such measurement", r.Generate, r.Prompt, len(l.Prompt))
		} else if p, err := measure(ctx, l, l.Prompt[:r.Prompt], r.Generate, counters); err != nil {
			a.Error = err.Error()
		} else {
			a.Pass = &p
		}
		if err := reply.Encode(a); err != nil {
			return err
		}
	}
}

// worker is the caller's end.
type worker struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr tailBuffer
	opened opened
}

// start runs a command as a worker and waits until it has loaded.
func start(ctx context.Context, command []string, description json.RawMessage) (*worker, error) {
	w := &worker{cmd: exec.CommandContext(ctx, command[0], command[1:]...)}
	w.cmd.Stderr = &w.stderr
	w.cmd.WaitDelay = 5 * time.Second
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.out = bufio.NewReaderSize(out, 1<<16)
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", command[0], err)
	}
	a, err := w.ask(ctx, description)
	if err == nil && a.Opened == nil {
		err = errors.New("the measuring process did not say what it loaded")
	}
	if err != nil {
		return nil, w.end(ctx, err)
	}
	w.opened = *a.Opened
	return w, nil
}

// ask sends a line and reads the answer.
func (w *worker) ask(ctx context.Context, v any) (answer, error) {
	line, err := json.Marshal(v)
	if err != nil {
		return answer{}, err
	}
	if _, err := w.in.Write(append(line, '\n')); err != nil {
		return answer{}, w.died(ctx)
	}
	text, err := w.out.ReadBytes('\n')
	if err != nil {
		return answer{}, w.died(ctx)
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		return answer{}, fmt.Errorf("the measuring process answered %.80q", text)
	}
	if a.Error != "" {
		return answer{}, errors.New(a.Error)
	}
	return a, nil
}

func (w *worker) pass(ctx context.Context, r request) (pass, error) {
	a, err := w.ask(ctx, r)
	if err != nil {
		return pass{}, err
	}
	if a.Pass == nil {
		return pass{}, errors.New("the measuring process answered no measurement")
	}
	return *a.Pass, nil
}

// errDied stands for the end of a process, which end describes.
var errDied = errors.New("the measuring process ended")

func (w *worker) died(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errDied
}

// end waits for the process to go and says why it did so where err is that it
// did.
func (w *worker) end(ctx context.Context, err error) error {
	closed := w.in.Close()
	waited := w.cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errDied):
		how := "without an answer"
		if waited != nil {
			how = "with " + waited.Error()
		}
		if text := w.stderr.String(); text != "" {
			how += ": " + text
		}
		return fmt.Errorf("the process that ran the model ended %s", how)
	case err != nil:
		return err
	}
	_ = closed // a pipe to a process that is gone
	if waited != nil {
		return fmt.Errorf("the process that ran the model ended with %w: %s", waited, w.stderr.String())
	}
	return nil
}

// tailBuffer keeps the end of what is written to it.
type tailBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

const tailBytes = 400

// Write implements io.Writer.
func (t *tailBuffer) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b.Len() > 64*tailBytes {
		t.b.Next(t.b.Len() - tailBytes)
	}
	return t.b.Write(p)
}

// String is the end, on one line.
func (t *tailBuffer) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := strings.Join(strings.Fields(t.b.String()), " ")
	if len(s) > tailBytes {
		s = "…" + strings.ToValidUTF8(s[len(s)-tailBytes:], "")
	}
	return s
}
