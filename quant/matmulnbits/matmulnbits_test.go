package matmulnbits_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/quant"
	"github.com/llama-pajamas/llama-pajamas/quant/matmulnbits"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// everyOption calls f with each combination of layout and method.
func everyOption(f func(o matmulnbits.Options)) {
	for _, bits := range []int{2, 4, 8} {
		for _, block := range []int{16, 32, 64, 128, 256} {
			for _, sym := range []bool{false, true} {
				for _, scale := range []tensor.DType{tensor.F16, tensor.F32} {
					for _, m := range []matmulnbits.Method{matmulnbits.Search, matmulnbits.RTN} {
						f(matmulnbits.Options{Bits: bits, Block: block, Symmetric: sym, ScaleType: scale, Method: m})
					}
				}
			}
		}
	}
}

func quantize(t testing.TB, w []float32, rows, k int, o matmulnbits.Options) (matmulnbits.Rows, quant.Stats) {
	t.Helper()
	r := matmulnbits.MakeRows(rows, k, o)
	for _, b := range [][]byte{r.Data, r.Scales, r.Zeros} {
		for i := range b {
			b[i] = 0xa5 // what was there before must not matter
		}
	}
	st, err := matmulnbits.QuantizeRows(r, w, rows, k, o)
	if err != nil {
		t.Fatalf("%v, %v: %v", o.Scheme(), o.Method, err)
	}
	return r, st
}

func dequantize(t testing.TB, r matmulnbits.Rows, rows, k int, o matmulnbits.Options) []float32 {
	t.Helper()
	w := make([]float32, rows*k)
	if err := matmulnbits.DequantizeRows(w, r, rows, k, o); err != nil {
		t.Fatal(err)
	}
	return w
}

func gaussian(n int, seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, seed))
	w := make([]float32, n)
	for i := range w {
		w[i] = float32(r.NormFloat64()) * 0.1
	}
	return w
}

func TestLayoutByHand(t *testing.T) {
	// Codes 0..15 twice over, zero point 3, scale 0.5: exact with 4 bits.
	const k = 40
	w := make([]float32, k)
	for i := range w {
		w[i] = (float32(i%16) - 3) * 0.5
	}
	r, st := quantize(t, w, 1, k, matmulnbits.Options{})
	want := matmulnbits.Rows{
		Data: []byte{
			0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, 0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe,
			0x10, 0x32, 0x54, 0x76, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		},
		Scales: []byte{0x00, 0x38, 0x00, 0x38}, // 0.5 in float16
		Zeros:  []byte{0x33},
	}
	// The second block spans 8 integers only, so any zero point from 3 to 10 is
	// as good; what counts is the value.
	if st.Error != 0 || !bytes.Equal(r.Data[:16], want.Data[:16]) || !bytes.Equal(r.Scales[:2], want.Scales[:2]) || r.Zeros[0]&0xf != 3 {
		t.Errorf("first block: data % x, scales % x, zeros % x, error %v; want % x, % x, % x, 0", r.Data[:16], r.Scales, r.Zeros, st.Error, want.Data[:16], want.Scales, want.Zeros)
	}
	if !bytes.Equal(r.Data[20:], want.Data[20:]) {
		t.Errorf("padding is % x, want zeros", r.Data[20:])
	}
	if got := dequantize(t, r, 1, k, matmulnbits.Options{}); firstFloatDifference(got, w) >= 0 {
		t.Errorf("read back %v, want %v", got, w)
	}
}

