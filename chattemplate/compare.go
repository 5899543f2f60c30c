package chattemplate

import (
	"fmt"
	"math"
	"strings"
)

// maxValueDepth bounds the nesting of values where a walk recurses; Python
// raises RecursionError at a similar depth.
const maxValueDepth = 500

func errTooDeep() error {
	return errf(kindRecursion, "value nested deeper than %d levels", maxValueDepth)
}

// tupleForm is the comparable form of a tuple used as a key.
type tupleForm string

// maxTupleForm bounds the text of a tupleForm: a tuple may hold the same parts
// many times over.
const maxTupleForm = 1 << 16

// hashForm is hashForm charged to the run.
func (r *run) hashForm(v Value) (any, error) {
	if s, ok := asStr(v); ok {
		return s, r.step(len(s)/bytesPerStep + 1)
	}
	if err := r.step(1); err != nil {
		return nil, err
	}
	form, err := hashForm(v)
	if t, ok := form.(tupleForm); ok && err == nil {
		err = r.charge(len(t))
	}
	return form, err
}

// lookup is Python's d[key]; found is false where that raises KeyError.
func (r *run) lookup(d *Dict, key Value) (v Value, found bool, err error) {
	form, err := r.hashForm(key)
	if err != nil {
		return nil, false, err
	}
	if i := d.find(form); i >= 0 {
		return d.vals[i], true, nil
	}
	return nil, false, nil
}

// hashForm returns a comparable Go value that is equal for equal Python values,
// or the TypeError of an unhashable one. Numbers that are equal across int,
// float and bool share a form.
func hashForm(v Value) (any, error) {
	switch v := v.(type) {
	case Str:
		return string(v), nil
	case markup:
		return string(v), nil
	case Int:
		return int64(v), nil
	case Bool:
		i, _ := asIndex(v)
		return i, nil
	case Float:
		f := float64(v)
		if f == math.Trunc(f) && f >= math.MinInt64 && f < math.MaxInt64 {
			return int64(f), nil
		}
		return f, nil
	case None:
		return v, nil
	case *bigInt:
		return tupleForm("i" + v.v.String()), nil
	case *Tuple:
		var b strings.Builder
		if err := writeTupleForm(&b, v, 0); err != nil {
			return nil, err
		}
		return tupleForm(b.String()), nil
	case *List, *Dict:
		return nil, typeErr("unhashable type: '%s'", v.typeName())
	case *undefined:
		return (*undefined)(nil), nil
	case *rangeValue:
		return *v, nil
	case *dictView:
		if v.kind != 'v' {
			return nil, typeErr("unhashable type: '%s'", v.typeName())
		}
	}
	return v, nil // by identity
}

// writeTupleForm writes the forms of a tuple's items, each with its length.
func writeTupleForm(b *strings.Builder, t *Tuple, depth int) error {
	if depth > maxValueDepth {
		return errTooDeep()
	}
	b.WriteByte('(')
	for _, item := range t.items {
		if b.Len() > maxTupleForm {
			return typeErr("a tuple of more than %d bytes cannot be a key", maxTupleForm)
		}
		if sub, ok := item.(*Tuple); ok {
			if err := writeTupleForm(b, sub, depth+1); err != nil {
				return err
			}
			continue
		}
		form, err := hashForm(item)
		if err != nil {
			return err
		}
		if s, ok := form.(string); ok {
			if len(s) > maxTupleForm {
				return typeErr("a tuple of more than %d bytes cannot be a key", maxTupleForm)
			}
			b.WriteString("s" + formatInt(int64(len(s))) + ":" + s)
			continue
		}
		text := fmt.Sprintf("%T %v", form, form)
		b.WriteString("o" + formatInt(int64(len(text))) + ":" + text)
	}
	b.WriteByte(')')
	return nil
}

// equal is Python's a == b.
func (r *run) equal(a, b Value) (bool, error) { return r.equalDepth(a, b, 0) }

