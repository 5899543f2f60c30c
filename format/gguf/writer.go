package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Decl declares a tensor that will be written.
type Decl struct {
	Name string
	Type ggml.Type
	// Shape is outermost first, as in Info.
	Shape tensor.Shape
}

// WriterOptions adjusts [NewWriter]. The zero value works.
type WriterOptions struct {
	// Alignment of tensor data, a power of two. Default 32; another value is
	// written as general.alignment.
	Alignment int64
}

// Writer writes a version 3 file front to back: set keys, declare tensors,
// write the header, then the tensors in the order declared, then close. Keys
// are written in the order set, so the same calls give the same bytes. The
// first error sticks.
type Writer struct {
	w         io.Writer
	alignment int64
	keys      []byte // encoded
	count     uint64
	seen      map[string]bool
	decls     []Decl
	infos     []Info // set by WriteHeader
	next      int
	err       error
}

// NewWriter returns a writer of one file.
func NewWriter(w io.Writer, o WriterOptions) *Writer {
	g := &Writer{w: w, alignment: defaultAlignment, seen: map[string]bool{}}
	if o.Alignment != 0 && o.Alignment != defaultAlignment {
		if o.Alignment < 0 || o.Alignment > maxAlignment || o.Alignment&(o.Alignment-1) != 0 {
			g.err = fmt.Errorf("write GGUF file: alignment %d is not a power of two up to %d", o.Alignment, maxAlignment)
			return g
		}
		g.alignment = o.Alignment
		g.Set(alignmentKey, uint32(o.Alignment))
	}
	return g
}

// Set adds a key. value is a bool, a string, a sized integer, a float32 or
// float64, or a slice of one of these, which must not be empty: readers refuse
// empty arrays. An error shows at [Writer.WriteHeader].
func (g *Writer) Set(key string, value any) {
	if g.err != nil {
		return
	}
	b := appendString(nil, key)
	b, err := appendValue(b, value)
	switch {
	case err != nil:
		g.err = fmt.Errorf("set GGUF key %s: %w", key, err)
	case g.infos != nil:
		g.err = fmt.Errorf("set GGUF key %s: the header is written already", key)
	case g.seen[key]:
		g.err = fmt.Errorf("set GGUF key %s: it is set already", key)
	case len(key) == 0 || len(key) > maxName:
		g.err = fmt.Errorf("set GGUF key %.40q: a key of %d bytes", key, len(key))
	}
	g.seen[key] = true
	g.keys = append(g.keys, b...)
	g.count++
}

// Copy adds a key with a value of another file, byte for byte.
func (g *Writer) Copy(v Value) {
	if g.err != nil {
		return
	}
	text, err := v.load()
	if err != nil {
		g.err = fmt.Errorf("copy GGUF key: %w", err)
		return
	}
	if g.seen[v.Key] || g.infos != nil {
		g.err = fmt.Errorf("copy GGUF key %s: it is set already", v.Key)
		return
	}
	b := appendString(nil, v.Key)
	b = binary.LittleEndian.AppendUint32(b, uint32(v.Type))
	switch v.Type {
	case String:
		b = binary.LittleEndian.AppendUint64(b, uint64(len(text)))
	case Array:
		b = binary.LittleEndian.AppendUint32(b, uint32(v.Elem))
		b = binary.LittleEndian.AppendUint64(b, uint64(v.Count))
	}
	g.seen[v.Key] = true
	g.keys = append(append(g.keys, b...), text...)
	g.count++
}

// Declare adds a tensor. It has no effect after [Writer.WriteHeader].
func (g *Writer) Declare(d Decl) { g.decls = append(g.decls, d) }

// Layout is the header with all keys set so far, padded to where the data
// starts, and where each declared tensor goes. It writes nothing: a plan can be
// made from it, and tensors may be written at their offsets in any order. The
// file ends at the last tensor's end, rounded up to the alignment.
func (g *Writer) Layout() (header []byte, infos []Info, err error) {
	if g.err != nil {
		return nil, nil, g.err
	}
	b := append([]byte(magic), 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(b[4:], version)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(g.decls)))
	b = binary.LittleEndian.AppendUint64(b, g.count)
	b = append(b, g.keys...)
	seen := map[string]bool{}
	var end int64
	for _, d := range g.decls {
		t := Info{Name: d.Name, Type: d.Type, Shape: d.Shape, Offset: end}
		err := t.measure()
		switch {
		case err != nil:
		case seen[d.Name]:
			err = errors.New("it is declared twice")
		case len(d.Shape) > maxDims || len(d.Name) > maxName:
			err = fmt.Errorf("%d dimensions and a name of %d bytes are more than the format has", len(d.Shape), len(d.Name))
		case t.Bytes > math.MaxInt64/2-end:
			err = errors.New("the file would be too large")
		}
		if err != nil {
			return nil, nil, fmt.Errorf("declare tensor %q: %w", d.Name, err)
		}
		seen[d.Name] = true
		b = appendString(b, d.Name)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(d.Shape)))
		for i := range d.Shape {
			b = binary.LittleEndian.AppendUint64(b, uint64(d.Shape[len(d.Shape)-1-i]))
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(d.Type))
		b = binary.LittleEndian.AppendUint64(b, uint64(end))
		infos = append(infos, t)
		end = alignUp(end+t.Bytes, g.alignment)
	}
	b = append(b, make([]byte, alignUp(int64(len(b)), g.alignment)-int64(len(b)))...)
	for i := range infos {
		infos[i].Offset += int64(len(b))
	}
	return b, infos, nil
}

