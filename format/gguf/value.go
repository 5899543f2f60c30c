package gguf

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// ValueType is the number of a value's type (gguf.md, enum
// gguf_metadata_value_type).
type ValueType uint32

// The value types.
const (
	Uint8   ValueType = 0
	Int8    ValueType = 1
	Uint16  ValueType = 2
	Int16   ValueType = 3
	Uint32  ValueType = 4
	Int32   ValueType = 5
	Float32 ValueType = 6
	Bool    ValueType = 7
	String  ValueType = 8
	Array   ValueType = 9
	Uint64  ValueType = 10
	Int64   ValueType = 11
	Float64 ValueType = 12
)

var valueTypes = [...]struct {
	name string
	size int64 // bytes, 0 for those of no fixed size
}{
	Uint8: {"u8", 1}, Int8: {"i8", 1}, Uint16: {"u16", 2}, Int16: {"i16", 2}, Uint32: {"u32", 4}, Int32: {"i32", 4},
	Float32: {"f32", 4}, Bool: {"bool", 1}, String: {"str", 0}, Array: {"arr", 0},
	Uint64: {"u64", 8}, Int64: {"i64", 8}, Float64: {"f64", 8},
}

// String is a short name, such as "u32".
func (t ValueType) String() string {
	if !t.known() {
		return fmt.Sprintf("ValueType(%d)", uint32(t))
	}
	return valueTypes[t].name
}

func (t ValueType) known() bool { return uint64(t) < uint64(len(valueTypes)) }

// size is the fixed size in bytes, 0 for strings and arrays.
func (t ValueType) size() int64 { return valueTypes[t].size }

// Value is the value of one key, still in the file.
type Value struct {
	Key  string
	Type ValueType
	// Elem and Count describe an array.
	Elem  ValueType
	Count int64

	r      *Reader
	offset int64 // of the scalar, the string's text, or the first element
	bytes  int64
}

// wrong reports that a value is not of the type the caller needs.
func (v Value) wrong(want string) error {
	return &tensor.FormatError{Path: v.r.path, Offset: v.offset, Field: "key " + v.Key, Err: fmt.Errorf("is %s, want %s", v.kind(), want)}
}

func (v Value) kind() string {
	if v.Type == Array {
		return fmt.Sprintf("an array of %d %v", v.Count, v.Elem)
	}
	return "a " + v.Type.String()
}

// load reads the value's bytes; the size was checked against the file's.
func (v Value) load() ([]byte, error) {
	b := make([]byte, v.bytes)
	if n, err := v.r.r.ReadAt(b, v.offset); n < len(b) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read key %s from %s: %w", v.Key, v.r.path, err)
	}
	return b, nil
}

// Text returns a string value.
func (v Value) Text() (string, error) {
	if v.Type != String {
		return "", v.wrong("a string")
	}
	b, err := v.load()
	return string(b), err
}

// Bool returns a boolean value.
func (v Value) Bool() (bool, error) {
	if v.Type != Bool {
		return false, v.wrong("a bool")
	}
	b, err := v.load()
	return err == nil && b[0] != 0, err
}

// Int returns a value of any integer type.
func (v Value) Int() (int64, error) {
	if !isInt(v.Type) {
		return 0, v.wrong("a whole number")
	}
	b, err := v.load()
	if err != nil {
		return 0, err
	}
	n, ok := intAt(b, v.Type)
	if !ok {
		return 0, v.wrong("a number below 2^63")
	}
	return n, nil
}

// Float returns a value of any number type.
func (v Value) Float() (float64, error) {
	if v.Type == String || v.Type == Array || v.Type == Bool {
		return 0, v.wrong("a number")
	}
	b, err := v.load()
	if err != nil {
		return 0, err
	}
	return floatAt(b, v.Type), nil
}