func firstFloatDifference(a, b []float32) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// TestLosslessSources: weights that came out of ggml blocks of the same length
// and bits are stored exactly.
func TestLosslessSources(t *testing.T) {
	const rows, k = 64, 256
	r := rand.New(rand.NewPCG(3, 4))
	lattice := func(lo, hi int, extreme int) []float32 {
		w := make([]float32, rows*k)
		for b := 0; b < len(w); b += 32 {
			d := tensor.F16ToF32(tensor.F32ToF16(float32(r.NormFloat64()) * 0.01))
			for i := range 32 {
				w[b+i] = d * float32(lo+r.IntN(hi-lo+1))
			}
			w[b+r.IntN(32)] = d * float32(extreme) // ggml puts the largest magnitude there
		}
		return w
	}
	for _, c := range []struct {
		name string
		w    []float32
		o    matmulnbits.Options
	}{
		{"Q4_0, symmetric", lattice(-7, 7, -8), matmulnbits.Options{Symmetric: true}},
		{"Q4_0, asymmetric", lattice(-7, 7, -8), matmulnbits.Options{}},
		{"one-sided Q4_0, asymmetric", lattice(-7, 0, -8), matmulnbits.Options{}},
		{"narrow Q4_0, asymmetric", lattice(-2, 3, -8), matmulnbits.Options{}},
		{"Q8_0, symmetric", lattice(-126, 126, 127), matmulnbits.Options{Bits: 8, Symmetric: true}},
		{"zeros", make([]float32, rows*k), matmulnbits.Options{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, st := quantize(t, c.w, rows, k, c.o)
			got := dequantize(t, q, rows, k, c.o)
			if i := firstFloatDifference(got, c.w); i >= 0 {
				t.Errorf("weight %d is %v, want %v", i, got[i], c.w[i])
			}
			if st.Error != 0 {
				t.Errorf("error %v, want 0", st.Error)
			}
		})
	}
}

// TestErrorsAreMeasuredAndBounded: the figures returned are those of the stored
// bytes, the search is never worse than rounding to nearest, and no weight is
// further off than the grid allows.
func TestErrorsAreMeasuredAndBounded(t *testing.T) {
	const rows = 24
	everyOption(func(o matmulnbits.Options) {
		if o.Method == matmulnbits.RTN {
			return
		}
		for _, k := range []int{o.Block, 3*o.Block - 5} {
			name := fmt.Sprintf("%v, K %d", o.Scheme(), k)
			w := hardRows(rows, k, o.Block, false)
			sr, searched := quantize(t, w, rows, k, o)
			back := dequantize(t, sr, rows, k, o)
			var measured quant.Stats
			measured.AddSlices(w, back)
			if !near(searched.Error, measured.Error) || !near(searched.Energy, measured.Energy) || !near(searched.MaxError, measured.MaxError) || searched.Weights != measured.Weights {
				t.Errorf("%s: reported %+v, measured %+v", name, searched, measured)
			}
			o := o
			o.Method = matmulnbits.RTN
			nr, nearest := quantize(t, w, rows, k, o)
			measured = quant.Stats{}
			measured.AddSlices(w, dequantize(t, nr, rows, k, o))
			if !near(nearest.Error, measured.Error) || !near(nearest.MaxError, measured.MaxError) {
				t.Errorf("%s: rounding reported %+v, measured %+v", name, nearest, measured)
			}
			if searched.Error > nearest.Error*1.0001 {
				t.Errorf("%s: the search's error %v exceeds that of rounding, %v", name, searched.Error, nearest.Error)
			}
		}
	})
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-4*math.Max(math.Abs(a), math.Abs(b))+1e-30 }

// TestSearchGain holds the search to what was measured for Gaussian weights.
func TestSearchGain(t *testing.T) {
	const rows, k = 64, 576
	w := gaussian(rows*k, 1)
	for _, c := range []struct {
		o    matmulnbits.Options
		most float64 // relative squared error
	}{
		{matmulnbits.Options{}, 0.00590},
		{matmulnbits.Options{Symmetric: true}, 0.00660},
		{matmulnbits.Options{Bits: 8, Symmetric: true}, 2.3e-5},
		{matmulnbits.Options{Bits: 8}, 1.8e-5},
	} {
		_, st := quantize(t, w, rows, k, c.o)
		if got := st.RelativeMSE(); got > c.most {
			t.Errorf("%v: relative error %.6g, want at most %.6g", c.o.Scheme(), got, c.most)
		}
	}
}

