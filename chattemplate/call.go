package chattemplate

import (
	"slices"
	"strings"
)

// callArgs is the arguments of one call.
type callArgs struct {
	pos     []Value
	kwNames []string
	kwVals  []Value
}

// eval computes the arguments of a call, unpacking *args and **kwargs.
func (l *argList) eval(a *activation) (*callArgs, error) {
	args := &callArgs{}
	if len(l.pos) > 0 {
		var err error
		if args.pos, err = evalAll(a, l.pos); err != nil {
			return nil, err
		}
	}
	for i, name := range l.kwNames {
		v, err := l.kwValues[i].eval(a)
		if err != nil {
			return nil, err
		}
		args.kwNames = append(args.kwNames, name)
		args.kwVals = append(args.kwVals, v)
	}
	if l.dynArgs != nil {
		v, err := l.dynArgs.eval(a)
		if err != nil {
			return nil, err
		}
		items, err := a.r.list(v)
		if err != nil {
			return nil, err
		}
		args.pos = append(args.pos, items...)
	}
	if l.dynKwargs != nil {
		v, err := l.dynKwargs.eval(a)
		if err != nil {
			return nil, err
		}
		if err := args.addMapping(v); err != nil {
			return nil, err
		}
	}
	return args, nil
}

// maxKeywords bounds the keyword arguments of one call, which are searched one
// by one.
const maxKeywords = 1000

