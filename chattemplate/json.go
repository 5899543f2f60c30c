package chattemplate

import (
	"fmt"
	"math"
	"math/big"
	"sort"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth is the deepest nesting ParseJSON takes.
const maxJSONDepth = maxValueDepth

// ParseJSON reads one JSON document as Python's json.loads does: object keys
// keep their order (a repeated key keeps its first place and last value),
// numbers without fraction or exponent are ints, NaN and Infinity are accepted.
// A lone surrogate escape becomes U+FFFD, since Go strings are UTF-8.
func ParseJSON(b []byte) (Value, error) {
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("parse JSON: the text is not valid UTF-8")
	}
	p := jsonParser{s: string(b)}
	p.space()
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	p.space()
	if p.pos < len(p.s) {
		return nil, p.fail("text after the end of the value")
	}
	return v, nil
}

type jsonParser struct {
	s   string
	pos int
}

func (p *jsonParser) fail(what string) error {
	line := 1 + strings.Count(p.s[:p.pos], "\n")
	return fmt.Errorf("parse JSON: %s at offset %d (line %d)", what, p.pos, line)
}

func (p *jsonParser) space() {
	for p.pos < len(p.s) && strings.IndexByte(" \t\n\r", p.s[p.pos]) >= 0 {
		p.pos++
	}
}

func (p *jsonParser) peek() byte {
	if p.pos < len(p.s) {
		return p.s[p.pos]
	}
	return 0
}

