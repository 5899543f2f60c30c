package chattemplate

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// spec is a format specification: [[fill]align][sign][#][0][width][,][.precision][type].
type spec struct {
	fill      string
	align     byte // '<', '>', '=', '^' or 0
	sign      byte // '+', '-', ' ' or 0
	alternate bool
	zero      bool
	width     int
	group     byte // ',' or '_' or 0
	precision int  // -1 without
	kind      byte // 0 without
}

// maxFormatWidth bounds widths and precisions in format strings.
const maxFormatWidth = 1 << 20

// scanInt reads decimal digits.
func scanInt(s string) (n int, rest string, err error) {
	i := 0
	for i < len(s) && isDecimal(s[i]) {
		i++
	}
	if i == 0 {
		return 0, s, nil
	}
	n, convErr := strconv.Atoi(s[:i])
	if convErr != nil || n > maxFormatWidth {
		return 0, s, valueErr("a width or precision of %.20s in a format is over the limit of %d", s[:i], maxFormatWidth)
	}
	return n, s[i:], nil
}

func isAlign(c byte) bool { return c == '<' || c == '>' || c == '=' || c == '^' }

func parseSpec(s string) (spec, error) {
	f := spec{fill: " ", precision: -1}
	_, size := utf8.DecodeRuneInString(s)
	switch {
	case len(s) > size && isAlign(s[size]):
		f.fill, f.align, s = s[:size], s[size], s[size+1:]
	case s != "" && isAlign(s[0]):
		f.align, s = s[0], s[1:]
	}
	if s != "" && strings.IndexByte("+- ", s[0]) >= 0 {
		f.sign, s = s[0], s[1:]
	}
	if s != "" && s[0] == '#' {
		f.alternate, s = true, s[1:]
	}
	if s != "" && s[0] == '0' {
		f.zero, s = true, s[1:]
		if f.align == 0 {
			f.fill, f.align = "0", '='
		}
	}
	var err error
	if f.width, s, err = scanInt(s); err != nil {
		return f, err
	}
	if s != "" && (s[0] == ',' || s[0] == '_') {
		f.group, s = s[0], s[1:]
	}
	if s != "" && s[0] == '.' {
		before := s[1:]
		if f.precision, s, err = scanInt(before); err != nil {
			return f, err
		}
		if len(s) == len(before) {
			return f, valueErr("Format specifier missing precision")
		}
	}
	if len(s) == 1 {
		f.kind, s = s[0], ""
	}
	if s != "" {
		return f, valueErr("Invalid format specifier")
	}
	return f, nil
}

// formatValue is Python's format(v, spec).
func (r *run) formatValue(v Value, specText string) (string, error) {
	if specText == "" {
		return r.str(v)
	}
	f, err := parseSpec(specText)
	if err != nil {
		return "", err
	}
	var out string
	switch v := v.(type) {
	case Str, markup:
		s, _ := asStr(v)
		out, err = formatText(s, f)
	case Int, Bool:
		i, _ := asIndex(v)
		out, err = formatIntSpec(i, f)
	case Float:
		out, err = formatFloatSpec(float64(v), f)
	case *undefined:
		return "", typeErr("unsupported format string passed to Undefined.__format__")
	default:
		return "", typeErr("unsupported format string passed to %s.__format__", v.typeName())
	}
	if err != nil {
		return "", err
	}
	return out, r.alloc(len(out))
}

// align pads text whose first signLen bytes are a sign or prefix.
func (f spec) pad(text string, signLen int, byDefault byte) string {
	missing := f.width - runeLen(text)
	if missing <= 0 {
		return text
	}
	align := f.align
	if align == 0 {
		align = byDefault
	}
	switch align {
	case '<':
		return text + strings.Repeat(f.fill, missing)
	case '^':
		return strings.Repeat(f.fill, missing/2) + text + strings.Repeat(f.fill, missing-missing/2)
	case '=':
		return text[:signLen] + strings.Repeat(f.fill, missing) + text[signLen:]
	}
	return strings.Repeat(f.fill, missing) + text
}

func formatText(s string, f spec) (string, error) {
	switch {
	case f.kind != 0 && f.kind != 's':
		return "", valueErr("Unknown format code '%c' for object of type 'str'", f.kind)
	case f.sign != 0:
		return "", valueErr("Sign not allowed in string format specifier")
	case f.align == '=' && !f.zero:
		return "", valueErr("'=' alignment not allowed in string format specifier")
	case f.group != 0:
		return "", valueErr("Cannot specify '%c' with 's'.", f.group)
	}
	if f.align == '=' {
		f.align = '<'
	}
	if f.precision >= 0 && f.precision < runeLen(s) {
		s = s[:byteOffset(s, f.precision)]
	}
	return f.pad(s, 0, '<'), nil
}

