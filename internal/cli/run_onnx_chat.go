package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/chat"
	"github.com/llama-pajamas/llama-pajamas/chattemplate"
	"github.com/llama-pajamas/llama-pajamas/infer"
)

type chatOptions struct {
	opener
	samplingFlags
	thinkFlags
	system string
}

const chatHelp = `/help           this list
/reset          forget the conversation; the system message stays
/system [TEXT]  set the system message and start over; without TEXT show it
/stats          tokens and speed so far
/save FILE      write the conversation as JSON, as render --messages reads it
/exit           leave; so does Ctrl-D
Ctrl-C ends an answer. A line that ends in \ goes on in the next.`

func chatCommand(c *common, model opener) *cobra.Command {
	o := chatOptions{opener: model}
	cmd := command("chat", "Talk to a model",
		`Talks to a model through its chat template. Where standard input is no terminal,
each line of it is a message.

`+chatHelp, cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return runChat(cmd.Context(), c, cmd, o) })
	o.opener.bind(cmd)
	o.samplingFlags.bind(cmd, 0)
	o.thinkFlags.bind(cmd)
	cmd.Flags().StringVar(&o.system, "system", "", "system message")
	return cmd
}

func runChat(ctx context.Context, c *common, cmd *cobra.Command, o chatOptions) (err error) {
	l, err := o.open(ctx, c, cmd)
	if err != nil {
		return err
	}
	defer l.close() // nothing is written: there is nothing to lose
	t := &talk{common: c, cmd: cmd, l: l, system: o.system, think: o.value(), out: &plainText{w: c.Out, terminal: c.OutTerminal}}
	if t.chat, err = chat.New(l.folder, l.tok, l.session); err != nil {
		return err
	}
	if t.opts, err = o.options(cmd, l.folder); err != nil {
		return err
	}
	in, err := c.newLineReader()
	if err != nil {
		return err
	}
	defer in.close()
	info := l.session.Info()
	c.note("%s · %s · context %d · loaded in %.2f s · /help for commands", filepath.Base(filepath.Dir(info.Model)), info.Provider, info.MaxContext, l.load.Seconds())
	t.reset()
	return t.run(ctx, in)
}

// talk is a chat in progress.
type talk struct {
	*common
	cmd      *cobra.Command
	l        *loaded
	chat     *chat.Chat
	opts     infer.Options
	think    *bool
	system   string
	messages []chattemplate.Message
	out      *plainText
	stats    talkStats
}

// talkStats sums up the answers.
type talkStats struct {
	answers, prompt, cached, tokens, thinking int
	prefill, decode                           time.Duration
}

// reset starts over with the system message.
func (t *talk) reset() {
	t.messages = nil
	if t.system != "" {
		t.messages = []chattemplate.Message{{Role: "system", Content: t.system}}
	}
}

// run reads lines until the end of input or /exit.
func (t *talk) run(ctx context.Context, in lineReader) error {
	for {
		line, err := in.read(ctx)
		switch {
		case errors.Is(err, errInterrupted):
			t.note("(/exit or Ctrl-D to leave)")
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case strings.TrimSpace(line) == "":
			continue
		case strings.HasPrefix(line, "/"):
			leave, err := t.command(line)
			if err != nil {
				fmt.Fprintln(t.Err, err)
			}
			if leave {
				return nil
			}
			continue
		}
		if err := t.answer(ctx, line); err != nil {
			return err
		}
	}
}

// command runs one of the / commands; leave says that the chat is over.
func (t *talk) command(line string) (leave bool, err error) {
	name, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
	arg = strings.TrimSpace(arg)
	switch name {
	case "/exit", "/quit":
		return true, nil
	case "/help":
		t.say(chatHelp)
	case "/reset":
		t.reset()
		t.say("The conversation is forgotten.")
	case "/system":
		if arg == "" {
			t.say("System message: " + orWord(t.system, "none"))
			return false, nil
		}
		t.system = arg
		t.reset()
		t.say("System message set; the conversation is forgotten.")
	case "/stats":
		t.say(t.statistics())
	case "/save":
		if arg == "" {
			return false, errors.New("/save needs a file name")
		}
		if err := saveMessages(arg, t.messages); err != nil {
			return false, err
		}
		t.say(fmt.Sprintf("%d messages written to %s.", len(t.messages), arg))
	default:
		return false, fmt.Errorf("unknown command %s; /help lists them", name)
	}
	return false, nil
}

