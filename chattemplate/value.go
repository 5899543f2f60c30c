package chattemplate

import (
	"math"
	"math/big"
)

// Value is a Python value as a template sees it. Callers build values from
// [Str], [Int], [Float], [Bool], [None], [List], [Tuple] and [Dict], or with
// [ParseJSON]; templates make further kinds while they run.
type Value interface {
	// typeName is the name of the Python type, as error messages give it.
	typeName() string
}

// Str is a Python str. It must be valid UTF-8.
type Str string

// Int is a Python int within 64 bits.
type Int int64

// Float is a Python float.
type Float float64

// Bool is a Python bool.
type Bool bool

// None is Python's None.
type None struct{}

// List is a Python list. Templates cannot change it.
type List struct{ items []Value }

// Tuple is a Python tuple. names, if any, are the field names of a named tuple.
type Tuple struct {
	items []Value
	names []string
}

// markup is markupsafe.Markup: a str that is already HTML-escaped, made by the
// filters escape and safe. Joining a plain str to it escapes the plain one.
type markup string

// bigInt is an int beyond 64 bits, from JSON or a conversion: it can be printed
// and compared, not computed with.
type bigInt struct{ v *big.Int }

// NewList returns a list of the given values, which it keeps.
func NewList(items ...Value) *List { return &List{items: items} }

// NewTuple returns a tuple of the given values, which it keeps.
func NewTuple(items ...Value) *Tuple { return &Tuple{items: items} }

// Len returns the number of items.
func (l *List) Len() int { return len(l.items) }

// At returns item i.
func (l *List) At(i int) Value { return l.items[i] }

// Append adds items while a list is being built, before it is rendered.
func (l *List) Append(items ...Value) { l.items = append(l.items, items...) }

func (Str) typeName() string     { return "str" }
func (Int) typeName() string     { return "int" }
func (Float) typeName() string   { return "float" }
func (Bool) typeName() string    { return "bool" }
func (None) typeName() string    { return "NoneType" }
func (*List) typeName() string   { return "list" }
func (*Tuple) typeName() string  { return "tuple" }
func (markup) typeName() string  { return "Markup" }
func (*bigInt) typeName() string { return "int" }

// undefined is jinja2.Undefined: it prints as nothing, is false and empty, and
// fails with its own message wherever it is used for more.
type undefined struct {
	hint string
	obj  Value // the object looked into; nil for a plain name
	name Value // the attribute or element, or the variable's name as Str
	kind string
}

func (*undefined) typeName() string { return "Undefined" }

func undefinedName(name string) *undefined {
	return &undefined{name: Str(name), kind: kindUndefined}
}

func undefinedHint(hint string) *undefined {
	return &undefined{hint: hint, kind: kindUndefined}
}

// fail returns the error of using an undefined value.
func (u *undefined) fail() error {
	return &Error{Kind: u.kind, Msg: u.message()}
}

func (u *undefined) message() string {
	if u.hint != "" {
		return u.hint
	}
	name, isStr := u.name.(Str)
	switch {
	case u.obj == nil:
		return reprOrType(u.name) + " is undefined"
	case !isStr:
		return objectTypeRepr(u.obj) + " has no element " + reprOrType(u.name)
	default:
		return quotePy(objectTypeRepr(u.obj)) + " has no attribute " + quotePy(string(name))
	}
}

// objectTypeRepr names an object in messages, as jinja2.utils.object_type_repr.
func objectTypeRepr(v Value) string {
	switch v.(type) {
	case None:
		return "None"
	case *namespace:
		return "jinja2.utils.Namespace object"
	case *loopContext:
		return "jinja2.runtime.LoopContext object"
	case *macro:
		return "jinja2.runtime.Macro object"
	case *undefined:
		return "jinja2.runtime.Undefined object"
	case markup:
		return "markupsafe.Markup object"
	}
	return v.typeName() + " object"
}

// namespace is the object that namespace() makes; the only one templates can
// change, by {% set ns.name = value %}.
type namespace struct{ attrs *Dict }

func (*namespace) typeName() string { return "Namespace" }

// rangeValue is a Python range.
type rangeValue struct{ start, stop, step, n int64 }

func (*rangeValue) typeName() string { return "range" }

func (r *rangeValue) at(i int64) Int { return Int(r.start + i*r.step) }

// dictView is what dict.keys(), values() and items() return.
type dictView struct {
	d    *Dict
	kind byte // 'k', 'v' or 'i'
}

func (v *dictView) typeName() string {
	switch v.kind {
	case 'k':
		return "dict_keys"
	case 'v':
		return "dict_values"
	}
	return "dict_items"
}

func (v *dictView) at(i int) Value {
	switch v.kind {
	case 'k':
		return v.d.keys[i]
	case 'v':
		return v.d.vals[i]
	}
	return NewTuple(v.d.keys[i], v.d.vals[i])
}

// iterator yields values one at a time: a Python generator or iterator. It is
// used up by iterating. Next returns nil at the end.
type iterator struct {
	name  string // Python type name
	next  func() (Value, error)
	depth int // how many iterators this one reads from, one behind the other
}

func (it *iterator) typeName() string { return it.name }

