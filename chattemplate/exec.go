package chattemplate

// activation is the variables of one run of a function.
type activation struct {
	r      *run
	slots  []Value // nil where a variable has no value
	parent *activation
}

func (r *run) activate(fn *function, parent *activation) *activation {
	return &activation{r: r, slots: make([]Value, fn.slots), parent: parent}
}

// at returns the variable a reference points to.
func (a *activation) at(ref slotRef) *Value {
	for range ref.hops {
		a = a.parent
	}
	return &a.slots[ref.slot]
}

// enter sets the variables of a scope as its names are tracked.
func (a *activation) enter(f *frame) {
	for i := range f.loads {
		l := &f.loads[i]
		switch l.kind {
		case loadResolve:
			a.slots[l.slot] = a.r.variable(l.name)
		case loadAlias:
			a.slots[l.slot] = *a.at(l.from)
		default:
			a.slots[l.slot] = nil
		}
	}
}

// leave forgets the variables of a scope.
func (a *activation) leave(f *frame) {
	for _, slot := range f.clear {
		a.slots[slot] = nil
	}
}

// variable looks a name up in the render's variables, then in the globals.
func (r *run) variable(name string) Value {
	if v, ok := r.vars.Get(name); ok {
		return v
	}
	return r.globals[name]
}

// exec runs statements until one ends the loop pass around it.
func (a *activation) exec(body []stmt, out *output) (control, error) {
	for _, s := range body {
		if err := a.r.step(1); err != nil {
			return ctlNext, atLine(err, a.r.tmpl.name, s.lineNo())
		}
		ctl, err := s.exec(a, out)
		if err != nil {
			return ctlNext, atLine(err, a.r.tmpl.name, s.lineNo())
		}
		if ctl != ctlNext {
			return ctl, nil
		}
	}
	return ctlNext, nil
}

// capture runs statements and returns what they print.
func (a *activation) capture(body []stmt) (string, control, error) {
	out := &output{r: a.r}
	ctl, err := a.exec(body, out)
	return string(out.buf), ctl, err
}

func (s *textStmt) exec(_ *activation, out *output) (control, error) {
	return ctlNext, out.write(s.text)
}

func (s *printStmt) exec(a *activation, out *output) (control, error) {
	v, err := s.x.eval(a)
	if err != nil {
		return ctlNext, err
	}
	text, err := a.r.str(v)
	if err != nil {
		return ctlNext, err
	}
	return ctlNext, out.write(text)
}

func (s *doStmt) exec(a *activation, _ *output) (control, error) {
	_, err := s.x.eval(a)
	return ctlNext, err
}

func (s *controlStmt) exec(*activation, *output) (control, error) { return s.ctl, nil }

func (s *ifStmt) exec(a *activation, out *output) (control, error) {
	for i, test := range s.tests {
		v, err := test.eval(a)
		if err != nil {
			return ctlNext, err
		}
		if truth(v) {
			return a.exec(s.bodies[i], out)
		}
	}
	if len(s.bodies) > len(s.tests) {
		return a.exec(s.bodies[len(s.tests)], out)
	}
	return ctlNext, nil
}

func (s *setStmt) exec(a *activation, _ *output) (control, error) {
	if err := checkNamespaces(a, s.target); err != nil {
		return ctlNext, err
	}
	v, err := s.value.eval(a)
	if err != nil {
		return ctlNext, err
	}
	return ctlNext, a.assign(s.target, v)
}

// checkNamespaces refuses attributes of anything but namespaces as targets,
// before the value is computed.
func checkNamespaces(a *activation, target expr) error {
	switch t := target.(type) {
	case *nsRefExpr:
		if _, ok := (*a.at(t.obj.ref)).(*namespace); !ok {
			return errf(kindRuntime, "cannot assign attribute on non-namespace object")
		}
	case *tupleExpr:
		for _, item := range t.items {
			if err := checkNamespaces(a, item); err != nil {
				return err
			}
		}
	}
	return nil
}