func (p *jsonParser) value(depth int) (Value, error) {
	if depth > maxJSONDepth {
		return nil, p.fail(fmt.Sprintf("nesting deeper than %d levels", maxJSONDepth))
	}
	switch c := p.peek(); {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		s, err := p.str()
		return Str(s), err
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	for _, w := range [...]struct {
		word string
		v    Value
	}{
		{"true", Bool(true)}, {"false", Bool(false)}, {"null", None{}},
		{"NaN", Float(math.NaN())}, {"Infinity", Float(math.Inf(1))},
	} {
		if strings.HasPrefix(p.s[p.pos:], w.word) {
			p.pos += len(w.word)
			return w.v, nil
		}
	}
	return nil, p.fail("a value is missing")
}

func (p *jsonParser) object(depth int) (Value, error) {
	p.pos++
	d := NewDict()
	p.space()
	if p.peek() == '}' {
		p.pos++
		return d, nil
	}
	for {
		if p.peek() != '"' {
			return nil, p.fail("a key in double quotes is missing")
		}
		key, err := p.str()
		if err != nil {
			return nil, err
		}
		p.space()
		if p.peek() != ':' {
			return nil, p.fail("':' is missing")
		}
		p.pos++
		p.space()
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		d.Set(key, v)
		p.space()
		switch p.peek() {
		case ',':
			p.pos++
			p.space()
		case '}':
			p.pos++
			return d, nil
		default:
			return nil, p.fail("',' or '}' is missing")
		}
	}
}

func (p *jsonParser) array(depth int) (Value, error) {
	p.pos++
	l := NewList()
	p.space()
	if p.peek() == ']' {
		p.pos++
		return l, nil
	}
	for {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		l.items = append(l.items, v)
		p.space()
		switch p.peek() {
		case ',':
			p.pos++
			p.space()
		case ']':
			p.pos++
			return l, nil
		default:
			return nil, p.fail("',' or ']' is missing")
		}
	}
}

func (p *jsonParser) str() (string, error) {
	p.pos++
	start := p.pos
	var b strings.Builder
	for {
		if p.pos >= len(p.s) {
			return "", p.fail("a string is not closed")
		}
		switch c := p.s[p.pos]; {
		case c == '"':
			b.WriteString(p.s[start:p.pos])
			p.pos++
			return b.String(), nil
		case c < 0x20:
			return "", p.fail("a control character inside a string")
		case c == '\\':
			b.WriteString(p.s[start:p.pos])
			if err := p.escape(&b); err != nil {
				return "", err
			}
			start = p.pos
		default:
			p.pos++
		}
	}
}

func (p *jsonParser) escape(b *strings.Builder) error {
	p.pos++
	c := p.peek()
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 && c != 0 {
		b.WriteByte("\"\\/\b\f\n\r\t"[i])
		p.pos++
		return nil
	}
	if c != 'u' {
		return p.fail("an unknown escape")
	}
	r, ok := p.hex4()
	if !ok {
		return p.fail("\\u needs four hexadecimal digits")
	}
	if utf16.IsSurrogate(r) && strings.HasPrefix(p.s[p.pos:], `\u`) {
		save := p.pos
		p.pos++
		r2, ok := p.hex4()
		if pair := utf16.DecodeRune(r, r2); ok && pair != utf8.RuneError {
			r = pair
		} else {
			p.pos = save
		}
	}
	b.WriteRune(r) // a lone surrogate is written as U+FFFD
	return nil
}

// hex4 reads the four digits after a u.
func (p *jsonParser) hex4() (rune, bool) {
	if p.pos+5 > len(p.s) {
		return 0, false
	}
	n, err := strconv.ParseUint(p.s[p.pos+1:p.pos+5], 16, 32)
	if err != nil {
		return 0, false
	}
	p.pos += 5
	return rune(n), true
}

func (p *jsonParser) number() (Value, error) {
	start := p.pos
	if p.peek() == '-' {
		p.pos++
	}
	if strings.HasPrefix(p.s[p.pos:], "Infinity") {
		p.pos += len("Infinity")
		return Float(math.Inf(-1)), nil
	}
	digits := func() int {
		from := p.pos
		for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
			p.pos++
		}
		return p.pos - from
	}
	if p.peek() == '0' {
		p.pos++
	} else if digits() == 0 {
		return nil, p.fail("a number has no digits")
	}
	isFloat := false
	if p.peek() == '.' {
		save := p.pos
		p.pos++
		if digits() > 0 {
			isFloat = true
		} else {
			p.pos = save
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		save := p.pos
		p.pos++
		if c := p.peek(); c == '+' || c == '-' {
			p.pos++
		}
		if digits() > 0 {
			isFloat = true
		} else {
			p.pos = save
		}
	}
	return jsonNumber(p.s[start:p.pos], isFloat)
}

// maxIntDigits is Python's own limit on reading integers.
const maxIntDigits = 4300

func jsonNumber(s string, isFloat bool) (Value, error) {
	if isFloat {
		f, _ := strconv.ParseFloat(s, 64) // out of range gives infinity, as Python
		return Float(f), nil
	}
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return Int(i), nil
	}
	if len(s) > maxIntDigits {
		return nil, fmt.Errorf("parse JSON: an integer has more than %d digits", maxIntDigits)
	}
	n, ok := new(big.Int).SetString(s, 10)
	if !ok {
		return nil, fmt.Errorf("parse JSON: bad integer %q", s)
	}
	return &bigInt{n}, nil
}

// jsonStyle is the keyword arguments of json.dumps.
type jsonStyle struct {
	ascii    bool
	indented bool
	indent   string
	itemSep  string
	keySep   string
	sortKeys bool
}

// jsonWriter writes what Python's json.dumps writes.
type jsonWriter struct {
	r     *run
	style jsonStyle
	b     []byte
}

// dumps is json.dumps(v, **style).
func (r *run) dumps(v Value, style jsonStyle) (string, error) {
	w := jsonWriter{r: r, style: style}
	if err := w.write(v, 0); err != nil {
		return "", err
	}
	if err := r.alloc(len(w.b)); err != nil {
		return "", err
	}
	return string(w.b), nil
}

