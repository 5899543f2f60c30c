package chattemplate

import (
	"slices"
	"strings"
)

// newIterator makes an iterator that reads from source.
func newIterator(name string, source Value, next func() (Value, error)) (Value, error) {
	it := &iterator{name: name, next: next}
	if from, ok := source.(*iterator); ok {
		it.depth = from.depth + 1
	}
	if it.depth > maxIterators {
		return nil, errf(kindRecursion, "more than %d generators read from one another", maxIterators)
	}
	return it, nil
}

// lazy makes a generator over source whose items are computed when first asked
// for.
func lazy(source Value, items func() ([]Value, error)) (Value, error) {
	var next func() (Value, error)
	return newIterator("generator", source, func() (Value, error) {
		if next == nil {
			list, err := items()
			if err != nil {
				return nil, err
			}
			next = sliceIter(list)
		}
		return next()
	})
}

// attrGetter returns the function that follows a path such as "a.b.0" by
// subscripts, as filters take it in attribute.
func (r *run) attrGetter(attribute Value, fallback Value) func(Value) (Value, error) {
	var path []Value
	switch a := attribute.(type) {
	case Str, markup:
		s, _ := asStr(a)
		for part := range strings.SplitSeq(s, ".") {
			if n := parseInt(part, 10); n != nil && all(part, isDigit) {
				path = append(path, n)
			} else {
				path = append(path, Str(part))
			}
		}
	case nil, None:
	default:
		path = []Value{a}
	}
	_, noFallback := orNone(fallback).(None)
	return func(v Value) (Value, error) {
		for _, key := range path {
			var err error
			if v, err = r.getitem(v, key); err != nil {
				return nil, err
			}
			if _, isUndef := v.(*undefined); isUndef && !noFallback {
				v = fallback
			}
		}
		return v, nil
	}
}

func filterSum(r *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("sum", "attribute?", "start?")
	if err != nil {
		return nil, err
	}
	total := v[1]
	if total == nil {
		total = Int(0)
	}
	if _, ok := asStr(total); ok {
		return nil, typeErr("sum() can't sum strings [use ''.join(seq) instead]")
	}
	get := r.attrGetter(orNone(v[0]), nil)
	next, err := r.iterate(x)
	if err != nil {
		return nil, err
	}
	for {
		item, err := next()
		if err != nil {
			return nil, err
		}
		if item == nil {
			return total, nil
		}
		if item, err = get(item); err != nil {
			return nil, err
		}
		if err := r.step(1); err != nil {
			return nil, err
		}
		if total, err = r.binary("+", total, item); err != nil {
			return nil, err
		}
	}
}

func filterFirst(r *run, x Value, args *callArgs) (Value, error) {
	if _, err := args.bind("first"); err != nil {
		return nil, err
	}
	next, err := r.iterate(x)
	if err != nil {
		return nil, err
	}
	v, err := next()
	if v == nil && err == nil {
		return undefinedHint("No first item, sequence was empty."), nil
	}
	return v, err
}

// reversed is Python's reversed(v); ok is false where v has no order.
func (r *run) reversed(v Value) (next func() (Value, error), ok bool, err error) {
	switch v := v.(type) {
	case *List, *Tuple:
		items, _ := itemsOf(v)
		n := len(items)
		return counted(int64(n), func(i int64) Value { return items[n-1-int(i)] }), true, nil
	case *Dict:
		n := v.Len()
		return counted(int64(n), func(i int64) Value { return v.keys[n-1-int(i)] }), true, nil
	case *dictView:
		n := v.d.Len()
		return counted(int64(n), func(i int64) Value { return v.at(n - 1 - int(i)) }), true, nil
	case *rangeValue:
		return counted(v.n, func(i int64) Value { return v.at(v.n - 1 - i) }), true, nil
	case Str, markup:
		s, _ := asStr(v)
		_, isMarkup := v.(markup)
		if err := r.alloc(len(s)); err != nil {
			return nil, false, err
		}
		return runeIter(reverseStr(s), isMarkup), true, nil
	case *undefined:
		return sliceIter(nil), true, nil
	}
	return nil, false, nil
}

