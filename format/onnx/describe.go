package onnx

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Describe prints what a model is: versions, metadata, inputs and outputs, how
// often each operator occurs, and every initializer with its size and place.
// Text from the file is quoted, so that it cannot play with a terminal.
func Describe(w io.Writer, m *Model) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "IR version   %d\n", m.IRVersion)
	for _, o := range m.Opsets {
		fmt.Fprintf(b, "operator set %s %d\n", cmp.Or(quote(o.Domain), "ai.onnx"), o.Version)
	}
	fmt.Fprintf(b, "producer     %s %s\n", quote(m.Producer), quote(m.ProducerVersion))
	if m.Doc != "" {
		fmt.Fprintf(b, "doc          %s\n", quote(m.Doc))
	}
	for _, what := range m.Dropped {
		fmt.Fprintf(b, "not read     %s\n", what)
	}
	for _, e := range m.Metadata {
		fmt.Fprintf(b, "metadata     %s = %s\n", quote(e.Key), quote(e.Value))
	}
	if m.Graph != nil {
		describeGraph(b, m.Graph)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("describe ONNX model: %w", err)
	}
	return nil
}

func describeGraph(b *bufio.Writer, g *Graph) {
	fmt.Fprintf(b, "graph        %s\n", quote(g.Name))
	for _, side := range []struct {
		name   string
		values []Value
	}{{"inputs", g.Inputs}, {"outputs", g.Outputs}} {
		fmt.Fprintf(b, "\n%d %s\n", len(side.values), side.name)
		for _, v := range side.values {
			fmt.Fprintf(b, "  %-40s %-9s %s\n", quote(v.Name), v.Elem, quote(v.Shape.String()))
		}
	}
	ops := map[string]int{}
	countOps(g, ops)
	total := 0
	for _, n := range ops {
		total += n
	}
	fmt.Fprintf(b, "\n%d nodes\n", total)
	names := slices.SortedFunc(maps.Keys(ops), func(x, y string) int {
		return cmp.Or(cmp.Compare(ops[y], ops[x]), cmp.Compare(x, y))
	})
	for _, name := range names {
		fmt.Fprintf(b, "  %6d %s\n", ops[name], quote(name))
	}
	fmt.Fprintf(b, "\n%d initializers\n", len(g.Initializers))
	for _, t := range g.Initializers {
		n, _ := t.Bytes()
		where := "inline"
		if t.External != nil {
			where = fmt.Sprintf("%s @%d", quote(t.External.Location), t.External.Offset)
		}
		fmt.Fprintf(b, "  %-40s %-9s %-20s %12d bytes  %s\n", quote(t.Name), t.Elem, t.Shape(), n, where)
	}
	s := g.Sizes()
	fmt.Fprintf(b, "  total %d bytes: %d inline, %d external (shared ranges counted once)\n", s.Inline+s.External, s.Inline, s.External)
}

// Sizes is the stored size of a graph's initializers in bytes.
type Sizes struct {
	Inline   int64
	External int64 // ranges that several initializers share are counted once
}

// Sizes adds up the initializers of the graph, without those of bodies.
func (g *Graph) Sizes() Sizes {
	var s Sizes
	seen := map[External]bool{}
	for _, t := range g.Initializers {
		if t.External == nil {
			s.Inline += int64(len(t.Data))
			continue
		}
		n, ok := t.Bytes()
		key := External{Location: t.External.Location, Offset: t.External.Offset, Length: n}
		if ok && !seen[key] {
			seen[key] = true
			s.External += n
		}
	}
	return s
}

func countOps(g *Graph, ops map[string]int) {
	for _, n := range g.Nodes {
		name := n.Op
		if d := plainDomain(n.Domain); d != DomainONNX {
			name = d + "." + n.Op
		}
		ops[name]++
		for _, a := range n.Attrs {
			if a.Graph != nil {
				countOps(a.Graph, ops)
			}
		}
	}
}

// quote leaves plain text as it is and quotes what a terminal would act on.
func quote(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}