func (w *jsonWriter) write(v Value, depth int) error {
	if depth > maxValueDepth {
		return errTooDeep()
	}
	if err := w.r.step(1); err != nil {
		return err
	}
	s, _ := asStr(v)
	if len(w.b)+len(s) > w.r.opts.MaxOutput {
		return w.r.limit("bytes in one string", float64(w.r.opts.MaxOutput))
	}
	switch v := v.(type) {
	case Str, markup:
		w.str(s)
	case *List:
		return w.array(v.items, depth)
	case *Tuple:
		return w.array(v.items, depth)
	case *Dict:
		return w.object(v, depth)
	default:
		text, ok := jsonScalar(v)
		if !ok {
			return typeErr("Object of type %s is not JSON serializable", v.typeName())
		}
		w.b = append(w.b, text...)
	}
	return nil
}

// jsonScalar is the JSON text of a number, bool or None.
func jsonScalar(v Value) (string, bool) {
	switch v := v.(type) {
	case Int:
		return formatInt(int64(v)), true
	case *bigInt:
		return v.v.String(), true
	case Float:
		switch s := formatFloat(float64(v)); s {
		case "nan":
			return "NaN", true
		case "inf":
			return "Infinity", true
		case "-inf":
			return "-Infinity", true
		default:
			return s, true
		}
	case Bool:
		if v {
			return "true", true
		}
		return "false", true
	case None:
		return "null", true
	}
	return "", false
}

// newline starts a line of an indented document.
func (w *jsonWriter) newline(depth int) {
	if w.style.indented {
		w.b = append(w.b, '\n')
		for range depth {
			w.b = append(w.b, w.style.indent...)
		}
	}
}

func (w *jsonWriter) array(items []Value, depth int) error {
	if len(items) == 0 {
		w.b = append(w.b, "[]"...)
		return nil
	}
	w.b = append(w.b, '[')
	for i, item := range items {
		if i > 0 {
			w.b = append(w.b, w.style.itemSep...)
		}
		w.newline(depth + 1)
		if err := w.write(item, depth+1); err != nil {
			return err
		}
	}
	w.newline(depth)
	w.b = append(w.b, ']')
	return nil
}

func (w *jsonWriter) object(d *Dict, depth int) error {
	if d.Len() == 0 {
		w.b = append(w.b, "{}"...)
		return nil
	}
	order := make([]int, d.Len())
	for i := range order {
		order[i] = i
	}
	if w.style.sortKeys {
		var failed error
		sort.SliceStable(order, func(i, j int) bool {
			lt, err := w.r.less(d.keys[order[i]], d.keys[order[j]], "<")
			if err != nil && failed == nil {
				failed = err
			}
			return lt
		})
		if failed != nil {
			return failed
		}
	}
	w.b = append(w.b, '{')
	for n, i := range order {
		if n > 0 {
			w.b = append(w.b, w.style.itemSep...)
		}
		w.newline(depth + 1)
		key, ok := asStr(d.keys[i])
		if !ok {
			if key, ok = jsonScalar(d.keys[i]); !ok {
				return typeErr("keys must be str, int, float, bool or None, not %s", d.keys[i].typeName())
			}
		}
		w.str(key)
		w.b = append(w.b, w.style.keySep...)
		if err := w.write(d.vals[i], depth+1); err != nil {
			return err
		}
	}
	w.newline(depth)
	w.b = append(w.b, '}')
	return nil
}

// str writes a quoted string, escaping only what JSON must (or all but ASCII).
func (w *jsonWriter) str(s string) {
	w.b = append(w.b, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			w.b = append(w.b, '\\', byte(c))
		case c < 0x20:
			if i := strings.IndexRune("\b\f\n\r\t", c); i >= 0 {
				w.b = append(w.b, '\\', "bfnrt"[i])
				continue
			}
			w.b = appendJSONEscape(w.b, c)
		case c < 0x7f || !w.style.ascii:
			w.b = utf8.AppendRune(w.b, c)
		case c < 0x10000:
			w.b = appendJSONEscape(w.b, c)
		default:
			hi, lo := utf16.EncodeRune(c)
			w.b = appendJSONEscape(appendJSONEscape(w.b, hi), lo)
		}
	}
	w.b = append(w.b, '"')
}

func appendJSONEscape(b []byte, c rune) []byte {
	return fmt.Appendf(b, `\u%04x`, c)
}
