package tensor

import "fmt"

// DType is a plain element type: one element has a fixed number of bytes.
// Block-quantized types belong to quant/ggml and are not DTypes.
type DType uint8

// The element types, in the spelling of safetensors headers.
const (
	Invalid DType = iota
	F64
	F32
	F16
	BF16
	I64
	I32
	I16
	I8
	U64
	U32
	U16
	U8
	Bool
)

var dtypes = [...]struct {
	name string
	size int
}{
	Invalid: {"invalid", 0},
	F64:     {"F64", 8}, F32: {"F32", 4}, F16: {"F16", 2}, BF16: {"BF16", 2},
	I64: {"I64", 8}, I32: {"I32", 4}, I16: {"I16", 2}, I8: {"I8", 1},
	U64: {"U64", 8}, U32: {"U32", 4}, U16: {"U16", 2}, U8: {"U8", 1},
	Bool: {"BOOL", 1},
}

// Size is the number of bytes of one element, 0 for Invalid.
func (d DType) Size() int {
	if int(d) >= len(dtypes) {
		return 0
	}
	return dtypes[d].size
}

// String is the safetensors spelling, such as "BF16".
func (d DType) String() string {
	if int(d) >= len(dtypes) {
		return fmt.Sprintf("DType(%d)", uint8(d))
	}
	return dtypes[d].name
}

// ParseDType is the inverse of [DType.String]; ok is false for other names.
func ParseDType(s string) (d DType, ok bool) {
	for i, t := range dtypes {
		if i > 0 && t.name == s {
			return DType(i), true
		}
	}
	return Invalid, false
}

// IsFloat reports whether d is a floating-point type.
func (d DType) IsFloat() bool { return d >= F64 && d <= BF16 }
