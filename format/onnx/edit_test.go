package onnx_test

import (
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// chain is x -> Neg -> a -> Abs -> b -> Exp -> y, and a node nobody needs.
func chain() *onnx.Graph {
	g := onnx.NewGraph("chain")
	in(g, "x", onnx.F32, 2)
	g.Node("", "Neg", "neg", list("x"), list("a"))
	g.Node("", "Abs", "abs", list("a"), list("b"))
	zeros(g, "unused", onnx.F32, 2)
	g.Node("", "Add", "dead", list("a", "unused"), list("c"))
	g.Node("", "Exp", "exp", list("b"), list("y"))
	g.Output("y", onnx.F32, onnx.Fixed(2))
	return g
}

func nodeNames(g *onnx.Graph) string {
	var names []string
	for _, n := range g.Nodes {
		names = append(names, n.Name)
	}
	return strings.Join(names, " ")
}

// body is an If whose branches read outer from the graph around them.
func body(outer string) onnx.Attr {
	b := onnx.NewGraph("branch")
	b.Node("", "Exp", "inner", []string{outer}, []string{"r"})
	b.Outputs = append(b.Outputs, onnx.Value{Name: "r", Elem: onnx.F32})
	return onnx.Attr{Name: "then_branch", Type: onnx.AttrGraph, Graph: b}
}

func TestIndex(t *testing.T) {
	g := chain()
	g.Node("", "If", "if", list(scalar(g, "cond", true)), list("z"), body("b"))
	x := g.Index()
	if n := x.Producer("b"); n == nil || n.Name != "abs" {
		t.Errorf("producer of b is %v", n)
	}
	if x.Producer("x") != nil || x.Input("x") == nil || x.Initializer("unused") == nil || !x.IsOutput("y") {
		t.Error("x, unused and y are not what they are")
	}
	var users []string
	for _, n := range x.Consumers("b") {
		users = append(users, n.Name)
	}
	if got := strings.Join(users, " "); got != "exp if" {
		t.Errorf("consumers of b are %q, want exp and the If whose body reads it", got)
	}
}

func TestEdit(t *testing.T) {
	g := chain()
	copied := g.Clone()
	abs := g.Nodes[1]
	g.InsertBefore(abs, &onnx.Node{Op: "Sin", Name: "sin", Inputs: list("a"), Outputs: list("s")})
	g.ReplaceUses("b", "s")
	g.Prune()
	if got := nodeNames(g); got != "neg sin exp" {
		t.Errorf("after editing: %s", got)
	}
	if len(g.Initializers) != 0 {
		t.Errorf("Prune left initializer %q", g.Initializers[0].Name)
	}
	g.Replace(g.Nodes[1], &onnx.Node{Op: "Cos", Name: "cos", Inputs: list("a"), Outputs: list("s")})
	g.RemoveNodes(func(n *onnx.Node) bool { return n.Name == "neg" })
	if got := nodeNames(g); got != "cos exp" {
		t.Errorf("after replacing and removing: %s", got)
	}
	if got := nodeNames(copied); got != "neg abs dead exp" || copied.Nodes[3].Inputs[0] != "b" {
		t.Errorf("the copy changed: %s", got)
	}
}

func TestReplaceUsesInBody(t *testing.T) {
	g := chain()
	branch := body("b")
	g.Node("", "If", "if", list(scalar(g, "cond", true)), list("z"), branch)
	g.ReplaceUses("b", "a")
	if got := branch.Graph.Nodes[0].Inputs[0]; got != "a" {
		t.Errorf("the body reads %q, want a", got)
	}
}

func TestSort(t *testing.T) {
	g := chain()
	g.Nodes[0], g.Nodes[3] = g.Nodes[3], g.Nodes[0] // exp abs dead neg
	if err := g.Sort(); err != nil {
		t.Fatal(err)
	}
	if got := nodeNames(g); got != "neg abs exp dead" {
		t.Errorf("sorted: %s", got)
	}
	g.Nodes[0].Inputs[0] = "y"
	if err := g.Sort(); err == nil || !strings.Contains(err.Error(), "waits for itself") {
		t.Errorf("a cycle: %v", err)
	}
}

func TestLayout(t *testing.T) {
	l := &onnx.Layout{Location: "w.data"}
	for _, c := range []struct{ length, offset, size int64 }{
		{1, 0, 1},
		{4096, 4096, 8192},
		{0, 0, 8192},
		{1, 8192, 8193},
		{1 << 20, 65536, 65536 + 1<<20}, // big: 64 KiB
		{1<<20 - 1, 65536 + 1<<20, 65536 + 2<<20 - 1},
	} {
		e, err := l.Place("t", c.length)
		if err != nil {
			t.Fatal(err)
		}
		if e.Offset != c.offset || e.Length != c.length || e.Location != "w.data" || l.Size() != c.size {
			t.Errorf("%d bytes placed at %d, file size %d; want %d and %d", c.length, e.Offset, l.Size(), c.offset, c.size)
		}
	}
	if len(l.Ranges()) != 6 {
		t.Errorf("%d ranges, want 6", len(l.Ranges()))
	}
	for _, length := range []int64{-1, 1<<63 - 1} {
		if _, err := l.Place("impossible", length); err == nil {
			t.Errorf("placed %d bytes", length)
		}
	}
	odd := &onnx.Layout{Align: 3}
	if _, err := odd.Place("t", 1); err == nil {
		t.Error("took an alignment of 3")
	}
}
