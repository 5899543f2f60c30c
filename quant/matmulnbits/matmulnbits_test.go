package matmulnbits

import (
	"math/rand/v2"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/quant"
)

func TestSmoke(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	rows, k := 64, 576
	w := make([]float32, rows*k)
	for i := range w {
		w[i] = float32(r.NormFloat64()) * 0.1
	}
	for _, m := range []Method{RTN, Search} {
		for _, bits := range []int{2, 4, 8} {
			for _, sym := range []bool{false, true} {
				o := Options{Bits: bits, Symmetric: sym, Method: m}
				d := MakeRows(rows, k, o)
				st, err := QuantizeRows(d, w, rows, k, o)
				if err != nil {
					t.Fatal(err)
				}
				back := make([]float32, rows*k)
				if err := DequantizeRows(back, d, rows, k, o); err != nil {
					t.Fatal(err)
				}
				var s2 quant.Stats
				s2.AddSlices(w, back)
				t.Log(m, bits, sym, st.RelativeMSE(), s2.RelativeMSE(), st.MaxError, s2.MaxError)
			}
		}
	}
}
func BenchmarkSearch(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	rows, k := 64, 576
	w := make([]float32, rows*k)
	for i := range w {
		w[i] = float32(r.NormFloat64()) * 0.1
	}
	for _, m := range []Method{RTN, Search} {
		b.Run(m.String(), func(b *testing.B) {
			o := Options{Method: m}
			d := MakeRows(rows, k, o)
			for b.Loop() {
				QuantizeRows(d, w, rows, k, o)
			}
			b.ReportMetric(float64(rows*k*b.N)/b.Elapsed().Seconds()/1e6, "Mweights/s")
		})
	}
}
