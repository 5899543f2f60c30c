package chattemplate

import (
	"sort"
	"strings"
)

// foldCase lowers text and leaves the rest alone.
func foldCase(v Value) Value {
	if s, ok := asStr(v); ok {
		return Str(lower(s))
	}
	return v
}

// keyed computes the sort key of every item.
func keyed(items []Value, caseSensitive bool, key func(Value) (Value, error)) ([]Value, error) {
	keys := make([]Value, len(items))
	for i, item := range items {
		k, err := key(item)
		if err != nil {
			return nil, err
		}
		if !caseSensitive {
			k = foldCase(k)
		}
		keys[i] = k
	}
	return keys, nil
}

// sortByKeys sorts items by their keys, stably, as Python's sorted.
func (r *run) sortByKeys(items, keys []Value, reverse bool) ([]Value, error) {
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	var failed error
	sort.SliceStable(order, func(i, j int) bool {
		if failed != nil {
			return false
		}
		a, b := keys[order[i]], keys[order[j]]
		if reverse {
			a, b = b, a
		}
		lt, err := r.less(a, b, "<")
		failed = err
		return lt
	})
	if failed != nil {
		return nil, failed
	}
	if err := r.allocItems(3 * len(items)); err != nil {
		return nil, err
	}
	sorted := make([]Value, len(items))
	for i, at := range order {
		sorted[i] = items[at]
	}
	return sorted, nil
}

func filterSort(r *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("sort", "reverse?", "case_sensitive?", "attribute?")
	if err != nil {
		return nil, err
	}
	items, err := r.list(x)
	if err != nil {
		return nil, err
	}
	paths := []Value{orNone(v[2])}
	if s, ok := asStr(orNone(v[2])); ok {
		paths = nil
		for part := range strings.SplitSeq(s, ",") {
			paths = append(paths, Str(part))
		}
	}
	getters := make([]func(Value) (Value, error), len(paths))
	for i, p := range paths {
		getters[i] = r.attrGetter(p, nil)
	}
	keys := make([]Value, len(items))
	for i, item := range items {
		parts := make([]Value, len(getters))
		for j, get := range getters {
			if parts[j], err = get(item); err != nil {
				return nil, err
			}
			if !isTrue(v[1]) {
				parts[j] = foldCase(parts[j])
			}
		}
		keys[i] = NewList(parts...)
	}
	sorted, err := r.sortByKeys(items, keys, isTrue(v[0]))
	return NewList(sorted...), err
}

func filterDictSort(r *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("dictsort", "case_sensitive?", "by?", "reverse?")
	if err != nil {
		return nil, err
	}
	by := "key"
	if v[1] != nil {
		by, _ = asStr(v[1])
	}
	if by != "key" && by != "value" {
		return nil, errf(kindFilterArg, "You can only sort by either \"key\" or \"value\"")
	}
	d, ok := x.(*Dict)
	if !ok {
		if u, isUndef := x.(*undefined); isUndef {
			return nil, u.fail()
		}
		return nil, errf("AttributeError", "'%s' object has no attribute 'items'", x.typeName())
	}
	if err := r.allocItems(4 * d.Len()); err != nil {
		return nil, err
	}
	items := make([]Value, d.Len())
	for i := range items {
		items[i] = NewTuple(d.keys[i], d.vals[i])
	}
	source := d.keys
	if by == "value" {
		source = d.vals
	}
	keys, err := keyed(source, isTrue(v[0]), func(v Value) (Value, error) { return v, nil })
	if err != nil {
		return nil, err
	}
	sorted, err := r.sortByKeys(items, keys, isTrue(v[2]))
	return NewList(sorted...), err
}

func filterGroupBy(r *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("groupby", "attribute", "default?", "case_sensitive?")
	if err != nil {
		return nil, err
	}
	items, err := r.list(x)
	if err != nil {
		return nil, err
	}
	get := r.attrGetter(v[0], v[1])
	keys, err := keyed(items, isTrue(v[2]), get)
	if err != nil {
		return nil, err
	}
	pairs := make([]Value, len(items))
	for i := range items {
		pairs[i] = NewTuple(keys[i], items[i])
	}
	sorted, err := r.sortByKeys(pairs, keys, false)
	if err != nil {
		return nil, err
	}
	groups := NewList()
	var current *List
	var currentKey Value
	for _, p := range sorted {
		key, item := p.(*Tuple).items[0], p.(*Tuple).items[1]
		same := false
		if current != nil {
			if same, err = r.equal(currentKey, key); err != nil {
				return nil, err
			}
		}
		if !same {
			shown, err := get(item)
			if err != nil {
				return nil, err
			}
			current, currentKey = NewList(), key
			groups.Append(&Tuple{items: []Value{shown, current}, names: []string{"grouper", "list"}})
		}
		current.Append(item)
	}
	return groups, nil
}

func filterUnique(r *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("unique", "case_sensitive?", "attribute?")
	if err != nil {
		return nil, err
	}
	get := r.attrGetter(orNone(v[1]), nil)
	return lazy(x, func() ([]Value, error) {
		items, err := r.list(x)
		if err != nil {
			return nil, err
		}
		keys, err := keyed(items, isTrue(v[0]), get)
		if err != nil {
			return nil, err
		}
		seen := map[any]bool{}
		var kept []Value
		for i, k := range keys {
			form, err := r.hashForm(k)
			if err != nil {
				return nil, err
			}
			if !seen[form] {
				seen[form] = true
				kept = append(kept, items[i])
			}
		}
		return kept, r.allocItems(4 * len(items))
	})
}

// extremeFilter makes the filters min and max.
func extremeFilter(name string) filterFunc {
	op := "<"
	if name == "max" {
		op = ">"
	}
	return func(r *run, x Value, args *callArgs) (Value, error) {
		v, err := args.bind(name, "case_sensitive?", "attribute?")
		if err != nil {
			return nil, err
		}
		items, err := r.list(x)
		if err != nil {
			return nil, err
		}
		if len(items) == 0 {
			return undefinedHint("No aggregated item, sequence was empty."), nil
		}
		keys, err := keyed(items, isTrue(v[0]), r.attrGetter(orNone(v[1]), nil))
		if err != nil {
			return nil, err
		}
		best := 0
		for i := 1; i < len(items); i++ {
			better, err := r.compareOp(keys[i], keys[best], op)
			if err != nil {
				return nil, err
			}
			if better {
				best = i
			}
		}
		return items[best], nil
	}
}