// say prints a command's answer to standard error, even with --quiet: it was
// asked for.
func (t *talk) say(text string) { fmt.Fprintln(t.Err, text) }

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}

// answer sends one message and streams the reply. Ctrl-C ends the reply, which
// then stays in the conversation as far as it came.
func (t *talk) answer(ctx context.Context, line string) error {
	replyCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer t.Interrupts.Handle(cancel)()

	messages := append(t.messages, chattemplate.Message{Role: "user", Content: line})
	show := &replyWriter{out: t.out, dim: t.Color(t.OutTerminal)}
	a, err := t.chat.Reply(replyCtx, chat.Request{Messages: messages, Thinking: t.think}, t.opts, show.part)
	show.end()
	t.noteLookup(t.cmd, a.Result)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && replyCtx.Err() == nil:
		var full *infer.ContextError
		if errors.As(err, &full) {
			fmt.Fprintf(t.Err, "%v, or /reset\n", err)
			return nil
		}
		return err
	}
	// Reasoning is kept: templates leave that of earlier turns out themselves.
	t.messages = append(messages, a.Message)
	t.stats.add(a)
	t.dim(speedLine(a.Result, t.l.session))
	if a.Result.Reason == infer.FinishContext {
		t.note("The context of %d tokens is full: /reset starts over, --context makes it larger where the model can.", t.l.session.Info().MaxContext)
	}
	return t.out.err
}

// dim prints a note, in faint letters on a terminal.
func (t *talk) dim(line string) {
	if t.Color(t.ErrTerminal) {
		line = dimOn + line + dimOff
	}
	t.note("%s", line)
}

// ANSI SGR 2 (faint) and 0 (reset).
const (
	dimOn  = "\x1b[2m"
	dimOff = "\x1b[0m"
)

// replyWriter streams an answer, its reasoning faint on a terminal and between
// tags elsewhere.
type replyWriter struct {
	out       *plainText
	dim       bool
	reasoning bool
	any, line bool // something was written; the last of it ended a line
}

func (w *replyWriter) part(p chat.Part) {
	if p.Reasoning != w.reasoning {
		w.turn(p.Reasoning)
	}
	w.out.write(p.Text)
	w.any, w.line = true, strings.HasSuffix(p.Text, "\n")
}

// turn changes between reasoning and answer.
func (w *replyWriter) turn(reasoning bool) {
	w.reasoning = reasoning
	switch {
	case w.dim && reasoning:
		w.raw(dimOn)
	case w.dim:
		w.raw(dimOff + "\n\n")
	case reasoning:
		w.raw("<think>\n")
	default:
		w.raw("\n</think>\n\n")
	}
}

// raw writes what is not the model's.
func (w *replyWriter) raw(s string) {
	if w.out.err == nil {
		_, w.out.err = io.WriteString(w.out.w, s)
	}
}

// end closes open reasoning and the last line.
func (w *replyWriter) end() {
	if w.reasoning {
		w.turn(false)
		return
	}
	if w.any && !w.line {
		w.raw("\n")
	}
}

func (s *talkStats) add(a chat.Answer) {
	r := a.Result
	s.answers++
	s.prompt += r.PromptTokens
	s.cached += r.CachedTokens
	s.tokens += len(r.TokenIDs)
	s.thinking += a.ThinkingTokens
	s.prefill += r.Timings.Prefill
	s.decode += r.Timings.Decode
}

// statistics is the answer to /stats.
func (t *talk) statistics() string {
	s, info := t.stats, t.l.session.Info()
	used := t.l.session.Len()
	perSecond := func(n int, d time.Duration) float64 {
		if d <= 0 {
			return 0
		}
		return float64(n) / d.Seconds()
	}
	return fmt.Sprintf(`%d answers, %d tokens, of them %d reasoning, at %.1f tokens/s
prompts: %d tokens, of them %d from the cache, at %.0f tokens/s
context: %d of %d tokens, cache %s
weights: %s, %s %s, %d threads`,
		s.answers, s.tokens, s.thinking, perSecond(s.tokens-s.answers, s.decode),
		s.prompt, s.cached, perSecond(s.prompt-s.cached, s.prefill),
		used, info.MaxContext, humanBytes(int64(used)*info.CacheBytesPerToken),
		humanBytes(info.WeightBytes), info.Provider, info.Version, info.Threads)
}
