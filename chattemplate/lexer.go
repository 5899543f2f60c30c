package chattemplate

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// tokenKind tells tokens apart; operators have their own spelling as kind.
type tokenKind string

const (
	tokData     tokenKind = "data"
	tokName     tokenKind = "name"
	tokString   tokenKind = "string"
	tokInt      tokenKind = "integer"
	tokFloat    tokenKind = "float"
	tokBlock    tokenKind = "block_begin"
	tokBlockEnd tokenKind = "block_end"
	tokVar      tokenKind = "variable_begin"
	tokVarEnd   tokenKind = "variable_end"
	tokEOF      tokenKind = "eof"
)

// token is one lexical element. text is the data, the name, the unescaped
// string or the digits of a number.
type token struct {
	kind tokenKind
	text string
	line int
}

// describe names a token in messages, in Jinja2's words.
func (t token) describe() string {
	switch t.kind {
	case tokName:
		return t.text
	case tokData:
		return "template data / text"
	case tokBlock:
		return "begin of statement block"
	case tokBlockEnd:
		return "end of statement block"
	case tokVar:
		return "begin of print statement"
	case tokVarEnd:
		return "end of print statement"
	case tokEOF:
		return "end of template"
	}
	return string(t.kind)
}

// lexer splits template source into tokens by the rules of jinja2/lexer.py
// with trim_blocks and lstrip_blocks on and keep_trailing_newline off.
type lexer struct {
	src      string
	pos      int
	line     int
	counted  int  // up to here, newlines are in line
	newLine  bool // the text before pos ended with a newline, or is empty
	tokens   []token
	brackets []byte // closing brackets still expected
}

// normalizeSource turns all newlines into \n and drops one at the end.
func normalizeSource(src string) string {
	if strings.Contains(src, "\r") {
		src = strings.ReplaceAll(src, "\r\n", "\n")
		src = strings.ReplaceAll(src, "\r", "\n")
	}
	return strings.TrimSuffix(src, "\n")
}

func lex(src string) ([]token, error) {
	l := &lexer{src: normalizeSource(src), line: 1, newLine: true}
	for l.pos < len(l.src) {
		if err := l.root(); err != nil {
			return nil, err
		}
	}
	l.emit(tokEOF, "", len(l.src))
	return l.tokens, nil
}

// lineAt counts newlines up to at; calls come with growing positions.
func (l *lexer) lineAt(at int) int {
	if at > l.counted {
		l.line += strings.Count(l.src[l.counted:at], "\n")
		l.counted = at
	}
	return l.line
}

func (l *lexer) emit(kind tokenKind, text string, at int) {
	l.tokens = append(l.tokens, token{kind, text, l.lineAt(at)})
}

func (l *lexer) fail(at int, format string, args ...any) error {
	e := errf(kindSyntax, format, args...)
	return atLine(e, "", l.lineAt(at))
}

// advance moves to pos, noting whether a line starts there.
func (l *lexer) advance(pos int) {
	if pos > l.pos {
		l.newLine = l.src[pos-1] == '\n'
	}
	l.pos = pos
}

// root lexes text up to the next tag and that tag.
func (l *lexer) root() error {
	start := l.pos
	at := l.findTag(start)
	if at < 0 {
		l.emit(tokData, l.src[start:], start)
		l.advance(len(l.src))
		return nil
	}
	open := l.src[at+1]
	rest := at + 2
	sign := byte(0)
	if rest < len(l.src) && (l.src[rest] == '-' || l.src[rest] == '+') {
		sign = l.src[rest]
		rest++
	}
	if text := l.stripBefore(l.src[start:at], sign, open != '{'); text != "" {
		l.emit(tokData, text, start)
	}
	if open == '%' {
		if end, ok := l.rawBegin(rest); ok {
			l.advance(end)
			return l.raw(at)
		}
	}
	l.advance(rest)
	switch open {
	case '#':
		return l.comment(at)
	case '%':
		l.emit(tokBlock, "", at)
	default:
		l.emit(tokVar, "", at)
	}
	return l.expression(open == '%')
}