// Strings returns an array of strings.
func (v Value) Strings() ([]string, error) {
	if v.Type != Array || v.Elem != String {
		return nil, v.wrong("an array of strings")
	}
	b, err := v.load()
	if err != nil {
		return nil, err
	}
	// One string for all keeps the memory at the size of the file's bytes.
	text := string(b)
	out := make([]string, v.Count)
	for i := range out {
		n := binary.LittleEndian.Uint64(b) // lengths were walked on opening
		out[i] = text[8 : 8+n]
		b, text = b[8+n:], text[8+n:]
	}
	return out, nil
}

// Ints returns an array of any integer type.
func (v Value) Ints() ([]int64, error) {
	if v.Type != Array || !isInt(v.Elem) {
		return nil, v.wrong("an array of whole numbers")
	}
	b, err := v.load()
	if err != nil {
		return nil, err
	}
	out := make([]int64, v.Count)
	for i := range out {
		n, ok := intAt(b[int64(i)*v.Elem.size():], v.Elem)
		if !ok {
			return nil, v.wrong("numbers below 2^63")
		}
		out[i] = n
	}
	return out, nil
}

// Floats returns an array of any number type as float32.
func (v Value) Floats() ([]float32, error) {
	if v.Type != Array || v.Elem == String || v.Elem == Array || v.Elem == Bool {
		return nil, v.wrong("an array of numbers")
	}
	b, err := v.load()
	if err != nil {
		return nil, err
	}
	out := make([]float32, v.Count)
	for i := range out {
		out[i] = float32(floatAt(b[int64(i)*v.Elem.size():], v.Elem))
	}
	return out, nil
}

// Summary prints the value for people: strings quoted and cut after limit
// bytes, arrays as their type, count and, where they are short, items.
func (v Value) Summary(limit int) string {
	switch {
	case v.Type == String:
		w := v
		w.bytes = min(v.bytes, int64(limit)) // reads no more than is shown
		s, err := w.Text()
		if err != nil {
			return err.Error()
		}
		if w.bytes < v.bytes {
			return strconv.Quote(strings.ToValidUTF8(s, "")) + fmt.Sprintf("... (%d bytes)", v.bytes)
		}
		return strconv.Quote(s)
	case v.Type == Array && v.Elem == String && v.bytes <= int64(limit):
		if s, err := v.Strings(); err == nil {
			return fmt.Sprintf("%q", s)
		}
	case v.Type == Array && v.Elem != String && v.Elem != Array && v.bytes <= int64(limit):
		if s, err := v.Ints(); err == nil {
			return fmt.Sprint(s)
		}
		if s, err := v.Floats(); err == nil {
			return fmt.Sprint(s)
		}
	case v.Type == Bool:
		if b, err := v.Bool(); err == nil {
			return strconv.FormatBool(b)
		}
	case v.Type == Float32 || v.Type == Float64:
		if f, err := v.Float(); err == nil {
			return strconv.FormatFloat(f, 'g', -1, int(v.Type.size())*8)
		}
	case isInt(v.Type):
		if n, err := v.Int(); err == nil {
			return strconv.FormatInt(n, 10)
		}
	}
	return v.kind()
}

func isInt(t ValueType) bool { return t <= Int32 || t == Uint64 || t == Int64 }

// intAt reads an integer; ok is false where a u64 does not fit.
func intAt(b []byte, t ValueType) (n int64, ok bool) {
	le := binary.LittleEndian
	switch t {
	case Uint8:
		return int64(b[0]), true
	case Int8:
		return int64(int8(b[0])), true
	case Uint16:
		return int64(le.Uint16(b)), true
	case Int16:
		return int64(int16(le.Uint16(b))), true
	case Uint32:
		return int64(le.Uint32(b)), true
	case Int32:
		return int64(int32(le.Uint32(b))), true
	}
	n = int64(le.Uint64(b))
	return n, t == Int64 || n >= 0
}

func floatAt(b []byte, t ValueType) float64 {
	switch t {
	case Float32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	case Float64:
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
	n, ok := intAt(b, t)
	if !ok {
		return float64(uint64(n))
	}
	return float64(n)
}
