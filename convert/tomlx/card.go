package tomlx

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// cardName is the model card's file.
const cardName = "README.md"

// licenceLine is a line of a card's front matter that says under what licence
// the model is.
var licenceLine = regexp.MustCompile(`(?m)^license(_name|_link)?:[ \t]*\S.*$`)

// card is a short model card: what mlx-lm puts at the head of its own, and how
// the folder is used.
func (o Options) card() []byte {
	var b bytes.Buffer
	b.WriteString("---\nlibrary_name: mlx\npipeline_tag: text-generation\ntags:\n- mlx\n")
	if strings.Contains(o.ID, "/") {
		fmt.Fprintf(&b, "base_model: %s\n", o.ID)
	}
	if head, ok := frontMatter(o.supportFile(cardName)); ok {
		for _, line := range licenceLine.FindAll(head, -1) {
			fmt.Fprintf(&b, "%s\n", bytes.TrimSpace(line))
		}
	}
	b.WriteString("---\n\n")
	fmt.Fprintf(&b, "%s for MLX: %s. Converted by %s %s.\n\n", o.ID, o.Summary(), o.Tool, o.Version)
	b.WriteString("```\npip install mlx-lm\nmlx_lm.generate --model . --prompt \"Hello\"\n```\n")
	return b.Bytes()
}

// frontMatter is the YAML between the two lines of dashes at a card's start.
func frontMatter(card []byte) ([]byte, bool) {
	card = bytes.ReplaceAll(card, []byte("\r\n"), []byte("\n"))
	rest, ok := bytes.CutPrefix(card, []byte("---\n"))
	if !ok {
		return nil, false
	}
	head, _, ok := bytes.Cut(rest, []byte("\n---"))
	return head, ok
}
