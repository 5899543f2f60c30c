package onnxruntime

import (
	"context"
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/ort"
)

// cacheMemory is where the cache lies: the computer's memory, or a device's,
// which only the provider's own operators can copy within.
type cacheMemory struct {
	env *ort.Env
	// session and place are the graph whose allocator makes values on a device.
	session *ort.Session
	place   ort.MemoryInfo
	// providers run the copies on a device.
	providers []ort.Provider
	movers    map[ort.ElementType]*ort.Session
}

func (m *cacheMemory) onHost() bool { return m.session == nil }

// alloc makes a tensor, not initialized.
func (m *cacheMemory) alloc(t ort.ElementType, shape ...int64) (*ort.Value, error) {
	if m.onHost() {
		return m.env.NewAllocated(t, shape...)
	}
	return m.session.NewAllocated(m.place, t, shape...)
}

// copyRows copies the first n rows of every head between tensors of different
// length. On a device the rows behind become zeros.
func (m *cacheMemory) copyRows(ctx context.Context, dst, src *ort.Value, p cachePort, n int) error {
	if !m.onHost() {
		return m.move(ctx, dst, src, n)
	}
	to, err := dst.Bytes()
	if err != nil {
		return err
	}
	from, err := src.Bytes()
	if err != nil {
		return err
	}
	row := int(p.dim) * p.elem.Bits() / 8
	toHead, fromHead := int(dst.Shape()[2])*row, int(src.Shape()[2])*row
	for h := range int(p.heads) {
		copy(to[h*toHead:][:n*row], from[h*fromHead:][:n*row])
	}
	return nil
}

// move is copyRows on the device, by a graph of three nodes. The library's own
// copying between devices serves plug-in providers alone.
func (m *cacheMemory) move(ctx context.Context, dst, src *ort.Value, n int) error {
	s := m.movers[src.Type()]
	if s == nil {
		b, err := moverGraph(onnx.ElemType(src.Type())).Encode()
		if err != nil {
			return fmt.Errorf("make the graph that moves the cache: %w", err)
		}
		if s, err = m.env.NewSessionFromBytes(ctx, b, ort.SessionOptions{IntraOpThreads: 1, Providers: m.providers}); err != nil {
			return fmt.Errorf("make the graph that moves the cache: %w", err)
		}
		if m.movers == nil {
			m.movers = map[ort.ElementType]*ort.Session{}
		}
		m.movers[src.Type()] = s
	}
	shape := append([]int64(nil), dst.Shape()...)
	shape[2] -= int64(n)
	keep, err := ort.NewTensor(s.Library(), []int64{int64(n)}, 1)
	if err != nil {
		return err
	}
	defer keep.Close()
	rest, err := ort.NewTensor(s.Library(), shape, 4)
	if err != nil {
		return err
	}
	defer rest.Close()
	return s.Run(ctx, nil, []ort.Named{{Name: "from", Value: src}, {Name: "keep", Value: keep}, {Name: "rest", Value: rest}},
		[]ort.Named{{Name: "to", Value: dst}})
}

// moverGraph is to = from[:, :, :keep, :] with zeros of shape rest behind.
func moverGraph(elem onnx.ElemType) *onnx.Model {
	g := onnx.NewGraph("move")
	dims := func(rows string) []onnx.Dim {
		return []onnx.Dim{onnx.Fixed(1), onnx.Named("heads"), onnx.Named(rows), onnx.Named("dim")}
	}
	g.Input("from", elem, dims("from_rows")...)
	g.Input("keep", onnx.I64, onnx.Fixed(1))
	g.Input("rest", onnx.I64, onnx.Fixed(4))
	start, axis := onnx.Const(g, "start", nil, int64(0)), onnx.Const(g, "axis", nil, int64(2))
	g.Node("", "Slice", "/slice", []string{"from", start, "keep", axis}, []string{"kept"})
	zero := onnx.Initializer{Name: "zero", Elem: elem, Dims: []int64{1}, Data: make([]byte, elem.Bits()/8)}
	g.Node("", "ConstantOfShape", "/zeros", []string{"rest"}, []string{"zeros"}, onnx.TensorAttr("value", zero))
	g.Node("", "Concat", "/concat", []string{"kept", "zeros"}, []string{"to"}, onnx.Int("axis", 2))
	g.Output("to", elem, dims("to_rows")...)
	return onnx.NewModel(g, onnx.Opset{Version: 13})
}

func (m *cacheMemory) close() {
	for _, s := range m.movers {
		s.Close()
	}
	m.movers = nil
}
