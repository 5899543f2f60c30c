package chattemplate

import (
	"strings"
	"unicode"
)

// textFilter makes a filter of a function of text.
func textFilter(name string, convert func(string) string) filterFunc {
	return func(r *run, x Value, args *callArgs) (Value, error) {
		if _, err := args.bind(name); err != nil {
			return nil, err
		}
		s, isMarkup, err := r.softStr(x)
		if err != nil {
			return nil, err
		}
		if err := r.alloc(len(s)); err != nil {
			return nil, err
		}
		return strLike(convert(s), isMarkup), nil
	}
}

// titleWords is the filter title: a capital after white space and - ( { [ <.
func titleWords(s string) string {
	var b strings.Builder
	isBreak := func(c rune) bool { return isSpace(c) || strings.ContainsRune("-({[<", c) }
	for s != "" {
		i := strings.IndexFunc(s, isBreak)
		if i < 0 {
			i = len(s)
		}
		if i > 0 {
			first := byteOffset(s[:i], 1)
			b.WriteString(upper(s[:first]) + lower(s[first:i]))
		}
		rest := strings.TrimLeftFunc(s[i:], isBreak)
		b.WriteString(s[i : len(s)-len(rest)])
		s = rest
	}
	return b.String()
}

func filterCenter(r *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("center", "width?")
	if err != nil {
		return nil, err
	}
	width, err := intArg(v[0], 80)
	if err != nil {
		return nil, err
	}
	s, isMarkup, err := r.softStr(x)
	if err != nil {
		return nil, err
	}
	out, err := r.pad(s, width, " ", "center")
	if isMarkup {
		out = toMarkup(out)
	}
	return out, err
}

func filterEscape(r *run, x Value, args *callArgs) (Value, error) {
	if _, err := args.bind("escape"); err != nil {
		return nil, err
	}
	if m, ok := x.(markup); ok {
		return m, nil
	}
	return filterForceEscape(r, x, args)
}

func filterForceEscape(r *run, x Value, args *callArgs) (Value, error) {
	if _, err := args.bind("forceescape"); err != nil {
		return nil, err
	}
	s, err := r.str(x)
	if err != nil {
		return nil, err
	}
	if err := r.alloc(5 * len(s)); err != nil {
		return nil, err
	}
	return markup(escapeHTML(s)), nil
}

func filterSafe(r *run, x Value, args *callArgs) (Value, error) {
	if _, err := args.bind("safe"); err != nil {
		return nil, err
	}
	s, err := r.str(x)
	return markup(s), err
}

func filterString(r *run, x Value, args *callArgs) (Value, error) {
	if _, err := args.bind("soft_str"); err != nil {
		return nil, err
	}
	s, isMarkup, err := r.softStr(x)
	return strLike(s, isMarkup), err
}

func filterFormat(r *run, x Value, args *callArgs) (Value, error) {
	s, isMarkup, err := r.softStr(x)
	if err != nil {
		return nil, err
	}
	values := Value(NewTuple(args.pos...))
	if len(args.kwNames) > 0 {
		if len(args.pos) > 0 {
			return nil, errf(kindFilterArg, "can't handle positional and keyword arguments at the same time")
		}
		d := NewDict()
		for i, name := range args.kwNames {
			d.Set(name, args.kwVals[i])
		}
		values = d
	}
	return r.percentFormat(strLike("", isMarkup), s, values)
}

func filterIndent(r *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("indent", "width?", "first?", "blank?")
	if err != nil {
		return nil, err
	}
	indent, ok := asStr(orNone(v[0]))
	if !ok {
		width, err := intArg(v[0], 4)
		if err != nil {
			return nil, err
		}
		if width > int64(r.opts.MaxOutput) {
			return nil, r.alloc(r.opts.MaxOutput + 1)
		}
		indent = strings.Repeat(" ", int(max(width, 0)))
	}
	s, isStr := asStr(x)
	if !isStr {
		if u, ok := x.(*undefined); ok {
			return nil, u.fail()
		}
		return nil, typeErr("unsupported operand type(s) for +=: '%s' and 'str'", x.typeName())
	}
	_, isMarkup := x.(markup)
	out := &output{r: r}
	i := -1
	for line := range splitLines(s+"\n", false) {
		i++
		if i > 0 {
			if err := out.write("\n"); err != nil {
				return nil, err
			}
		}
		if i == 0 && isTrue(v[1]) || i > 0 && (line != "" || isTrue(v[2])) {
			if err := out.write(indent); err != nil {
				return nil, err
			}
		}
		if err := out.write(line); err != nil {
			return nil, err
		}
	}
	return strLike(string(out.buf), isMarkup), nil
}

func filterReplace(r *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("replace", "old", "new", "count?")
	if err != nil {
		return nil, err
	}
	var texts [3]string
	for i, part := range [3]Value{x, v[0], v[1]} {
		if texts[i], err = r.str(part); err != nil {
			return nil, err
		}
	}
	count := int64(-1)
	if _, isNone := orNone(v[2]).(None); !isNone {
		if count, err = intArg(v[2], -1); err != nil {
			return nil, err
		}
	}
	return r.replace(texts[0], texts[1], texts[2], count)
}

