package tensor_test

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// half is one 16-bit format and a slow, plain description of its values.
type half struct {
	name             string
	widen            func(uint16) float32
	round            func(float32) uint16
	expBits, manBits int
}

var halves = []half{
	{"F16", tensor.F16ToF32, tensor.F32ToF16, 5, 10},
	{"BF16", tensor.BF16ToF32, tensor.F32ToBF16, 8, 7},
}

func (h half) infinity() uint16 { return uint16(1<<h.expBits-1) << h.manBits }

// value is the number that bits stand for, from the definition of IEEE 754
// binary formats.
func (h half) value(bits uint16) float64 {
	sign := 1.0
	if bits>>15 != 0 {
		sign = -1
	}
	exp := int(bits>>h.manBits) & (1<<h.expBits - 1)
	man := float64(bits & (1<<h.manBits - 1))
	bias := 1<<(h.expBits-1) - 1
	switch {
	case exp == 1<<h.expBits-1 && man != 0:
		return math.NaN()
	case exp == 1<<h.expBits-1:
		return sign * math.Inf(1)
	case exp == 0:
		return sign * math.Ldexp(man, 1-bias-h.manBits)
	}
	return sign * math.Ldexp(man+float64(int(1)<<h.manBits), exp-bias-h.manBits)
}

func sameFloat(a, b float64) bool {
	return a == b && math.Signbit(a) == math.Signbit(b) || math.IsNaN(a) && math.IsNaN(b)
}

// TestAllHalves widens each of the 65536 values and rounds it back.
func TestAllHalves(t *testing.T) {
	for _, h := range halves {
		t.Run(h.name, func(t *testing.T) {
			for i := range 1 << 16 {
				bits := uint16(i)
				f := h.widen(bits)
				if want := h.value(bits); !sameFloat(float64(f), want) {
					t.Fatalf("%#04x widens to %v, want %v", bits, f, want)
				}
				back := h.round(f)
				if math.IsNaN(float64(f)) {
					if !math.IsNaN(h.value(back)) || (back^bits)>>15 != 0 {
						t.Fatalf("NaN %#04x rounds to %#04x", bits, back)
					}
				} else if back != bits {
					t.Fatalf("%#04x widens to %v, which rounds to %#04x", bits, f, back)
				}
			}
		})
	}
}

// TestRoundingBorders looks at the middle between each pair of neighbours, and
// at the float32 values just beside it: half to even, else to the nearer.
func TestRoundingBorders(t *testing.T) {
	for _, h := range halves {
		t.Run(h.name, func(t *testing.T) {
			for lo := range h.infinity() {
				hi := lo + 1
				top := h.value(hi)
				if hi == h.infinity() { // as if the range went on
					top = 2*h.value(lo) - h.value(lo-1)
				}
				middle := float32((h.value(lo) + top) / 2)
				even := lo + lo&1
				for _, c := range []struct {
					f    float32
					want uint16
				}{
					{math.Nextafter32(middle, 0), lo}, {middle, even}, {math.Nextafter32(middle, float32(math.Inf(1))), hi},
				} {
					if c.f == 0 { // below the smallest float32 there is nothing
						continue
					}
					if got := h.round(c.f); got != c.want {
						t.Fatalf("%v (%#x) rounds to %#04x, want %#04x", c.f, math.Float32bits(c.f), got, c.want)
					}
					if got := h.round(-c.f); got != c.want|0x8000 {
						t.Fatalf("%v rounds to %#04x, want %#04x", -c.f, got, c.want|0x8000)
					}
				}
			}
		})
	}
}

func TestRoundingFar(t *testing.T) {
	for _, c := range []struct {
		f         float32
		f16, bf16 uint16
	}{
		{0, 0, 0},
		{float32(math.Copysign(0, -1)), 0x8000, 0x8000},
		{float32(math.Inf(1)), 0x7c00, 0x7f80},
		{float32(math.Inf(-1)), 0xfc00, 0xff80},
		{math.MaxFloat32, 0x7c00, 0x7f80},
		{-math.MaxFloat32, 0xfc00, 0xff80},
		{65519.996, 0x7bff, 0x4780},
		{65520, 0x7c00, 0x4780},
		{math.SmallestNonzeroFloat32, 0, 0},
		{1, 0x3c00, 0x3f80},
	} {
		if got := tensor.F32ToF16(c.f); got != c.f16 {
			t.Errorf("F32ToF16(%v) is %#04x, want %#04x", c.f, got, c.f16)
		}
		if got := tensor.F32ToBF16(c.f); got != c.bf16 {
			t.Errorf("F32ToBF16(%v) is %#04x, want %#04x", c.f, got, c.bf16)
		}
	}
	// A NaN whose payload lies in the low bits alone must not become infinite.
	for _, bits := range []uint32{0x7f800001, 0xff800001, 0x7fffffff, 0x7fc00000} {
		f := math.Float32frombits(bits)
		if got := tensor.F16ToF32(tensor.F32ToF16(f)); got == got {
			t.Errorf("NaN %#x becomes %v as F16", bits, got)
		}
		if got := tensor.BF16ToF32(tensor.F32ToBF16(f)); got == got {
			t.Errorf("NaN %#x becomes %v as BF16", bits, got)
		}
	}
}

