package ggml

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

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

// TestFastKernelsEqualPlain compares both on all samples. Where the processor or
// the noasm tag leaves only the plain kernels it compares these with themselves.
func TestFastKernelsEqualPlain(t *testing.T) {
	t.Logf("fast kernels: %s", fastKernels().name)
	for _, cols := range []int{256, 288} {
		types := blockTypes
		if cols%256 != 0 {
			types = blockTypes[:6]
		}
		for _, s := range samples(cols) {
			for name, imp := range importances(cols) {
				for _, typ := range types {
					both(t, typ, s.x, cols, imp, s.name+", importance "+name)
				}
			}
		}
	}
}

// both encodes with plain and fast kernels, wants the same and returns it.
func both(t *testing.T, typ Type, x []float32, cols int, importance []float32, name string) ([]byte, error) {
	t.Helper()
	plain := make([]byte, typ.RowBytes(int64(len(x))))
	fast := bytes.Clone(plain)
	plainErr := encode(genericKernels(), plain, x, typ, cols, importance)
	fastErr := encode(fastKernels(), fast, x, typ, cols, importance)
	if fmt.Sprint(plainErr) != fmt.Sprint(fastErr) {
		t.Fatalf("%v, %s: error %v, with fast kernels %v", typ, name, plainErr, fastErr)
	}
	if plainErr == nil && !bytes.Equal(plain, fast) {
		t.Errorf("%v, %s: bytes differ between plain and fast kernels", typ, name)
	}
	return fast, fastErr
}

// TestSearchKernels compares what the searches find, bit by bit, on groups that
// sums overflow in and whose extremes lie so close that rounding wraps.
func TestSearchKernels(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	plain, fast := genericKernels(), fastKernels()
	value := []func(i int) float64{
		func(int) float64 { return r.NormFloat64() },
		func(int) float64 { return r.NormFloat64() * 1e38 },
		func(int) float64 { return math.Copysign(3e38, r.Float64()-0.5) },
		func(int) float64 { return r.NormFloat64() * 1e-39 },
		func(int) float64 { return 0 },
		func(int) float64 { return -1 - r.Float64()*0x1p-22 },
		func(i int) float64 { return -1e30 * float64(i%2) },
		func(i int) float64 { return 1e-44 * float64(r.IntN(4)-2) },
		func(i int) float64 { return math.Exp(30*r.NormFloat64()) * float64(1-2*r.IntN(2)) },
		func(i int) float64 { return -1e-15 * r.Float64() },
	}
	weight := []func() float64{
		r.Float64, func() float64 { return 0 }, func() float64 { return r.Float64() * 1e38 },
		func() float64 { return r.Float64() * 1e-38 }, func() float64 { return float64(r.IntN(2)) },
	}
	for round := range 3000 {
		var a lanes
		n := 16 + round%2*16
		for i := range width {
			v, w := value[r.IntN(len(value))], weight[r.IntN(len(weight))]
			for j := range n {
				a.x[j][i] = float32(max(-math.MaxFloat32, min(math.MaxFloat32, v(j))))
				a.w[j][i] = float32(w())
			}
		}
		for _, s := range []*affine{plainQ4K, plainQ5K, plainQ2K, weighted2, weighted4, weighted5} {
			b, c := a, a
			plain.affine(&b, n, s)
			fast.affine(&c, n, s)
			equalFindings(t, fmt.Sprintf("affine search to %v", s.top), &b, &c)
		}
		for _, s := range []*symmetric{symmetric3, symmetric4, symmetric5, symmetric6} {
			b, c := a, a
			plain.symmetric(&b, n, s)
			fast.symmetric(&c, n, s)
			equalFindings(t, fmt.Sprintf("symmetric search to %v", s.top), &b, &c)
		}
		b, c := a, a
		plain.refine(&b)
		fast.refine(&c)
		equalFindings(t, "refinement", &b, &c)
		for i := range width {
			for j := range 16 {
				if b.q[j][i] != c.q[j][i] {
					t.Fatalf("refinement: code %d of group %d is %v, with fast kernels %v", j, i, b.q[j][i], c.q[j][i])
				}
			}
		}
	}
}

func equalFindings(t *testing.T, name string, a, b *lanes) {
	t.Helper()
	for i := range width {
		for f, v := range map[string][2]float32{
			"scale": {a.scale[i], b.scale[i]}, "least value": {a.least[i], b.least[i]}, "inverse": {a.inv[i], b.inv[i]},
			"base": {a.base[i], b.base[i]}, "sum of weights": {a.sumW[i], b.sumW[i]},
		} {
			if math.Float32bits(v[0]) != math.Float32bits(v[1]) && !(v[0] != v[0] && v[1] != v[1]) {
				t.Fatalf("%s, group %d: %s %v, with fast kernels %v", name, i, f, v[0], v[1])
			}
		}
	}
}

