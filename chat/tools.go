package chat

import (
	"strings"

	"github.com/llama-pajamas/llama-pajamas/chattemplate"
)

// The tags around a call, as Hermes, Qwen and SmolLM models write them.
const (
	toolOpen  = "<tool_call>"
	toolClose = "</tool_call>"
)

// parseToolCalls takes calls of the form
//
//	<tool_call>{"name": "f", "arguments": {…}}</tool_call>
//
// out of an answer. A block that does not hold such an object stays text, so
// that nothing the model said is lost.
func parseToolCalls(text string) (rest string, calls []chattemplate.ToolCall) {
	var kept strings.Builder
	for {
		before, after, found := strings.Cut(text, toolOpen)
		kept.WriteString(before)
		if !found {
			break
		}
		body, behind, closed := strings.Cut(after, toolClose)
		call, ok := parseToolCall(body)
		switch {
		case ok: // a missing closing tag is forgiven at the end of an answer
			calls = append(calls, call)
		case closed:
			kept.WriteString(toolOpen + body + toolClose)
		default:
			kept.WriteString(toolOpen + body)
		}
		text = behind
	}
	if len(calls) == 0 {
		return kept.String(), nil
	}
	return strings.TrimSpace(kept.String()), calls
}

func parseToolCall(body string) (chattemplate.ToolCall, bool) {
	v, err := chattemplate.ParseJSON([]byte(strings.TrimSpace(body)))
	if err != nil {
		return chattemplate.ToolCall{}, false
	}
	d, ok := v.(*chattemplate.Dict)
	if !ok {
		return chattemplate.ToolCall{}, false
	}
	name, _ := d.Get("name")
	s, ok := name.(chattemplate.Str)
	if !ok || s == "" {
		return chattemplate.ToolCall{}, false
	}
	args, ok := d.Get("arguments")
	if !ok {
		args = chattemplate.NewDict()
	}
	return chattemplate.ToolCall{Name: string(s), Arguments: args}, true
}
