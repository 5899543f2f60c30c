package qdq_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/quant/matmulnbits"
	"github.com/llama-pajamas/llama-pajamas/quant/qdq"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// allOptions are the layouts, with both types of scale and both methods.
func allOptions() []qdq.Options {
	var all []qdq.Options
	for _, o := range []qdq.Options{
		{}, {Block: 32}, {Block: 128, Positive: true}, {Bits: 4, Block: 32}, {Bits: 4, Block: 64, Positive: true}, {Bits: 4, Block: 128, Positive: true},
		{Bits: 4, Block: 64, Positive: true, Offsets: true},
	} {
		for _, t := range []tensor.DType{tensor.F16, tensor.F32} {
			for _, m := range []matmulnbits.Method{matmulnbits.Search, matmulnbits.RTN} {
				o.ScaleType, o.Method = t, m
				all = append(all, o)
			}
		}
	}
	return all
}

// weights are normal, with a row of zeros, a row of one outlier and rows whose
// largest weight is positive and negative.
func weights(rows, k int) []float32 {
	rng := rand.New(rand.NewPCG(1, uint64(rows*1000+k)))
	w := make([]float32, rows*k)
	for i := range w {
		w[i] = float32(rng.NormFloat64() * 0.05)
	}
	clear(w[:k])
	if rows > 2 {
		w[k], w[2*k+k-1] = 3, -3
	}
	return w
}

func TestError(t *testing.T) {
	const rows, k = 6, 160
	w := weights(rows, k)
	importance := make([]float32, k)
	for i := range importance {
		importance[i] = float32(1 + i%7*i%7)
	}
	for _, o := range allOptions() {
		t.Run(fmt.Sprintf("%v %v %v", o, o.Method, o.Positive), func(t *testing.T) {
			measure := func(o qdq.Options) (sum float64) {
				dst := qdq.MakeRows(rows, k, o)
				if err := qdq.QuantizeRows(dst, w, rows, k, o); err != nil {
					t.Fatal(err)
				}
				got := make([]float32, len(w))
				if err := qdq.DequantizeRows(got, dst, rows, k, o); err != nil {
					t.Fatal(err)
				}
				for i, v := range got {
					d := float64(v - w[i])
					sum += d * d * float64(importance[i%k])
				}
				for i := range rows * o.Blocks(k) {
					if s := scale(dst.Scales, i, o.ScaleType); (o.Positive || o.Block == 0) && !(s > 0) {
						t.Errorf("scale %d is %v, want one above zero", i, s)
					}
				}
				return sum
			}
			o.Importance = importance
			e := measure(o)
			var energy float64
			for i, v := range w {
				energy += float64(v) * float64(v) * float64(importance[i%k])
			}
			// A block of normal weights loses 1/3·(1/levels)² of its energy,
			// one beside an outlier much more.
			bound := map[int]float64{0: 1e-3, 8: 1e-3, 4: 0.05}[o.Bits]
			if e > bound*energy {
				t.Errorf("error %.3g of energy %.3g, want at most %.3g of it", e, energy, bound)
			}
			if o.Method == matmulnbits.Search {
				o.Method = matmulnbits.RTN
				if r := measure(o); e > r*(1+1e-6) {
					t.Errorf("search leaves an error of %.4g, round to nearest %.4g", e, r)
				}
			}
		})
	}
}

// TestOffsetsHelp wants less error from offsets than from symmetric blocks, on
// weights that do not lie around zero, and exact blocks stored exactly.
func TestOffsetsHelp(t *testing.T) {
	const rows, k = 4, 128
	w := weights(rows, k)
	for i := range w {
		w[i] += 0.03
	}
	o := qdq.Options{Bits: 4, Block: 64, Positive: true}
	failed := func(o qdq.Options, w []float32) float64 {
		dst := qdq.MakeRows(rows, k, o)
		if err := qdq.QuantizeRows(dst, w, rows, k, o); err != nil {
			t.Fatal(err)
		}
		got := make([]float32, len(w))
		if err := qdq.DequantizeRows(got, dst, rows, k, o); err != nil {
			t.Fatal(err)
		}
		var sum float64
		for i, v := range got {
			sum += float64(v-w[i]) * float64(v-w[i])
		}
		return sum
	}
	symmetric := failed(o, w)
	o.Offsets = true
	if e := failed(o, w); e > 0.9*symmetric {
		t.Errorf("error %.3g with offsets, %.3g without: want a tenth less at least", e, symmetric)
	}
	for i := range w {
		w[i] = 0.25*float32((i*7)%16-3) + 0.5
	}
	if e := failed(o, w); e != 0 {
		t.Errorf("error %.3g on weights that blocks with offsets hold exactly", e)
	}
}

