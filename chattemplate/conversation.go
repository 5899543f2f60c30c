package chattemplate

import (
	"context"
	"strings"
)

// Message is one message of a conversation in the common form. It becomes the
// dict that templates expect; see [Message.Dict].
type Message struct {
	// Role is system, user, assistant or tool.
	Role string
	// Content is the text.
	Content string
	// ReasoningContent is the reasoning before an assistant's answer, if any.
	ReasoningContent string
	// ToolCalls are the calls an assistant makes.
	ToolCalls []ToolCall
	// ToolCallID and Name say, in a message of role tool, which call it answers.
	ToolCallID string
	Name       string
	// Extra holds further keys, set last, over the ones above.
	Extra *Dict
}

// ToolCall is one call of a tool.
type ToolCall struct {
	// ID may be empty.
	ID   string
	Name string
	// Arguments is usually a [*Dict]; nil means no arguments.
	Arguments Value
}

// Dict returns the message as templates see it: role, content, and what is set
// of reasoning_content, tool_calls ([{id, type, function: {name, arguments}}]),
// name and tool_call_id.
func (m Message) Dict() *Dict {
	text := func(s string) Str { return Str(strings.ToValidUTF8(s, "\uFFFD")) }
	d := NewDict().Set("role", text(m.Role)).Set("content", text(m.Content))
	if m.ReasoningContent != "" {
		d.Set("reasoning_content", text(m.ReasoningContent))
	}
	if len(m.ToolCalls) > 0 {
		calls := NewList()
		for _, c := range m.ToolCalls {
			call := NewDict()
			if c.ID != "" {
				call.Set("id", text(c.ID))
			}
			args := c.Arguments
			if args == nil {
				args = NewDict()
			}
			call.Set("type", Str("function"))
			call.Set("function", NewDict().Set("name", text(c.Name)).Set("arguments", args))
			calls.Append(call)
		}
		d.Set("tool_calls", calls)
	}
	if m.Name != "" {
		d.Set("name", text(m.Name))
	}
	if m.ToolCallID != "" {
		d.Set("tool_call_id", text(m.ToolCallID))
	}
	if m.Extra != nil {
		for i, k := range m.Extra.keys {
			if s, ok := k.(Str); ok {
				d.Set(string(s), m.Extra.vals[i])
			}
		}
	}
	return d
}

// Conversation is what apply_chat_template is given.
type Conversation struct {
	Messages []Message
	// Raw, if not nil, is the list of message dicts as it came (from
	// [ParseJSON], say), used instead of Messages.
	Raw *List
	// Tools is the list of tool schemas; nil means none, which templates see
	// as None.
	Tools Value
	// Documents is the list of documents of retrieval templates; nil for none.
	Documents Value
	// AddGenerationPrompt ends the prompt with the start of an answer.
	AddGenerationPrompt bool
	// EnableThinking sets enable_thinking; nil leaves it undefined, so that the
	// template's own default holds.
	EnableThinking *bool
	// BOS and EOS are the texts of these tokens; empty leaves bos_token or
	// eos_token undefined.
	BOS, EOS string
	// Extra holds further variables (other special tokens, keyword arguments),
	// set last, over the ones above.
	Extra *Dict
}

// RenderConversation renders a conversation as transformers'
// apply_chat_template does with tokenize=False: keys of messages whose value is
// None are left out, and reasoning is given under each name that templates read
// it from.
func (t *Template) RenderConversation(ctx context.Context, c Conversation, o Options) (string, error) {
	return t.Render(ctx, c.Vars(), o)
}

// Vars returns the variables that the template of a conversation is given.
func (c Conversation) Vars() *Dict {
	messages := NewList()
	if c.Raw != nil {
		for _, m := range c.Raw.items {
			messages.Append(normalizeMessage(m))
		}
	} else {
		for _, m := range c.Messages {
			messages.Append(normalizeMessage(m.Dict()))
		}
	}
	vars := NewDict().Set("messages", messages)
	vars.Set("tools", orNone(c.Tools)).Set("documents", orNone(c.Documents))
	vars.Set("add_generation_prompt", Bool(c.AddGenerationPrompt))
	if c.BOS != "" {
		vars.Set("bos_token", Str(c.BOS))
	}
	if c.EOS != "" {
		vars.Set("eos_token", Str(c.EOS))
	}
	if c.EnableThinking != nil {
		vars.Set("enable_thinking", Bool(*c.EnableThinking))
	}
	if c.Extra != nil {
		for i, k := range c.Extra.keys {
			if s, ok := k.(Str); ok {
				vars.Set(string(s), c.Extra.vals[i])
			}
		}
	}
	return vars
}

// reasoningKeys are the names a message's reasoning comes under; templates read
// the first, those of gpt-oss the second.
var reasoningKeys = [...]string{"reasoning_content", "thinking", "reasoning"}

// normalizeMessage drops keys set to None and copies reasoning under the names
// templates read, as _normalize_chat_messages and _alias_reasoning_fields of
// transformers' chat_template_utils.py. What is no dict stays as it is.
func normalizeMessage(v Value) Value {
	m, ok := v.(*Dict)
	if !ok {
		return v
	}
	kept := NewDict()
	for i, k := range m.keys {
		if _, isNone := m.vals[i].(None); isNone {
			continue
		}
		if s, ok := k.(Str); ok {
			kept.Set(string(s), m.vals[i])
		}
	}
	for _, key := range reasoningKeys {
		reasoning, ok := kept.Get(key)
		if !ok {
			continue
		}
		aliased := NewDict().Set("thinking", reasoning)
		for i, k := range kept.keys {
			aliased.Set(string(k.(Str)), kept.vals[i])
		}
		return aliased.Set("reasoning_content", reasoning)
	}
	return kept
}