func (r *run) equalDepth(a, b Value, depth int) (bool, error) {
	if depth > maxValueDepth {
		return false, errTooDeep()
	}
	if err := r.step(1); err != nil {
		return false, err
	}
	if as, ok := asStr(a); ok {
		bs, ok := asStr(b)
		if !ok || len(as) != len(bs) {
			return false, nil
		}
		return as == bs, r.step(len(as) / bytesPerStep)
	}
	if isNumber(a) && isNumber(b) {
		c, ok := compareNumbers(a, b)
		return ok && c == 0, nil
	}
	switch a := a.(type) {
	case None:
		_, ok := b.(None)
		return ok, nil
	case *undefined:
		_, ok := b.(*undefined)
		return ok, nil
	case *List:
		if b, ok := b.(*List); ok {
			return r.equalItems(a.items, b.items, depth)
		}
		return false, nil
	case *Tuple:
		if b, ok := b.(*Tuple); ok {
			return r.equalItems(a.items, b.items, depth)
		}
		return false, nil
	case *Dict:
		if b, ok := b.(*Dict); ok {
			return r.equalDicts(a, b, depth)
		}
		return false, nil
	case *rangeValue:
		b, ok := b.(*rangeValue)
		return ok && a.n == b.n && (a.n == 0 || a.start == b.start && (a.n == 1 || a.step == b.step)), nil
	case *dictView:
		if b, ok := b.(*dictView); ok && a.kind != 'v' && a.kind == b.kind {
			if a.kind == 'i' {
				return r.equalDicts(a.d, b.d, depth)
			}
			return r.sameKeys(a.d, b.d)
		}
	}
	return a == b, nil
}

func (r *run) equalItems(a, b []Value, depth int) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		if eq, err := r.equalDepth(a[i], b[i], depth+1); err != nil || !eq {
			return false, err
		}
	}
	return true, nil
}

func (r *run) equalDicts(a, b *Dict, depth int) (bool, error) {
	if len(a.keys) != len(b.keys) {
		return false, nil
	}
	for i, k := range a.keys {
		v, found, err := r.lookup(b, k)
		if err != nil || !found {
			return false, err
		}
		if eq, err := r.equalDepth(a.vals[i], v, depth+1); err != nil || !eq {
			return false, err
		}
	}
	return true, nil
}

func (r *run) sameKeys(a, b *Dict) (bool, error) {
	if len(a.keys) != len(b.keys) {
		return false, nil
	}
	for _, k := range a.keys {
		if _, found, err := r.lookup(b, k); err != nil || !found {
			return false, err
		}
	}
	return true, nil
}

// compareNumbers returns -1, 0 or 1; ok is false where a NaN is involved.
func compareNumbers(a, b Value) (c int, ok bool) {
	ai, aInt := asIndex(a)
	bi, bInt := asIndex(b)
	if aInt && bInt {
		switch {
		case ai < bi:
			return -1, true
		case ai > bi:
			return 1, true
		}
		return 0, true
	}
	if ab, ok := a.(*bigInt); ok {
		if bb, ok := b.(*bigInt); ok {
			return ab.v.Cmp(bb.v), true
		}
		if bInt {
			return ab.v.Sign(), true // beyond 64 bits on the side of its sign
		}
	}
	if bb, ok := b.(*bigInt); ok && aInt {
		return -bb.v.Sign(), true
	}
	af, _ := asFloat(a)
	bf, _ := asFloat(b)
	if math.IsNaN(af) || math.IsNaN(bf) {
		return 0, false
	}
	switch {
	case af < bf:
		return -1, true
	case af > bf:
		return 1, true
	}
	// Equal as floats; an int beyond 2^53 may still differ.
	if aInt && bf == math.Trunc(bf) && math.Abs(bf) < 1<<63 {
		return compareInts(ai, int64(bf)), true
	}
	if bInt && af == math.Trunc(af) && math.Abs(af) < 1<<63 {
		return compareInts(int64(af), bi), true
	}
	return 0, true
}

