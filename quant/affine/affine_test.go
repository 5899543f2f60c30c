package affine

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// all lists every combination of options.
func all() (out []Options) {
	for _, t := range []tensor.DType{tensor.BF16, tensor.F16, tensor.F32} {
		for _, g := range []int{32, 64, 128} {
			for _, b := range []int{2, 3, 4, 5, 6, 8} {
				out = append(out, Options{Bits: b, Group: g, Type: t})
			}
		}
	}
	return out
}

// odd lists values at the borders of the types.
var odd = []float32{
	0, float32(math.Copysign(0, -1)), 1, -1, 1e-7, -1e-7, 5e-8, 1e-12, math.SmallestNonzeroFloat32, -1e-41,
	65504, -65504, 6.1e-5, 5.9e-8, -3e-8, 0.5, 1.5, 2.5, 255, 1.0 / 3, 7, -8, 1 + 1.0/256, 1 + 3.0/256, 3000.25,
}

// samples gives rows of weights of many kinds, length a multiple of 128.
func samples(seed uint64, groups int) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]float32, 0, 128*groups)
	for range groups {
		size := float32(math.Exp(4 * r.NormFloat64()))
		shift := float32(0)
		kind := r.IntN(8)
		if kind == 1 { // one sign alone
			shift = 6 * size * float32(1-2*r.IntN(2))
		}
		for range 128 {
			v := size*float32(r.NormFloat64()) + shift
			switch kind {
			case 2: // small integers, which meet halves
				v = float32(r.IntN(31) - 15)
			case 3: // constant
				v = size
			case 4: // mostly nothing
				if r.IntN(8) != 0 {
					v = 0
				}
			case 5:
				v = odd[r.IntN(len(odd))]
			case 6: // tiny
				v *= 1e-6
			}
			x = append(x, max(min(v, 65504), -65504))
		}
	}
	return x
}

func quantized(t *testing.T, kn kernels, x []float32, rows, k int, o Options) Rows {
	t.Helper()
	p := MakeRows(rows, k, o)
	if err := kn.quantizeRows(p, x, rows, k, o); err != nil {
		t.Fatalf("%v: %v", o, err)
	}
	return p
}

func equal(a, b Rows) bool {
	return bytes.Equal(a.Words, b.Words) && bytes.Equal(a.Scales, b.Scales) && bytes.Equal(a.Biases, b.Biases)
}

// TestKernels compares assembly with the Go code beside it, on lengths that end
// within a batch and beyond one.
func TestKernels(t *testing.T) {
	fast := fastKernels()
	if fast.name == "generic" {
		t.Skip("no assembly here")
	}
	for _, groups := range []int{1, 3, 16, 17, 40} {
		x := samples(uint64(groups), groups)
		for _, o := range all() {
			if !equal(quantized(t, genericKernels(), x, groups, 128, o), quantized(t, fast, x, groups, 128, o)) {
				t.Errorf("%d rows of 128, %v: assembly and Go differ", groups, o)
			}
		}
	}
}

// TestSplit: rows may be quantized in any portions.
func TestSplit(t *testing.T) {
	const rows, k = 21, 384
	x := samples(7, rows*k/128)
	for _, o := range all() {
		whole := quantized(t, fastKernels(), x, rows, k, o)
		var parts Rows
		for r := 0; r < rows; r += 4 {
			n := min(4, rows-r)
			p := quantized(t, fastKernels(), x[r*k:][:n*k], n, k, o)
			parts.Words = append(parts.Words, p.Words...)
			parts.Scales = append(parts.Scales, p.Scales...)
			parts.Biases = append(parts.Biases, p.Biases...)
		}
		if !equal(whole, parts) {
			t.Errorf("%v: bytes depend on how rows are split", o)
		}
	}
}

