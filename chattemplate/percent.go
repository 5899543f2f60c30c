package chattemplate

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// percentFormat is Python's format % values; self keeps Markup apart.
func (r *run) percentFormat(self Value, format string, values Value) (Value, error) {
	p := &percentFormatter{r: r, values: values}
	if t, ok := values.(*Tuple); ok {
		p.list = t.items
	} else {
		p.list = []Value{values}
	}
	_, p.escape = self.(markup)
	out := &output{r: r}
	if err := p.write(out, format); err != nil {
		return nil, err
	}
	if p.used < len(p.list) && !isMappingLike(values) {
		return nil, typeErr("not all arguments converted during string formatting")
	}
	return strLike(string(out.buf), p.escape), nil
}

// isMappingLike tells what may stay unused in a format: all that has
// subscripts, except tuples and texts, since it may be a mapping.
func isMappingLike(v Value) bool {
	switch v.(type) {
	case *Dict, *List, *rangeValue, *undefined:
		return true
	}
	return false
}

type percentFormatter struct {
	r      *run
	values Value
	list   []Value
	used   int
	escape bool
}

func (p *percentFormatter) write(out *output, s string) error {
	for {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			return out.write(s)
		}
		if err := out.write(s[:i]); err != nil {
			return err
		}
		rest, err := p.directive(out, s[i+1:])
		if err != nil {
			return err
		}
		s = rest
	}
}

func (p *percentFormatter) next() (Value, error) {
	if p.used >= len(p.list) {
		return nil, typeErr("not enough arguments for format string")
	}
	p.used++
	return p.list[p.used-1], nil
}

// directive formats one %... and returns the format after it.
func (p *percentFormatter) directive(out *output, s string) (string, error) {
	var arg Value
	if s != "" && s[0] == '(' {
		end := fieldParen(s)
		d, ok := p.values.(*Dict)
		switch {
		case end < 0:
			return "", valueErr("incomplete format key")
		case !ok:
			return "", typeErr("format requires a mapping")
		}
		v, found := d.Get(s[1:end])
		if !found {
			return "", errf(kindKey, "%s", quotePy(s[1:end]))
		}
		arg = v
		s = s[end+1:]
	}
	f := spec{fill: " ", precision: -1}
	for s != "" && strings.IndexByte("-+ #0", s[0]) >= 0 {
		switch s[0] {
		case '-':
			f.align = '<'
		case '+':
			f.sign = '+'
		case ' ':
			if f.sign == 0 {
				f.sign = ' '
			}
		case '#':
			f.alternate = true
		case '0':
			f.zero = true
		}
		s = s[1:]
	}
	var err error
	if f.width, s, err = p.number(s); err != nil {
		return "", err
	}
	if f.width < 0 {
		f.align, f.width = '<', -f.width
	}
	if s != "" && s[0] == '.' {
		if f.precision, s, err = p.number(s[1:]); err != nil {
			return "", err
		}
		f.precision = max(f.precision, 0)
	}
	if s != "" && strings.IndexByte("hlL", s[0]) >= 0 {
		s = s[1:]
	}
	if s == "" {
		return "", valueErr("incomplete format")
	}
	c, size := utf8.DecodeRuneInString(s)
	if c == '%' {
		return s[size:], out.write("%")
	}
	if c >= 0x80 || !strings.ContainsRune("sradiuoxXeEfFgGc", c) {
		return "", valueErr("unsupported format character %s (0x%x)", quotePy(string(c)), c)
	}
	if arg == nil {
		if arg, err = p.next(); err != nil {
			return "", err
		}
	}
	text, err := p.convert(arg, byte(c), f)
	if err != nil {
		return "", err
	}
	return s[size:], out.write(text)
}

// fieldParen finds the ")" that matches the "(" at the start.
func fieldParen(s string) int {
	open := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '(':
			open++
		case ')':
			if open--; open == 0 {
				return i
			}
		}
	}
	return -1
}

// number reads a width or precision, or takes it from the values for "*".
func (p *percentFormatter) number(s string) (int, string, error) {
	if s == "" || s[0] != '*' {
		return scanInt(s)
	}
	v, err := p.next()
	if err != nil {
		return 0, "", err
	}
	n, ok := asIndex(v)
	if !ok {
		return 0, "", typeErr("* wants int")
	}
	if n > maxFormatWidth || n < -maxFormatWidth {
		return 0, "", valueErr("a width or precision of %d in a format is over the limit of %d", n, maxFormatWidth)
	}
	return int(n), s[1:], nil
}

func (p *percentFormatter) convert(v Value, c byte, f spec) (string, error) {
	switch c {
	case 's', 'r', 'a':
		text, err := p.r.str(v)
		if c != 's' {
			text, err = p.r.repr(v)
		}
		if c == 'a' {
			text = asciiRepr(text)
		}
		if _, isMarkup := v.(markup); p.escape && !isMarkup {
			text = escapeHTML(text)
		}
		if err != nil {
			return "", err
		}
		if f.precision >= 0 && f.precision < runeLen(text) {
			text = text[:byteOffset(text, f.precision)]
		}
		return f.pad(text, 0, '>'), nil
	case 'c':
		return percentChar(v, f)
	}
	if u, ok := v.(*undefined); ok {
		return "", u.fail()
	}
	if f.zero && f.align == 0 {
		f.fill, f.align = "0", '='
	}
	if strings.IndexByte("eEfFgG", c) >= 0 {
		x, ok := asFloat(v)
		if !ok {
			return "", typeErr("must be real number, not %s", v.typeName())
		}
		f.kind = c
		return formatFloatSpec(x, f)
	}
	return percentInt(v, c, f)
}

func percentChar(v Value, f spec) (string, error) {
	if s, ok := asStr(v); ok && runeLen(s) == 1 {
		return f.pad(s, 0, '>'), nil
	}
	i, ok := asIndex(v)
	if !ok || i < 0 || i > utf8.MaxRune {
		return "", typeErr("%%c requires int or char")
	}
	return f.pad(string(rune(i)), 0, '>'), nil
}

func percentInt(v Value, c byte, f spec) (string, error) {
	if x, ok := v.(Float); ok && (c == 'd' || c == 'i' || c == 'u') {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			_, err := floatToInt(float64(x))
			return "", err
		}
		whole, err := floatToInt(float64(x))
		if err != nil {
			return "", err
		}
		v = whole
	}
	i, ok := asIndex(v)
	if !ok {
		kind := "a real number"
		if c == 'x' || c == 'X' || c == 'o' {
			kind = "an integer"
		}
		return "", typeErr("%%%c format: %s is required, not %s", c, kind, v.typeName())
	}
	base, prefix := 10, ""
	switch c {
	case 'o':
		base, prefix = 8, "0o"
	case 'x', 'X':
		base, prefix = 16, "0"+string(c)
	}
	digits := strings.TrimPrefix(strconv.FormatInt(i, base), "-")
	if c == 'X' {
		digits = strings.ToUpper(digits)
	}
	if n := f.precision - len(digits); n > 0 {
		digits = strings.Repeat("0", n) + digits
	}
	head := f.signed(i < 0)
	if f.alternate {
		head += prefix
	}
	return f.pad(head+digits, len(head), '>'), nil
}
