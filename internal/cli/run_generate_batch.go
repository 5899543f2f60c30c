package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/chat"
	"github.com/llama-pajamas/llama-pajamas/chattemplate"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/infer/llamacpp"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/tensor"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// defaultBatch is the sequences of a batch unless asked otherwise: about where
// two cores have gained most of what there is.
const defaultBatch = 8

// batchFlags make generate answer a file of prompts.
type batchFlags struct {
	prompts, output string
	size            int
}

func (b *batchFlags) bind(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&b.prompts, "prompts", "", "answer many prompts: a .jsonl file of objects with \"prompt\" or \"messages\" and,\nif wanted, \"id\", \"max_tokens\", \"temperature\", \"top_k\", \"top_p\", \"seed\", \"stop\"; or a\ntext file with a prompt a line; - is standard input (docs/batch.md)")
	f.IntVar(&b.size, "batch", defaultBatch, "--prompts: answers made at once")
	f.StringVar(&b.output, "output", "", "--prompts: file that receives a JSON object a line, in the order of the prompts;\nids that are in it already are left out (default: standard output)")
}

// promptLine is a line of a file of prompts.
type promptLine struct {
	ID          json.RawMessage `json:"id"`
	Prompt      *string         `json:"prompt"`
	Messages    json.RawMessage `json:"messages"`
	MaxTokens   *int            `json:"max_tokens"`
	Temperature *float64        `json:"temperature"`
	TopK        *int            `json:"top_k"`
	TopP        *float64        `json:"top_p"`
	Seed        *uint64         `json:"seed"`
	Stop        stopList        `json:"stop"`

	line int    // in the file, from 1
	key  string // of the id
}

// stopList is a string or a list of them, as chat completion requests have it.
type stopList []string

func (s *stopList) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*s = stopList{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(s))
}

// answerLine is a line of the output.
type answerLine struct {
	ID               json.RawMessage  `json:"id"`
	Text             string           `json:"text"`
	TokenIDs         []int32          `json:"token_ids"`
	PromptTokens     int              `json:"prompt_tokens"`
	CompletionTokens int              `json:"completion_tokens"`
	FinishReason     string           `json:"finish_reason"`
	Seed             uint64           `json:"seed,omitempty"`
	Error            string           `json:"error,omitempty"`
	Timings          batchTimingsJSON `json:"timings"`
}

// batchTimingsJSON is one answer's own time, most of which it shares with others.
type batchTimingsJSON struct {
	Prefill    float64 `json:"prefill_seconds"`
	FirstToken float64 `json:"time_to_first_token_seconds"`
	Decode     float64 `json:"decode_seconds"`
}

// runGenerateBatch is generate with --prompts.
func runGenerateBatch(ctx context.Context, c *common, cmd *cobra.Command, o generateOptions) (err error) {
	if o.batch.size < 1 {
		return usagef(cmd, "--batch %d: use 1 or more", o.batch.size)
	}
	lines, err := readPromptLines(c, o.batch.prompts)
	if err != nil {
		return err
	}
	out, err := openAnswers(c, o.batch.output)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.close()) }()
	left := lines[:0:0]
	for _, p := range lines {
		if !out.have[p.key] {
			left = append(left, p)
		}
	}
	if done := len(lines) - len(left); done > 0 {
		c.note("%d of %d prompts are answered in %s already", done, len(lines), o.batch.output)
	}
	if len(left) == 0 {
		return nil
	}
	l, err := o.open(ctx, c, cmd)
	if err != nil {
		return err
	}
	defer l.close() // reading is done: nothing can be lost
	base, err := o.generation(cmd, l)
	if err != nil {
		return err
	}
	batch, err := c.openBatch(ctx, l, min(o.batch.size, len(left)))
	if err != nil {
		return err
	}
	defer batch.Close()
	g := &batchGeneration{c: c, o: &o, l: l, base: base, lines: left, out: out}
	return g.run(ctx, batch)
}

// openBatch makes a batch on a model, of one sequence where its runtime has none.
func (c *common) openBatch(ctx context.Context, l *loaded, slots int) (infer.Batch, error) {
	if slots == 1 {
		return infer.Single(l.session), nil
	}
	var b infer.Batch
	var err error
	switch backend := l.session.Info().Backend; backend {
	case "onnxruntime":
		b, err = onnxruntime.NewBatch(ctx, l.session, slots)
	case "llama.cpp":
		b, err = llamacpp.NewBatch(ctx, l.session, slots)
	default:
		err = &tensor.UnsupportedError{What: "a batch of sequences in " + backend}
	}
	var unsupported *tensor.UnsupportedError
	if errors.As(err, &unsupported) {
		c.note("the prompts are answered one by one: %v", err)
		return infer.Single(l.session), nil
	}
	return b, err
}

// batchGeneration answers the lines of a file.
type batchGeneration struct {
	c     *common
	o     *generateOptions
	l     *loaded
	base  infer.Options
	lines []promptLine
	out   *answers

	prompter *chat.Prompter // made for the first messages
	failed   int
	tokens   int
	// Answers wait for those before them: waiting[i] is of lines[i].
	waiting map[int]answerLine
	next    int
}

