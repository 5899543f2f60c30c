package tokenizer

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// jsonScanner reads JSON (RFC 8259) from the front. Vocabulary and merges of a
// tokenizer.json make up 10 MB of small strings, which encoding/json needs
// several times as long for; the small parts go through encoding/json.
type jsonScanner struct {
	data  []byte
	pos   int
	depth int
}

// maxJSONDepth bounds nesting, and so the stack.
const maxJSONDepth = 64

var (
	errJSONEnd    = errors.New("the JSON text ends early")
	errJSONSyntax = errors.New("not valid JSON")
	errJSONDepth  = fmt.Errorf("nested more than %d deep", maxJSONDepth)
)

func (p *jsonScanner) fail(field string, err error) error {
	return &tensor.FormatError{Offset: int64(p.pos), Field: field, Err: err}
}

func (p *jsonScanner) syntax() error {
	if p.pos >= len(p.data) {
		return errJSONEnd
	}
	return errJSONSyntax
}

// peek gives the next byte behind white space, 0 at the end.
func (p *jsonScanner) peek() byte {
	for p.pos < len(p.data) {
		switch c := p.data[p.pos]; c {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return c
		}
	}
	return 0
}

func (p *jsonScanner) expect(c byte) error {
	if p.peek() != c {
		return p.syntax()
	}
	p.pos++
	return nil
}

// object calls member for each key of an object; member must consume the value.
func (p *jsonScanner) object(member func(key string) error) error {
	return p.list('{', '}', func() error {
		key, err := p.str(nil)
		if err != nil {
			return err
		}
		if err := p.expect(':'); err != nil {
			return err
		}
		return member(string(key))
	})
}

// list walks an array or object: item must consume one item.
func (p *jsonScanner) list(open, end byte, item func() error) error {
	if err := p.expect(open); err != nil {
		return err
	}
	if p.depth++; p.depth > maxJSONDepth {
		return errJSONDepth
	}
	defer func() { p.depth-- }()
	if p.peek() == end {
		p.pos++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		switch p.peek() {
		case ',':
			p.pos++
		case end:
			p.pos++
			return nil
		default:
			return p.syntax()
		}
	}
}

// str appends the next string to dst.
func (p *jsonScanner) str(dst []byte) ([]byte, error) {
	if err := p.expect('"'); err != nil {
		return dst, err
	}
	start := p.pos
	for p.pos < len(p.data) {
		switch c := p.data[p.pos]; {
		case c == '"':
			part := p.data[start:p.pos]
			if !utf8.Valid(part) {
				return dst, errors.New("a string is not valid UTF-8")
			}
			p.pos++
			return append(dst, part...), nil
		case c == '\\':
			part := p.data[start:p.pos]
			if !utf8.Valid(part) {
				return dst, errors.New("a string is not valid UTF-8")
			}
			dst = append(dst, part...)
			r, err := p.escape()
			if err != nil {
				return dst, err
			}
			dst = utf8.AppendRune(dst, r)
			start = p.pos
		case c < ' ':
			return dst, errJSONSyntax
		default:
			p.pos++
		}
	}
	return dst, errJSONEnd
}

func (p *jsonScanner) escape() (rune, error) {
	if p.pos+1 >= len(p.data) {
		return 0, errJSONEnd
	}
	c := p.data[p.pos+1]
	p.pos += 2
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		r, err := p.hex4()
		if err != nil || !utf16.IsSurrogate(r) {
			return r, err
		}
		if p.pos+1 < len(p.data) && p.data[p.pos] == '\\' && p.data[p.pos+1] == 'u' {
			p.pos += 2
			low, err := p.hex4()
			if err != nil {
				return 0, err
			}
			if r := utf16.DecodeRune(r, low); r != utf8.RuneError {
				return r, nil
			}
		}
		return 0, errors.New("half a surrogate pair in a string")
	}
	return 0, errJSONSyntax
}

func (p *jsonScanner) hex4() (rune, error) {
	if p.pos+4 > len(p.data) {
		return 0, errJSONEnd
	}
	v, err := strconv.ParseUint(string(p.data[p.pos:p.pos+4]), 16, 32)
	if err != nil {
		return 0, errJSONSyntax
	}
	p.pos += 4
	return rune(v), nil
}

// id reads a token id: a whole number from 0 to 2^31-1.
func (p *jsonScanner) id() (int32, error) {
	p.peek()
	start := p.pos
	for p.pos < len(p.data) && '0' <= p.data[p.pos] && p.data[p.pos] <= '9' {
		p.pos++
	}
	if start == p.pos {
		return 0, fmt.Errorf("a token id is no whole number: %w", p.syntax())
	}
	v, err := strconv.ParseInt(string(p.data[start:p.pos]), 10, 32)
	if err != nil {
		return 0, errors.New("a token id is out of range")
	}
	return int32(v), nil
}

// skip passes over the next value and gives its text.
func (p *jsonScanner) skip() ([]byte, error) {
	c := p.peek()
	start := p.pos
	var err error
	switch c {
	case '{':
		err = p.object(func(string) error { _, err := p.skip(); return err })
	case '[':
		err = p.list('[', ']', func() error { _, err := p.skip(); return err })
	case '"':
		_, err = p.str(nil)
	default:
		for p.pos < len(p.data) && isScalarByte(p.data[p.pos]) {
			p.pos++
		}
		if p.pos == start {
			err = p.syntax()
		}
	}
	return p.data[start:p.pos], err
}

// isScalarByte is a byte of a number, true, false or null.
func isScalarByte(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || c == '-' || c == '+' || c == '.' || c == 'E'
}

// appendJSONString appends s, which is valid UTF-8, as a JSON string.
func appendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = fmt.Appendf(dst, `\u%04x`, c)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
