package chattemplate

import (
	"iter"
	"slices"
	"strings"
	"unicode/utf8"
)

// newStrList makes a list of texts, charging each as it comes.
func (r *run) newStrList(parts iter.Seq[string]) (*List, error) {
	l := NewList()
	for p := range parts {
		if err := r.allocItems(2); err != nil {
			return nil, err
		}
		l.items = append(l.items, Str(p))
	}
	return l, nil
}

// splitArgs reads sep and maxsplit; sep is nil for white space.
func splitArgs(fn string, args *callArgs) (sep *string, limit int64, err error) {
	v, err := args.bind(fn, "sep?", "maxsplit?")
	if err != nil {
		return nil, 0, err
	}
	limit = -1
	if v[1] != nil {
		n, ok := asIndex(v[1])
		if !ok {
			return nil, 0, typeErr("'%s' object cannot be interpreted as an integer", v[1].typeName())
		}
		limit = n
	}
	if _, isNone := orNone(v[0]).(None); isNone {
		return nil, limit, nil
	}
	s, ok := asStr(v[0])
	if !ok {
		return nil, 0, typeErr("must be str or None, not %s", v[0].typeName())
	}
	if s == "" {
		return nil, 0, valueErr("empty separator")
	}
	return &s, limit, nil
}

func strSplit(r *run, s string, args *callArgs) (Value, error) {
	sep, limit, err := splitArgs("split", args)
	if err != nil {
		return nil, err
	}
	if sep == nil {
		return r.newStrList(fields(s, limit))
	}
	return r.newStrList(func(yield func(string) bool) {
		for n := int64(0); limit < 0 || n < limit; n++ {
			before, after, found := strings.Cut(s, *sep)
			if !found {
				break
			}
			if !yield(before) {
				return
			}
			s = after
		}
		yield(s)
	})
}

// fields splits at runs of white space, at most limit times from the left.
func fields(s string, limit int64) iter.Seq[string] {
	return func(yield func(string) bool) {
		for n := int64(0); ; n++ {
			s = strings.TrimLeftFunc(s, isSpace)
			if s == "" {
				return
			}
			i := strings.IndexFunc(s, isSpace)
			if i < 0 || limit >= 0 && n >= limit {
				yield(s)
				return
			}
			if !yield(s[:i]) {
				return
			}
			s = s[i:]
		}
	}
}

func strRSplit(r *run, s string, args *callArgs) (Value, error) {
	sep, limit, err := splitArgs("rsplit", args)
	if err != nil {
		return nil, err
	}
	l, err := r.newStrList(func(yield func(string) bool) {
		for n := int64(0); limit < 0 || n < limit; n++ {
			i, size := 0, 0
			if sep == nil {
				s = strings.TrimRightFunc(s, isSpace)
				i = strings.LastIndexFunc(s, isSpace)
				_, size = utf8.DecodeRuneInString(s[max(i, 0):])
			} else {
				i, size = strings.LastIndex(s, *sep), len(*sep)
			}
			if i < 0 {
				break
			}
			if !yield(s[i+size:]) {
				return
			}
			s = s[:i]
		}
		if sep == nil {
			s = strings.TrimRightFunc(s, isSpace)
		}
		if sep != nil || s != "" {
			yield(s)
		}
	})
	if err != nil {
		return nil, err
	}
	slices.Reverse(l.items)
	return l, nil
}

func strSplitLines(r *run, s string, args *callArgs) (Value, error) {
	v, err := args.bind("splitlines", "keepends?")
	if err != nil {
		return nil, err
	}
	return r.newStrList(splitLines(s, v[0] != nil && truth(v[0])))
}

func partitionMethod(name string) strFunc {
	return func(_ *run, s string, args *callArgs) (Value, error) {
		v, err := args.bind(name, "sep", "/")
		if err != nil {
			return nil, err
		}
		sep, err := strArg(v[0], name)
		if err != nil {
			return nil, err
		}
		if sep == "" {
			return nil, valueErr("empty separator")
		}
		i := strings.Index(s, sep)
		if name == "rpartition" {
			i = strings.LastIndex(s, sep)
		}
		switch {
		case i >= 0:
			return NewTuple(Str(s[:i]), Str(sep), Str(s[i+len(sep):])), nil
		case name == "rpartition":
			return NewTuple(Str(""), Str(""), Str(s)), nil
		}
		return NewTuple(Str(s), Str(""), Str("")), nil
	}
}
