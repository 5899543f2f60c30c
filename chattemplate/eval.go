package chattemplate

import "strings"

func (e *constExpr) eval(*activation) (Value, error) { return e.v, nil }

func (e *nameExpr) eval(a *activation) (Value, error) {
	if v := *a.at(e.ref); v != nil {
		return v, nil
	}
	return undefinedName(e.name), nil
}

func (e *nsRefExpr) eval(a *activation) (Value, error) { return e.obj.eval(a) }

func evalAll(a *activation, list []expr) ([]Value, error) {
	if err := a.r.allocItems(len(list)); err != nil {
		return nil, err
	}
	vals := make([]Value, len(list))
	for i, x := range list {
		v, err := x.eval(a)
		if err != nil {
			return nil, err
		}
		vals[i] = v
	}
	return vals, nil
}

func (e *tupleExpr) eval(a *activation) (Value, error) {
	vals, err := evalAll(a, e.items)
	return NewTuple(vals...), err
}

func (e *listExpr) eval(a *activation) (Value, error) {
	vals, err := evalAll(a, e.items)
	return NewList(vals...), err
}

func (e *dictExpr) eval(a *activation) (Value, error) {
	if err := a.r.allocItems(2 * len(e.keys)); err != nil {
		return nil, err
	}
	d := NewDict()
	for i := range e.keys {
		k, err := e.keys[i].eval(a)
		if err != nil {
			return nil, err
		}
		v, err := e.vals[i].eval(a)
		if err != nil {
			return nil, err
		}
		if err := d.setItem(k, v); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (e *condExpr) eval(a *activation) (Value, error) {
	test, err := e.test.eval(a)
	switch {
	case err != nil:
		return nil, err
	case truth(test):
		return e.then.eval(a)
	case e.otherwise != nil:
		return e.otherwise.eval(a)
	}
	return undefinedHint("the inline if-expression on line " + formatInt(int64(e.line)) +
		" evaluated to false and no else section was defined."), nil
}

func (e *orExpr) eval(a *activation) (Value, error) {
	v, err := e.a.eval(a)
	if err != nil || truth(v) {
		return v, err
	}
	return e.b.eval(a)
}

func (e *andExpr) eval(a *activation) (Value, error) {
	v, err := e.a.eval(a)
	if err != nil || !truth(v) {
		return v, err
	}
	return e.b.eval(a)
}

func (e *notExpr) eval(a *activation) (Value, error) {
	v, err := e.x.eval(a)
	if err != nil {
		return nil, err
	}
	return Bool(!truth(v)), nil
}

func (e *unaryExpr) eval(a *activation) (Value, error) {
	v, err := e.x.eval(a)
	if err != nil {
		return nil, err
	}
	return unary(e.op, v)
}

func (e *binaryExpr) eval(a *activation) (Value, error) {
	x, err := e.a.eval(a)
	if err != nil {
		return nil, err
	}
	y, err := e.b.eval(a)
	if err != nil {
		return nil, err
	}
	if err := a.r.step(1); err != nil {
		return nil, err
	}
	return a.r.binary(e.op, x, y)
}

// eval joins the str of all operands of "~".
func (e *concatExpr) eval(a *activation) (Value, error) {
	texts := make([]string, len(e.items))
	n := 0
	for i, x := range e.items {
		v, err := x.eval(a)
		if err != nil {
			return nil, err
		}
		if texts[i], err = a.r.str(v); err != nil {
			return nil, err
		}
		n += len(texts[i])
	}
	if err := a.r.alloc(n); err != nil {
		return nil, err
	}
	return Str(strings.Join(texts, "")), nil
}

// eval computes a chain a < b < c as Python: each operand once, up to the first
// comparison that fails.
func (e *compareExpr) eval(a *activation) (Value, error) {
	left, err := e.first.eval(a)
	if err != nil {
		return nil, err
	}
	for _, op := range e.ops {
		right, err := op.x.eval(a)
		if err != nil {
			return nil, err
		}
		var ok bool
		switch op.op {
		case "==":
			ok, err = a.r.equal(left, right)
		case "!=":
			ok, err = a.r.equal(left, right)
			ok = !ok
		case "in":
			ok, err = a.r.contains(right, left)
		case "notin":
			ok, err = a.r.contains(right, left)
			ok = !ok
		default:
			ok, err = a.r.compareOp(left, right, op.op)
		}
		if err != nil {
			return nil, err
		}
		if !ok {
			return Bool(false), nil
		}
		left = right
	}
	return Bool(true), nil
}

func (e *getattrExpr) eval(a *activation) (Value, error) {
	obj, err := e.obj.eval(a)
	if err != nil {
		return nil, err
	}
	return a.r.getattr(obj, e.name)
}

func (e *getitemExpr) eval(a *activation) (Value, error) {
	obj, err := e.obj.eval(a)
	if err != nil {
		return nil, err
	}
	index, err := e.index.eval(a)
	if err != nil {
		return nil, err
	}
	return a.r.getitem(obj, index)
}

func (e *sliceExpr) eval(a *activation) (Value, error) {
	if e.obj == nil { // one of several subscripts
		return nil, typeErr("a slice cannot stand among several subscripts")
	}
	var parts [4]Value
	for i, x := range [4]expr{e.obj, e.start, e.stop, e.step} {
		parts[i] = None{}
		if x == nil {
			continue
		}
		v, err := x.eval(a)
		if err != nil {
			return nil, err
		}
		parts[i] = v
	}
	return a.r.slice(parts[0], parts[1], parts[2], parts[3])
}

func (e *callExpr) eval(a *activation) (Value, error) {
	fn, err := e.fn.eval(a)
	if err != nil {
		return nil, err
	}
	args, err := e.args.eval(a)
	if err != nil {
		return nil, err
	}
	return a.r.call(fn, args)
}

func (e *filterExpr) eval(a *activation) (Value, error) {
	x, err := e.x.eval(a)
	if err != nil {
		return nil, err
	}
	return e.apply(a, x)
}

func (e *filterExpr) apply(a *activation, x Value) (Value, error) {
	args, err := e.args.eval(a)
	if err != nil {
		return nil, err
	}
	if err := a.r.step(1); err != nil {
		return nil, err
	}
	f := lookupFilter(e.name)
	if f == nil {
		return nil, errf(kindRuntime, "No filter named %s found.", quotePy(e.name))
	}
	return f(a.r, x, args)
}

func (e *testExpr) eval(a *activation) (Value, error) {
	x, err := e.x.eval(a)
	if err != nil {
		return nil, err
	}
	args, err := e.args.eval(a)
	if err != nil {
		return nil, err
	}
	if err := a.r.step(1); err != nil {
		return nil, err
	}
	f := lookupTest(e.name)
	if f == nil {
		return nil, errf(kindRuntime, "No test named %s found.", quotePy(e.name))
	}
	ok, err := f(a.r, x, args)
	return Bool(ok), err
}
