package plan

import (
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Plan is a whole conversion.
type Plan struct {
	Artifacts []*Artifact
	// Reads lists the checkpoint tensors, in the order they are read. One read
	// feeds every artifact that wants the tensor.
	Reads []*Read
}

// Artifact is one output folder.
type Artifact struct {
	// Dir is the folder, relative to the output folder, with forward slashes.
	Dir string
	// Files are the small files, whole; names are relative to Dir.
	Files []File
	// Data is the weight file beside them; its Size is exact.
	Data DataFile
}

// File is a small output file.
type File struct {
	Name string
	Data []byte
}

// DataFile is the weight file of an artifact. Bytes that no read and no
// constant covers are zero.
type DataFile struct {
	Name   string
	Size   int64
	Consts []Const
	// Parts cuts the data into several files, one behind the other, of which
	// Name is the first; nil for one file. No region crosses a cut.
	Parts []Part
	// CacheScales are float32 numbers that a probe of the model gives.
	CacheScales []CacheScale
	// ActScales are quantization steps of activations that a calibration gives.
	ActScales []ActScale
}

// Part is one of the files that hold the data from Offset on.
type Part struct {
	Name         string
	Offset, Size int64
}

// Files lists the files the data is in: Parts, or the one there is.
func (d DataFile) Files() []Part {
	if len(d.Parts) > 0 {
		return d.Parts
	}
	return []Part{{d.Name, 0, d.Size}}
}

// Piece says where one checkpoint weight goes.
type Piece struct {
	Weight arch.Weight
	Output Output // Artifact is set by whoever assembles the plan
}

// ActScale is the step of the symmetric int8 input of a matrix: max|x|/127.
type ActScale struct {
	Role   arch.Role
	Layer  int
	Offset int64
	Float  tensor.DType // stored as F16 or F32
}

// CacheScale is the quantization step of a layer's cached keys or values.
type CacheScale struct {
	Layer  int
	Value  bool // of the values; else of the keys
	Offset int64
}

// Const is bytes the planner itself made, such as a rotary table.
type Const struct {
	Name   string
	Offset int64
	Data   []byte
}

// Read is one checkpoint tensor seen as a matrix [Rows, Cols]; vectors have
// one row.
type Read struct {
	Tensor     *tensor.Tensor
	Role       arch.Role
	Layer      int
	Rows, Cols int
	Outputs    []Output
}

// Output is one stored form of a read, in one artifact. Row r of the read goes
// to Offset + r·RowBytes of each region. Where the form stores columns, column k
// of the read goes to Offset + k·RowBytes of Data, and the scales of its k-th
// blocks, and their offsets, likewise; one scale a row lies as with rows.
type Output struct {
	Artifact int // index into Plan.Artifacts
	Form     Form
	// Tuned outputs take the weights after the fold of package calibrate, and
	// quantize them by its importance.
	Tuned bool
	// Importance weighs the columns for ggml's quantizers; nil for none.
	Importance []float32
	// Interleave, where not 0, is an even number of rows, a head's, within which
	// row r is stored as row 2r, and row r+Interleave/2 as row 2r+1. The elements
	// of a vector count as rows. Forms of one region alone have it.
	Interleave int

	Data   Region
	Scales Region
	Zeros  Region
}

// StoredRow is where a row of the read lies in the output.
func (o Output) StoredRow(row int) int {
	if o.Interleave == 0 {
		return row
	}
	half := o.Interleave / 2
	k := row % o.Interleave
	return row - k + 2*(k%half) + k/half
}

// Runs says in how many pieces, of how many bytes each, data and scales of a
// read are stored, a RowBytes of the region apart.
func (o Output) Runs(r *Read) (data, scales Runs) {
	d, s, _ := o.Form.RowBytes(r.Cols)
	data, scales = Runs{r.Rows, d}, Runs{r.Rows, s}
	if o.Form.Columns {
		data = Runs{r.Cols, r.Rows * o.Form.ElementBits() / 8}
		if n := o.Form.Blocks(r.Cols); o.Form.Block != 0 && n > 0 {
			scales = Runs{n, r.Rows * o.Form.Scale.Size()}
		}
	}
	return data, scales
}

// Runs is N pieces of Bytes bytes.
type Runs struct{ N, Bytes int }

// Region is where the rows of a tensor lie in the data file.
type Region struct {
	Offset   int64
	RowBytes int
}

// Bytes is the size of all artifacts' files.
func (p *Plan) Bytes() int64 {
	var n int64
	for _, a := range p.Artifacts {
		n += a.Bytes()
	}
	return n
}

// Bytes is the size of the artifact's files.
func (a *Artifact) Bytes() int64 {
	n := a.Data.Size
	for _, f := range a.Files {
		n += int64(len(f.Data))
	}
	return n
}

// SourceElements is the number of elements read from the checkpoint, the
// measure of progress.
func (p *Plan) SourceElements() int64 {
	var n int64
	for _, r := range p.Reads {
		n += int64(r.Rows) * int64(r.Cols)
	}
	return n
}

// Check refuses a plan whose regions overlap the end of a data file or whose
// artifacts share a folder: mistakes of a planner, found before writing.
func (p *Plan) Check() error {
	dirs := map[string]bool{}
	for _, a := range p.Artifacts {
		if dirs[a.Dir] {
			return fmt.Errorf("plan: two artifacts in folder %s", a.Dir)
		}
		dirs[a.Dir] = true
		names := map[string]bool{}
		end := int64(0)
		for _, f := range a.Data.Files() {
			if names[f.Name] || f.Offset != end || f.Size < 0 {
				return fmt.Errorf("plan: part %s of %s is out of place", f.Name, a.Dir)
			}
			names[f.Name], end = true, end+f.Size
		}
		if end != a.Data.Size {
			return fmt.Errorf("plan: the parts in %s hold %d bytes of %d", a.Dir, end, a.Data.Size)
		}
		for _, f := range a.Files {
			if names[f.Name] {
				return fmt.Errorf("plan: two files named %s in %s", f.Name, a.Dir)
			}
			names[f.Name] = true
		}
	}
	for _, r := range p.Reads {
		for _, o := range r.Outputs {
			size := p.Artifacts[o.Artifact].Data.Size
			data, scales := o.Runs(r)
			zeros := Runs{r.Rows, o.Zeros.RowBytes}
			if o.Form.Offsets {
				zeros = scales
			}
			rows := r.Rows
			if rows == 1 {
				rows = r.Cols
			}
			if i := o.Interleave; i != 0 && (i < 0 || i%2 != 0 || rows%i != 0 || o.Form.Columns || scales.Bytes > 0) {
				return fmt.Errorf("plan: the %d rows of tensor %q cannot be interleaved by %d", rows, r.Tensor.Name, i)
			}
			for _, g := range []struct {
				Region
				n, bytes int
			}{{o.Data, data.N, data.Bytes}, {o.Scales, scales.N, scales.Bytes}, {o.Zeros, zeros.N, zeros.Bytes}} {
				if g.n == 0 || g.bytes == 0 {
					continue
				}
				if g.Offset < 0 || g.Offset+int64(g.n-1)*int64(g.RowBytes)+int64(g.bytes) > size {
					return fmt.Errorf("plan: tensor %q ends beyond the %d bytes of %s", r.Tensor.Name, size, p.Artifacts[o.Artifact].Data.Name)
				}
			}
		}
	}
	return nil
}
