package onnx

import (
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// ElemType is the element type of a tensor, with the numbers of
// TensorProto.DataType in onnx.proto.
type ElemType int32

// The element types, in the spelling this module uses for tensor.DType too.
const (
	Undefined  ElemType = 0
	F32        ElemType = 1
	U8         ElemType = 2
	I8         ElemType = 3
	U16        ElemType = 4
	I16        ElemType = 5
	I32        ElemType = 6
	I64        ElemType = 7
	Text       ElemType = 8 // STRING; its initializers live in Initializer.Strings
	Bool       ElemType = 9
	F16        ElemType = 10
	F64        ElemType = 11
	U32        ElemType = 12
	U64        ElemType = 13
	C64        ElemType = 14
	C128       ElemType = 15
	BF16       ElemType = 16
	F8E4M3FN   ElemType = 17
	F8E4M3FNUZ ElemType = 18
	F8E5M2     ElemType = 19
	F8E5M2FNUZ ElemType = 20
	U4         ElemType = 21
	I4         ElemType = 22
	F4E2M1     ElemType = 23
	F8E8M0     ElemType = 24
	U2         ElemType = 25
	I2         ElemType = 26
	F6E2M3     ElemType = 27
	F6E3M2     ElemType = 28
)

// elemTypes holds the spelling of onnx.proto and the bits of one element. The
// types below 8 bits are packed without gaps, the first element in the lowest
// bits (onnx.proto, TensorProto.raw_data).
var elemTypes = [...]struct {
	name  string
	bits  int
	dtype tensor.DType
}{
	Undefined: {"UNDEFINED", 0, tensor.Invalid},
	F32:       {"FLOAT", 32, tensor.F32}, U8: {"UINT8", 8, tensor.U8}, I8: {"INT8", 8, tensor.I8},
	U16: {"UINT16", 16, tensor.U16}, I16: {"INT16", 16, tensor.I16}, I32: {"INT32", 32, tensor.I32},
	I64: {"INT64", 64, tensor.I64}, Text: {"STRING", 0, tensor.Invalid}, Bool: {"BOOL", 8, tensor.Bool},
	F16: {"FLOAT16", 16, tensor.F16}, F64: {"DOUBLE", 64, tensor.F64}, U32: {"UINT32", 32, tensor.U32},
	U64: {"UINT64", 64, tensor.U64}, C64: {"COMPLEX64", 64, 0}, C128: {"COMPLEX128", 128, 0},
	BF16: {"BFLOAT16", 16, tensor.BF16}, F8E4M3FN: {"FLOAT8E4M3FN", 8, 0},
	F8E4M3FNUZ: {"FLOAT8E4M3FNUZ", 8, 0}, F8E5M2: {"FLOAT8E5M2", 8, 0},
	F8E5M2FNUZ: {"FLOAT8E5M2FNUZ", 8, 0}, U4: {"UINT4", 4, 0}, I4: {"INT4", 4, 0},
	F4E2M1: {"FLOAT4E2M1", 4, 0}, F8E8M0: {"FLOAT8E8M0", 8, 0}, U2: {"UINT2", 2, 0},
	I2: {"INT2", 2, 0}, F6E2M3: {"FLOAT6E2M3", 6, 0}, F6E3M2: {"FLOAT6E3M2", 6, 0},
}

// Valid reports whether t is a type of onnx.proto other than UNDEFINED.
func (t ElemType) Valid() bool { return t > Undefined && int(t) < len(elemTypes) }

// Bits is the number of bits of one stored element: 4 for INT4, 0 for STRING
// and unknown types.
func (t ElemType) Bits() int {
	if !t.Valid() {
		return 0
	}
	return elemTypes[t].bits
}

// String is the spelling of onnx.proto, such as "FLOAT16".
func (t ElemType) String() string {
	if t < 0 || int(t) >= len(elemTypes) {
		return fmt.Sprintf("ElemType(%d)", int32(t))
	}
	return elemTypes[t].name
}

// DType is the type of package tensor with the same elements; Invalid where
// there is none (strings, complex numbers, packed and 8-bit floats).
func (t ElemType) DType() tensor.DType {
	if !t.Valid() {
		return tensor.Invalid
	}
	return elemTypes[t].dtype
}

// ElemOf is the inverse of [ElemType.DType]; Undefined for tensor.Invalid.
func ElemOf(d tensor.DType) ElemType {
	for t, e := range elemTypes {
		if d != tensor.Invalid && e.dtype == d {
			return ElemType(t)
		}
	}
	return Undefined
}

// Bytes is the stored size of a tensor with these dims: packed types are
// rounded up to a whole byte at the end. ok is false for STRING and unknown
// types, negative extents and sizes beyond an int64.
func (t ElemType) Bytes(dims []int64) (n int64, ok bool) {
	bits := int64(t.Bits())
	if bits == 0 {
		return 0, false
	}
	n, ok = elements(dims)
	if !ok || n > (1<<63-8)/bits {
		return 0, false
	}
	return (n*bits + 7) / 8, true
}

// elements is the product of the extents; ok is false when one is negative or
// the product exceeds an int64.
func elements(dims []int64) (n int64, ok bool) {
	n = 1
	for _, d := range dims {
		if d < 0 {
			return 0, false
		}
		if d != 0 && n > (1<<63-1)/d {
			return 0, false
		}
		n *= d
	}
	return n, true
}
