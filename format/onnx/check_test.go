package onnx_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
)

func TestCheckModel(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(m *onnx.Model)
		o    onnx.CheckOptions
		bad  string // "" where the model stays right
	}{
		{"as it is", func(m *onnx.Model) {}, onnx.CheckOptions{Complete: true}, ""},
		{"with its data", func(m *onnx.Model) {}, onnx.CheckOptions{DataSizes: map[string]int64{"model.onnx.data": 160}}, ""},
		{"data too short", func(m *onnx.Model) {}, onnx.CheckOptions{DataSizes: map[string]int64{"model.onnx.data": 159}}, "end beyond model.onnx.data, which has 159"},
		{"data elsewhere", func(m *onnx.Model) {}, onnx.CheckOptions{DataSizes: map[string]int64{"x": 1}}, "none of the data files"},
		{"no graph", func(m *onnx.Model) { m.Graph = nil }, onnx.CheckOptions{}, "has no graph"},
		{"old IR", func(m *onnx.Model) { m.IRVersion = 3 }, onnx.CheckOptions{}, "IR version 3"},
		{"old opset", func(m *onnx.Model) { m.Opsets[0].Version = 17 }, onnx.CheckOptions{}, "operator set ai.onnx 17 is outside"},
		{"opset twice", func(m *onnx.Model) { m.Opsets[1].Domain = "ai.onnx" }, onnx.CheckOptions{}, "imported twice"},
		{"metadata twice", func(m *onnx.Model) { m.Metadata = append(m.Metadata, m.Metadata[0]) }, onnx.CheckOptions{}, `metadata key "recipe" is set twice`},
		{"dropped", func(m *onnx.Model) { m.Dropped = []string{"1 functions"} }, onnx.CheckOptions{}, "1 functions"},
		{"location", func(m *onnx.Model) { m.Graph.Initializers[0].External.Location = "../x" }, onnx.CheckOptions{}, "leaves the model's folder"},
		{"initializer twice", func(m *onnx.Model) { m.Graph.Initializers[1].Name = "table" }, onnx.CheckOptions{}, "two initializers have this name"},
		{"short constant", func(m *onnx.Model) { m.Graph.Initializers[2].Data = nil }, onnx.CheckOptions{}, "0 bytes of data, but INT64 [2] takes 16"},
		{"output not made", func(m *onnx.Model) { m.Graph.Outputs[0].Name = "nothing" }, onnx.CheckOptions{}, `tensor "nothing": is a graph output, but no node makes it`},
		{"no outputs", func(m *onnx.Model) { m.Graph.Outputs = nil }, onnx.CheckOptions{}, "has no outputs"},
		{"node names", func(m *onnx.Model) { m.Graph.Nodes[1].Name = "/embed" }, onnx.CheckOptions{}, "another node has the same name"},
		{"unknown operator allowed", func(m *onnx.Model) { m.Graph.Nodes[2].Op = "MyMatMul" }, onnx.CheckOptions{AllowUnknown: true}, ""},
		{"unknown operator, complete", func(m *onnx.Model) {
			m.Graph.Nodes[2].Outputs[0], m.Graph.Outputs[0].Name = "l", "l"
			m.Graph.Outputs = append(m.Graph.Outputs, m.Graph.Inputs[0])
			m.Graph.Node("", "Mystery", "m", list("ids"), list("z"))
		}, onnx.CheckOptions{AllowUnknown: true, Complete: true}, `tensor "z": has no known type`},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, _ := tinyModel(t)
			c.edit(m)
			err := onnx.Check(m, c.o)
			if c.bad == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var ce *onnx.CheckError
			if !errors.As(err, &ce) || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("error %v, want a CheckError with %q", err, c.bad)
			}
		})
	}
}

// TestCheckBounded: a Gather of a tensor by itself doubles the rank; forty of
// them must not ask for 2^40 dims, and a name of a megabyte must not be
// repeated in a thousand problems.
func TestCheckBounded(t *testing.T) {
	g := onnx.NewGraph("bomb")
	in(g, "v0", onnx.I64, 2, strings.Repeat("n", 1<<20))
	for i := range 40 {
		v := fmt.Sprintf("v%d", i)
		g.Node("", "Gather", "", list(v, v), list(fmt.Sprintf("v%d", i+1)))
	}
	for i := range 2000 {
		g.Node("", "Transpose", "", list("v0"), list(fmt.Sprintf("t%d", i)), onnx.Ints("perm", 3, 4))
		g.Node("", "Squeeze", "", list("v1"), list(fmt.Sprintf("s%d", i)), onnx.Ints("axes", 3))
	}
	m := onnx.NewModel(g, onnx.Opset{Version: 24})
	var ce *onnx.CheckError
	if err := onnx.Check(m, onnx.CheckOptions{}); !errors.As(err, &ce) {
		t.Fatalf("no problem found: %v", err)
	}
	size := 0
	for _, p := range ce.Problems {
		size += len(p.Text)
	}
	if size > 4<<20 {
		t.Errorf("%d problems take %d bytes", len(ce.Problems), size)
	}
	if !strings.Contains(ce.Error(), "is more than 32") {
		t.Errorf("no word on the rank: %.300s", ce.Error())
	}
}
