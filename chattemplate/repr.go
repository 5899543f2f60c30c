package chattemplate

import (
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

func formatInt(i int64) string { return strconv.FormatInt(i, 10) }

// formatFloat is Python's repr(float): the shortest digits that read back the
// same, with an exponent below 1e-4 and from 1e16 on.
func formatFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case f == 0:
		if math.Signbit(f) {
			return "-0.0"
		}
		return "0.0"
	}
	if a := math.Abs(f); a < 1e-4 || a >= 1e16 {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// quotePy is Python's repr(str).
func quotePy(s string) string {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	b := make([]byte, 0, len(s)+2)
	b = append(b, quote)
	for _, c := range s {
		switch {
		case c == rune(quote) || c == '\\':
			b = append(b, '\\', byte(c))
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c >= 0x20 && c < 0x7f:
			b = append(b, byte(c))
		case unicode.IsPrint(c):
			b = utf8.AppendRune(b, c)
		default:
			b = appendEscape(b, c)
		}
	}
	return string(append(b, quote))
}

// appendEscape appends \xhh, \uhhhh or \Uhhhhhhhh, the shortest that fits.
func appendEscape(b []byte, c rune) []byte {
	const hex = "0123456789abcdef"
	digits := 8
	switch {
	case c < 0x100:
		b, digits = append(b, `\x`...), 2
	case c < 0x10000:
		b, digits = append(b, `\u`...), 4
	default:
		b = append(b, `\U`...)
	}
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		b = append(b, hex[c>>shift&15])
	}
	return b
}

// reprOrType is repr for messages: it falls back on the type where a value
// cannot be printed.
func reprOrType(v Value) string {
	if v == nil {
		return "None"
	}
	w := reprWriter{max: 200}
	w.write(v, 0)
	if w.err != nil || w.over {
		return "<" + v.typeName() + ">"
	}
	return w.b.String()
}

// str is Python's str(v), charged to the run.
func (r *run) str(v Value) (string, error) {
	switch v := v.(type) {
	case Str:
		return string(v), nil
	case markup:
		return string(v), nil
	case *undefined:
		return "", nil
	}
	s, err := r.repr(v)
	return s, err
}

// repr is Python's repr(v), charged to the run.
func (r *run) repr(v Value) (string, error) {
	w := reprWriter{max: r.opts.MaxOutput}
	w.write(v, 0)
	if w.err != nil {
		return "", w.err
	}
	if w.over {
		return "", r.limit("bytes in one string", float64(r.opts.MaxOutput))
	}
	return w.b.String(), r.alloc(w.b.Len())
}

// reprWriter writes the repr of nested values, up to max bytes.
type reprWriter struct {
	b    strings.Builder
	max  int
	over bool
	err  error
}

func (w *reprWriter) write(v Value, depth int) {
	if w.err != nil || w.over {
		return
	}
	if depth > maxValueDepth {
		w.err = errTooDeep()
		return
	}
	if s, ok := asStr(v); ok && w.b.Len()+len(s) > w.max {
		w.over = true
		return
	}
	switch v := v.(type) {
	case Str:
		w.b.WriteString(quotePy(string(v)))
	case markup:
		w.b.WriteString("Markup(" + quotePy(string(v)) + ")")
	case Int:
		w.b.WriteString(formatInt(int64(v)))
	case *bigInt:
		w.b.WriteString(v.v.String())
	case Float:
		w.b.WriteString(formatFloat(float64(v)))
	case Bool:
		if v {
			w.b.WriteString("True")
		} else {
			w.b.WriteString("False")
		}
	case None:
		w.b.WriteString("None")
	case *undefined:
		w.b.WriteString("Undefined")
	case *List:
		w.items("[", v.items, "]", depth)
	case *Tuple:
		if len(v.items) == 1 {
			w.items("(", v.items, ",)", depth)
			break
		}
		w.items("(", v.items, ")", depth)
	case *Dict:
		w.dict(v, depth)
	case *namespace:
		w.b.WriteString("<Namespace ")
		w.dict(v.attrs, depth)
		w.b.WriteString(">")
	case *dictView:
		w.view(v, depth)
	case *rangeValue:
		w.b.WriteString("range(" + formatInt(v.start) + ", " + formatInt(v.stop))
		if v.step != 1 {
			w.b.WriteString(", " + formatInt(v.step))
		}
		w.b.WriteString(")")
	default:
		w.b.WriteString(opaqueRepr(v))
	}
	if w.b.Len() > w.max {
		w.over = true
	}
}

func (w *reprWriter) items(open string, items []Value, end string, depth int) {
	w.b.WriteString(open)
	for i, item := range items {
		if i > 0 {
			w.b.WriteString(", ")
		}
		w.write(item, depth+1)
		if w.err != nil || w.over {
			return
		}
	}
	w.b.WriteString(end)
}

func (w *reprWriter) dict(d *Dict, depth int) {
	w.b.WriteString("{")
	for i, k := range d.keys {
		if i > 0 {
			w.b.WriteString(", ")
		}
		w.write(k, depth+1)
		w.b.WriteString(": ")
		w.write(d.vals[i], depth+1)
		if w.err != nil || w.over {
			return
		}
	}
	w.b.WriteString("}")
}

func (w *reprWriter) view(v *dictView, depth int) {
	items := make([]Value, v.d.Len())
	for i := range items {
		items[i] = v.at(i)
	}
	w.b.WriteString(v.typeName())
	w.items("([", items, "])", depth)
}

// opaqueRepr prints what has no literal form. Python adds an address there,
// which no template can rely on.
func opaqueRepr(v Value) string {
	switch v := v.(type) {
	case *macro:
		return "<Macro " + quotePy(v.def.name) + ">"
	case *builtin:
		if v.self != nil {
			return "<built-in method " + v.name + " of " + v.self.typeName() + " object>"
		}
		return "<function " + v.name + ">"
	case *loopContext:
		n, _ := v.length()
		return "<LoopContext " + formatInt(v.index0+1) + "/" + formatInt(n) + ">"
	}
	return "<" + v.typeName() + " object>"
}