func filterLast(r *run, x Value, args *callArgs) (Value, error) {
	if _, err := args.bind("last"); err != nil {
		return nil, err
	}
	next, ok, err := r.reversed(x)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, typeErr("'%s' object is not reversible", x.typeName())
	}
	v, err := next()
	if v == nil && err == nil {
		return undefinedHint("No last item, sequence was empty."), nil
	}
	return v, err
}

func filterReverse(r *run, x Value, args *callArgs) (Value, error) {
	if _, err := args.bind("reverse"); err != nil {
		return nil, err
	}
	if s, ok := asStr(x); ok {
		_, isMarkup := x.(markup)
		return strLike(reverseStr(s), isMarkup), r.alloc(len(s))
	}
	next, ok, err := r.reversed(x)
	if err != nil {
		return nil, err
	}
	if ok {
		return newIterator(x.typeName()+"_reverseiterator", x, next)
	}
	if next, err = r.iterate(x); err != nil {
		return nil, errf(kindFilterArg, "argument must be iterable")
	}
	items, err := r.collect(next)
	slices.Reverse(items)
	return NewList(items...), err
}

func filterList(r *run, x Value, args *callArgs) (Value, error) {
	if _, err := args.bind("list"); err != nil {
		return nil, err
	}
	items, err := r.list(x)
	return NewList(items...), err
}

func filterItems(r *run, x Value, args *callArgs) (Value, error) {
	if _, err := args.bind("items"); err != nil {
		return nil, err
	}
	return lazy(x, func() ([]Value, error) {
		switch d := x.(type) {
		case *undefined:
			return nil, nil
		case *Dict:
			return r.list(&dictView{d, 'i'})
		}
		return nil, typeErr("Can only get item pairs from a mapping.")
	})
}

func filterJoin(r *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("join", "d?", "attribute?")
	if err != nil {
		return nil, err
	}
	sep := ""
	if v[0] != nil {
		if sep, err = r.str(v[0]); err != nil {
			return nil, err
		}
	}
	get := r.attrGetter(orNone(v[1]), nil)
	next, err := r.iterate(x)
	if err != nil {
		return nil, err
	}
	var parts []string
	for {
		item, err := next()
		if err != nil {
			return nil, err
		}
		if item == nil {
			return r.join(parts, sep)
		}
		if item, err = get(item); err != nil {
			return nil, err
		}
		text, err := r.str(item)
		if err != nil {
			return nil, err
		}
		if err := r.allocItems(1); err != nil {
			return nil, err
		}
		if err := r.step(1); err != nil {
			return nil, err
		}
		parts = append(parts, text)
	}
}

func filterBatch(r *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("batch", "linecount", "fill_with?")
	if err != nil {
		return nil, err
	}
	return lazy(x, func() ([]Value, error) {
		n, ok := asIndex(v[0])
		if !ok {
			return nil, typeErr("'%s' object cannot be interpreted as an integer", v[0].typeName())
		}
		items, err := r.list(x)
		if err != nil {
			return nil, err
		}
		var rows []Value
		row := NewList()
		for _, item := range items {
			if int64(row.Len()) == n {
				rows = append(rows, row)
				row = NewList()
			}
			row.Append(item)
		}
		if row.Len() == 0 {
			return rows, nil
		}
		if _, isNone := orNone(v[1]).(None); !isNone {
			if missing := n - int64(row.Len()); missing > 0 {
				if missing > maxRange {
					return nil, r.limit("items of filling in batch", maxRange)
				}
				if err := r.allocItems(int(missing)); err != nil {
					return nil, err
				}
				for range missing {
					row.Append(v[1])
				}
			}
		}
		return append(rows, row), r.allocItems(2 * len(items))
	})
}

