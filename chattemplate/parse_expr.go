package chattemplate

import (
	"slices"
	"strconv"
	"strings"
)

// tupleMode says how parser.tuple reads its items.
type tupleMode struct {
	cond      bool   // items may be conditional expressions
	simple    bool   // items are primaries: an assignment target
	namespace bool   // ns.attr is an item
	parens    bool   // inside parentheses, where no item means ()
	end       string // a name that ends the tuple
}

// tuple parses items separated by commas: one item alone stays itself.
func (p *parser) tuple(m tupleMode) (expr, error) {
	if err := p.down(); err != nil {
		return nil, err
	}
	defer p.up()
	var items []expr
	isTuple := false
	for {
		if len(items) > 0 {
			if _, err := p.expect(","); err != nil {
				return nil, err
			}
		}
		if p.tupleEnd(m.end) {
			break
		}
		var item expr
		var err error
		if m.simple {
			item, err = p.primary(m.namespace)
		} else {
			item, err = p.expression(m.cond || m.parens)
		}
		if err != nil {
			return nil, err
		}
		items = append(items, item)
		if !p.is(",") {
			break
		}
		isTuple = true
	}
	if isTuple || len(items) == 0 && m.parens {
		return &tupleExpr{items}, nil
	}
	if len(items) == 0 {
		return nil, p.fail("Expected an expression, got %s", quotePy(p.cur().describe()))
	}
	return items[0], nil
}

func (p *parser) tupleEnd(end string) bool {
	switch p.cur().kind {
	case tokVarEnd, tokBlockEnd, ")":
		return true
	}
	return end != "" && p.isName(end)
}

// expression parses a conditional expression, or without cond one below it.
func (p *parser) expression(cond bool) (expr, error) {
	if err := p.down(); err != nil {
		return nil, err
	}
	defer p.up()
	line := p.cur().line
	x, err := p.or()
	if err != nil || !cond {
		return x, err
	}
	for n := 0; p.skipName("if"); {
		if err := p.chain(&n); err != nil {
			return nil, err
		}
		test, err := p.or()
		if err != nil {
			return nil, err
		}
		c := &condExpr{test: test, then: x, line: line}
		if p.skipName("else") {
			if c.otherwise, err = p.expression(true); err != nil {
				return nil, err
			}
		}
		x = c
		line = p.cur().line
	}
	return x, nil
}

// leftAssoc parses operands joined by the tokens that match accepts.
func (p *parser) leftAssoc(operand func() (expr, error), match func() (tokenKind, bool), join func(op tokenKind, a, b expr) expr) (expr, error) {
	x, err := operand()
	for n := 0; err == nil; {
		op, ok := match()
		if !ok {
			return x, nil
		}
		if err := p.chain(&n); err != nil {
			return nil, err
		}
		var y expr
		if y, err = operand(); err == nil {
			x = join(op, x, y)
		}
	}
	return nil, err
}

func (p *parser) matchName(name string) func() (tokenKind, bool) {
	return func() (tokenKind, bool) { return "", p.skipName(name) }
}

func (p *parser) matchOps(ops ...tokenKind) func() (tokenKind, bool) {
	return func() (tokenKind, bool) {
		op := p.cur().kind
		if slices.Contains(ops, op) {
			p.next()
			return op, true
		}
		return "", false
	}
}

func binary(op tokenKind, a, b expr) expr { return &binaryExpr{op, a, b} }

func (p *parser) or() (expr, error) {
	return p.leftAssoc(p.and, p.matchName("or"), func(_ tokenKind, a, b expr) expr { return &orExpr{a, b} })
}

func (p *parser) and() (expr, error) {
	return p.leftAssoc(p.not, p.matchName("and"), func(_ tokenKind, a, b expr) expr { return &andExpr{a, b} })
}

func (p *parser) not() (expr, error) {
	n := 0
	for p.isName("not") {
		if err := p.chain(&n); err != nil {
			return nil, err
		}
		p.next()
	}
	x, err := p.compare()
	if err != nil {
		return nil, err
	}
	for ; n > 0; n-- {
		x = &notExpr{x}
	}
	return x, nil
}

func (p *parser) compare() (expr, error) {
	first, err := p.sum()
	if err != nil {
		return nil, err
	}
	c := &compareExpr{first: first}
	for {
		op := ""
		switch t := p.cur(); {
		case t.kind == "==" || t.kind == "!=" || t.kind == "<" || t.kind == "<=" || t.kind == ">" || t.kind == ">=":
			op = string(t.kind)
			p.next()
		case p.skipName("in"):
			op = "in"
		case p.isName("not") && p.peek().kind == tokName && p.peek().text == "in":
			op = "notin"
			p.next()
			p.next()
		}
		if op == "" {
			break
		}
		x, err := p.sum()
		if err != nil {
			return nil, err
		}
		c.ops = append(c.ops, compareOperand{op, x})
	}
	if len(c.ops) == 0 {
		return first, nil
	}
	return c, nil
}

