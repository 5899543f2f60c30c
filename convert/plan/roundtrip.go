package plan

import (
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/quant/affine"
	"github.com/llama-pajamas/llama-pajamas/quant/matmulnbits"
	"github.com/llama-pajamas/llama-pajamas/quant/qdq"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// RoundTrip sets x, [rows, cols] row-major, to what a reader of the form sees.
// importance weighs the columns, as when the form is written; it may be nil.
func (f Form) RoundTrip(x []float32, rows, cols int, importance []float32) error {
	switch {
	case f.Float == tensor.F32:
		return nil
	case f.Float == tensor.F16:
		b := make([]byte, 2*len(x))
		tensor.EncodeF16(b, x)
		return tensor.Decode(x, b, f.Float)
	case f.Float == tensor.BF16:
		b := make([]byte, 2*len(x))
		tensor.EncodeBF16(b, x)
		return tensor.Decode(x, b, f.Float)
	case f.IsFloat():
		return fmt.Errorf("round trip through %v", f.Float)
	case f.Affine:
		o := f.AffineOptions()
		packed := affine.MakeRows(rows, cols, o)
		if err := affine.QuantizeRows(packed, x, rows, cols, o); err != nil {
			return err
		}
		return affine.DequantizeRows(x, packed, rows, cols, o)
	case f.Linear:
		o := f.LinearOptions()
		o.Importance = importance
		packed := qdq.MakeRows(rows, cols, o)
		if err := qdq.QuantizeRows(packed, x, rows, cols, o); err != nil {
			return err
		}
		return qdq.DequantizeRows(x, packed, rows, cols, o)
	}
	o := f.Options()
	o.Importance = importance
	packed := matmulnbits.MakeRows(rows, cols, o)
	if _, err := matmulnbits.QuantizeRows(packed, x, rows, cols, o); err != nil {
		return err
	}
	return matmulnbits.DequantizeRows(x, packed, rows, cols, o)
}
