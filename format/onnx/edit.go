package onnx

import (
	"fmt"
	"slices"
)

// Index answers who makes and who uses a value. It is a snapshot: make a new
// one after editing the graph.
type Index struct {
	producers    map[string]*Node
	consumers    map[string][]*Node
	initializers map[string]*Initializer
	inputs       map[string]*Value
	outputs      map[string]bool
}

// Index builds the index of a graph. Uses inside the bodies of If and Loop
// count as uses by the node that holds the body.
func (g *Graph) Index() *Index {
	x := &Index{
		producers: map[string]*Node{}, consumers: map[string][]*Node{},
		initializers: map[string]*Initializer{}, inputs: map[string]*Value{}, outputs: map[string]bool{},
	}
	for _, n := range g.Nodes {
		for _, name := range n.Outputs {
			if name != "" {
				x.producers[name] = n
			}
		}
		for _, name := range uses(n) {
			x.consumers[name] = append(x.consumers[name], n)
		}
	}
	for _, t := range g.Initializers {
		x.initializers[t.Name] = t
	}
	for i := range g.Inputs {
		x.inputs[g.Inputs[i].Name] = &g.Inputs[i]
	}
	for _, v := range g.Outputs {
		x.outputs[v.Name] = true
	}
	return x
}

// Producer is the node that makes a value; nil for inputs and initializers.
func (x *Index) Producer(name string) *Node { return x.producers[name] }

// Consumers lists the nodes that use a value, each once, in graph order.
func (x *Index) Consumers(name string) []*Node { return x.consumers[name] }

// Initializer is the constant of that name, nil where there is none.
func (x *Index) Initializer(name string) *Initializer { return x.initializers[name] }

// Input is the graph input of that name, nil where there is none.
func (x *Index) Input(name string) *Value { return x.inputs[name] }

// IsOutput reports whether the graph returns the value.
func (x *Index) IsOutput(name string) bool { return x.outputs[name] }

// uses lists the values a node reads, each once, with those its subgraphs
// take from outside.
func uses(n *Node) []string {
	var names []string
	seen := map[string]bool{"": true}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	for _, name := range n.Inputs {
		add(name)
	}
	for _, a := range n.Attrs {
		if a.Graph != nil {
			for _, name := range captures(a.Graph) {
				add(name)
			}
		}
	}
	return names
}

// captures lists the values a body takes from the graphs around it.
func captures(g *Graph) []string {
	own := map[string]bool{"": true}
	for _, v := range g.Inputs {
		own[v.Name] = true
	}
	for _, t := range g.Initializers {
		own[t.Name] = true
	}
	for _, n := range g.Nodes {
		for _, name := range n.Outputs {
			own[name] = true
		}
	}
	var names []string
	for _, n := range g.Nodes {
		for _, name := range uses(n) {
			if !own[name] {
				names = append(names, name)
			}
		}
	}
	for _, v := range g.Outputs {
		if !own[v.Name] {
			names = append(names, v.Name)
		}
	}
	return names
}

// ReplaceUses makes every node of the graph, bodies included, that reads old
// read new instead. Graph outputs keep their names: where old is one, give the
// node that makes new that name.
func (g *Graph) ReplaceUses(old, new string) {
	for _, n := range g.Nodes {
		for i, name := range n.Inputs {
			if name == old {
				n.Inputs[i] = new
			}
		}
		for _, a := range n.Attrs {
			if a.Graph != nil && slices.Contains(captures(a.Graph), old) {
				a.Graph.ReplaceUses(old, new)
			}
		}
	}
}

// InsertBefore puts nodes before at, in the given order; at the end where the
// graph does not hold at.
func (g *Graph) InsertBefore(at *Node, nodes ...*Node) {
	i := slices.Index(g.Nodes, at)
	if i < 0 {
		i = len(g.Nodes)
	}
	g.Nodes = slices.Insert(g.Nodes, i, nodes...)
}

// Replace puts nodes in the place of old, which leaves the graph.
func (g *Graph) Replace(old *Node, nodes ...*Node) {
	if i := slices.Index(g.Nodes, old); i >= 0 {
		g.Nodes = slices.Replace(g.Nodes, i, i+1, nodes...)
	}
}

// RemoveNodes drops the nodes for which drop says so.
func (g *Graph) RemoveNodes(drop func(*Node) bool) {
	g.Nodes = slices.DeleteFunc(g.Nodes, drop)
}

// Prune drops the nodes, initializers and value infos that no graph output
// needs; nodes must be in execution order. Graph inputs stay: they are the
// caller's contract.
func (g *Graph) Prune() {
	needed := map[string]bool{}
	for _, v := range g.Outputs {
		needed[v.Name] = true
	}
	keep := make([]*Node, 0, len(g.Nodes))
	for _, n := range slices.Backward(g.Nodes) {
		if !slices.ContainsFunc(n.Outputs, func(name string) bool { return needed[name] }) {
			continue
		}
		keep = append(keep, n)
		for _, name := range uses(n) {
			needed[name] = true
		}
	}
	slices.Reverse(keep)
	g.Nodes = keep
	g.Initializers = slices.DeleteFunc(g.Initializers, func(t *Initializer) bool { return !needed[t.Name] })
	made := map[string]bool{}
	for _, n := range g.Nodes {
		for _, name := range n.Outputs {
			made[name] = true
		}
	}
	g.Values = slices.DeleteFunc(g.Values, func(v Value) bool { return !made[v.Name] })
}

// Sort puts the nodes in execution order; nodes that do not depend on each
// other keep their order. It fails where nodes wait for each other.
func (g *Graph) Sort() error {
	waiting := make(map[string][]int) // value -> nodes that need it
	missing := make([]int, len(g.Nodes))
	made := map[string]bool{}
	for _, n := range g.Nodes {
		for _, name := range n.Outputs {
			made[name] = true
		}
	}
	for i, n := range g.Nodes {
		for _, name := range uses(n) {
			if made[name] {
				waiting[name] = append(waiting[name], i)
				missing[i]++
			}
		}
	}
	done := make([]bool, len(g.Nodes))
	sorted := make([]*Node, 0, len(g.Nodes))
	// Taking the first ready node each time keeps the order; the scan restarts
	// no further back than the earliest node that became ready.
	for i := 0; i < len(g.Nodes); {
		if done[i] || missing[i] > 0 {
			i++
			continue
		}
		done[i] = true
		sorted = append(sorted, g.Nodes[i])
		next := i + 1
		for _, name := range g.Nodes[i].Outputs {
			if name == "" {
				continue
			}
			for _, j := range waiting[name] {
				if missing[j]--; missing[j] == 0 {
					next = min(next, j)
				}
			}
			delete(waiting, name)
		}
		i = next
	}
	if len(sorted) < len(g.Nodes) {
		for i, n := range g.Nodes {
			if !done[i] {
				return fmt.Errorf("sort graph %q: %s waits for itself through other nodes", g.Name, n.Label())
			}
		}
	}
	g.Nodes = sorted
	return nil
}