// WriteHeader writes all that comes before the tensor data.
func (g *Writer) WriteHeader() error {
	if g.err == nil && g.infos != nil {
		g.err = errors.New("GGUF header written twice")
	}
	header, infos, err := g.Layout()
	if err == nil {
		if _, err = g.w.Write(header); err != nil {
			err = fmt.Errorf("write GGUF header: %w", err)
		}
	}
	g.infos, g.err = append([]Info{}, infos...), err
	return err
}

// WriteTensor writes the data of the next declared tensor, which must be the
// named one, and pads it. data must write exactly the declared number of bytes;
// see tensor.Stream and ggml.Stream.
func (g *Writer) WriteTensor(name string, data io.WriterTo) error {
	if g.err == nil {
		g.err = g.writeTensor(name, data)
	}
	return g.err
}

func (g *Writer) writeTensor(name string, data io.WriterTo) error {
	switch {
	case g.infos == nil:
		return fmt.Errorf("write tensor %q: the header is not written yet", name)
	case g.next == len(g.infos):
		return fmt.Errorf("write tensor %q: all declared tensors are written", name)
	case g.infos[g.next].Name != name:
		return fmt.Errorf("write tensor %q: tensor %q is next", name, g.infos[g.next].Name)
	}
	want := g.infos[g.next].Bytes
	n, err := data.WriteTo(g.w)
	if err == nil && n != want {
		err = fmt.Errorf("%d bytes came, %d were declared", n, want)
	}
	if err == nil {
		_, err = g.w.Write(make([]byte, alignUp(want, g.alignment)-want))
	}
	if err != nil {
		return fmt.Errorf("write tensor %q: %w", name, err)
	}
	g.next++
	return nil
}

// Close checks that all declared tensors were written. It does not close the
// underlying writer.
func (g *Writer) Close() error {
	switch {
	case g.err != nil:
	case g.infos == nil:
		g.err = errors.New("close GGUF file: the header was never written")
	case g.next < len(g.infos):
		g.err = fmt.Errorf("close GGUF file: tensor %q and %d more were not written", g.infos[g.next].Name, len(g.infos)-g.next-1)
	}
	return g.err
}

func appendString(b []byte, s string) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(len(s)))
	return append(b, s...)
}

// appendValue encodes a value with its type in front.
func appendValue(b []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case []string:
		return appendArray(b, String, v)
	case []bool:
		return appendArray(b, Bool, v)
	case []uint8:
		return appendArray(b, Uint8, v)
	case []int8:
		return appendArray(b, Int8, v)
	case []uint16:
		return appendArray(b, Uint16, v)
	case []int16:
		return appendArray(b, Int16, v)
	case []uint32:
		return appendArray(b, Uint32, v)
	case []int32:
		return appendArray(b, Int32, v)
	case []uint64:
		return appendArray(b, Uint64, v)
	case []int64:
		return appendArray(b, Int64, v)
	case []float32:
		return appendArray(b, Float32, v)
	case []float64:
		return appendArray(b, Float64, v)
	}
	t, ok := scalarType(value)
	if !ok {
		return nil, fmt.Errorf("a %T is none of the format's types", value)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(t))
	return appendScalar(b, value), nil
}

func appendArray[T any](b []byte, elem ValueType, items []T) ([]byte, error) {
	if len(items) == 0 {
		return nil, errors.New("an empty array, which readers refuse")
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(Array))
	b = binary.LittleEndian.AppendUint32(b, uint32(elem))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(items)))
	for _, v := range items {
		b = appendScalar(b, v)
	}
	return b, nil
}

func scalarType(value any) (ValueType, bool) {
	switch value.(type) {
	case uint8:
		return Uint8, true
	case int8:
		return Int8, true
	case uint16:
		return Uint16, true
	case int16:
		return Int16, true
	case uint32:
		return Uint32, true
	case int32:
		return Int32, true
	case float32:
		return Float32, true
	case bool:
		return Bool, true
	case string:
		return String, true
	case uint64:
		return Uint64, true
	case int64:
		return Int64, true
	case float64:
		return Float64, true
	}
	return 0, false
}

// appendScalar encodes a value of a type that scalarType knows.
func appendScalar(b []byte, value any) []byte {
	le := binary.LittleEndian
	switch v := value.(type) {
	case uint8:
		return append(b, v)
	case int8:
		return append(b, uint8(v))
	case bool:
		if v {
			return append(b, 1)
		}
		return append(b, 0)
	case uint16:
		return le.AppendUint16(b, v)
	case int16:
		return le.AppendUint16(b, uint16(v))
	case uint32:
		return le.AppendUint32(b, v)
	case int32:
		return le.AppendUint32(b, uint32(v))
	case float32:
		return le.AppendUint32(b, math.Float32bits(v))
	case uint64:
		return le.AppendUint64(b, v)
	case int64:
		return le.AppendUint64(b, uint64(v))
	case float64:
		return le.AppendUint64(b, math.Float64bits(v))
	case string:
		return appendString(b, v)
	}
	return b
}
