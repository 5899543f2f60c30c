package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/quant/affine"
	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
	"github.com/llama-pajamas/llama-pajamas/quant/matmulnbits"
	"github.com/llama-pajamas/llama-pajamas/quant/qdq"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// chunkElements bounds one unit of work: 1 MiB of float32.
const chunkElements = 256 << 10

// chunkRows is the number of rows in a unit of work; even, as 4-bit elements
// that are stored by columns go in pairs.
func chunkRows(cols int) int { return max(2, chunkElements/cols&^1) }

// BytesPerWorker is the buffer memory of one worker in the worst case: a chunk
// as float32, folded, and in its largest stored forms, for two rows when rows are longer
// than half a chunk.
func (j *Job) BytesPerWorker() int64 {
	elements := int64(chunkElements)
	for _, r := range j.Plan.Reads {
		elements = max(elements, int64(min(2, r.Rows))*int64(r.Cols))
	}
	return elements * (4 + 4 + 4 + 2)
}

// Write fills the staging folder: every file of every artifact but its
// metadata, which [Job.WriteMetadata] adds last. An artifact whose weights do
// not fit its forms becomes one of [Job.Failures]; it is an error where none is
// left.
func (j *Job) Write(ctx context.Context) error {
	if err := j.prepare(); err != nil {
		return err
	}
	if err := j.calibrate(ctx); err != nil {
		return err
	}
	w := &writer{job: j, total: j.Plan.SourceElements()}
	if err := w.open(); err != nil {
		return errors.Join(err, w.close())
	}
	if err := errors.Join(w.run(ctx), w.close()); err != nil {
		return err
	}
	j.checkRounding(&w.failed)
	if err := j.drop(&w.failed); err != nil {
		return err
	}
	return j.survivors()
}

// prepare makes an empty staging folder, after all reasons to refuse.
func (j *Job) prepare() error {
	out := j.opts.Output
	if err := j.refuseExisting(); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("make the output folder: %w", err)
	}
	stage := filepath.Join(out, staging)
	if err := os.RemoveAll(stage); err != nil {
		return fmt.Errorf("remove what an interrupted conversion left: %w", err)
	}
	need := j.Plan.Bytes()
	if free, err := j.opts.FreeSpace(out); err == nil && free < need {
		return fmt.Errorf("output folder %s: %s needed, %s free on its disk", out, size(need), size(free))
	}
	if err := os.Mkdir(stage, 0o755); err != nil {
		return fmt.Errorf("make the staging folder: %w", err)
	}
	return nil
}

// refuseExisting refuses a folder that holds something, but nothing of this
// program, which is likely a mistyped path; and, unless forced, to replace an
// artifact that is there.
func (j *Job) refuseExisting() error {
	entries, err := os.ReadDir(j.opts.Output)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the output folder: %w", err)
	}
	ours := len(entries) == 0
	for _, e := range entries {
		ours = ours || e.Name() == "onnx" || e.Name() == ggufFolder || e.Name() == mlxFolder || e.Name() == staging
	}
	if !ours {
		return fmt.Errorf("output folder %s is not empty and holds no model of this program: choose another folder", j.opts.Output)
	}
	if j.opts.Force {
		return nil
	}
	for _, a := range j.Artifacts {
		if a.Reference {
			continue
		}
		if _, err := os.Stat(filepath.Join(j.opts.Output, filepath.FromSlash(a.Dir))); err == nil {
			return fmt.Errorf("output folder %s has another %s (of other weights, options or version): choose another folder, or --force to replace it", j.opts.Output, a.Dir)
		}
	}
	return nil
}

// writer is one pass over the checkpoint.
type writer struct {
	job   *Job
	files []*dataFile // parallel to the artifacts
	cols  columnStore
	failed
	total int64
	done  int64
	mu    sync.Mutex // serializes progress
}