// TestImportance: the error moves from important columns to others, and the
// scale of the importance does not matter.
func TestImportance(t *testing.T) {
	const rows, k = 32, 256
	w := gaussian(rows*k, 5)
	imp := make([]float32, k)
	r := rand.New(rand.NewPCG(6, 7))
	for i := range imp {
		imp[i] = float32(math.Exp(r.NormFloat64() * 1.5))
	}
	weighted := func(q []float32) (e float64) {
		for i, x := range w {
			d := float64(x - q[i])
			e += d * d * float64(imp[i%k])
		}
		return e
	}
	o := matmulnbits.Options{}
	plain, _ := quantize(t, w, rows, k, o)
	o.Importance = imp
	guided, _ := quantize(t, w, rows, k, o)
	a, b := weighted(dequantize(t, plain, rows, k, o)), weighted(dequantize(t, guided, rows, k, o))
	if b > a*0.85 {
		t.Errorf("weighted error %v with importance, %v without: want it at least 15 %% lower", b, a)
	}

	scaled := make([]float32, k)
	for i, v := range imp {
		scaled[i] = v * 0x1p-20
	}
	o.Importance = scaled
	again, _ := quantize(t, w, rows, k, o)
	if !bytes.Equal(again.Data, guided.Data) || !bytes.Equal(again.Scales, guided.Scales) || !bytes.Equal(again.Zeros, guided.Zeros) {
		t.Error("importance scaled by a power of two gives other bytes")
	}

	// Nothing known about any channel is the same as all alike; dead channels
	// do no harm.
	o.Importance = make([]float32, k)
	blind, _ := quantize(t, w, rows, k, o)
	if !bytes.Equal(blind.Data, plain.Data) {
		t.Error("importance 0 everywhere differs from none")
	}
	for i := range 64 {
		o.Importance[128+i%32] = 1 // two blocks dead beside a live one
	}
	_, st := quantize(t, w, rows, k, o)
	if st.RelativeMSE() > 0.02 {
		t.Errorf("dead channels: relative error %v", st.RelativeMSE())
	}
}

// TestRowsAreIndependent: any split of the rows gives the same bytes.
func TestRowsAreIndependent(t *testing.T) {
	const rows, k = 13, 100
	w := hardRows(rows, k, 32, false)
	everyOption(func(o matmulnbits.Options) {
		if o.Block != 32 {
			return
		}
		whole, _ := quantize(t, w, rows, k, o)
		var parts matmulnbits.Rows
		for from := 0; from < rows; from += 3 {
			n := min(3, rows-from)
			r, _ := quantize(t, w[from*k:(from+n)*k], n, k, o)
			parts.Data = append(parts.Data, r.Data...)
			parts.Scales = append(parts.Scales, r.Scales...)
			parts.Zeros = append(parts.Zeros, r.Zeros...)
		}
		if !bytes.Equal(whole.Data, parts.Data) || !bytes.Equal(whole.Scales, parts.Scales) || !bytes.Equal(whole.Zeros, parts.Zeros) {
			t.Errorf("%v, %v: split rows give other bytes", o.Scheme(), o.Method)
		}
	})
}

func TestBadWeights(t *testing.T) {
	const rows, k = 3, 70
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		name     string
		row, col int
		value    float32
		scale    tensor.DType
		want     string
	}{
		{"NaN", 1, 69, nan, tensor.F16, "row 1, column 69 is NaN"},
		{"NaN first", 0, 0, nan, tensor.F32, "row 0, column 0 is NaN"},
		{"infinite", 2, 33, inf, tensor.F16, "row 2, column 33 is +Inf"},
		{"minus infinite", 2, 32, -inf, tensor.F32, "row 2, column 32 is -Inf"},
		{"too large for float16 scales", 1, 5, 5e7, tensor.F16, "row 1, column 5 is 5e+07: too large"},
		{"too large for float32 sums", 1, 5, -1e38, tensor.F32, "row 1, column 5 is -1e+38: too large"},
	} {
		for _, m := range []matmulnbits.Method{matmulnbits.RTN, matmulnbits.Search} {
			for _, sym := range []bool{false, true} {
				o := matmulnbits.Options{Method: m, Symmetric: sym, ScaleType: c.scale}
				w := gaussian(rows*k, 9)
				w[c.row*k+c.col] = c.value
				_, err := matmulnbits.QuantizeRows(matmulnbits.MakeRows(rows, k, o), w, rows, k, o)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s, %v, symmetric %v: error %v, want one with %q", c.name, m, sym, err, c.want)
				}
			}
		}
	}
}