// FuzzRounding compares with a search of the nearest value.
func FuzzRounding(f *testing.F) {
	for _, b := range []uint32{0, 1, 0x33000000, 0x33000001, 0x38800000, 0x387fffff, 0x477fefff, 0x477ff000, 0x7f7f7fff, 0x7f7f8000, 0x3f808000} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, bits uint32) {
		x := math.Float32frombits(bits &^ (1 << 31))
		if math.IsNaN(float64(x)) {
			return
		}
		for _, h := range halves {
			lo, hi := uint16(0), h.infinity()
			for hi-lo > 1 { // lo ≤ x < hi
				if mid := lo + (hi-lo)/2; h.value(mid) <= float64(x) {
					lo = mid
				} else {
					hi = mid
				}
			}
			got := h.round(x)
			if got != lo && got != lo+1 {
				t.Fatalf("%s: %v rounds to %#04x, want %#04x or the next", h.name, x, got, lo)
			}
			if math.IsInf(float64(x), 0) || h.infinity() == lo+1 {
				continue // TestRoundingBorders has it
			}
			below, above := float64(x)-h.value(lo), h.value(lo+1)-float64(x)
			want := lo
			if above < below || above == below && lo&1 == 1 {
				want = lo + 1
			}
			if got != want {
				t.Fatalf("%s: %v rounds to %#04x, want %#04x", h.name, x, got, want)
			}
		}
	})
}

func TestDecode(t *testing.T) {
	le := binary.LittleEndian
	for _, c := range []struct {
		d    tensor.DType
		src  []byte
		want []float32
	}{
		{tensor.F64, le.AppendUint64(nil, math.Float64bits(-1.5)), []float32{-1.5}},
		{tensor.F32, le.AppendUint32(nil, math.Float32bits(-1.5)), []float32{-1.5}},
		{tensor.F16, []byte{0x00, 0x3c, 0x01, 0x80}, []float32{1, -0x1p-24}},
		{tensor.BF16, []byte{0x80, 0x3f, 0x00, 0xc0}, []float32{1, -2}},
		{tensor.I64, le.AppendUint64(nil, math.MaxUint64), []float32{-1}},
		{tensor.I32, []byte{0xfe, 0xff, 0xff, 0xff}, []float32{-2}},
		{tensor.I16, []byte{0x00, 0x80}, []float32{-32768}},
		{tensor.I8, []byte{0x80, 0x7f}, []float32{-128, 127}},
		{tensor.U8, []byte{0x80, 0xff}, []float32{128, 255}},
		{tensor.Bool, []byte{0, 1}, []float32{0, 1}},
		{tensor.F32, nil, nil},
	} {
		got := make([]float32, len(c.want))
		if err := tensor.Decode(got, c.src, c.d); err != nil {
			t.Errorf("%v: %v", c.d, err)
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%v: element %d is %v, want %v", c.d, i, got[i], c.want[i])
			}
		}
	}
	for _, c := range []struct {
		d    tensor.DType
		src  []byte
		want string
	}{
		{tensor.F32, make([]byte, 3), "need 4 bytes, have 3"},
		{tensor.F16, make([]byte, 1), "need 2 bytes, have 1"},
		{tensor.Invalid, make([]byte, 8), "not a numeric type"},
		{tensor.U64, make([]byte, 8), "not a numeric type"},
		{tensor.DType(99), make([]byte, 8), "DType(99)"},
	} {
		if err := tensor.Decode(make([]float32, 1), c.src, c.d); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error is %v, want %q", c.d, err, c.want)
		}
	}
}

func TestEncode(t *testing.T) {
	src := []float32{1, -2, 70000, float32(math.Inf(1)), 1e-9, 0, float32(math.NaN())}
	f32, f16, bf16 := make([]byte, 4*len(src)), make([]byte, 2*len(src)), make([]byte, 2*len(src))
	tensor.EncodeF32(f32, src)
	overflow, flushed := tensor.EncodeF16(f16, src)
	tensor.EncodeBF16(bf16, src)
	if overflow != 1 || flushed != 1 {
		t.Errorf("%d overflowed and %d were flushed, want 1 and 1", overflow, flushed)
	}
	for _, c := range []struct {
		d    tensor.DType
		b    []byte
		want func(float32) float32
	}{
		{tensor.F32, f32, func(f float32) float32 { return f }},
		{tensor.F16, f16, func(f float32) float32 { return tensor.F16ToF32(tensor.F32ToF16(f)) }},
		{tensor.BF16, bf16, func(f float32) float32 { return tensor.BF16ToF32(tensor.F32ToBF16(f)) }},
	} {
		got := make([]float32, len(src))
		if err := tensor.Decode(got, c.b, c.d); err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if want := c.want(src[i]); !sameFloat(float64(got[i]), float64(want)) {
				t.Errorf("%v: element %d is %v, want %v", c.d, i, got[i], want)
			}
		}
	}
}

func BenchmarkConvert(b *testing.B) {
	x := make([]float32, 1<<16)
	for i := range x {
		x[i] = float32(i%1000) * 0.01
	}
	buf := make([]byte, 4*len(x))
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"EncodeF16", func() { tensor.EncodeF16(buf, x) }},
		{"EncodeBF16", func() { tensor.EncodeBF16(buf, x) }},
		{"DecodeF16", func() { _ = tensor.Decode(x, buf, tensor.F16) }},
		{"DecodeBF16", func() { _ = tensor.Decode(x, buf, tensor.BF16) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(4 * len(x)))
			for b.Loop() {
				c.f()
			}
		})
	}
}
