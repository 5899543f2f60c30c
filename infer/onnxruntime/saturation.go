package onnxruntime

import (
	"context"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// configExactProducts makes ONNX Runtime compute products of 8-bit activations
// and 8-bit weights as unsigned by unsigned on x86.
//
// The x86 instruction that multiplies unsigned by signed bytes (VPMADDUBSW) adds
// two products in 16 bits and saturates: 2·255·127 is 64770, the limit 32767. On
// CPUs without VNNI ONNX Runtime uses it all the same and is silently wrong. The
// setting is right everywhere, but where VNNI is it takes 2.2 times as long.
const configExactProducts = "session.x64quantprecision"

// saturates tries whether this library on this machine gets the largest
// products wrong that uint8 activations and int8 weights can make, in a session
// with these config entries. A trial says more than a list of CPU features: it
// is the library that picks the kernel. It takes some 5 ms.
func saturates(ctx context.Context, env *ort.Env, config map[string]string) (bool, error) {
	const k, n = 64, 32
	g := onnx.NewGraph("saturation")
	x := g.Input("x", onnx.U8, onnx.Named("rows"), onnx.Fixed(k))
	w := g.Initializer(onnx.Initializer{Name: "w", Elem: onnx.I8, Dims: []int64{k, n}, Data: slices.Repeat([]byte{127}, k*n)})
	g.Node(onnx.DomainONNX, "MatMulInteger", "y", []string{x, w}, []string{"y"})
	g.Output("y", onnx.I32, onnx.Named("rows"), onnx.Fixed(n))
	model, err := onnx.NewModel(g, onnx.Opset{Domain: onnx.DomainONNX, Version: onnx.MinOpset}).Encode()
	if err != nil {
		return false, err
	}
	s, err := env.NewSessionFromBytes(ctx, model, ort.SessionOptions{IntraOpThreads: 1, Config: config})
	if err != nil {
		return false, err
	}
	defer s.Close()
	// One row and several take different kernels.
	for _, rows := range []int{1, 16} {
		wrong, err := wrongProducts(ctx, s, rows, k, n)
		if wrong || err != nil {
			return wrong, err
		}
	}
	return false, nil
}

// wrongProducts runs rows of 255 against columns of 127.
func wrongProducts(ctx context.Context, s *ort.Session, rows, k, n int) (bool, error) {
	x, err := ort.NewTensor(s.Library(), slices.Repeat([]uint8{255}, rows*k), int64(rows), int64(k))
	if err != nil {
		return false, err
	}
	defer x.Close()
	sums := make([]int32, rows*n)
	y, err := ort.NewTensor(s.Library(), sums, int64(rows), int64(n))
	if err != nil {
		return false, err
	}
	defer y.Close()
	if err := s.Run(ctx, nil, []ort.Named{{Name: "x", Value: x}}, []ort.Named{{Name: "y", Value: y}}); err != nil {
		return false, err
	}
	want := int32(k * 255 * 127)
	return slices.ContainsFunc(sums, func(v int32) bool { return v != want }), nil
}
