package tensor

import (
	"fmt"
	"io"
)

// Stream is the elements of R as bytes of type DType, little-endian, for
// writers of files: an [io.WriterTo] that holds some 100 KB at a time.
type Stream struct {
	R        Reader
	Elements int64
	// DType is F32, F16 or BF16.
	DType DType
}

// WriteTo implements [io.WriterTo]. A finite value that F16 cannot hold is an
// error.
func (s Stream) WriteTo(w io.Writer) (int64, error) {
	const step = 16 << 10
	if s.DType != F32 && s.DType != F16 && s.DType != BF16 {
		return 0, fmt.Errorf("stream elements as %v: only F32, F16 and BF16", s.DType)
	}
	floats := make([]float32, min(step, s.Elements))
	buf := make([]byte, len(floats)*s.DType.Size())
	var written int64
	for off := int64(0); off < s.Elements; {
		f := floats[:min(int64(len(floats)), s.Elements-off)]
		if err := s.R.ReadFloat32(f, off); err != nil {
			return written, err
		}
		b := buf[:len(f)*s.DType.Size()]
		switch s.DType {
		case F32:
			EncodeF32(b, f)
		case F16:
			if over, _ := EncodeF16(b, f); over > 0 {
				return written, fmt.Errorf("%d values near element %d are beyond the range of F16", over, off)
			}
		case BF16:
			EncodeBF16(b, f)
		}
		n, err := w.Write(b)
		written += int64(n)
		if err != nil {
			return written, err
		}
		off += int64(len(f))
	}
	return written, nil
}

// Floats is a [Reader] over a slice in memory.
type Floats []float32

// ReadFloat32 implements [Reader].
func (s Floats) ReadFloat32(dst []float32, offset int64) error {
	if offset < 0 || int64(len(dst)) > int64(len(s))-offset {
		return fmt.Errorf("elements %d to %d of %d asked for", offset, offset+int64(len(dst)), len(s))
	}
	copy(dst, s[offset:])
	return nil
}
