package docstest

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"mvdan.cc/sh/v3/syntax"

	"github.com/llama-pajamas/llama-pajamas/internal/cli"
)

// programs are ours, by name.
var programs = map[string]cli.Program{
	"llama-pajamas-quant":    cli.Quant,
	"llama-pajamas-run":      cli.RunAny,
	"llama-pajamas-run-onnx": cli.RunONNX,
}

// wrappers start the program that stands somewhere behind them.
var wrappers = []string{
	"sudo", "env", "time", "nice", "chrt", "taskset", "numactl", "exec", "nohup", "timeout", "systemd-run",
	"docker", "podman", "ssh", "watch", "xargs", "xcrun", "perf", "strace",
}

// Repository is what commands may name.
type Repository struct {
	Root    string
	Module  string
	targets map[string]bool
}

var target = regexp.MustCompile(`(?m)^([A-Za-z0-9_.-]+):`)

// OpenRepository reads the Makefile of a checkout.
func OpenRepository(root, module string) (*Repository, error) {
	text, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		return nil, fmt.Errorf("read the make targets: %w", err)
	}
	r := &Repository{Root: root, Module: module, targets: map[string]bool{}}
	for _, m := range target.FindAllSubmatch(text, -1) {
		r.targets[string(m[1])] = true
	}
	return r, nil
}

// Problem is what is wrong with a line of a block, counted from 0.
type Problem struct {
	Line int
	Text string
}

// problems collects.
type problems []Problem

func (p *problems) add(line int, format string, a ...any) {
	*p = append(*p, Problem{line, fmt.Sprintf(format, a...)})
}

// word is one word of a command. What a shell puts in for an expansion is not
// known here and stands as 1.
type word struct {
	text  string
	known bool
}

// Shell checks commands. dir is the folder, relative to the root, of the file
// they stand in.
func (r *Repository) Shell(text, dir string) []Problem {
	var out problems
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), "")
	if err != nil {
		line := 0
		if e, ok := err.(syntax.ParseError); ok {
			line = int(e.Pos.Line()) - 1
		}
		out.add(line, "not a shell command: %v", err)
		return out
	}
	functions := map[string]bool{}
	syntax.Walk(file, func(n syntax.Node) bool {
		if f, ok := n.(*syntax.FuncDecl); ok {
			functions[f.Name.Value] = true
		}
		return true
	})
	syntax.Walk(file, func(n syntax.Node) bool {
		if call, ok := n.(*syntax.CallExpr); ok && len(call.Args) > 0 {
			words := make([]word, len(call.Args))
			for i, w := range call.Args {
				words[i] = literal(w)
			}
			if !functions[words[0].text] {
				r.call(words, dir, int(call.Pos().Line())-1, &out)
			}
		}
		return true
	})
	return out
}

// literal is the text of a word, as far as it is fixed.
func literal(w *syntax.Word) word {
	out := word{known: true}
	var add func(parts []syntax.WordPart)
	add = func(parts []syntax.WordPart) {
		for _, p := range parts {
			switch p := p.(type) {
			case *syntax.Lit:
				out.text += strings.ReplaceAll(p.Value, "\\", "")
			case *syntax.SglQuoted:
				out.text += p.Value
			case *syntax.DblQuoted:
				add(p.Parts)
			default:
				out.text, out.known = out.text+"1", false
			}
		}
	}
	add(w.Parts)
	if strings.Contains(out.text, "…") {
		out.text, out.known = strings.ReplaceAll(out.text, "…", "1"), false
	}
	return out
}

// call checks one command.
func (r *Repository) call(words []word, dir string, line int, out *problems) {
	name := words[0].text
	if p, ok := programs[path.Base(name)]; ok {
		for _, problem := range checkCall(p, words[1:]) {
			out.add(line, "%s", problem)
		}
		return
	}
	if slices.Contains(wrappers, name) {
		for i, w := range words[1:] {
			if _, ok := programs[path.Base(w.text)]; ok && (i == 0 || words[i].text != "--name") {
				r.call(words[i+1:], dir, line, out)
				return
			}
		}
		return
	}
	switch name {
	case "make":
		r.makeTargets(words[1:], line, out)
	case "go":
		for _, w := range words[1:] {
			pkg, _, _ := strings.Cut(w.text, "@")
			if rest, ok := strings.CutPrefix(pkg, r.Module); ok && (rest == "" || rest[0] == '/') {
				pkg = "./" + strings.TrimPrefix(rest, "/")
			}
			if !w.known || !strings.HasPrefix(pkg, "./") {
				continue
			}
			if !r.exists(strings.TrimSuffix(pkg, "..."), "", dir) {
				out.add(line, "go %s: there is no %s", words[1].text, w.text)
			}
			if words[1].text == "run" {
				break // the rest is the program's
			}
		}
	default:
		if strings.HasPrefix(name, "-") {
			out.add(line, "%s begins a command: end the line before with \\", name)
		}
		if words[0].known && strings.Contains(name, "/") && !path.IsAbs(name) && !strings.HasPrefix(name, "~") && !r.exists(name, "", dir) {
			out.add(line, "there is no %s", name)
		}
	}
}

