package matmulnbits

import (
	"fmt"
	"math"

	"github.com/llama-pajamas/llama-pajamas/quant"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Method is the way scales and zero points are chosen.
type Method uint8

const (
	// Search keeps the best of many scales and zero points; see search.go.
	Search Method = iota
	// RTN takes the scale from the block's extremes and rounds to nearest; its
	// bytes are those of ONNX Runtime's quantizer.
	RTN
)

// String is the method's name in recipes: "search" or "rtn".
func (m Method) String() string {
	switch m {
	case Search:
		return "search"
	case RTN:
		return "rtn"
	}
	return fmt.Sprintf("Method(%d)", uint8(m))
}

// Options say how rows are quantized. The zero value is the default recipe:
// 4 bits, blocks of 32, zero points, float16 scales, searched.
type Options struct {
	// Bits of a code: 2, 4 or 8; 0 means 4.
	Bits int
	// Block is the number of weights a scale serves: 16, 32, 64, 128 or 256;
	// 0 means 32.
	Block int
	// Symmetric stores no zero points.
	Symmetric bool
	// ScaleType is [tensor.F16] or [tensor.F32]; 0 means F16.
	ScaleType tensor.DType
	// Positive keeps the scales of symmetric blocks above zero, as readers other
	// than the two operators may want; the largest weight then gets code 0 only
	// where it is negative.
	Positive bool
	// Method defaults to [Search].
	Method Method
	// Importance holds one weight per input channel, length K: the error of
	// channel c counts Importance[c] times; the mean of x² over calibration
	// inputs is the usual choice. Its scale does not matter. nil: all channels
	// alike. Values must be finite and >= 0. [RTN] ignores it.
	Importance []float32
}

// Scheme gives the facts of the layout that o asks for, defaults filled in.
func (o Options) Scheme() quant.Scheme {
	s := quant.Scheme{Kind: quant.MatMulNBits, Bits: o.Bits, Block: o.Block, Symmetric: o.Symmetric, ScaleType: o.ScaleType}
	if s.Bits == 0 {
		s.Bits = 4
	}
	if s.Block == 0 {
		s.Block = 32
	}
	if s.ScaleType == tensor.Invalid {
		s.ScaleType = tensor.F16
	}
	return s
}

// Check reports options that cannot be used for rows of k weights.
func (o Options) Check(k int) error {
	if err := o.Scheme().Check(); err != nil {
		return err
	}
	if o.Method != Search && o.Method != RTN {
		return fmt.Errorf("quantization method %v: choose %v or %v", o.Method, Search, RTN)
	}
	if o.Importance == nil {
		return nil
	}
	if len(o.Importance) != k {
		return fmt.Errorf("importance of %d input channels for rows of %d weights: the lengths must agree", len(o.Importance), k)
	}
	for c, v := range o.Importance {
		if !(v >= 0 && v <= math.MaxFloat32) {
			return fmt.Errorf("importance of input channel %d is %v: it must be finite and not negative", c, v)
		}
	}
	return nil
}

// Sizes gives the bytes that rows of k weights need: data, scales, zero points
// (0 when symmetric).
func Sizes(rows, k int, o Options) (data, scales, zeros int) {
	s := o.Scheme()
	return rows * s.DataBytes(k), rows * s.ScaleBytes(k), rows * s.ZeroBytes(k)
}

// Rows are the three tensors' bytes of some consecutive rows; see the package
// comment for the layout. Zeros is ignored when symmetric.
type Rows struct {
	Data, Scales, Zeros []byte
}

// MakeRows allocates buffers of the right size.
func MakeRows(rows, k int, o Options) Rows {
	d, s, z := Sizes(rows, k, o)
	return Rows{Data: make([]byte, d), Scales: make([]byte, s), Zeros: make([]byte, z)}
}

func (r Rows) check(rows, k int, o Options) error {
	d, s, z := Sizes(rows, k, o)
	if len(r.Data) != d || len(r.Scales) != s || (len(r.Zeros) != z && !o.Symmetric) {
		return fmt.Errorf("buffers for %d rows of %d weights (%v): have %d, %d and %d bytes of data, scales and zero points, want %d, %d and %d",
			rows, k, o.Scheme(), len(r.Data), len(r.Scales), len(r.Zeros), d, s, z)
	}
	return nil
}
