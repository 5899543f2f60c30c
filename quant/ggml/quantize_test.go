package ggml_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Those that gguf's Python quantizes, and those that only the library does.
var (
	encoded  = []ggml.Type{ggml.F32, ggml.F16, ggml.BF16, ggml.Q4_0, ggml.Q4_1, ggml.Q5_0, ggml.Q5_1, ggml.Q8_0}
	searched = []ggml.Type{ggml.IQ4_NL, ggml.Q2_K, ggml.Q3_K, ggml.Q4_K, ggml.Q5_K, ggml.Q6_K}
)

// values are normal ones of growing size, with blocks that are odd: zeros, one
// value, equal values, ties of the largest magnitude, subnormals, negatives.
func values(n int) []float32 {
	rng := rand.New(rand.NewPCG(3, 9))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64() * math.Exp2(float64(i/32%24-16)))
	}
	odd := [][]float32{
		make([]float32, 32), {5}, {-0.25, 0.25, 0.25, -0.25}, {1e-40, -3e-41, 1e-38}, {0.5, 1.5, 2.5, -0.5, 127, -127},
		{-1, -2, -3, -4, -5, -6, -7, -8, -9, -10, -11, -12, -13, -14, -15, -16},
	}
	for i, o := range odd {
		clear(x[i*96 : i*96+32])
		copy(x[i*96:], o)
	}
	for j := range 32 {
		x[6*96+j] = -0.7 // all equal
	}
	return x
}

const quantizeScript = `
import sys, numpy as np, gguf
np.seterr(all="ignore")
x = np.frombuffer(sys.stdin.buffer.read(), "<f4")
for name in sys.argv[1:]:
    sys.stdout.buffer.write(gguf.quants.quantize(x, gguf.GGMLQuantizationType[name]).tobytes())
`

func TestQuantizeOracle(t *testing.T) {
	x := values(4096)
	in := make([]byte, 4*len(x))
	tensor.EncodeF32(in, x)
	var args []string
	for _, typ := range encoded {
		args = append(args, typ.String())
	}
	want := oracle.Run(t, quantizeScript, in, args...)
	for _, typ := range encoded {
		got := make([]byte, typ.RowBytes(int64(len(x))))
		if err := ggml.Quantize(got, x, typ); err != nil {
			t.Fatal(err)
		}
		if len(want) < len(got) {
			t.Fatalf("%v: the oracle gave %d bytes", typ, len(want))
		}
		size := typ.Bytes()
		for i := 0; i < len(got); i += size {
			if !bytes.Equal(got[i:i+size], want[i:i+size]) {
				t.Errorf("%v: block %d is %x, oracle has %x", typ, i/size, got[i:i+size], want[i:i+size])
				break
			}
		}
		want = want[len(got):]
	}
	if len(want) > 0 {
		t.Errorf("%d bytes of the oracle are left", len(want))
	}
}

// TestQuantizeError: decoding gives back what was encoded, within one step.
func TestQuantizeError(t *testing.T) {
	x := values(4096)
	for _, tc := range []struct {
		typ  ggml.Type
		step float64 // of the block's largest magnitude
	}{{ggml.F32, 0}, {ggml.Q8_0, 0.6 / 127}, {ggml.Q4_0, 1.01 / 8}, {ggml.Q4_1, 1.02 / 15}, {ggml.Q5_0, 1.01 / 16}, {ggml.Q5_1, 1.02 / 31}} {
		b := make([]byte, tc.typ.RowBytes(int64(len(x))))
		got := make([]float32, len(x))
		if err := ggml.Quantize(b, x, tc.typ); err != nil {
			t.Fatal(err)
		}
		if err := ggml.Dequantize(got, b, tc.typ); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(x); i += 32 {
			var amax float64
			for _, v := range x[i : i+32] {
				amax = max(amax, math.Abs(float64(v)))
			}
			for j := i; j < i+32; j++ {
				// Below 2^-14 an f16 scale is off by up to 2^-25, here times 127.
				if d := math.Abs(float64(got[j] - x[j])); d > amax*tc.step+127*0x1p-25 {
					t.Errorf("%v: element %d: %v came back as %v (largest %v)", tc.typ, j, x[j], got[j], amax)
				}
			}
		}
	}
}

func TestStream(t *testing.T) {
	x := values(32 * 1008)
	for _, typ := range slices.Concat(encoded, searched) {
		want := make([]byte, typ.RowBytes(int64(len(x))))
		if err := ggml.Quantize(want, x, typ); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		n, err := ggml.Stream{R: tensor.Floats(x), Elements: int64(len(x)), Type: typ}.WriteTo(&b)
		if err != nil || n != int64(len(want)) || !bytes.Equal(b.Bytes(), want) {
			t.Errorf("%v: %d bytes, %v, or they differ", typ, n, err)
		}
	}
	for _, s := range []ggml.Stream{
		{R: tensor.Floats(x), Elements: 256, Type: ggml.IQ2_XXS},
		{R: tensor.Floats(x), Elements: 33, Type: ggml.Q8_0},
		{R: tensor.Floats(x[:10]), Elements: 32, Type: ggml.Q8_0},
	} {
		if _, err := s.WriteTo(&bytes.Buffer{}); err == nil {
			t.Errorf("%v of %d: no error", s.Type, s.Elements)
		}
	}
}

func BenchmarkQuantize(b *testing.B) {
	x := values(1 << 16)
	for _, typ := range slices.Concat(encoded, searched) {
		b.Run(fmt.Sprint(typ), func(b *testing.B) {
			dst := make([]byte, typ.RowBytes(int64(len(x))))
			b.SetBytes(4 << 16)
			for b.Loop() {
				if err := ggml.Quantize(dst, x, typ); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