func scale(b []byte, i int, t tensor.DType) float32 {
	if t == tensor.F32 {
		return math.Float32frombits(binary.LittleEndian.Uint32(b[i*4:]))
	}
	return tensor.F16ToF32(binary.LittleEndian.Uint16(b[i*2:]))
}

func TestBytesDoNotDependOnSplit(t *testing.T) {
	const rows, k = 8, 96
	w := weights(rows, k)
	for _, o := range allOptions() {
		all := qdq.MakeRows(rows, k, o)
		if err := qdq.QuantizeRows(all, w, rows, k, o); err != nil {
			t.Fatal(err)
		}
		var data, scales []byte
		for r := 0; r < rows; r += 2 {
			part := qdq.MakeRows(2, k, o)
			if err := qdq.QuantizeRows(part, w[r*k:(r+2)*k], 2, k, o); err != nil {
				t.Fatal(err)
			}
			data, scales = append(data, part.Data...), append(scales, part.Scales...)
		}
		if !bytes.Equal(data, all.Data) || !bytes.Equal(scales, all.Scales) {
			t.Errorf("%v: rows in pairs give other bytes than all at once", o)
		}
	}
}

func TestRefusals(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		name string
		o    qdq.Options
		w    []float32
		want string
	}{
		{"bits", qdq.Options{Bits: 3, Block: 32}, []float32{1, 2}, "choose 4 or 8"},
		{"four bits a row", qdq.Options{Bits: 4}, []float32{1, 2}, "block length"},
		{"odd row", qdq.Options{Bits: 4, Block: 32}, []float32{1, 2, 3}, "end on a byte"},
		{"block", qdq.Options{Block: 48}, []float32{1, 2}, "block length"},
		{"NaN", qdq.Options{}, []float32{1, nan}, "row 0, column 1"},
		{"infinity", qdq.Options{Block: 32}, []float32{inf, 1}, "row 0, column 0"},
		{"too large", qdq.Options{}, []float32{1, 1e9}, "too large"},
		{"importance", qdq.Options{Importance: []float32{1}}, []float32{1, 2}, "importance"},
	} {
		k := len(c.w)
		dst := qdq.MakeRows(1, k, c.o)
		err := qdq.QuantizeRows(dst, c.w, 1, k, c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
	}
}

