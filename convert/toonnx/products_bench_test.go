package toonnx

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// BenchmarkProducts times ONNX Runtime's ways of multiplying M positions by one
// matrix, two threads: the table of docs/kernels.md. For one position, where
// weights come from memory and not from a cache, several copies of the matrix
// are multiplied.
func BenchmarkProducts(b *testing.B) {
	blocks := func(bits, level int) func(*builder, string, *matrix) string {
		return func(g *builder, x string, m *matrix) string {
			g.rec = &recipe.Recipe{Dialect: "fused", AccuracyLevel: level}
			m.form = plan.Form{Bits: bits, Block: 32, Symmetric: true, Scale: tensor.F32}
			m.scales = g.external(m.name+".scales", onnx.F32, onnx.External{}, int64(m.rows), int64(m.cols/32))
			return g.linear(m.name+".product", x, m, "")
		}
	}
	rows := func(g *builder, m *matrix) {
		m.form = plan.Form{Linear: true, Bits: 8, Columns: true, Int8Input: true, Scale: tensor.F32}
		m.scales = g.external(m.name+".scales", onnx.F32, onnx.External{}, int64(m.rows))
	}
	forms := []struct {
		name   string
		append func(g *builder, x string, m *matrix) string
	}{
		{"float32", func(g *builder, x string, m *matrix) string {
			m.form = plan.Form{Float: tensor.F32}
			return g.linear(m.name+".product", x, m, "")
		}},
		{"blocks8-level4", blocks(8, 4)},
		{"blocks4-level4", blocks(4, 4)},
		{"blocks4-level0", blocks(4, 0)},
		{"one-step", func(g *builder, x string, m *matrix) string {
			rows(g, m)
			w := g.external(m.name, onnx.I8, onnx.External{}, int64(m.cols), int64(m.rows))
			return g.contrib("DynamicQuantizeMatMul", m.name+".product", []string{x, w, m.scales})
		}},
		{"step-a-token", func(g *builder, x string, m *matrix) string {
			rows(g, m)
			return g.linear(m.name+".product", x, m, "")
		}},
	}
	lib, err := ort.Open(oracle.Library(b))
	if err != nil {
		b.Fatal(err)
	}
	env, err := lib.NewEnv(ort.EnvOptions{Name: b.Name()})
	if err != nil {
		b.Fatal(err)
	}
	defer env.Close()
	for _, size := range [][2]int{{576, 3072}, {1536, 8960}} {
		for _, m := range []int{1, 8, 64, 512} {
			for _, f := range forms {
				b.Run(fmt.Sprintf("%dx%d/M=%d/%s", size[0], size[1], m, f.name), func(b *testing.B) {
					copies := 1
					if m == 1 {
						copies = max(1, 48<<20/(size[0]*size[1]))
					}
					call := productCall(b, env, size[0], size[1], m, copies, f.append)
					for b.Loop() {
						if err := call.Run(b.Context(), nil); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*copies), "µs/product")
				})
			}
		}
	}
}

// productCall prepares a run of copies of a product of [m, k] by [k, n].
func productCall(b *testing.B, env *ort.Env, k, n, m, copies int, form func(*builder, string, *matrix) string) *ort.Call {
	b.Helper()
	g := &builder{g: onnx.NewGraph("product"), rec: &recipe.Recipe{Dialect: "fused"}, act: onnx.F32}
	x := g.g.Input("x", onnx.F32, onnx.Fixed(1), onnx.Named("m"), onnx.Fixed(int64(k)))
	var outputs []string
	for i := range copies {
		y := form(g, x, &matrix{name: fmt.Sprintf("w%d", i), rows: n, cols: k})
		g.g.Output(y, onnx.F32, onnx.Fixed(1), onnx.Named("m"), onnx.Fixed(int64(n)))
		outputs = append(outputs, y)
	}
	if g.err != nil {
		b.Fatal(g.err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, t := range g.g.Initializers {
		if t.External != nil {
			fill(t, r)
		}
	}
	model, err := onnx.NewModel(g.g, onnx.Opset{Domain: onnx.DomainONNX, Version: Opset}, onnx.Opset{Domain: onnx.DomainMicrosoft, Version: 1}).Encode()
	if err != nil {
		b.Fatal(err)
	}
	s, err := env.NewSessionFromBytes(b.Context(), model, ort.SessionOptions{IntraOpThreads: 2, DisableMemPattern: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	call, err := s.NewCall([]string{"x"}, outputs)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(call.Close)
	data := make([]float32, m*k)
	for i := range data {
		data[i] = float32(r.NormFloat64())
	}
	in, err := ort.NewTensor(env.Library(), data, 1, int64(m), int64(k))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(in.Close)
	if err := call.SetInput(0, in); err != nil {
		b.Fatal(err)
	}
	for i := range outputs {
		out, err := ort.NewTensor(env.Library(), make([]float32, m*n), 1, int64(m), int64(n))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(out.Close)
		if err := call.SetOutput(i, out); err != nil {
			b.Fatal(err)
		}
	}
	return call
}

// fill gives an initializer random elements; floats are small.
func fill(t *onnx.Initializer, r *rand.Rand) {
	t.External = nil
	elements := int64(1)
	for _, d := range t.Dims {
		elements *= d
	}
	if t.Elem == onnx.F32 {
		values := make([]float32, elements)
		for i := range values {
			values[i] = 0.01 * r.Float32()
		}
		t.Data = make([]byte, 4*elements)
		tensor.EncodeF32(t.Data, values)
		return
	}
	t.Data = make([]byte, elements)
	for i := range t.Data {
		t.Data[i] = byte(r.Uint32())
	}
}
