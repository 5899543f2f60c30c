package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/chat"
	"github.com/llama-pajamas/llama-pajamas/chattemplate"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

type renderOptions struct {
	model, messages, tools, variables string
	noPrompt, ids                     bool
	thinkFlags
}

func renderCommand(c *common) *cobra.Command {
	var o renderOptions
	cmd := command("render", "Print the prompt that the chat template makes of messages",
		`Applies the model's chat template to messages, as Hugging Face's
apply_chat_template does, and prints the prompt: these bytes and no more, so no
newline at the end that the template did not make.

The messages file holds a list, [{"role": "user", "content": "…"}, …], or an
object with "messages" and, if wanted, "tools", "chat_template_kwargs" and
"add_generation_prompt". What else is in the object, such as the rest of a chat
completion request, is passed over. Options of the command line win.`,
		cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return runRender(cmd.Context(), c, cmd, o) })
	f := cmd.Flags()
	f.StringVarP(&o.model, "model", "m", "", textModelHelp)
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
	if o.messages == "" {
		return usagef(cmd, "--messages is required: a JSON file, or - for standard input")
	}
	model, err := c.openText(ctx, cmd, o.model)
	if err != nil {
		return err
	}
	p, err := chat.NewPrompter(model.folder, model.tok)
	if errors.Is(err, modeldir.ErrNoTemplate) {
		return fmt.Errorf("%s has no chat template (no chat_template.jinja, none in tokenizer_config.json or in GGUF keys): it is a base model, whose prompt is the text itself", o.model)
	}
	if err != nil {
		return err
	}
	r, err := o.request(c)
	if err != nil {
		return err
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

// request reads the files and puts them together; command-line options win
// over what the messages file says.
func (o renderOptions) request(c *common) (chat.Request, error) {
	file := inputName(o.messages)
	r := chat.Request{Thinking: o.value()}
	prompt := true
	vars := chattemplate.NewDict()
	top, err := readJSON(c, o.messages)
	if err != nil {
		return r, fmt.Errorf("read the messages: %w", err)
	}
	messages := top
	if d, ok := top.(*chattemplate.Dict); ok {
		if messages, ok = d.Get("messages"); !ok {
			return r, fmt.Errorf(`read the messages from %s: the object has no "messages"`, file)
		}
		if v, ok := d.Get("tools"); ok {
			if r.Tools, err = toolList(v, file); err != nil {
				return r, err
			}
		}
		if v, ok := d.Get("chat_template_kwargs"); ok {
			if err := merge(vars, v, "chat_template_kwargs", file); err != nil {
				return r, err
			}
		}
		if v, ok := d.Get("add_generation_prompt"); ok {
			prompt = v != chattemplate.Bool(false)
		}
	}
	if r.Raw, err = messageList(messages, file); err != nil {
		return r, err
	}
	if o.tools != "" {
		v, err := readJSON(c, o.tools)
		if err != nil {
			return r, fmt.Errorf("read the tools: %w", err)
		}
		if r.Tools, err = toolList(v, inputName(o.tools)); err != nil {
			return r, err
		}
	}
	if o.variables != "" {
		v, err := readJSON(c, o.variables)
		if err != nil {
			return r, fmt.Errorf("read the variables: %w", err)
		}
		if err := merge(vars, v, "variables", inputName(o.variables)); err != nil {
			return r, err
		}
	}
	if r.Thinking != nil {
		vars.Set("enable_thinking", chattemplate.Bool(*r.Thinking))
	}
	r.Variables, r.NoGenerationPrompt = vars, o.noPrompt || !prompt
	return r, nil
}

// messageList wants a list of objects with a role each.
func messageList(v chattemplate.Value, path string) (*chattemplate.List, error) {
	list, ok := v.(*chattemplate.List)
	if !ok {
		return nil, fmt.Errorf("read the messages from %s: want a list of messages, or an object with such a list as \"messages\"", path)
	}
	for i := range list.Len() {
		m, ok := list.At(i).(*chattemplate.Dict)
		if !ok {
			return nil, fmt.Errorf("read the messages from %s: message %d is not an object", path, i+1)
		}
		role, _ := m.Get("role")
		if _, ok := role.(chattemplate.Str); !ok {
			return nil, fmt.Errorf(`read the messages from %s: message %d has no "role"`, path, i+1)
		}
	}
	return list, nil
}

// toolList wants a list of objects; null is no tools.
func toolList(v chattemplate.Value, path string) (chattemplate.Value, error) {
	if _, null := v.(chattemplate.None); null {
		return nil, nil
	}
	list, ok := v.(*chattemplate.List)
	for i := 0; ok && i < list.Len(); i++ {
		_, ok = list.At(i).(*chattemplate.Dict)
	}
	if !ok {
		return nil, fmt.Errorf("read the tools from %s: want a list of objects, as in a chat completion request", path)
	}
	return list, nil
}

// merge sets the keys of an object.
func merge(vars *chattemplate.Dict, v chattemplate.Value, what, path string) error {
	d, ok := v.(*chattemplate.Dict)
	if !ok {
		return fmt.Errorf("read the %s from %s: want an object", what, path)
	}
	for i := range d.Len() {
		if key, ok := d.Key(i).(chattemplate.Str); ok {
			vars.Set(string(key), d.Value(i))
		}
	}
	return nil
}

// readJSON reads a JSON file; - is standard input.
func readJSON(c *common, path string) (chattemplate.Value, error) {
	var data []byte
	var err error
	if path == "-" {
		data, err = io.ReadAll(c.In)
	} else {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, err
	}
	v, err := chattemplate.ParseJSON(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", inputName(path), err)
	}
	return v, nil
}

// inputName is what an input is called in errors.
func inputName(path string) string {
	if path == "-" {
		return "standard input"
	}
	return path
}