func (l *lexer) findTag(from int) int {
	for at := from; ; at++ {
		i := strings.IndexByte(l.src[at:], '{')
		if i < 0 || at+i+1 >= len(l.src) {
			return -1
		}
		at += i
		switch l.src[at+1] {
		case '%', '#', '{':
			return at
		}
	}
}

// stripBefore applies white space control to the text before a tag: "-" strips
// it all, otherwise lstrip_blocks strips blanks between a line start and a
// block or comment.
func (l *lexer) stripBefore(text string, sign byte, block bool) string {
	if sign == '-' {
		return strings.TrimRightFunc(text, isSpace)
	}
	if sign == '+' || !block {
		return text
	}
	lineStart := strings.LastIndexByte(text, '\n') + 1
	if (lineStart > 0 || l.newLine) && strings.TrimLeftFunc(text[lineStart:], isSpace) == "" {
		return text[:lineStart]
	}
	return text
}

// skipSpace returns the position after white space.
func (l *lexer) skipSpace(pos int) int {
	return len(l.src) - len(strings.TrimLeftFunc(l.src[pos:], isSpace))
}

// rawBegin matches the rest of a raw tag after "{%" and its sign.
func (l *lexer) rawBegin(pos int) (int, bool) {
	pos = l.skipSpace(pos)
	if !strings.HasPrefix(l.src[pos:], "raw") {
		return 0, false
	}
	pos = l.skipSpace(pos + 3)
	switch {
	case strings.HasPrefix(l.src[pos:], "-%}"):
		return l.skipSpace(pos + 3), true
	case strings.HasPrefix(l.src[pos:], "%}"):
		return pos + 2, true
	}
	return 0, false
}

// raw lexes up to and with the endraw tag.
func (l *lexer) raw(opened int) error {
	start := l.pos
	for at := start; ; at++ {
		i := strings.Index(l.src[at:], "{%")
		if i < 0 {
			return l.fail(opened, "Missing end of raw directive")
		}
		at += i
		pos, sign := at+2, byte(0)
		if pos < len(l.src) && (l.src[pos] == '-' || l.src[pos] == '+') {
			sign = l.src[pos]
			pos++
		}
		pos = l.skipSpace(pos)
		if !strings.HasPrefix(l.src[pos:], "endraw") {
			continue
		}
		end, ok := l.tagEnd(l.skipSpace(pos+6), "%}", true)
		if !ok {
			continue
		}
		if text := l.stripBefore(l.src[start:at], sign, true); text != "" {
			l.emit(tokData, text, start)
		}
		l.advance(end)
		return nil
	}
}

// tagEnd matches the end of a tag at pos: "-" also takes the white space after
// it, none the newline after it (trim_blocks), "+" nothing.
func (l *lexer) tagEnd(pos int, end string, block bool) (int, bool) {
	s := l.src[pos:]
	switch {
	case strings.HasPrefix(s, "-"+end):
		return l.skipSpace(pos + 1 + len(end)), true
	case block && strings.HasPrefix(s, "+"+end):
		return pos + 1 + len(end), true
	case strings.HasPrefix(s, end):
		pos += len(end)
		if block && pos < len(l.src) && l.src[pos] == '\n' {
			pos++
		}
		return pos, true
	}
	return 0, false
}

func (l *lexer) comment(opened int) error {
	i := strings.Index(l.src[l.pos:], "#}")
	if i < 0 {
		return l.fail(opened, "Missing end of comment tag")
	}
	at := l.pos + i
	if i > 0 && (l.src[at-1] == '-' || l.src[at-1] == '+') {
		at--
	}
	end, _ := l.tagEnd(at, "#}", true)
	l.advance(end)
	return nil
}

