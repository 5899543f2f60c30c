package chattemplate

// Scoping follows jinja2/idtracking.py and compiler.py. Every scope is first
// scanned for the names it reads and writes; a name read but not written
// anywhere around is looked up in the render's variables on entry, a name that
// a scope writes and an outer one has too starts as a copy of the outer value,
// and a name only written starts undefined. So a set inside a loop body never
// reaches outside, and a name set later in a scope hides a variable passed in.

// varID names a variable: Jinja compiles it to a Python local of that level and
// name, of the function fn. Scopes of one level in one function share it.
type varID struct {
	level int
	name  string
	fn    *fnScope
}

// fnScope hands out the slots of one function.
type fnScope struct {
	fn    *function
	depth int
	slots map[varID]int
}

func newFnScope(depth int) *fnScope {
	return &fnScope{fn: &function{}, depth: depth, slots: map[varID]int{}}
}

func (f *fnScope) slot(id varID) int {
	s, ok := f.slots[id]
	if !ok {
		s = f.fn.slots
		f.slots[id] = s
		f.fn.slots++
	}
	return s
}

// symbolLoad is how a variable gets its value on entry to its scope.
type symbolLoad struct {
	kind loadKind
	name string
	from varID
}

// symbols is what is known of the names of one scope. The scan of a branch of
// an if has the scan so far as base and notes only what it adds.
type symbols struct {
	level  int
	parent *symbols // the scope around
	base   *symbols // the same scope before the branch, or nil
	fn     *fnScope
	refs   map[string]varID
	loads  map[varID]symbolLoad
	order  []varID // of loads
	stores map[string]bool
}

func newSymbols(parent *symbols, fn *fnScope) *symbols {
	s := &symbols{
		parent: parent, fn: fn,
		refs: map[string]varID{}, loads: map[varID]symbolLoad{}, stores: map[string]bool{},
	}
	if parent != nil {
		s.level = parent.level + 1
	}
	return s
}

// branch starts the scan of a branch.
func (s *symbols) branch() *symbols {
	b := newSymbols(s.parent, s.fn)
	b.level, b.base = s.level, s
	return b
}

// own returns the variable that a name has in this scope.
func (s *symbols) own(name string) (varID, bool) {
	for ; s != nil; s = s.base {
		if id, ok := s.refs[name]; ok {
			return id, true
		}
	}
	return varID{}, false
}

// writes tells whether this scope has assigned the name so far.
func (s *symbols) writes(name string) bool {
	for ; s != nil; s = s.base {
		if s.stores[name] {
			return true
		}
	}
	return false
}

// merge adds what a branch found.
func (s *symbols) merge(o *symbols) {
	for name, id := range o.refs {
		s.refs[name] = id
	}
	for _, id := range o.order {
		s.setLoad(id, o.loads[id])
	}
	for name := range o.stores {
		s.stores[name] = true
	}
}

func (s *symbols) setLoad(id varID, l symbolLoad) {
	if _, ok := s.loads[id]; !ok {
		s.order = append(s.order, id)
	}
	s.loads[id] = l
}

func (s *symbols) define(name string, l symbolLoad) varID {
	id := varID{s.level, name, s.fn}
	s.refs[name] = id
	s.setLoad(id, l)
	return id
}

// find returns the variable a name stands for, here or further out.
func (s *symbols) find(name string) (varID, bool) {
	for ; s != nil; s = s.parent {
		if id, ok := s.own(name); ok {
			return id, true
		}
	}
	return varID{}, false
}

func (s *symbols) store(name string) {
	s.stores[name] = true
	if _, ok := s.own(name); ok {
		return
	}
	if outer, ok := s.parent.find(name); ok {
		s.define(name, symbolLoad{kind: loadAlias, from: outer})
		return
	}
	s.define(name, symbolLoad{kind: loadUndefined})
}

func (s *symbols) parameter(name string) varID {
	s.stores[name] = true
	return s.define(name, symbolLoad{kind: loadParam})
}

