//go:build !noasm

package tensor

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

// TestVectorConversions compares the vector conversions with the plain ones,
// over every float16 and bfloat16 and float32 of every exponent.
func TestVectorConversions(t *testing.T) {
	if !halves {
		t.Log("this CPU has no F16C: the plain conversions alone are used")
		return
	}
	both := func(f func()) (fast, plain func()) {
		return func() { halves = true; f() }, func() { halves = false; f() }
	}
	defer func() { halves = true }()

	src := make([]byte, 2*65536)
	for i := range 65536 {
		src[2*i], src[2*i+1] = byte(i), byte(i>>8)
	}
	for _, d := range []DType{F16, BF16} {
		dst := make([]float32, 65536)
		fast, plain := both(func() {
			if err := Decode(dst, src, d); err != nil {
				t.Fatal(err)
			}
		})
		fast()
		got := append([]float32(nil), dst...)
		plain()
		for i := range dst {
			g, w := math.Float32bits(got[i]), math.Float32bits(dst[i])
			// VCVTPH2PS makes signalling NaNs quiet.
			if g != w && !(got[i] != got[i] && dst[i] != dst[i]) {
				t.Fatalf("%v %#04x: %#08x, want %#08x", d, i, g, w)
			}
		}
	}

	r := rand.New(rand.NewPCG(1, 2))
	values := []float32{0, -1, 65504, 65519.996, 65520, -65520, 1e9, 0x1p-24, 0x1p-25, 0x1.000002p-25, -0x1p-26, 1e-40}
	for range 100_000 {
		if v := math.Float32frombits(r.Uint32()); v == v {
			values = append(values, v)
		}
	}
	values = append(values, values[:12]...)
	for _, n := range []int{0, 1, 7, 8, 9, 12, 16, 31, len(values)} {
		dst := make([]byte, 2*n)
		var over, flushed int
		fast, plain := both(func() { over, flushed = EncodeF16(dst, values[:n]) })
		fast()
		gotBytes, gotOver, gotFlushed := bytes.Clone(dst), over, flushed
		plain()
		if !bytes.Equal(gotBytes, dst) || gotOver != over || gotFlushed != flushed {
			t.Errorf("%d values: %d overflows and %d flushed, want %d and %d, and the same bytes", n, gotOver, gotFlushed, over, flushed)
		}
	}
	// One at a time, so that the flag of each border is seen.
	for _, v := range values[:12] {
		eight := []float32{1, 1, 1, v, 1, 1, 1, 1}
		dst := make([]byte, 16)
		over, flushed := EncodeF16(dst, eight)
		h := F32ToF16(v)
		if (over == 1) != (h&0x7fff == 0x7c00) || (flushed == 1) != (h&0x7fff == 0 && v != 0) {
			t.Errorf("%v: %d overflows and %d flushed, its float16 is %#04x", v, over, flushed, h)
		}
	}
}

func BenchmarkEncodeF16(b *testing.B) {
	src, dst := make([]float32, 1<<16), make([]byte, 2<<16)
	for i := range src {
		src[i] = float32(i%1000) / 997
	}
	b.SetBytes(4 << 16)
	for b.Loop() {
		EncodeF16(dst, src)
	}
}
