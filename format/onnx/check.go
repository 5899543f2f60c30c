package onnx

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Problem is one thing wrong with a model.
type Problem struct {
	Node   string // label of the node concerned, "" for the model or a value
	Tensor string // value or initializer concerned, may be ""
	Text   string
}

// String is one sentence that names node and tensor.
func (p Problem) String() string {
	s := p.Text
	if p.Tensor != "" {
		s = fmt.Sprintf("tensor %q: %s", p.Tensor, s)
	}
	if p.Node != "" {
		s = p.Node + ": " + s
	}
	return s
}

// CheckError is a model's list of problems as an error.
type CheckError struct{ Problems []Problem }

func (e *CheckError) Error() string {
	const most = 10
	var b strings.Builder
	fmt.Fprintf(&b, "the ONNX graph has %d problems", len(e.Problems))
	if len(e.Problems) == 1 {
		b.Reset()
		b.WriteString("the ONNX graph is wrong")
	}
	for i, p := range e.Problems {
		if i == most {
			fmt.Fprintf(&b, "; and %d more", len(e.Problems)-most)
			break
		}
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		b.WriteString(sep + p.String())
	}
	return b.String()
}

// CheckOptions tunes [Check].
type CheckOptions struct {
	// DataSizes gives the size of each external data file by location; ranges
	// are checked against it. Nil skips that check.
	DataSizes map[string]int64
	// AllowUnknown passes operators that the table does not have; their
	// outputs are then taken as of unknown type.
	AllowUnknown bool
	// Complete wants every value of the main graph to have a known element
	// type and rank, as a model written by this module must.
	Complete bool
}

// Check verifies a model: names defined once and before use, operators known
// at the imported versions, number and types of inputs, outputs and attributes,
// shapes that fit each other, outputs as declared, initializers as long as
// their type and dims say. It returns nil or a [*CheckError].
func Check(m *Model, o CheckOptions) error {
	_, problems := analyse(m, o)
	if len(problems) == 0 {
		return nil
	}
	return &CheckError{Problems: problems}
}

// Infer returns what is known of every value of the main graph by name,
// initializers included. Problems do not stop it; [Check] reports them.
func Infer(m *Model) map[string]Value {
	s, _ := analyse(m, CheckOptions{AllowUnknown: true})
	values := make(map[string]Value, len(s.vals))
	for name, in := range s.vals {
		values[name] = Value{Name: name, Elem: in.elem, Shape: in.shape}
	}
	return values
}

// checker walks the graphs of one model in order.
type checker struct {
	m        *Model
	o        CheckOptions
	problems []Problem
	count    int // of problems, with those beyond maxProblems
}

// Bounds on what a broken file can make of itself: one problem per byte, names
// of megabytes in every one, and ranks that double with each Gather.
const (
	maxProblems = 1000
	maxText     = 2000 // bytes of one problem's text
	maxRank     = 32   // of any tensor; ONNX Runtime and its peers stop well below
)

func (k *checker) add(node, tensor, format string, args ...any) {
	if k.count++; k.count > maxProblems {
		return
	}
	text := fmt.Sprintf(format, args...)
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + " ..."
	}
	k.problems = append(k.problems, Problem{node, tensor, text})
}

// bound drops a shape of too high a rank, with a problem.
func (k *checker) bound(node, name string, in info) info {
	if len(in.shape) > maxRank {
		k.add(node, name, "rank %d is more than %d", len(in.shape), maxRank)
		in.shape, in.vals = nil, nil
	}
	return in
}

func analyse(m *Model, o CheckOptions) (*scope, []Problem) {
	k := &checker{m: m, o: o}
	if m.Graph == nil {
		k.add("", "", "the model has no graph")
		return &scope{}, k.problems
	}
	k.model()
	s := k.graph(m.Graph, nil)
	if o.Complete {
		k.complete(s)
	}
	return s, k.problems
}

