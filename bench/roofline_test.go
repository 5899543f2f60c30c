package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/gguf"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

func TestRoofline(t *testing.T) {
	// 900 bytes of weights and 2 for each of 50 tokens, read 3 times a second of a
	// memory that gives 12000 bytes.
	r := NewRoofline(3, 900, 2, 40, 20, 12000, "made up")
	want := Roofline{WeightBytes: 900, CacheBytes: 100, BytesPerToken: 1000, Achieved: 3000, Bandwidth: 12000, Source: "made up", Ceiling: 12, Share: 0.25}
	if *r != want {
		t.Errorf("got %+v, want %+v", *r, want)
	}
	for _, bad := range []*Roofline{NewRoofline(0, 1, 1, 1, 1, 1, ""), NewRoofline(1, 0, 1, 1, 1, 1, ""), NewRoofline(1, 1, 1, 1, 1, 0, "")} {
		if bad != nil {
			t.Errorf("of a figure that is not known: %+v", bad)
		}
	}
}

// Each format, with a head of its own and tied to the embedding: tables of 10 rows of
// 32 floats (1280 bytes), a matrix of 32 by 32 (4096), a norm of 32 (128).
func TestWeightsRead(t *testing.T) {
	const table, matrix, norm = 1280, 4096, 128
	for _, tt := range []struct {
		format string
		make   func(t *testing.T, dir string, tied bool) string
	}{{"gguf", makeGGUF}, {"mlx", makeMLX}, {"onnx", makeONNX}} {
		for _, tied := range []bool{false, true} {
			want := int64(table/10 + table + matrix + norm) // a row, and the head whole
			if tied {
				want = table + matrix + norm
			}
			got, err := WeightsRead(tt.format, tt.make(t, t.TempDir(), tied))
			if err != nil || got != want {
				t.Errorf("%s, tied %v: %d bytes, %v; want %d", tt.format, tied, got, err, want)
			}
		}
	}
	for _, format := range []string{"gguf", "mlx", "onnx", "tape"} {
		if _, err := WeightsRead(format, t.TempDir()); err == nil {
			t.Errorf("%s: no error of an empty folder", format)
		}
	}
}

func makeGGUF(t *testing.T, dir string, tied bool) string {
	file := filepath.Join(dir, "m.gguf")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := gguf.NewWriter(f, gguf.WriterOptions{})
	decls := []gguf.Decl{
		{Name: "token_embd.weight", Type: ggml.F32, Shape: tensor.Shape{10, 32}},
		{Name: "blk.0.attn_q.weight", Type: ggml.F32, Shape: tensor.Shape{32, 32}},
		{Name: "output_norm.weight", Type: ggml.F32, Shape: tensor.Shape{32}},
	}
	if !tied {
		decls = append(decls, gguf.Decl{Name: "output.weight", Type: ggml.F32, Shape: tensor.Shape{10, 32}})
	}
	for _, d := range decls {
		w.Declare(d)
	}
	header, infos, err := w.Layout()
	if err != nil {
		t.Fatal(err)
	}
	last := infos[len(infos)-1]
	if _, err := f.Write(append(header, make([]byte, int(last.Offset+last.Bytes)-len(header))...)); err != nil {
		t.Fatal(err)
	}
	return file
}

func makeMLX(t *testing.T, dir string, tied bool) string {
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	decls := []safetensors.Decl{
		{Name: "model.embed_tokens.weight", Type: "F32", Shape: tensor.Shape{10, 32}},
		{Name: "model.layers.0.self_attn.q_proj.weight", Type: "F32", Shape: tensor.Shape{32, 32}},
		{Name: "model.norm.weight", Type: "F32", Shape: tensor.Shape{32}},
	}
	if !tied {
		decls = append(decls, safetensors.Decl{Name: "lm_head.weight", Type: "F32", Shape: tensor.Shape{10, 32}})
	}
	header, infos, err := safetensors.Layout(decls, nil)
	if err != nil {
		t.Fatal(err)
	}
	last := infos[len(infos)-1]
	if _, err := f.Write(append(header, make([]byte, int(last.Offset+last.Bytes)-len(header))...)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// makeONNX has the embedding and the head at one place of the data file where they
// are tied, as the converter writes them.
func makeONNX(t *testing.T, dir string, tied bool) string {
	g := onnx.NewGraph("m")
	ids := g.Input("ids", onnx.I64, onnx.Fixed(1))
	at := int64(0)
	place := func(name string, offset int64, dims ...int64) string {
		x := onnx.Initializer{Name: name, Elem: onnx.F32, Dims: dims}
		n, _ := x.Bytes()
		x.External = &onnx.External{Location: "model.onnx.data", Offset: offset, Length: n}
		at = max(at, offset+n)
		return g.Initializer(x)
	}
	embed := place("embed.weight", 0, 10, 32)
	q := place("q.weight", at, 32, 32)
	norm := place("norm.weight", at, 32)
	headAt := at
	if tied {
		headAt = 0
	}
	head := place("head.weight", headAt, 10, 32)
	g.Node("", "Gather", "look", []string{embed, ids}, []string{"x"})
	g.Node("", "MatMul", "q", []string{"x", q}, []string{"y"})
	g.Node("", "Mul", "norm", []string{"y", norm}, []string{"z"})
	g.Node("", "Transpose", "turn", []string{head}, []string{"turned"})
	g.Node("", "MatMul", "head", []string{"z", "turned"}, []string{"logits"})
	g.Output("logits", onnx.F32, onnx.Fixed(1), onnx.Fixed(10))
	b, err := onnx.NewModel(g, onnx.Opset{Version: 21}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"model.onnx": b, "model.onnx.data": bytes.Repeat([]byte{0}, int(at))} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
