package togguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Imatrix is an importance matrix: for matrices by their GGUF names, how much
// each input channel matters.
type Imatrix struct {
	// File is where it was read from, for the record.
	File string
	// Datasets names the texts it was made from.
	Datasets []string
	// Chunks of ChunkSize tokens were seen.
	Chunks, ChunkSize int
	Entries           map[string]Entry
}

// Entry is one matrix' input: sums of x² over Count tokens, [columns].
type Entry struct {
	Sums  []float32
	Count float32
}

// The keys and suffixes of the GGUF form (common/imatrix-loader.h).
const (
	imatrixDatasets  = "imatrix.datasets"
	imatrixChunks    = "imatrix.chunk_count"
	imatrixChunkSize = "imatrix.chunk_size"
	sumsSuffix       = ".in_sum2"
	countsSuffix     = ".counts"
)

// maxImatrixBytes bounds the older form, which is read whole. That of a model
// of 70 billion weights has 50 MB.
const maxImatrixBytes = 1 << 30

// of is the mean square of each column of a matrix' input, nil where the matrix
// has none.
func (m *Imatrix) of(name string) []float32 {
	if m == nil {
		return nil
	}
	e, ok := m.Entries[name]
	if !ok {
		return nil
	}
	mean := make([]float32, len(e.Sums))
	for i, s := range e.Sums {
		mean[i] = 1
		if e.Count > 0 {
			mean[i] = s / e.Count
		}
	}
	return mean
}

// check refuses a matrix that was made from another model: the widths differ,
// or nothing fits.
func (m *Imatrix) check(spec *arch.Spec) error {
	if m == nil {
		return nil
	}
	fit := 0
	for _, w := range spec.Weights() {
		name, err := TensorName(w)
		if err != nil || !w.Role.IsMatrix() {
			continue
		}
		e, ok := m.Entries[name]
		if ok && len(e.Sums) != w.Shape[1] {
			return &tensor.FormatError{Path: m.File, Offset: -1, Field: name, Err: fmt.Errorf("the importance matrix has %d columns, the model %d: it was made from another model", len(e.Sums), w.Shape[1])}
		}
		if ok {
			fit++
		}
	}
	if fit == 0 {
		return &tensor.FormatError{Path: m.File, Offset: -1, Field: "importance matrix", Err: errors.New("names no matrix of the model")}
	}
	return nil
}

// NewImatrix makes an importance matrix of a model's statistics: that of every
// matrix in the layers. llama.cpp's own tool leaves out the head, too.
func NewImatrix(spec *arch.Spec, s *calibrate.Stats, chunkSize int) (*Imatrix, error) {
	if s.Tokens < 1 {
		return nil, errors.New("make an importance matrix: the statistics have seen no tokens")
	}
	m := &Imatrix{Datasets: []string{s.Source}, Chunks: max(1, s.Tokens/chunkSize), ChunkSize: chunkSize, Entries: map[string]Entry{}}
	for _, w := range spec.Weights() {
		mean := s.Importance(w.Role, w.Layer)
		if w.Layer < 0 || !w.Role.IsMatrix() || mean == nil {
			continue
		}
		name, err := TensorName(w)
		if err != nil {
			return nil, err
		}
		e := Entry{Sums: make([]float32, len(mean)), Count: float32(s.Tokens)}
		for i, v := range mean {
			e.Sums[i] = v * e.Count
		}
		m.Entries[name] = e
	}
	return m, nil
}

