package chattemplate_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/chattemplate"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// TestMessages: messages given as structs render as the same messages in JSON,
// which the other tests compare with Jinja2.
func TestMessages(t *testing.T) {
	args, err := chattemplate.ParseJSON([]byte(`{"city": "Oslo", "n": [1, 2.5, null]}`))
	if err != nil {
		t.Fatal(err)
	}
	messages := []chattemplate.Message{
		{Role: "system", Content: "Be brief."},
		{Role: "user", Content: "Weather?"},
		{Role: "assistant", ReasoningContent: "Look it up.", ToolCalls: []chattemplate.ToolCall{{ID: "call00001", Name: "get_weather", Arguments: args}}},
		{Role: "tool", Content: "-3", Name: "get_weather", ToolCallID: "call00001"},
		{Role: "assistant", Content: "Cold.", Extra: chattemplate.NewDict().Set("prefix", chattemplate.Bool(true))},
		{Role: "user", Content: "bad \xff bytes"},
	}
	raw, err := chattemplate.ParseJSON([]byte(`[
		{"role": "system", "content": "Be brief."},
		{"role": "user", "content": "Weather?", "name": null},
		{"role": "assistant", "content": "", "reasoning": "Look it up.", "tool_calls": [{"id": "call00001", "type": "function",
			"function": {"name": "get_weather", "arguments": {"city": "Oslo", "n": [1, 2.5, null]}}}]},
		{"role": "tool", "content": "-3", "name": "get_weather", "tool_call_id": "call00001"},
		{"role": "assistant", "content": "Cold.", "prefix": true},
		{"role": "user", "content": "bad \ufffd bytes"}
	]`))
	if err != nil {
		t.Fatal(err)
	}
	think := false
	for name, source := range repositoryTemplates(t) {
		tmpl, err := chattemplate.Parse(name, source)
		if err != nil {
			t.Fatal(err)
		}
		c := chattemplate.Conversation{Messages: messages, AddGenerationPrompt: true, EnableThinking: &think, BOS: "<s>", EOS: "</s>"}
		got, gotErr := tmpl.RenderConversation(context.Background(), c, chattemplate.Options{})
		c.Raw = raw.(*chattemplate.List)
		want, wantErr := tmpl.RenderConversation(context.Background(), c, chattemplate.Options{})
		if got != want || (gotErr == nil) != (wantErr == nil) {
			t.Errorf("%s: %s (errors %v, %v)", name, firstDifference(got, want), gotErr, wantErr)
		}
		if gotErr == nil && !strings.Contains(got, "Cold.") {
			t.Errorf("%s: the answer is not in %q", name, got)
		}
	}
}

// TestErrors: errors say which template, where, and what.
func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		name, source, want  string
		raised, unsupported bool
	}{
		{"syntax", "a\n{% if %}", "chat template t, line 2: TemplateSyntaxError: Expected an expression, got 'end of statement block'", false, false},
		{"not closed", "a\n{% if x %}\n", "line 2: TemplateSyntaxError: Unexpected end of template. Jinja was looking for the following tags: 'elif' or 'else' or 'endif'. The innermost block that needs to be closed is 'if'.", false, false},
		{"unknown filter", "\n\n{{ x|nope }}", "line 3: TemplateAssertionError: No filter named 'nope'.", false, false},
		{"undefined", "\n{{ x.y }}", "line 2: UndefinedError: 'x' is undefined", false, false},
		{"attribute", "{{ {'a': 1}.b.c }}", "UndefinedError: 'dict object' has no attribute 'b'", false, false},
		{"sandbox", "{{ [].append(1) }}", "SecurityError: access to attribute 'append' of 'list' object is unsafe.", false, false},
		{"raised", "{% if 1 %}\n{{ raise_exception('No system role') }}{% endif %}", "chat template t, line 2 refused the conversation: No system role", true, false},
		{"inheritance", "{% extends 'base' %}", "unsupported: tag extends in a chat template, line 1", false, true},
		{"filter not here", "{{ 'x'|pprint }}", "unsupported: filter pprint in a chat template", false, true},
		{"bytes", "\xff", "the source is not valid UTF-8", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tmpl, err := chattemplate.Parse("t", tt.source)
			if err == nil {
				_, err = tmpl.Render(context.Background(), nil, chattemplate.Options{})
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v\nwant %s", err, tt.want)
			}
			var e *chattemplate.Error
			if errors.As(err, &e) && e.Raised() != tt.raised {
				t.Errorf("Raised() = %v", e.Raised())
			}
			var u *tensor.UnsupportedError
			if errors.As(err, &u) != tt.unsupported {
				t.Errorf("unsupported: %v", err)
			}
		})
	}
}

