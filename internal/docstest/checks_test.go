package docstest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func repository(t *testing.T) *Repository {
	t.Helper()
	r, err := OpenRepository("../..", "github.com/llama-pajamas/llama-pajamas")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// text joins what is wrong with a block.
func text(list []Problem) string {
	var lines []string
	for _, p := range list {
		lines = append(lines, p.Text)
	}
	return strings.Join(lines, "\n")
}

func TestShell(t *testing.T) {
	r := repository(t)
	for _, c := range []struct{ name, command, want string }{
		{"well", "llama-pajamas-quant convert --model x --output y --target-eps CPU,CoreML --threads 2", ""},
		{"left out", "llama-pajamas-quant inspect … && llama-pajamas-quant convert … --dry-run", ""},
		{"variable", `llama-pajamas-run chat --model "$MODEL" --context $N`, ""},
		{"help", "llama-pajamas-run --help; llama-pajamas-run help chat; llama-pajamas-run --version", ""},
		{"completion", "llama-pajamas-run completion bash > file", ""},
		{"command", "llama-pajamas-quant konvert --model x", `no command "konvert"`},
		{"flag", "bin/llama-pajamas-quant convert --modell x", "unknown flag: --modell"},
		{"value", "llama-pajamas-run chat --model x --context many", "--context"},
		{"arguments", "llama-pajamas-quant convert x", "x"},
		{"in a pipe", "echo x | llama-pajamas-run generate --nowhere", "--nowhere"},
		{"in a substitution", `x="$(llama-pajamas-run nowhere)"`, `no command "nowhere"`},
		{"in a loop", "for i in 1 2; do llama-pajamas-run chat --nowhere; done", "--nowhere"},
		{"behind a wrapper", "sudo -u x nice llama-pajamas-run chat --nowhere", "--nowhere"},
		{"continued", "llama-pajamas-run chat \\\n  --model x \\\n  --nowhere", "--nowhere"},
		{"not continued", "llama-pajamas-run chat\n  --model x", "end the line before"},
		{"target", "make build test", ""},
		{"no target", "make bild", `no target "bild"`},
		{"package", "go test ./internal/docstest ./format/...", ""},
		{"arguments of a package", "go run ./internal/release -output ./nowhere", ""},
		{"no package", "go run ./nowhere", "there is no ./nowhere"},
		{"package by path", "go install github.com/llama-pajamas/llama-pajamas/cmd/nowhere@latest", "there is no"},
		{"script", ".ci/run", ""},
		{"no script", ".ci/walk", "there is no .ci/walk"},
		{"no shell", "if then", "not a shell command"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := text(r.Shell(c.command, "docs"))
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	r := repository(t)
	for _, c := range []struct{ name, text, want string }{
		{"well", "llama-pajamas-quant verify MODEL [--source CHECKPOINT | --reference-logits FILE]", ""},
		{"continued", "llama-pajamas-quant verify MODEL\n    [--nowhere]", "--nowhere"},
		{"flag", "llama-pajamas-quant verify [--sauce X]", "--sauce"},
		{"command", "llama-pajamas-quant verefy", "verefy"},
		{"any command", "llama-pajamas-run COMMAND --help", ""},
		{"program alone", "llama-pajamas-run", ""},
		{"version", "llama-pajamas-run --version", ""},
		{"no such", "llama-pajamas-run --vision", "--vision"},
		{"target", "make nowhere", "nowhere"},
		{"prose", "make it so", ""},
		{"others", "kubectl get --nowhere", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := text(r.Usage(c.text))
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestFiles(t *testing.T) {
	r := repository(t)
	for _, c := range []struct {
		name  string
		check func(text, dir string) []Problem
		text  string
		want  string
	}{
		{"container", r.Dockerfile, "# x\nFROM debian:13\nRUN apt-get update && \\\n    make build\nENTRYPOINT [\"/usr/bin/llama-pajamas-run\"]\nCMD [\"doctor\"]\n", ""},
		{"heredoc", r.Dockerfile, "FROM a AS b\nRUN <<EOF\nllama-pajamas-run nowhere\nEOF\n", "nowhere"},
		{"no instruction", r.Dockerfile, "FROM a\nRAN x\n", "RAN x"},
		{"no FROM", r.Dockerfile, "RUN x\n", "before FROM"},
		{"entry point", r.Dockerfile, "FROM a\nENTRYPOINT [\"llama-pajamas-run\"]\nCMD [\"nowhere\"]\n", "nowhere"},
		{"no list", r.Dockerfile, "FROM a\nCMD ['x']\n", "no list"},
		{"unit", r.Unit, "[Unit]\nDescription=x\n\n[Service]\nExecStart=/usr/bin/llama-pajamas-run generate \\\n  --model x\nMemoryMax=4G\n", ""},
		{"key", r.Unit, "[Service]\nMemoriMax=4G\n", "MemoriMax"},
		{"section", r.Unit, "[Servis]\n", "Servis"},
		{"command", r.Unit, "[Service]\nExecStart=-/usr/bin/llama-pajamas-run nowhere\n", "nowhere"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := text(c.check(c.text, "."))
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	for i, bad := range []error{YAML("a: [b"), YAML("a: b\n---\n- c\nd"), JSON("{"), Go("func ("), Go("x := ")} {
		if bad == nil {
			t.Errorf("broken text %d is taken", i)
		}
	}
	for _, well := range []error{YAML("a: [b]\n---\nc"), JSON(`{"a": 1}`), Go("x := 1\n_ = x"), Go("func f() {}"), Go("package p")} {
		if well != nil {
			t.Error(well)
		}
	}
}

func TestMessages(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.go")
	source := "package p\n\nvar a, b = \"not enough memory: \" + n + \" needed\", \"the file %s is not\\nthere\"\n\n// a comment is not a message\n"
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Source{}
	if err := s.Add(file); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text string
		well bool
	}{
		{"not enough memory: … needed", true},
		{"the file … is not there", true},
		{"not enough disk: …", false},
		{"a comment is not a message", false},
		{"… needed", false}, // nothing long enough
	} {
		if got := s.Message(c.text); (got == "") != c.well {
			t.Errorf("%q: %q", c.text, got)
		}
	}
}

func TestRead(t *testing.T) {
	d := Read(strings.Join([]string{
		"# A `b` c!", "See [x](y.md#z) and `[no](link)`.", "![i](i.svg \"t\")", "", messagesMark, "", "| message | why |", "|---|---|", "| `it is so` | `b` |", "",
		"- item", "  ```sh run", "  make x", "  ```", "## a b c", "```text", "# no heading", "```",
	}, "\n"))
	want := Document{
		Blocks:   []Block{{13, "sh run", "  make x\n"}, {17, "text", "# no heading\n"}},
		Links:    []Link{{2, "y.md#z"}, {3, "i.svg"}},
		Spans:    []Span{{1, "b"}, {2, "[no](link)"}, {9, "it is so"}, {9, "b"}},
		Messages: []Span{{9, "it is so"}},
		Anchors:  map[string]bool{"a-b-c": true, "a-b-c-1": true},
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
}