// signed puts the sign before digits.
func (f spec) signed(negative bool) string {
	switch {
	case negative:
		return "-"
	case f.sign == '+' || f.sign == ' ':
		return string(f.sign)
	}
	return ""
}

// grouped inserts separators into the integer part of digits.
func (f spec) grouped(digits string, every int) string {
	if f.group == 0 {
		return digits
	}
	whole, rest := digits, ""
	if i := strings.IndexAny(digits, ".e%"); i >= 0 {
		whole, rest = digits[:i], digits[i:]
	}
	var b strings.Builder
	for i := range whole {
		if i > 0 && (len(whole)-i)%every == 0 {
			b.WriteByte(f.group)
		}
		b.WriteByte(whole[i])
	}
	return b.String() + rest
}

func formatIntSpec(i int64, f spec) (string, error) {
	base, prefix := 10, ""
	switch f.kind {
	case 0, 'd', 'n':
	case 'b':
		base, prefix = 2, "0b"
	case 'o':
		base, prefix = 8, "0o"
	case 'x', 'X':
		base, prefix = 16, "0"+string(f.kind)
	case 'c':
		if i < 0 || i > utf8.MaxRune {
			return "", errf(kindOverflow, "%%c arg not in range(0x110000)")
		}
		return f.pad(string(rune(i)), 0, '<'), nil
	case 'e', 'E', 'f', 'F', 'g', 'G', '%':
		return formatFloatSpec(float64(i), f)
	default:
		return "", valueErr("Unknown format code '%c' for object of type 'int'", f.kind)
	}
	if f.precision >= 0 {
		return "", valueErr("Precision not allowed in integer format specifier")
	}
	digits := strings.TrimPrefix(strconv.FormatInt(i, base), "-")
	if f.kind == 'X' {
		digits = strings.ToUpper(digits)
	}
	every := 3
	if base != 10 {
		every = 4
	}
	head := f.signed(i < 0)
	if f.alternate {
		head += prefix
	}
	return f.pad(head+f.grouped(digits, every), len(head), '>'), nil
}

func formatFloatSpec(x float64, f spec) (string, error) {
	digits := ""
	abs := math.Abs(x)
	precision := f.precision
	if precision < 0 {
		precision = 6
	}
	switch f.kind {
	case 'f', 'F':
		digits = strconv.FormatFloat(abs, 'f', precision, 64)
	case 'e', 'E':
		digits = strconv.FormatFloat(abs, 'e', precision, 64)
	case 'g', 'G', 'n':
		digits = strconv.FormatFloat(abs, 'g', max(precision, 1), 64)
	case '%':
		digits = strconv.FormatFloat(abs*100, 'f', precision, 64) + "%"
	case 0:
		if f.precision < 0 {
			digits = formatFloat(abs)
			break
		}
		digits = strconv.FormatFloat(abs, 'g', max(precision, 1), 64)
		if !strings.ContainsAny(digits, ".e") {
			digits += ".0"
		}
	default:
		return "", valueErr("Unknown format code '%c' for object of type 'float'", f.kind)
	}
	switch {
	case math.IsNaN(x):
		digits = "nan"
	case math.IsInf(x, 0):
		digits = "inf"
	}
	if f.kind == 'E' || f.kind == 'G' || f.kind == 'F' {
		digits = strings.ToUpper(digits)
	}
	head := f.signed(math.Signbit(x) && !math.IsNaN(x))
	return f.pad(head+f.grouped(digits, 3), len(head), '>'), nil
}

// formatStr is Python's str.format, with the sandbox's view of attributes.
func (r *run) formatStr(s string, args *callArgs) (Value, error) {
	f := &strFormatter{r: r, args: args}
	out := &output{r: r}
	if err := f.write(out, s, 2); err != nil {
		return nil, err
	}
	return Str(out.buf), nil
}

type strFormatter struct {
	r      *run
	args   *callArgs
	auto   int  // next number of an empty {}
	manual bool // numbers were written out
}

