package target

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

// Fate is what becomes of a node.
type Fate uint8

// The fates.
const (
	Taken  Fate = iota + 1 // the provider runs it
	Folded                 // computed once while the model loads
	Left                   // not taken: it falls to the next provider, in the end the CPU
	Host                   // could be taken, but the runtime keeps it on the CPU beside the shapes it computes with
)

// String is the word used in reports.
func (f Fate) String() string {
	switch f {
	case Taken:
		return "taken"
	case Folded:
		return "folded"
	case Left:
		return "left"
	case Host:
		return "host"
	}
	return "Fate(" + strconv.Itoa(int(f)) + ")"
}

// Reason says why a node is left.
type Reason string

// The reasons.
const (
	NoReason     Reason = ""
	BadOperator  Reason = "operator"      // not in the provider's list
	BadType      Reason = "type"          // an element type
	BadRank      Reason = "rank"          // too many or too few dimensions
	NotConstant  Reason = "not constant"  // an input must be constant
	DynamicShape Reason = "dynamic shape" // an extent must be a number, or a shape known
	BadForm      Reason = "form"          // attributes, inputs given, quantized form
)

// NodePlace is where one node lands.
type NodePlace struct {
	Node   *onnx.Node
	Fate   Fate
	Reason Reason // of a node that is left
	// Text explains a node that is left, in one sentence, or remarks on a node
	// that is taken; else "".
	Text string
}

// Placement is where the nodes of a graph land.
type Placement struct {
	Target string      // label, such as "TensorRT 10.3"
	Nodes  []NodePlace // in graph order
	// Warnings are of the whole graph, or of nodes that are taken but with a
	// catch.
	Warnings []string
}

// PlaceOptions changes the settings that placement depends on; what they do not
// name stays as the target's Session and Provider say.
type PlaceOptions struct {
	Session  map[string]string // session configuration keys
	Provider map[string]string // provider options
}

// Place says where the nodes of m would land under the settings that this
// module uses for the target.
func (t *Target) Place(m *onnx.Model) Placement { return t.PlaceWith(m, PlaceOptions{}) }

// PlaceWith is Place with other settings.
func (t *Target) PlaceWith(m *onnx.Model, o PlaceOptions) Placement {
	p := &placing{
		t: t, m: m, index: m.Graph.Index(), values: onnx.Infer(m), consts: map[string]*onnx.Initializer{}, said: map[string]*warning{},
		session: merged(t.Session, o.Session), provider: merged(t.Provider, o.Provider),
	}
	p.out.Target = t.Label()
	p.cpu, p.cpuErr = loadKernels(cpuKernels)
	for _, init := range m.Graph.Initializers {
		p.consts[init.Name] = init
	}
	p.graph()
	for _, n := range m.Graph.Nodes {
		place := p.node(n)
		if place.Fate == Folded {
			for _, name := range n.Outputs {
				if _, ok := p.consts[name]; name != "" && !ok {
					p.consts[name] = nil // constant, elements not known here
				}
			}
		}
		if place.Fate == Taken && place.Text != "" {
			p.warn(n, place.Text)
		}
		p.out.Nodes = append(p.out.Nodes, place)
	}
	p.host()
	for _, w := range p.order {
		p.out.Warnings = append(p.out.Warnings, w.String())
	}
	return p.out
}

func merged(base, over map[string]string) map[string]string {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, over)
	return out
}

// Whole reports whether the provider takes every node that is not folded or kept
// on the host with the shapes.
func (p Placement) Whole() bool { return p.Count(Left) == 0 }

// Count is the number of nodes of a fate.
func (p Placement) Count(f Fate) int {
	n := 0
	for i := range p.Nodes {
		if p.Nodes[i].Fate == f {
			n++
		}
	}
	return n
}

// Counts is the number of nodes that are taken, folded and left.
func (p Placement) Counts() (taken, folded, left int) {
	return p.Count(Taken), p.Count(Folded), p.Count(Left)
}

// Left lists the nodes that are not taken.
func (p Placement) Left() []NodePlace {
	var out []NodePlace
	for _, n := range p.Nodes {
		if n.Fate == Left {
			out = append(out, n)
		}
	}
	return out
}

