package chattemplate

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/cases"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// strFunc is a method of str on the text s.
type strFunc func(r *run, s string, args *callArgs) (Value, error)

// strMethod returns a method of a str or Markup bound to it; nil if there is
// none of that name. Methods of Markup give Markup.
func (r *run) strMethod(self Value, s, name string, isMarkup bool) Value {
	f := lookupStrMethod(name)
	if f == nil {
		return nil
	}
	return method(name, self, func(r *run, args *callArgs) (Value, error) {
		if err := r.step(len(s)/bytesPerStep + 1); err != nil {
			return nil, err
		}
		if !isMarkup {
			return f(r, s, args)
		}
		v, err := f(r, s, escapeArgs(name, args))
		if err != nil {
			return nil, err
		}
		return toMarkup(v), nil
	})
}

// escapeArgs escapes the plain texts that a Markup method puts into its result.
func escapeArgs(name string, args *callArgs) *callArgs {
	c := &callArgs{pos: slices.Clone(args.pos), kwNames: args.kwNames, kwVals: slices.Clone(args.kwVals)}
	escape := func(v Value) Value {
		if s, ok := v.(Str); ok {
			return Str(escapeHTML(string(s)))
		}
		return v
	}
	switch name {
	case "replace":
		if len(c.pos) > 1 {
			c.pos[1] = escape(c.pos[1])
		}
	case "join":
		if len(c.pos) > 0 {
			if items, ok := itemsOf(c.pos[0]); ok {
				l := NewList()
				for _, item := range items {
					l.Append(escape(item))
				}
				c.pos[0] = l
			}
		}
	case "format":
		for i := range c.pos {
			c.pos[i] = escape(c.pos[i])
		}
		for i := range c.kwVals {
			c.kwVals[i] = escape(c.kwVals[i])
		}
	}
	return c
}

func toMarkup(v Value) Value {
	switch v := v.(type) {
	case Str:
		return markup(v)
	case *List:
		for i := range v.items {
			v.items[i] = toMarkup(v.items[i])
		}
	case *Tuple:
		for i := range v.items {
			v.items[i] = toMarkup(v.items[i])
		}
	}
	return v
}

func lookupStrMethod(name string) strFunc {
	switch name {
	case "startswith", "endswith":
		return affixMethod(name)
	case "split":
		return strSplit
	case "rsplit":
		return strRSplit
	case "splitlines":
		return strSplitLines
	case "partition", "rpartition":
		return partitionMethod(name)
	case "strip", "lstrip", "rstrip":
		return stripMethod(name)
	case "removeprefix":
		return cutMethod(name, strings.TrimPrefix)
	case "removesuffix":
		return cutMethod(name, strings.TrimSuffix)
	case "replace":
		return strReplace
	case "join":
		return strJoin
	case "find", "rfind", "index", "rindex":
		return findMethod(name)
	case "count":
		return strCount
	case "ljust", "rjust", "center":
		return justMethod(name)
	case "zfill":
		return strZfill
	case "expandtabs":
		return strExpandTabs
	case "format":
		return func(r *run, s string, args *callArgs) (Value, error) { return r.formatStr(s, args) }
	case "format_map":
		return strFormatMap
	case "upper":
		return caseMethod(name, upper)
	case "lower":
		return caseMethod(name, lower)
	case "casefold":
		return caseMethod(name, func(s string) string { return cases.Fold().String(s) })
	case "title":
		return caseMethod(name, title)
	case "capitalize":
		return caseMethod(name, capitalize)
	case "swapcase":
		return caseMethod(name, swapCase)
	case "encode", "translate", "maketrans":
		return func(*run, string, *callArgs) (Value, error) {
			return nil, &tensor.UnsupportedError{What: "method str." + name + " in a chat template"}
		}
	}
	if is := strPredicate(name); is != nil {
		return func(_ *run, s string, args *callArgs) (Value, error) {
			if _, err := args.bind(name); err != nil {
				return nil, err
			}
			return Bool(is(s)), nil
		}
	}
	return nil
}

