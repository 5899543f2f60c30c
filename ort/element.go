package ort

import (
	"fmt"
	"slices"
)

// ElementType is ONNXTensorElementDataType, numbered as TensorProto.DataType.
type ElementType uint32

// The element types of tensors.
const (
	Undefined ElementType = iota
	Float32
	Uint8
	Int8
	Uint16
	Int16
	Int32
	Int64
	String
	Bool
	Float16Type
	Float64
	Uint32
	Uint64
	Complex64
	Complex128
	BFloat16Type
	Float8E4M3FN
	Float8E4M3FNUZ
	Float8E5M2
	Float8E5M2FNUZ
	Uint4
	Int4
	Float4E2M1
	Uint2
	Int2
)

var elementTypes = [...]struct {
	name string
	bits int // 0: has no fixed size
}{
	Undefined: {"undefined", 0}, Float32: {"float32", 32}, Uint8: {"uint8", 8}, Int8: {"int8", 8},
	Uint16: {"uint16", 16}, Int16: {"int16", 16}, Int32: {"int32", 32}, Int64: {"int64", 64},
	String: {"string", 0}, Bool: {"bool", 8}, Float16Type: {"float16", 16}, Float64: {"float64", 64},
	Uint32: {"uint32", 32}, Uint64: {"uint64", 64}, Complex64: {"complex64", 64}, Complex128: {"complex128", 128},
	BFloat16Type: {"bfloat16", 16}, Float8E4M3FN: {"float8e4m3fn", 8}, Float8E4M3FNUZ: {"float8e4m3fnuz", 8},
	Float8E5M2: {"float8e5m2", 8}, Float8E5M2FNUZ: {"float8e5m2fnuz", 8},
	Uint4: {"uint4", 4}, Int4: {"int4", 4}, Float4E2M1: {"float4e2m1", 4}, Uint2: {"uint2", 2}, Int2: {"int2", 2},
}

// String is the type's name in lower case, as in "bfloat16".
func (t ElementType) String() string {
	if int(t) < len(elementTypes) {
		return elementTypes[t].name
	}
	return fmt.Sprintf("element type %d", uint32(t))
}

// Bits is the number of bits of one element; 0 for Undefined, String and
// numbers this package does not know.
func (t ElementType) Bits() int {
	if int(t) < len(elementTypes) {
		return elementTypes[t].bits
	}
	return 0
}

// Float16 is the bit pattern of an IEEE 754 binary16 number.
type Float16 uint16

// BFloat16 is the bit pattern of a bfloat16 number.
type BFloat16 uint16

// Element lists the Go types that are tensor elements. Types below 8 bits and
// the 8-bit floats are reached through bytes: [NewTensorBytes], [Value.Bytes].
type Element interface {
	float32 | float64 | int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | bool | Float16 | BFloat16
}

// ElementOf is the element type of the Go type T.
func ElementOf[T Element]() ElementType {
	var zero T
	switch any(zero).(type) {
	case float32:
		return Float32
	case float64:
		return Float64
	case int8:
		return Int8
	case int16:
		return Int16
	case int32:
		return Int32
	case int64:
		return Int64
	case uint8:
		return Uint8
	case uint16:
		return Uint16
	case uint32:
		return Uint32
	case uint64:
		return Uint64
	case bool:
		return Bool
	case Float16:
		return Float16Type
	case BFloat16:
		return BFloat16Type
	}
	return Undefined
}

// sizeOf is the number of bytes of a tensor; sub-byte elements are packed and
// the last byte filled up. It refuses negative dimensions and overflow.
func sizeOf(t ElementType, shape []int64) (bytes int, err error) {
	bits := t.Bits()
	if bits == 0 {
		return 0, fmt.Errorf("tensors of type %v are not supported here", t)
	}
	const limit = 1 << 55 // elements; leaves room for 128 bits each
	n := int64(1)
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", slices.Clone(shape))
		}
		if d > 0 && n > limit/d {
			return 0, fmt.Errorf("shape %v has too many elements", slices.Clone(shape))
		}
		n *= d
	}
	return int((n*int64(bits) + 7) / 8), nil
}