// Err is nil where the provider takes the graph whole, else an error that names
// the first nodes it leaves and why.
func (p Placement) Err() error {
	left := p.Left()
	if len(left) == 0 {
		return nil
	}
	const shown = 5
	var b strings.Builder
	fmt.Fprintf(&b, "%s would not take %d of %d nodes:", p.Target, len(left), len(p.Nodes))
	for _, n := range left[:min(shown, len(left))] {
		fmt.Fprintf(&b, "\n  %s: %s", n.Node.Label(), n.Text)
	}
	if len(left) > shown {
		fmt.Fprintf(&b, "\n  and %d more", len(left)-shown)
	}
	return fmt.Errorf("%s", b.String())
}

// cpuKernels is the table that folding goes by: ONNX Runtime folds with CPU
// kernels whatever the provider.
const cpuKernels = "cpu-1.32.0.txt"

// placing is one run of Place.
type placing struct {
	t                 *Target
	m                 *onnx.Model
	index             *onnx.Index
	values            map[string]onnx.Value
	consts            map[string]*onnx.Initializer // nil where the elements are not known
	session, provider map[string]string
	cpu               kernelTable
	cpuErr            error
	out               Placement
	said              map[string]*warning
	order             []*warning
}

// warning is something said of one or more nodes.
type warning struct {
	text  string
	node  *onnx.Node // the first one, nil for the graph
	count int
}

func (p *placing) warn(n *onnx.Node, text string) {
	w := p.said[text]
	if w == nil {
		w = &warning{text: text, node: n}
		p.said[text] = w
		p.order = append(p.order, w)
	}
	w.count++
}

func (w *warning) String() string {
	switch {
	case w.node == nil:
		return w.text
	case w.count == 1:
		return w.node.Label() + ": " + w.text
	}
	return fmt.Sprintf("%s and %d more nodes: %s", w.node.Label(), w.count-1, w.text)
}

// graph judges what is not a node.
func (p *placing) graph() {
	t := p.t
	if p.cpuErr != nil {
		p.warn(nil, p.cpuErr.Error())
	}
	if v, ok := p.m.Opset(onnx.DomainONNX); ok && t.Release.MaxOpset > 0 && v > t.Release.MaxOpset {
		p.warn(nil, fmt.Sprintf("the model is stamped opset %d; %s documents opsets up to %d (%s)",
			v, t.Label(), t.Release.MaxOpset, t.Release.Source))
	}
	if t.Borders == 0 {
		return
	}
	for _, v := range slices.Concat(p.m.Graph.Inputs, p.m.Graph.Outputs) {
		if !t.Borders.has(v.Elem) {
			p.warn(nil, fmt.Sprintf("graph input or output %q is %v; %s passes only %v over its border", v.Name, v.Elem, t.Title, t.Borders))
		}
	}
}

// failure is why a node is not taken.
type failure struct {
	reason Reason
	text   string
}

func fail(r Reason, format string, args ...any) *failure {
	return &failure{r, fmt.Sprintf(format, args...)}
}

// call is one node with what its schema and inference say.
type call struct {
	*placing
	node   *onnx.Node
	schema *onnx.Operator
}

func (p *placing) node(n *onnx.Node) NodePlace {
	opset, _ := p.m.Opset(n.Domain)
	c := &call{placing: p, node: n, schema: onnx.FindOperator(n.Domain, n.Op, opset)}
	if c.schema == nil {
		return NodePlace{n, Left, BadOperator, fmt.Sprintf("operator %s of domain %q at version %d is not known here", n.Op, n.Domain, opset)}
	}
	if c.folds() {
		return NodePlace{Node: n, Fate: Folded}
	}
	remark, f := c.judge()
	if f != nil {
		return NodePlace{n, Left, f.reason, f.text}
	}
	if high := c.highestRank(); p.t.SafeRank > 0 && high > p.t.SafeRank {
		remark = joinSentences(remark, fmt.Sprintf("rank %d; graphs for %s keep to %d", high, p.t.Title, p.t.SafeRank))
	}
	return NodePlace{Node: n, Fate: Taken, Text: remark}
}

