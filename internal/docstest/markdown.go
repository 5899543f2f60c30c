package docstest

import (
	"regexp"
	"strings"
	"unicode"
)

// Document is what is looked at in a Markdown file.
type Document struct {
	Blocks   []Block
	Links    []Link
	Spans    []Span
	Messages []Span // code spans in the first column of tables of messages
	Anchors  map[string]bool
}

// Block is a fenced block.
type Block struct {
	Line int    // of its first line of text, from 1
	Info string // what follows the opening fence
	Text string
}

// Link is the target of a link or an image.
type Link struct {
	Line   int
	Target string
}

// Span is code in running text.
type Span struct {
	Line int
	Text string
}

// messagesMark stands on a line of its own before a table of messages.
const messagesMark = "<!-- messages -->"

var (
	fence     = regexp.MustCompile("^\\s*(?:[-*+>] +|[0-9]+[.)] +)?(`{3,}|~{3,})\\s*([^`]*)$")
	heading   = regexp.MustCompile(`^#{1,6} +(.*?) *#*$`)
	inline    = regexp.MustCompile(`\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)`)
	reference = regexp.MustCompile(`^\s{0,3}\[[^\]]+\]:\s+(\S+)`)
	attribute = regexp.MustCompile(`\b(?:src|href)="([^"]+)"`)
	codeSpan  = regexp.MustCompile("(`+)(.+?)(`+)")
	markup    = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// Read takes a Markdown file apart.
func Read(text string) Document {
	d := Document{Anchors: map[string]bool{}}
	var open string // the fence of the block we are in
	var block Block
	table := 0 // 1 behind the mark, 2 in its table
	for i, line := range strings.Split(text, "\n") {
		if open != "" {
			if t := strings.TrimSpace(line); strings.HasPrefix(t, open) && strings.Trim(t, open[:1]) == "" {
				d.Blocks, open = append(d.Blocks, block), ""
				continue
			}
			block.Text += line + "\n"
			continue
		}
		if m := fence.FindStringSubmatch(line); m != nil {
			open, block = m[1], Block{Line: i + 2, Info: strings.TrimSpace(m[2])}
			continue
		}
		switch trimmed := strings.TrimSpace(line); {
		case trimmed == messagesMark:
			table = 1
		case strings.HasPrefix(trimmed, "|") && table > 0:
			table = 2
			cell, _, _ := strings.Cut(trimmed[1:], " |")
			for _, s := range spans(cell) {
				d.Messages = append(d.Messages, Span{i + 1, s})
			}
		case table == 2 || trimmed != "":
			table = 0
		}
		if m := heading.FindStringSubmatch(line); m != nil {
			d.anchor(m[1])
		}
		for _, s := range spans(line) {
			d.Spans = append(d.Spans, Span{i + 1, s})
		}
		plain := codeSpan.ReplaceAllString(line, "code")
		for _, re := range []*regexp.Regexp{inline, reference, attribute} {
			for _, m := range re.FindAllStringSubmatch(plain, -1) {
				d.Links = append(d.Links, Link{i + 1, m[1]})
			}
		}
	}
	if open != "" { // never closed
		block.Info = ""
		d.Blocks = append(d.Blocks, block)
	}
	return d
}

// spans lists the code spans of a line.
func spans(line string) []string {
	var out []string
	for _, m := range codeSpan.FindAllStringSubmatch(line, -1) {
		if len(m[1]) == len(m[3]) {
			out = append(out, strings.ReplaceAll(m[2], `\|`, "|"))
		}
	}
	return out
}

// anchor adds the name that GitHub and GitLab give a heading: letters and digits
// in lower case, hyphens for spaces.
func (d *Document) anchor(title string) {
	title = strings.ReplaceAll(markup.ReplaceAllString(title, "$1"), "`", "")
	var b strings.Builder
	for _, r := range strings.ToLower(title) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	name := b.String()
	for n := 1; d.Anchors[name]; n++ {
		name = b.String() + "-" + string(rune('0'+n%10))
	}
	d.Anchors[name] = true
}
