package onnx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// File is an open model.onnx with the data files beside it. Its methods may be
// called concurrently, except Close.
type File struct {
	Path  string
	Size  int64 // bytes of model.onnx itself
	Model *Model

	mu   sync.Mutex
	data map[string]*dataFile // by location
}

// dataFile is an external data file, opened when a tensor in it is read.
type dataFile struct {
	path string
	size int64
	f    *os.File
}

// Open reads model.onnx and checks that every external initializer lies inside
// a regular file of the same folder. Tensor elements are read when asked for.
func Open(path string) (*File, error) {
	b, err := readModel(path)
	if err != nil {
		return nil, err
	}
	m, err := Decode(b)
	if err != nil {
		return nil, withPath(err, path)
	}
	f := &File{Path: path, Size: int64(len(b)), Model: m, data: map[string]*dataFile{}}
	if err := f.checkExternal(m.Graph); err != nil {
		return nil, withPath(err, path)
	}
	return f, nil
}

// withPath adds the path to a FormatError that does not know it yet.
func withPath(err error, path string) error {
	var fe *tensor.FormatError
	if errors.As(err, &fe) && fe.Path == "" {
		fe.Path = path
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}

func readModel(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open ONNX model: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open ONNX model: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("open ONNX model %s: not a regular file; name the model.onnx inside a folder", path)
	}
	if st.Size() > MaxModelBytes {
		return nil, &tensor.FormatError{Path: path, Offset: -1, Field: "model", Err: fmt.Errorf("%d bytes, more than the 2 GB a protobuf message can have", st.Size())}
	}
	b := make([]byte, st.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("read ONNX model %s: %w", path, err)
	}
	return b, nil
}

// CheckLocation reports whether the location of external data stays inside the
// model's folder on every operating system: a relative path with forward
// slashes, without "..", drive letters or backslashes.
func CheckLocation(location string) error {
	switch {
	case location == "":
		return errors.New("external data without a location")
	case strings.ContainsAny(location, "\\:\x00"):
		return fmt.Errorf("external data location %q holds a backslash, colon or NUL", location)
	case !fs.ValidPath(location) && !fs.ValidPath(strings.TrimPrefix(location, "./")):
		return fmt.Errorf("external data location %q leaves the model's folder or is no plain relative path", location)
	case location == "." || location == "./.":
		return fmt.Errorf("external data location %q is no file", location)
	}
	return nil
}

// checkExternal checks location and range of every external initializer of a
// graph and its subgraphs.
func (f *File) checkExternal(g *Graph) error {
	check := func(t *Initializer) error {
		if t == nil || t.External == nil {
			return nil
		}
		if err := f.checkRange(t); err != nil {
			return &tensor.FormatError{Offset: -1, Field: fmt.Sprintf("initializer %q", t.Name), Err: err}
		}
		return nil
	}
	for _, t := range g.Initializers {
		if err := check(t); err != nil {
			return err
		}
	}
	for _, n := range g.Nodes {
		for _, a := range n.Attrs {
			if err := check(a.Tensor); err != nil {
				return err
			}
			if a.Graph != nil {
				if err := f.checkExternal(a.Graph); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (f *File) checkRange(t *Initializer) error {
	if err := CheckLocation(t.External.Location); err != nil {
		return err
	}
	d := f.data[t.External.Location]
	if d == nil {
		d = &dataFile{path: filepath.Join(filepath.Dir(f.Path), filepath.FromSlash(t.External.Location))}
		st, err := os.Stat(d.path)
		if err != nil {
			return fmt.Errorf("external data: %w", err)
		}
		if !st.Mode().IsRegular() {
			return fmt.Errorf("external data %s is not a regular file", d.path)
		}
		d.size = st.Size()
		f.data[t.External.Location] = d
	}
	n, ok := t.Bytes()
	if !ok || t.External.Offset < 0 || t.External.Offset > d.size || n > d.size-t.External.Offset {
		return fmt.Errorf("external data at %d, %d bytes, ends beyond %s, which has %d bytes; is the file complete?", t.External.Offset, n, d.path, d.size)
	}
	return nil
}

// Initializer finds an initializer of the main graph.
func (f *File) Initializer(name string) (*Initializer, error) {
	for _, t := range f.Model.Graph.Initializers {
		if t.Name == name {
			return t, nil
		}
	}
	return nil, fmt.Errorf("%s: the model has no initializer %q", f.Path, name)
}

// Section returns the stored bytes of an initializer of this file.
func (f *File) Section(t *Initializer) (*io.SectionReader, error) {
	n, ok := t.Bytes()
	if !ok {
		return nil, fmt.Errorf("%s: initializer %q of type %v has no plain bytes", f.Path, t.Name, t.Elem)
	}
	if t.External == nil {
		return io.NewSectionReader(bytes.NewReader(t.Data), 0, n), nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.data[t.External.Location]
	if d == nil {
		return nil, fmt.Errorf("%s: initializer %q lies in %q, which was not there when the model was opened", f.Path, t.Name, t.External.Location)
	}
	if d.f == nil {
		file, err := os.Open(d.path)
		if err != nil {
			return nil, fmt.Errorf("open external data of %s: %w", f.Path, err)
		}
		d.f = file
	}
	return io.NewSectionReader(d.f, t.External.Offset, n), nil
}

// Tensor opens an initializer of the main graph whose elements are of a plain
// type; packed and 8-bit float types are read through [File.Section].
func (f *File) Tensor(name string) (*tensor.Tensor, error) {
	t, err := f.Initializer(name)
	if err != nil {
		return nil, err
	}
	if t.Elem.DType() == tensor.Invalid {
		return nil, &tensor.UnsupportedError{What: fmt.Sprintf("reading elements of initializer %q of type %v in %s", name, t.Elem, f.Path)}
	}
	r, err := f.Section(t)
	if err != nil {
		return nil, err
	}
	shape := make(tensor.Shape, len(t.Dims))
	for i, d := range t.Dims {
		shape[i] = int(d)
	}
	return &tensor.Tensor{
		Name: name, Shape: shape, Type: t.Elem.DType().String(), Bytes: r.Size(),
		Reader: tensor.Raw{R: r, DType: t.Elem.DType()},
	}, nil
}

// DataBytes is the size of all external data files that initializers use.
func (f *File) DataBytes() int64 {
	var n int64
	for _, d := range f.data {
		n += d.size
	}
	return n
}

// Close closes the data files. Readers made before are useless afterwards.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var first error
	for _, d := range f.data {
		if d.f == nil {
			continue
		}
		if err := d.f.Close(); err != nil && first == nil {
			first = fmt.Errorf("close external data %s: %w", d.path, err)
		}
		d.f = nil
	}
	return first
}
