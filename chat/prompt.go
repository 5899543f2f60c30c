package chat

import (
	"context"
	"fmt"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/chattemplate"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// Request is a conversation to be answered.
type Request struct {
	Messages []chattemplate.Message
	// Raw, if not nil, is used instead of Messages: the list of message dicts
	// as it came.
	Raw *chattemplate.List
	// Tools is the list of tool schemas; nil for none.
	Tools chattemplate.Value
	// Thinking sets enable_thinking for templates that know it; nil leaves it
	// to the template.
	Thinking *bool
	// Variables holds further template variables; nil for none.
	Variables *chattemplate.Dict
	// NoGenerationPrompt leaves the start of the answer out.
	NoGenerationPrompt bool
}

// Prompt is a rendered conversation.
type Prompt struct {
	Text string
	IDs  []int32
	// InReasoning says that the prompt has opened the answer's reasoning.
	InReasoning bool
}

// Prompter renders and encodes conversations for one model.
type Prompter struct {
	tok            *tokenizer.Tokenizer
	plain, toolUse *chattemplate.Template
	bos, eos       string
	names          *chattemplate.Dict // further named tokens
	specials       []string
	limits         chattemplate.Options
}

// NewPrompter parses the folder's chat template. A model without one is a
// modeldir.ErrNoTemplate.
func NewPrompter(folder *modeldir.Folder, tok *tokenizer.Tokenizer) (*Prompter, error) {
	p := &Prompter{
		tok: tok, bos: string(folder.Tokenizer.BOSToken), eos: string(folder.Tokenizer.EOSToken),
		names: chattemplate.NewDict(),
	}
	for _, t := range tok.SpecialTokens() {
		if t.Content != "" {
			p.specials = append(p.specials, t.Content)
		}
	}
	for name, text := range map[string]modeldir.TokenText{"unk_token": folder.Tokenizer.UnkToken, "pad_token": folder.Tokenizer.PadToken} {
		if text != "" {
			p.names.Set(name, chattemplate.Str(text))
		}
	}
	for name, dst := range map[string]**chattemplate.Template{"default": &p.plain, "tool_use": &p.toolUse} {
		source, err := folder.Template(name)
		if err != nil {
			return nil, err
		}
		if *dst, err = chattemplate.Parse("", source); err != nil {
			return nil, fmt.Errorf("model folder %s: %w", folder.Dir, err)
		}
	}
	return p, nil
}

// Prompt renders a conversation and encodes it.
func (p *Prompter) Prompt(ctx context.Context, r Request) (Prompt, error) {
	template := p.plain
	if r.Tools != nil {
		template = p.toolUse
	}
	raw := r.Raw
	if raw == nil {
		raw = chattemplate.NewList()
		for _, m := range r.Messages {
			raw.Append(m.Dict())
		}
	}
	marks := &protector{specials: p.specials}
	safe := marks.protect([]chattemplate.Value{raw, orList(r.Tools)}, template.Source())
	vars := chattemplate.NewDict()
	for _, d := range []*chattemplate.Dict{p.names, r.Variables} {
		if d == nil {
			continue
		}
		for i := range d.Len() {
			if key, ok := d.Key(i).(chattemplate.Str); ok {
				vars.Set(string(key), d.Value(i))
			}
		}
	}
	c := chattemplate.Conversation{
		Raw: safe[0].(*chattemplate.List), AddGenerationPrompt: !r.NoGenerationPrompt,
		EnableThinking: r.Thinking, BOS: p.bos, EOS: p.eos, Extra: vars,
	}
	if r.Tools != nil {
		c.Tools = safe[1]
	}
	rendered, err := template.RenderConversation(ctx, c, p.limits)
	if err != nil {
		return Prompt{}, fmt.Errorf("render the conversation: %w", err)
	}
	ids, text := marks.encode(p.tok, rendered)
	return Prompt{Text: text, IDs: ids, InReasoning: strings.HasSuffix(strings.TrimSpace(text), thinkOpen)}, nil
}

// orList is v, or an empty list for nil.
func orList(v chattemplate.Value) chattemplate.Value {
	if v == nil {
		return chattemplate.NewList()
	}
	return v
}