func TestScatter(t *testing.T) {
	for _, c := range []struct{ n, first, rows, k, bits int }{
		{8, 2, 4, 6, 4}, {200, 64, 130, 10, 4}, {200, 7, 130, 9, 8}, {70, 3, 66, 5, 16}, {5, 0, 5, 1, 32}, {4, 4, 0, 2, 4},
	} {
		src := make([]byte, c.rows*c.k*c.bits/8)
		for i := range src {
			src[i] = byte(i*37 + 11)
		}
		dst := make([]byte, c.k*c.n*c.bits/8)
		if err := qdq.Scatter(dst, c.n, c.first, src, c.rows, c.k, c.bits); err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		at := func(b []byte, i int) uint64 {
			var v uint64
			for bit := range c.bits {
				p := i*c.bits + bit
				v |= uint64(b[p/8]>>(p%8)&1) << bit
			}
			return v
		}
		for k := range c.k {
			for n := range c.n {
				want := uint64(0)
				if r := n - c.first; r >= 0 && r < c.rows {
					want = at(src, r*c.k+k)
				}
				if got := at(dst, k*c.n+n); got != want {
					t.Fatalf("%+v: element [%d, %d] is %#x, want %#x", c, k, n, got, want)
				}
			}
		}
	}
	for _, c := range []struct{ n, first, rows, k, bits int }{{7, 0, 2, 2, 4}, {8, 1, 2, 2, 4}, {8, 0, 2, 2, 3}, {8, 7, 2, 2, 8}, {8, -2, 2, 2, 8}} {
		if err := qdq.Scatter(make([]byte, 16), c.n, c.first, make([]byte, 4), c.rows, c.k, c.bits); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}

// decodeScript runs DequantizeLinear of ONNX Runtime, without optimizations,
// over each case's bytes and writes the weights as float32 [N, K].
const decodeScript = `
import json, sys
import numpy as np, onnx, onnxruntime as ort
from onnx import helper, TensorProto as T
head, _, body = sys.stdin.buffer.read().partition(b"\n")
o = ort.SessionOptions()
o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
for c in json.loads(head):
    n, k, block = c["Rows"], c["K"], c["Block"]
    data = body[c["At"]:c["At"] + c["Data"]]
    scales = body[c["At"] + c["Data"]:c["At"] + c["Data"] + c["Scales"]]
    half = c["Half"]
    elem, st = (T.INT8 if c["Bits"] == 8 else T.INT4), (T.FLOAT16 if half else T.FLOAT)
    nb = (k + block - 1)//block if block else 1
    if c["Columns"]:
        dims, sdims, axis = [k, n], ([nb, n] if block else [n]), (0 if block else 1)
    else:
        dims, sdims, axis = [n, k], ([n, nb] if block else [n]), (1 if block else 0)
    attrs = {"axis": axis}
    if block: attrs["block_size"] = block
    g = helper.make_graph([helper.make_node("DequantizeLinear", ["w", "s"], ["y"], **attrs)], "g", [],
        [helper.make_tensor_value_info("y", st, dims)],
        [onnx.TensorProto(name="w", data_type=elem, dims=dims, raw_data=data), onnx.TensorProto(name="s", data_type=st, dims=sdims, raw_data=scales)])
    m = helper.make_model(g, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(m, full_check=True)
    y = ort.InferenceSession(m.SerializeToString(), o, providers=["CPUExecutionProvider"]).run(None, {})[0].astype("<f4")
    sys.stdout.buffer.write((y.T if c["Columns"] else y).tobytes())
`

type decodeCase struct {
	Rows, K, Bits, Block, At, Data, Scales int
	Half, Columns                          bool

	want []float32
}

// TestDecodedByONNXRuntime wants exactly our decoded values from the operator,
// rows as rows and scattered as columns.
func TestDecodedByONNXRuntime(t *testing.T) {
	const rows = 6
	var cases []decodeCase
	var body []byte
	for _, o := range allOptions() {
		if o.Offsets {
			continue // the operator does not know them
		}
		for _, k := range []int{64, 256, 172} {
			w := weights(rows, k)
			dst := qdq.MakeRows(rows, k, o)
			if err := qdq.QuantizeRows(dst, w, rows, k, o); err != nil {
				t.Fatal(err)
			}
			c := decodeCase{Rows: rows, K: k, Bits: 8, Block: o.Block, Data: len(dst.Data), Scales: len(dst.Scales), Half: o.ScaleType == tensor.F16, want: make([]float32, rows*k)}
			if o.Bits == 4 {
				c.Bits = 4
			}
			if err := qdq.DequantizeRows(c.want, dst, rows, k, o); err != nil {
				t.Fatal(err)
			}
			if c.Half {
				for i, v := range c.want {
					c.want[i] = tensor.F16ToF32(tensor.F32ToF16(v))
				}
			}
			for _, columns := range []bool{false, true} {
				c.At, c.Columns = len(body), columns
				if !columns {
					body = append(append(body, dst.Data...), dst.Scales...)
					cases = append(cases, c)
					continue
				}
				data, scales := make([]byte, len(dst.Data)), make([]byte, len(dst.Scales))
				if err := qdq.Scatter(data, rows, 0, dst.Data, rows, k, c.Bits); err != nil {
					t.Fatal(err)
				}
				if err := qdq.Scatter(scales, rows, 0, dst.Scales, rows, o.Blocks(k), 8*o.ScaleType.Size()); err != nil {
					t.Fatal(err)
				}
				body = append(append(body, data...), scales...)
				cases = append(cases, c)
			}
		}
	}
	head, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	out := oracle.Run(t, decodeScript, append(append(head, '\n'), body...))
	for _, c := range cases {
		for i, want := range c.want {
			if len(out) < 4 {
				t.Fatal("the oracle's answer ends early")
			}
			got := math.Float32frombits(binary.LittleEndian.Uint32(out))
			out = out[4:]
			if got != want {
				t.Fatalf("%+v: weight %d is %v by the operator, %v by DequantizeRows", c, i, got, want)
			}
		}
	}
}
