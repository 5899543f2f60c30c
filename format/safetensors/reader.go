package safetensors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Reader is one open safetensors file.
type Reader struct {
	path     string
	r        io.ReaderAt
	closer   io.Closer
	metadata map[string]string
	infos    []Info
	byName   map[string]int
}

// Open opens the file at path and reads its header.
func Open(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open safetensors file: %w", err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open safetensors file %s: %w", path, err)
	}
	r, err := newReader(f, st.Size(), path)
	if err != nil {
		f.Close()
		return nil, err
	}
	r.closer = f
	return r, nil
}

// NewReader reads the header of a file of size bytes. It allocates no more
// than a small multiple of the header's true length.
func NewReader(r io.ReaderAt, size int64) (*Reader, error) { return newReader(r, size, "") }

func newReader(r io.ReaderAt, size int64, path string) (*Reader, error) {
	h, err := readHeader(r, size)
	if err != nil {
		var fe *tensor.FormatError
		if errors.As(err, &fe) {
			fe.Path = path
		} else if path != "" {
			err = fmt.Errorf("%s: %w", path, err)
		}
		return nil, fmt.Errorf("read safetensors header: %w", err)
	}
	out := &Reader{path: path, r: r, metadata: h.metadata, infos: h.infos, byName: make(map[string]int, len(h.infos))}
	for i, t := range h.infos {
		out.byName[t.Name] = i
	}
	return out, nil
}

func readHeader(r io.ReaderAt, size int64) (*header, error) {
	if size < lengthBytes {
		return nil, formatErr(0, "header length", fmt.Errorf("the file has %d bytes, want at least 8", size))
	}
	var lb [lengthBytes]byte
	if got, err := r.ReadAt(lb[:], 0); got < len(lb) {
		return nil, fmt.Errorf("read the header length: %w", err)
	}
	if string(lb[:]) == "version " { // https://git-lfs.github.com/spec/v1
		return nil, formatErr(0, "", errors.New("this is a Git LFS pointer, not the file it stands for: run git lfs pull, or download the file"))
	}
	n := binary.LittleEndian.Uint64(lb[:])
	if n > maxHeaderBytes {
		return nil, formatErr(0, "header length", fmt.Errorf("%d bytes, more than the format's limit of %d; is this a safetensors file?", n, maxHeaderBytes))
	}
	if int64(n) > size-lengthBytes {
		return nil, formatErr(0, "header length", fmt.Errorf("%d bytes, but the file has only %d after it: the file is truncated; download it again", n, size-lengthBytes))
	}
	b := make([]byte, n)
	if got, err := r.ReadAt(b, lengthBytes); got < len(b) {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	return parseHeader(b, size-lengthBytes-int64(n))
}

// Path is the file's path, empty for [NewReader].
func (r *Reader) Path() string { return r.path }

// Metadata is the header's __metadata__; nil where there is none.
func (r *Reader) Metadata() map[string]string { return r.metadata }

// Infos lists the tensors in the order of their data. Callers must not change
// it.
func (r *Reader) Infos() []Info { return r.infos }

// Tensor returns the named tensor, its elements unread.
func (r *Reader) Tensor(name string) (*tensor.Tensor, bool) {
	i, ok := r.byName[name]
	if !ok {
		return nil, false
	}
	return r.open(i), true
}

// Tensors returns all tensors in the order of their data.
func (r *Reader) Tensors() []*tensor.Tensor {
	out := make([]*tensor.Tensor, len(r.infos))
	for i := range out {
		out[i] = r.open(i)
	}
	return out
}

func (r *Reader) open(i int) *tensor.Tensor {
	t := r.infos[i]
	d, _ := tensor.ParseDType(t.Type)
	return &tensor.Tensor{Name: t.Name, Shape: t.Shape, Type: t.Type, Bytes: t.Bytes, Reader: &elements{
		Raw: tensor.Raw{R: r.r, Offset: t.Offset, DType: d}, info: t, path: r.path,
	}}
}

// Section returns the stored bytes of the named tensor.
func (r *Reader) Section(name string) (*io.SectionReader, bool) {
	i, ok := r.byName[name]
	if !ok {
		return nil, false
	}
	return io.NewSectionReader(r.r, r.infos[i].Offset, r.infos[i].Bytes), true
}

// Close closes the file that [Open] opened.
func (r *Reader) Close() error {
	if r.closer == nil {
		return nil
	}
	return r.closer.Close()
}

// elements adds to tensor.Raw the bounds of one tensor and the words of its
// errors.
type elements struct {
	tensor.Raw
	info Info
	path string
}

// ReadFloat32 implements [tensor.Reader].
func (e *elements) ReadFloat32(dst []float32, offset int64) error {
	if e.DType == tensor.Invalid {
		return &tensor.UnsupportedError{What: fmt.Sprintf("tensor %q of element type %s in %s", e.info.Name, e.info.Type, e.path), Hint: "convert the 16-bit or 32-bit checkpoint instead"}
	}
	if n := e.info.Bytes / int64(e.DType.Size()); offset < 0 || int64(len(dst)) > n || offset > n-int64(len(dst)) {
		return fmt.Errorf("read tensor %q from %s: elements %d to %d of %d asked for", e.info.Name, e.path, offset, offset+int64(len(dst)), n)
	}
	if err := e.Raw.ReadFloat32(dst, offset); err != nil {
		return fmt.Errorf("read tensor %q from %s: %w", e.info.Name, e.path, err)
	}
	return nil
}
