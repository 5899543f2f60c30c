package reference

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// linear is x·wᵀ + bias for each row of x, [tokens, in] -> [tokens, out]; bias
// may be nil.
func linear(w matrix, bias []float32, x [][]float32) [][]float32 {
	out := make([][]float32, len(x))
	in := make([][]float64, len(x)) // widened once, read by every row of w
	for t := range x {
		out[t] = make([]float32, w.out)
		in[t] = make([]float64, w.in)
		widen(in[t], x[t])
	}
	parallel(w.out, func(o int) {
		row := make([]float64, w.in)
		widen(row, w.row(o))
		for t := range in {
			s := dot64(row, in[t])
			if bias != nil {
				s += float64(bias[o])
			}
			out[t][o] = float32(s)
		}
	})
	return out
}

// dot64 sums in four lanes: a single one waits for each addition.
func dot64(a, b []float64) float64 {
	var s0, s1, s2, s3 float64
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		x, y := a[i:i+4:i+4], b[i:i+4:i+4]
		s0 += x[0] * y[0]
		s1 += x[1] * y[1]
		s2 += x[2] * y[2]
		s3 += x[3] * y[3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + s2 + s3
}

func dot(a, b []float32) float64 {
	var s float64
	for i := range a {
		s += float64(a[i]) * float64(b[i])
	}
	return s
}

func widen(dst []float64, src []float32) {
	for i, v := range src {
		dst[i] = float64(v)
	}
}

func rmsNorm(x, w []float32, eps float64) {
	r := 1 / math.Sqrt(dot(x, x)/float64(len(x))+eps)
	for i := range x {
		x[i] = float32(float64(x[i]) * r * float64(w[i]))
	}
}

func silu(x float64) float64 { return x / (1 + math.Exp(-x)) }

// gelu is GELU in its tanh form (Hendrycks and Gimpel 2016).
func gelu(x float64) float64 {
	return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
}

func softmax(p []float64) {
	top := slices.Max(p)
	var sum float64
	for i, v := range p {
		p[i] = math.Exp(v - top)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
}

// add adds y to the residual stream x.
func add(x, y [][]float32) {
	for t := range x {
		for i := range x[t] {
			x[t][i] += y[t][i]
		}
	}
}

// parallel calls f(0) to f(n-1) from as many goroutines as there are cores.
// They take small ranges in turn: causal attention costs more at high i.
func parallel(n int, f func(i int)) {
	if n == 0 {
		return
	}
	workers := min(runtime.GOMAXPROCS(0), n)
	step := max(1, n/(8*workers+1))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for end := int(next.Add(int64(step))); end-step < n; end = int(next.Add(int64(step))) {
				for i := end - step; i < min(end, n); i++ {
					f(i)
				}
			}
		})
	}
	wg.Wait()
}
