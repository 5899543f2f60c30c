package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"github.com/llama-pajamas/llama-pajamas/internal/cli"
)

var trees = map[string]cli.Program{
	"llama-pajamas-quant": cli.Quant, "llama-pajamas-run": cli.RunAny, "llama-pajamas-run-onnx": cli.RunONNX,
}

// documentation is the manual pages and shell completions of all programs.
func documentation(src source) ([]file, error) {
	var files []file
	for _, name := range allPrograms {
		pages, err := manual(cli.Tree(trees[name]), src)
		if err != nil {
			return nil, err
		}
		files = append(files, pages...)
		root := cli.Tree(trees[name])
		for _, shell := range []struct {
			name  string // of the file
			write func(*bytes.Buffer) error
		}{
			{"bash/" + name, func(b *bytes.Buffer) error { return root.GenBashCompletionV2(b, true) }},
			{"zsh/_" + name, func(b *bytes.Buffer) error { return root.GenZshCompletion(b) }},
			{"fish/" + name + ".fish", func(b *bytes.Buffer) error { return root.GenFishCompletion(b, true) }},
			{"powershell/" + name + ".ps1", func(b *bytes.Buffer) error { return root.GenPowerShellCompletionWithDesc(b) }},
		} {
			var b bytes.Buffer
			if err := shell.write(&b); err != nil {
				return nil, fmt.Errorf("write the completion %s: %w", shell.name, err)
			}
			files = append(files, file{name: "completions/" + shell.name, data: b.Bytes()})
		}
	}
	seen := map[string]bool{}
	for _, f := range files {
		if seen[f.name] {
			return nil, fmt.Errorf("two commands have the page %s", f.name)
		}
		seen[f.name] = true
	}
	return files, nil
}

// manual is the pages of a command and of those below it.
func manual(cmd *cobra.Command, src source) ([]file, error) {
	var files []file
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && !sub.IsAdditionalHelpTopicCommand() {
			pages, err := manual(sub, src)
			if err != nil {
				return nil, err
			}
			files = append(files, pages...)
		}
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	cmd.DisableAutoGenTag = true
	cmd.Short, cmd.Long = escape(cmd.Short), paragraphs(cmd.Long)
	plain := func(f *pflag.Flag) {
		// Flags that are inherited are met more than once.
		if f.Annotations["escaped"] == nil {
			f.Usage = escape(strings.ReplaceAll(f.Usage, "\n", " "))
			f.DefValue = escape(f.DefValue)
			f.Annotations = map[string][]string{"escaped": {}}
		}
	}
	cmd.NonInheritedFlags().VisitAll(plain)
	cmd.InheritedFlags().VisitAll(plain)
	var b bytes.Buffer
	err := doc.GenMan(cmd, &doc.GenManHeader{
		Section: "1", Date: &src.time, Source: product + " " + src.version, Manual: product,
	}, &b)
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
	if err != nil {
		return nil, fmt.Errorf("write the manual page %s: %w", name, err)
	}
	return append(files, file{name: "man/man1/" + name, data: b.Bytes()}), nil
}

var special = regexp.MustCompile("[*_`<>\\[\\]|~\\\\]")

// escape takes their meaning in Markdown, of which the pages are made, from the
// characters of a help text.
func escape(text string) string { return special.ReplaceAllString(text, `\$0`) }

var columns = regexp.MustCompile(`(?m)^\s|\S {2,}\S`)

// paragraphs keeps those paragraphs of a help text as they are that are set in
// columns.
func paragraphs(text string) string {
	list := strings.Split(text, "\n\n")
	for i, p := range list {
		if columns.MatchString(p) {
			list[i] = "\t" + strings.ReplaceAll(p, "\n", "\n\t")
			continue
		}
		list[i] = escape(p)
	}
	return strings.Join(list, "\n\n")
}
