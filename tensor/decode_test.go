package tensor_test

import (
	"testing"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// TestDecodeLengths: eight elements are decoded at a time; every length about
// that gives what one at a time gives, and nothing beyond it is touched.
func TestDecodeLengths(t *testing.T) {
	src := make([]byte, 4*40)
	for i := range src {
		src[i] = byte(i*37+11) &^ 0x40 // no NaN
	}
	for _, d := range []tensor.DType{tensor.F32, tensor.F16, tensor.BF16} {
		for n := range 34 {
			got := make([]float32, n+1)
			got[n] = 77
			if err := tensor.Decode(got[:n], src[:n*d.Size()], d); err != nil {
				t.Fatal(err)
			}
			if got[n] != 77 {
				t.Fatalf("%v: element %d of %d was written", d, n, n)
			}
			for i := range n {
				var one [1]float32
				if err := tensor.Decode(one[:], src[i*d.Size():], d); err != nil {
					t.Fatal(err)
				}
				if got[i] != one[0] {
					t.Fatalf("%v: element %d of %d is %v, want %v", d, i, n, got[i], one[0])
				}
			}
		}
	}
}