// expression lexes the inside of a block or variable tag, to its end.
func (l *lexer) expression(block bool) error {
	end, endKind := "}}", tokVarEnd
	if block {
		end, endKind = "%}", tokBlockEnd
	}
	l.brackets = l.brackets[:0]
	for l.pos < len(l.src) {
		if len(l.brackets) == 0 {
			if pos, ok := l.tagEnd(l.pos, end, block); ok {
				l.emit(endKind, "", l.pos)
				l.advance(pos)
				return nil
			}
		}
		if err := l.element(); err != nil {
			return err
		}
	}
	return nil // the parser reports the missing end
}

// element lexes white space, a number, a name, a string or an operator.
func (l *lexer) element() error {
	start := l.pos
	c, size := utf8.DecodeRuneInString(l.src[start:])
	switch {
	case isSpace(c):
		l.advance(l.skipSpace(start))
		return nil
	case c >= '0' && c <= '9':
		return l.number()
	case c == '\'' || c == '"':
		return l.str(byte(c))
	case c == '_' || unicode.IsLetter(c) || unicode.IsDigit(c):
		pos := start + size
		for pos < len(l.src) {
			c, size := utf8.DecodeRuneInString(l.src[pos:])
			if c != '_' && !unicode.In(c, unicode.L, unicode.N, unicode.Mn, unicode.Mc) {
				break
			}
			pos += size
		}
		name := l.src[start:pos]
		if !isIdentifier(name) {
			return l.fail(start, "Invalid character in identifier")
		}
		l.emit(tokName, name, start)
		l.advance(pos)
		return nil
	}
	return l.operator()
}

func (l *lexer) operator() error {
	start := l.pos
	op := l.src[start : start+1]
	if start+1 < len(l.src) {
		switch two := l.src[start : start+2]; two {
		case "//", "**", "==", "!=", ">=", "<=":
			op = two
		}
	}
	switch op {
	case "(":
		l.brackets = append(l.brackets, ')')
	case "[":
		l.brackets = append(l.brackets, ']')
	case "{":
		l.brackets = append(l.brackets, '}')
	case ")", "]", "}":
		n := len(l.brackets)
		if n == 0 {
			return l.fail(start, "unexpected '%s'", op)
		}
		if want := l.brackets[n-1]; want != op[0] {
			return l.fail(start, "unexpected '%s', expected '%c'", op, want)
		}
		l.brackets = l.brackets[:n-1]
	case "//", "**", "==", "!=", ">=", "<=",
		"+", "-", "/", "*", "%", "~", ">", "<", "=", ".", ":", "|", ",", ";":
	default:
		c, _ := utf8.DecodeRuneInString(l.src[start:])
		return l.fail(start, "unexpected char %s at %d", quotePy(string(c)), utf8.RuneCountInString(l.src[:start]))
	}
	l.emit(tokenKind(op), "", start)
	l.advance(start + len(op))
	return nil
}

// digits matches digits of a base with single underscores between them.
func (l *lexer) digits(pos int, ok func(c byte) bool) int {
	for pos < len(l.src) {
		next := pos
		if l.src[next] == '_' {
			next++
		}
		if next >= len(l.src) || !ok(l.src[next]) {
			break
		}
		pos = next + 1
	}
	return pos
}

func isDecimal(c byte) bool { return c >= '0' && c <= '9' }

// number lexes an integer or a float literal.
func (l *lexer) number() error {
	start := l.pos
	if pos, ok := l.floatEnd(start); ok && (start == 0 || l.src[start-1] != '.') {
		l.emit(tokFloat, strings.ReplaceAll(l.src[start:pos], "_", ""), start)
		l.advance(pos)
		return nil
	}
	pos := l.intEnd(start)
	text := strings.ReplaceAll(l.src[start:pos], "_", "")
	if _, err := strconv.ParseInt(text, 0, 64); err != nil {
		return l.fail(start, "integer literal %.40s does not fit in 64 bits", text)
	}
	l.emit(tokInt, text, start)
	l.advance(pos)
	return nil
}

