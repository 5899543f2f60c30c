package convert

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/llama-pajamas/llama-pajamas/convert/plan"
)

// dataFile is the weight data of an artifact, in one file or several.
type dataFile struct {
	parts []plan.Part
	files []*os.File
}

// createData makes the files, each with its size. What it made is returned with
// an error, too, to be closed.
func createData(dir string, d plan.DataFile) (*dataFile, error) {
	out := &dataFile{parts: d.Files()}
	for _, p := range out.parts {
		f, err := os.OpenFile(filepath.Join(dir, p.Name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
		if err != nil {
			return out, fmt.Errorf("create the weight file: %w", err)
		}
		out.files = append(out.files, f)
		if err := f.Truncate(p.Size); err != nil {
			return out, fmt.Errorf("size %s to %d bytes: %w", f.Name(), p.Size, err)
		}
	}
	return out, nil
}

// Name is the first file's name.
func (d *dataFile) Name() string { return d.files[0].Name() }

// WriteAt implements [io.WriterAt]. No write crosses from a part to the next.
func (d *dataFile) WriteAt(b []byte, offset int64) (int, error) {
	i := len(d.files) - 1
	for i > 0 && offset < d.parts[i].Offset {
		i--
	}
	return d.files[i].WriteAt(b, offset-d.parts[i].Offset)
}

// close syncs and closes the files.
func (d *dataFile) close() error {
	var errs []error
	for _, f := range d.files {
		if err := f.Sync(); err != nil {
			errs = append(errs, fmt.Errorf("write %s to disk: %w", f.Name(), err))
		}
		if err := f.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", f.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// chunkRowsOf is [chunkRows], in whole heads where rows are interleaved and a
// head is no more than a chunk.
func chunkRowsOf(r *plan.Read) int {
	step := chunkRows(r.Cols)
	for _, o := range r.Outputs {
		if i := o.Interleave; i > 0 && i <= step && r.Rows > 1 {
			step = step / i * i
		}
	}
	return step
}

// interleave writes the rows of a chunk in the order they are stored in: all at
// once where the chunk is made of whole heads, else one by one.
func (d *dataFile) interleave(c chunk, o *plan.Output, e *encoded) error {
	rows, first, bytes := c.rows, c.row, o.Data.RowBytes
	if c.read.Rows == 1 { // the elements of a vector
		rows, first = c.read.Cols, 0
		bytes /= c.read.Cols
	}
	at := func(row int) int64 { return o.Data.Offset + int64(row)*int64(bytes) }
	if first%o.Interleave != 0 || rows%o.Interleave != 0 {
		for i := range rows {
			if _, err := d.WriteAt(e.data[i*bytes:][:bytes], at(o.StoredRow(first+i))); err != nil {
				return err
			}
		}
		return nil
	}
	e.turned = grow(e.turned, rows*bytes)
	for i := range rows {
		copy(e.turned[o.StoredRow(i)*bytes:], e.data[i*bytes:][:bytes])
	}
	_, err := d.WriteAt(e.turned, at(first))
	return err
}
