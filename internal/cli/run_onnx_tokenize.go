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
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

type tokenizeOptions struct {
	model, file  string
	add, special bool
	json         bool
}

func (o *tokenizeOptions) bind(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.model, "model", "m", "", "model folder with tokenizer.json (required)")
	cmd.Flags().StringVarP(&o.file, "file", "f", "-", "file to read; - is standard input")
}

func tokenizeCommand(c *common) *cobra.Command {
	var o tokenizeOptions
	cmd := command("tokenize", "Turn text into token ids",
		`Prints one JSON array of token ids for each line of the input, without the
line's end. detokenize is the inverse.`,
		cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return runTokenize(cmd.Context(), c, cmd, o) })
	o.bind(cmd)
	cmd.Flags().BoolVar(&o.add, "add-special", false, "add the tokens the tokenizer puts around a text, such as BOS")
	cmd.Flags().BoolVar(&o.special, "special", false, "let text that spells a control token become that token")
	return cmd
}

func detokenizeCommand(c *common) *cobra.Command {
	var o tokenizeOptions
	cmd := command("detokenize", "Turn token ids into text",
		`Reads one JSON array of token ids a line and prints the text of each on a line.`,
		cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return runDetokenize(cmd.Context(), c, cmd, o) })
	o.bind(cmd)
	cmd.Flags().BoolVar(&o.special, "special", false, "print control tokens too")
	cmd.Flags().BoolVar(&o.json, "json", false, "print each text as a JSON string, so that line breaks in it survive")
	return cmd
}

// lines opens model and input and calls each for every line.
func (o *tokenizeOptions) lines(ctx context.Context, c *common, cmd *cobra.Command, each func(tok *tokenizer.Tokenizer, line string, w *bufio.Writer) error) (err error) {
	if o.model == "" {
		return usagef(cmd, "--model is required")
	}
	dir := o.model
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		dir = filepath.Dir(dir)
	}
	tok, err := tokenizer.Load(dir)
	if err != nil {
		return err
	}
	in := c.In
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
			if err := each(tok, strings.TrimSuffix(line, "\n"), w); err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
		}
		if readErr == io.EOF {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func runTokenize(ctx context.Context, c *common, cmd *cobra.Command, o tokenizeOptions) error {
	opts := tokenizer.EncodeOptions{AddSpecial: o.add, ParseSpecial: o.special}
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
	return o.lines(ctx, c, cmd, func(tok *tokenizer.Tokenizer, line string, w *bufio.Writer) error {
		if strings.TrimSpace(line) == "" {
			return nil
		}
		var ids []int32
		if err := json.Unmarshal([]byte(line), &ids); err != nil {
			return fmt.Errorf("not a JSON array of token ids: %w", err)
		}
		for _, id := range ids {
			if _, ok := tok.Token(id); !ok {
				return fmt.Errorf("the tokenizer has no token %d", id)
			}
		}
		text := tok.Decode(ids, !o.special)
		if o.json {
			enc := json.NewEncoder(w)
			enc.SetEscapeHTML(false)
			return enc.Encode(text)
		}
		_, err := w.WriteString(text + "\n")
		return err
	})
}