// WriteTo writes the GGUF form.
func (m *Imatrix) WriteTo(w io.Writer) (int64, error) {
	n := &counter{w: w}
	g := gguf.NewWriter(n, gguf.WriterOptions{})
	g.Set("general.type", "imatrix")
	if len(m.Datasets) > 0 {
		g.Set(imatrixDatasets, m.Datasets)
	} else {
		g.Set(imatrixDatasets, []string{""}) // llama-quantize wants the key
	}
	g.Set(imatrixChunks, uint32(m.Chunks))
	g.Set(imatrixChunkSize, uint32(m.ChunkSize))
	order := slices.Sorted(maps.Keys(m.Entries))
	for _, name := range order {
		g.Declare(gguf.Decl{Name: name + sumsSuffix, Type: ggml.F32, Shape: tensor.Shape{1, len(m.Entries[name].Sums)}})
		g.Declare(gguf.Decl{Name: name + countsSuffix, Type: ggml.F32, Shape: tensor.Shape{1, 1}})
	}
	if err := g.WriteHeader(); err != nil {
		return n.n, fmt.Errorf("write importance matrix: %w", err)
	}
	for _, name := range order {
		e := m.Entries[name]
		for _, part := range []struct {
			suffix string
			data   []float32
		}{{sumsSuffix, e.Sums}, {countsSuffix, []float32{e.Count}}} {
			b := make([]byte, 4*len(part.data))
			tensor.EncodeF32(b, part.data)
			if err := g.WriteTensor(name+part.suffix, bytes.NewReader(b)); err != nil {
				return n.n, fmt.Errorf("write importance matrix: %w", err)
			}
		}
	}
	if err := g.Close(); err != nil {
		return n.n, fmt.Errorf("write importance matrix: %w", err)
	}
	return n.n, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// OpenImatrix reads an importance matrix in either form.
func OpenImatrix(path string) (*Imatrix, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read importance matrix: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read importance matrix: %w", err)
	}
	m, err := ReadImatrix(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("read importance matrix %s: %w", path, err)
	}
	m.File = path
	return m, nil
}

// ReadImatrix is [OpenImatrix] for a file of size bytes that is open.
func ReadImatrix(r io.ReaderAt, size int64) (*Imatrix, error) {
	var magic [4]byte
	if _, err := r.ReadAt(magic[:], 0); err != nil {
		return nil, &tensor.FormatError{Offset: 0, Err: errors.New("too short")}
	}
	var m *Imatrix
	var err error
	if string(magic[:]) == "GGUF" {
		m, err = readImatrixGGUF(r, size)
	} else {
		m, err = readImatrixDat(r, size)
	}
	if err != nil {
		return nil, err
	}
	return m, m.checkValues()
}

func readImatrixGGUF(r io.ReaderAt, size int64) (*Imatrix, error) {
	g, err := gguf.NewReader(r, size)
	if err != nil {
		return nil, err
	}
	m := &Imatrix{Entries: map[string]Entry{}}
	for _, k := range []string{imatrixDatasets, imatrixChunks, imatrixChunkSize} {
		v, ok := g.Value(k)
		if !ok {
			return nil, &tensor.FormatError{Offset: -1, Field: "key " + k, Err: errors.New("is missing: the file is no importance matrix")}
		}
		var n int64
		switch k {
		case imatrixDatasets:
			m.Datasets, err = v.Strings()
		case imatrixChunks:
			n, err = v.Int()
			m.Chunks = int(min(n, math.MaxInt32))
		default:
			n, err = v.Int()
			m.ChunkSize = int(min(n, math.MaxInt32))
		}
		if err != nil {
			return nil, err
		}
	}
	for _, t := range g.Tensors() {
		name, ok := strings.CutSuffix(t.Name, sumsSuffix)
		if !ok {
			if name, ok = strings.CutSuffix(t.Name, countsSuffix); !ok {
				return nil, &tensor.FormatError{Offset: -1, Field: fmt.Sprintf("tensor %.100q", t.Name), Err: errors.New("has no place in an importance matrix")}
			}
			if _, ok := g.Tensor(name + sumsSuffix); !ok {
				return nil, &tensor.FormatError{Offset: -1, Field: fmt.Sprintf("tensor %.100q", t.Name), Err: errors.New("counts sums that are missing")}
			}
			continue
		}
		counts, ok := g.Tensor(name + countsSuffix)
		switch {
		case !ok:
			return nil, &tensor.FormatError{Offset: -1, Field: fmt.Sprintf("tensor %.100q", t.Name), Err: errors.New("has no counts")}
		case t.Type != "F32" || counts.Type != "F32":
			return nil, &tensor.FormatError{Offset: -1, Field: fmt.Sprintf("tensor %.100q", t.Name), Err: errors.New("sums and counts must be F32")}
		case counts.Elements() != 1:
			return nil, &tensor.UnsupportedError{What: fmt.Sprintf("importance matrix of experts (tensor %.100q)", t.Name)}
		}
		e := Entry{Sums: make([]float32, t.Elements())}
		var n [1]float32
		if err := errors.Join(t.ReadFloat32(e.Sums, 0), counts.ReadFloat32(n[:], 0)); err != nil {
			return nil, err
		}
		e.Count = float32(math.Round(float64(n[0])))
		m.Entries[name] = e
	}
	return m, nil
}

