package onnx

import (
	"fmt"
	"slices"
)

// DefaultIRVersion is the IR version [NewModel] stamps: the first one with
// INT4 tensors, which ONNX Runtime has read since 1.18.
const DefaultIRVersion = 10

// Opset is one imported operator set. Domain "" is ai.onnx.
type Opset struct {
	Domain  string
	Version int64
}

// The domains this module writes.
const (
	DomainONNX      = ""              // ai.onnx, the standard operators
	DomainMicrosoft = "com.microsoft" // ONNX Runtime's contrib operators
)

// Entry is one metadata property.
type Entry struct{ Key, Value string }

// Model is a ModelProto: one graph and what it needs to be understood.
type Model struct {
	IRVersion       int64
	Opsets          []Opset
	Producer        string
	ProducerVersion string
	Domain          string // of the model itself, reverse DNS; usually empty
	Version         int64
	Doc             string
	Metadata        []Entry // in file order; keys are unique
	Graph           *Graph
	// Dropped names what the file held that these structs do not represent,
	// such as "2 functions". Empty for models built here.
	Dropped []string
}

// NewModel wraps a graph, with IR version [DefaultIRVersion].
func NewModel(g *Graph, opsets ...Opset) *Model {
	return &Model{IRVersion: DefaultIRVersion, Opsets: opsets, Graph: g}
}

// Opset is the imported version of a domain; ok is false where it is not
// imported. "ai.onnx" is another spelling of "".
func (m *Model) Opset(domain string) (version int64, ok bool) {
	for _, o := range m.Opsets {
		if plainDomain(o.Domain) == plainDomain(domain) {
			return o.Version, true
		}
	}
	return 0, false
}

// plainDomain maps the two spellings of the default domain to one.
func plainDomain(d string) string {
	if d == "ai.onnx" {
		return DomainONNX
	}
	return d
}

// Meta is the value of a metadata property.
func (m *Model) Meta(key string) (value string, ok bool) {
	for _, e := range m.Metadata {
		if e.Key == key {
			return e.Value, true
		}
	}
	return "", false
}

// SetMeta sets a metadata property, at the end where it is new.
func (m *Model) SetMeta(key, value string) {
	for i := range m.Metadata {
		if m.Metadata[i].Key == key {
			m.Metadata[i].Value = value
			return
		}
	}
	m.Metadata = append(m.Metadata, Entry{key, value})
}

// Dim is one extent: a number, a name shared by all dims that are equal at run
// time, or unknown. Its zero value is the extent 0.
type Dim struct {
	Size int64  // the extent; negative means not known
	Name string // symbolic name such as "batch_size"; Size is -1 then
}

// Fixed is a dim of known extent.
func Fixed(n int64) Dim { return Dim{Size: n} }

// Named is a dim known by name only.
func Named(name string) Dim { return Dim{Size: -1, Name: name} }

// Unknown is a dim of which nothing is known.
var Unknown = Dim{Size: -1}

// IsFixed reports whether the extent is a number.
func (d Dim) IsFixed() bool { return d.Size >= 0 }

// String is the number, the name, or "?".
func (d Dim) String() string {
	switch {
	case d.Size >= 0:
		return fmt.Sprint(d.Size)
	case d.Name != "":
		return d.Name
	}
	return "?"
}

// Shape is the extent of each dimension, outermost first. nil means that not
// even the rank is known; an empty non-nil Shape is a scalar.
type Shape []Dim

// FixedShape is a shape of known extents; without extents it is a scalar.
func FixedShape(dims ...int64) Shape {
	s := make(Shape, len(dims))
	for i, d := range dims {
		s[i] = Fixed(d)
	}
	return s
}

// Known reports whether the rank is known.
func (s Shape) Known() bool { return s != nil }

// Ints returns the extents; ok is false unless all are numbers.
func (s Shape) Ints() (dims []int64, ok bool) {
	if s == nil {
		return nil, false
	}
	dims = make([]int64, len(s))
	for i, d := range s {
		if !d.IsFixed() {
			return nil, false
		}
		dims[i] = d.Size
	}
	return dims, true
}

// String prints the shape as "[batch_size, 64, ?]", or "[...]" for an unknown rank.
func (s Shape) String() string {
	if s == nil {
		return "[...]"
	}
	b := []byte{'['}
	for i, d := range s {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, d.String()...)
	}
	return string(append(b, ']'))
}

// Value names a tensor and says its type: a graph input or output, or what is
// known of a value in between. Elem Undefined and Shape nil mean not known.
type Value struct {
	Name  string
	Elem  ElemType
	Shape Shape
	Doc   string
}

// Graph is a GraphProto. Nodes are in execution order: a node comes after
// those that make its inputs.
type Graph struct {
	Name         string
	Doc          string
	Inputs       []Value // without the initializers, as since IR version 4
	Outputs      []Value
	Values       []Value // value_info: types of values in between, optional
	Nodes        []*Node
	Initializers []*Initializer
}

// Node is a NodeProto: one use of an operator. An empty name in Inputs or
// Outputs stands for an optional one left out.
type Node struct {
	Domain  string
	Op      string
	Name    string // unique within the graph; empty is allowed
	Inputs  []string
	Outputs []string
	Attrs   []Attr
	Doc     string
}