func (r *Repository) makeTargets(words []word, line int, out *problems) {
	for _, w := range words {
		switch {
		case w.text == "-C":
			return // another Makefile
		case !w.known, strings.HasPrefix(w.text, "-"), strings.Contains(w.text, "="):
		case !r.targets[w.text]:
			out.add(line, "the Makefile has no target %q", w.text)
		}
	}
}

// exists reports whether a path is there, from one of the folders.
func (r *Repository) exists(name string, from ...string) bool {
	return slices.ContainsFunc(from, func(dir string) bool {
		_, err := os.Stat(filepath.Join(r.Root, filepath.FromSlash(dir), filepath.FromSlash(name)))
		return err == nil
	})
}

// checkCall parses a command line as the program itself does, short of running it.
func checkCall(p cli.Program, words []word) []string {
	args, whole := make([]string, len(words)), true
	for i, w := range words {
		args[i] = w.text
		whole = whole && w.known
	}
	cmd, rest, problem := find(p, args)
	if problem != "" {
		return []string{problem}
	}
	if err := cmd.ParseFlags(rest); err != nil {
		if err == pflag.ErrHelp {
			return nil
		}
		return []string{fmt.Sprintf("%s: %v", cmd.CommandPath(), err)}
	}
	if help, _ := cmd.Flags().GetBool("help"); help || cmd.Name() == "help" {
		return nil
	}
	var out []string
	if err := cmd.ValidateRequiredFlags(); err != nil && whole {
		out = append(out, fmt.Sprintf("%s: %v", cmd.CommandPath(), err))
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil && whole {
		out = append(out, fmt.Sprintf("%s: %v", cmd.CommandPath(), err))
	}
	return out
}

// find walks down to the command that args name.
func find(p cli.Program, args []string) (cmd *cobra.Command, rest []string, problem string) {
	root := cli.Tree(p)
	cmd, rest, err := root.Find(args)
	if err != nil {
		return nil, nil, err.Error()
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	if cmd == root {
		for _, a := range rest {
			if !strings.HasPrefix(a, "-") {
				return nil, nil, fmt.Sprintf("%s has no command %q", root.Name(), a)
			}
		}
	}
	return cmd, rest, ""
}

var (
	synopsis = strings.NewReplacer("[", " ", "]", " ", "|", " ", "{", " ", "}", " ")
	flagName = regexp.MustCompile(`^--([a-z][a-z0-9-]*)`)
	oneFlag  = regexp.MustCompile(`^-([a-zA-Z])$`)
)

// Usage checks a synopsis, or code in running text: that the command and the
// flags exist. Lines that do not begin with one of our programs or with make
// are passed over; a line that is indented goes on with the one before.
func (r *Repository) Usage(text string) []Problem {
	var out problems
	text = regexp.MustCompile(`\\?\n[ \t]+`).ReplaceAllString(text, " ")
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, " # ")
		fields := strings.Fields(synopsis.Replace(line))
		if len(fields) == 0 {
			continue
		}
		p, ok := programs[path.Base(fields[0])]
		if !ok {
			if fields[0] == "make" && len(fields) == 2 && regexp.MustCompile(`^[a-z-]+$`).MatchString(fields[1]) {
				r.makeTargets([]word{{fields[1], true}}, i, &out)
			}
			continue
		}
		var names []string // up to the first flag: commands and arguments
		for _, f := range fields[1:] {
			if strings.HasPrefix(f, "-") {
				break
			}
			names = append(names, f)
		}
		if len(names) > 0 && (names[0] == "…" || names[0] == "...") || len(names) > 0 && strings.ToUpper(names[0]) == names[0] {
			continue // any command
		}
		cmd, _, problem := find(p, names)
		if problem != "" {
			out.add(i, "%s", problem)
			continue
		}
		if len(names) == 0 && len(fields) > 1 && flagName.MatchString(fields[1]) && lookup(cmd, fields[1]) == nil {
			out.add(i, "%s: there is no flag %s", cmd.CommandPath(), fields[1])
		}
		if len(names) == 0 {
			continue
		}
		for _, f := range fields[1:] {
			if f == "--" {
				break
			}
			if (flagName.MatchString(f) || oneFlag.MatchString(f)) && lookup(cmd, f) == nil {
				out.add(i, "%s: there is no flag %s", cmd.CommandPath(), f)
			}
		}
	}
	return out
}

// lookup finds a flag of a command by its spelling.
func lookup(cmd *cobra.Command, spelled string) *pflag.Flag {
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	if m := flagName.FindStringSubmatch(spelled); m != nil {
		return cmd.Flag(m[1])
	}
	m := oneFlag.FindStringSubmatch(spelled)
	if f := cmd.Flags().ShorthandLookup(m[1]); f != nil {
		return f
	}
	return cmd.InheritedFlags().ShorthandLookup(m[1])
}