// write expands the fields in s; depth is how many levels of fields are left.
func (f *strFormatter) write(out *output, s string, depth int) error {
	if depth == 0 {
		return valueErr("Max string recursion exceeded")
	}
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			return out.write(s)
		}
		if err := out.write(s[:i]); err != nil {
			return err
		}
		c := s[i]
		s = s[i+1:]
		if s != "" && s[0] == c {
			if err := out.write(string(c)); err != nil {
				return err
			}
			s = s[1:]
			continue
		}
		if c == '}' {
			return valueErr("Single '}' encountered in format string")
		}
		end := fieldEnd(s)
		if end < 0 {
			return valueErr("expected '}' before end of string")
		}
		if err := f.field(out, s[:end], depth); err != nil {
			return err
		}
		s = s[end+1:]
	}
	return nil
}

// fieldEnd finds the "}" that closes a field.
func fieldEnd(s string) int {
	open := 1
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '{':
			open++
		case '}':
			if open--; open == 0 {
				return i
			}
		}
	}
	return -1
}

// field writes one field: name!conversion:spec.
func (f *strFormatter) field(out *output, field string, depth int) error {
	specText := ""
	name, conv := field, byte(0)
	if i := strings.IndexAny(field, ":!"); i >= 0 {
		name = field[:i]
		rest := field[i:]
		if rest[0] == '!' {
			if len(rest) < 2 || len(rest) > 2 && rest[2] != ':' {
				return valueErr("expected ':' after conversion specifier")
			}
			conv = rest[1]
			rest = rest[2:]
		}
		specText = strings.TrimPrefix(rest, ":")
	}
	v, err := f.lookup(name)
	if err != nil {
		return err
	}
	switch conv {
	case 0:
	case 's', 'r', 'a':
		text, err := f.r.str(v)
		if conv != 's' {
			text, err = f.r.repr(v)
		}
		if conv == 'a' {
			text = asciiRepr(text)
		}
		if err != nil {
			return err
		}
		v = Str(text)
	default:
		return valueErr("Unknown conversion specifier %c", conv)
	}
	expanded := &output{r: f.r}
	if err := f.write(expanded, specText, depth-1); specText != "" && err != nil {
		return err
	}
	text, err := f.r.formatValue(v, string(expanded.buf))
	if err != nil {
		return err
	}
	return out.write(text)
}

// asciiRepr escapes the non-ASCII characters of a repr, as Python's ascii().
func asciiRepr(s string) string {
	var b []byte
	for _, c := range s {
		if c < 0x80 {
			b = append(b, byte(c))
		} else {
			b = appendEscape(b, c)
		}
	}
	return string(b)
}

// lookup finds the argument of a field name such as 0, name, a.b or a[0].
func (f *strFormatter) lookup(name string) (Value, error) {
	first, rest := name, ""
	if i := strings.IndexAny(name, ".["); i >= 0 {
		first, rest = name[:i], name[i:]
	}
	v, err := f.argument(first)
	for err == nil && rest != "" {
		if rest[0] == '.' {
			end := strings.IndexAny(rest[1:], ".[") + 1
			if end == 0 {
				end = len(rest)
			}
			v, err = f.r.getattr(v, rest[1:end])
			rest = rest[end:]
			continue
		}
		end := strings.IndexByte(rest, ']')
		if rest[0] != '[' || end < 0 {
			return nil, valueErr("Missing ']' in format string")
		}
		key := Value(Str(rest[1:end]))
		if n, convErr := strconv.ParseInt(rest[1:end], 10, 64); convErr == nil && n >= 0 {
			key = Int(n)
		}
		v, err = f.r.getitem(v, key)
		rest = rest[end+1:]
	}
	return v, err
}

func (f *strFormatter) argument(name string) (Value, error) {
	n, err := strconv.ParseUint(name, 10, 31)
	switch {
	case name == "":
		if f.manual {
			return nil, valueErr("cannot switch from manual field specification to automatic field numbering")
		}
		n = uint64(f.auto)
		f.auto++
	case err == nil:
		if f.auto > 0 {
			return nil, valueErr("cannot switch from automatic field numbering to manual field specification")
		}
		f.manual = true
	default:
		if v, ok := f.args.keywords().take(name); ok {
			return v, nil
		}
		return nil, errf(kindKey, "%s", quotePy(name))
	}
	if n >= uint64(len(f.args.pos)) {
		return nil, errf(kindIndex, "Replacement index %d out of range for positional args tuple", n)
	}
	return f.args.pos[n], nil
}
