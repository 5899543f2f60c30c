package chattemplate

import (
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

const (
	// maxNesting bounds how deep expressions and statements may nest.
	maxNesting = 200
	// maxChain bounds how many operators, filters or subscripts may follow one
	// another without brackets, which also nest the tree.
	maxChain = 500
)

// parser builds the tree by recursive descent, following jinja2/parser.py.
type parser struct {
	tokens  []token
	pos     int
	nesting int
	loops   int      // loops open around this place, within one function
	tags    []string // open tags, for messages
	ends    [][]string
}

func parse(src string) ([]stmt, error) {
	tokens, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	body, err := p.body(nil)
	if err != nil {
		return nil, err
	}
	return body, nil
}

func (p *parser) cur() token { return p.tokens[p.pos] }

func (p *parser) next() token {
	t := p.tokens[p.pos]
	if p.pos < len(p.tokens)-1 {
		p.pos++
	}
	return t
}

// peek is the token after the current one.
func (p *parser) peek() token { return p.tokens[min(p.pos+1, len(p.tokens)-1)] }

func (p *parser) is(kind tokenKind) bool { return p.tokens[p.pos].kind == kind }

func (p *parser) isName(name string) bool {
	t := p.tokens[p.pos]
	return t.kind == tokName && t.text == name
}

func (p *parser) skipName(name string) bool {
	if p.isName(name) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) skip(kind tokenKind) bool {
	if p.is(kind) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) failAt(line int, format string, args ...any) error {
	return atLine(errf(kindSyntax, format, args...), "", line)
}

func (p *parser) fail(format string, args ...any) error {
	return p.failAt(p.cur().line, format, args...)
}

func (p *parser) expect(kind tokenKind) (token, error) {
	if !p.is(kind) {
		return token{}, p.unexpected(token{kind: kind}.describeKind())
	}
	return p.next(), nil
}

func (p *parser) expectName(name string) error {
	if !p.isName(name) {
		return p.unexpected(name)
	}
	p.next()
	return nil
}

// describeKind is the name of a kind of token as something expected.
func (t token) describeKind() string {
	if t.kind == tokName {
		return "name"
	}
	return t.describe()
}

func (p *parser) unexpected(want string) error {
	if p.is(tokEOF) {
		return p.fail("unexpected end of template, expected %s.", quotePy(want))
	}
	return p.fail("expected token %s, got %s", quotePy(want), quotePy(p.cur().describe()))
}

// down enters one level of nesting; up leaves it.
func (p *parser) down() error {
	p.nesting++
	if p.nesting > maxNesting {
		return &LimitError{Line: p.cur().line, What: "levels of nesting", Limit: maxNesting}
	}
	return nil
}

func (p *parser) up() { p.nesting-- }

// chain counts one more link of a chain.
func (p *parser) chain(n *int) error {
	*n++
	if *n > maxChain {
		return &LimitError{Line: p.cur().line, What: "operators in a row", Limit: maxChain}
	}
	return nil
}

// body parses statements and text up to a tag named in ends, which is left
// as the current token; without ends, up to the end of the template.
func (p *parser) body(ends []string) ([]stmt, error) {
	if err := p.down(); err != nil {
		return nil, err
	}
	defer p.up()
	if ends != nil {
		p.ends = append(p.ends, ends)
		defer func() { p.ends = p.ends[:len(p.ends)-1] }()
	}
	var body []stmt
	for {
		t := p.cur()
		switch t.kind {
		case tokEOF:
			if ends != nil {
				return nil, p.failTag("", t.line)
			}
			return body, nil
		case tokData:
			body = append(body, &textStmt{at{t.line}, t.text})
			p.next()
		case tokVar:
			p.next()
			x, err := p.tuple(tupleMode{cond: true})
			if err != nil {
				return nil, err
			}
			if _, err := p.expect(tokVarEnd); err != nil {
				return nil, err
			}
			body = append(body, &printStmt{at{t.line}, x})
		case tokBlock:
			p.next()
			if c := p.cur(); c.kind == tokName && slices.Contains(ends, c.text) {
				return body, nil
			}
			s, err := p.statement()
			if err != nil {
				return nil, err
			}
			body = append(body, s...)
			if _, err := p.expect(tokBlockEnd); err != nil {
				return nil, err
			}
		default:
			return nil, p.fail("unexpected %s", quotePy(t.describe()))
		}
	}
}

// statements parses the end of a tag and the body after it, up to one of ends.
func (p *parser) statements(ends ...string) ([]stmt, error) {
	p.skip(":")
	if _, err := p.expect(tokBlockEnd); err != nil {
		return nil, err
	}
	return p.body(ends)
}

// block is statements with the end tag dropped.
func (p *parser) block(end string) ([]stmt, error) {
	body, err := p.statements(end)
	if err == nil {
		p.next()
	}
	return body, err
}

// failTag reports an unknown tag, or with no name the end of the template.
func (p *parser) failTag(name string, line int) error {
	msg := "Unexpected end of template."
	if name != "" {
		msg = "Encountered unknown tag " + quotePy(name) + "."
	}
	if n := len(p.ends); n > 0 {
		looking := make([]string, len(p.ends[n-1]))
		for i, e := range p.ends[n-1] {
			looking[i] = quotePy(e)
		}
		want := strings.Join(looking, " or ")
		nested := slices.ContainsFunc(p.ends, func(e []string) bool { return slices.Contains(e, name) })
		if name != "" && nested {
			msg += " You probably made a nesting mistake. Jinja is expecting this tag, but currently looking for " + want + "."
		} else {
			msg += " Jinja was looking for the following tags: " + want + "."
		}
	}
	if n := len(p.tags); n > 0 {
		msg += " The innermost block that needs to be closed is " + quotePy(p.tags[n-1]) + "."
	}
	return p.failAt(line, "%s", msg)
}

// statement parses one tag, from its name to before its end.
func (p *parser) statement() ([]stmt, error) {
	t := p.cur()
	if t.kind != tokName {
		return nil, p.fail("tag name expected")
	}
	var parseTag func() (stmt, error)
	switch t.text {
	case "for":
		parseTag = p.forTag
	case "if":
		parseTag = p.ifTag
	case "set":
		parseTag = p.setTag
	case "macro":
		parseTag = p.macroTag
	case "call":
		parseTag = p.callTag
	case "filter":
		parseTag = p.filterTag
	case "with":
		parseTag = p.withTag
	case "do":
		parseTag = p.doTag
	case "break", "continue":
		parseTag = p.controlTag
	case "generation":
		parseTag = p.generationTag
	case "print":
		return p.printTag()
	case "block", "extends", "include", "import", "from", "autoescape":
		return nil, &tensor.UnsupportedError{
			What: "tag " + t.text + " in a chat template, line " + formatInt(int64(t.line)),
			Hint: "chat templates stand alone: put the text of the other template here",
		}
	default:
		return nil, p.failTag(t.text, t.line)
	}
	p.tags = append(p.tags, t.text)
	defer func() { p.tags = p.tags[:len(p.tags)-1] }()
	s, err := parseTag()
	return []stmt{s}, err
}

func (p *parser) printTag() ([]stmt, error) {
	line := p.next().line
	var list []stmt
	for !p.is(tokBlockEnd) {
		if len(list) > 0 {
			if _, err := p.expect(","); err != nil {
				return nil, err
			}
		}
		x, err := p.expression(true)
		if err != nil {
			return nil, err
		}
		list = append(list, &printStmt{at{line}, x})
	}
	return list, nil
}

func (p *parser) ifTag() (stmt, error) {
	s := &ifStmt{at: at{p.next().line}}
	for {
		test, err := p.tuple(tupleMode{})
		if err != nil {
			return nil, err
		}
		body, err := p.statements("elif", "else", "endif")
		if err != nil {
			return nil, err
		}
		s.tests = append(s.tests, test)
		s.bodies = append(s.bodies, body)
		switch p.next().text {
		case "elif":
			continue
		case "else":
			body, err := p.block("endif")
			if err != nil {
				return nil, err
			}
			s.bodies = append(s.bodies, body)
		}
		return s, nil
	}
}

func (p *parser) forTag() (stmt, error) {
	s := &forStmt{at: at{p.next().line}}
	var err error
	start := p.pos
	if s.target, err = p.target(targetMode{tuple: true, end: "in"}); err != nil {
		return nil, err
	}
	after := p.pos
	p.pos = start // a second copy of the target, for the test
	if s.testVars, err = p.target(targetMode{tuple: true, end: "in"}); err != nil {
		return nil, err
	}
	p.pos = after
	if err := p.expectName("in"); err != nil {
		return nil, err
	}
	if s.iter, err = p.tuple(tupleMode{end: "recursive"}); err != nil {
		return nil, err
	}
	if p.skipName("if") {
		if s.test, err = p.expression(true); err != nil {
			return nil, err
		}
	}
	s.recursive = p.skipName("recursive")
	p.loops++
	s.body, err = p.statements("endfor", "else")
	p.loops--
	if err != nil {
		return nil, err
	}
	if p.next().text == "else" {
		if s.otherwise, err = p.block("endfor"); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (p *parser) setTag() (stmt, error) {
	line := p.next().line
	target, err := p.target(targetMode{tuple: true, namespace: true})
	if err != nil {
		return nil, err
	}
	if p.skip("=") {
		value, err := p.tuple(tupleMode{cond: true})
		if err != nil {
			return nil, err
		}
		return &setStmt{at{line}, target, value}, nil
	}
	s := &setBlockStmt{at: at{line}, target: target}
	if s.filter, err = p.filters(nil, false); err != nil {
		return nil, err
	}
	s.body, err = p.block("endset")
	return s, err
}

func (p *parser) withTag() (stmt, error) {
	s := &withStmt{at: at{p.next().line}}
	for !p.is(tokBlockEnd) {
		if len(s.targets) > 0 {
			if _, err := p.expect(","); err != nil {
				return nil, err
			}
		}
		target, err := p.target(targetMode{tuple: true, param: true})
		if err != nil {
			return nil, err
		}
		if _, err := p.expect("="); err != nil {
			return nil, err
		}
		value, err := p.expression(true)
		if err != nil {
			return nil, err
		}
		s.targets = append(s.targets, target)
		s.values = append(s.values, value)
	}
	var err error
	s.body, err = p.block("endwith")
	return s, err
}

// apart parses the body of a function of its own, out of any loop around it.
func (p *parser) apart(end string) ([]stmt, error) {
	loops := p.loops
	p.loops = 0
	defer func() { p.loops = loops }()
	return p.block(end)
}

// signature parses the parameters of a macro or call block.
func (p *parser) signature(d *macroDef) error {
	if _, err := p.expect("("); err != nil {
		return err
	}
	for !p.is(")") {
		if len(d.params) > 0 {
			if _, err := p.expect(","); err != nil {
				return err
			}
		}
		t, err := p.expect(tokName)
		if err != nil {
			return err
		}
		if err := p.assignable(t); err != nil {
			return err
		}
		if p.skip("=") {
			x, err := p.expression(true)
			if err != nil {
				return err
			}
			d.defaults = append(d.defaults, x)
		} else if len(d.defaults) > 0 {
			return p.fail("non-default argument follows default argument")
		}
		if slices.ContainsFunc(d.params, func(p *nameExpr) bool { return p.name == t.text }) {
			return p.failAt(t.line, "duplicate argument %s in macro definition", quotePy(t.text))
		}
		d.params = append(d.params, &nameExpr{name: t.text, line: t.line, store: true, param: true})
	}
	_, err := p.expect(")")
	return err
}

func (p *parser) macroTag() (stmt, error) {
	line := p.next().line
	t, err := p.expect(tokName)
	if err != nil {
		return nil, err
	}
	if err := p.assignable(t); err != nil {
		return nil, err
	}
	d := &macroDef{name: t.text, line: line}
	if err := p.signature(d); err != nil {
		return nil, err
	}
	if d.body, err = p.apart("endmacro"); err != nil {
		return nil, err
	}
	return &macroStmt{at{line}, d, &nameExpr{name: t.text, line: t.line, store: true}}, nil
}

func (p *parser) callTag() (stmt, error) {
	line := p.next().line
	d := &macroDef{name: "caller", line: line}
	if p.is("(") {
		if err := p.signature(d); err != nil {
			return nil, err
		}
	}
	x, err := p.expression(true)
	if err != nil {
		return nil, err
	}
	call, ok := x.(*callExpr)
	if !ok {
		return nil, p.failAt(line, "expected call")
	}
	d.body, err = p.apart("endcall")
	return &callStmt{at{line}, d, call}, err
}

func (p *parser) generationTag() (stmt, error) {
	line := p.next().line
	d := &macroDef{name: "caller", line: line}
	var err error
	d.body, err = p.apart("endgeneration")
	return &callStmt{at{line}, d, nil}, err
}

func (p *parser) filterTag() (stmt, error) {
	s := &filterStmt{at: at{p.next().line}}
	var err error
	if s.filter, err = p.filters(nil, true); err != nil {
		return nil, err
	}
	s.body, err = p.block("endfilter")
	return s, err
}

func (p *parser) doTag() (stmt, error) {
	line := p.next().line
	x, err := p.tuple(tupleMode{cond: true})
	return &doStmt{at{line}, x}, err
}

func (p *parser) controlTag() (stmt, error) {
	t := p.next()
	if p.loops == 0 {
		return nil, p.failAt(t.line, "'%s' outside loop", t.text)
	}
	if t.text == "break" {
		return &controlStmt{at{t.line}, ctlBreak}, nil
	}
	return &controlStmt{at{t.line}, ctlContinue}, nil
}

// targetMode says what an assignment target may be.
type targetMode struct {
	tuple     bool
	namespace bool
	param     bool
	end       string // name that ends it
}

// assignable refuses the literals that look like names.
func (p *parser) assignable(t token) error {
	switch t.text {
	case "true", "false", "none", "True", "False", "None":
		return p.failAt(t.line, "can't assign to 'const'")
	}
	return nil
}

// target parses what is assigned to: a name, a tuple of names, ns.attr.
func (p *parser) target(m targetMode) (expr, error) {
	line := p.cur().line
	x, err := p.tuple(tupleMode{simple: true, namespace: m.namespace, end: m.end})
	if err != nil {
		return nil, err
	}
	return x, p.markStore(x, m.param, line)
}

func (p *parser) markStore(x expr, param bool, line int) error {
	switch x := x.(type) {
	case *nameExpr:
		x.store, x.param = true, param
		return nil
	case *nsRefExpr:
		return nil
	case *tupleExpr:
		for _, item := range x.items {
			if err := p.markStore(item, param, line); err != nil {
				return err
			}
		}
		return nil
	case *constExpr:
		return p.failAt(line, "can't assign to 'const'")
	case *listExpr:
		return p.failAt(line, "can't assign to 'list'")
	case *dictExpr:
		return p.failAt(line, "can't assign to 'dict'")
	}
	return p.failAt(line, "can't assign to this expression")
}
