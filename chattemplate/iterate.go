package chattemplate

import "unicode/utf8"

// sliceIter yields the items of a slice.
func sliceIter(items []Value) func() (Value, error) {
	i := 0
	return func() (Value, error) {
		if i >= len(items) {
			return nil, nil
		}
		i++
		return items[i-1], nil
	}
}

// iterate is Python's iter(v): a function that yields the next item, nil at the
// end. It fails with TypeError on what cannot be iterated.
func (r *run) iterate(v Value) (func() (Value, error), error) {
	switch v := v.(type) {
	case *List:
		return sliceIter(v.items), nil
	case *Tuple:
		return sliceIter(v.items), nil
	case *Dict:
		return sliceIter(v.keys), nil
	case *dictView:
		return counted(int64(v.d.Len()), func(i int64) Value { return v.at(int(i)) }), nil
	case *rangeValue:
		return counted(v.n, func(i int64) Value { return v.at(i) }), nil
	case Str, markup:
		s, _ := asStr(v)
		return runeIter(s, false), nil // the characters of Markup are plain
	case *undefined:
		return sliceIter(nil), nil
	case *iterator:
		return v.next, nil
	case *loopContext:
		return func() (Value, error) {
			item, err := v.next()
			if err != nil || item == nil {
				return nil, err
			}
			return NewTuple(item, v), nil
		}, nil
	case *cycler, *joiner, *namespace, *macro, *builtin:
	}
	return nil, typeErr("'%s' object is not iterable", v.typeName())
}

func counted(n int64, at func(i int64) Value) func() (Value, error) {
	i := int64(0)
	return func() (Value, error) {
		if i >= n {
			return nil, nil
		}
		i++
		return at(i - 1), nil
	}
}

func runeIter(s string, isMarkup bool) func() (Value, error) {
	return func() (Value, error) {
		if s == "" {
			return nil, nil
		}
		_, size := utf8.DecodeRuneInString(s)
		c := s[:size]
		s = s[size:]
		return strLike(c, isMarkup), nil
	}
}

// collect reads an iterator to its end.
func (r *run) collect(next func() (Value, error)) ([]Value, error) {
	var items []Value
	for {
		v, err := next()
		if err != nil {
			return nil, err
		}
		if v == nil {
			return items, nil
		}
		if err := r.allocItems(1); err != nil {
			return nil, err
		}
		if err := r.step(1); err != nil {
			return nil, err
		}
		items = append(items, v)
	}
}

// list is Python's list(v), as a slice of its own.
func (r *run) list(v Value) ([]Value, error) {
	next, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	return r.collect(next)
}

// pyLen is Python's len(v); ok is false where v has none.
func pyLen(v Value) (n int64, ok bool) {
	switch v := v.(type) {
	case Str:
		return int64(runeLen(string(v))), true
	case markup:
		return int64(runeLen(string(v))), true
	case *List:
		return int64(len(v.items)), true
	case *Tuple:
		return int64(len(v.items)), true
	case *Dict:
		return int64(v.Len()), true
	case *dictView:
		return int64(v.d.Len()), true
	case *rangeValue:
		return v.n, true
	case *undefined:
		return 0, true
	}
	return 0, false
}

// itemsOf returns the items of a sequence without copying; ok is false for
// what is not a list or tuple.
func itemsOf(v Value) (items []Value, ok bool) {
	switch v := v.(type) {
	case *List:
		return v.items, true
	case *Tuple:
		return v.items, true
	}
	return nil, false
}