// assign gives a target its value, unpacking tuples.
func (a *activation) assign(target expr, v Value) error {
	switch t := target.(type) {
	case *nameExpr:
		*a.at(t.ref) = v
		return nil
	case *nsRefExpr:
		ns, ok := (*a.at(t.obj.ref)).(*namespace)
		if !ok {
			return errf(kindRuntime, "cannot assign attribute on non-namespace object")
		}
		return ns.set(Str(t.attr), v)
	case *tupleExpr:
		return a.unpack(t.items, v)
	}
	return errf(kindRuntime, "cannot assign to this expression")
}

func (a *activation) unpack(targets []expr, v Value) error {
	next, err := a.r.iterate(v)
	if err != nil {
		return typeErr("cannot unpack non-iterable %s object", v.typeName())
	}
	values := make([]Value, 0, len(targets))
	for {
		item, err := next()
		if err != nil {
			return err
		}
		if item == nil {
			break
		}
		if len(values) == len(targets) {
			return valueErr("too many values to unpack (expected %d)", len(targets))
		}
		values = append(values, item)
	}
	if len(values) < len(targets) {
		return valueErr("not enough values to unpack (expected %d, got %d)", len(targets), len(values))
	}
	for i, t := range targets {
		if err := a.assign(t, values[i]); err != nil {
			return err
		}
	}
	return nil
}

// set sets an attribute; names beginning with an underscore are refused, as
// transformers' TemplateNamespace does.
func (ns *namespace) set(name Value, v Value) error {
	if s, ok := name.(Str); ok && len(s) > 0 && s[0] == '_' {
		return errf(kindSecurity, "Chat templates cannot store underscore-prefixed attributes on a namespace, but got %s. Please rename the attribute.", quotePy(string(s)))
	}
	return ns.attrs.setItem(name, v)
}

func (s *setBlockStmt) exec(a *activation, _ *output) (control, error) {
	a.enter(&s.frame)
	text, ctl, err := a.capture(s.body)
	if err != nil || ctl != ctlNext {
		return ctl, err
	}
	v := Value(Str(text))
	if s.filter != nil {
		if v, err = applyFilters(a, s.filter, v); err != nil {
			return ctlNext, err
		}
	}
	err = a.assign(s.target, v)
	a.leave(&s.frame)
	return ctlNext, err
}

// applyFilters evaluates a chain of filters whose innermost operand is v.
func applyFilters(a *activation, chain expr, v Value) (Value, error) {
	f, ok := chain.(*filterExpr)
	if !ok {
		return v, nil
	}
	x := v
	if f.x != nil {
		var err error
		if x, err = applyFilters(a, f.x, v); err != nil {
			return nil, err
		}
	}
	return f.apply(a, x)
}

func (s *filterStmt) exec(a *activation, out *output) (control, error) {
	a.enter(&s.frame)
	text, ctl, err := a.capture(s.body)
	if err != nil || ctl != ctlNext {
		return ctl, err
	}
	v, err := applyFilters(a, s.filter, Str(text))
	if err != nil {
		return ctlNext, err
	}
	a.leave(&s.frame)
	return ctlNext, out.writeStr(v)
}

// writeStr prints what has to be a str already, as Jinja's concat demands.
func (o *output) writeStr(v Value) error {
	text, ok := asStr(v)
	if !ok {
		return typeErr("sequence item 0: expected str instance, %s found", v.typeName())
	}
	return o.write(text)
}

func (s *withStmt) exec(a *activation, out *output) (control, error) {
	a.enter(&s.frame)
	for i, target := range s.targets {
		v, err := s.values[i].eval(a)
		if err == nil {
			err = a.assign(target, v)
		}
		if err != nil {
			return ctlNext, err
		}
	}
	ctl, err := a.exec(s.body, out)
	if err == nil && ctl == ctlNext {
		a.leave(&s.frame)
	}
	return ctl, err
}

// macro is a macro, or the body of a call block, with the variables around it.
type macro struct {
	def *macroDef
	env *activation
}