func TestBadArguments(t *testing.T) {
	good := matmulnbits.MakeRows(2, 64, matmulnbits.Options{})
	w := make([]float32, 128)
	for _, c := range []struct {
		name string
		dst  matmulnbits.Rows
		rows int
		k    int
		o    matmulnbits.Options
		want string
	}{
		{"bits", good, 2, 64, matmulnbits.Options{Bits: 3}, "3 bits"},
		{"block", good, 2, 64, matmulnbits.Options{Block: 48}, "block length 48"},
		{"long block", good, 2, 64, matmulnbits.Options{Block: 512}, "block length 512"},
		{"scale type", good, 2, 64, matmulnbits.Options{ScaleType: tensor.BF16}, "BF16"},
		{"method", good, 2, 64, matmulnbits.Options{Method: 9}, "Method(9)"},
		{"importance length", good, 2, 64, matmulnbits.Options{Importance: make([]float32, 63)}, "63 input channels"},
		{"negative importance", good, 2, 64, matmulnbits.Options{Importance: append(make([]float32, 63), -1)}, "channel 63 is -1"},
		{"NaN importance", good, 2, 64, matmulnbits.Options{Importance: append(make([]float32, 63), float32(math.NaN()))}, "channel 63 is NaN"},
		{"short buffers", matmulnbits.MakeRows(1, 64, matmulnbits.Options{}), 2, 64, matmulnbits.Options{}, "buffers for 2 rows"},
		{"wrong count", good, 2, 63, matmulnbits.Options{}, "have 128 weights"},
		{"negative", good, -2, -64, matmulnbits.Options{}, "have 128 weights"},
		{"overflow", good, 1 << 40, 1 << 40, matmulnbits.Options{}, "have 128 weights"},
	} {
		if _, err := matmulnbits.QuantizeRows(c.dst, w, c.rows, c.k, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
	for _, k := range []int{0, 64} { // no rows, or rows of nothing, are fine
		o := matmulnbits.Options{}
		if _, err := matmulnbits.QuantizeRows(matmulnbits.MakeRows(0, k, o), nil, 0, k, o); err != nil {
			t.Errorf("no rows of %d: %v", k, err)
		}
	}
	if _, err := matmulnbits.QuantizeRows(matmulnbits.Rows{}, nil, 5, 0, matmulnbits.Options{}); err != nil {
		t.Errorf("rows of 0: %v", err)
	}
}

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		rows, k             int
		o                   matmulnbits.Options
		data, scales, zeros int
	}{
		{1, 32, matmulnbits.Options{}, 16, 2, 1},
		{1, 31, matmulnbits.Options{}, 16, 2, 1},
		{1, 33, matmulnbits.Options{}, 32, 4, 1},
		{3, 65, matmulnbits.Options{}, 3 * 48, 3 * 6, 3 * 2},
		{3, 65, matmulnbits.Options{Symmetric: true}, 3 * 48, 3 * 6, 0},
		{2, 64, matmulnbits.Options{Bits: 8, ScaleType: tensor.F32}, 2 * 64, 2 * 8, 2 * 2},
		{2, 576, matmulnbits.Options{Bits: 2, Block: 64}, 2 * 144, 2 * 18, 2 * 3},
		{0, 576, matmulnbits.Options{}, 0, 0, 0},
	} {
		d, s, z := matmulnbits.Sizes(c.rows, c.k, c.o)
		if d != c.data || s != c.scales || z != c.zeros {
			t.Errorf("%d rows of %d, %v: %d, %d, %d bytes; want %d, %d, %d", c.rows, c.k, c.o.Scheme(), d, s, z, c.data, c.scales, c.zeros)
		}
	}
}

func BenchmarkQuantizeRows(b *testing.B) {
	const rows, k = 128, 1536
	w := gaussian(rows*k, 1)
	imp := make([]float32, k)
	for i := range imp {
		imp[i] = float32(i%7) + 1
	}
	for _, c := range []struct {
		name string
		o    matmulnbits.Options
	}{
		{"rtn/4bit", matmulnbits.Options{Method: matmulnbits.RTN}},
		{"rtn/8bit", matmulnbits.Options{Method: matmulnbits.RTN, Bits: 8, Symmetric: true}},
		{"search/4bit", matmulnbits.Options{}},
		{"search/4bit-importance", matmulnbits.Options{Importance: imp}},
		{"search/4bit-symmetric", matmulnbits.Options{Symmetric: true}},
		{"search/8bit", matmulnbits.Options{Bits: 8, Symmetric: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			d := matmulnbits.MakeRows(rows, k, c.o)
			b.SetBytes(rows * k * 4)
			for b.Loop() {
				if _, err := matmulnbits.QuantizeRows(d, w, rows, k, c.o); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(rows*k)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mweights/s")
		})
	}
}
