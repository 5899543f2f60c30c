package hub_test

import (
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/hub"
)

func TestParseRef(t *testing.T) {
	long := strings.Repeat("a", 96)
	for _, tc := range []struct {
		in   string
		want hub.Ref
		ok   bool
	}{
		{"Qwen/Qwen3-8B", hub.Ref{ID: "Qwen/Qwen3-8B"}, true},
		{"a/b", hub.Ref{ID: "a/b"}, true},
		{"_a/b_.c-d", hub.Ref{ID: "_a/b_.c-d"}, true},
		{"a/b@v1.0", hub.Ref{ID: "a/b", Revision: "v1.0"}, true},
		{"a/b@refs/pr/1", hub.Ref{ID: "a/b", Revision: "refs/pr/1"}, true},
		{"a/b:Q4_K_M", hub.Ref{ID: "a/b", Choice: "Q4_K_M"}, true},
		{"a/b@main:*q8_0*.gguf", hub.Ref{ID: "a/b", Revision: "main", Choice: "*q8_0*.gguf"}, true},
		{long + "/" + long, hub.Ref{ID: long + "/" + long}, true},
		{long + "a/b", hub.Ref{}, false},
		{"", hub.Ref{}, false},
		{"gpt2", hub.Ref{}, false},
		{"a/b/c", hub.Ref{}, false},
		{"./model", hub.Ref{}, false},
		{"../model", hub.Ref{}, false},
		{"/model", hub.Ref{}, false},
		{"a/", hub.Ref{}, false},
		{"a/-b", hub.Ref{}, false},
		{"a/b.", hub.Ref{}, false},
		{"a/b--c", hub.Ref{}, false},
		{"a/b..c", hub.Ref{}, false},
		{"a/b.git", hub.Ref{}, false},
		{"a/b c", hub.Ref{}, false},
		{"a/b\n", hub.Ref{}, false},
		{`C:\models\a`, hub.Ref{}, false},
		{"C:/models", hub.Ref{}, false},
		{"a/b@", hub.Ref{}, false},
		{"a/b:", hub.Ref{}, false},
		{"a/b@../x", hub.Ref{}, false},
		{"a/b@/x", hub.Ref{}, false},
		{"a/b@x/", hub.Ref{}, false},
		{"a/b@x//y", hub.Ref{}, false},
		{"a/b@x y", hub.Ref{}, false},
		{"a/b@x~1", hub.Ref{}, false},
		{`a/b@x\y`, hub.Ref{}, false},
		{"a/b@" + strings.Repeat("x", 201), hub.Ref{}, false},
		{"a/b:c/d.gguf", hub.Ref{}, false},
	} {
		got, err := hub.ParseRef(tc.in)
		if got != tc.want || (err == nil) != tc.ok {
			t.Errorf("ParseRef(%q) = %+v, %v; want %+v", tc.in, got, err, tc.want)
		}
		if tc.ok && got.String() != tc.in {
			t.Errorf("%q printed as %q", tc.in, got)
		}
	}
}