// readImatrixDat reads the form before GGUF (common/imatrix-loader.cpp,
// common_imatrix_load_legacy): a count of entries, each a name, how many calls it
// sums up and the sums; then the number of chunks and the name of the text.
func readImatrixDat(r io.ReaderAt, size int64) (*Imatrix, error) {
	if size > maxImatrixBytes {
		return nil, &tensor.FormatError{Offset: 0, Err: fmt.Errorf("%d bytes are too many for an importance matrix", size)}
	}
	b := make([]byte, size)
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("%d of %d bytes: %w", n, size, err)
	}
	d := &datReader{b: b}
	m := &Imatrix{Entries: map[string]Entry{}}
	for n := d.count(12); n > 0 && d.err == nil; n-- {
		name := string(d.bytes(d.count(1)))
		calls := d.int32()
		sums := make([]float32, d.count(4))
		for i := range sums {
			sums[i] = math.Float32frombits(uint32(d.int32()))
		}
		if d.err == nil && (len(name) == 0 || len(sums) == 0 || calls < 0) {
			d.fail("an entry without name or sums")
		}
		if _, ok := m.Entries[name]; ok {
			d.fail("an entry comes twice")
		}
		m.Entries[name] = Entry{sums, float32(max(calls, 1))}
	}
	if d.err == nil && len(m.Entries) == 0 {
		d.fail("no entries: neither GGUF nor an importance matrix")
	}
	if d.err == nil && d.at < len(b) { // written since 2024
		m.Chunks = int(max(d.int32(), 0))
		if text := string(d.bytes(d.count(1))); text != "" {
			m.Datasets = []string{text}
		}
	}
	if d.err != nil {
		return nil, d.err
	}
	return m, nil
}

// datReader reads the older form and keeps the first error.
type datReader struct {
	b   []byte
	at  int
	err error
}

func (d *datReader) fail(what string) {
	if d.err == nil {
		d.err = &tensor.FormatError{Offset: int64(d.at), Field: "importance matrix", Err: errors.New(what)}
	}
}

func (d *datReader) bytes(n int) []byte {
	if d.err != nil || n > len(d.b)-d.at {
		d.fail("the file ends early")
		return nil
	}
	d.at += n
	return d.b[d.at-n : d.at]
}

func (d *datReader) int32() int32 {
	b := d.bytes(4)
	if b == nil {
		return 0
	}
	return int32(binary.LittleEndian.Uint32(b))
}

// count reads how many things of at least size bytes follow.
func (d *datReader) count(size int) int {
	n := int(d.int32())
	if d.err == nil && (n < 0 || n > (len(d.b)-d.at)/size) {
		d.fail("a count that the file cannot hold")
		return 0
	}
	return n
}

// checkValues refuses sums that are no sums of squares.
func (m *Imatrix) checkValues() error {
	for name, e := range m.Entries {
		bad := !(e.Count >= 0 && e.Count <= math.MaxFloat32)
		for _, v := range e.Sums {
			bad = bad || !(v >= 0 && v <= math.MaxFloat32)
		}
		if bad {
			return &tensor.FormatError{Offset: -1, Field: fmt.Sprintf("importance of %.100q", name), Err: errors.New("holds a number that is no sum of squares")}
		}
	}
	return nil
}
