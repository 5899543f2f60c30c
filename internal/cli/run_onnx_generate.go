package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/chat"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

type generateOptions struct {
	opener
	samplingFlags
	prompt, promptFile string
	special, noBOS     bool
	json               bool
	batch              batchFlags
}

func generateCommand(c *common, model opener) *cobra.Command {
	o := generateOptions{opener: model}
	cmd := command("generate [-]", "Continue a prompt",
		`Continues a text as it stands, without a chat template. The prompt is --prompt,
the content of --prompt-file, or standard input where either is "-" or the only
argument is "-". One line end at the end of a file or of standard input is left
out.

With --prompts it answers many prompts, --batch at once, where the model's runtime
can; that makes more tokens a second in all than one after the other.`,
		cobra.MaximumNArgs(1), func(cmd *cobra.Command, args []string) error {
			if o.batch.prompts != "" {
				if len(args) > 0 || o.prompt != "" || o.promptFile != "" {
					return usagef(cmd, "--prompts goes with no other prompt")
				}
				return runGenerateBatch(cmd.Context(), c, cmd, o)
			}
			if cmd.Flags().Changed("output") || cmd.Flags().Changed("batch") {
				return usagef(cmd, "--output and --batch go with --prompts")
			}
			return runGenerate(cmd.Context(), c, cmd, o, args)
		})
	o.opener.bind(cmd)
	o.samplingFlags.bind(cmd, 512)
	f := cmd.Flags()
	f.StringVarP(&o.prompt, "prompt", "p", "", "text to continue")
	f.StringVar(&o.promptFile, "prompt-file", "", "file with the text to continue")
	f.BoolVar(&o.special, "parse-special", false, "let text that spells a control token become that token")
	f.BoolVar(&o.noBOS, "no-bos", false, "do not add the tokenizer's beginning-of-text token")
	f.BoolVar(&o.json, "json", false, "print one JSON object instead of the text")
	o.batch.bind(cmd)
	return cmd
}

// generateJSON is what generate --json prints.
type generateJSON struct {
	Text             string      `json:"text"`
	TokenIDs         []int32     `json:"token_ids"`
	PromptTokens     int         `json:"prompt_tokens"`
	CompletionTokens int         `json:"completion_tokens"`
	FinishReason     string      `json:"finish_reason"`
	Timings          timingsJSON `json:"timings"`
}

type timingsJSON struct {
	Load       float64 `json:"load_seconds"`
	Prefill    float64 `json:"prefill_tokens_per_second"`
	FirstToken float64 `json:"time_to_first_token_seconds"`
	Decode     float64 `json:"decode_tokens_per_second"`
}

// generation is the options of an answer that ends with the model's end tokens,
// unless they are to be ignored.
func (o *generateOptions) generation(cmd *cobra.Command, l *loaded) (infer.Options, error) {
	opts, err := o.options(cmd, l.folder)
	if err != nil {
		return opts, err
	}
	if !o.ignoreEnd {
		opts.StopTokens = append(opts.StopTokens, chat.EndTokens(l.folder, l.tok)...)
	}
	opts.Vocab = l.tok.VocabSize()
	return opts, nil
}

func runGenerate(ctx context.Context, c *common, cmd *cobra.Command, o generateOptions, args []string) error {
	text, err := o.readPrompt(c, cmd, args)
	if err != nil {
		return err
	}
	l, err := o.open(ctx, c, cmd)
	if err != nil {
		return err
	}
	defer l.close() // reading is done: nothing can be lost
	opts, err := o.generation(cmd, l)
	if err != nil {
		return err
	}
	prompt := l.tok.Encode(text, tokenizer.EncodeOptions{AddSpecial: !o.noBOS, ParseSpecial: o.special})
	out := &plainText{w: c.Out, terminal: c.OutTerminal}
	show := func(t infer.Token) { out.write(t.Text) }
	if o.json {
		show = nil
	}
	r, err := infer.Generate(l.session, primedDecoder(l.tok, prompt), prompt, opts).Run(ctx, show)
	if err != nil && !errors.Is(err, context.Canceled) {
		return explain(err)
	}
	c.noteLookup(cmd, r)
	if o.json {
		if jsonErr := printJSON(c.Out, generateResult(l, r)); jsonErr != nil {
			return jsonErr
		}
		return err
	}
	if !strings.HasSuffix(r.Text, "\n") {
		out.write("\n")
	}
	c.note("%s", speedLine(r, l.session))
	return errors.Join(err, out.err)
}

