package quant

import (
	"fmt"
	"math/bits"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Kind names a family of quantized layouts.
type Kind uint8

const (
	// MatMulNBits is the layout of the ONNX Runtime contrib operators
	// com.microsoft.MatMulNBits and GatherBlockQuantized: unsigned codes
	// packed along K, one scale and one integer zero point a block.
	// Source: operator schemas of ONNX Runtime 1.32.
	MatMulNBits Kind = iota + 1
)

// String is the operator's name.
func (k Kind) String() string {
	switch k {
	case MatMulNBits:
		return "MatMulNBits"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Scheme says how the weights of one matrix [N, K] are stored: Bits a weight,
// in blocks of Block consecutive weights of a row, with a scale a block and,
// unless Symmetric, an integer zero point of Bits bits a block.
type Scheme struct {
	Kind Kind
	// Bits of one weight: 2, 4 or 8.
	Bits int
	// Block is the number of weights that share a scale: a power of two, 16 to 256.
	Block int
	// Symmetric schemes store no zero point: it is 2^(Bits-1).
	Symmetric bool
	// ScaleType is the stored type of the scales: [tensor.F16] or
	// [tensor.F32]; the zero value means F16.
	ScaleType tensor.DType
}

// Check reports the first field outside what the scheme's kind allows.
func (s Scheme) Check() error {
	switch {
	case s.Kind != MatMulNBits:
		return fmt.Errorf("quantization scheme: unknown kind %v; known: %v", s.Kind, MatMulNBits)
	case s.Bits != 2 && s.Bits != 4 && s.Bits != 8:
		return fmt.Errorf("quantization scheme: %d bits a weight; %v takes 2, 4 or 8", s.Bits, s.Kind)
	case s.Block < 16 || s.Block > 256 || bits.OnesCount(uint(s.Block)) != 1:
		return fmt.Errorf("quantization scheme: block length %d; %v takes 16, 32, 64, 128 or 256", s.Block, s.Kind)
	case s.scaleType() != tensor.F16 && s.ScaleType != tensor.F32:
		return fmt.Errorf("quantization scheme: scales of type %v; choose %v or %v", s.ScaleType, tensor.F16, tensor.F32)
	}
	return nil
}

func (s Scheme) scaleType() tensor.DType {
	if s.ScaleType == tensor.Invalid {
		return tensor.F16
	}
	return s.ScaleType
}

// Blocks is the number of blocks of a row of k weights; the last may be partly
// padding.
func (s Scheme) Blocks(k int) int { return (k + s.Block - 1) / s.Block }

// DataBytes is the number of bytes of a row's packed weights, padding included.
func (s Scheme) DataBytes(k int) int { return s.Blocks(k) * s.Block * s.Bits / 8 }

// ScaleBytes is the number of bytes of a row's scales.
func (s Scheme) ScaleBytes(k int) int { return s.Blocks(k) * s.scaleType().Size() }

// ZeroBytes is the number of bytes of a row's zero points: they are packed as
// the weights are, and each row starts on a byte. It is 0 for symmetric schemes.
func (s Scheme) ZeroBytes(k int) int {
	if s.Symmetric {
		return 0
	}
	return (s.Blocks(k)*s.Bits + 7) / 8
}

// RowBytes is the number of bytes a row of k weights takes in all.
func (s Scheme) RowBytes(k int) int { return s.DataBytes(k) + s.ScaleBytes(k) + s.ZeroBytes(k) }

// BitsPerWeight is what a weight of a row of k costs with scales, zero points
// and padding; 0 for k == 0.
func (s Scheme) BitsPerWeight(k int) float64 {
	if k == 0 {
		return 0
	}
	return float64(s.RowBytes(k)) * 8 / float64(k)
}

// String is a short name for logs and metadata: "4-bit asymmetric, block 32, F16 scales".
func (s Scheme) String() string {
	sym := "asymmetric"
	if s.Symmetric {
		sym = "symmetric"
	}
	return fmt.Sprintf("%d-bit %s, block %d, %v scales", s.Bits, sym, s.Block, s.scaleType())
}