// open writes the small files and the constants, and sizes the data files.
func (w *writer) open() error {
	for i, a := range w.job.Plan.Artifacts {
		dir := w.job.Staged(i)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", a.Dir, err)
		}
		for _, f := range a.Files {
			if err := writeFile(filepath.Join(dir, f.Name), f.Data); err != nil {
				return err
			}
		}
		f, err := createData(dir, a.Data)
		w.files = append(w.files, f)
		if err != nil {
			return err
		}
		for _, s := range a.Data.CacheScales {
			var b [4]byte
			tensor.EncodeF32(b[:], []float32{w.job.cacheStep(i, s)})
			if _, err := f.WriteAt(b[:], s.Offset); err != nil {
				return fmt.Errorf("write the cache scales of layer %d to %s: %w", s.Layer, f.Name(), err)
			}
		}
		for _, s := range a.Data.ActScales {
			b := make([]byte, s.Float.Size())
			x := []float32{w.job.actStep(i, s)}
			if s.Float == tensor.F16 {
				tensor.EncodeF16(b, x)
			} else {
				tensor.EncodeF32(b, x)
			}
			if _, err := f.WriteAt(b, s.Offset); err != nil {
				return fmt.Errorf("write the activation scale of %v in layer %d to %s: %w", s.Role, s.Layer, f.Name(), err)
			}
		}
		for _, c := range a.Data.Consts {
			if _, err := f.WriteAt(c.Data, c.Offset); err != nil {
				return fmt.Errorf("write constant %q to %s: %w", c.Name, f.Name(), err)
			}
		}
	}
	return nil
}