// highestRank is the highest known rank of the node's inputs and outputs.
func (c *call) highestRank() int {
	high := 0
	for _, name := range slices.Concat(c.node.Inputs, c.node.Outputs) {
		high = max(high, len(c.values[name].Shape))
	}
	return high
}

// judge applies every rule of the target.
func (c *call) judge() (remark string, f *failure) {
	t := c.t
	if key := t.ExcludeOption; key != "" && slices.Contains(strings.Split(c.provider[key], ","), c.node.Op) {
		return "", fail(BadOperator, "%s excludes it", key)
	}
	if !t.Takes(c.node.Domain, c.node.Op, c.schema.Since) {
		return "", c.notListed()
	}
	if f := c.shapesAndRanks(); f != nil {
		return "", f
	}
	if t.Kernels != "" {
		remark, f = c.kernels()
	} else {
		remark, f = c.listed()
	}
	if f != nil {
		return "", f
	}
	for _, o := range t.entries(t.Limits, c.node.Domain, c.node.Op, c.schema.Since) {
		text, f := c.entry(o)
		if f != nil {
			return "", f
		}
		remark = joinSentences(remark, text)
	}
	return remark, nil
}

func joinSentences(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// shapesAndRanks applies what holds of every input.
func (c *call) shapesAndRanks() *failure {
	static := c.t.StaticOption != "" && c.provider[c.t.StaticOption] == "1"
	for i, name := range c.node.Inputs {
		if name == "" {
			continue
		}
		s := c.values[name].Shape
		switch {
		case !s.Known():
			if c.t.NeedShape || c.t.MaxRank > 0 {
				return fail(DynamicShape, "the shape of %s is not known", c.inName(i))
			}
			continue
		case c.t.MaxRank > 0 && len(s) > c.t.MaxRank:
			return fail(BadRank, "%s has rank %d, at most %d are taken", c.inName(i), len(s), c.t.MaxRank)
		}
		_, fixed := s.Ints()
		switch {
		case static && !fixed:
			return fail(DynamicShape, "%s has shape %v and %s is set", c.inName(i), s, c.t.StaticOption)
		case c.t.NeedShape && slices.Contains(s, onnx.Fixed(0)):
			return fail(DynamicShape, "%s has shape %v; an extent of 0 is refused", c.inName(i), s)
		}
	}
	return nil
}

// kernels looks the node up in the kernel registry.
func (c *call) kernels() (remark string, f *failure) {
	const expanded = "no kernel of its own: expanded into plain operators at load"
	rows := c.t.kernels.matching(c.node.Domain, c.node.Op, c.schema.Since)
	function := c.t.kernels.function(c.node.Domain, c.node.Op, c.schema.Since)
	if len(rows) == 0 { // a function, else Takes would have said no
		if e := c.values[c.node.Input(0)].Elem; c.t.CastsF16 && e == onnx.BF16 {
			return "", fail(BadType, "expanded into plain operators, which %s does not take in %v", c.t.Label(), e)
		}
		return expanded, nil
	}
	for _, k := range rows {
		if c.misfit(k.types, false) == nil {
			return "", nil
		}
	}
	if c.t.CastsF16 {
		for _, k := range rows {
			if c.misfit(k.types, true) != nil {
				continue
			}
			if function {
				return expanded, nil // that comes before casts are inserted
			}
			return "", nil // the casts around it are the runtime's business
		}
	}
	// Say what stands in the way of the first kernel, and what any takes there.
	bad := c.misfit(rows[0].types, false)
	var takes elemSet
	for _, k := range rows {
		takes |= k.types[bad.variable]
	}
	if takes.has(bad.elem) {
		return "", fail(BadType, "%s is %v: %s has no kernel for this combination of types", bad.what, bad.elem, c.t.Label())
	}
	return "", fail(BadType, "%s is %v, %s takes %v", bad.what, bad.elem, c.t.Label(), takes)
}

// misfit is an input or output whose element type a kernel does not take.
type misfit struct {
	what     string // "input query"
	variable string // the kernel's name of the type
	elem     onnx.ElemType
}

// misfit is the first input or output that a kernel does not fit, nil where it
// fits all. widen takes float16 for float32, as ONNX Runtime does for the CPU:
// core/optimizer/insert_cast_transformer.cc.
func (c *call) misfit(types map[string]elemSet, widen bool) *misfit {
	check := func(formals []onnx.Formal, names []string, what string) *misfit {
		for i, name := range names {
			formal := formalAt(formals, i)
			if name == "" || formal == nil {
				continue
			}
			variable := formal.Type
			set, ok := types[variable]
			if !ok {
				variable = formal.Name
				if set, ok = types[variable]; !ok {
					continue
				}
			}
			e := c.values[name].Elem
			if widen && e == onnx.F16 {
				e = onnx.F32
			}
			if !set.has(e) {
				return &misfit{what + " " + formal.Name, variable, c.values[name].Elem}
			}
		}
		return nil
	}
	if bad := check(c.schema.Inputs, c.node.Inputs, "input"); bad != nil {
		return bad
	}
	return check(c.schema.Outputs, c.node.Outputs, "output")
}

// listed looks the node up in the target's own list.
func (c *call) listed() (remark string, f *failure) {
	entries := c.t.entries(c.t.Groups, c.node.Domain, c.node.Op, c.schema.Since)
	var first *failure
	for _, o := range entries {
		text, f := c.entry(o)
		if f == nil {
			return text, nil
		}
		if first == nil {
			first = f
		}
	}
	return "", first
}

// notListed says that the operator is missing, and which release has it.
func (c *call) notListed() *failure {
	for _, g := range c.t.Groups {
		for _, o := range g.Operators {
			if o.Domain == c.node.Domain && slices.Contains(strings.Fields(o.Ops), c.node.Op) && o.From != "" &&
				compareVersions(c.t.Release.Version, o.From) < 0 {
				return fail(BadOperator, "%s is taken from %s %s on, this is %s", c.node.Op, c.t.Title, o.From, c.t.Release.Version)
			}
		}
	}
	return fail(BadOperator, "%s has no %s-%d", c.t.Label(), c.node.Op, c.schema.Since)
}

// entry applies the rules of one entry and returns its warning.
func (c *call) entry(o *operator) (warn string, f *failure) {
	for i, name := range c.node.Inputs {
		if name == "" {
			continue
		}
		if f := c.entryInput(o, i, name); f != nil {
			return "", f
		}
	}
	for i, name := range c.node.Outputs {
		formal := formalAt(c.schema.Outputs, i)
		if name == "" || formal == nil {
			continue
		}
		set, ok := o.Types[formal.Type]
		if !ok {
			set, ok = o.Types[formal.Name]
		}
		if e := c.values[name].Elem; ok && !set.has(e) {
			return "", fail(BadType, "output %s is %v, taken are %v", formal.Name, e, set)
		}
	}
	for name, allowed := range o.Attrs {
		if v := c.attr(name, o.Defaults); !slices.Contains(strings.Fields(allowed), v) {
			return "", fail(BadForm, "attribute %s is %s, taken: %s", name, v, allowed)
		}
	}
	for _, form := range o.Forms {
		check, ok := forms[form]
		if !ok {
			return "", fail(BadForm, "the data name an unknown form %q", form)
		}
		if f := check(c); f != nil {
			return "", f
		}
	}
	if o.Warn != "" && c.when(o) {
		return o.Warn, nil
	}
	return "", nil
}

// entryInput applies the rules for input i.
func (c *call) entryInput(o *operator, i int, name string) *failure {
	formal := formalAt(c.schema.Inputs, i)
	if formal == nil {
		return nil
	}
	set, ok := o.Types[formal.Name]
	if !ok {
		set, ok = o.Types[formal.Type]
	}
	if !ok {
		set, ok = o.Types["*"]
	}
	v := c.values[name]
	if ok && !set.has(v.Elem) {
		return fail(BadType, "%s is %v, taken are %v", c.inName(i), v.Elem, set)
	}
	if slices.Contains(o.Absent, formal.Name) {
		return fail(BadForm, "input %s must not be given", formal.Name)
	}
	if _, isConst := c.consts[name]; !isConst && slices.Contains(o.Const, formal.Name) {
		return fail(NotConstant, "%s must be constant", c.inName(i))
	}
	if _, fixed := v.Shape.Ints(); slices.Contains(o.Static, formal.Name) && (!v.Shape.Known() || !fixed) {
		return fail(DynamicShape, "%s has shape %v, every extent must be a number", c.inName(i), v.Shape)
	}
	if ranks := o.Ranks[formal.Name]; ranks != nil && v.Shape.Known() && !slices.Contains(ranks, len(v.Shape)) {
		return fail(BadRank, "%s has rank %d, taken: %v", c.inName(i), len(v.Shape), ranks)
	}
	return nil
}

// when reports whether the condition of a warning holds.
func (c *call) when(o *operator) bool {
	for name, want := range o.When {
		not, negated := strings.CutPrefix(want, "!")
		if v := c.attr(name, o.Defaults); negated == (v == not) {
			return false
		}
	}
	return true
}

// attr is an attribute's value as text.
func (c *call) attr(name string, defaults map[string]string) string {
	a := c.node.Attr(name)
	if a == nil {
		return defaults[name]
	}
	switch a.Type {
	case onnx.AttrInt:
		return strconv.FormatInt(a.I, 10)
	case onnx.AttrFloat:
		return strconv.FormatFloat(float64(a.F), 'g', -1, 32)
	case onnx.AttrString:
		return a.S
	case onnx.AttrTensor:
		return "tensor"
	}
	return a.Type.String()
}

// inName names input i for messages.
func (c *call) inName(i int) string {
	if f := formalAt(c.schema.Inputs, i); f != nil {
		return fmt.Sprintf("input %s (%s)", f.Name, c.node.Inputs[i])
	}
	return fmt.Sprintf("input %d (%s)", i, c.node.Inputs[i])
}

// formalAt is the declared input or output i; the last one stands for all
// further ones where it is variadic.
func formalAt(formals []onnx.Formal, i int) *onnx.Formal {
	if n := len(formals); i >= n && n > 0 && formals[n-1].Variadic {
		return &formals[n-1]
	}
	if i < len(formals) {
		return &formals[i]
	}
	return nil
}

// random lists the operators that give something else each time.
var random = []string{"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}

// folds reports whether ONNX Runtime computes the node while it loads the model:
// all inputs are constant and the CPU has a kernel for its very types (no casts
// are inserted yet), or it asks for a shape that is known. DequantizeLinear is
// kept for the quantized fusions unless session.disable_quant_qdq is set.
// Source: core/optimizer/constant_folding.cc of ONNX Runtime.
func (c *call) folds() bool {
	n := c.node
	switch {
	case n.Domain == onnx.DomainONNX && n.Op == "Constant":
		if a := n.Attr("value"); a != nil && a.Tensor != nil {
			c.consts[n.Output(0)] = a.Tensor
		}
		return true
	case n.Domain == onnx.DomainONNX && n.Op == "Shape":
		_, fixed := c.values[n.Input(0)].Shape.Ints()
		return fixed && c.values[n.Input(0)].Shape.Known()
	case n.Domain == onnx.DomainONNX && n.Op == "DequantizeLinear" && c.session["session.disable_quant_qdq"] != "1",
		slices.Contains(random, n.Op),
		slices.ContainsFunc(n.Attrs, func(a onnx.Attr) bool { return a.Graph != nil }):
		return false
	}
	given := false
	for _, name := range n.Inputs {
		if name == "" {
			continue
		}
		given = true
		if _, ok := c.consts[name]; !ok {
			return false
		}
	}
	if !given {
		return false
	}
	for _, k := range c.cpu.matching(n.Domain, n.Op, c.schema.Since) {
		if c.misfit(k.types, false) == nil {
			return true
		}
	}
	return false
}
