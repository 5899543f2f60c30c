package chattemplate

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// filterFunc computes x|filter(args).
type filterFunc func(r *run, x Value, args *callArgs) (Value, error)

// lookupFilter returns the filter of a name; nil if there is none.
func lookupFilter(name string) filterFunc {
	switch name {
	case "abs":
		return filterAbs
	case "attr":
		return filterAttr
	case "batch":
		return filterBatch
	case "capitalize":
		return textFilter(name, capitalize)
	case "center":
		return filterCenter
	case "count", "length":
		return filterLength
	case "d", "default":
		return filterDefault
	case "dictsort":
		return filterDictSort
	case "e", "escape":
		return filterEscape
	case "filesizeformat":
		return filterFileSize
	case "first":
		return filterFirst
	case "float":
		return filterFloat
	case "forceescape":
		return filterForceEscape
	case "format":
		return filterFormat
	case "groupby":
		return filterGroupBy
	case "indent":
		return filterIndent
	case "int":
		return filterInt
	case "items":
		return filterItems
	case "join":
		return filterJoin
	case "last":
		return filterLast
	case "list":
		return filterList
	case "lower":
		return textFilter(name, lower)
	case "map":
		return filterMap
	case "max", "min":
		return extremeFilter(name)
	case "reject", "rejectattr", "select", "selectattr":
		return selectFilter(strings.HasPrefix(name, "reject"), strings.HasSuffix(name, "attr"))
	case "replace":
		return filterReplace
	case "reverse":
		return filterReverse
	case "round":
		return filterRound
	case "safe":
		return filterSafe
	case "slice":
		return filterSlice
	case "sort":
		return filterSort
	case "string":
		return filterString
	case "striptags":
		return filterStripTags
	case "sum":
		return filterSum
	case "title":
		return textFilter(name, titleWords)
	case "tojson":
		return filterToJSON
	case "trim":
		return filterTrim
	case "truncate":
		return filterTruncate
	case "unique":
		return filterUnique
	case "upper":
		return textFilter(name, upper)
	case "urlencode":
		return filterURLEncode
	case "wordcount":
		return filterWordCount
	case "wordwrap", "pprint", "random", "urlize", "xmlattr":
		return func(*run, Value, *callArgs) (Value, error) {
			return nil, &tensor.UnsupportedError{What: "filter " + name + " in a chat template"}
		}
	}
	return nil
}

// softStr is str(v) that leaves Markup alone, charged to the run.
func (r *run) softStr(v Value) (s string, isMarkup bool, err error) {
	_, isMarkup = v.(markup)
	s, err = r.str(v)
	return s, isMarkup, err
}

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

func filterAbs(_ *run, x Value, args *callArgs) (Value, error) {
	if _, err := args.bind("abs"); err != nil {
		return nil, err
	}
	if f, ok := x.(Float); ok {
		return Float(math.Abs(float64(f))), nil
	}
	if b, ok := x.(*bigInt); ok {
		return &bigInt{new(big.Int).Abs(b.v)}, nil
	}
	i, ok := asIndex(x)
	if !ok {
		return nil, typeErr("bad operand type for abs(): '%s'", x.typeName())
	}
	if i < 0 {
		return unary('-', Int(i))
	}
	return Int(i), nil
}

