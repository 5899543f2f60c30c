package affine

import (
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Options say how rows are quantized. The zero value is mlx's default: 4 bits,
// groups of 64; scales are bfloat16.
type Options struct {
	// Bits of a code: 2, 3, 4, 5, 6 or 8; 0 means 4.
	Bits int
	// Group is the number of weights that share a scale and a bias: 32, 64 or
	// 128; 0 means 64.
	Group int
	// Type of scales and biases: [tensor.BF16], [tensor.F16] or [tensor.F32]; 0
	// means BF16. Weights are rounded to it first, as mlx-lm casts a model
	// before it quantizes.
	Type tensor.DType
}

// Filled returns o with the defaults in place of zeros.
func (o Options) Filled() Options {
	if o.Bits == 0 {
		o.Bits = 4
	}
	if o.Group == 0 {
		o.Group = 64
	}
	if o.Type == tensor.Invalid {
		o.Type = tensor.BF16
	}
	return o
}

// Check reports options that cannot be used for rows of k weights.
func (o Options) Check(k int) error {
	o = o.Filled()
	switch {
	case o.Bits < 2 || o.Bits > 8 || o.Bits == 7:
		return fmt.Errorf("affine quantization: %d bits a weight; choose 2, 3, 4, 5, 6 or 8", o.Bits)
	case o.Group != 32 && o.Group != 64 && o.Group != 128:
		return fmt.Errorf("affine quantization: groups of %d; choose 32, 64 or 128", o.Group)
	case o.Type != tensor.BF16 && o.Type != tensor.F16 && o.Type != tensor.F32:
		return fmt.Errorf("affine quantization: scales of type %v; choose %v, %v or %v", o.Type, tensor.BF16, tensor.F16, tensor.F32)
	case k < 0 || k%o.Group != 0:
		return fmt.Errorf("affine quantization: rows of %d weights are no multiple of the group of %d", k, o.Group)
	}
	return nil
}

// Sizes gives the bytes that rows of k weights need: words, scales, and biases
// as many as scales. k must be a multiple of the group.
func (o Options) Sizes(rows, k int) (words, scales int) {
	o = o.Filled()
	return rows * k * o.Bits / 8, rows * (k / o.Group) * o.Type.Size()
}

// BitsPerWeight is what a weight costs with its share of scale and bias.
func (o Options) BitsPerWeight() float64 {
	o = o.Filled()
	return float64(o.Bits) + 2*8*float64(o.Type.Size())/float64(o.Group)
}

// String is a short name for logs and metadata: "4-bit affine, group 64, BF16
// scales and biases".
func (o Options) String() string {
	o = o.Filled()
	return fmt.Sprintf("%d-bit affine, group %d, %v scales and biases", o.Bits, o.Group, o.Type)
}

// Rows are the three tensors' bytes of some consecutive rows, little-endian.
type Rows struct {
	Words, Scales, Biases []byte
}

// MakeRows allocates buffers of the right size.
func MakeRows(rows, k int, o Options) Rows {
	w, s := o.Sizes(rows, k)
	return Rows{Words: make([]byte, w), Scales: make([]byte, s), Biases: make([]byte, s)}
}

func (r Rows) check(rows, k int, o Options) error {
	w, s := o.Sizes(rows, k)
	if len(r.Words) != w || len(r.Scales) != s || len(r.Biases) != s {
		return fmt.Errorf("buffers for %d rows of %d weights (%v): have %d, %d and %d bytes of words, scales and biases, want %d, %d and %d",
			rows, k, o, len(r.Words), len(r.Scales), len(r.Biases), w, s, s)
	}
	return nil
}
