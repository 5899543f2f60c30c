package gguf

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

const (
	magic            = "GGUF"
	version          = 3
	defaultAlignment = 32
	maxAlignment     = 1 << 20
	alignmentKey     = "general.alignment"
	// maxDims is ggml's GGML_MAX_DIMS.
	maxDims = 4
	// The least bytes of a key with its value, and of a tensor info.
	minKeyBytes, minInfoBytes = 8 + 4 + 1, 8 + 4 + 4 + 8
)

// Info is a tensor's entry in the header.
type Info struct {
	Name string
	Type ggml.Type
	// Shape is outermost first, as Hugging Face writes it; the file has it
	// the other way round.
	Shape tensor.Shape
	// Offset is where the data starts, in bytes from the start of the file.
	Offset int64
	Bytes  int64
}

// Reader is one open GGUF file.
type Reader struct {
	path      string
	r         io.ReaderAt
	closer    io.Closer
	version   uint32
	alignment int64
	dataStart int64

	values []Value // in file order
	keys   map[string]int
	infos  []Info // in file order
	names  map[string]int
}

// Open opens the file at path and walks its header.
func Open(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open GGUF file: %w", err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open GGUF file %s: %w", path, err)
	}
	r, err := newReader(f, st.Size(), path)
	if err != nil {
		f.Close()
		return nil, err
	}
	r.closer = f
	return r, nil
}

// NewReader walks the header of a file of size bytes.
func NewReader(r io.ReaderAt, size int64) (*Reader, error) { return newReader(r, size, "") }

func newReader(r io.ReaderAt, size int64, path string) (*Reader, error) {
	g := &Reader{path: path, r: r, keys: map[string]int{}, names: map[string]int{}}
	c := newCursor(r, size)
	err := g.header(c)
	if err == nil {
		err = g.place(size)
	}
	if err != nil {
		var fe *tensor.FormatError
		if errors.As(err, &fe) {
			fe.Path = path
		} else if path != "" {
			err = fmt.Errorf("%s: %w", path, err)
		}
		return nil, fmt.Errorf("read GGUF header: %w", err)
	}
	return g, nil
}

// header reads all up to the tensor data.
func (g *Reader) header(c *cursor) error {
	c.field = "magic"
	var m [4]byte
	c.read(m[:])
	if c.err == nil && string(m[:]) != magic {
		c.off = 0
		if string(m[:]) == "vers" { // https://git-lfs.github.com/spec/v1
			c.fail("this is a Git LFS pointer, not the file it stands for: run git lfs pull, or download the file")
		}
		c.fail("%q, want %q: not a GGUF file", m[:], magic)
	}
	c.field = "version"
	g.version = c.u32()
	if c.err != nil {
		return c.err
	}
	switch v := g.version; {
	case v == 1:
		return &tensor.UnsupportedError{What: "GGUF version 1", Hint: "convert the model again with a newer llama.cpp"}
	case v != 0 && v&0xffff == 0:
		return &tensor.UnsupportedError{What: "big-endian GGUF file", Hint: "use the little-endian file"}
	case v != 2 && v != 3:
		return &tensor.UnsupportedError{What: fmt.Sprintf("GGUF version %d", v), Hint: "read are versions 2 and 3"}
	}
	c.field = "tensor count"
	tensors := c.count(minInfoBytes)
	c.field = "key count"
	keys := c.count(minKeyBytes)
	for range keys {
		if g.readKey(c); c.err != nil {
			return c.err
		}
	}
	if err := g.readAlignment(); err != nil {
		return err
	}
	for range tensors {
		if err := g.readInfo(c); err != nil {
			return err
		}
	}
	g.dataStart = alignUp(c.off, g.alignment)
	return c.err
}

func (g *Reader) readKey(c *cursor) {
	c.field = fmt.Sprintf("key %d", len(g.values))
	v := Value{Key: c.name(), r: g}
	c.field = fmt.Sprintf("key %.100q", v.Key)
	if _, twice := g.keys[v.Key]; twice && c.err == nil {
		c.fail("is there twice")
	}
	v.Type = ValueType(c.u32())
	if c.err == nil {
		c.value(&v)
	}
	g.keys[v.Key] = len(g.values)
	g.values = append(g.values, v)
}

func (g *Reader) readAlignment() error {
	g.alignment = defaultAlignment
	v, ok := g.Value(alignmentKey)
	if !ok {
		return nil
	}
	n, err := v.Int()
	if err != nil {
		return err
	}
	if n <= 0 || n > maxAlignment || n&(n-1) != 0 {
		return &tensor.FormatError{Offset: v.offset, Field: "key " + alignmentKey, Err: fmt.Errorf("%d is not a power of two up to %d", n, maxAlignment)}
	}
	g.alignment = n
	return nil
}

