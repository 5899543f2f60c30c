//go:build linux && amd64

package ggml

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
)

// library is ggml_quantize_chunk of the pinned llama.cpp library.
type library func(t Type, src *float32, dst *byte, start, rows, cols int64, importance *float32) uint64

func openLibrary(t testing.TB) library {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: no comparison with llama.cpp")
	}
	h, err := purego.Dlopen(filepath.Join(oracle.LlamaCpp(t), "libggml-base.so"), purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		t.Fatal(err)
	}
	var f library
	purego.RegisterLibFunc(&f, h, "ggml_quantize_chunk")
	return f
}

func (f library) quantize(typ Type, x []float32, cols int, importance []float32) []byte {
	dst := make([]byte, typ.RowBytes(int64(len(x))))
	f(typ, &x[0], &dst[0], 0, int64(len(x)/cols), int64(cols), unsafe.SliceData(importance))
	return dst
}

var blockTypes = []Type{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K}

// sample is a matrix with a name.
type sample struct {
	name string
	cols int
	x    []float32
}

// samples are rows of many kinds; cols is a multiple of 256.
func samples(cols int) []sample {
	const rows = 4
	r := rand.New(rand.NewPCG(uint64(cols), 5))
	var out []sample
	add := func(name string, value func(row, col int) float64) {
		x := make([]float32, rows*cols)
		for i := range x {
			x[i] = float32(value(i/cols, i%cols))
		}
		out = append(out, sample{name, cols, x})
	}
	add("normal", func(int, int) float64 { return r.NormFloat64() * 0.02 })
	add("heavy tails", func(int, int) float64 { v := r.NormFloat64(); return v * v * v * math.Exp(r.NormFloat64()) * 0.01 })
	add("outliers", func(int, int) float64 {
		v := r.NormFloat64()
		if r.IntN(100) == 0 {
			v *= 500
		}
		return v
	})
	add("zeros", func(int, int) float64 { return 0 })
	add("zeros of both signs", func(int, int) float64 { return math.Copysign(0, r.Float64()-0.5) })
	add("constants", func(row, col int) float64 { return float64(row-5) / 3 })
	add("constant groups", func(row, col int) float64 { return float64((row*7+col/16*5)%11-5) / 7 })
	add("positive", func(int, int) float64 { return 3 + r.Float64() })
	add("negative", func(int, int) float64 { return -3 - r.Float64() })
	add("mostly zeros", func(int, int) float64 { return r.NormFloat64() * float64(r.IntN(12)/11) })
	add("one value a group", func(row, col int) float64 {
		if col%32 == row {
			return r.NormFloat64()
		}
		return 0
	})
	add("halves", func(int, int) float64 { return float64(r.IntN(61)-30) / 2 })
	add("few values", func(int, int) float64 { return float64(r.IntN(3)-1) * 0.1 })
	add("two magnitudes", func(int, int) float64 { return math.Copysign(0.25, r.Float64()-0.5) })
	add("near a constant", func(int, int) float64 { return -1 + r.Float64()*0x1p-22 })
	for _, e := range []int{-160, -140, -126, -70, -50, -30, -24, -17, 8, 15, 16, 30, 60, 63, 64, 90, 126} {
		add(fmt.Sprintf("2^%d", e), func(int, int) float64 { return max(-2, min(1.9, r.NormFloat64())) * math.Exp2(float64(e)) })
	}
	add("scales by group", func(row, col int) float64 { return r.NormFloat64() * math.Exp2(float64((col/16*7+row)%40-28)) })
	add("scales by block", func(row, col int) float64 { return r.NormFloat64() * math.Exp2(float64((col/256*7+row*5)%60-40)) })
	add("ramp", func(row, col int) float64 { return float64(col%256-row*20) / 64 })
	add("laplace", func(int, int) float64 { return r.ExpFloat64() * float64(1-2*r.IntN(2)) })
	return out
}

// importances are nil and weights of many kinds for cols columns.
func importances(cols int) map[string][]float32 {
	r := rand.New(rand.NewPCG(uint64(cols), 6))
	out := map[string][]float32{"none": nil}
	add := func(name string, value func(col int) float64) {
		w := make([]float32, cols)
		for i := range w {
			w[i] = float32(value(i))
		}
		out[name] = w
	}
	add("ones", func(int) float64 { return 1 })
	add("log-normal", func(int) float64 { return math.Exp(2 * r.NormFloat64()) })
	add("some zeros", func(int) float64 { return r.Float64() * float64(r.IntN(2)) })
	add("zero blocks", func(col int) float64 { return r.Float64() * float64(col/64%2) })
	add("zeros", func(int) float64 { return 0 })
	add("tiny", func(int) float64 { return r.Float64() * 1e-30 })
	add("huge", func(int) float64 { return r.Float64() * 1e30 })
	return out
}

// realRows are the weights of a trained model, row by row; tensors too narrow
// for a block are read as wider ones.
func realRows(t testing.TB, cols int) []sample {
	t.Helper()
	c, err := safetensors.Open("../../samples/stories260K/model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var all []float32
	for _, w := range c.Tensors() {
		x := make([]float32, w.Elements())
		if err := w.ReadFloat32(x, 0); err != nil {
			t.Fatal(err)
		}
		all = append(all, x...)
	}
	return []sample{{"stories260K", cols, all[:len(all)/cols*cols]}}
}

// TestEncodeEqualsLibrary wants the bytes of llama.cpp's quantizer from both
// kinds of kernels, or an error where that quantizer stores infinities or NaN.
func TestEncodeEqualsLibrary(t *testing.T) {
	lib := openLibrary(t)
	var blocks, refused int
	for _, cols := range []int{256, 768} {
		all := append(samples(cols), realRows(t, cols)...)
		imps := importances(cols)
		for _, typ := range blockTypes {
			for name, imp := range imps {
				for _, s := range all {
					b, r := compare(t, lib, typ, s, name, imp)
					blocks, refused = blocks+b, refused+r
				}
			}
		}
	}
	for _, cols := range []int{32, 96, 576} { // no multiples of 256
		imps := importances(cols)
		for _, s := range append(samples(cols), realRows(t, cols)...) {
			for _, typ := range blockTypes[:6] {
				for name, imp := range imps {
					b, r := compare(t, lib, typ, s, name, imp)
					blocks, refused = blocks+b, refused+r
				}
			}
		}
	}
	t.Logf("%d blocks equal, %d matrices refused", blocks, refused)
}

// compare returns the number of blocks that are equal, and whether the matrix
// was refused.
func compare(t *testing.T, lib library, typ Type, s sample, name string, importance []float32) (blocks, refused int) {
	t.Helper()
	want := lib.quantize(typ, s.x, s.cols, importance)
	for _, k := range []*kernels{genericKernels(), fastKernels()} {
		got := make([]byte, len(want))
		err := encode(k, got, s.x, typ, s.cols, importance)
		if (err != nil) != (checkScales(want, typ, s.cols) != nil) {
			t.Errorf("%v, %s of %d, importance %s, %s kernels: error %v", typ, s.name, s.cols, name, k.name, err)
			continue
		}
		if err != nil {
			return 0, 1
		}
		size := typ.Bytes()
		for i := 0; i < len(want); i += size {
			if !bytes.Equal(got[i:i+size], want[i:i+size]) {
				t.Errorf("%v, %s of %d, importance %s, %s kernels: block %d is %x, llama.cpp has %x", typ, s.name, s.cols, name, k.name, i/size, got[i:i+size], want[i:i+size])
				break
			}
		}
	}
	return len(want) / typ.Bytes(), 0
}
