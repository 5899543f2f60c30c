package toonnx

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// TestPerTokenLinear compares the nodes with the sum they stand for, at the
// borders of the integers, and wants every position to depend on itself alone.
func TestPerTokenLinear(t *testing.T) {
	const k, n = 64, 16
	r := rand.New(rand.NewPCG(1, 2))
	w := make([]byte, k*n) // int8 [K, N]
	scales := make([]float32, n)
	for i := range w {
		switch i % n {
		case 0:
			w[i] = 127
		case 1:
			w[i] = 129 // -127
		default:
			w[i] = byte(int8(r.IntN(255) - 127))
		}
	}
	for i := range scales {
		scales[i] = r.Float32() * 0.01
	}
	bias := make([]float32, n)
	for i := range bias {
		bias[i] = r.Float32()
	}
	normal := func(by float32) []float32 {
		x := make([]float32, k)
		for i := range x {
			x[i] = by * float32(r.NormFloat64())
		}
		return x
	}
	outlier := normal(1)
	outlier[7] = 10000
	alternating := slices.Repeat([]float32{3, -3}, k/2)
	rows := []struct {
		name  string
		x     []float32
		exact bool // all of it is ±max|x| or 0
	}{
		{"zeros", make([]float32, k), true},
		{"all at the maximum", slices.Repeat([]float32{5}, k), true},
		{"all at the minimum", slices.Repeat([]float32{-5}, k), true},
		{"alternating", alternating, true},
		{"usual", normal(1), false},
		{"one large channel", outlier, false},
		{"small", normal(1e-30), false},
		{"large", normal(1e30), false},
	}
	var x []float32
	for _, row := range rows {
		x = append(x, row.x...)
	}
	for _, withBias := range []bool{false, true} {
		b := bias
		if !withBias {
			b = nil
		}
		s := perTokenSession(t, k, n, w, scales, b)
		got := runPerToken(t, s, x, k, n)
		for i, row := range rows {
			if alone := runPerToken(t, s, row.x, k, n); !slices.Equal(alone, got[i*n:][:n]) {
				t.Errorf("%s: %v alone, %v among others", row.name, alone, got[i*n:][:n])
			}
			peak := 0.0
			for _, v := range row.x {
				peak = max(peak, math.Abs(float64(v)))
			}
			for c := range n {
				var want, weight float64
				for j := range k {
					q := float64(int8(w[j*n+c])) * float64(scales[c])
					want += float64(row.x[j]) * q
					weight += math.Abs(q)
				}
				bound := peak * weight * 1e-6
				if !row.exact {
					bound += peak * weight / 254 // half a step for every element
				}
				if withBias {
					want += float64(bias[c])
					bound += 1e-6
				}
				if d := math.Abs(float64(got[i*n+c]) - want); !(d <= bound) {
					t.Errorf("%s, channel %d: %g, want %g ± %g", row.name, c, got[i*n+c], want, bound)
				}
			}
		}
	}
}

// perTokenSession loads a graph of perTokenLinear alone.
func perTokenSession(t *testing.T, k, n int, w []byte, scales, bias []float32) *ort.Session {
	t.Helper()
	b := &builder{g: onnx.NewGraph("test"), rec: &recipe.Recipe{Dialect: "fused"}, act: onnx.F32}
	m := &matrix{name: "w", rows: n, cols: k, scales: "scales",
		form: plan.Form{Linear: true, Bits: 8, Columns: true, Int8Input: true, Scale: tensor.F32}}
	x := b.g.Input("x", onnx.F32, onnx.Fixed(1), onnx.Named("sequence_length"), onnx.Fixed(int64(k)))
	onnx.Const(b.g, m.scales, nil, scales...)
	added := ""
	if bias != nil {
		added = onnx.Const(b.g, "bias", nil, bias...)
	}
	y := b.linear("/linear/MatMul", x, m, added)
	b.g.Output(y, onnx.F32, onnx.Fixed(1), onnx.Named("sequence_length"), onnx.Fixed(int64(n)))
	if b.err != nil {
		t.Fatal(b.err)
	}
	for _, i := range b.g.Initializers {
		if i.Name == m.name {
			i.External, i.Data = nil, w
		}
	}
	model := onnx.NewModel(b.g, onnx.Opset{Domain: onnx.DomainONNX, Version: Opset}, onnx.Opset{Domain: onnx.DomainMicrosoft, Version: 1})
	if err := onnx.Check(model, onnx.CheckOptions{Complete: true}); err != nil {
		t.Fatal(err)
	}
	data, err := model.Encode()
	if err != nil {
		t.Fatal(err)
	}
	lib, err := ort.Open(oracle.Library(t))
	if err != nil {
		t.Fatal(err)
	}
	env, err := lib.NewEnv(ort.EnvOptions{Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	// On x86 without VNNI the sums are right with this setting alone.
	s, err := env.NewSessionFromBytes(t.Context(), data, ort.SessionOptions{IntraOpThreads: 1, Config: map[string]string{"session.x64quantprecision": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func runPerToken(t *testing.T, s *ort.Session, x []float32, k, n int) []float32 {
	t.Helper()
	rows := len(x) / k
	in, err := ort.NewTensor(s.Library(), x, 1, int64(rows), int64(k))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	y := make([]float32, rows*n)
	out, err := ort.NewTensor(s.Library(), y, 1, int64(rows), int64(n))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := s.Run(t.Context(), nil, []ort.Named{{Name: "x", Value: in}}, []ort.Named{{Name: s.Outputs()[0].Name, Value: out}}); err != nil {
		t.Fatal(err)
	}
	return y
}