func strPredicate(name string) func(s string) bool {
	each := func(ok func(rune) bool) func(string) bool {
		return func(s string) bool { return all(s, ok) }
	}
	switch name {
	case "isdigit":
		return each(isDigit)
	case "isdecimal":
		return each(func(c rune) bool { return unicode.Is(unicode.Nd, c) })
	case "isnumeric":
		return each(isNumeric)
	case "isalpha":
		return each(unicode.IsLetter)
	case "isalnum":
		return each(func(c rune) bool { return unicode.IsLetter(c) || isNumeric(c) })
	case "isspace":
		return each(isSpace)
	case "isupper":
		return isUpperStr
	case "islower":
		return isLowerStr
	case "istitle":
		return isTitleStr
	case "isascii":
		return isASCII
	case "isidentifier":
		return isIdentifier
	case "isprintable":
		return func(s string) bool { return s == "" || all(s, unicode.IsPrint) }
	}
	return nil
}

// strArg returns a str argument; name is for the message.
func strArg(v Value, fn string) (string, error) {
	s, ok := asStr(v)
	if !ok {
		return "", typeErr("%s() argument must be str, not %s", fn, v.typeName())
	}
	return s, nil
}

// newStr charges a text to the run and makes it a value.
func (r *run) newStr(s string) (Value, error) {
	return Str(s), r.alloc(len(s))
}

func caseMethod(name string, convert func(string) string) strFunc {
	return func(r *run, s string, args *callArgs) (Value, error) {
		if _, err := args.bind(name); err != nil {
			return nil, err
		}
		if err := r.alloc(len(s)); err != nil {
			return nil, err
		}
		return Str(convert(s)), nil
	}
}

// window cuts s to the optional start and end arguments, in characters, and
// returns also how many characters come before it; ok is false where start is
// beyond the end.
func window(s string, start, end Value) (part string, before int64, ok bool, err error) {
	if start == nil && end == nil {
		return s, 0, true, nil
	}
	n := int64(runeLen(s))
	lo, hi, err := sliceBounds(start, end, n)
	if err != nil {
		return "", 0, false, err
	}
	if i, isInt := asIndex(orNone(start)); isInt && i > n || lo > hi {
		return "", lo, false, nil
	}
	from := byteOffset(s, int(lo))
	return s[from : from+byteOffset(s[from:], int(hi-lo))], lo, true, nil
}

func orNone(v Value) Value {
	if v == nil {
		return None{}
	}
	return v
}

func affixMethod(name string) strFunc {
	has := strings.HasPrefix
	if name == "endswith" {
		has = strings.HasSuffix
	}
	return func(r *run, s string, args *callArgs) (Value, error) {
		v, err := args.bind(name, "prefix", "start?", "end?", "/")
		if err != nil {
			return nil, err
		}
		part, _, inside, err := window(s, v[1], v[2])
		if err != nil {
			return nil, err
		}
		options := []Value{v[0]}
		if t, ok := v[0].(*Tuple); ok {
			options = t.items
		}
		for _, o := range options {
			affix, ok := asStr(o)
			if !ok {
				return nil, typeErr("%s first arg must be str or a tuple of str, not %s", name, v[0].typeName())
			}
			if err := r.step(min(len(affix), len(part))/bytesPerStep + 1); err != nil {
				return nil, err
			}
			if inside && has(part, affix) {
				return Bool(true), nil
			}
		}
		return Bool(false), nil
	}
}

func stripMethod(name string) strFunc {
	return func(r *run, s string, args *callArgs) (Value, error) {
		v, err := args.bind(name, "chars?", "/")
		if err != nil {
			return nil, err
		}
		cut := isSpace
		if _, isNone := orNone(v[0]).(None); !isNone {
			chars, ok := asStr(v[0])
			if !ok {
				return nil, typeErr("%s arg must be None or str", name)
			}
			cut = func(c rune) bool { return strings.ContainsRune(chars, c) }
			if len(chars) > 16 { // do not search a long list for every character
				if err := r.charge(len(chars)); err != nil {
					return nil, err
				}
				set := map[rune]bool{}
				for _, c := range chars {
					set[c] = true
				}
				cut = func(c rune) bool { return set[c] }
			}
		}
		if name != "rstrip" {
			s = strings.TrimLeftFunc(s, cut)
		}
		if name != "lstrip" {
			s = strings.TrimRightFunc(s, cut)
		}
		return Str(s), nil
	}
}