func (k *checker) model() {
	m := k.m
	if m.IRVersion < 4 {
		k.add("", "", "IR version %d is older than 4", m.IRVersion)
	}
	seen := map[string]bool{}
	for _, o := range m.Opsets {
		d := plainDomain(o.Domain)
		if seen[d] {
			k.add("", "", "operator set of domain %q is imported twice", o.Domain)
		}
		seen[d] = true
		switch {
		case o.Version < 1:
			k.add("", "", "operator set version %d of domain %q is not positive", o.Version, o.Domain)
		case d == DomainONNX && (o.Version < MinOpset || o.Version > MaxOpset):
			k.add("", "", "operator set ai.onnx %d is outside %d to %d, the versions this checker knows", o.Version, MinOpset, MaxOpset)
		}
	}
	keys := map[string]bool{}
	for _, e := range m.Metadata {
		if keys[e.Key] {
			k.add("", "", "metadata key %q is set twice", e.Key)
		}
		keys[e.Key] = true
	}
	for _, what := range m.Dropped {
		k.add("", "", "holds %s, which this module does not represent", what)
	}
}

// graph checks one graph inside the scope of those around it.
func (k *checker) graph(g *Graph, outer *scope) *scope {
	s := &scope{outer: outer, vals: map[string]info{}}
	k.inputs(g, s)
	given := maps.Clone(s.vals)
	declared := map[string]Value{}
	for _, v := range slices.Concat(g.Values, g.Outputs) {
		declared[v.Name] = v
	}
	names := map[string]bool{}
	for _, n := range g.Nodes {
		if n.Name != "" {
			if names[n.Name] {
				k.add(n.Label(), "", "another node has the same name")
			}
			names[n.Name] = true
		}
		k.node(n, s, declared)
	}
	if outer == nil && len(g.Outputs) == 0 {
		k.add("", "", "the graph has no outputs")
	}
	outputs := map[string]bool{}
	for _, v := range g.Outputs {
		if outputs[v.Name] {
			k.add("", v.Name, "is listed twice among the graph outputs")
		}
		outputs[v.Name] = true
		if _, ok := s.find(v.Name); !ok {
			k.add("", v.Name, "is a graph output, but no node makes it")
		}
		// What nodes make was compared there; this is an input passed through.
		if in, ok := given[v.Name]; ok {
			k.compare("", v, in)
		}
	}
	return s
}

// inputs declares graph inputs and initializers.
func (k *checker) inputs(g *Graph, s *scope) {
	for _, v := range g.Inputs {
		if v.Name == "" {
			k.add("", "", "a graph input has no name")
			continue
		}
		if _, ok := s.vals[v.Name]; ok {
			k.add("", v.Name, "is listed twice among the graph inputs")
		}
		if s.outer == nil && v.Elem == Undefined {
			k.add("", v.Name, "is a graph input without an element type")
		}
		s.vals[v.Name] = k.bound("", v.Name, info{elem: v.Elem, shape: v.Shape})
	}
	seen := map[string]bool{}
	for _, t := range g.Initializers {
		k.tensor("", t)
		if t.Name == "" {
			k.add("", "", "an initializer has no name")
			continue
		}
		if seen[t.Name] {
			k.add("", t.Name, "two initializers have this name")
		}
		seen[t.Name] = true
		in := k.bound("", t.Name, constInfo(t))
		if v, ok := s.vals[t.Name]; ok {
			// An input with a default value: the caller may override it.
			in.vals = nil
			if v.elem != Undefined && v.elem != in.elem || v.shape.Known() && in.shape.Known() && !agrees(v.shape, in.shape) {
				k.add("", t.Name, "is an input of type %v %v with a default of type %v %v", v.elem, v.shape, in.elem, in.shape)
			}
		}
		s.vals[t.Name] = in
	}
}

// tensor checks that a constant holds what its type and dims say.
func (k *checker) tensor(node string, t *Initializer) {
	n, ok := elements(t.Dims)
	if ok && t.Elem != Text {
		n, ok = t.Bytes()
	}
	switch {
	case !ok:
		k.add(node, t.Name, "type %v and dims %v are impossible", t.Elem, t.Dims)
	case t.External != nil:
		k.external(node, t, n)
	case t.Elem == Text && int64(len(t.Strings)) != n:
		k.add(node, t.Name, "%d strings do not fill dims %v", len(t.Strings), t.Dims)
	case t.Elem != Text && int64(len(t.Data)) != n:
		k.add(node, t.Name, "%d bytes of data, but %v %v takes %d", len(t.Data), t.Elem, t.Dims, n)
	}
}

