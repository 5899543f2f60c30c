package togguf

import "strings"

// card is what the front matter of a model card (README.md) says, of the keys
// that are plain texts or lists of such: a small part of YAML, which is all that
// model cards use for them. Keys of any other shape are left out.
type card map[string][]string

// parseCard reads the front matter; nil where there is none.
func parseCard(readme string) card {
	lines := strings.Split(strings.ReplaceAll(readme, "\r\n", "\n"), "\n")
	if lines[0] != "---" {
		return nil
	}
	c := card{}
	key := ""
	broken := map[string]bool{}
	for _, line := range lines[1:] {
		text := strings.TrimRight(line, " \t")
		item, isItem := strings.CutPrefix(strings.TrimLeft(text, " \t"), "- ")
		switch {
		case text == "---":
			for k := range broken {
				delete(c, k)
			}
			return c
		case text == "", strings.HasPrefix(strings.TrimSpace(text), "#"):
		case isItem && key != "" && !isMapping(item):
			c[key] = append(c[key], scalar(item))
		case isItem, text[0] == ' ', text[0] == '\t':
			broken[key] = true // nested
		default:
			name, value, ok := strings.Cut(text, ":")
			if !ok {
				continue
			}
			key, value = strings.TrimSpace(name), strings.TrimSpace(value)
			list, isFlow := strings.CutPrefix(value, "[")
			switch {
			case value == "":
			case strings.HasPrefix(value, "|"), strings.HasPrefix(value, ">"), strings.HasPrefix(value, "{"), strings.HasPrefix(value, "&"):
				broken[key] = true
			case isFlow && strings.HasSuffix(list, "]"):
				for _, v := range strings.Split(strings.TrimSuffix(list, "]"), ",") {
					if v = scalar(v); v != "" {
						c[key] = append(c[key], v)
					}
				}
			default:
				c[key] = []string{scalar(value)}
			}
		}
	}
	return nil // never closed
}

// isMapping reports whether a list's item is a mapping rather than a text.
func isMapping(item string) bool {
	return strings.Contains(item, ": ") || strings.HasSuffix(item, ":")
}

// scalar takes quotes and comments off a text.
func scalar(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 1 && (s[0] == '"' || s[0] == '\'') {
		if end := strings.IndexByte(s[1:], s[0]); end >= 0 {
			return s[1 : 1+end]
		}
	}
	if i := strings.Index(s, " #"); i >= 0 {
		s = strings.TrimSpace(s[:i])
	}
	return s
}

// first is the first of the named keys' texts, "" where none is there.
func (c card) first(keys ...string) string {
	for _, k := range keys {
		if len(c[k]) > 0 {
			return c[k][0]
		}
	}
	return ""
}

// all joins the lists of the named keys.
func (c card) all(keys ...string) []string {
	var list []string
	for _, k := range keys {
		list = append(list, c[k]...)
	}
	return list
}
