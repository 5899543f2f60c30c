package chattemplate

import "strings"

// testFunc computes x is test(args).
type testFunc func(r *run, x Value, args *callArgs) (bool, error)

// typeTests are the tests that look at the value alone.
func typeTest(name string) func(x Value) bool {
	switch name {
	case "defined":
		return func(x Value) bool { _, ok := x.(*undefined); return !ok }
	case "undefined":
		return func(x Value) bool { _, ok := x.(*undefined); return ok }
	case "none":
		return func(x Value) bool { _, ok := x.(None); return ok }
	case "boolean":
		return func(x Value) bool { _, ok := x.(Bool); return ok }
	case "true":
		return func(x Value) bool { b, ok := x.(Bool); return ok && bool(b) }
	case "false":
		return func(x Value) bool { b, ok := x.(Bool); return ok && !bool(b) }
	case "integer":
		return func(x Value) bool { _, ok := x.(Int); return ok || isBig(x) }
	case "float":
		return isFloat
	case "number":
		return isNumber
	case "string":
		return func(x Value) bool { _, ok := asStr(x); return ok }
	case "mapping":
		return func(x Value) bool { _, ok := x.(*Dict); return ok }
	case "sequence":
		return isSequenceTest
	case "iterable":
		return isIterable
	case "callable":
		return isCallable
	case "escaped":
		return func(x Value) bool { _, ok := x.(markup); return ok }
	case "filter":
		return func(x Value) bool { s, ok := asStr(x); return ok && lookupFilter(s) != nil }
	case "test":
		return func(x Value) bool { s, ok := asStr(x); return ok && lookupTest(s) != nil }
	}
	return nil
}

// isSequenceTest is true for what has a length and can be subscripted.
func isSequenceTest(x Value) bool {
	switch x.(type) {
	case Str, markup, *List, *Tuple, *Dict, *rangeValue, *undefined:
		return true
	}
	return false
}

func isIterable(x Value) bool {
	switch x.(type) {
	case *iterator, *loopContext, *dictView:
		return true
	}
	return isSequenceTest(x)
}

// lookupTest returns the test of a name; nil if there is none.
func lookupTest(name string) testFunc {
	if is := typeTest(name); is != nil {
		return func(_ *run, x Value, args *callArgs) (bool, error) {
			_, err := args.bind("test_" + name)
			return err == nil && is(x), err
		}
	}
	switch name {
	case "odd", "even":
		return func(r *run, x Value, args *callArgs) (bool, error) {
			if _, err := args.bind("test_" + name); err != nil {
				return false, err
			}
			want := Int(0)
			if name == "odd" {
				want = 1
			}
			return r.remainderIs(x, Int(2), want)
		}
	case "divisibleby":
		return func(r *run, x Value, args *callArgs) (bool, error) {
			v, err := args.bind("test_divisibleby", "num")
			if err != nil {
				return false, err
			}
			return r.remainderIs(x, v[0], Int(0))
		}
	case "lower", "upper":
		return caseTest(name)
	case "sameas":
		return oneArgTest(name, func(_ *run, x, y Value) (bool, error) { return sameObject(x, y), nil })
	case "in":
		return oneArgTest(name, func(r *run, x, y Value) (bool, error) { return r.contains(y, x) })
	case "==", "eq", "equalto":
		return oneArgTest(name, func(r *run, x, y Value) (bool, error) { return r.equal(x, y) })
	case "!=", "ne":
		return oneArgTest(name, func(r *run, x, y Value) (bool, error) {
			eq, err := r.equal(x, y)
			return !eq, err
		})
	}
	op := map[string]string{
		">": ">", "gt": ">", "greaterthan": ">", ">=": ">=", "ge": ">=",
		"<": "<", "lt": "<", "lessthan": "<", "<=": "<=", "le": "<=",
	}[name]
	if op == "" {
		return nil
	}
	return oneArgTest(name, func(r *run, x, y Value) (bool, error) { return r.compareOp(x, y, op) })
}

func oneArgTest(name string, is func(r *run, x, y Value) (bool, error)) testFunc {
	return func(r *run, x Value, args *callArgs) (bool, error) {
		v, err := args.bind("test_"+name, "other")
		if err != nil {
			return false, err
		}
		return is(r, x, v[0])
	}
}

func (r *run) remainderIs(x, by, want Value) (bool, error) {
	rest, err := r.binary("%", x, by)
	if err != nil {
		return false, err
	}
	return r.equal(rest, want)
}

func caseTest(name string) testFunc {
	return func(r *run, x Value, args *callArgs) (bool, error) {
		if _, err := args.bind("test_" + name); err != nil {
			return false, err
		}
		s, err := r.str(x)
		if name == "lower" {
			return isLowerStr(s), err
		}
		return isUpperStr(s), err
	}
}

// sameObject is Python's x is y. Equal small ints and equal texts count as one
// object, which CPython mostly makes them.
func sameObject(x, y Value) bool {
	if xs, ok := x.(Str); ok {
		ys, ok := y.(Str)
		return ok && strings.Compare(string(xs), string(ys)) == 0
	}
	return x == y
}