func compareInts(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// less is Python's a < b; op is the operator's spelling for messages.
func (r *run) less(a, b Value, op string) (bool, error) {
	c, ok, err := r.order(a, b, op, 0)
	return ok && c < 0, err
}

// compareOp is Python's a op b for <, <=, >, >=.
func (r *run) compareOp(a, b Value, op string) (bool, error) {
	c, ok, err := r.order(a, b, op, 0)
	if err != nil || !ok {
		return false, err
	}
	switch op {
	case "<":
		return c < 0, nil
	case "<=":
		return c <= 0, nil
	case ">":
		return c > 0, nil
	}
	return c >= 0, nil
}

// order compares a with b; ok is false where every ordering is false (NaN).
func (r *run) order(a, b Value, op string, depth int) (c int, ok bool, err error) {
	if depth > maxValueDepth {
		return 0, false, errTooDeep()
	}
	if err := r.step(1); err != nil {
		return 0, false, err
	}
	for _, v := range [2]Value{a, b} {
		if u, isUndef := v.(*undefined); isUndef {
			return 0, false, u.fail()
		}
	}
	if as, isStr := asStr(a); isStr {
		if bs, isStr := asStr(b); isStr {
			// UTF-8 order is code point order.
			return strings.Compare(as, bs), true, r.step(min(len(as), len(bs)) / bytesPerStep)
		}
	}
	if isNumber(a) && isNumber(b) {
		c, ok := compareNumbers(a, b)
		return c, ok, nil
	}
	if al, isList := a.(*List); isList {
		if bl, isList := b.(*List); isList {
			return r.orderItems(al.items, bl.items, op, depth)
		}
	}
	if at, isTuple := a.(*Tuple); isTuple {
		if bt, isTuple := b.(*Tuple); isTuple {
			return r.orderItems(at.items, bt.items, op, depth)
		}
	}
	return 0, false, typeErr("'%s' not supported between instances of '%s' and '%s'", op, a.typeName(), b.typeName())
}

func (r *run) orderItems(a, b []Value, op string, depth int) (int, bool, error) {
	for i := 0; i < len(a) && i < len(b); i++ {
		eq, err := r.equalDepth(a[i], b[i], depth+1)
		if err != nil {
			return 0, false, err
		}
		if !eq {
			return r.order(a[i], b[i], op, depth+1)
		}
	}
	return compareInts(int64(len(a)), int64(len(b))), true, nil
}

// contains is Python's item in container.
func (r *run) contains(container, item Value) (bool, error) {
	switch c := container.(type) {
	case Str, markup:
		s, _ := asStr(c)
		sub, ok := asStr(item)
		if !ok {
			return false, typeErr("'in <string>' requires string as left operand, not %s", item.typeName())
		}
		if err := r.step(len(s)/bytesPerStep + 1); err != nil {
			return false, err
		}
		return strings.Contains(s, sub), nil
	case *Dict:
		_, found, err := r.lookup(c, item)
		return found, err
	case *rangeValue:
		if i, ok := asIndex(item); ok {
			return c.has(i), nil
		}
	case *dictView:
		if c.kind == 'k' {
			_, found, err := r.lookup(c.d, item)
			return found, err
		}
	}
	next, err := r.iterate(container)
	if err != nil {
		if u, isUndef := container.(*undefined); isUndef {
			return false, u.fail()
		}
		return false, typeErr("argument of type '%s' is not iterable", container.typeName())
	}
	for {
		v, err := next()
		if err != nil || v == nil {
			return false, err
		}
		if eq, err := r.equal(v, item); err != nil || eq {
			return eq, err
		}
	}
}

func (r *rangeValue) has(i int64) bool {
	if r.n == 0 {
		return false
	}
	d := i - r.start
	return d%r.step == 0 && d/r.step >= 0 && d/r.step < r.n
}
