package tensor

import "fmt"

// FormatError says that input is broken: truncated, contradictory, or not what
// it claims to be. Every codec of this module reports damage with it, so that
// a caller can tell it from a file that cannot be opened and from an
// [UnsupportedError].
type FormatError struct {
	// Path names the file, where it is known.
	Path string
	// Offset is the byte offset of the field, -1 where it has none.
	Offset int64
	// Field is the header field, key or tensor concerned.
	Field string
	Err   error
}

func (e *FormatError) Error() string {
	s := ""
	if e.Path != "" {
		s = e.Path + ": "
	}
	if e.Offset >= 0 {
		s += fmt.Sprintf("byte %d: ", e.Offset)
	}
	if e.Field != "" {
		s += e.Field + ": "
	}
	return s + e.Err.Error()
}

func (e *FormatError) Unwrap() error { return e.Err }

// UnsupportedError says that input is valid but that this module does not
// handle it: an unknown architecture, a config value it does not honour.
type UnsupportedError struct {
	// What names the thing, such as `architecture "FooForCausalLM"`.
	What string
	// Hint says what to try; may be empty.
	Hint string
}

func (e *UnsupportedError) Error() string {
	if e.Hint == "" {
		return "unsupported: " + e.What
	}
	return "unsupported: " + e.What + " (" + e.Hint + ")"
}
