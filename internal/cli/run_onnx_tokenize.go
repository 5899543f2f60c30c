package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

type tokenizeOptions struct {
	model, file string
	add, parse  bool // tokenize
	skip, json  bool // detokenize
}

func (o *tokenizeOptions) bind(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.model, "model", "m", "", textModelHelp)
	cmd.Flags().StringVarP(&o.file, "file", "f", "-", "file to read; - is standard input")
}

func tokenizeCommand(c *common) *cobra.Command {
	var o tokenizeOptions
	cmd := command("tokenize", "Turn text into token ids",
		`Prints one JSON array of token ids for each line of the input. The newline that
ends a line is no part of it, a carriage return before that is; a last line
without a newline counts. Each array is printed as soon as its line is read.

detokenize is the inverse: both in a row give the input back, but for bytes that
are not UTF-8, and for what the model's own tokenizer changes, such as letters
composed by NFC.`,
		cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return runTokenize(cmd.Context(), c, cmd, o) })
	o.bind(cmd)
	cmd.Flags().BoolVar(&o.add, "add-special", false, "add the tokens the tokenizer puts around a text, such as BOS")
	cmd.Flags().BoolVar(&o.parse, "parse-special", false, "let text that spells a control token become that token")
	return cmd
}

func detokenizeCommand(c *common) *cobra.Command {
	var o tokenizeOptions
	cmd := command("detokenize", "Turn token ids into text",
		`Reads one JSON array of token ids a line and prints the text of each, followed by
a newline; lines with white space alone are passed over. A newline inside a text
is printed as it is: use --json where one may occur, as it cannot in what
tokenize prints.`,
		cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return runDetokenize(cmd.Context(), c, cmd, o) })
	o.bind(cmd)
	cmd.Flags().BoolVar(&o.skip, "skip-special", false, "leave control tokens such as BOS out of the text")
	cmd.Flags().BoolVar(&o.json, "json", false, "print each text as a JSON string, on one line")
	return cmd
}

// lines opens model and input and calls each for every line, without its
// newline. Output is written out whenever no more input is waiting.
func (o *tokenizeOptions) lines(ctx context.Context, c *common, cmd *cobra.Command, each func(tok *tokenizer.Tokenizer, line string, w *bufio.Writer) error) (err error) {
	model, err := c.openText(ctx, cmd, o.model)
	if err != nil {
		return err
	}
	in, name := c.In, inputName(o.file)
	if o.file != "-" {
		file, err := os.Open(o.file)
		if err != nil {
			return fmt.Errorf("read the input: %w", err)
		}
		defer file.Close()
		in = file
	}
	w := bufio.NewWriterSize(c.Out, 64<<10)
	defer func() { err = errors.Join(err, w.Flush()) }()
	r := bufio.NewReaderSize(in, 64<<10)
	for n := 1; ; n++ {
		line, readErr := r.ReadString('\n')
		if readErr != nil && readErr != io.EOF {
			return fmt.Errorf("read the input: %w", readErr)
		}
		if line != "" {
			if err := each(model.tok, strings.TrimSuffix(line, "\n"), w); err != nil {
				return fmt.Errorf("%s, line %d: %w", name, n, err)
			}
		}
		if readErr == io.EOF {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.Buffered() == 0 {
			if err := w.Flush(); err != nil {
				return fmt.Errorf("write the output: %w", err)
			}
		}
	}
}

func runTokenize(ctx context.Context, c *common, cmd *cobra.Command, o tokenizeOptions) error {
	opts := tokenizer.EncodeOptions{AddSpecial: o.add, ParseSpecial: o.parse}
	var ids []int32
	var out []byte
	return o.lines(ctx, c, cmd, func(tok *tokenizer.Tokenizer, line string, w *bufio.Writer) error {
		ids = tok.Append(ids[:0], line, opts)
		out = append(out[:0], '[')
		for i, id := range ids {
			if i > 0 {
				out = append(out, ',')
			}
			out = strconv.AppendInt(out, int64(id), 10)
		}
		_, err := w.Write(append(out, "]\n"...))
		return err
	})
}

func runDetokenize(ctx context.Context, c *common, cmd *cobra.Command, o tokenizeOptions) error {
	var ids []int32
	return o.lines(ctx, c, cmd, func(tok *tokenizer.Tokenizer, line string, w *bufio.Writer) error {
		if strings.TrimSpace(line) == "" {
			return nil
		}
		ids = ids[:0]
		if err := json.Unmarshal([]byte(line), &ids); err != nil || ids == nil {
			return fmt.Errorf("%s is not a JSON array of token ids, such as [1, 42]", excerpt(line))
		}
		for _, id := range ids {
			if _, ok := tok.Token(id); !ok {
				return fmt.Errorf("the tokenizer has no token %d; its ids are below %d", id, tok.VocabSize())
			}
		}
		text := tok.Decode(ids, o.skip)
		if o.json {
			return printJSON(w, text)
		}
		_, err := w.WriteString(text + "\n")
		return err
	})
}

// excerpt is the start of a line, quoted, for an error.
func excerpt(line string) string {
	const most = 40
	if r := []rune(line[:min(len(line), 4*most+4)]); len(r) > most {
		return strconv.Quote(string(r[:most])) + "…"
	}
	return strconv.Quote(line)
}