func (p *parser) sum() (expr, error) {
	return p.leftAssoc(p.concat, p.matchOps("+", "-"), binary)
}

func (p *parser) concat() (expr, error) {
	x, err := p.product()
	if err != nil || !p.is("~") {
		return x, err
	}
	c := &concatExpr{[]expr{x}}
	for p.skip("~") {
		x, err := p.product()
		if err != nil {
			return nil, err
		}
		c.items = append(c.items, x)
	}
	return c, nil
}

func (p *parser) product() (expr, error) {
	return p.leftAssoc(p.power, p.matchOps("*", "/", "//", "%"), binary)
}

// power is left associative in Jinja, unlike in Python.
func (p *parser) power() (expr, error) {
	operand := func() (expr, error) { return p.unary(true) }
	return p.leftAssoc(operand, p.matchOps("**"), binary)
}

func (p *parser) unary(withFilter bool) (expr, error) {
	if err := p.down(); err != nil {
		return nil, err
	}
	defer p.up()
	var x expr
	var err error
	if t := p.cur(); t.kind == "-" || t.kind == "+" {
		p.next()
		if x, err = p.unary(false); err == nil {
			x = &unaryExpr{t.kind[0], x}
		}
	} else {
		x, err = p.primary(false)
	}
	if err == nil {
		x, err = p.postfix(x)
	}
	if err == nil && withFilter {
		x, err = p.filterOrTest(x)
	}
	return x, err
}

func (p *parser) primary(withNamespace bool) (expr, error) {
	t := p.cur()
	switch t.kind {
	case tokName:
		p.next()
		switch t.text {
		case "true", "True":
			return &constExpr{Bool(true)}, nil
		case "false", "False":
			return &constExpr{Bool(false)}, nil
		case "none", "None":
			return &constExpr{None{}}, nil
		}
		name := &nameExpr{name: t.text, line: t.line}
		if withNamespace && p.skip(".") {
			attr, err := p.expect(tokName)
			return &nsRefExpr{name, attr.text}, err
		}
		return name, nil
	case tokString:
		var s strings.Builder // literals in a row join
		for p.is(tokString) {
			s.WriteString(p.next().text)
		}
		return &constExpr{Str(s.String())}, nil
	case tokInt, tokFloat:
		p.next()
		return number(t), nil
	case "(":
		p.next()
		x, err := p.tuple(tupleMode{cond: true, parens: true})
		if err != nil {
			return nil, err
		}
		_, err = p.expect(")")
		return x, err
	case "[":
		return p.list()
	case "{":
		return p.dict()
	}
	return nil, p.fail("unexpected %s", quotePy(t.describe()))
}

// number makes a constant of a literal, whose form the lexer has checked.
func number(t token) expr {
	if t.kind == tokFloat {
		f, _ := strconv.ParseFloat(t.text, 64)
		return &constExpr{Float(f)}
	}
	i, _ := strconv.ParseInt(t.text, 0, 64)
	return &constExpr{Int(i)}
}

// items parses up to the closing token, calling item for each one.
func (p *parser) items(end tokenKind, item func() error) error {
	p.next()
	for n := 0; !p.is(end); n++ {
		if n > 0 {
			if _, err := p.expect(","); err != nil {
				return err
			}
			if p.is(end) {
				break
			}
		}
		if err := item(); err != nil {
			return err
		}
	}
	_, err := p.expect(end)
	return err
}

func (p *parser) list() (expr, error) {
	l := &listExpr{}
	err := p.items("]", func() error {
		x, err := p.expression(true)
		l.items = append(l.items, x)
		return err
	})
	return l, err
}

func (p *parser) dict() (expr, error) {
	d := &dictExpr{}
	err := p.items("}", func() error {
		key, err := p.expression(true)
		if err != nil {
			return err
		}
		if _, err := p.expect(":"); err != nil {
			return err
		}
		val, err := p.expression(true)
		d.keys = append(d.keys, key)
		d.vals = append(d.vals, val)
		return err
	})
	return d, err
}

// postfix parses attributes, subscripts and calls after x.
func (p *parser) postfix(x expr) (expr, error) {
	for n := 0; ; {
		var err error
		switch p.cur().kind {
		case ".":
			x, err = p.attribute(x)
		case "[":
			x, err = p.subscript(x)
		case "(":
			x, err = p.call(x)
		default:
			return x, nil
		}
		if err == nil {
			err = p.chain(&n)
		}
		if err != nil {
			return nil, err
		}
	}
}