func (s *symbols) load(name string) {
	if _, ok := s.find(name); !ok {
		s.define(name, symbolLoad{kind: loadResolve, name: name})
	}
}

// branches joins the scans of the branches of an if. A name written only in
// some of them keeps its outer value in the others.
func (s *symbols) branches(list ...*symbols) {
	written := map[string]bool{}
	for _, b := range list {
		for name := range b.stores {
			if !s.writes(name) {
				written[name] = true
			}
		}
	}
	for _, b := range list {
		s.merge(b)
	}
	for name := range written {
		id, _ := s.own(name)
		if outer, ok := s.parent.find(name); ok {
			s.setLoad(id, symbolLoad{kind: loadAlias, from: outer})
		} else {
			s.setLoad(id, symbolLoad{kind: loadResolve, name: name})
		}
	}
}

// scanExpr notes the names in expressions; asParam makes targets parameters.
func (s *symbols) scanExpr(asParam bool, list ...expr) {
	for _, e := range list {
		walkExpr(e, false, func(e expr, _ bool) {
			n, ok := e.(*nameExpr)
			switch {
			case !ok:
			case asParam || n.param:
				s.parameter(n.name)
			case n.store:
				s.store(n.name)
			default:
				s.load(n.name)
			}
		})
	}
}

// scan notes the names of statements, without entering scopes inside.
func (s *symbols) scan(list []stmt) {
	for _, st := range list {
		switch st := st.(type) {
		case *printStmt:
			s.scanExpr(false, st.x)
		case *doStmt:
			s.scanExpr(false, st.x)
		case *ifStmt:
			s.scanIf(st)
		case *forStmt:
			s.scanExpr(false, st.iter)
		case *setStmt:
			s.scanExpr(false, st.value, st.target)
		case *setBlockStmt:
			s.scanExpr(false, st.target)
		case *macroStmt:
			s.store(st.def.name)
		case *callStmt:
			if st.call != nil {
				s.scanExpr(false, st.call)
			}
		case *filterStmt:
			s.scanExpr(false, st.filter)
		case *withStmt:
			s.scanExpr(false, st.values...)
		}
	}
}

func (s *symbols) scanIf(st *ifStmt) {
	s.scanExpr(false, st.tests[0])
	branch := func(scan func(b *symbols)) *symbols {
		b := s.branch()
		scan(b)
		return b
	}
	body := branch(func(b *symbols) { b.scan(st.bodies[0]) })
	elifs := branch(func(b *symbols) {
		for i := 1; i < len(st.tests); i++ {
			b.scanIf(&ifStmt{tests: st.tests[i : i+1], bodies: st.bodies[i : i+1]})
		}
	})
	otherwise := branch(func(b *symbols) {
		if len(st.bodies) > len(st.tests) {
			b.scan(st.bodies[len(st.tests)])
		}
	})
	s.branches(body, elifs, otherwise)
}

// resolver fills in the slots of a parsed template.
type resolver struct{ err error }

// place is where a statement stands: its scope, and whether a condition is
// around it, where unknown filters fail only when used.
type place struct {
	syms *symbols
	soft bool
}

// resolve assigns slots to all names in the body of a template.
func resolve(body []stmt) (*function, frame, error) {
	fn := newFnScope(0)
	syms := newSymbols(nil, fn)
	syms.scan(body)
	r := &resolver{}
	r.stmts(body, place{syms: syms})
	return fn.fn, r.frame(syms), r.err
}

func (r *resolver) fail(err error, line int) {
	if r.err == nil {
		r.err = atLine(err, "", line)
	}
}

// ref turns a variable into hops and slot as seen from fn.
func ref(id varID, from *fnScope) slotRef {
	return slotRef{from.depth - id.fn.depth, id.fn.slot(id)}
}

// frame lists what is to be done on entry to and exit from a scope.
func (r *resolver) frame(s *symbols) frame {
	var f frame
	for _, id := range s.order {
		l := s.loads[id]
		slot := s.fn.slot(id)
		f.clear = append(f.clear, slot)
		switch l.kind {
		case loadParam:
		case loadAlias:
			f.loads = append(f.loads, load{slot: slot, kind: l.kind, from: ref(l.from, s.fn)})
		default:
			f.loads = append(f.loads, load{slot: slot, kind: l.kind, name: l.name})
		}
	}
	return f
}

