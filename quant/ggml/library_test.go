//go:build linux && amd64

package ggml

import (
	"bytes"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"
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

// BenchmarkBesideLibrary times this package and llama.cpp's quantizer in turns,
// on one thread and the same data, and reports the medians of both speeds and
// of the rounds' ratio: above 1 this package is the faster one.
func BenchmarkBesideLibrary(b *testing.B) {
	lib := openLibrary(b)
	const rows, cols = 16, 2048
	r := rand.New(rand.NewPCG(1, 2))
	x, importance := make([]float32, rows*cols), make([]float32, cols)
	for i := range x {
		x[i] = float32(r.NormFloat64() * 0.02)
	}
	for i := range importance {
		importance[i] = float32(math.Exp(r.NormFloat64()))
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, typ := range blockTypes {
		for _, imp := range [][]float32{nil, importance} {
			if imp != nil && !typ.UsesImportance() {
				continue
			}
			name := typ.String()
			if imp != nil {
				name += "-importance"
			}
			b.Run(name, func(b *testing.B) {
				dst := make([]byte, typ.RowBytes(rows*cols))
				var ours, theirs, ratio []float64
				for b.Loop() {
					start := time.Now()
					if err := Encode(dst, x, typ, cols, imp); err != nil {
						b.Fatal(err)
					}
					middle := time.Now()
					lib(typ, &x[0], &dst[0], 0, rows, cols, unsafe.SliceData(imp))
					end := time.Now()
					o, t := middle.Sub(start).Seconds(), end.Sub(middle).Seconds()
					ours, theirs, ratio = append(ours, o), append(theirs, t), append(ratio, t/o)
				}
				b.ReportMetric(rows*cols/1e6/median(ours), "M/s")
				b.ReportMetric(rows*cols/1e6/median(theirs), "llama.cpp-M/s")
				b.ReportMetric(median(ratio), "ratio")
			})
		}
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
