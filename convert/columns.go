package convert

import (
	"fmt"
	"io"
	"sync"

	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/quant/qdq"
)

// columnStore holds the matrices that are stored by columns while their rows
// come in: every column takes a little of every row, so a matrix is turned in
// memory, encoded, and written when its last row is there. Reads are in order,
// so that few are ever in the making.
type columnStore struct {
	mu    sync.Mutex
	turns map[*plan.Output]*turn
}

// turn is one matrix in the making.
type turn struct {
	data    []byte // as stored, [K, N]
	scales  []byte // [blocks, N], or a row's scale each
	offsets []byte // as scales, where there are such
	left    int    // rows still missing
}

// store takes a chunk in encoded form and writes the matrix when it is whole.
func (s *columnStore) store(f io.WriterAt, c chunk, o *plan.Output, e *encoded) error {
	r, form := c.read, o.Form
	data, scales := o.Runs(r)
	s.mu.Lock()
	if s.turns == nil {
		s.turns = map[*plan.Output]*turn{}
	}
	t := s.turns[o]
	if t == nil {
		t = &turn{data: make([]byte, data.N*data.Bytes), scales: make([]byte, scales.N*scales.Bytes), left: r.Rows}
		if form.Offsets {
			t.offsets = make([]byte, len(t.scales))
		}
		s.turns[o] = t
	}
	s.mu.Unlock()

	if err := qdq.Scatter(t.data, r.Rows, c.row, e.data, c.rows, r.Cols, form.ElementBits()); err != nil {
		return err
	}
	switch blocks := form.Blocks(r.Cols); {
	case form.IsFloat():
	case form.Block == 0:
		copy(t.scales[c.row*scales.Bytes:], e.scales)
	default:
		if err := qdq.Scatter(t.scales, r.Rows, c.row, e.scales, c.rows, blocks, 8*form.Scale.Size()); err != nil {
			return err
		}
		if form.Offsets {
			if err := qdq.Scatter(t.offsets, r.Rows, c.row, e.zeros, c.rows, blocks, 8*form.Scale.Size()); err != nil {
				return err
			}
		}
	}

	s.mu.Lock()
	t.left -= c.rows
	whole := t.left == 0
	if whole {
		delete(s.turns, o)
	}
	s.mu.Unlock()
	if !whole {
		return nil
	}
	if err := writeRuns(f, o.Data, data, t.data); err != nil {
		return err
	}
	if err := writeRuns(f, o.Scales, scales, t.scales); err != nil || !form.Offsets {
		return err
	}
	return writeRuns(f, o.Zeros, scales, t.offsets)
}

// writeRuns writes pieces of equal length to places RowBytes apart.
func writeRuns(f io.WriterAt, at plan.Region, runs plan.Runs, b []byte) error {
	if at.RowBytes == runs.Bytes {
		runs = plan.Runs{N: 1, Bytes: len(b)}
	}
	for i := range runs.N {
		if _, err := f.WriteAt(b[i*runs.Bytes:][:runs.Bytes], at.Offset+int64(i)*int64(at.RowBytes)); err != nil {
			return fmt.Errorf("write columns: %w", err)
		}
	}
	return nil
}

// columnMemory is what the matrices in the making take: two of the largest of
// each artifact, the one being finished and the one begun.
func columnMemory(p *plan.Plan) int64 {
	largest := make([]int64, len(p.Artifacts))
	for _, r := range p.Reads {
		for _, o := range r.Outputs {
			if !o.Form.Columns {
				continue
			}
			data, scales := o.Runs(r)
			largest[o.Artifact] = max(largest[o.Artifact], int64(data.N)*int64(data.Bytes)+2*int64(scales.N)*int64(scales.Bytes))
		}
	}
	var n int64
	for _, b := range largest {
		n += 2 * b
	}
	return n
}