// TestParseJSON compares with encoding/json where both read a text, and checks
// what only Python's json takes or refuses.
func TestParseJSON(t *testing.T) {
	tmpl, err := chattemplate.Parse("dump", "{{ v|tojson(separators=(',', ':')) }}")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		in, want string // no want: an error
	}{
		{`{"b":1,"a":[true,false,null,"x"]}`, `{"b":1,"a":[true,false,null,"x"]}`},
		{` [ 1 , -2 , 2.50 , 1e3 , 1E-7, 0 , -0 ] `, `[1,-2,2.5,1000.0,1e-07,0,0]`},
		{`"\u00e9\ud83d\ude00\/\b\f\n\r\t\"\\"`, `"é😀/\b\f\n\r\t\"\\"`},
		{`"\ud800x"`, "\"\uFFFDx\""},
		{`{"a":1,"b":2,"a":3}`, `{"a":3,"b":2}`},
		{`123456789012345678901234567890`, `123456789012345678901234567890`},
		{`[NaN,Infinity,-Infinity,1e999]`, `[NaN,Infinity,-Infinity,Infinity]`},
		{`-0.0`, `-0.0`},
		{``, ``}, {`[1,]`, ``}, {`{"a":1,}`, ``}, {`{a:1}`, ``}, {`01`, ``}, {`1.`, ``}, {`.5`, ``}, {`+1`, ``}, {`-`, ``}, {`[1`, ``},
		{`"a`, ``}, {"\"\n\"", ``}, {`"\x"`, ``}, {`"\u12"`, ``}, {`nul`, ``}, {`1 2`, ``}, {"\"\xff\"", ``},
		{strings.Repeat("[", 100000), ``}, {strings.Repeat("9", 5000), ``},
	} {
		v, err := chattemplate.ParseJSON([]byte(tt.in))
		if tt.want == "" {
			if err == nil {
				t.Errorf("%.40q: no error", tt.in)
			} else if !strings.HasPrefix(err.Error(), "parse JSON: ") {
				t.Errorf("%.40q: %v", tt.in, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tt.in, err)
			continue
		}
		got, err := tmpl.Render(context.Background(), chattemplate.NewDict().Set("v", v), chattemplate.Options{})
		if err != nil || got != tt.want {
			t.Errorf("%q: got %s, %v, want %s", tt.in, got, err, tt.want)
		}
		if json.Valid([]byte(tt.in)) && json.Valid([]byte(tt.want)) != json.Valid([]byte(got)) {
			t.Errorf("%q: %s is not JSON", tt.in, got)
		}
	}
}

// TestConcurrentRenders: a template may be rendered from many goroutines.
func TestConcurrentRenders(t *testing.T) {
	tmpl, err := chattemplate.Parse("t", "{% macro m(a) %}{{ a }}{% endmacro %}{% for i in range(50) %}{{ m(i) }}{{ x }}{% endfor %}")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan string)
	for _, x := range []string{"a", "b", "c", "d"} {
		go func() {
			out, err := tmpl.Render(context.Background(), chattemplate.NewDict().Set("x", chattemplate.Str(x)), chattemplate.Options{})
			if err != nil || strings.Count(out, x) != 50 {
				out = x + ": " + out
			} else {
				out = ""
			}
			done <- out
		}()
	}
	for range 4 {
		if out := <-done; out != "" {
			t.Error(out)
		}
	}
}