// Initializer is a TensorProto: a constant, by value or in another file.
// Exactly one of Data, Strings (for [Text]) and External holds the elements;
// none of them for a tensor without elements.
type Initializer struct {
	Name string
	Elem ElemType
	Dims []int64
	// Data is the elements by value: little-endian, row-major, types below 8
	// bits packed from the lowest bits up. Shape inference and constant checks
	// can read it, so shapes and axes belong here.
	Data []byte
	// Strings is the elements of a [Text] tensor.
	Strings []string
	// External says where the elements lie; nil when they are here. Two
	// initializers may name the same range (tied weights).
	External *External
	Doc      string
}

// External is a byte range of a file beside the model.
type External struct {
	Location string // relative path with forward slashes, inside the model's folder
	Offset   int64
	Length   int64 // of the range; -1 where the model does not say
}

// Bytes is the size of the elements by type and dims; ok is false for [Text],
// unknown types and impossible dims.
func (t *Initializer) Bytes() (n int64, ok bool) { return t.Elem.Bytes(t.Dims) }

// Shape is the dims as a [Shape].
func (t *Initializer) Shape() Shape { return FixedShape(t.Dims...) }

// NewGraph starts an empty graph.
func NewGraph(name string) *Graph { return &Graph{Name: name} }

// Input declares a graph input; no dims make a scalar. It returns the name.
func (g *Graph) Input(name string, elem ElemType, dims ...Dim) string {
	g.Inputs = append(g.Inputs, Value{Name: name, Elem: elem, Shape: append(Shape{}, dims...)})
	return name
}

// Output declares a graph output; no dims make a scalar. It returns the name.
func (g *Graph) Output(name string, elem ElemType, dims ...Dim) string {
	g.Outputs = append(g.Outputs, Value{Name: name, Elem: elem, Shape: append(Shape{}, dims...)})
	return name
}

// Node appends a node and returns it. Nothing is checked before [Check].
func (g *Graph) Node(domain, op, name string, inputs, outputs []string, attrs ...Attr) *Node {
	n := &Node{Domain: domain, Op: op, Name: name, Inputs: inputs, Outputs: outputs, Attrs: attrs}
	g.Nodes = append(g.Nodes, n)
	return n
}

// Initializer appends a constant and returns its name.
func (g *Graph) Initializer(t Initializer) string {
	g.Initializers = append(g.Initializers, &t)
	return t.Name
}

// Const appends an inline constant and returns its name; dims nil makes a
// vector of len(values), no dims at all ([]int64{}) a scalar.
func Const[T int64 | int32 | float32 | bool](g *Graph, name string, dims []int64, values ...T) string {
	t := ConstTensor(dims, values...)
	t.Name = name
	return g.Initializer(t)
}

// Attr finds an attribute; nil where the node has none of that name.
func (n *Node) Attr(name string) *Attr {
	for i := range n.Attrs {
		if n.Attrs[i].Name == name {
			return &n.Attrs[i]
		}
	}
	return nil
}

// SetAttr sets an attribute, replacing one of the same name.
func (n *Node) SetAttr(a Attr) {
	if old := n.Attr(a.Name); old != nil {
		*old = a
		return
	}
	n.Attrs = append(n.Attrs, a)
}

// Input is the name of input i, "" where it is left out.
func (n *Node) Input(i int) string {
	if i < len(n.Inputs) {
		return n.Inputs[i]
	}
	return ""
}

// Output is the name of output i, "" where it is left out.
func (n *Node) Output(i int) string {
	if i < len(n.Outputs) {
		return n.Outputs[i]
	}
	return ""
}

// Label names the node in messages: `Add "/layers.0/attn/add"`, or by its
// first output where it has no name.
func (n *Node) Label() string {
	op := n.Op
	if plainDomain(n.Domain) != DomainONNX {
		op = n.Domain + "." + n.Op
	}
	switch {
	case n.Name != "":
		return fmt.Sprintf("node %s %q", op, n.Name)
	case n.Output(0) != "":
		return fmt.Sprintf("node %s of %q", op, n.Output(0))
	}
	return "node " + op
}

// Clone is a deep copy, bodies included; tensor data and the values of
// attributes are shared, being constant.
func (g *Graph) Clone() *Graph {
	c := *g
	c.Inputs, c.Outputs, c.Values = cloneValues(g.Inputs), cloneValues(g.Outputs), cloneValues(g.Values)
	c.Nodes = make([]*Node, len(g.Nodes))
	for i, n := range g.Nodes {
		k := *n
		k.Inputs, k.Outputs = slices.Clone(n.Inputs), slices.Clone(n.Outputs)
		k.Attrs = slices.Clone(n.Attrs)
		for j, a := range k.Attrs {
			if a.Graph != nil {
				k.Attrs[j].Graph = a.Graph.Clone()
			}
		}
		c.Nodes[i] = &k
	}
	c.Initializers = make([]*Initializer, len(g.Initializers))
	for i, t := range g.Initializers {
		k := *t
		k.Dims = slices.Clone(t.Dims)
		if t.External != nil {
			e := *t.External
			k.External = &e
		}
		c.Initializers[i] = &k
	}
	return &c
}

func cloneValues(vs []Value) []Value {
	vs = slices.Clone(vs)
	for i := range vs {
		vs[i].Shape = slices.Clone(vs[i].Shape)
	}
	return vs
}