// filterOrTest parses filters, tests and calls after x.
func (p *parser) filterOrTest(x expr) (expr, error) {
	for n := 0; ; {
		var err error
		switch {
		case p.is("|"):
			x, err = p.filters(x, false)
		case p.isName("is"):
			x, err = p.test(x)
		case p.is("("):
			x, err = p.call(x)
		default:
			return x, nil
		}
		if err == nil {
			err = p.chain(&n)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) attribute(x expr) (expr, error) {
	p.next()
	t := p.next()
	switch t.kind {
	case tokName:
		return &getattrExpr{x, t.text}, nil
	case tokInt:
		return &getitemExpr{x, number(t)}, nil
	}
	return nil, p.failAt(t.line, "expected name or number")
}

func (p *parser) subscript(x expr) (expr, error) {
	p.next()
	var items []expr
	for !p.is("]") {
		if len(items) > 0 {
			if _, err := p.expect(","); err != nil {
				return nil, err
			}
		}
		item, err := p.index()
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	p.next()
	if len(items) == 1 {
		if s, ok := items[0].(*sliceExpr); ok {
			s.obj = x
			return s, nil
		}
		return &getitemExpr{x, items[0]}, nil
	}
	return &getitemExpr{x, &tupleExpr{items}}, nil
}

// index parses one subscript: an expression or a slice, whose obj is left nil.
func (p *parser) index() (expr, error) {
	s := &sliceExpr{}
	var err error
	if !p.is(":") {
		x, err := p.expression(true)
		if err != nil || !p.is(":") {
			return x, err
		}
		s.start = x
	}
	p.next()
	if !p.is(":") && !p.is("]") && !p.is(",") {
		if s.stop, err = p.expression(true); err != nil {
			return nil, err
		}
	}
	if p.skip(":") && !p.is("]") && !p.is(",") {
		if s.step, err = p.expression(true); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (p *parser) call(fn expr) (expr, error) {
	args, err := p.callArgs()
	return &callExpr{fn, args}, err
}

func (p *parser) callArgs() (argList, error) {
	var a argList
	t, err := p.expect("(")
	if err != nil {
		return a, err
	}
	bad := func() error { return p.failAt(t.line, "invalid syntax for function call expression") }
	for n := 0; !p.is(")"); n++ {
		if n > 0 {
			if _, err := p.expect(","); err != nil {
				return a, err
			}
			if p.is(")") {
				break
			}
		}
		switch {
		case p.is("*"):
			if a.dynArgs != nil || a.dynKwargs != nil {
				return a, bad()
			}
			p.next()
			a.dynArgs, err = p.expression(true)
		case p.is("**"):
			if a.dynKwargs != nil {
				return a, bad()
			}
			p.next()
			a.dynKwargs, err = p.expression(true)
		case p.is(tokName) && p.peek().kind == "=":
			if a.dynKwargs != nil {
				return a, bad()
			}
			name := p.next().text
			p.next()
			var x expr
			x, err = p.expression(true)
			if slices.Contains(a.kwNames, name) {
				return a, p.failAt(t.line, "keyword argument repeated: %s", name)
			}
			a.kwNames = append(a.kwNames, name)
			a.kwValues = append(a.kwValues, x)
		default:
			if a.dynArgs != nil || a.dynKwargs != nil || a.kwNames != nil {
				return a, bad()
			}
			var x expr
			x, err = p.expression(true)
			a.pos = append(a.pos, x)
		}
		if err != nil {
			return a, err
		}
	}
	_, err = p.expect(")")
	return a, err
}

// dottedName parses the name of a filter or test.
func (p *parser) dottedName() (token, error) {
	t, err := p.expect(tokName)
	for err == nil && p.skip(".") {
		var more token
		more, err = p.expect(tokName)
		t.text += "." + more.text
	}
	return t, err
}

// filters parses a chain of filters; inline starts without the first "|".
func (p *parser) filters(x expr, inline bool) (expr, error) {
	for n := 0; inline || p.is("|"); inline = false {
		if err := p.chain(&n); err != nil {
			return nil, err
		}
		if !inline {
			p.next()
		}
		t, err := p.dottedName()
		if err != nil {
			return nil, err
		}
		f := &filterExpr{x: x, name: t.text, line: t.line}
		if p.is("(") {
			if f.args, err = p.callArgs(); err != nil {
				return nil, err
			}
		}
		x = f
	}
	return x, nil
}

func (p *parser) test(x expr) (expr, error) {
	line := p.next().line
	negated := p.skipName("not")
	t, err := p.dottedName()
	if err != nil {
		return nil, err
	}
	test := &testExpr{x: x, name: t.text, line: line}
	switch c := p.cur(); c.kind {
	case "(":
		test.args, err = p.callArgs()
	case tokName, tokString, tokInt, tokFloat, "[", "{":
		if c.kind == tokName {
			if c.text == "else" || c.text == "or" || c.text == "and" {
				break
			}
			if c.text == "is" {
				return nil, p.fail("You cannot chain multiple tests with is")
			}
		}
		var arg expr
		if arg, err = p.primary(false); err == nil {
			arg, err = p.postfix(arg)
		}
		test.args.pos = []expr{arg}
	}
	if err != nil {
		return nil, err
	}
	if negated {
		return &notExpr{test}, nil
	}
	return test, nil
}