func (k *checker) external(node string, t *Initializer, n int64) {
	e := t.External
	if err := CheckLocation(e.Location); err != nil {
		k.add(node, t.Name, "%v", err)
		return
	}
	switch size, ok := k.o.DataSizes[e.Location]; {
	case len(t.Data)+len(t.Strings) > 0:
		k.add(node, t.Name, "has both inline and external data")
	case t.Elem == Text:
		k.add(node, t.Name, "STRING tensors cannot be external")
	case e.Offset < 0:
		k.add(node, t.Name, "external data offset %d is negative", e.Offset)
	case e.Length >= 0 && e.Length != n:
		k.add(node, t.Name, "external data of %d bytes, but %v %v takes %d", e.Length, t.Elem, t.Dims, n)
	case k.o.DataSizes == nil:
	case !ok:
		k.add(node, t.Name, "lies in %q, which is none of the data files", e.Location)
	case e.Offset > size || n > size-e.Offset:
		k.add(node, t.Name, "%d bytes at %d end beyond %s, which has %d", n, e.Offset, e.Location, size)
	}
}

// node checks one node and enters its outputs into the scope.
func (k *checker) node(n *Node, s *scope, declared map[string]Value) {
	label := n.Label()
	c := &call{node: n, bodies: map[string][]info{}, fail: func(tensor, format string, args ...any) { k.add(label, tensor, format, args...) }}
	for _, name := range n.Inputs {
		in, ok := s.find(name)
		if name != "" && !ok {
			k.add(label, name, "is used but not made by any node before")
		}
		c.in = append(c.in, in)
		c.have = append(c.have, name != "")
	}
	c.out = make([]info, len(n.Outputs))
	for i := range n.Attrs {
		a := &n.Attrs[i]
		if a.Tensor != nil {
			k.tensor(label, a.Tensor)
		}
		if a.Graph != nil {
			c.bodies[a.Name] = k.returns(a.Graph, k.graph(a.Graph, s))
		}
	}
	k.apply(c)
	for i, name := range n.Outputs {
		if name == "" {
			continue
		}
		if _, ok := s.vals[name]; ok {
			k.add(label, name, "is defined twice")
		}
		s.vals[name] = k.bound(label, name, k.settle(label, name, k.bound(label, name, c.out[i]), declared))
	}
}

// returns is what a body gives back.
func (k *checker) returns(g *Graph, s *scope) []info {
	var out []info
	for _, v := range g.Outputs {
		in, _ := s.find(v.Name)
		out = append(out, in)
	}
	return out
}

// apply checks a node against its schema and runs its rule.
func (k *checker) apply(c *call) {
	n, label := c.node, c.node.Label()
	version, ok := k.m.Opset(n.Domain)
	if !ok {
		k.add(label, "", "the model does not import domain %q", n.Domain)
		return
	}
	c.op = FindOperator(n.Domain, n.Op, version)
	if c.op == nil {
		if !k.o.AllowUnknown {
			k.add(label, "", "operator %q is not known in domain %q at version %d", n.Op, n.Domain, version)
		}
		return
	}
	before := k.count
	k.arity(c)
	k.attrs(c)
	k.types(c)
	if r := rule(n.Domain, n.Op); r != nil && k.count == before && len(c.out) > 0 {
		// A rule may look at any declared input.
		for len(c.in) < len(c.op.Inputs) {
			c.in, c.have = append(c.in, info{}), append(c.have, false)
		}
		r(c)
		k.outputTypes(c)
	}
}

// arity checks the number of inputs and outputs and the ones left out.
func (k *checker) arity(c *call) {
	n, o := c.node, c.op
	for _, side := range []struct {
		what     string
		names    []string
		formals  []Formal
		min, max int
	}{
		{"input", n.Inputs, o.Inputs, o.MinInputs, o.MaxInputs()},
		{"output", n.Outputs, o.Outputs, o.MinOutputs, o.MaxOutputs()},
	} {
		switch {
		case len(side.names) < side.min:
			k.add(n.Label(), "", "%d %ss, want at least %d", len(side.names), side.what, side.min)
		case len(side.names) > side.max:
			k.add(n.Label(), "", "%d %ss, want at most %d", len(side.names), side.what, side.max)
		}
		if side.what == "output" {
			continue // every output may be left out by an empty name
		}
		for i, name := range side.names {
			if f := formal(side.formals, i); name == "" && f != nil && !f.Optional {
				k.add(n.Label(), "", "%s %s is left out but not optional", side.what, f.Name)
			}
		}
	}
}