func (*macro) typeName() string { return "Macro" }

func (s *macroStmt) exec(a *activation, _ *output) (control, error) {
	*a.at(s.target.ref) = &macro{s.def, a}
	return ctlNext, nil
}

func (s *callStmt) exec(a *activation, out *output) (control, error) {
	caller := &macro{s.def, a}
	if s.call == nil { // the generation tag prints its body
		v, err := a.r.callMacro(caller, &callArgs{})
		if err != nil {
			return ctlNext, err
		}
		return ctlNext, out.writeStr(v)
	}
	fn, err := s.call.fn.eval(a)
	if err != nil {
		return ctlNext, err
	}
	args, err := s.call.args.eval(a)
	if err != nil {
		return ctlNext, err
	}
	if err := args.addKeyword("caller", caller); err != nil {
		return ctlNext, err
	}
	v, err := a.r.call(fn, args)
	if err != nil {
		return ctlNext, err
	}
	return ctlNext, out.writeStr(v)
}

// callMacro binds the arguments as jinja2.runtime.Macro does and runs the body.
func (r *run) callMacro(m *macro, args *callArgs) (Value, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.leave()
	d := m.def
	a := r.activate(d.fn, m.env)
	if err := r.allocItems(d.fn.slots); err != nil {
		return nil, err
	}
	kw := args.keywords()
	foundCaller := len(args.pos) >= len(d.params) && d.explicitCaller
	for i, p := range d.params {
		if i < len(args.pos) {
			a.slots[p.ref.slot] = args.pos[i]
			continue
		}
		if p.name == "caller" {
			foundCaller = true
		}
		if v, ok := kw.take(p.name); ok {
			a.slots[p.ref.slot] = v
		}
	}
	if err := d.bindRest(a, args, kw, foundCaller); err != nil {
		return nil, err
	}
	a.enter(&d.frame)
	firstDefault := len(d.params) - len(d.defaults)
	for i, p := range d.params {
		if a.slots[p.ref.slot] != nil {
			continue
		}
		if i < firstDefault {
			a.slots[p.ref.slot] = &undefined{
				hint: "parameter " + quotePy(p.name) + " was not provided",
				name: Str(p.name), kind: kindUndefined,
			}
			continue
		}
		v, err := d.defaults[i-firstDefault].eval(a)
		if err != nil {
			return nil, atLine(err, r.tmpl.name, d.line)
		}
		a.slots[p.ref.slot] = v
	}
	text, _, err := a.capture(d.body)
	return Str(text), err
}

// bindRest sets caller, kwargs and varargs, or refuses what is left over.
func (d *macroDef) bindRest(a *activation, args *callArgs, kw *keywords, foundCaller bool) error {
	if d.caller >= 0 && !foundCaller {
		v, ok := kw.take("caller")
		if _, isNone := v.(None); !ok || isNone {
			v = &undefined{hint: "No caller defined", name: Str("caller"), kind: kindUndefined}
		}
		a.slots[d.caller] = v
	}
	if d.kwargs >= 0 {
		rest := NewDict()
		for _, name := range kw.left() {
			v, _ := kw.take(name)
			rest.Set(name, v)
		}
		a.slots[d.kwargs] = rest
	} else if left := kw.left(); len(left) > 0 {
		for _, name := range left {
			if name == "caller" {
				return typeErr("macro %s was invoked with two values for the special caller argument. This is most likely a bug.", quotePy(d.name))
			}
		}
		return typeErr("macro %s takes no keyword argument %s", quotePy(d.name), quotePy(left[0]))
	}
	var rest []Value
	if len(args.pos) > len(d.params) {
		rest = args.pos[len(d.params):]
	}
	if d.varargs >= 0 {
		a.slots[d.varargs] = NewTuple(rest...)
	} else if len(rest) > 0 {
		return typeErr("macro %s takes not more than %d argument(s)", quotePy(d.name), len(d.params))
	}
	return nil
}
