package affine

import (
	"bytes"
	_ "embed"
	"fmt"
	"math"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

//go:embed testdata/quantize.py
var quantizeScript string

// mx runs mx.quantize on x.
func mx(t *testing.T, x []float32, k int, o Options) (p Rows, values []float32) {
	t.Helper()
	o = o.Filled()
	stdin := make([]byte, 4*len(x))
	tensor.EncodeF32(stdin, x)
	out := oracle.Run(t, quantizeScript, stdin, o.Type.String(), fmt.Sprint(o.Bits), fmt.Sprint(o.Group), fmt.Sprint(k), "1")
	words, scales := o.Sizes(len(x)/k, k)
	if len(out) != words+2*scales+4*len(x) {
		t.Fatalf("%v: mx.quantize gave %d bytes", o, len(out))
	}
	p = Rows{out[:words], out[words:][:scales], out[words+scales:][:scales]}
	values = make([]float32, len(x))
	if err := tensor.Decode(values, out[words+2*scales:], tensor.F32); err != nil {
		t.Fatal(err)
	}
	return p, values
}

// TestMLX compares words, scales and biases with mx.quantize: equal for 99.99 %
// of the groups of weights of every kind, and no worse in error for the rest.
func TestMLX(t *testing.T) {
	oracle.Python(t)
	const k = 256
	x := samples(11, 4000)
	for _, o := range all() {
		want, values := mx(t, x, k, o)
		got := quantized(t, fastKernels(), x, len(x)/k, k, o)
		groups, differ := len(x)/o.Group, 0
		wordBytes, size := o.Group*o.Bits/8, o.Type.Size()
		mine := make([]float32, len(x))
		if err := DequantizeRows(mine, got, len(x)/k, k, o); err != nil {
			t.Fatal(err)
		}
		for g := range groups {
			if bytes.Equal(got.Words[g*wordBytes:][:wordBytes], want.Words[g*wordBytes:][:wordBytes]) &&
				bytes.Equal(got.Scales[g*size:][:size], want.Scales[g*size:][:size]) &&
				bytes.Equal(got.Biases[g*size:][:size], want.Biases[g*size:][:size]) {
				continue
			}
			differ++
			from := g * o.Group
			if a, b := squares(x[from:][:o.Group], mine[from:]), squares(x[from:][:o.Group], values[from:]); !(a <= b) {
				t.Errorf("%v: group %d has error %g, mlx %g", o, g, a, b)
			}
		}
		if differ > 0 {
			t.Logf("%v: %d of %d groups differ", o, differ, groups)
		}
		if float64(differ) > 1e-4*float64(groups) {
			t.Errorf("%v: %d of %d groups differ", o, differ, groups)
		}
		// Read back, mlx's own bytes give mlx's own values.
		back := make([]float32, len(x))
		if err := DequantizeRows(back, want, len(x)/k, k, o); err != nil {
			t.Fatal(err)
		}
		for i := range back {
			if d := math.Abs(float64(back[i] - values[i])); d > 1e-6*math.Abs(float64(values[i]))+1e-6*math.Abs(float64(x[i])) {
				t.Fatalf("%v: weight %d is read as %v, by mlx as %v", o, i, back[i], values[i])
			}
		}
	}
}

func squares(a, b []float32) (sum float64) {
	for i, v := range a {
		d := float64(v) - float64(b[i])
		sum += d * d
	}
	return sum
}