// readInfo reads a tensor info; its offset still counts from the data's start.
func (g *Reader) readInfo(c *cursor) error {
	c.field = fmt.Sprintf("tensor %d", len(g.infos))
	t := Info{Name: c.name()}
	c.field = fmt.Sprintf("tensor %.100q", t.Name)
	if _, twice := g.names[t.Name]; twice {
		c.fail("is there twice")
	}
	dims := c.u32()
	if dims > maxDims {
		c.fail("has %d dimensions, more than %d", dims, maxDims)
	}
	if c.err != nil {
		return c.err
	}
	t.Shape = make(tensor.Shape, dims)
	for i := range t.Shape {
		d := c.u64()
		if d > math.MaxInt64 {
			c.fail("dimension %d is %d", i, d)
		}
		t.Shape[int(dims)-1-i] = int(d)
	}
	t.Type = ggml.Type(c.u32())
	off := c.u64()
	if off > math.MaxInt64 || off%uint64(g.alignment) != 0 {
		c.fail("data offset %d is not a multiple of the alignment %d", off, g.alignment)
	}
	t.Offset = int64(off)
	if c.err != nil {
		return c.err
	}
	if err := t.measure(); err != nil {
		c.fail("%w", err)
		if !t.Type.Known() {
			return &tensor.UnsupportedError{What: fmt.Sprintf("tensor %.100q of ggml type %d", t.Name, uint32(t.Type)), Hint: "the file may be newer than this release"}
		}
		return c.err
	}
	g.names[t.Name] = len(g.infos)
	g.infos = append(g.infos, t)
	return nil
}

// measure fills Bytes from type and shape.
func (t *Info) measure() error {
	n, ok := t.Shape.Elements()
	row := 1
	if len(t.Shape) > 0 {
		row = t.Shape[len(t.Shape)-1]
	}
	switch {
	case !t.Type.Known():
		return fmt.Errorf("ggml type %d is not known", uint32(t.Type))
	case !ok || n > math.MaxInt64/int64(t.Type.Bytes()):
		return fmt.Errorf("shape %v has more elements than 64 bits can count", t.Shape)
	case row%t.Type.Block() != 0:
		return fmt.Errorf("rows of %d elements are not whole blocks of %v (%d elements)", row, t.Type, t.Type.Block())
	}
	t.Bytes = t.Type.RowBytes(n)
	return nil
}

// place checks that the tensors lie inside the file without overlap and makes
// their offsets count from the file's start.
func (g *Reader) place(size int64) error {
	order := make([]int, len(g.infos))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := &g.infos[a], &g.infos[b]
		return int(min(max(x.Offset-y.Offset, -1), 1))
	})
	data := max(size-g.dataStart, 0)
	var end int64
	last := ""
	for _, i := range order {
		t := &g.infos[i]
		field := fmt.Sprintf("tensor %.100q", t.Name)
		if t.Bytes > data || t.Offset > data-t.Bytes {
			return &tensor.FormatError{Offset: -1, Field: field, Err: fmt.Errorf("its %d bytes at data offset %d reach beyond the end of the file, which holds %d bytes of data: the file is truncated; download it again", t.Bytes, t.Offset, data)}
		}
		if t.Offset < end {
			return &tensor.FormatError{Offset: g.dataStart + t.Offset, Field: field, Err: fmt.Errorf("overlaps tensor %.100q", last)}
		}
		if t.Bytes > 0 {
			end, last = t.Offset+t.Bytes, t.Name
		}
		t.Offset += g.dataStart
	}
	return nil
}

func alignUp(n, alignment int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }

// Path is the file's path, empty for [NewReader].
func (g *Reader) Path() string { return g.path }

// Version is the file's version, 2 or 3.
func (g *Reader) Version() int { return int(g.version) }

// Alignment of tensor data in bytes.
func (g *Reader) Alignment() int64 { return g.alignment }

// Values lists all keys in file order. Callers must not change it.
func (g *Reader) Values() []Value { return g.values }

// Value returns the value of a key.
func (g *Reader) Value(key string) (Value, bool) {
	i, ok := g.keys[key]
	if !ok {
		return Value{}, false
	}
	return g.values[i], true
}

// Infos lists the tensors in file order. Callers must not change it.
func (g *Reader) Infos() []Info { return g.infos }

// Tensor returns the named tensor, its elements unread.
func (g *Reader) Tensor(name string) (*tensor.Tensor, bool) {
	i, ok := g.names[name]
	if !ok {
		return nil, false
	}
	return g.open(i), true
}

// Tensors returns all tensors in file order.
func (g *Reader) Tensors() []*tensor.Tensor {
	out := make([]*tensor.Tensor, len(g.infos))
	for i := range out {
		out[i] = g.open(i)
	}
	return out
}

// Section returns the stored bytes of the named tensor.
func (g *Reader) Section(name string) (*io.SectionReader, bool) {
	i, ok := g.names[name]
	if !ok {
		return nil, false
	}
	return io.NewSectionReader(g.r, g.infos[i].Offset, g.infos[i].Bytes), true
}

// Close closes the file that [Open] opened.
func (g *Reader) Close() error {
	if g.closer == nil {
		return nil
	}
	return g.closer.Close()
}

func (g *Reader) open(i int) *tensor.Tensor {
	t := g.infos[i]
	n, _ := t.Shape.Elements()
	return &tensor.Tensor{Name: t.Name, Shape: t.Shape, Type: t.Type.String(), Bytes: t.Bytes, Reader: &elements{
		Reader: ggml.Reader{R: g.r, Offset: t.Offset, Type: t.Type, Elements: n}, name: t.Name, path: g.path,
	}}
}

// elements adds the tensor's name and file to errors.
type elements struct {
	ggml.Reader
	name, path string
}

// ReadFloat32 implements [tensor.Reader].
func (e *elements) ReadFloat32(dst []float32, offset int64) error {
	if err := e.Reader.ReadFloat32(dst, offset); err != nil {
		return fmt.Errorf("read tensor %q from %s: %w", e.name, e.path, err)
	}
	return nil
}