func filterTrim(r *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("trim", "chars?")
	if err != nil {
		return nil, err
	}
	s, isMarkup, err := r.softStr(x)
	if err != nil {
		return nil, err
	}
	if err := r.step(len(s)/bytesPerStep + 1); err != nil {
		return nil, err
	}
	trimmed, err := stripMethod("strip")(r, s, &callArgs{pos: []Value{orNone(v[0])}})
	if isMarkup && err == nil {
		trimmed = toMarkup(trimmed)
	}
	return trimmed, err
}

func filterTruncate(r *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("truncate", "length?", "killwords?", "end?", "leeway?")
	if err != nil {
		return nil, err
	}
	length, err := intArg(v[0], 255)
	if err != nil {
		return nil, err
	}
	end := "..."
	if v[2] != nil {
		if end, err = strArg(v[2], "truncate"); err != nil {
			return nil, err
		}
	}
	leeway := int64(5)
	if _, isNone := orNone(v[3]).(None); !isNone {
		if leeway, err = intArg(v[3], 5); err != nil {
			return nil, err
		}
	}
	endLen := int64(runeLen(end))
	if length < endLen {
		return nil, errf("AssertionError", "expected length >= %d, got %d", endLen, length)
	}
	if leeway < 0 {
		return nil, errf("AssertionError", "expected leeway >= 0, got %d", leeway)
	}
	n, ok := pyLen(x)
	if !ok {
		return nil, typeErr("object of type '%s' has no len()", x.typeName())
	}
	if err := r.step(int(n) / bytesPerStep); err != nil {
		return nil, err
	}
	if n <= length+leeway {
		return x, nil
	}
	s, isStr := asStr(x)
	if !isStr {
		return nil, typeErr("can only truncate text, not %s", x.typeName())
	}
	s = s[:byteOffset(s, int(length-endLen))]
	if !isTrue(v[1]) {
		if i := strings.LastIndexByte(s, ' '); i >= 0 {
			s = s[:i]
		}
	}
	return r.newStr(s + end)
}

func filterWordCount(r *run, x Value, args *callArgs) (Value, error) {
	if _, err := args.bind("wordcount"); err != nil {
		return nil, err
	}
	s, err := r.str(x)
	if err != nil {
		return nil, err
	}
	notWord := func(c rune) bool { return c != '_' && !unicode.IsLetter(c) && !isNumeric(c) }
	return Int(len(strings.FieldsFunc(s, notWord))), r.charge(len(s))
}

// filterStripTags removes HTML comments and tags, then folds white space and
// resolves the common entities, as Markup.striptags.
func filterStripTags(r *run, x Value, args *callArgs) (Value, error) {
	if _, err := args.bind("striptags"); err != nil {
		return nil, err
	}
	s, err := r.str(x)
	if err != nil {
		return nil, err
	}
	if err := r.alloc(2 * len(s)); err != nil {
		return nil, err
	}
	cut := func(open, end string) {
		var b strings.Builder
		for {
			i := strings.Index(s, open)
			if i < 0 {
				break
			}
			j := strings.Index(s[i+len(open):], end)
			if j < 0 {
				break
			}
			b.WriteString(s[:i])
			s = s[i+len(open)+j+len(end):]
		}
		s = b.String() + s
	}
	cut("<!--", "-->")
	cut("<", ">")
	s = strings.Join(strings.FieldsFunc(s, isSpace), " ")
	return Str(strings.NewReplacer("&amp;", "&", "&lt;", "<", "&gt;", ">", "&#39;", "'", "&#34;", `"`, "&quot;", `"`).Replace(s)), nil
}

func filterURLEncode(r *run, x Value, args *callArgs) (Value, error) {
	if _, err := args.bind("urlencode"); err != nil {
		return nil, err
	}
	if _, isStr := asStr(x); isStr || !isIterable(x) {
		s, err := r.str(x)
		if err != nil {
			return nil, err
		}
		return r.newStr(urlQuote(s, "/"))
	}
	if d, ok := x.(*Dict); ok {
		x = &dictView{d, 'i'}
	}
	pairs, err := r.list(x)
	if err != nil {
		return nil, err
	}
	var parts []string
	for _, p := range pairs {
		pair, err := r.list(p)
		if err != nil {
			return nil, err
		}
		if len(pair) != 2 {
			return nil, valueErr("not enough values to unpack (expected 2, got %d)", len(pair))
		}
		var texts [2]string
		for i := range texts {
			s, err := r.str(pair[i])
			if err != nil {
				return nil, err
			}
			texts[i] = strings.ReplaceAll(urlQuote(s, ""), "%20", "+")
		}
		parts = append(parts, texts[0]+"="+texts[1])
	}
	return r.join(parts, "&")
}

// urlQuote is urllib.parse.quote.
func urlQuote(s, safe string) string {
	var b []byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case isDecimal(c), c|0x20 >= 'a' && c|0x20 <= 'z', strings.IndexByte("_.-~", c) >= 0, strings.IndexByte(safe, c) >= 0:
			b = append(b, c)
		default:
			const hex = "0123456789ABCDEF"
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}