// close syncs and closes the data files.
func (w *writer) close() error {
	var errs []error
	for _, f := range w.files {
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}

// sameSlice reports whether two slices are one.
func sameSlice(a, b []float32) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// chunk is some rows of one read.
type chunk struct {
	read      *plan.Read
	row, rows int
}

// run feeds chunks, in source order, to the workers.
func (w *writer) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	chunks := make(chan chunk)
	g.Go(func() error {
		defer close(chunks)
		for _, r := range w.job.Plan.Reads {
			step := chunkRowsOf(r)
			for row := 0; row < r.Rows; row += step {
				select {
				case chunks <- chunk{r, row, min(step, r.Rows-row)}:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return nil
	})
	for range w.job.opts.Workers {
		g.Go(func() error {
			e := &encoder{w: w}
			for c := range chunks {
				if err := e.chunk(c); err != nil {
					return err
				}
				w.progress(int64(c.rows) * int64(c.read.Cols))
			}
			return nil
		})
	}
	return g.Wait()
}

func (w *writer) progress(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done += n
	if w.job.opts.Progress != nil {
		w.job.opts.Progress(w.done, w.total)
	}
}

// encoder is one worker's buffers.
type encoder struct {
	w      *writer
	values []float32
	folded []float32
	forms  []encoded
}

// encoded is a chunk in one form, kept while several artifacts want it.
type encoded struct {
	form                plan.Form
	fold                *calibrate.Fold
	importance          []float32 // of ggml's blocks
	data, scales, zeros []byte
	turned              []byte // data with its rows in another order
	counts              roundings
	err                 error
}

// roundings counts what 16-bit storage did to the values.
type roundings struct{ overflow, flushed int64 }

func (e *encoder) chunk(c chunk) error {
	n := c.rows * c.read.Cols
	e.values = grow(e.values, n)
	if err := c.read.Tensor.ReadWeights(e.values, int64(c.row)*int64(c.read.Cols)); err != nil {
		return err
	}
	used := 0
	for i := range c.read.Outputs {
		o := &c.read.Outputs[i]
		if e.w.has(o.Artifact) {
			continue
		}
		enc := (*encoded)(nil)
		var fold *calibrate.Fold
		if o.Tuned {
			fold = e.w.job.folds[o.Artifact]
		}
		for k := range e.forms[:used] {
			if e.forms[k].form == encodedForm(o.Form) && e.forms[k].fold == fold && sameSlice(e.forms[k].importance, o.Importance) {
				enc = &e.forms[k]
			}
		}
		if enc == nil {
			if used == len(e.forms) {
				e.forms = append(e.forms, encoded{})
			}
			enc = &e.forms[used]
			used++
			values, importance := e.values, []float32(nil)
			if fold != nil {
				values, importance = e.fold(c, fold)
			}
			enc.fold, enc.importance = fold, o.Importance
			enc.err = enc.encode(encodedForm(o.Form), values, importance, c)
			if enc.err != nil {
				enc.err = fmt.Errorf("quantize tensor %q: %w", c.read.Tensor.Name, enc.err)
				if !finite(e.values) {
					return enc.err
				}
			}
		}
		if enc.err != nil {
			e.w.add(o.Artifact, enc.err)
			continue
		}
		if err := e.w.store(c, o, enc); err != nil {
			return err
		}
	}
	return nil
}

// fold returns the chunk's values after a fold, and the importance of their
// columns.
func (e *encoder) fold(c chunk, f *calibrate.Fold) (values, importance []float32) {
	importance = f.Importance(c.read.Role, c.read.Layer)
	if rows, cols := f.Scales(c.read.Role, c.read.Layer); rows == nil && cols == nil {
		return e.values, importance
	}
	e.folded = grow(e.folded, len(e.values))
	f.Apply(e.folded, e.values, c.read.Role, c.read.Layer, c.row, c.read.Cols)
	return e.folded, importance
}

// encodedForm is a form without what does not change its encoding.
func encodedForm(f plan.Form) plan.Form {
	f.Columns, f.Int8Input = false, false
	return f
}

// encode fills the buffers with the chunk's values in a form.
func (e *encoded) encode(f plan.Form, values, importance []float32, c chunk) error {
	data, scales, zeros := f.RowBytes(c.read.Cols)
	e.form, e.counts = f, roundings{}
	e.data, e.scales, e.zeros = grow(e.data, data*c.rows), grow(e.scales, scales*c.rows), grow(e.zeros, zeros*c.rows)
	switch f.Float {
	case tensor.F32:
		tensor.EncodeF32(e.data, values)
		return nil
	case tensor.BF16:
		tensor.EncodeBF16(e.data, values)
		return nil
	case tensor.F16:
		over, flushed := tensor.EncodeF16(e.data, values)
		e.counts = roundings{int64(over), int64(flushed)}
		return nil
	}
	if f.GGML != 0 {
		return ggml.Encode(e.data, values, f.GGML, c.read.Cols, e.importance)
	}
	if f.Affine {
		return affine.QuantizeRows(affine.Rows{Words: e.data, Scales: e.scales, Biases: e.zeros},
			values, c.rows, c.read.Cols, f.AffineOptions())
	}
	if f.Linear {
		o := f.LinearOptions()
		o.Importance = importance
		return qdq.QuantizeRows(qdq.Rows{Data: e.data, Scales: e.scales, Offsets: e.zeros}, values, c.rows, c.read.Cols, o)
	}
	o := f.Options()
	o.Importance = importance
	_, err := matmulnbits.QuantizeRows(matmulnbits.Rows{Data: e.data, Scales: e.scales, Zeros: e.zeros},
		values, c.rows, c.read.Cols, o)
	return err
}

// store writes an encoded chunk to the places of one output.
func (w *writer) store(c chunk, o *plan.Output, e *encoded) error {
	counts := &w.job.Artifacts[o.Artifact].counts
	atomic.AddInt64(&counts.overflow, e.counts.overflow)
	atomic.AddInt64(&counts.flushed, e.counts.flushed)
	f := w.files[o.Artifact]
	if o.Form.Columns {
		if err := w.cols.store(f, c, o, e); err != nil {
			return fmt.Errorf("write tensor %q: %w", c.read.Tensor.Name, err)
		}
		return nil
	}
	if o.Interleave != 0 {
		if err := f.interleave(c, o, e); err != nil {
			return fmt.Errorf("write tensor %q: %w", c.read.Tensor.Name, err)
		}
		return nil
	}
	for _, part := range []struct {
		region plan.Region
		data   []byte
	}{{o.Data, e.data}, {o.Scales, e.scales}, {o.Zeros, e.zeros}} {
		if len(part.data) == 0 {
			continue
		}
		at := part.region.Offset + int64(c.row)*int64(part.region.RowBytes)
		if _, err := io.NewOffsetWriter(f, at).Write(part.data); err != nil {
			return fmt.Errorf("write tensor %q: %w", c.read.Tensor.Name, err)
		}
	}
	return nil
}

// grow returns s with length n, reallocated only when it must be.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// writeFile writes a small file and syncs it.
func writeFile(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// syncDir makes a rename durable; file systems that cannot are none the worse.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
}

// size prints bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}
