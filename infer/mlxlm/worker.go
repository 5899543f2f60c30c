package mlxlm

import (
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

//go:embed worker.py
var script string

// Kinds of frames; see the package comment.
const (
	kindEval   = 'E'
	kindTrim   = 'T'
	kindHello  = 'H'
	kindLogits = 'L'
	kindKept   = 'K'
	kindError  = 'X'
)

// maxFrame bounds an answer: 128 rows of a vocabulary of a million.
const maxFrame = 128 * 4 << 20

// hello is what the worker says of the model it has loaded.
type hello struct {
	MLXLM  string `json:"mlx_lm"`
	Device string `json:"device"`
	Vocab  int    `json:"vocab"`
	// Trims is true where any number of tokens can be taken back.
	Trims bool `json:"trims"`
}

// DiedError says that the worker ended by itself.
type DiedError struct {
	During string // what was asked of it
	State  string // as the system tells, such as "signal: killed"
	Output string // the last it printed
}

func (e *DiedError) Error() string {
	msg := fmt.Sprintf("the MLX worker died while it was to %s (%s)", e.During, e.State)
	if e.Output != "" {
		msg += "; its last words: " + e.Output
	}
	return msg
}

// workerError is a failure the worker lives on from.
type workerError struct{ text string }

func (e *workerError) Error() string { return e.text }

// worker is the process.
type worker struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	frames chan frame
	ended  chan struct{} // closed when the process is gone
	state  string        // valid after ended
	said   tail
	hello  hello
}

type frame struct {
	kind byte
	data []byte
	err  error
}

// start runs the worker and waits until it has loaded the model.
func start(ctx context.Context, python, dir string) (*worker, error) {
	w := &worker{frames: make(chan frame), ended: make(chan struct{})}
	// Not bound to ctx: the process serves later calls too.
	w.cmd = exec.Command(python, "-I", "-c", script, dir)
	w.cmd.Stderr = &w.said
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the MLX worker: %w", err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		w.read(out)
	}()
	go func() {
		<-read // Wait closes the pipe
		w.state = "exit status 0"
		if err := w.cmd.Wait(); err != nil {
			w.state = err.Error()
		}
		close(w.ended)
	}()
	f, err := w.answer(ctx, "load the model")
	if err == nil && f.kind != kindHello {
		err = fmt.Errorf("the MLX worker began with frame %q", f.kind)
	}
	if err == nil {
		err = json.Unmarshal(f.data, &w.hello)
	}
	if err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

// read takes frames off the pipe until it ends.
func (w *worker) read(r io.Reader) {
	defer close(w.frames)
	for {
		var head [5]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		n := binary.LittleEndian.Uint32(head[1:])
		if n > maxFrame {
			w.frames <- frame{err: fmt.Errorf("the MLX worker sends %d bytes at once", n)}
			return
		}
		data := make([]byte, n)
		if _, err := io.ReadFull(r, data); err != nil {
			return
		}
		w.frames <- frame{kind: head[0], data: data}
	}
}

// ask sends a request and waits for its answer.
func (w *worker) ask(ctx context.Context, kind byte, data []byte, what string) (frame, error) {
	msg := append(binary.LittleEndian.AppendUint32([]byte{kind}, uint32(len(data))), data...)
	if _, err := w.in.Write(msg); err != nil {
		return frame{}, w.died(what)
	}
	return w.answer(ctx, what)
}

// answer waits for a frame. Where ctx ends first the worker is of no more use:
// its answer would be taken for that to the next request.
func (w *worker) answer(ctx context.Context, what string) (frame, error) {
	select {
	case f, ok := <-w.frames:
		switch {
		case !ok:
			return frame{}, w.died(what)
		case f.err != nil:
			return frame{}, f.err
		case f.kind == kindError:
			return frame{}, &workerError{string(f.data)}
		}
		return f, nil
	case <-ctx.Done():
		return frame{}, context.Cause(ctx)
	}
}

// died describes the end of the process.
func (w *worker) died(what string) error {
	select {
	case <-w.ended:
	case <-time.After(5 * time.Second): // it has closed its pipes but lives
		return &DiedError{During: what, State: "it closed its output", Output: w.said.String()}
	}
	return &DiedError{During: what, State: w.state, Output: w.said.String()}
}

// alive reports whether the process still runs.
func (w *worker) alive() bool {
	select {
	case <-w.ended:
		return false
	default:
		return true
	}
}

// stop ends the process: kindly, then not.
func (w *worker) stop() {
	w.in.Close() // it may be gone already
	go func() {
		for range w.frames { // what it still says is of no use
		}
	}()
	select {
	case <-w.ended:
	case <-time.After(2 * time.Second):
		_ = w.cmd.Process.Kill() // it may have ended meanwhile
		<-w.ended
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	end []byte
}

const tailBytes = 2000

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, b...)
	t.end = t.end[max(0, len(t.end)-tailBytes):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return lastLines(strings.ToValidUTF8(string(t.end), "?"))
}

var errFinal = errors.New("the MLX worker died again: open the model anew")
