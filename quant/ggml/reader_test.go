package ggml_test

import (
	"bytes"
	"iter"
	"math"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
)

func lines(s string) iter.Seq[string] { return strings.SplitSeq(strings.TrimSpace(s), "\n") }

// TestReader asks for ranges that start and end everywhere about block borders
// and compares with the whole tensor decoded at once.
func TestReader(t *testing.T) {
	for _, typ := range decoded {
		n := 5 * 256 / typ.Block()
		src := randomBlocks(typ, n)
		all := make([]float32, n*typ.Block())
		if err := ggml.Dequantize(all, src, typ); err != nil {
			t.Fatal(err)
		}
		r := &ggml.Reader{R: bytes.NewReader(append(make([]byte, 5), src...)), Offset: 5, Type: typ, Elements: int64(len(all))}
		marks := []int{0, 1, 31, 32, 33, 63, 255, 256, 257, 511, 512, 1023, 1279, 1280}
		for _, from := range marks {
			for _, to := range marks {
				if from > to {
					continue
				}
				got := make([]float32, to-from)
				if err := r.ReadFloat32(got, int64(from)); err != nil {
					t.Fatalf("%v [%d:%d]: %v", typ, from, to, err)
				}
				for i, g := range got {
					if math.Float32bits(g) != math.Float32bits(all[from+i]) && g == g {
						t.Fatalf("%v [%d:%d]: element %d is %v, want %v", typ, from, to, i, g, all[from+i])
					}
				}
			}
		}
		for _, bad := range []struct{ offset, n int }{{-1, 1}, {1280, 1}, {1, 1280}, {0, 1281}} {
			if err := r.ReadFloat32(make([]float32, bad.n), int64(bad.offset)); err == nil {
				t.Errorf("%v: %d elements at %d were read", typ, bad.n, bad.offset)
			}
		}
	}
}

// TestReaderLarge crosses many chunks.
func TestReaderLarge(t *testing.T) {
	src := randomBlocks(ggml.Q4_K, 1000)
	all := make([]float32, 256*1000)
	if err := ggml.Dequantize(all, src, ggml.Q4_K); err != nil {
		t.Fatal(err)
	}
	r := &ggml.Reader{R: bytes.NewReader(src), Type: ggml.Q4_K, Elements: int64(len(all))}
	got := make([]float32, len(all)-17-3)
	if err := r.ReadFloat32(got, 17); err != nil {
		t.Fatal(err)
	}
	for i, g := range got {
		if math.Float32bits(g) != math.Float32bits(all[17+i]) && g == g {
			t.Fatalf("element %d is %v, want %v", i, g, all[17+i])
		}
	}
}

func TestReaderErrors(t *testing.T) {
	for _, tc := range []struct {
		name string
		r    ggml.Reader
		want string
	}{
		{"truncated", ggml.Reader{R: bytes.NewReader(make([]byte, 33)), Type: ggml.Q8_0, Elements: 32}, "unexpected EOF"},
		{"no decoder", ggml.Reader{R: bytes.NewReader(make([]byte, 66)), Type: ggml.IQ2_XXS, Elements: 256}, "ggml type IQ2_XXS"},
		{"unknown", ggml.Reader{R: bytes.NewReader(make([]byte, 66)), Type: 77, Elements: 256}, "Type(77)"},
		{"hole in the numbers", ggml.Reader{R: bytes.NewReader(make([]byte, 66)), Type: 4, Elements: 256}, "Type(4)"},
	} {
		err := tc.r.ReadFloat32(make([]float32, 32), 0)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q in it", tc.name, err, tc.want)
		}
	}
}

func TestDequantizeErrors(t *testing.T) {
	for _, tc := range []struct {
		name string
		n    int
		src  int
		typ  ggml.Type
	}{{"part of a block", 31, 34, ggml.Q8_0}, {"short input", 64, 67, ggml.Q8_0}, {"no decoder", 32, 99, ggml.MXFP4}} {
		if err := ggml.Dequantize(make([]float32, tc.n), make([]byte, tc.src), tc.typ); err == nil {
			t.Errorf("%s: no error", tc.name)
		}
	}
}

func BenchmarkDequantize(b *testing.B) {
	for _, typ := range decoded {
		b.Run(typ.String(), func(b *testing.B) {
			src := randomBlocks(typ, 1<<16/typ.Block())
			dst := make([]float32, 1<<16)
			b.SetBytes(4 << 16)
			for b.Loop() {
				if err := ggml.Dequantize(dst, src, typ); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
