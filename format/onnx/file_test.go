package onnx_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// writeModel writes model.onnx and a data file of rising float32 values.
func writeModel(t *testing.T, m *onnx.Model, dataBytes int) string {
	t.Helper()
	dir := t.TempDir()
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	data := make([]float32, dataBytes/4)
	for i := range data {
		data[i] = float32(i)
	}
	raw := make([]byte, dataBytes)
	tensor.EncodeF32(raw, data)
	for name, content := range map[string][]byte{"model.onnx": b, "model.onnx.data": raw} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "model.onnx")
}

func TestOpen(t *testing.T) {
	m, layout := tinyModel(t)
	f, err := onnx.Open(writeModel(t, m, int(layout.Size())))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := f.DataBytes(); got != 160 {
		t.Errorf("DataBytes() = %d, want 160", got)
	}
	head, err := f.Tensor("head")
	if err != nil {
		t.Fatal(err)
	}
	if got := head.Shape.String(); got != "[4, 10]" {
		t.Errorf("head has shape %s, want [4, 10]", got)
	}
	row := make([]float32, 3)
	if err := head.ReadFloat32(row, 37); err != nil {
		t.Fatal(err)
	}
	if row[0] != 37 || row[2] != 39 {
		t.Errorf("elements 37 to 39 are %v", row)
	}
	shape, err := f.Initializer("flat")
	if err != nil {
		t.Fatal(err)
	}
	section, err := f.Section(shape)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(section)
	if err != nil || !bytes.Equal(raw, shape.Data) {
		t.Errorf("inline bytes %x, %v; want %x", raw, err, shape.Data)
	}
	if _, err := f.Tensor("missing"); err == nil || !strings.Contains(err.Error(), `no initializer "missing"`) {
		t.Errorf("missing tensor: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	broken := func(edit func(e *onnx.External)) *onnx.Model {
		m, _ := tinyModel(t)
		for _, init := range m.Graph.Initializers {
			if init.External != nil {
				edit(init.External)
				break
			}
		}
		return m
	}
	for _, c := range []struct {
		name string
		m    *onnx.Model
		data int
		want string
	}{
		{"parent folder", broken(func(e *onnx.External) { e.Location = "../model.onnx.data" }), 160, "leaves the model's folder"},
		{"hidden parent", broken(func(e *onnx.External) { e.Location = "a/../../x" }), 160, "leaves the model's folder"},
		{"absolute", broken(func(e *onnx.External) { e.Location = "/etc/hostname" }), 160, "leaves the model's folder"},
		{"drive", broken(func(e *onnx.External) { e.Location = `C:\x` }), 160, "backslash"},
		{"folder", broken(func(e *onnx.External) { e.Location = "." }), 160, "is no file"},
		{"missing file", broken(func(e *onnx.External) { e.Location = "other.data" }), 160, "other.data"},
		{"truncated data", broken(func(e *onnx.External) {}), 159, "ends beyond"},
		{"offset beyond", broken(func(e *onnx.External) { e.Offset = 4096 }), 160, "ends beyond"},
		{"lying length", broken(func(e *onnx.External) { e.Length = 8 }), 160, "external data of 8 bytes, but FLOAT [10 4] takes 160"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := writeModel(t, c.m, c.data)
			f, err := onnx.Open(path)
			if err == nil {
				f.Close()
				t.Fatal("opened")
			}
			var fe *tensor.FormatError
			if !errors.As(err, &fe) || fe.Path != path {
				t.Errorf("%v is no FormatError of %s", err, path)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q, want one with %q", err, c.want)
			}
		})
	}
	if _, err := onnx.Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	tiny, _ := tinyModel(t)
	whole, err := tiny.Encode()
	if err != nil {
		t.Fatal(err)
	}
	nested := []byte{}
	for range 60 { // graph in attribute in node, over and over
		attr := protowire.AppendBytes(protowire.AppendTag(nil, 6, protowire.BytesType), nested)
		node := protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), attr)
		nested = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), node)
	}
	nested = protowire.AppendBytes(protowire.AppendTag(nil, 7, protowire.BytesType), nested)
	many := bytes.Repeat(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), nil), 2<<20)
	many = protowire.AppendBytes(protowire.AppendTag(nil, 7, protowire.BytesType), many)
	for _, c := range []struct {
		name string
		in   []byte
		want string
	}{
		{"empty", nil, "the model has none"},
		{"text", []byte("<!doctype html>"), "not an ONNX protobuf message"},
		{"truncated", whole[:len(whole)-7], "not an ONNX protobuf message"},
		{"nested", nested, "nest more than"},
		{"many messages", many, "holds more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := allocated()
			_, err := onnx.Decode(c.in)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			var fe *tensor.FormatError
			if !errors.As(err, &fe) {
				t.Errorf("%T is no FormatError", err)
			}
			if used := allocated() - before; used > 1<<20 {
				t.Errorf("allocated %d bytes to refuse %d", used, len(c.in))
			}
		})
	}
}