// builtin is a function the engine provides, or a method bound to its object.
type builtin struct {
	name string
	kind string // Python type name
	call func(r *run, args *callArgs) (Value, error)
	self Value // the object of a method, else nil
}

func (b *builtin) typeName() string { return b.kind }

// joiner and cycler are the Jinja globals of those names.
type joiner struct {
	sep  Value
	used bool
}

func (*joiner) typeName() string { return "Joiner" }

type cycler struct {
	items []Value
	pos   int
}

func (*cycler) typeName() string { return "Cycler" }

// Dict is a Python dict: keys in insertion order. The zero value is an empty
// dict. Keys set through the exported methods are strings.
type Dict struct {
	keys  []Value
	vals  []Value
	index map[any]int // key form -> position; nil while the dict is small
}

func (*Dict) typeName() string { return "dict" }

// indexFrom is the size from which a Dict keeps an index; below it a linear
// search over the keys is faster and smaller.
const indexFrom = 9

// NewDict returns an empty dict.
func NewDict() *Dict { return &Dict{} }

// Len returns the number of keys.
func (d *Dict) Len() int { return len(d.keys) }

// Key returns the i-th key in insertion order.
func (d *Dict) Key(i int) Value { return d.keys[i] }

// Value returns the i-th value in insertion order.
func (d *Dict) Value(i int) Value { return d.vals[i] }

// Set sets a string key, at the end if it is new, and returns the dict.
func (d *Dict) Set(key string, v Value) *Dict {
	d.put(key, Str(key), v)
	return d
}

// Get returns the value of a string key.
func (d *Dict) Get(key string) (Value, bool) {
	if i := d.find(key); i >= 0 {
		return d.vals[i], true
	}
	return nil, false
}

// put sets the key whose comparable form is form.
func (d *Dict) put(form any, key, v Value) {
	if i := d.find(form); i >= 0 {
		d.vals[i] = v
		return
	}
	d.keys = append(d.keys, key)
	d.vals = append(d.vals, v)
	switch n := len(d.keys); {
	case d.index != nil:
		d.index[form] = n - 1
	case n >= indexFrom:
		d.index = make(map[any]int, 2*n)
		for i, k := range d.keys {
			f, err := hashForm(k)
			if err == nil {
				d.index[f] = i
			}
		}
	}
}

// find returns the position of the key with that comparable form, or -1.
func (d *Dict) find(form any) int {
	if d.index != nil {
		if i, ok := d.index[form]; ok {
			return i
		}
		return -1
	}
	if s, ok := form.(string); ok {
		for i, k := range d.keys {
			if ks, ok := k.(Str); ok && string(ks) == s {
				return i
			}
		}
		return -1
	}
	for i, k := range d.keys {
		if f, err := hashForm(k); err == nil && f == form {
			return i
		}
	}
	return -1
}

// setItem is Python's d[key] = v.
func (d *Dict) setItem(key, v Value) error {
	form, err := hashForm(key)
	if err != nil {
		return err
	}
	d.put(form, key, v)
	return nil
}

func (d *Dict) clone() *Dict {
	c := &Dict{keys: append([]Value(nil), d.keys...), vals: append([]Value(nil), d.vals...)}
	if d.index != nil {
		c.index = make(map[any]int, len(d.index))
		for k, v := range d.index {
			c.index[k] = v
		}
	}
	return c
}

// truth is Python's bool(v).
func truth(v Value) bool {
	switch v := v.(type) {
	case Str:
		return v != ""
	case markup:
		return v != ""
	case Int:
		return v != 0
	case Float:
		return v != 0
	case Bool:
		return bool(v)
	case None, *undefined:
		return false
	case *List:
		return len(v.items) > 0
	case *Tuple:
		return len(v.items) > 0
	case *Dict:
		return len(v.keys) > 0
	case *dictView:
		return len(v.d.keys) > 0
	case *rangeValue:
		return v.n > 0
	}
	return true
}

// asStr returns the text of a str or Markup.
func asStr(v Value) (string, bool) {
	switch v := v.(type) {
	case Str:
		return string(v), true
	case markup:
		return string(v), true
	}
	return "", false
}

// asIndex returns the value of an int or bool, as Python's __index__.
func asIndex(v Value) (int64, bool) {
	switch v := v.(type) {
	case Int:
		return int64(v), true
	case Bool:
		if v {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

// asFloat returns the value of a number as float64.
func asFloat(v Value) (float64, bool) {
	switch v := v.(type) {
	case Float:
		return float64(v), true
	case *bigInt:
		f, _ := new(big.Float).SetInt(v.v).Float64()
		return f, true
	}
	if i, ok := asIndex(v); ok {
		return float64(i), true
	}
	return 0, false
}

// isNumber reports whether v is an int, float or bool.
func isNumber(v Value) bool {
	_, ok := asFloat(v)
	return ok
}

// floatToInt is Python's int(f).
func floatToInt(f float64) (Value, error) {
	switch {
	case math.IsNaN(f):
		return nil, valueErr("cannot convert float NaN to integer")
	case math.IsInf(f, 0):
		return nil, errf(kindOverflow, "cannot convert float infinity to integer")
	case f >= math.MaxInt64 || f < math.MinInt64:
		i, _ := big.NewFloat(f).Int(nil)
		return &bigInt{i}, nil
	}
	return Int(int64(f)), nil
}