func cutMethod(name string, cut func(s, affix string) string) strFunc {
	return func(_ *run, s string, args *callArgs) (Value, error) {
		v, err := args.bind(name, "affix", "/")
		if err != nil {
			return nil, err
		}
		affix, err := strArg(v[0], name)
		return Str(cut(s, affix)), err
	}
}

func strReplace(r *run, s string, args *callArgs) (Value, error) {
	v, err := args.bind("replace", "old", "new", "count?", "/")
	if err != nil {
		return nil, err
	}
	old, err := strArg(v[0], "replace")
	if err != nil {
		return nil, err
	}
	with, err := strArg(v[1], "replace")
	if err != nil {
		return nil, err
	}
	count := int64(-1)
	if v[2] != nil {
		var ok bool
		if count, ok = asIndex(v[2]); !ok {
			return nil, typeErr("'%s' object cannot be interpreted as an integer", v[2].typeName())
		}
	}
	return r.replace(s, old, with, count)
}

// replace is Python's str.replace, with the result's size checked beforehand.
func (r *run) replace(s, old, with string, count int64) (Value, error) {
	n := strings.Count(s, old)
	if count >= 0 && int64(n) > count {
		n = int(count)
	}
	if n == 0 {
		return Str(s), nil
	}
	grow := len(with) - len(old)
	if grow > 0 && n > r.opts.MaxOutput/grow {
		return nil, r.alloc(r.opts.MaxOutput + 1)
	}
	if err := r.alloc(len(s) + n*grow); err != nil {
		return nil, err
	}
	return Str(strings.Replace(s, old, with, n)), nil
}

func strJoin(r *run, s string, args *callArgs) (Value, error) {
	v, err := args.bind("join", "iterable", "/")
	if err != nil {
		return nil, err
	}
	next, err := r.iterate(v[0])
	if err != nil {
		return nil, typeErr("can only join an iterable")
	}
	items, err := r.collect(next)
	if err != nil {
		return nil, err
	}
	parts := make([]string, len(items))
	for i, item := range items {
		part, ok := asStr(item)
		if !ok {
			return nil, typeErr("sequence item %d: expected str instance, %s found", i, item.typeName())
		}
		parts[i] = part
	}
	return r.join(parts, s)
}

// join is sep.join(parts), with the result's size checked beforehand.
func (r *run) join(parts []string, sep string) (Value, error) {
	n := 0
	for i, p := range parts {
		if i > 0 {
			n += len(sep)
		}
		n += len(p)
		if n > r.opts.MaxOutput {
			break
		}
	}
	if err := r.alloc(n); err != nil {
		return nil, err
	}
	return Str(strings.Join(parts, sep)), nil
}

func findMethod(name string) strFunc {
	return func(_ *run, s string, args *callArgs) (Value, error) {
		v, err := args.bind(name, "sub", "start?", "end?", "/")
		if err != nil {
			return nil, err
		}
		sub, err := strArg(v[0], name)
		if err != nil {
			return nil, err
		}
		part, before, inside, err := window(s, v[1], v[2])
		if err != nil {
			return nil, err
		}
		i := -1
		switch {
		case !inside:
		case name[0] == 'r':
			i = strings.LastIndex(part, sub)
		default:
			i = strings.Index(part, sub)
		}
		switch {
		case i >= 0:
			return Int(before + int64(runeLen(part[:i]))), nil
		case strings.HasSuffix(name, "index"):
			return nil, valueErr("substring not found")
		}
		return Int(-1), nil
	}
}

