package calibrate

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestFastKernelEqualsPlain wants the same bits from both.
func TestFastKernelEqualsPlain(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, rows := range []int{1, 2, 3, 8, 17} {
		for _, cols := range []int{1, 2, 31, 64, 577} {
			w, x := make([]float32, rows*cols), make(panel, cols*Tokens)
			for i := range w {
				w[i] = float32(r.NormFloat64())
			}
			for i := range x {
				x[i] = float32(r.NormFloat64() * 100)
			}
			plain, fast := make(panel, rows*Tokens), make(panel, rows*Tokens)
			matmulGeneric(plain, w, x)
			fastKernel()(fast, w, x)
			if !slices.Equal(plain, fast) {
				t.Errorf("%d rows, %d columns: results differ", rows, cols)
			}
			var want float64
			for c := range cols {
				want += float64(w[(rows-1)*cols+c]) * float64(x[c*Tokens+3])
			}
			if got := float64(plain[(rows-1)*Tokens+3]); got-want > 0.01 || want-got > 0.01 {
				t.Errorf("%d rows, %d columns: %v, want %v", rows, cols, got, want)
			}
		}
	}
}

func BenchmarkMatmul(b *testing.B) {
	const rows, cols = 256, 576
	w, x, out := make([]float32, rows*cols), make(panel, cols*Tokens), make(panel, rows*Tokens)
	for i := range w {
		w[i] = float32(i%13) - 6
	}
	for i := range x {
		x[i] = float32(i%11) - 5
	}
	for _, k := range []struct {
		name string
		f    kernel
	}{{"generic", matmulGeneric}, {"fast", fastKernel()}} {
		b.Run(k.name, func(b *testing.B) {
			for b.Loop() {
				k.f(out, w, x)
			}
			b.ReportMetric(float64(rows*cols)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mweights/s")
		})
	}
}
