package matmulnbits

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/quant"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// both runs the plain and the fast kernels on the same input and wants the
// same bytes, figures and errors.
func both(t *testing.T, w []float32, rows, k int, o Options) {
	t.Helper()
	run := func(kern kernels) (Rows, quant.Stats, error) {
		r := MakeRows(rows, k, o)
		st, err := newPacker(r, w, k, o, kern).run(rows)
		return r, st, err
	}
	plain, plainStats, plainErr := run(genericKernels())
	fast, fastStats, fastErr := run(fastKernels())
	name := fmt.Sprintf("%v, %v, %d rows of %d", o.Scheme(), o.Method, rows, k)
	if fmt.Sprint(plainErr) != fmt.Sprint(fastErr) {
		t.Fatalf("%s: error %v, with fast kernels %v", name, plainErr, fastErr)
	}
	if plainErr != nil {
		return
	}
	if plainStats != fastStats {
		t.Errorf("%s: figures %+v, with fast kernels %+v", name, plainStats, fastStats)
	}
	if !bytes.Equal(plain.Data, fast.Data) || !bytes.Equal(plain.Scales, fast.Scales) || !bytes.Equal(plain.Zeros, fast.Zeros) {
		t.Errorf("%s: bytes differ between plain and fast kernels", name)
	}
}

// TestFastKernelsEqualPlain compares both on weights of many sizes, denormals,
// outliers and halves. Where the processor or the noasm tag leaves only the
// plain kernels it compares these with themselves.
func TestFastKernelsEqualPlain(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	for _, bits := range []int{2, 4, 8} {
		for _, block := range []int{16, 32, 64, 128, 256} {
			for _, k := range []int{block, 2*block + 1, 3*block - 1} {
				const rows = 11
				w := make([]float32, rows*k)
				imp := make([]float32, k)
				for i := range imp {
					imp[i] = float32(math.Exp(r.NormFloat64()*3)) * float32(r.IntN(8))
				}
				for i := range w {
					switch row := i / k; row {
					case 0, 1, 2, 3, 4, 5:
						w[i] = float32(r.NormFloat64() * math.Exp(float64(row)*3-10))
					case 6:
						w[i] = float32(r.NormFloat64() * 0x1p-140)
					case 7:
						w[i] = float32(r.IntN(31)-15) / 2
					case 8:
						w[i] = 0
					case 9:
						w[i] = float32(math.Copysign(0, float64(r.IntN(2)*2-1)))
					case 10:
						w[i] = float32(r.NormFloat64())
						if r.IntN(20) == 0 {
							w[i] *= 1000
						}
					}
				}
				for _, scale := range []tensor.DType{tensor.F16, tensor.F32} {
					for _, sym := range []bool{true, false} {
						o := Options{Bits: bits, Block: block, Symmetric: sym, ScaleType: scale}
						both(t, w, rows, k, o)
						o.Importance = imp
						both(t, w, rows, k, o)
						o.Method = RTN
						both(t, w, rows, k, o)
					}
				}
			}
		}
	}
}

// FuzzQuantizeRows feeds arbitrary floats, some of them NaN: no panic, plain
// and fast kernels agree, and finite weights come back within the error that
// is reported.
func FuzzQuantizeRows(f *testing.F) {
	f.Add([]byte{0, 0, 128, 63, 0, 0, 0, 192}, uint8(0), uint8(2))
	f.Add([]byte{0xff, 0xff, 0x7f, 0x7f, 1, 0, 0, 0, 0, 0, 0xc0, 0x7f}, uint8(0xff), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, choice, nrows uint8) {
		rows := int(nrows)%4 + 1
		k := len(data) / 4 / rows
		if k == 0 {
			return
		}
		w := make([]float32, rows*k)
		for i := range w {
			w[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[i*4:]))
		}
		o := Options{
			Bits:      []int{2, 4, 8, 4}[choice&3],
			Block:     16 << (choice >> 2 & 3),
			Symmetric: choice&16 != 0,
			Method:    Method(choice >> 5 & 1),
		}
		if choice&64 != 0 {
			o.ScaleType = tensor.F32
		}
		if choice&128 != 0 {
			o.Importance = make([]float32, k)
			for i := range o.Importance {
				o.Importance[i] = min(abs32(w[i]), math.MaxFloat32)
				if w[i] != w[i] {
					o.Importance[i] = 1
				}
			}
		}
		both(t, w, rows, k, o)
		r := MakeRows(rows, k, o)
		st, err := QuantizeRows(r, w, rows, k, o)
		if err != nil {
			return
		}
		back := make([]float32, len(w))
		if err := DequantizeRows(back, r, rows, k, o); err != nil {
			t.Fatal(err)
		}
		var worst float64
		for i, v := range w {
			worst = max(worst, math.Abs(float64(v)-float64(back[i])))
		}
		// With scales whose reciprocal overflows, rounding as ONNX Runtime does
		// gives zeros the code 0, in the padding too, which is then measured.
		if !(math.Abs(worst-st.MaxError) <= 1e-5*math.Abs(worst)+255*0x1p-128) {
			t.Errorf("largest error %v, reported %v", worst, st.MaxError)
		}
	})
}

// BenchmarkKernels sets plain Go beside the fast kernels.
func BenchmarkKernels(b *testing.B) {
	const rows, k = 32, 1536
	r := rand.New(rand.NewPCG(1, 2))
	w := make([]float32, rows*k)
	for i := range w {
		w[i] = float32(r.NormFloat64())
	}
	for _, o := range []Options{{}, {Bits: 8, Symmetric: true}, {Method: RTN}} {
		for _, kern := range []kernels{genericKernels(), fastKernels()} {
			b.Run(fmt.Sprintf("%v/%dbit/%s", o.Method, o.Scheme().Bits, kern.name), func(b *testing.B) {
				d := MakeRows(rows, k, o)
				b.SetBytes(rows * k * 4)
				for b.Loop() {
					if _, err := newPacker(d, w, k, o, kern).run(rows); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(rows*k)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mweights/s")
			})
		}
	}
}