func filterSlice(r *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("slice", "slices", "fill_with?")
	if err != nil {
		return nil, err
	}
	return lazy(x, func() ([]Value, error) {
		items, err := r.list(x)
		if err != nil {
			return nil, err
		}
		n, ok := asIndex(v[0])
		switch {
		case !ok:
			return nil, typeErr("'%s' object cannot be interpreted as an integer", v[0].typeName())
		case n == 0:
			return nil, zeroDivision("integer division or modulo by zero")
		case n < 0:
			return nil, nil
		case n > maxRange:
			return nil, r.limit("slices", maxRange)
		}
		if err := r.allocItems(4*int(n) + len(items)); err != nil {
			return nil, err
		}
		each, longer := int64(len(items))/n, int64(len(items))%n
		_, noFill := orNone(v[1]).(None)
		var columns []Value
		at := int64(0)
		for i := range n {
			size := each
			if i < longer {
				size++
			}
			column := NewList(slices.Clone(items[at : at+size])...)
			if !noFill && i >= longer {
				column.Append(v[1])
			}
			columns = append(columns, column)
			at += size
		}
		return columns, nil
	})
}

// filterMap applies a filter to every item, or takes an attribute of it.
func filterMap(r *run, x Value, args *callArgs) (Value, error) {
	var apply func(Value) (Value, error)
	prepare := func() error {
		kw := args.keywords()
		if attribute, ok := kw.take("attribute"); ok && len(args.pos) == 0 {
			fallback, _ := kw.take("default")
			if left := kw.left(); len(left) > 0 {
				return errf(kindFilterArg, "Unexpected keyword argument %s", quotePy(left[0]))
			}
			apply = r.attrGetter(attribute, fallback)
			return nil
		}
		if len(args.pos) == 0 {
			return errf(kindFilterArg, "map requires a filter argument")
		}
		name, _ := asStr(args.pos[0])
		filter := lookupFilter(name)
		rest := &callArgs{pos: args.pos[1:], kwNames: args.kwNames, kwVals: args.kwVals}
		apply = func(v Value) (Value, error) {
			if filter == nil {
				return nil, errf(kindRuntime, "No filter named %s.", reprOrType(args.pos[0]))
			}
			return filter(r, v, rest)
		}
		return nil
	}
	return r.generate(x, prepare, func(v Value) (Value, bool, error) {
		mapped, err := apply(v)
		return mapped, true, err
	})
}

// generate is a generator over the items of x that yields what step makes of
// them, where keep is true. prepare runs before the first item; an x that is
// false is not even looked into.
func (r *run) generate(x Value, prepare func() error, step func(Value) (v Value, keep bool, err error)) (Value, error) {
	var next func() (Value, error)
	return newIterator("generator", x, func() (Value, error) {
		if next == nil {
			if !truth(x) {
				return nil, nil
			}
			if err := prepare(); err != nil {
				return nil, err
			}
			var err error
			if next, err = r.iterate(x); err != nil {
				return nil, err
			}
		}
		for {
			item, err := next()
			if err != nil || item == nil {
				return nil, err
			}
			if err := r.step(1); err != nil {
				return nil, err
			}
			v, keep, err := step(item)
			if err != nil || keep {
				return v, err
			}
		}
	})
}

// selectFilter makes select, reject, selectattr and rejectattr.
func selectFilter(reject, byAttr bool) filterFunc {
	return func(r *run, x Value, args *callArgs) (Value, error) {
		get := func(v Value) (Value, error) { return v, nil }
		test := func(v Value) (bool, error) { return truth(v), nil }
		prepare := func() error {
			pos := args.pos
			if byAttr {
				if len(pos) == 0 {
					return errf(kindFilterArg, "Missing parameter for attribute name")
				}
				get = r.attrGetter(pos[0], nil)
				pos = pos[1:]
			}
			if len(pos) > 0 {
				name, _ := asStr(pos[0])
				f := lookupTest(name)
				rest := &callArgs{pos: pos[1:], kwNames: args.kwNames, kwVals: args.kwVals}
				test = func(v Value) (bool, error) {
					if f == nil {
						return false, errf(kindRuntime, "No test named %s.", reprOrType(pos[0]))
					}
					return f(r, v, rest)
				}
			}
			return nil
		}
		return r.generate(x, prepare, func(item Value) (Value, bool, error) {
			v, err := get(item)
			if err != nil {
				return nil, false, err
			}
			ok, err := test(v)
			return item, ok != reject, err
		})
	}
}
