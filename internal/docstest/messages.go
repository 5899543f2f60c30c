package docstest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Source is the text of all string literals of programs.
type Source struct{ literals []string }

// minPiece is the length from which a piece of a message is worth looking for.
const minPiece = 8

// Add reads a Go file, or any other as one text.
func (s *Source) Add(file string) error {
	if filepath.Ext(file) != ".go" {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read messages: %w", err)
		}
		s.literals = append(s.literals, string(text))
		return nil
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("read messages: %w", err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		text, whole := constant(e)
		if text != "" {
			s.literals = append(s.literals, text)
		}
		return !whole
	})
	return nil
}

// constant is the text of literals that are added, with \x00 for what is not a
// literal. whole is false where e is no string at all.
func constant(e ast.Expr) (text string, whole bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.ParenExpr:
		return constant(e.X)
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", false
		}
		left, ok := constant(e.X)
		right, alsoOK := constant(e.Y)
		if !ok {
			left = "\x00"
		}
		if !alsoOK {
			right = "\x00"
		}
		if !ok && !alsoOK {
			return "", false
		}
		return left + right, ok && alsoOK
	}
	return "", false
}

// Message checks a message as the documentation quotes it, and says what is
// wrong; "" is well.
func (s *Source) Message(quoted string) string {
	found := false
	for piece := range strings.SplitSeq(quoted, "…") {
		piece = strings.TrimSpace(piece)
		if len(piece) < minPiece {
			continue
		}
		found = true
		if !s.has(piece) {
			return fmt.Sprintf("no source has a message with %q (write … for what varies)", piece)
		}
	}
	if !found {
		return fmt.Sprintf("%q has no piece of %d letters that could be looked for", quoted, minPiece)
	}
	return ""
}

func (s *Source) has(piece string) bool {
	for _, l := range s.literals {
		if strings.Contains(l, piece) || strings.Contains(strings.ReplaceAll(l, "\n", " "), piece) {
			return true
		}
	}
	return false
}
