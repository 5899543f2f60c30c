package chattemplate

import (
	"errors"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// getattr is obj.name in a template: the attribute, else the item of that name.
func (r *run) getattr(obj Value, name string) (Value, error) {
	v, err := r.attribute(obj, name)
	if err != nil || v != nil {
		return v, err
	}
	if d, ok := obj.(*Dict); ok {
		if v, ok := d.Get(name); ok {
			return v, nil
		}
	}
	return &undefined{obj: obj, name: Str(name), kind: kindUndefined}, nil
}

// getitem is obj[key] in a template: the item, else the attribute of that name.
func (r *run) getitem(obj, key Value) (Value, error) {
	if u, ok := obj.(*undefined); ok {
		return nil, u.fail()
	}
	v, err := r.item(obj, key)
	if err != nil || v != nil {
		return v, err
	}
	if name, ok := asStr(key); ok {
		v, err := r.attribute(obj, name)
		if err != nil || v != nil {
			return v, err
		}
	}
	return &undefined{obj: obj, name: key, kind: kindUndefined}, nil
}

// item is Python's obj[key]; nil where that raises TypeError or LookupError.
func (r *run) item(obj, key Value) (Value, error) {
	if d, ok := obj.(*Dict); ok {
		v, found, err := r.lookup(d, key)
		var raised *Error
		if errors.As(err, &raised) || !found {
			return nil, nil // an unhashable key is not there
		}
		return v, err
	}
	i, ok := asIndex(key)
	if !ok {
		return nil, nil
	}
	switch o := obj.(type) {
	case *List:
		return pick(o.items, i), nil
	case *Tuple:
		return pick(o.items, i), nil
	case Str:
		return r.char(string(o), i, false)
	case markup:
		return r.char(string(o), i, true)
	case *rangeValue:
		if i < 0 {
			i += o.n
		}
		if i >= 0 && i < o.n {
			return o.at(i), nil
		}
	}
	return nil, nil
}

func pick(items []Value, i int64) Value {
	if i < 0 {
		i += int64(len(items))
	}
	if i >= 0 && i < int64(len(items)) {
		return items[i]
	}
	return nil
}

// char is s[i] of a str, counted in characters; nil out of range.
func (r *run) char(s string, i int64, isMarkup bool) (Value, error) {
	if err := r.step(len(s)/bytesPerStep + 1); err != nil {
		return nil, err
	}
	n := int64(runeLen(s))
	if i < 0 {
		i += n
	}
	if i < 0 || i >= n {
		return nil, nil
	}
	at := byteOffset(s, int(i))
	_, size := utf8.DecodeRuneInString(s[at:])
	return strLike(s[at:at+size], isMarkup), nil
}

func strLike(s string, isMarkup bool) Value {
	if isMarkup {
		return markup(s)
	}
	return Str(s)
}

// mutators are the methods that change a list or dict, which the immutable
// sandbox refuses.
var (
	listMutators = []string{"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"}
	dictMutators = []string{"clear", "pop", "popitem", "setdefault", "update"}
)

// attribute is the sandbox's view of obj.name; nil where obj has none.
func (r *run) attribute(obj Value, name string) (Value, error) {
	if isDunder(name) {
		return unsafeAttribute(obj, name), nil
	}
	if u, ok := obj.(*undefined); ok {
		return nil, u.fail()
	}
	switch o := obj.(type) {
	case Str:
		return r.strMethod(obj, string(o), name, false), nil
	case markup:
		return r.strMethod(obj, string(o), name, true), nil
	case *Dict:
		if slices.Contains(dictMutators, name) {
			return unsafeAttribute(obj, name), nil
		}
		return dictMethod(o, name), nil
	case *List:
		if slices.Contains(listMutators, name) {
			return unsafeAttribute(obj, name), nil
		}
		return seqMethod(obj, o.items, name), nil
	case *Tuple:
		if i := slices.Index(o.names, name); i >= 0 {
			return o.items[i], nil
		}
		if name == "copy" {
			return nil, nil
		}
		return seqMethod(obj, o.items, name), nil
	case *namespace:
		if v, ok := o.attrs.Get(name); ok {
			return v, nil
		}
	case *loopContext:
		return o.attr(name)
	case *cycler:
		return o.attr(name), nil
	case *joiner:
		switch name {
		case "sep":
			return o.sep, nil
		case "used":
			return Bool(o.used), nil
		}
	case *macro:
		return o.attr(name), nil
	case *rangeValue:
		switch name {
		case "start":
			return Int(o.start), nil
		case "stop":
			return Int(o.stop), nil
		case "step":
			return Int(o.step), nil
		}
	case Int, Float, Bool, *bigInt:
		return numberAttr(obj, name), nil
	case *builtin:
		if o.name == "dict" && name == "fromkeys" {
			return method(name, o, callFromKeys), nil
		}
	}
	return nil, nil
}

// isDunder reports names such as __class__, which every Python object has some
// of and the sandbox never gives out.
func isDunder(name string) bool {
	return len(name) > 4 && strings.HasPrefix(name, "__") && strings.HasSuffix(name, "__") && slices.Contains(dunders, name)
}

// dunders are the attributes of Python's object.
var dunders = []string{
	"__class__", "__delattr__", "__dir__", "__doc__", "__eq__", "__format__", "__ge__", "__getattribute__",
	"__getstate__", "__gt__", "__hash__", "__init__", "__init_subclass__", "__le__", "__lt__", "__ne__", "__new__",
	"__reduce__", "__reduce_ex__", "__repr__", "__setattr__", "__sizeof__", "__str__", "__subclasshook__",
}

// unsafeAttribute is what the sandbox gives for an attribute it refuses: it
// fails with SecurityError when used.
func unsafeAttribute(obj Value, name string) *undefined {
	return &undefined{
		hint: "access to attribute " + quotePy(name) + " of " + quotePy(obj.typeName()) + " object is unsafe.",
		obj:  obj, name: Str(name), kind: kindSecurity,
	}
}

func (m *macro) attr(name string) Value {
	d := m.def
	switch name {
	case "name":
		return Str(d.name)
	case "arguments":
		names := NewTuple()
		for _, p := range d.params {
			names.items = append(names.items, Str(p.name))
		}
		return names
	case "catch_kwargs":
		return Bool(d.kwargs >= 0)
	case "catch_varargs":
		return Bool(d.varargs >= 0)
	case "caller":
		return Bool(d.caller >= 0 || d.explicitCaller)
	}
	return nil
}

func numberAttr(v Value, name string) Value {
	_, isFloat := v.(Float)
	switch name {
	case "real":
		if i, ok := asIndex(v); ok {
			return Int(i) // of a bool too
		}
		return v
	case "imag":
		if isFloat {
			return Float(0)
		}
		return Int(0)
	case "is_integer":
		if f, ok := v.(Float); ok {
			return method(name, v, func(*run, *callArgs) (Value, error) {
				return Bool(float64(f) == math.Trunc(float64(f)) && !math.IsInf(float64(f), 0)), nil
			})
		}
	case "bit_length":
		if i, ok := asIndex(v); ok {
			return method(name, v, func(*run, *callArgs) (Value, error) {
				n := 0
				for u := uint64(max(i, -i)); u > 0; u >>= 1 {
					n++
				}
				return Int(n), nil
			})
		}
	}
	return nil
}

func dictMethod(d *Dict, name string) Value {
	bind := func(call func(r *run, args *callArgs) (Value, error)) Value { return method(name, d, call) }
	view := func(kind byte) Value {
		return bind(func(_ *run, args *callArgs) (Value, error) {
			if _, err := args.bind("dict." + name); err != nil {
				return nil, err
			}
			return &dictView{d, kind}, nil
		})
	}
	switch name {
	case "get":
		return bind(func(r *run, args *callArgs) (Value, error) {
			v, err := args.bind("get", "key", "default?", "/")
			if err != nil {
				return nil, err
			}
			got, found, err := r.lookup(d, v[0])
			switch {
			case err != nil:
				return nil, err
			case found:
				return got, nil
			case v[1] == nil:
				return None{}, nil
			}
			return v[1], nil
		})
	case "keys":
		return view('k')
	case "values":
		return view('v')
	case "items":
		return view('i')
	case "copy":
		return bind(func(r *run, args *callArgs) (Value, error) {
			if _, err := args.bind("copy"); err != nil {
				return nil, err
			}
			return d.clone(), r.allocItems(2 * d.Len())
		})
	case "fromkeys":
		return bind(callFromKeys)
	}
	return nil
}

func callFromKeys(r *run, args *callArgs) (Value, error) {
	v, err := args.bind("fromkeys", "iterable", "value?", "/")
	if err != nil {
		return nil, err
	}
	keys, err := r.list(v[0])
	if err != nil {
		return nil, err
	}
	if v[1] == nil {
		v[1] = None{}
	}
	d := NewDict()
	for _, k := range keys {
		if err := d.setItem(k, v[1]); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// seqMethod returns the methods of list and tuple.
func seqMethod(self Value, items []Value, name string) Value {
	bind := func(call func(r *run, args *callArgs) (Value, error)) Value { return method(name, self, call) }
	switch name {
	case "count":
		return bind(func(r *run, args *callArgs) (Value, error) {
			v, err := args.bind("count", "value", "/")
			if err != nil {
				return nil, err
			}
			n := 0
			for _, item := range items {
				eq, err := r.equal(item, v[0])
				if err != nil {
					return nil, err
				}
				if eq {
					n++
				}
			}
			return Int(n), nil
		})
	case "index":
		return bind(func(r *run, args *callArgs) (Value, error) {
			v, err := args.bind("index", "value", "start?", "stop?", "/")
			if err != nil {
				return nil, err
			}
			lo, hi, err := sliceBounds(v[1], v[2], int64(len(items)))
			if err != nil {
				return nil, err
			}
			for i := lo; i < hi; i++ {
				eq, err := r.equal(items[i], v[0])
				if err != nil {
					return nil, err
				}
				if eq {
					return Int(i), nil
				}
			}
			return nil, valueErr("%s is not in list", reprOrType(v[0]))
		})
	case "copy":
		return bind(func(r *run, args *callArgs) (Value, error) {
			if _, err := args.bind("copy"); err != nil {
				return nil, err
			}
			return NewList(slices.Clone(items)...), r.allocItems(len(items))
		})
	}
	return nil
}

// sliceBounds resolves optional start and stop arguments (nil or None when
// missing) against a length, with step 1.
func sliceBounds(start, stop Value, n int64) (lo, hi int64, err error) {
	lo, hi, _, _, err = sliceRange(start, stop, None{}, n)
	return lo, hi, err
}

// sliceRange is Python's slice(start, stop, step).indices(n), and the count.
func sliceRange(start, stop, step Value, n int64) (lo, hi, by, count int64, err error) {
	part := func(v Value, missing int64) (int64, bool, error) {
		if v == nil {
			return missing, true, nil
		}
		if _, ok := v.(None); ok {
			return missing, true, nil
		}
		i, ok := asIndex(v)
		if !ok {
			return 0, false, typeErr("slice indices must be integers or None or have an __index__ method")
		}
		return i, false, nil
	}
	by, _, err = part(step, 1)
	if err != nil {
		return
	}
	if by == 0 {
		err = valueErr("slice step cannot be zero")
		return
	}
	first, last := int64(0), n // limits of positions
	if by < 0 {
		first, last = -1, n-1
	}
	clamp := func(v Value, missing int64) (int64, error) {
		i, isMissing, err := part(v, missing)
		if err != nil || isMissing {
			return i, err
		}
		if i < 0 {
			i += n
		}
		return min(max(i, first), last), nil
	}
	lowDefault, highDefault := first, last
	if by < 0 {
		lowDefault, highDefault = last, first
	}
	if lo, err = clamp(start, lowDefault); err != nil {
		return
	}
	if hi, err = clamp(stop, highDefault); err != nil {
		return
	}
	return lo, hi, by, int64(rangeLen(lo, hi, by)), nil
}

// slice is Python's obj[start:stop:step].
func (r *run) slice(obj, start, stop, step Value) (Value, error) {
	switch o := obj.(type) {
	case Str:
		s, err := r.sliceStr(string(o), start, stop, step)
		return Str(s), err
	case markup:
		s, err := r.sliceStr(string(o), start, stop, step)
		return markup(s), err
	case *List:
		items, err := r.sliceItems(o.items, start, stop, step)
		return NewList(items...), err
	case *Tuple:
		items, err := r.sliceItems(o.items, start, stop, step)
		return NewTuple(items...), err
	case *rangeValue:
		lo, hi, by, n, err := sliceRange(start, stop, step, o.n)
		if err != nil {
			return nil, err
		}
		return &rangeValue{o.start + lo*o.step, o.start + hi*o.step, o.step * by, n}, nil
	case *undefined:
		return nil, o.fail()
	case *Dict:
		return nil, typeErr("unhashable type: 'slice'")
	}
	return nil, typeErr("'%s' object is not subscriptable", obj.typeName())
}

func (r *run) sliceItems(items []Value, start, stop, step Value) ([]Value, error) {
	lo, _, by, n, err := sliceRange(start, stop, step, int64(len(items)))
	if err != nil || n == 0 {
		return nil, err
	}
	if by == 1 { // lists never change, so the part can share the items
		return items[lo : lo+n : lo+n], nil
	}
	if err := r.allocItems(int(n)); err != nil {
		return nil, err
	}
	part := make([]Value, n)
	for i := range part {
		part[i] = items[lo+int64(i)*by]
	}
	return part, nil
}

func (r *run) sliceStr(s string, start, stop, step Value) (string, error) {
	if err := r.step(len(s)/bytesPerStep + 1); err != nil {
		return "", err
	}
	lo, hi, by, n, err := sliceRange(start, stop, step, int64(runeLen(s)))
	if err != nil || n == 0 {
		return "", err
	}
	if by == 1 {
		from := byteOffset(s, int(lo))
		return s[from : from+byteOffset(s[from:], int(hi-lo))], nil
	}
	if err := r.alloc(len(s)); err != nil {
		return "", err
	}
	if by == -1 && n == int64(runeLen(s)) {
		return reverseStr(s), nil
	}
	runes := []rune(s)
	if err := r.charge(4 * len(runes)); err != nil {
		return "", err
	}
	b := make([]byte, 0, n)
	for i := int64(0); i < n; i++ {
		b = utf8.AppendRune(b, runes[lo+i*by])
	}
	return string(b), nil
}

// reverseStr reverses the characters of a str.
func reverseStr(s string) string {
	b := make([]byte, 0, len(s))
	for len(s) > 0 {
		_, size := utf8.DecodeLastRuneInString(s)
		b = append(b, s[len(s)-size:]...)
		s = s[:len(s)-size]
	}
	return string(b)
}