// allocated is the heap memory handed out so far.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func TestEncodeRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(m *onnx.Model)
		want string
	}{
		{"no graph", func(m *onnx.Model) { m.Graph = nil }, "has no graph"},
		{"dropped parts", func(m *onnx.Model) { m.Dropped = []string{"2 functions"} }, "2 functions"},
		{"short data", func(m *onnx.Model) { m.Graph.Initializers[2].Data = []byte{1} }, `initializer "flat": 1 bytes of data, but INT64 [2] takes 16`},
		{"both data", func(m *onnx.Model) { m.Graph.Initializers[0].Data = []byte{1} }, "both inline and external"},
		{"2 GB", func(m *onnx.Model) {
			mega := make([]byte, 1<<20) // shared by all: only the sum is looked at
			for range 2048 {
				m.Graph.Initializer(onnx.Initializer{Elem: onnx.U8, Dims: []int64{1 << 20}, Data: mega})
			}
		}, "exceed the 2 GB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, _ := tinyModel(t)
			c.edit(m)
			if _, err := m.Encode(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// typedScript prints a model whose initializers use the typed fields
// (float_data, int32_data, ...) and the raw bytes each should have.
const typedScript = `
import base64, json, sys
import numpy as np, onnx
from onnx import TensorProto as T, helper, numpy_helper
vals = {T.FLOAT: [0.5, -2], T.DOUBLE: [1e300, 3], T.INT64: [-1, 1 << 40], T.INT32: [-5, 7], T.UINT64: [1 << 63, 1], T.UINT32: [1 << 31, 2],
        T.INT16: [-3, 4], T.UINT16: [60000, 1], T.INT8: [-128, 5], T.UINT8: [200, 1], T.BOOL: [True, False], T.FLOAT16: [1.5, -0.25],
        T.BFLOAT16: [1.5, -3], T.INT4: [-8, 7, 3], T.UINT4: [15, 1, 9], T.INT2: [-2, 1, 0, -1, 1], T.UINT2: [3, 0, 1, 2, 3], T.FLOAT8E4M3FN: [1.0, 2.0],
        T.COMPLEX64: [1 + 2j, 3 - 4j]}
inits, raw = [], {}
for t, v in vals.items():
    name = T.DataType.Name(t)
    p = helper.make_tensor(name, t, [len(v)], v)
    assert not p.HasField('raw_data'), name
    inits.append(p)
    q = numpy_helper.from_array(numpy_helper.to_array(p), name)
    assert q.data_type == t, name
    raw[name] = base64.b64encode(q.raw_data).decode()
g = helper.make_graph([helper.make_node('Identity', ['FLOAT'], ['y'])], 'typed', [], [helper.make_tensor_value_info('y', T.FLOAT, [2])], inits)
m = helper.make_model(g, opset_imports=[helper.make_opsetid('', 25)])
json.dump({'Model': base64.b64encode(m.SerializeToString()).decode(), 'Raw': raw}, sys.stdout)
`

// TestOracleTypedData reads constants in the typed fields that other writers use.
func TestOracleTypedData(t *testing.T) {
	var out struct {
		Model []byte
		Raw   map[string][]byte
	}
	if err := json.Unmarshal(oracle.Run(t, typedScript, nil), &out); err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Decode(out.Model)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Graph.Initializers) != len(out.Raw) || len(out.Raw) < 15 {
		t.Fatalf("%d initializers, want %d", len(m.Graph.Initializers), len(out.Raw))
	}
	for _, init := range m.Graph.Initializers {
		if init.Elem.String() != init.Name {
			t.Errorf("%s is read as %v", init.Name, init.Elem)
		}
		if want := out.Raw[init.Name]; !bytes.Equal(init.Data, want) {
			t.Errorf("%s is %x, want %x", init.Name, init.Data, want)
		}
	}
	if err := onnx.Check(m, onnx.CheckOptions{}); err != nil {
		t.Error(err)
	}
}
