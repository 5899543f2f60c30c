package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/reeflective/readline"

	"github.com/llama-pajamas/llama-pajamas/chattemplate"
)

// errInterrupted is Ctrl-C while a line is edited.
var errInterrupted = errors.New("interrupted")

// lineReader reads the messages of a chat. io.EOF ends it.
type lineReader interface {
	read(ctx context.Context) (string, error)
	close()
}

// newLineReader is an editor with history on a terminal, else plain lines.
func (c *common) newLineReader() (lineReader, error) {
	if !c.InTerminal || !c.OutTerminal || c.Getenv("TERM") == "dumb" {
		return newPlainLines(c.In), nil
	}
	shell := readline.NewShell()
	prompt := "> "
	if c.Color(true) {
		prompt = "\x1b[1m> \x1b[0m"
	}
	shell.Prompt.Primary(func() string { return prompt })
	shell.Prompt.Secondary(func() string { return ". " })
	shell.AcceptMultiline = func(line []rune) bool { return !strings.HasSuffix(string(line), `\`) }
	if dir, err := c.CacheDir(); err == nil && os.MkdirAll(dir, 0o700) == nil {
		// Without a file the history lasts as long as the program.
		if h, err := readline.NewHistoryFromFile(filepath.Join(dir, "chat_history")); err == nil {
			shell.History.Delete()
			shell.History.Add("chat", h)
		}
	}
	return &shellLines{shell: shell}, nil
}

// shellLines edits on a terminal.
type shellLines struct{ shell *readline.Shell }

func (s *shellLines) read(context.Context) (string, error) {
	line, err := s.shell.Readline()
	if errors.Is(err, readline.ErrInterrupt) {
		return "", errInterrupted
	}
	return strings.ReplaceAll(line, "\\\n", "\n"), err
}

func (s *shellLines) close() {}

// plainLines reads lines as they come; a backslash at the end joins the next.
// A goroutine reads, so that an interrupt is heard while a read waits.
type plainLines struct {
	lines chan readLine
	done  chan struct{}
}

type readLine struct {
	text string
	err  error
}

func newPlainLines(in io.Reader) *plainLines {
	p := &plainLines{lines: make(chan readLine), done: make(chan struct{})}
	go func() {
		defer close(p.lines)
		r := bufio.NewReader(in)
		for {
			text, err := r.ReadString('\n')
			select {
			case p.lines <- readLine{text, err}:
			case <-p.done:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return p
}

// close ends the goroutine, once its read returns.
func (p *plainLines) close() { close(p.done) }

func (p *plainLines) read(ctx context.Context) (string, error) {
	var message strings.Builder
	for {
		line, open := readLine{}, false
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case line, open = <-p.lines:
		}
		if !open {
			return "", io.EOF
		}
		if line.err != nil && (line.err != io.EOF || line.text == "" && message.Len() == 0) {
			return "", line.err
		}
		text := strings.TrimRight(line.text, "\r\n")
		if joined, more := strings.CutSuffix(text, `\`); more && line.err == nil {
			message.WriteString(joined + "\n")
			continue
		}
		message.WriteString(text)
		return message.String(), nil
	}
}

// savedMessage is one message of a saved conversation.
type savedMessage struct {
	Role             string `json:"role"`
	Content          string `json:"content"`
	ReasoningContent string `json:"reasoning_content,omitempty"`
}

// saveMessages writes a conversation beside its final name, then renames.
func saveMessages(path string, messages []chattemplate.Message) (err error) {
	list := []savedMessage{}
	for _, m := range messages {
		list = append(list, savedMessage{m.Role, m.Content, m.ReasoningContent})
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".save-*")
	if err != nil {
		return fmt.Errorf("save the conversation: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("save the conversation: %w", err)
			_ = os.Remove(file.Name()) // the first error counts
		}
	}()
	enc := json.NewEncoder(file)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := errors.Join(enc.Encode(list), file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
