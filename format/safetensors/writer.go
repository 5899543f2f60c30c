package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Decl declares a tensor that will be written.
type Decl struct {
	Name string
	// Type is the header's spelling, such as "BF16".
	Type  string
	Shape tensor.Shape
}

// Layout is the header of a file with the given tensors, length field included,
// and where each tensor's data goes. Data follows in the order declared; the
// header is padded with spaces so that data starts at a multiple of 8, as the
// reference writer does. It writes nothing: a plan can be made from it, and
// tensors may be written at their offsets in any order.
func Layout(decls []Decl, metadata map[string]string) (header []byte, infos []Info, err error) {
	var b bytes.Buffer
	b.Write(make([]byte, lengthBytes))
	b.WriteByte('{')
	if len(metadata) > 0 {
		if err := writeMember(&b, metadataKey, metadata); err != nil {
			return nil, nil, err
		}
	}
	seen := map[string]bool{metadataKey: true}
	var end int64
	for _, d := range decls {
		if seen[d.Name] {
			return nil, nil, fmt.Errorf("lay out safetensors file: tensor %q is declared twice", d.Name)
		}
		seen[d.Name] = true
		n, err := dataBytes(d.Type, d.Shape)
		if err == nil && n > math.MaxInt64/2-end {
			err = errors.New("the file would be too large")
		}
		if err != nil {
			return nil, nil, fmt.Errorf("lay out safetensors file: tensor %q: %w", d.Name, err)
		}
		infos = append(infos, Info{Name: d.Name, Type: d.Type, Shape: d.Shape, Offset: end, Bytes: n})
		shape := d.Shape
		if shape == nil {
			shape = tensor.Shape{}
		}
		err = writeMember(&b, d.Name, struct {
			Type    string       `json:"dtype"`
			Shape   tensor.Shape `json:"shape"`
			Offsets [2]int64     `json:"data_offsets"`
		}{d.Type, shape, [2]int64{end, end + n}})
		if err != nil {
			return nil, nil, err
		}
		end += n
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	header = b.Bytes()
	if len(header)-lengthBytes > maxHeaderBytes {
		return nil, nil, fmt.Errorf("lay out safetensors file: a header of %d bytes is above the format's limit of %d", len(header), maxHeaderBytes)
	}
	binary.LittleEndian.PutUint64(header, uint64(len(header)-lengthBytes))
	for i := range infos {
		infos[i].Offset += int64(len(header))
	}
	return header, infos, nil
}

// writeMember adds "name":value to the object in b.
func writeMember(b *bytes.Buffer, name string, value any) error {
	if b.Len() > lengthBytes+1 {
		b.WriteByte(',')
	}
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	for i, v := range []any{name, value} {
		if i > 0 {
			b.WriteByte(':')
		}
		if err := e.Encode(v); err != nil {
			return fmt.Errorf("encode safetensors header: %w", err)
		}
		b.Truncate(b.Len() - 1) // Encode ends with a newline
	}
	return nil
}

// Writer writes one file front to back: declare all tensors, write the header,
// then the tensors in the order declared, then close. The first error sticks.
type Writer struct {
	w        io.Writer
	metadata map[string]string
	decls    []Decl
	infos    []Info // set by WriteHeader
	next     int    // index of the tensor to come
	err      error
}

// NewWriter returns a writer of a file with the given __metadata__, which may
// be nil.
func NewWriter(w io.Writer, metadata map[string]string) *Writer {
	return &Writer{w: w, metadata: metadata}
}

// Declare adds a tensor. It has no effect after [Writer.WriteHeader].
func (w *Writer) Declare(d Decl) { w.decls = append(w.decls, d) }

// WriteHeader lays the file out and writes its header.
func (w *Writer) WriteHeader() error {
	if w.err == nil && w.infos != nil {
		w.err = errors.New("safetensors header written twice")
	}
	if w.err != nil {
		return w.err
	}
	header, infos, err := Layout(w.decls, w.metadata)
	if err == nil {
		if _, err = w.w.Write(header); err != nil {
			err = fmt.Errorf("write safetensors header: %w", err)
		}
	}
	w.infos, w.err = append([]Info{}, infos...), err
	return err
}

// WriteTensor writes the data of the next declared tensor, which must be the
// named one. data must write exactly the declared number of bytes; see
// [tensor.Stream] for floats.
func (w *Writer) WriteTensor(name string, data io.WriterTo) error {
	if w.err != nil {
		return w.err
	}
	w.err = w.writeTensor(name, data)
	return w.err
}

func (w *Writer) writeTensor(name string, data io.WriterTo) error {
	switch {
	case w.infos == nil:
		return fmt.Errorf("write tensor %q: the header is not written yet", name)
	case w.next == len(w.infos):
		return fmt.Errorf("write tensor %q: all declared tensors are written", name)
	case w.infos[w.next].Name != name:
		return fmt.Errorf("write tensor %q: tensor %q is next", name, w.infos[w.next].Name)
	}
	want := w.infos[w.next].Bytes
	n, err := data.WriteTo(w.w)
	if err != nil {
		return fmt.Errorf("write tensor %q: %w", name, err)
	}
	if n != want {
		return fmt.Errorf("write tensor %q: %d bytes came, %d were declared", name, n, want)
	}
	w.next++
	return nil
}

// Close checks that all declared tensors were written. It does not close the
// underlying writer.
func (w *Writer) Close() error {
	switch {
	case w.err != nil:
		return w.err
	case w.infos == nil:
		w.err = errors.New("close safetensors file: the header was never written")
	case w.next < len(w.infos):
		w.err = fmt.Errorf("close safetensors file: tensor %q and %d more were not written", w.infos[w.next].Name, len(w.infos)-w.next-1)
	}
	return w.err
}