// TestEncodeRows: a matrix encoded in parts has the bytes of the whole.
func TestEncodeRows(t *testing.T) {
	const cols = 512
	s := samples(cols)[1]
	row := func(typ Type) int { return int(typ.RowBytes(cols)) }
	for _, typ := range blockTypes {
		for name, imp := range importances(cols) {
			whole := make([]byte, typ.RowBytes(int64(len(s.x))))
			if err := Encode(whole, s.x, typ, cols, imp); err != nil {
				t.Fatalf("%v, importance %s: %v", typ, name, err)
			}
			parts := make([]byte, len(whole))
			for from := 0; from < len(s.x)/cols; from += 3 {
				to := min(from+3, len(s.x)/cols)
				if err := Encode(parts[from*row(typ):], s.x[from*cols:to*cols], typ, cols, imp); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(whole, parts) {
				t.Errorf("%v, importance %s: parts differ from the whole", typ, name)
			}
		}
	}
}

func TestEncodeErrors(t *testing.T) {
	x := func(n int, at int, v float64) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(i%7) - 3
		}
		if n > at {
			x[at] = float32(v)
		}
		return x
	}
	ones := func(n int, at int, v float64) []float32 {
		w := x(n, at, v)
		for i := range w {
			if i != at {
				w[i] = 1
			}
		}
		return w
	}
	for _, tc := range []struct {
		name string
		x    []float32
		typ  Type
		cols int
		imp  []float32
		want string
	}{
		{"NaN", x(1024, 700, math.NaN()), Q4_K, 256, nil, "row 2, column 188: NaN"},
		{"infinity", x(96, 95, math.Inf(-1)), Q8_0, 32, nil, "row 2, column 31: -Inf"},
		{"not whole rows", x(300, 0, 0), Q4_K, 256, nil, "not whole rows of 256"},
		{"no columns", x(256, 0, 0), Q4_K, 0, nil, "not whole rows of 0"},
		{"not whole blocks", x(320, 0, 0), Q6_K, 320, nil, "row of 320 elements is not made of whole blocks of 256"},
		{"no encoder", x(256, 0, 0), IQ2_S, 256, nil, "quantizing to ggml type IQ2_S"},
		{"unknown", x(256, 0, 0), 99, 256, nil, "Type(99)"},
		{"short importance", x(512, 0, 0), Q4_K, 512, ones(256, 0, 1), "importance of 256 columns, want 512"},
		{"negative importance", x(512, 0, 0), Q4_K, 256, ones(256, 9, -1), "importance of column 9 is -1"},
		{"NaN importance", x(512, 0, 0), Q4_0, 256, ones(256, 9, math.NaN()), "importance of column 9 is NaN"},
		{"infinite importance", x(512, 0, 0), Q5_1, 256, ones(256, 9, math.Inf(1)), "importance of column 9 is +Inf"},
		{"scale beyond float16", x(1024, 600, 1e9), Q5_K, 512, nil, "row 1, columns 0 to 255: the block's scale exceeds float16"},
		{"scale beyond float16", x(1024, 600, 1e9), Q8_0, 512, nil, "row 1, columns 64 to 95: the block's scale exceeds float16"},
	} {
		dst := make([]byte, 1<<12)
		err := Encode(dst, tc.x, tc.typ, tc.cols, tc.imp)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q in it", tc.name, err, tc.want)
		}
	}
	if err := Encode(make([]byte, 143), x(256, 0, 0), Q4_K, 256, nil); err == nil || !strings.Contains(err.Error(), "need 144 bytes, have 143") {
		t.Errorf("short destination: %v", err)
	}
	if err := Encode(make([]byte, 144), x(256, 0, 0), Q4_K, 256, ones(256, 3, 0)); err != nil {
		t.Errorf("importance of 0: %v", err)
	}
}

// FuzzEncode feeds arbitrary floats, some of them NaN or infinite, and arbitrary
// importance: no panic, plain and fast kernels agree, what is not finite is
// named, and blocks decode to finite numbers.
func FuzzEncode(f *testing.F) {
	f.Add([]byte{0, 0, 128, 63, 0, 0, 0, 192}, uint8(0), uint8(2), false)
	f.Add([]byte{0xff, 0xff, 0x7f, 0x7f, 1, 0, 0, 0, 0, 0, 0xc0, 0x7f}, uint8(8), uint8(1), true)
	f.Add(bytes.Repeat([]byte{0x12, 0x34, 0x56, 0x3e, 0x65, 0x43, 0x21, 0xbf}, 80), uint8(10), uint8(3), true)
	f.Fuzz(func(t *testing.T, data []byte, choice, nrows uint8, weighted bool) {
		typ := blockTypes[int(choice)%len(blockTypes)]
		rows, block := int(nrows)%3+1, typ.Block()
		floats := make([]float32, len(data)/4)
		for i := range floats {
			floats[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
		// Rows of at least a block, the input over and over.
		cols := (len(floats)/rows/block + 1) * block
		x := make([]float32, rows*cols)
		for i := range x {
			if len(floats) > 0 {
				x[i] = floats[i%len(floats)]
			}
		}
		var importance []float32
		if weighted {
			importance = make([]float32, cols)
			for i := range importance {
				importance[i] = abs(x[len(x)-1-i])
			}
		}
		b, err := both(t, typ, x, cols, importance, "fuzz")
		for i, v := range x {
			if v-v != 0 {
				if want := fmt.Sprintf("row %d, column %d: %v", i/cols, i%cols, v); err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("error %v, want %q in it", err, want)
				}
				return
			}
		}
		if err != nil {
			return
		}
		if err := Dequantize(x, b, typ); err != nil {
			t.Fatal(err)
		}
		for i, v := range x {
			if v-v != 0 {
				t.Fatalf("%v: element %d came back as %v", typ, i, v)
			}
		}
	})
}