func filterAttr(r *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("attr", "name")
	if err != nil {
		return nil, err
	}
	name, err := strArg(v[0], "attr")
	if err != nil {
		return nil, err
	}
	got, err := r.attribute(x, name)
	if got == nil && err == nil {
		return &undefined{obj: x, name: Str(name), kind: kindUndefined}, nil
	}
	return got, err
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

// intArg returns an optional int argument.
func intArg(v Value, missing int64) (int64, error) {
	if v == nil {
		return missing, nil
	}
	if u, ok := v.(*undefined); ok {
		return 0, u.fail()
	}
	i, ok := asIndex(v)
	if !ok {
		return 0, typeErr("'%s' object cannot be interpreted as an integer", v.typeName())
	}
	return i, nil
}

func isTrue(v Value) bool { return v != nil && truth(v) }

func filterLength(r *run, x Value, args *callArgs) (Value, error) {
	if _, err := args.bind("len"); err != nil {
		return nil, err
	}
	if s, ok := asStr(x); ok {
		return Int(runeLen(s)), r.step(len(s) / bytesPerStep)
	}
	if l, ok := x.(*loopContext); ok {
		n, err := l.length()
		return Int(n), err
	}
	n, ok := pyLen(x)
	if !ok {
		return nil, typeErr("object of type '%s' has no len()", x.typeName())
	}
	return Int(n), nil
}

func filterDefault(_ *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("default", "default_value?", "boolean?")
	if err != nil {
		return nil, err
	}
	_, isUndef := x.(*undefined)
	if !isUndef && (!isTrue(v[1]) || truth(x)) {
		return x, nil
	}
	if v[0] == nil {
		return Str(""), nil
	}
	return v[0], nil
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

func filterFileSize(_ *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("filesizeformat", "binary?")
	if err != nil {
		return nil, err
	}
	n, err := toFloat(x)
	if err != nil {
		return nil, err
	}
	base, prefixes := 1000.0, []string{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"}
	if isTrue(v[0]) {
		base, prefixes = 1024, []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}
	}
	switch {
	case n == 1:
		return Str("1 Byte"), nil
	case n < base:
		return Str(strconv.FormatFloat(math.Trunc(n), 'f', 0, 64) + " Bytes"), nil
	}
	unit := base
	for i, p := range prefixes {
		unit *= base
		if n < unit || i == len(prefixes)-1 {
			return Str(strconv.FormatFloat(base*n/unit, 'f', 1, 64) + " " + p), nil
		}
	}
	return nil, nil
}

// toFloat is Python's float(v).
func toFloat(v Value) (float64, error) {
	if u, ok := v.(*undefined); ok {
		return 0, u.fail()
	}
	if f, ok := asFloat(v); ok {
		return f, nil
	}
	s, ok := asStr(v)
	if !ok {
		return 0, typeErr("float() argument must be a string or a real number, not '%s'", v.typeName())
	}
	text := strings.ToLower(strings.TrimFunc(s, isSpace))
	digits := strings.TrimLeft(text, "+-")
	if len(text)-len(digits) <= 1 {
		switch digits {
		case "inf", "infinity", "nan":
			f, _ := strconv.ParseFloat(text, 64)
			return f, nil
		}
		clean := digits
		if strings.Contains(digits, "_") && !strings.HasPrefix(digits, "_") && !strings.HasSuffix(digits, "_") && !strings.Contains(digits, "__") {
			clean = strings.ReplaceAll(digits, "_", "")
		}
		if strings.Trim(clean, "0123456789.e+-") == "" && clean != "" {
			f, err := strconv.ParseFloat(text[:len(text)-len(digits)]+clean, 64)
			if err == nil || math.IsInf(f, 0) {
				return f, nil
			}
		}
	}
	return 0, valueErr("could not convert string to float: %s", quotePy(s))
}

// parseInt is Python's int(s, base); nil where that is a ValueError.
func parseInt(s string, base int64) Value {
	if base != 0 && (base < 2 || base > 36) {
		return nil
	}
	text := strings.ToLower(strings.TrimFunc(s, isSpace))
	sign := ""
	if text != "" && (text[0] == '-' || text[0] == '+') {
		sign, text = text[:1], text[1:]
	}
	for prefix, b := range map[string]int64{"0x": 16, "0o": 8, "0b": 2} {
		if strings.HasPrefix(text, prefix) && (base == b || base == 0) {
			text, base = strings.TrimPrefix(text[2:], "_"), b
			break
		}
	}
	if base == 0 {
		base = 10
		if strings.HasPrefix(text, "0") && strings.Trim(text, "0_") != "" {
			return nil
		}
	}
	if text == "" || strings.HasPrefix(text, "_") || strings.HasSuffix(text, "_") || strings.Contains(text, "__") || text[0] == '+' || text[0] == '-' {
		return nil
	}
	digits := []byte(nil)
	for _, c := range strings.ReplaceAll(text, "_", "") {
		if c >= 0x80 {
			if !unicode.Is(unicode.Nd, c) {
				return nil
			}
			c = '0' + decimalValue(c)
		}
		digits = append(digits, byte(c))
	}
	if n, err := strconv.ParseInt(sign+string(digits), int(base), 64); err == nil {
		return Int(n)
	}
	if len(digits) <= maxIntDigits {
		if n, ok := new(big.Int).SetString(sign+string(digits), int(base)); ok {
			return &bigInt{n}
		}
	}
	return nil
}

// decimalValue is the value of a character of category Nd: they come in runs
// of ten that start with zero.
func decimalValue(c rune) rune {
	zero := c
	for unicode.Is(unicode.Nd, zero-1) && c-zero < 9 {
		zero--
	}
	if c-zero == 9 && unicode.Is(unicode.Nd, zero-1) {
		return (c - 0x1d7ce) % 10 // adjoining runs exist among mathematical digits only
	}
	return c - zero
}

func filterInt(_ *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("int", "default?", "base?")
	if err != nil {
		return nil, err
	}
	if v[0] == nil {
		v[0] = Int(0)
	}
	base, err := intArg(v[1], 10)
	if err != nil {
		return nil, err
	}
	switch n := x.(type) {
	case Float:
		if math.IsNaN(float64(n)) {
			return v[0], nil
		}
		return floatToInt(float64(n))
	case *bigInt:
		return n, nil
	case *undefined:
		return nil, n.fail()
	}
	if i, ok := asIndex(x); ok {
		return Int(i), nil
	}
	s, ok := asStr(x)
	if !ok {
		return v[0], nil
	}
	if i := parseInt(s, base); i != nil {
		return i, nil
	}
	f, err := toFloat(x)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return v[0], nil
	}
	return floatToInt(f)
}

func filterFloat(_ *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("float", "default?")
	if err != nil {
		return nil, err
	}
	if u, ok := x.(*undefined); ok {
		return nil, u.fail()
	}
	f, err := toFloat(x)
	switch {
	case err == nil:
		return Float(f), nil
	case v[0] == nil:
		return Float(0), nil
	}
	return v[0], nil
}

func filterRound(_ *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("round", "precision?", "method?")
	if err != nil {
		return nil, err
	}
	precision, err := intArg(v[0], 0)
	if err != nil {
		return nil, err
	}
	how := "common"
	if v[1] != nil {
		how, _ = asStr(v[1])
	}
	if how != "common" && how != "ceil" && how != "floor" {
		return nil, errf(kindFilterArg, "method must be common, ceil or floor")
	}
	if u, ok := x.(*undefined); ok && how != "common" {
		return nil, u.fail()
	}
	if !isNumber(x) {
		return nil, typeErr("type %s doesn't define __round__ method", x.typeName())
	}
	if precision > 323 || precision < -323 {
		precision = min(max(precision, -323), 323)
	}
	if how != "common" {
		f, _ := asFloat(x)
		scale := math.Pow(10, float64(precision))
		f *= scale
		if how == "ceil" {
			f = math.Ceil(f)
		} else {
			f = math.Floor(f)
		}
		return Float(f / scale), nil
	}
	if f, ok := x.(Float); ok {
		return Float(roundFloat(float64(f), int(precision))), nil
	}
	if isBig(x) {
		return x, nil
	}
	i, _ := asIndex(x)
	return roundInt(i, precision)
}

// roundFloat is Python's round(f, precision): half to even on the exact value.
func roundFloat(f float64, precision int) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return f
	}
	if precision >= 0 {
		r, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'f', precision, 64), 64)
		return r
	}
	scale := math.Pow(10, float64(-precision))
	return math.RoundToEven(f/scale) * scale
}