// primedDecoder is a decoder that has seen the prompt, so that the answer's
// first token keeps the space that joins it to the prompt.
func primedDecoder(tok *tokenizer.Tokenizer, prompt []int32) *tokenizer.Decoder {
	d := tok.NewDecoder(true)
	for _, id := range prompt {
		d.Push(id)
	}
	return d
}

func generateResult(l *loaded, r infer.Result) generateJSON {
	ids := r.TokenIDs
	if ids == nil {
		ids = []int32{}
	}
	return generateJSON{
		Text: r.Text, TokenIDs: ids, PromptTokens: r.PromptTokens, CompletionTokens: len(ids),
		FinishReason: string(r.Reason),
		Timings: timingsJSON{
			Load: l.load.Seconds(), Prefill: r.Timings.PrefillRate(),
			FirstToken: r.Timings.FirstToken.Seconds(), Decode: r.Timings.DecodeRate(),
		},
	}
}

// readPrompt finds the prompt: exactly one of the ways to give it.
func (o *generateOptions) readPrompt(c *common, cmd *cobra.Command, args []string) (string, error) {
	given := 0
	for _, is := range []bool{cmd.Flags().Changed("prompt"), o.promptFile != "", len(args) > 0} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return "", usagef(cmd, "give the prompt one way: --prompt TEXT, --prompt-file FILE, or - for standard input")
	case len(args) > 0 && args[0] != "-":
		return "", usagef(cmd, "unexpected argument %q: give the prompt with --prompt", args[0])
	case len(args) > 0, o.prompt == "-":
		return readText(c, "-")
	case o.promptFile != "":
		return readText(c, o.promptFile)
	}
	return o.prompt, nil
}

// readText reads a file, or standard input for "-", as UTF-8, without the line
// end that editors and echo put last.
func readText(c *common, path string) (string, error) {
	var data []byte
	var err error
	if path == "-" {
		data, err = io.ReadAll(c.In)
	} else {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return "", fmt.Errorf("read the prompt: %w", err)
	}
	if !utf8.Valid(data) {
		return "", fmt.Errorf("read the prompt from %s: it is not UTF-8 text", path)
	}
	text := strings.TrimSuffix(string(data), "\n")
	return strings.TrimSuffix(text, "\r"), nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// speedLine tells how fast an answer came.
func speedLine(r infer.Result, s infer.Session) string {
	line := fmt.Sprintf("%d tokens · %.1f tokens/s · prompt %d", len(r.TokenIDs), r.Timings.DecodeRate(), r.PromptTokens)
	if r.CachedTokens > 0 {
		line += fmt.Sprintf(" (%d from the cache)", r.CachedTokens)
	}
	line += fmt.Sprintf(" · %.0f tokens/s · %.2f s to the first token · context %d of %d",
		r.Timings.PrefillRate(), r.Timings.FirstToken.Seconds(), s.Len(), s.Info().MaxContext)
	if st := r.Lookup; st.Runs > 0 {
		line += fmt.Sprintf(" · %d of %d tokens foreseen", st.Accepted, st.Drafted)
	}
	switch r.Reason {
	case infer.FinishLength:
		line += " · stopped at --max-tokens"
	case infer.FinishContext:
		line += " · stopped: the context is full"
	case infer.FinishCancelled:
		line += " · interrupted"
	}
	return line
}

// plainText writes a model's text. On a terminal, control characters other
// than tab and line feed become U+FFFD: a model must not drive the terminal.
type plainText struct {
	w        io.Writer
	terminal bool
	err      error // the first one; writing ends with it
}

func (p *plainText) write(s string) {
	if p.err != nil || s == "" {
		return
	}
	if p.terminal {
		s = strings.Map(func(r rune) rune {
			if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
				return utf8.RuneError
			}
			return r
		}, s)
	}
	_, p.err = io.WriteString(p.w, s)
}