func (r *resolver) exprs(p place, list ...expr) {
	for _, e := range list {
		walkExpr(e, p.soft, func(e expr, soft bool) {
			switch e := e.(type) {
			case *nameExpr:
				id, ok := p.syms.find(e.name)
				if !ok {
					// Jinja2 itself fails here: names used only in the filter
					// of a set block are not tracked.
					r.fail(errf(kindAssertion, "the name %s cannot be used here", quotePy(e.name)), e.line)
					return
				}
				e.ref = ref(id, p.syms.fn)
			case *filterExpr:
				if !soft && lookupFilter(e.name) == nil {
					r.fail(errf(kindAssertion, "No filter named %s.", quotePy(e.name)), e.line)
				}
			case *testExpr:
				if !soft && lookupTest(e.name) == nil {
					r.fail(errf(kindAssertion, "No test named %s.", quotePy(e.name)), e.line)
				}
			}
		})
	}
}

func (r *resolver) stmts(list []stmt, p place) {
	for _, st := range list {
		r.stmt(st, p)
	}
}

func (r *resolver) stmt(st stmt, p place) {
	switch st := st.(type) {
	case *printStmt:
		r.exprs(p, st.x)
	case *doStmt:
		r.exprs(p, st.x)
	case *ifStmt:
		p.soft = true
		r.exprs(p, st.tests...)
		for _, body := range st.bodies {
			r.stmts(body, p)
		}
	case *setStmt:
		r.exprs(p, st.target, st.value)
	case *setBlockStmt:
		syms := newSymbols(p.syms, p.syms.fn)
		syms.scan(st.body)
		r.stmts(st.body, place{syms: syms})
		r.exprs(p, st.target)
		r.exprs(place{syms: syms}, st.filter)
		st.frame = r.frame(syms)
	case *filterStmt:
		syms := newSymbols(p.syms, p.syms.fn)
		syms.scan(st.body)
		syms.scanExpr(false, st.filter)
		r.stmts(st.body, place{syms: syms})
		r.exprs(place{syms: syms}, st.filter)
		st.frame = r.frame(syms)
	case *withStmt:
		syms := newSymbols(p.syms, p.syms.fn)
		syms.scanExpr(true, st.targets...)
		syms.scan(st.body)
		r.exprs(p, st.values...)
		r.exprs(place{syms: syms}, st.targets...)
		r.stmts(st.body, place{syms: syms})
		st.frame = r.frame(syms)
	case *macroStmt:
		r.macro(st.def, p)
		r.exprs(p, st.target)
	case *callStmt:
		r.macro(st.def, p)
		if st.call != nil {
			r.exprs(p, st.call)
		}
	case *forStmt:
		r.loop(st, p)
	}
}

func (r *resolver) macro(d *macroDef, p place) {
	fn := newFnScope(p.syms.fn.depth + 1)
	syms := newSymbols(p.syms, fn)
	scan := func() {
		for _, param := range d.params {
			syms.scanExpr(true, param)
		}
		syms.scanExpr(false, d.defaults...)
		syms.scan(d.body)
	}
	scan()
	d.caller, d.kwargs, d.varargs = -1, -1, -1
	named := map[string]bool{}
	for i, param := range d.params {
		named[param.name] = true
		if param.name == "caller" {
			d.explicitCaller = true
			if i < len(d.params)-len(d.defaults) && usesFree(d.body, "caller")["caller"] {
				r.fail(errf(kindAssertion, "When defining macros or call blocks the special \"caller\" argument must be omitted or be given a default."), d.line)
			}
		}
	}
	free := usesFree(d.body, "caller", "kwargs", "varargs")
	if free["caller"] && !d.explicitCaller {
		d.caller = fn.slot(syms.parameter("caller"))
	}
	if free["kwargs"] && !named["kwargs"] {
		d.kwargs = fn.slot(syms.parameter("kwargs"))
	}
	if free["varargs"] && !named["varargs"] {
		d.varargs = fn.slot(syms.parameter("varargs"))
	}
	scan()
	inner := place{syms: syms}
	for _, param := range d.params {
		r.exprs(inner, param)
	}
	r.exprs(inner, d.defaults...)
	r.stmts(d.body, inner)
	d.fn, d.frame = fn.fn, r.frame(syms)
}