func (g *batchGeneration) run(ctx context.Context, batch infer.Batch) error {
	start := time.Now()
	g.waiting = map[int]answerLine{}
	bar := g.c.newProgress("answers", int64(len(g.lines)))
	defer bar.stop()
	// A request that cannot be made ready takes no slot; what remains is
	// numbered anew by GenerateBatch.
	var taken []int
	var broken error
	requests := func(yield func(infer.BatchRequest) bool) {
		for i := range g.lines {
			r, err := g.request(ctx, i)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				if broken = g.settle(i, answerLine{FinishReason: string(infer.FinishError), Error: err.Error()}); broken != nil {
					return
				}
				continue
			}
			taken = append(taken, i)
			if !yield(r) {
				return
			}
		}
	}
	ended := 0
	for a, err := range infer.GenerateBatch(ctx, batch, requests) {
		if err != nil {
			return explain(err)
		}
		if ctx.Err() != nil {
			continue // half answers are made anew by the next run
		}
		if err := g.settle(taken[a.Index], answerOf(a)); err != nil {
			return err
		}
		ended++
		bar.set(int64(ended), 0)
	}
	if err := errors.Join(broken, ctx.Err()); err != nil {
		return err
	}
	bar.finish(true)
	took := time.Since(start)
	g.c.note("%s · %d tokens · %.1f tokens/s in all, %d at once · %.1f s", plural(len(g.lines), "answer"), g.tokens, float64(g.tokens)/took.Seconds(), batch.Slots(), took.Seconds())
	if g.failed > 0 {
		return fmt.Errorf(`%d of %d prompts could not be answered: see "error" in the output`, g.failed, len(g.lines))
	}
	return nil
}

// request makes a line ready.
func (g *batchGeneration) request(ctx context.Context, i int) (infer.BatchRequest, error) {
	p := g.lines[i]
	r := infer.BatchRequest{Options: g.base}
	s := &r.Options.Sampler
	if s.Seed != 0 {
		// Equal prompts get answers of their own.
		s.Seed += uint64(p.line - 1)
	}
	for _, set := range []struct {
		given bool
		do    func()
	}{
		{p.MaxTokens != nil, func() { r.Options.MaxTokens = *p.MaxTokens }},
		{p.Temperature != nil, func() { s.Temperature = *p.Temperature }},
		{p.TopK != nil, func() { s.TopK = *p.TopK }},
		{p.TopP != nil, func() { s.TopP = *p.TopP }},
		{p.Seed != nil, func() { s.Seed = *p.Seed }},
		{p.Stop != nil, func() {
			r.Options.StopStrings = append(r.Options.StopStrings[:len(r.Options.StopStrings):len(r.Options.StopStrings)], p.Stop...)
		}},
	} {
		if set.given {
			set.do()
		}
	}
	if r.Options.MaxTokens < 0 || r.Options.MaxTokens > math.MaxInt32 {
		return r, fmt.Errorf("max_tokens %d: use 0 for no limit, or more", r.Options.MaxTokens)
	}
	if p.Prompt != nil {
		r.Prompt = g.l.tok.Encode(*p.Prompt, tokenizer.EncodeOptions{AddSpecial: !g.o.noBOS, ParseSpecial: g.o.special})
		r.Decoder = primedDecoder(g.l.tok, r.Prompt)
		return r, nil
	}
	if g.prompter == nil {
		var err error
		if g.prompter, err = chat.NewPrompter(g.l.folder, g.l.tok); err != nil {
			return r, err
		}
	}
	v, err := chattemplate.ParseJSON(p.Messages)
	if err != nil {
		return r, fmt.Errorf("read the messages: %w", err)
	}
	list, err := messageList(v, fmt.Sprintf("line %d", p.line))
	if err != nil {
		return r, err
	}
	prompt, err := g.prompter.Prompt(ctx, chat.Request{Raw: list})
	if err != nil {
		return r, err
	}
	r.Prompt, r.Decoder = prompt.IDs, g.l.tok.NewDecoder(true)
	return r, nil
}

func answerOf(a infer.BatchAnswer) answerLine {
	r := a.Result
	line := answerLine{
		Text: r.Text, TokenIDs: r.TokenIDs, PromptTokens: r.PromptTokens, CompletionTokens: len(r.TokenIDs),
		FinishReason: string(r.Reason), Seed: r.Seed,
		Timings: batchTimingsJSON{Prefill: r.Timings.Prefill.Seconds(), FirstToken: r.Timings.FirstToken.Seconds(), Decode: r.Timings.Decode.Seconds()},
	}
	if a.Err != nil {
		line.Error = explain(a.Err).Error()
	}
	return line
}

// settle takes an answer and writes those whose turn it is.
func (g *batchGeneration) settle(i int, a answerLine) error {
	a.ID = g.lines[i].ID
	if a.TokenIDs == nil {
		a.TokenIDs = []int32{}
	}
	g.tokens += len(a.TokenIDs)
	if a.Error != "" {
		g.failed++
	}
	g.waiting[i] = a
	for {
		a, ok := g.waiting[g.next]
		if !ok {
			return nil
		}
		delete(g.waiting, g.next)
		g.next++
		if err := g.out.write(a); err != nil {
			return err
		}
	}
}