func (l *lexer) floatEnd(pos int) (int, bool) {
	pos = l.digits(pos, isDecimal)
	isFloat := false
	if pos+1 < len(l.src) && l.src[pos] == '.' && isDecimal(l.src[pos+1]) {
		pos = l.digits(pos+1, isDecimal)
		isFloat = true
	}
	if pos < len(l.src) && (l.src[pos] == 'e' || l.src[pos] == 'E') {
		exp := pos + 1
		if exp < len(l.src) && (l.src[exp] == '+' || l.src[exp] == '-') {
			exp++
		}
		if exp < len(l.src) && isDecimal(l.src[exp]) {
			pos = l.digits(exp, isDecimal)
			isFloat = true
		}
	}
	return pos, isFloat
}

func (l *lexer) intEnd(pos int) int {
	if l.src[pos] != '0' {
		return l.digits(pos, isDecimal)
	}
	if pos+1 < len(l.src) {
		var ok func(c byte) bool
		switch l.src[pos+1] | 0x20 {
		case 'b':
			ok = func(c byte) bool { return c == '0' || c == '1' }
		case 'o':
			ok = func(c byte) bool { return c >= '0' && c <= '7' }
		case 'x':
			ok = func(c byte) bool { return isDecimal(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }
		}
		if ok != nil {
			if end := l.digits(pos+2, ok); end > pos+2 {
				return end
			}
		}
	}
	return l.digits(pos, func(c byte) bool { return c == '0' })
}

// str lexes a string literal and undoes its escapes.
func (l *lexer) str(quote byte) error {
	start := l.pos
	pos := start + 1
	for ; ; pos++ {
		if pos >= len(l.src) {
			return l.fail(start, "unexpected char %s at %d", quotePy(string(quote)), utf8.RuneCountInString(l.src[:start]))
		}
		if l.src[pos] == quote {
			break
		}
		if l.src[pos] == '\\' {
			pos++
		}
	}
	text, err := unescape(l.src[start+1 : pos])
	if err != "" {
		return l.fail(start, "%s", err)
	}
	l.emit(tokString, text, start)
	l.advance(pos + 1)
	return nil
}

// unescape undoes the escapes of a literal as Python's unicode-escape codec
// does on text whose non-ASCII characters were first written as escapes. A
// non-empty second result is the error message.
func unescape(s string) (string, string) {
	if !strings.Contains(s, `\`) {
		return s, ""
	}
	var b []byte
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			b = append(b, s[i])
			i++
			continue
		}
		i++
		c, size := utf8.DecodeRuneInString(s[i:])
		i += size
		switch {
		case c == '\n':
		case strings.ContainsRune(`\'"`, c):
			b = append(b, byte(c))
		case strings.ContainsRune("abfnrtv", c):
			b = append(b, "\a\b\f\n\r\t\v"[strings.IndexRune("abfnrtv", c)])
		case c >= '0' && c <= '7':
			n := rune(c - '0')
			for k := 0; k < 2 && i < len(s) && s[i] >= '0' && s[i] <= '7'; k++ {
				n = n*8 + rune(s[i]-'0')
				i++
			}
			b = utf8.AppendRune(b, n)
		case c == 'x' || c == 'u' || c == 'U':
			digits := map[rune]int{'x': 2, 'u': 4, 'U': 8}[c]
			form := map[rune]string{'x': `truncated \xXX escape`, 'u': `truncated \uXXXX escape`, 'U': `truncated \UXXXXXXXX escape`}[c]
			if i+digits > len(s) {
				return "", form
			}
			n, err := strconv.ParseUint(s[i:i+digits], 16, 32)
			if err != nil {
				return "", form
			}
			if n > unicode.MaxRune {
				return "", "illegal Unicode character"
			}
			b = utf8.AppendRune(b, rune(n))
			i += digits
		case c == 'N':
			return "", `malformed \N character escape`
		case c >= 0x80:
			// The character was itself written as an escape, whose backslash
			// the first one now escapes.
			b = appendEscape(b, c)
		default:
			b = append(b, '\\', byte(c))
		}
	}
	return string(b), ""
}