func (r *resolver) loop(st *forStmt, p place) {
	outer := p.syms.fn
	fn := outer
	if st.recursive {
		fn = newFnScope(outer.depth + 1)
	}
	syms := newSymbols(p.syms, fn)
	st.extended = st.recursive || usesFree(st.body, "loop")["loop"]
	if st.extended {
		st.loopRef = ref(syms.parameter("loop"), fn)
	}
	syms.scanExpr(true, st.target)
	syms.scan(st.body)
	walkStmts([]stmt{st}, func(e expr) {
		if n, ok := e.(*nameExpr); ok && n.store && !n.param && n.name == "loop" {
			r.fail(errf(kindAssertion, "Can't assign to special loop variable in for-loop target"), n.line)
		}
	})
	if st.test != nil {
		testFn := newFnScope(outer.depth + 1)
		tests := newSymbols(p.syms, testFn)
		tests.scanExpr(true, st.testVars)
		tests.scanExpr(false, st.test)
		r.exprs(place{syms: tests}, st.testVars, st.test)
		st.testFn, st.testFrame = testFn.fn, r.frame(tests)
	}
	r.exprs(p, st.iter)
	r.exprs(place{syms: syms}, st.target)
	r.stmts(st.body, place{syms: syms})
	st.frame = r.frame(syms)
	if len(st.otherwise) > 0 {
		other := newSymbols(p.syms, fn)
		other.scan(st.otherwise)
		r.stmts(st.otherwise, place{syms: other})
		st.elseFrame = r.frame(other)
	}
	st.fn = fn.fn
}

// usesFree tells which of the given names are read somewhere in the statements,
// scopes inside included, before any of them is written.
func usesFree(list []stmt, names ...string) map[string]bool {
	wanted, free := map[string]bool{}, map[string]bool{}
	for _, n := range names {
		wanted[n] = true
	}
	walkStmts(list, func(e expr) {
		n, ok := e.(*nameExpr)
		switch {
		case !ok:
		case !n.store && wanted[n.name]:
			free[n.name] = true
		case !free[n.name]:
			delete(wanted, n.name)
		}
	})
	return free
}

// walkStmts visits every expression in statements, in the order of the fields
// of Jinja's nodes.
func walkStmts(list []stmt, visit func(e expr)) {
	each := func(list ...expr) {
		for _, e := range list {
			walkExpr(e, false, func(e expr, _ bool) { visit(e) })
		}
	}
	def := func(d *macroDef) {
		for _, p := range d.params {
			each(p)
		}
		each(d.defaults...)
		walkStmts(d.body, visit)
	}
	for _, st := range list {
		switch st := st.(type) {
		case *printStmt:
			each(st.x)
		case *doStmt:
			each(st.x)
		case *ifStmt:
			for i, body := range st.bodies {
				if i < len(st.tests) {
					each(st.tests[i])
				}
				walkStmts(body, visit)
			}
		case *forStmt:
			each(st.target, st.iter)
			walkStmts(st.body, visit)
			walkStmts(st.otherwise, visit)
			each(st.test)
		case *setStmt:
			each(st.target, st.value)
		case *setBlockStmt:
			each(st.target, st.filter)
			walkStmts(st.body, visit)
		case *macroStmt:
			def(st.def)
		case *callStmt:
			if st.call != nil {
				each(st.call)
			}
			def(st.def)
		case *filterStmt:
			walkStmts(st.body, visit)
			each(st.filter)
		case *withStmt:
			each(st.targets...)
			each(st.values...)
			walkStmts(st.body, visit)
		}
	}
}