// readPromptLines reads a file of prompts.
func readPromptLines(c *common, path string) ([]promptLine, error) {
	fail := func(format string, args ...any) ([]promptLine, error) {
		return nil, fmt.Errorf("read the prompts from %s: %w", inputName(path), fmt.Errorf(format, args...))
	}
	var data []byte
	var err error
	if path == "-" {
		data, err = io.ReadAll(c.In)
	} else {
		data, err = os.ReadFile(path)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the prompts: %w", err)
	case !utf8.Valid(data):
		return fail("it is not UTF-8 text")
	}
	objects := bytes.HasPrefix(bytes.TrimSpace(data), []byte("{"))
	switch ext := strings.ToLower(filepath.Ext(path)); {
	case ext == ".jsonl" || ext == ".ndjson":
		objects = true
	case path != "-":
		objects = false
	}
	var lines []promptLine
	seen := map[string]int{}
	n := 0
	for text := range bytes.Lines(data) {
		n++
		text = bytes.TrimRight(text, "\r\n")
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		p := promptLine{}
		if objects {
			if err := json.Unmarshal(text, &p); err != nil {
				return fail("line %d: %w", n, err)
			}
			if (p.Prompt == nil) == (len(p.Messages) == 0) {
				return fail(`line %d: want "prompt" or "messages"`, n)
			}
		} else {
			s := string(text)
			p.Prompt = &s
		}
		p.line = n
		if p.key, err = idKey(p.ID); err != nil {
			return fail("line %d: %w", n, err)
		}
		if p.key == "" {
			p.ID = json.RawMessage(strconv.Itoa(n))
			p.key = string(p.ID)
		}
		if first, twice := seen[p.key]; twice {
			return fail("lines %d and %d have the same id, %s", first, n, p.ID)
		}
		seen[p.key] = n
		lines = append(lines, p)
	}
	if len(lines) == 0 {
		return fail("there are none")
	}
	return lines, nil
}

// idKey tells ids apart: strings and numbers, however they are written; "" where
// there is none.
func idKey(id json.RawMessage) (string, error) {
	if len(id) == 0 || string(id) == "null" {
		return "", nil
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(id))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return "", fmt.Errorf("read the id: %w", err)
	}
	switch v := v.(type) {
	case string:
		return strconv.Quote(v), nil
	case json.Number:
		return v.String(), nil
	}
	return "", fmt.Errorf("the id %s is neither a string nor a number", id)
}

// answers is where answers go: a file to which whole lines are appended, or
// standard output.
type answers struct {
	w    io.Writer
	f    *os.File // nil for standard output
	have map[string]bool
}

// openAnswers opens the output and reads which ids it has. A line that a crash
// has cut is removed.
func openAnswers(c *common, path string) (*answers, error) {
	if path == "" || path == "-" {
		return &answers{w: c.Out, have: map[string]bool{}}, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the output: %w", err)
	}
	a := &answers{w: f, f: f, have: map[string]bool{}}
	if err := a.read(path); err != nil {
		f.Close() // nothing was written
		return nil, err
	}
	return a, nil
}

func (a *answers) read(path string) error {
	data, err := io.ReadAll(a.f)
	if err != nil {
		return fmt.Errorf("read the answers in %s: %w", path, err)
	}
	whole := bytes.LastIndexByte(data, '\n') + 1
	n := 0
	for text := range bytes.Lines(data[:whole]) {
		n++
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		var line answerLine
		err := json.Unmarshal(text, &line)
		key := ""
		if err == nil {
			key, err = idKey(line.ID)
		}
		if err == nil && key == "" {
			err = errors.New("it has no id")
		}
		if err != nil {
			return fmt.Errorf("line %d of %s is no answer of this command: %w; choose another --output", n, path, err)
		}
		a.have[key] = true
	}
	if whole < len(data) && bytes.IndexByte(data[whole:], '{') != 0 {
		return fmt.Errorf("the last line of %s is no answer of this command; choose another --output", path)
	}
	if err := a.f.Truncate(int64(whole)); err != nil {
		return fmt.Errorf("cut the last line of %s, which is not whole: %w", path, err)
	}
	if _, err := a.f.Seek(int64(whole), io.SeekStart); err != nil {
		return fmt.Errorf("go to the end of %s: %w", path, err)
	}
	return nil
}

// write writes a line by one call, so that no half line is there but after a
// crash.
func (a *answers) write(line answerLine) error {
	var buf bytes.Buffer
	if err := printJSON(&buf, line); err != nil {
		return err
	}
	if _, err := a.w.Write(buf.Bytes()); err != nil {
		return fmt.Errorf("write an answer: %w", err)
	}
	return nil
}

func (a *answers) close() error {
	if a.f == nil {
		return nil
	}
	if err := a.f.Close(); err != nil {
		return fmt.Errorf("close the output: %w", err)
	}
	return nil
}
