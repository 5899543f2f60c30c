package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/chat"
	"github.com/llama-pajamas/llama-pajamas/chattemplate"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

type renderOptions struct {
	model, messages, tools, variables string
	noPrompt, ids                     bool
	thinkFlags
}

func renderCommand(c *common) *cobra.Command {
	var o renderOptions
	cmd := command("render", "Print the prompt that the chat template makes of messages",
		`Applies the model's chat template to a JSON list of messages
([{"role": "user", "content": "…"}, …]), as Hugging Face's apply_chat_template
does, and prints the prompt.`,
		cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return runRender(cmd.Context(), c, cmd, o) })
	f := cmd.Flags()
	f.StringVarP(&o.model, "model", "m", "", "model folder (required)")
	f.StringVar(&o.messages, "messages", "", "JSON file with the messages; - is standard input (required)")
	f.StringVar(&o.tools, "tools", "", "JSON file with the list of tools")
	f.StringVar(&o.variables, "variables", "", "JSON file with an object of further template variables")
	f.BoolVar(&o.noPrompt, "no-generation-prompt", false, "leave out the start of the answer")
	f.BoolVar(&o.ids, "ids", false, "print the token ids as a JSON array instead of the text")
	o.thinkFlags.bind(cmd)
	return cmd
}

// thinkFlags say whether the model shall reason before it answers.
type thinkFlags struct{ think, noThink bool }

func (t *thinkFlags) bind(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&t.think, "think", false, "let the model reason before it answers, where its template knows that")
	cmd.Flags().BoolVar(&t.noThink, "no-think", false, "keep the model from reasoning, where its template knows that")
	cmd.MarkFlagsMutuallyExclusive("think", "no-think")
}

// value is nil where neither flag was given.
func (t *thinkFlags) value() *bool {
	if !t.think && !t.noThink {
		return nil
	}
	return &t.think
}

func runRender(ctx context.Context, c *common, cmd *cobra.Command, o renderOptions) error {
	if o.model == "" || o.messages == "" {
		return usagef(cmd, "--model and --messages are required")
	}
	folder, err := modeldir.OpenFiles(o.model)
	if err != nil {
		return err
	}
	tok, err := tokenizer.Load(folder.Dir)
	if err != nil {
		return err
	}
	p, err := chat.NewPrompter(folder, tok)
	if err != nil {
		return err
	}
	r := chat.Request{Thinking: o.value(), NoGenerationPrompt: o.noPrompt}
	messages, err := readJSON[*chattemplate.List](c, o.messages, "a list of messages")
	if err != nil {
		return err
	}
	r.Raw = messages
	if o.tools != "" {
		tools, err := readJSON[*chattemplate.List](c, o.tools, "a list of tools")
		if err != nil {
			return err
		}
		r.Tools = tools
	}
	if o.variables != "" {
		if r.Variables, err = readJSON[*chattemplate.Dict](c, o.variables, "an object of variables"); err != nil {
			return err
		}
	}
	prompt, err := p.Prompt(ctx, r)
	if err != nil {
		return err
	}
	if o.ids {
		return printJSON(c.Out, prompt.IDs)
	}
	_, err = io.WriteString(c.Out, prompt.Text)
	return err
}

// readJSON reads a JSON file whose top must be of type T.
func readJSON[T chattemplate.Value](c *common, path, what string) (T, error) {
	var zero T
	var data []byte
	var err error
	if path == "-" {
		data, err = io.ReadAll(c.In)
	} else {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return zero, fmt.Errorf("read %s: %w", what, err)
	}
	v, err := chattemplate.ParseJSON(data)
	if err != nil {
		return zero, fmt.Errorf("read %s from %s: %w", what, path, err)
	}
	t, ok := v.(T)
	if !ok {
		return zero, fmt.Errorf("read %s from %s: the JSON is something else", what, path)
	}
	return t, nil
}