// TestKnown are groups whose codes can be told by hand.
func TestKnown(t *testing.T) {
	ramp := make([]float32, 32)
	for i := range ramp {
		ramp[i] = float32(i%16) - 8
	}
	for _, c := range []struct {
		name        string
		x           []float32
		o           Options
		words       []byte // the first
		scale, bias float32
	}{
		{"integers", ramp, Options{Bits: 4, Group: 32, Type: tensor.F32}, []byte{0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe}, 1, -8},
		// 0 … 7 from code 8 on: 01 23 … as three bytes for eight codes.
		{"three bits", repeat([]float32{0, 1, 2, 3, 4, 5, 6, 7}), Options{Bits: 3, Group: 32, Type: tensor.F32}, []byte{0x77, 0x39, 0x05}, -1, 7},
		{"zeros", make([]float32, 32), Options{Bits: 4, Group: 32, Type: tensor.F32}, []byte{0, 0}, -1e-7, 0},
		{"five bits", repeat([]float32{0, 31, 0, 31, 0, 31, 0, 31}), Options{Bits: 5, Group: 32, Type: tensor.F32}, []byte{0x1f, 0x7c, 0xf0, 0xc1, 0x07}, -1, 31},
		{"six bits", repeat([]float32{-63, 0, 0, -62}), Options{Bits: 6, Group: 32, Type: tensor.F32}, []byte{0xc0, 0xff, 0x07}, 1, -63},
		{"eight bits", repeat([]float32{-255, 0, -254}), Options{Bits: 8, Group: 32, Type: tensor.F32}, []byte{0, 255, 1}, 1, -255},
	} {
		p := quantized(t, fastKernels(), c.x, 1, 32, c.o)
		var s, b [1]float32
		if err := tensor.Decode(s[:], p.Scales, tensor.F32); err != nil {
			t.Fatal(err)
		}
		if err := tensor.Decode(b[:], p.Biases, tensor.F32); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(p.Words, c.words) || s[0] != c.scale || b[0] != c.bias {
			t.Errorf("%s: words % x, scale %v, bias %v; want % x…, %v, %v", c.name, p.Words[:8], s[0], b[0], c.words, c.scale, c.bias)
		}
	}
}

func repeat(x []float32) []float32 { return slices.Repeat(x, 32/len(x)+1)[:32] }

func TestRefusals(t *testing.T) {
	ok := Options{Bits: 4, Group: 32, Type: tensor.F16}
	for _, c := range []struct {
		name string
		x    []float32
		k    int
		o    Options
		want string
	}{
		{"bits", make([]float32, 32), 32, Options{Bits: 7}, "7 bits"},
		{"one bit", make([]float32, 32), 32, Options{Bits: 1}, "1 bits"},
		{"group", make([]float32, 32), 32, Options{Group: 16}, "groups of 16"},
		{"type", make([]float32, 32), 32, Options{Group: 32, Type: tensor.F64}, "type F64"},
		{"remainder", make([]float32, 48), 48, ok, "no multiple"},
		{"length", make([]float32, 32), 64, ok, "32 weights"},
		{"NaN", append(make([]float32, 31), float32(math.NaN())), 32, ok, "weight 31 is NaN"},
		{"infinite", append(make([]float32, 31), float32(math.Inf(-1))), 32, ok, "weight 31 is -Inf"},
		{"beyond float16", append(make([]float32, 31), 70000), 32, ok, "too large for F16"},
		{"range beyond float32", append(make([]float32, 30), 3e38, -3e38), 32, Options{Group: 32, Type: tensor.F32}, "too large for F32"},
	} {
		for _, kn := range []kernels{genericKernels(), fastKernels()} {
			rows := len(c.x) / c.k
			if c.name == "length" {
				rows = 1
			}
			p := Rows{make([]byte, 16), make([]byte, 2), make([]byte, 2)}
			if c.o.Type == tensor.F32 {
				p.Scales, p.Biases = make([]byte, 4), make([]byte, 4)
			}
			err := kn.quantizeRows(p, c.x, rows, c.k, c.o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s (%s): error %v, want one with %q", c.name, kn.name, err, c.want)
			}
		}
	}
	short := MakeRows(1, 32, ok)
	short.Words = short.Words[:8]
	if err := QuantizeRows(short, make([]float32, 32), 1, 32, ok); err == nil {
		t.Error("short words are taken")
	}
	if err := DequantizeRows(make([]float32, 32), short, 1, 32, ok); err == nil {
		t.Error("short words are read")
	}
}

