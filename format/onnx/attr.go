package onnx

import (
	"encoding/binary"
	"fmt"
	"math"
)

// AttrType is AttributeProto.AttributeType, with its numbers.
type AttrType int32

// The attribute types that [Attr] can hold.
const (
	AttrFloat   AttrType = 1
	AttrInt     AttrType = 2
	AttrString  AttrType = 3
	AttrTensor  AttrType = 4
	AttrGraph   AttrType = 5
	AttrFloats  AttrType = 6
	AttrInts    AttrType = 7
	AttrStrings AttrType = 8
)

// String is the spelling of onnx.proto.
func (t AttrType) String() string {
	switch t {
	case AttrFloat:
		return "FLOAT"
	case AttrInt:
		return "INT"
	case AttrString:
		return "STRING"
	case AttrTensor:
		return "TENSOR"
	case AttrGraph:
		return "GRAPH"
	case AttrFloats:
		return "FLOATS"
	case AttrInts:
		return "INTS"
	case AttrStrings:
		return "STRINGS"
	}
	return fmt.Sprintf("AttrType(%d)", int32(t))
}

// Attr is an AttributeProto: a named constant of a node. Type says which field
// holds the value. A string value may hold any bytes.
type Attr struct {
	Name    string
	Type    AttrType
	I       int64
	F       float32
	S       string
	Ints    []int64
	Floats  []float32
	Strings []string
	Tensor  *Initializer
	Graph   *Graph // the body of If, Loop or Scan
}

// Int is an integer attribute.
func Int(name string, v int64) Attr { return Attr{Name: name, Type: AttrInt, I: v} }

// Float is a float attribute.
func Float(name string, v float32) Attr { return Attr{Name: name, Type: AttrFloat, F: v} }

// String is a string attribute.
func String(name, v string) Attr { return Attr{Name: name, Type: AttrString, S: v} }

// Ints is an attribute that lists integers.
func Ints(name string, v ...int64) Attr { return Attr{Name: name, Type: AttrInts, Ints: v} }

// Floats is an attribute that lists floats.
func Floats(name string, v ...float32) Attr { return Attr{Name: name, Type: AttrFloats, Floats: v} }

// Strings is an attribute that lists strings.
func Strings(name string, v ...string) Attr { return Attr{Name: name, Type: AttrStrings, Strings: v} }

// TensorAttr is a tensor attribute, as Constant and ConstantOfShape take.
func TensorAttr(name string, t Initializer) Attr {
	return Attr{Name: name, Type: AttrTensor, Tensor: &t}
}

// ConstTensor makes a tensor without a name from values; dims nil makes a
// vector of len(values), no dims at all ([]int64{}) a scalar.
func ConstTensor[T int64 | int32 | float32 | bool](dims []int64, values ...T) Initializer {
	if dims == nil {
		dims = []int64{int64(len(values))}
	}
	t := Initializer{Dims: dims}
	le := binary.LittleEndian
	switch v := any(values).(type) {
	case []int64:
		t.Elem = I64
		for _, x := range v {
			t.Data = le.AppendUint64(t.Data, uint64(x))
		}
	case []int32:
		t.Elem = I32
		for _, x := range v {
			t.Data = le.AppendUint32(t.Data, uint32(x))
		}
	case []float32:
		t.Elem = F32
		for _, x := range v {
			t.Data = le.AppendUint32(t.Data, math.Float32bits(x))
		}
	case []bool:
		t.Elem = Bool
		for _, x := range v {
			b := byte(0)
			if x {
				b = 1
			}
			t.Data = append(t.Data, b)
		}
	}
	return t
}

// Int64s returns the elements of an inline INT64 or INT32 tensor; ok is false
// for other types, external data, and data that do not fit the dims.
func (t *Initializer) Int64s() (v []int64, ok bool) {
	n, ok := t.Bytes()
	if !ok || t.External != nil || int64(len(t.Data)) != n {
		return nil, false
	}
	le := binary.LittleEndian
	switch t.Elem {
	case I64:
		v = make([]int64, n/8)
		for i := range v {
			v[i] = int64(le.Uint64(t.Data[i*8:]))
		}
	case I32:
		v = make([]int64, n/4)
		for i := range v {
			v[i] = int64(int32(le.Uint32(t.Data[i*4:])))
		}
	default:
		return nil, false
	}
	return v, true
}
