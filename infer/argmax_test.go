package infer

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

func TestArgmax(t *testing.T) {
	inf := float32(math.Inf(1))
	nan := float32(math.NaN())
	for _, n := range []int{1, 7, 8, 9, 15, 16, 17, 1000} {
		for at := range n {
			l := make([]float32, n)
			for i := range l {
				l[i] = -float32(i%5) - 1
			}
			l[at] = 3
			if got, err := argmax(l); err != nil || got != at {
				t.Fatalf("n=%d: argmax = %d, %v, want %d", n, got, err, at)
			}
			l[at] = nan
			var bad *NaNError
			if _, err := argmax(l); !errors.As(err, &bad) || bad.ID != at {
				t.Fatalf("n=%d: NaN at %d gives error %v", n, at, err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		logits []float32
		want   int
		fails  bool
	}{
		{"ties go to the first", []float32{1, 2, 2, 2, 1, 1, 1, 1, 2}, 1, false},
		{"all -Inf", []float32{-inf, -inf}, 0, true},
		{"one finite", []float32{-inf, -inf, -5, -inf}, 2, false},
		{"+Inf wins", []float32{1, inf, 7}, 1, false},
		{"none", nil, 0, true},
		{"-0 and 0 are equal", []float32{float32(math.Copysign(0, -1)), 0}, 0, false},
	} {
		if got, err := argmax(c.logits); (err != nil) != c.fails || got != c.want {
			t.Errorf("%s: argmax = %d, %v, want %d", c.name, got, err, c.want)
		}
	}
}

func randomLogits(n int) []float32 {
	r := rand.New(rand.NewPCG(1, 2))
	l := make([]float32, n)
	for i := range l {
		l[i] = float32(r.NormFloat64()) * 3
	}
	return l
}

func BenchmarkArgmax(b *testing.B) {
	for _, n := range []int{49152, 151936} {
		l := randomLogits(n)
		b.Run(map[int]string{49152: "49k", 151936: "152k"}[n], func(b *testing.B) {
			b.SetBytes(int64(4 * n))
			for b.Loop() {
				if _, err := argmax(l); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