func (k *checker) attrs(c *call) {
	label := c.node.Label()
	seen := map[string]bool{}
	for i := range c.node.Attrs {
		a := &c.node.Attrs[i]
		if seen[a.Name] {
			k.add(label, "", "attribute %q is given twice", a.Name)
		}
		seen[a.Name] = true
		r := c.op.attr(a.Name)
		switch {
		case r == nil:
			k.add(label, "", "attribute %q is not one of %s version %d", a.Name, c.op.Name, c.op.Since)
		case r.Type != a.Type:
			k.add(label, "", "attribute %q has type %v, want %v", a.Name, a.Type, r.Type)
		}
	}
	for _, r := range c.op.Attrs {
		if r.Required && !seen[r.Name] {
			k.add(label, "", "attribute %q is missing", r.Name)
		}
	}
}

// types binds the type variables to the inputs' element types and gives the
// outputs those that are bound.
func (k *checker) types(c *call) {
	bound := map[string]ElemType{}
	from := map[string]int{}
	for i := range c.in {
		f := formal(c.op.Inputs, i)
		elem := c.in[i].elem
		if f == nil || !c.have[i] || elem == Undefined {
			continue
		}
		if set := c.op.typeSet(f.Type); !set.Has(elem) {
			k.add(c.node.Label(), c.node.Input(i), "%s is %v, want one of %v", c.inName(i), elem, set)
			continue
		}
		if f.Mixed {
			continue
		}
		if old, ok := bound[f.Type]; ok && old != elem {
			k.add(c.node.Label(), c.node.Input(i), "%s is %v, but %s is %v and both must be the same", c.inName(i), elem, c.inName(from[f.Type]), old)
			continue
		}
		bound[f.Type], from[f.Type] = elem, i
	}
	for i := range c.out {
		f := formal(c.op.Outputs, i)
		if f == nil || f.Mixed {
			continue
		}
		if t, ok := bound[f.Type]; ok {
			c.out[i].elem = t
		} else if t, ok := c.op.typeSet(f.Type).single(); ok {
			c.out[i].elem = t
		}
	}
}

// outputTypes checks the element types the rule gave.
func (k *checker) outputTypes(c *call) {
	for i, name := range c.node.Outputs {
		f := formal(c.op.Outputs, i)
		if name == "" || f == nil || c.out[i].elem == Undefined {
			continue
		}
		if set := c.op.typeSet(f.Type); !set.Has(c.out[i].elem) {
			k.add(c.node.Label(), name, "output %s is %v, want one of %v", f.Name, c.out[i].elem, set)
		}
	}
}

// settle compares an inferred output with its declaration and returns the
// better known of both.
func (k *checker) settle(label, name string, in info, declared map[string]Value) info {
	v, ok := declared[name]
	if !ok || !k.compare(label, v, in) {
		return in
	}
	if in.elem == Undefined {
		in.elem = v.Elem
	}
	if in.shape == nil {
		in.shape = v.Shape
	} else if v.Shape != nil {
		in.shape = slices.Clone(in.shape)
		for i := range in.shape {
			in.shape[i], _ = merge(in.shape[i], v.Shape[i])
		}
	}
	return in
}

// compare reports a declared type that contradicts what is known.
func (k *checker) compare(label string, v Value, in info) bool {
	switch {
	case v.Elem != Undefined && in.elem != Undefined && v.Elem != in.elem:
		k.add(label, v.Name, "is %v, but declared %v", in.elem, v.Elem)
		return false
	case v.Shape != nil && in.shape != nil && !agrees(in.shape, v.Shape):
		k.add(label, v.Name, "has shape %v, but is declared %v", in.shape, v.Shape)
		return false
	}
	return true
}

func (k *checker) complete(s *scope) {
	for _, n := range k.m.Graph.Nodes {
		for _, name := range n.Outputs {
			if in := s.vals[name]; name != "" && (in.elem == Undefined || in.shape == nil) {
				k.add(n.Label(), name, "has no known type (%v %v)", in.elem, in.shape)
			}
		}
	}
}
