package chattemplate_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/llama-pajamas/llama-pajamas/chattemplate"
)

// FuzzTemplate parses and renders any source with small limits: no panic, and
// no output over the limit. The seeds are the cases of the semantics test, the
// hostile templates and the smaller real ones.
func FuzzTemplate(f *testing.F) {
	for _, c := range semantics() {
		f.Add(c.Source)
	}
	for _, h := range hostile {
		if len(h.source) < 1000 {
			f.Add(h.source)
		}
	}
	for _, source := range repositoryTemplates(f) {
		if len(source) < 4000 {
			f.Add(source)
		}
	}
	v, err := chattemplate.ParseJSON([]byte(semanticsVars))
	if err != nil {
		f.Fatal(err)
	}
	vars := v.(*chattemplate.Dict)
	_, conversations := readConversations(f)
	c, err := chattemplate.ParseJSON(conversations["tool call"])
	if err != nil {
		f.Fatal(err)
	}
	chat := conversation(c.(*chattemplate.Dict)).Vars()
	o := chattemplate.Options{
		MaxSteps: 20_000, MaxOutput: 1 << 16, MaxMemory: 1 << 20, MaxDepth: 20, Timeout: time.Second,
	}
	f.Fuzz(func(t *testing.T, source string) {
		tmpl, err := chattemplate.Parse("fuzz", source)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		for _, vars := range []*chattemplate.Dict{vars, chat} {
			out, err := tmpl.Render(context.Background(), vars, o)
			if len(out) > o.MaxOutput || err != nil && out != "" {
				t.Errorf("%d bytes of output, error %v", len(out), err)
			}
		}
	})
}

// FuzzParseJSON: no panic; what is read prints as JSON that reads back to the
// same text, and encoding/json takes it too.
func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{
		semanticsVars, `[1, -2.5e10, "\ud83d\ude00\n\u0000", null, true, {}]`, `{"a":{"b":[]}}`, `"\ud800"`,
		`1e999`, `-0`, `-0.0`, `123456789012345678901234567890`, `[`, `{"a"`, `"\x"`, `01`, `1.`, `NaN`, `-Infinity`, "\"\x01\"", "\xff",
	} {
		f.Add([]byte(seed))
	}
	tmpl, err := chattemplate.Parse("dump", "{{ v|tojson }}")
	if err != nil {
		f.Fatal(err)
	}
	dump := func(t *testing.T, v chattemplate.Value) string {
		out, err := tmpl.Render(context.Background(), chattemplate.NewDict().Set("v", v), chattemplate.Options{})
		if err != nil {
			t.Fatalf("dump: %v", err)
		}
		return out
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := chattemplate.ParseJSON(in)
		if err != nil {
			return
		}
		first := dump(t, v)
		again, err := chattemplate.ParseJSON([]byte(first))
		if err != nil {
			t.Fatalf("%q does not read back: %v", first, err)
		}
		if second := dump(t, again); second != first {
			t.Fatalf("%q reads back as %q", first, second)
		}
	})
}

// BenchmarkRenderQwen3 renders a conversation with tools by Qwen3's template.
func BenchmarkRenderQwen3(b *testing.B) {
	benchmarkRender(b, "Qwen-Qwen3-0.6B")
}

// BenchmarkRenderGPTOSS renders the same by the longest template.
func BenchmarkRenderGPTOSS(b *testing.B) {
	benchmarkRender(b, "openai-gpt-oss-120b")
}

func benchmarkRender(b *testing.B, name string) {
	source, err := os.ReadFile(filepath.Join("testdata", "llama.cpp", name+".jinja"))
	if err != nil {
		b.Fatal(err)
	}
	tmpl, err := chattemplate.Parse(name, string(source))
	if err != nil {
		b.Fatal(err)
	}
	_, conversations := readConversations(b)
	v, err := chattemplate.ParseJSON(conversations["tool call"])
	if err != nil {
		b.Fatal(err)
	}
	c := conversation(v.(*chattemplate.Dict))
	b.ReportAllocs()
	for b.Loop() {
		out, err := tmpl.RenderConversation(context.Background(), c, chattemplate.Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(out)))
	}
}

// BenchmarkParseQwen3 parses Qwen3's template.
func BenchmarkParseQwen3(b *testing.B) {
	source, err := os.ReadFile("testdata/llama.cpp/Qwen-Qwen3-0.6B.jinja")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(source)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := chattemplate.Parse("Qwen3", string(source)); err != nil {
			b.Fatal(err)
		}
	}
}
