package chattemplate

// loopContext is the variable loop inside a for statement.
type loopContext struct {
	r        *run
	iterable Value
	pull     func() (Value, error) // the items, one at a time
	depth0   int64
	index0   int64
	count    int64 // number of items, -1 before it is known
	after    Value // the next item, if peeked at
	peeked   bool
	current  Value
	before   Value
	changed  *Tuple // the arguments of the last loop.changed
	recurse  func(iterable Value, depth0 int64) (Value, error)
}

func (*loopContext) typeName() string { return "LoopContext" }

// next moves on to the next item; nil at the end.
func (l *loopContext) next() (Value, error) {
	var v Value
	var err error
	if l.peeked {
		v, l.after, l.peeked = l.after, nil, false
	} else {
		v, err = l.pull()
	}
	if err != nil || v == nil {
		return nil, err
	}
	l.index0++
	l.before, l.current = l.current, v
	return v, nil
}

func (l *loopContext) peek() (Value, error) {
	if !l.peeked {
		v, err := l.pull()
		if err != nil {
			return nil, err
		}
		l.after, l.peeked = v, true
	}
	return l.after, nil
}

// length is the number of items; it reads the rest of an iterator ahead.
func (l *loopContext) length() (int64, error) {
	if l.count >= 0 {
		return l.count, nil
	}
	if n, ok := pyLen(l.iterable); ok {
		l.count = n
		return n, nil
	}
	rest, err := l.r.collect(l.pull)
	if err != nil {
		return 0, err
	}
	l.count = int64(len(rest)) + l.index0 + 1
	if l.peeked && l.after != nil {
		l.count++
	}
	l.pull = sliceIter(rest)
	return l.count, nil
}

// attr returns an attribute of loop; nil where there is none.
func (l *loopContext) attr(name string) (Value, error) {
	switch name {
	case "index0":
		return Int(l.index0), nil
	case "index":
		return Int(l.index0 + 1), nil
	case "first":
		return Bool(l.index0 == 0), nil
	case "depth0":
		return Int(l.depth0), nil
	case "depth":
		return Int(l.depth0 + 1), nil
	case "length", "revindex", "revindex0":
		n, err := l.length()
		switch name {
		case "revindex":
			n -= l.index0
		case "revindex0":
			n -= l.index0 + 1
		}
		return Int(n), err
	case "last":
		v, err := l.peek()
		return Bool(v == nil), err
	case "nextitem":
		v, err := l.peek()
		if v == nil {
			return undefinedHint("there is no next item"), err
		}
		return v, nil
	case "previtem":
		if l.index0 == 0 {
			return undefinedHint("there is no previous item"), nil
		}
		return l.before, nil
	case "cycle":
		return method("cycle", l, l.cycleItem), nil
	case "changed":
		return method("changed", l, l.hasChanged), nil
	}
	return nil, nil
}

func (l *loopContext) cycleItem(_ *run, args *callArgs) (Value, error) {
	if len(args.pos) == 0 {
		return nil, typeErr("no items for cycling given")
	}
	return args.pos[l.index0%int64(len(args.pos))], nil
}

func (l *loopContext) hasChanged(r *run, args *callArgs) (Value, error) {
	now := NewTuple(args.pos...)
	if l.changed != nil {
		eq, err := r.equal(l.changed, now)
		if err != nil {
			return nil, err
		}
		if eq {
			return Bool(false), nil
		}
	}
	l.changed = now
	return Bool(true), nil
}

func (l *loopContext) call(args *callArgs) (Value, error) {
	if l.recurse == nil {
		return nil, typeErr("The loop must have the 'recursive' marker to be called recursively.")
	}
	v, err := args.bind("loop", "iterable")
	if err != nil {
		return nil, err
	}
	return l.recurse(v[0], l.depth0+1)
}

func (s *forStmt) exec(a *activation, out *output) (control, error) {
	iterable, err := s.iter.eval(a)
	if err != nil {
		return ctlNext, err
	}
	if !s.recursive {
		return s.loop(a, a, iterable, 0, nil, out)
	}
	// A recursive loop is a function: loop(items) runs it again and returns
	// what it prints.
	var recurse func(iterable Value, depth0 int64) (Value, error)
	recurse = func(iterable Value, depth0 int64) (Value, error) {
		if err := a.r.enter(); err != nil {
			return nil, err
		}
		defer a.r.leave()
		inner := a.r.activate(s.fn, a)
		if err := a.r.allocItems(s.fn.slots); err != nil {
			return nil, err
		}
		text := &output{r: a.r}
		_, err := s.loop(inner, a, iterable, depth0, recurse, text)
		return Str(text.buf), err
	}
	v, err := recurse(iterable, 0)
	if err != nil {
		return ctlNext, err
	}
	return ctlNext, out.writeStr(v)
}

// loop runs the body for every item, in the activation a; outer is the one
// around a recursive loop.
func (s *forStmt) loop(a, outer *activation, iterable Value, depth0 int64, recurse func(Value, int64) (Value, error), out *output) (control, error) {
	pull, err := a.r.iterate(iterable)
	if err != nil {
		return ctlNext, err
	}
	if s.test != nil {
		pull = s.filtered(outer, pull)
		if iterable, err = newIterator("generator", iterable, pull); err != nil {
			return ctlNext, err
		}
	}
	next := pull
	var loop *loopContext
	if s.extended {
		loop = &loopContext{r: a.r, iterable: iterable, pull: pull, depth0: depth0, index0: -1, count: -1, recurse: recurse}
		next = loop.next
	}
	// As in Jinja2, passes that end by continue or break do not keep the else
	// part from running.
	completed := false
	for {
		v, err := next()
		if err != nil {
			return ctlNext, err
		}
		if v == nil {
			break
		}
		if err := a.r.step(1); err != nil {
			return ctlNext, err
		}
		if err := a.assign(s.target, v); err != nil {
			return ctlNext, err
		}
		if loop != nil {
			*a.at(s.loopRef) = loop
		}
		a.enter(&s.frame)
		ctl, err := a.exec(s.body, out)
		if err != nil {
			return ctlNext, err
		}
		if ctl == ctlBreak {
			break
		}
		if ctl == ctlNext {
			completed = true
		}
	}
	a.leave(&s.frame)
	if completed || len(s.otherwise) == 0 {
		return ctlNext, nil
	}
	a.enter(&s.elseFrame)
	ctl, err := a.exec(s.otherwise, out)
	a.leave(&s.elseFrame)
	return ctl, err
}

// filtered yields the items that pass the loop's if, computed when asked for.
func (s *forStmt) filtered(outer *activation, pull func() (Value, error)) func() (Value, error) {
	a := outer.r.activate(s.testFn, outer)
	entered := false
	return func() (Value, error) {
		if !entered {
			a.enter(&s.testFrame)
			entered = true
		}
		for {
			v, err := pull()
			if err != nil || v == nil {
				return nil, err
			}
			if err := a.r.step(1); err != nil {
				return nil, err
			}
			if err := a.assign(s.testVars, v); err != nil {
				return nil, err
			}
			ok, err := s.test.eval(a)
			if err != nil {
				return nil, err
			}
			if truth(ok) {
				return v, nil
			}
		}
	}
}