func (c *callArgs) addMapping(v Value) error {
	d, ok := v.(*Dict)
	if !ok {
		return typeErr("argument after ** must be a mapping, not %s", v.typeName())
	}
	if len(d.keys) > maxKeywords {
		return typeErr("more than %d keyword arguments", maxKeywords)
	}
	for i, k := range d.keys {
		name, ok := k.(Str)
		if !ok {
			return typeErr("keywords must be strings")
		}
		if err := c.addKeyword(string(name), d.vals[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *callArgs) addKeyword(name string, v Value) error {
	if slices.Contains(c.kwNames, name) {
		return typeErr("got multiple values for keyword argument %s", quotePy(name))
	}
	c.kwNames = append(c.kwNames, name)
	c.kwVals = append(c.kwVals, v)
	return nil
}

// keywords hands out keyword arguments, each once.
type keywords struct {
	args *callArgs
	used []bool
}

func (c *callArgs) keywords() *keywords {
	return &keywords{c, make([]bool, len(c.kwNames))}
}

func (k *keywords) take(name string) (Value, bool) {
	for i, n := range k.args.kwNames {
		if n == name && !k.used[i] {
			k.used[i] = true
			return k.args.kwVals[i], true
		}
	}
	return nil, false
}

// left returns the names not taken, in order.
func (k *keywords) left() []string {
	var names []string
	for i, n := range k.args.kwNames {
		if !k.used[i] {
			names = append(names, n)
		}
	}
	return names
}

// bind assigns arguments to the parameters of a function, in Python's way. A
// parameter ending in "?" may be missing and then is nil; parameters before a
// "/" cannot be given by name.
func (c *callArgs) bind(fn string, params ...string) ([]Value, error) {
	positionalOnly := slices.Index(params, "/")
	if positionalOnly >= 0 {
		params = slices.Delete(slices.Clone(params), positionalOnly, positionalOnly+1)
	}
	if len(c.pos) > len(params) {
		return nil, typeErr("%s() takes at most %d arguments (%d given)", fn, len(params), len(c.pos))
	}
	vals := make([]Value, len(params))
	copy(vals, c.pos)
	for i, name := range c.kwNames {
		at := slices.IndexFunc(params, func(p string) bool { return strings.TrimSuffix(p, "?") == name })
		switch {
		case at < 0 || at < positionalOnly:
			return nil, typeErr("%s() got an unexpected keyword argument %s", fn, quotePy(name))
		case vals[at] != nil:
			return nil, typeErr("%s() got multiple values for argument %s", fn, quotePy(name))
		}
		vals[at] = c.kwVals[i]
	}
	for i, p := range params {
		if vals[i] == nil && !strings.HasSuffix(p, "?") {
			return nil, typeErr("%s() missing a required argument: %s", fn, quotePy(p))
		}
	}
	return vals, nil
}

// call calls a value, as the sandbox does.
func (r *run) call(fn Value, args *callArgs) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	switch fn := fn.(type) {
	case *macro:
		return r.callMacro(fn, args)
	case *builtin:
		return fn.call(r, args)
	case *loopContext:
		return fn.call(args)
	case *joiner:
		if !fn.used {
			fn.used = true
			return Str(""), nil
		}
		return fn.sep, nil
	case *undefined:
		return nil, fn.fail()
	}
	return nil, typeErr("'%s' object is not callable", fn.typeName())
}

// method makes a method bound to an object.
func method(name string, self Value, call func(r *run, args *callArgs) (Value, error)) *builtin {
	return &builtin{name: name, kind: "builtin_function_or_method", call: call, self: self}
}

func isCallable(v Value) bool {
	switch v.(type) {
	case *macro, *builtin, *loopContext, *joiner, *undefined:
		return true
	}
	return false
}

// globals are the functions every template can use.
func globals() map[string]Value {
	fn := func(name string, call func(r *run, args *callArgs) (Value, error)) *builtin {
		return &builtin{name: name, kind: "function", call: call}
	}
	m := map[string]Value{}
	for _, b := range []*builtin{
		fn("range", callRange), fn("dict", callDict), fn("namespace", callNamespace),
		fn("cycler", callCycler), fn("joiner", callJoiner),
		fn("raise_exception", callRaise), fn("strftime_now", callStrftimeNow),
	} {
		m[b.name] = b
	}
	return m
}

func callRaise(r *run, args *callArgs) (Value, error) {
	v, err := args.bind("raise_exception", "message")
	if err != nil {
		return nil, err
	}
	msg, err := r.str(v[0])
	if err != nil {
		return nil, err
	}
	return nil, &Error{Kind: kindRaised, Msg: msg}
}

func callStrftimeNow(r *run, args *callArgs) (Value, error) {
	v, err := args.bind("strftime_now", "format")
	if err != nil {
		return nil, err
	}
	format, ok := asStr(v[0])
	if !ok {
		return nil, typeErr("strftime() argument 1 must be str, not %s", v[0].typeName())
	}
	if err := r.alloc(8 * len(format)); err != nil {
		return nil, err
	}
	return Str(strftime(format, r.opts.Now())), nil
}

// maxRange is the longest range the sandbox makes.
const maxRange = 100000

func callRange(_ *run, args *callArgs) (Value, error) {
	if len(args.kwNames) > 0 {
		return nil, typeErr("range() takes no keyword arguments")
	}
	if len(args.pos) < 1 || len(args.pos) > 3 {
		return nil, typeErr("range expected 1 to 3 arguments, got %d", len(args.pos))
	}
	nums := make([]int64, len(args.pos))
	for i, v := range args.pos {
		n, ok := asIndex(v)
		if !ok {
			return nil, typeErr("'%s' object cannot be interpreted as an integer", v.typeName())
		}
		nums[i] = n
	}
	rg := &rangeValue{stop: nums[0], step: 1}
	if len(nums) > 1 {
		rg.start, rg.stop = nums[0], nums[1]
	}
	if len(nums) > 2 {
		rg.step = nums[2]
	}
	if rg.step == 0 {
		return nil, valueErr("range() arg 3 must not be zero")
	}
	n := rangeLen(rg.start, rg.stop, rg.step)
	if n > maxRange {
		return nil, errf(kindOverflow, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", maxRange)
	}
	rg.n = int64(n)
	return rg, nil
}

// rangeLen counts the items of a range, without overflow.
func rangeLen(start, stop, step int64) uint64 {
	switch {
	case step > 0 && start < stop:
		return (uint64(stop)-uint64(start)-1)/uint64(step) + 1
	case step < 0 && start > stop:
		return (uint64(start)-uint64(stop)-1)/(-uint64(step)) + 1
	}
	return 0
}

// fillDict is dict(mapping or pairs, **kwargs).
func (r *run) fillDict(fn string, args *callArgs) (*Dict, error) {
	if len(args.pos) > 1 {
		return nil, typeErr("%s expected at most 1 argument, got %d", fn, len(args.pos))
	}
	d := NewDict()
	if len(args.pos) == 1 {
		switch v := args.pos[0].(type) {
		case *Dict:
			if err := r.allocItems(2 * v.Len()); err != nil {
				return nil, err
			}
			d = v.clone()
		default:
			pairs, err := r.list(v)
			if err != nil {
				return nil, err
			}
			for i, p := range pairs {
				pair, err := r.list(p)
				if err != nil {
					return nil, typeErr("cannot convert dictionary update sequence element #%d to a sequence", i)
				}
				if len(pair) != 2 {
					return nil, valueErr("dictionary update sequence element #%d has length %d; 2 is required", i, len(pair))
				}
				if err := d.setItem(pair[0], pair[1]); err != nil {
					return nil, err
				}
			}
		}
	}
	for i, name := range args.kwNames {
		d.Set(name, args.kwVals[i])
	}
	return d, r.allocItems(2 * len(args.kwNames))
}

func callDict(r *run, args *callArgs) (Value, error) {
	return r.fillDict("dict", args)
}

func callNamespace(r *run, args *callArgs) (Value, error) {
	d, err := r.fillDict("dict", args)
	if err != nil {
		return nil, err
	}
	ns := &namespace{NewDict()}
	for i, k := range d.keys {
		if err := ns.set(k, d.vals[i]); err != nil {
			return nil, err
		}
	}
	return ns, nil
}

func callCycler(_ *run, args *callArgs) (Value, error) {
	if len(args.pos) == 0 {
		return nil, errf("RuntimeError", "at least one item has to be provided")
	}
	return &cycler{items: args.pos}, nil
}

func callJoiner(_ *run, args *callArgs) (Value, error) {
	v, err := args.bind("joiner", "sep?")
	if err != nil {
		return nil, err
	}
	if v[0] == nil {
		v[0] = Str(", ")
	}
	return &joiner{sep: v[0]}, nil
}

// attr returns an attribute of a cycler; nil where there is none.
func (c *cycler) attr(name string) Value {
	switch name {
	case "current":
		return c.items[c.pos]
	case "items":
		return NewTuple(c.items...)
	case "pos":
		return Int(c.pos)
	case "next":
		return method(name, c, func(*run, *callArgs) (Value, error) {
			v := c.items[c.pos]
			c.pos = (c.pos + 1) % len(c.items)
			return v, nil
		})
	case "reset":
		return method(name, c, func(*run, *callArgs) (Value, error) {
			c.pos = 0
			return None{}, nil
		})
	}
	return nil
}