func strCount(_ *run, s string, args *callArgs) (Value, error) {
	v, err := args.bind("count", "sub", "start?", "end?", "/")
	if err != nil {
		return nil, err
	}
	sub, err := strArg(v[0], "count")
	if err != nil {
		return nil, err
	}
	part, _, inside, err := window(s, v[1], v[2])
	if err != nil || !inside {
		return Int(0), err
	}
	return Int(strings.Count(part, sub)), nil
}

// pad returns left and right padding to a width in characters.
func (r *run) pad(s string, width int64, fill string, how string) (Value, error) {
	missing := width - int64(runeLen(s))
	if missing <= 0 {
		return Str(s), nil
	}
	if missing > int64(r.opts.MaxOutput) {
		return nil, r.alloc(r.opts.MaxOutput + 1)
	}
	if err := r.alloc(len(s) + int(missing)*len(fill)); err != nil {
		return nil, err
	}
	left := int64(0)
	switch how {
	case "rjust":
		left = missing
	case "center":
		left = missing/2 + missing&width&1
	}
	return Str(strings.Repeat(fill, int(left)) + s + strings.Repeat(fill, int(missing-left))), nil
}

func justMethod(name string) strFunc {
	return func(r *run, s string, args *callArgs) (Value, error) {
		v, err := args.bind(name, "width", "fillchar?", "/")
		if err != nil {
			return nil, err
		}
		width, ok := asIndex(v[0])
		if !ok {
			return nil, typeErr("'%s' object cannot be interpreted as an integer", v[0].typeName())
		}
		fill := " "
		if v[1] != nil {
			if fill, err = strArg(v[1], name); err != nil {
				return nil, err
			}
			if runeLen(fill) != 1 {
				return nil, typeErr("The fill character must be exactly one character long")
			}
		}
		return r.pad(s, width, fill, name)
	}
}

func strZfill(r *run, s string, args *callArgs) (Value, error) {
	v, err := args.bind("zfill", "width", "/")
	if err != nil {
		return nil, err
	}
	width, ok := asIndex(v[0])
	if !ok {
		return nil, typeErr("'%s' object cannot be interpreted as an integer", v[0].typeName())
	}
	sign := ""
	if s != "" && (s[0] == '+' || s[0] == '-') {
		sign, s = s[:1], s[1:]
	}
	p, err := r.pad(s, width-int64(len(sign)), "0", "rjust")
	if err != nil {
		return nil, err
	}
	return Str(sign) + p.(Str), nil
}

func strExpandTabs(r *run, s string, args *callArgs) (Value, error) {
	v, err := args.bind("expandtabs", "tabsize?")
	if err != nil {
		return nil, err
	}
	size := int64(8)
	if v[0] != nil {
		var ok bool
		if size, ok = asIndex(v[0]); !ok {
			return nil, typeErr("'%s' object cannot be interpreted as an integer", v[0].typeName())
		}
	}
	out := &output{r: r}
	column := int64(0)
	for _, c := range s {
		text := string(c)
		switch {
		case c == '\t' && size <= 0:
			text = ""
		case c == '\t':
			n := size - column%size
			if n > int64(r.opts.MaxOutput) {
				return nil, r.alloc(r.opts.MaxOutput + 1)
			}
			text = strings.Repeat(" ", int(n))
			column += n
		case c == '\n' || c == '\r':
			column = 0
		default:
			column++
		}
		if err := out.write(text); err != nil {
			return nil, err
		}
	}
	return Str(out.buf), nil
}

func strFormatMap(r *run, s string, args *callArgs) (Value, error) {
	if len(args.kwNames) > 0 {
		return nil, typeErr("format_map() takes no keyword arguments")
	}
	if len(args.pos) != 1 {
		return nil, typeErr("format_map() takes exactly one argument (%d given)", len(args.pos))
	}
	named := &callArgs{}
	if d, ok := args.pos[0].(*Dict); ok {
		for i, k := range d.keys {
			if name, ok := k.(Str); ok {
				named.kwNames = append(named.kwNames, string(name))
				named.kwVals = append(named.kwVals, d.vals[i])
			}
		}
	}
	return r.formatStr(s, named)
}