func roundInt(i, precision int64) (Value, error) {
	if precision >= 0 {
		return Int(i), nil
	}
	if precision < -18 {
		return Int(0), nil
	}
	scale := int64(math.Pow10(int(-precision)))
	q, rest := i/scale, i%scale
	if rest < 0 {
		q, rest = q-1, rest+scale
	}
	if rest > scale-rest || rest == scale-rest && q&1 == 1 {
		q++
	}
	return intMul(q, scale)
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

// maxJSONIndent bounds the indentation of one level of tojson.
const maxJSONIndent = 1024

func filterToJSON(r *run, x Value, args *callArgs) (Value, error) {
	v, err := args.bind("tojson", "ensure_ascii?", "indent?", "separators?", "sort_keys?")
	if err != nil {
		return nil, err
	}
	style := jsonStyle{ascii: isTrue(v[0]), sortKeys: isTrue(v[3]), itemSep: ", ", keySep: ": "}
	switch indent := orNone(v[1]).(type) {
	case None:
	case Str, markup:
		style.indented = true
		style.indent, _ = asStr(indent)
	default:
		n, ok := asIndex(indent)
		if !ok {
			return nil, typeErr("can't multiply sequence by non-int of type '%s'", indent.typeName())
		}
		style.indented = true
		style.indent = strings.Repeat(" ", int(min(max(n, 0), maxJSONIndent+1)))
	}
	if len(style.indent) > maxJSONIndent {
		return nil, r.limit("bytes of JSON indentation", maxJSONIndent)
	}
	if style.indented {
		style.itemSep = ","
	}
	if _, isNone := orNone(v[2]).(None); !isNone {
		seps, err := r.list(v[2])
		if err != nil {
			return nil, err
		}
		if len(seps) != 2 {
			return nil, valueErr("not enough values to unpack (expected 2, got %d)", len(seps))
		}
		var ok [2]bool
		style.itemSep, ok[0] = asStr(seps[0])
		style.keySep, ok[1] = asStr(seps[1])
		if !ok[0] || !ok[1] {
			return nil, typeErr("separators must be str")
		}
	}
	s, err := r.dumps(x, style)
	return Str(s), err
}