// FuzzQuantize: any finite weights come back within half a step and what the
// rounding of scale and bias to their type adds, and both kernels agree.
func FuzzQuantize(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), uint8(4), uint8(0), uint8(0))
	f.Add([]byte{0, 0, 128, 63, 0, 0, 128, 191}, uint8(3), uint8(1), uint8(1))
	f.Add([]byte{255, 255, 127, 127, 1, 0, 0, 128}, uint8(5), uint8(2), uint8(2))
	f.Fuzz(func(t *testing.T, raw []byte, bits, group, kind uint8) {
		o := Options{
			Bits: []int{2, 3, 4, 5, 6, 8}[bits%6], Group: 32 << (group % 3),
			Type: []tensor.DType{tensor.BF16, tensor.F16, tensor.F32}[kind%3],
		}
		raw = raw[:min(len(raw), 1<<14)&^3]
		if len(raw) == 0 {
			return
		}
		rows := (len(raw)/4 + o.Group - 1) / o.Group
		x := make([]float32, rows*o.Group)
		if err := tensor.Decode(x[:len(raw)/4], raw, tensor.F32); err != nil {
			t.Fatal(err)
		}
		a, b := MakeRows(rows, o.Group, o), MakeRows(rows, o.Group, o)
		errA, errB := genericKernels().quantizeRows(a, x, rows, o.Group, o), fastKernels().quantizeRows(b, x, rows, o.Group, o)
		if (errA == nil) != (errB == nil) {
			t.Fatalf("errors differ: %v, %v", errA, errB)
		}
		if errA != nil {
			return
		}
		if !equal(a, b) {
			t.Fatal("assembly and Go differ")
		}
		y := make([]float32, len(x))
		if err := DequantizeRows(y, a, rows, o.Group, o); err != nil {
			t.Fatal(err)
		}
		for g := 0; g < len(x); g += o.Group {
			low, high := slices.Min(x[g:][:o.Group]), slices.Max(x[g:][:o.Group])
			edge := float64(max(abs(low), abs(high)))
			if edge > 1e30 { // beyond which the smallest scale overflows
				continue
			}
			top := float64(int(1)<<o.Bits - 1)
			step := max((float64(high)-float64(low))/top, 1e-7)
			// The zero point is rounded to a code, which moves the far end by
			// half a step more; the type has 8 bits at least.
			ulp := map[tensor.DType]float64{tensor.BF16: 1.0 / 256, tensor.F16: 1.0 / 1024, tensor.F32: 1e-6}[o.Type]
			limit := 2*step + 4*ulp*edge + 1e-6
			if o.Type == tensor.F16 {
				limit += top * 0x1p-25 // scales may be subnormal
			}
			for i, v := range x[g:][:o.Group] {
				if d := math.Abs(float64(v) - float64(y[g+i])); !(d <= limit) {
					t.Fatalf("%v: %v came back as %v; low %v, high %v", o, v, y[g+i], low, high)
				}
			}
		}
	})
}

func BenchmarkQuantizeRows(b *testing.B) {
	const rows, k = 64, 4096
	x := samples(3, rows*k/128)
	for _, kn := range []kernels{genericKernels(), fastKernels()} {
		for _, o := range []Options{{Bits: 4}, {Bits: 3}, {Bits: 8}, {Bits: 4, Type: tensor.F16}, {Bits: 4, Type: tensor.F32}} {
			b.Run(fmt.Sprintf("%s/%d-bit-%v", kn.name, o.Bits, o.Filled().Type), func(b *testing.B) {
				p := MakeRows(rows, k, o)
				b.SetBytes(4 * rows * k)
				for b.Loop() {
					if err := kn.quantizeRows(p, x, rows, k, o); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(rows*k*b.N)/b.Elapsed().Seconds()/1e6, "Mweights/s")
			})
		}
	}
}
