package matmulnbits_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/quant/matmulnbits"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// rtnCase is one matrix for ONNX Runtime's quantizer; Offset is in weights.
type rtnCase struct {
	Name      string
	Rows, K   int
	Bits      int
	Block     int
	Symmetric bool
	Half      bool // float16 weights and scales
	Offset    int

	w []float32
}

// rtnScript quantizes every case by the functions behind
// onnxruntime.quantization.matmul_nbits_quantizer and writes data, scales and
// zero points of each, one after the other.
const rtnScript = `
import json, sys
import numpy as np
from onnxruntime.capi import _pybind_state as ort
head, _, body = sys.stdin.buffer.read().partition(b"\n")
weights = np.frombuffer(body, dtype="<f4")
quantize = {2: ort.quantize_matmul_2bits, 4: ort.quantize_matmul_4bits, 8: ort.quantize_matmul_8bits}
for c in json.loads(head):
    n, k, bits, block = c["Rows"], c["K"], c["Bits"], c["Block"]
    w = weights[c["Offset"]:c["Offset"] + n*k].reshape(n, k)
    w = np.ascontiguousarray(w.T.astype(np.float16 if c["Half"] else np.float32))
    nb = (k + block - 1) // block
    data = np.zeros((n, nb, block*bits//8), dtype=np.uint8)
    scales = np.zeros((n, nb), dtype=w.dtype)
    zeros = np.zeros((n, (nb*bits + 7)//8), dtype=np.uint8)
    quantize[bits](data, w, scales, zeros, block, n, k, c["Symmetric"])
    for a in (data, scales) if c["Symmetric"] else (data, scales, zeros):
        sys.stdout.buffer.write(a.tobytes())
`

// TestRTNBytesAgainstONNXRuntime wants the bytes of the quantizer of
// ONNX Runtime 1.32.
func TestRTNBytesAgainstONNXRuntime(t *testing.T) {
	cases := rtnCases()
	var body bytes.Buffer
	n := 0
	for i := range cases {
		c := &cases[i]
		c.Offset = n
		n += len(c.w)
		if err := binary.Write(&body, binary.LittleEndian, c.w); err != nil {
			t.Fatal(err)
		}
	}
	head, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	want := oracle.Run(t, rtnScript, append(append(head, '\n'), body.Bytes()...))
	for _, c := range cases {
		o := matmulnbits.Options{Bits: c.Bits, Block: c.Block, Symmetric: c.Symmetric, Method: matmulnbits.RTN, ScaleType: tensor.F32}
		if c.Half {
			o.ScaleType = tensor.F16
		}
		got := matmulnbits.MakeRows(c.Rows, c.K, o)
		if _, err := matmulnbits.QuantizeRows(got, c.w, c.Rows, c.K, o); err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		for _, part := range []struct {
			name  string
			bytes []byte
		}{{"data", got.Data}, {"scales", got.Scales}, {"zeros", got.Zeros}} {
			if len(want) < len(part.bytes) {
				t.Fatalf("%s: the oracle's answer ends early", c.Name)
			}
			ref := want[:len(part.bytes)]
			want = want[len(part.bytes):]
			if part.name == "data" {
				hidePadding(part.bytes, c)
				hidePadding(ref, c)
			}
			if i := firstDifference(part.bytes, ref); i >= 0 {
				t.Errorf("%s: %s differs first at byte %d of %d: have %#02x, ONNX Runtime has %#02x", c.Name, part.name, i, len(ref), part.bytes[i], ref[i])
			}
		}
	}
	if len(want) != 0 {
		t.Errorf("the oracle wrote %d bytes more than expected", len(want))
	}
}

// hidePadding clears the codes beyond K that share a byte with the last weight
// of a row: ONNX Runtime leaves arbitrary codes there when K is odd, and no
// operator reads them.
func hidePadding(data []byte, c rtnCase) {
	used := c.K * c.Bits % 8
	row := len(data) / c.Rows
	for at := c.K * c.Bits / 8; used != 0 && at < len(data); at += row {
		data[at] &= 1<<used - 1
	}
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

func rtnCases() []rtnCase {
	var cases []rtnCase
	for _, bits := range []int{2, 4, 8} {
		for _, block := range []int{16, 32, 64, 128, 256} {
			for _, k := range []int{block, 3 * block, 2*block + 1, 2*block - 7, 5} {
				for _, sym := range []bool{true, false} {
					for _, half := range []bool{false, true} {
						c := rtnCase{Rows: 24, K: k, Bits: bits, Block: block, Symmetric: sym, Half: half}
						c.Name = fmt.Sprintf("%d bits, block %d, K %d, symmetric %v, float16 %v", bits, block, k, sym, half)
						c.w = hardRows(c.Rows, k, block, half)
						cases = append(cases, c)
					}
				}
			}
		}
	}
	return cases
}

// hardRows makes rows of random weights of several sizes, with outliers, one
// sign only, constants, zeros, denormals and values half-way between codes.
func hardRows(rows, k, block int, half bool) []float32 {
	r := rand.New(rand.NewPCG(uint64(k), uint64(block)))
	w := make([]float32, rows*k)
	for row := range rows {
		size := math.Exp(r.Float64()*8 - 7)
		for c := range k {
			v := r.NormFloat64() * size
			switch row {
			case 1:
				v = 0
			case 2:
				v = 0.25
			case 3:
				v = -0.25
			case 4:
				v = math.Abs(v)
			case 5:
				v = -math.Abs(v)
			case 6:
				if c%block == 3 {
					v *= 60
				}
			case 7:
				v *= 0x1p-135 // denormal in float32
			case 8:
				v = float64(r.IntN(33)-16) / 16 // often half-way
			case 9:
				v = float64(r.IntN(16)-8) * 0.5 // exact codes
			case 10:
				v = math.Copysign(0, v)
			case 11:
				v = math.Copysign(1.5, v)
			case 12:
				v *= 0x1p-18 // scale denormal in float16
			case 13:
				if c%block != 0 {
					v = 0
				}
			}
			w[row*k+c] = float32(v)
		}
	}
	if half {
		for i, v := range w {
			w[i] = tensor.F16ToF32(tensor.F32ToF16(v))
		}
	}
	return w
}

// runScript makes one-node models of the bytes of each case, runs them in
// ONNX Runtime and writes, as float32: the product of x with MatMulNBits, then,
// where K is a multiple of the block, all rows through GatherBlockQuantized.
// accuracy_level 0 keeps the activations in float32.
const runScript = `
import json, sys
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
import onnxruntime as ort

def run(node, inits, feeds):
    values = [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in feeds.items()]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    g = helper.make_graph([node], "g", values, [out], [numpy_helper.from_array(v, k) for k, v in inits.items()])
    m = helper.make_model(g, ir_version=10, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)])
    o = ort.SessionOptions(); o.log_severity_level = 3; o.intra_op_num_threads = 1
    return ort.InferenceSession(m.SerializeToString(), o, providers=["CPUExecutionProvider"]).run(None, feeds)[0]

head, _, body = sys.stdin.buffer.read().partition(b"\n")
at = 0
def take(n):
    global at
    at += n
    return body[at-n:at]
for c in json.loads(head):
    n, k, bits, block = c["Rows"], c["K"], c["Bits"], c["Block"]
    nb = (k + block - 1) // block
    init = {"b": np.frombuffer(take(n*nb*block*bits//8), np.uint8).reshape(n, nb, -1)}
    init["s"] = np.frombuffer(take(n*nb*(2 if c["Half"] else 4)), np.float16 if c["Half"] else np.float32).reshape(n, nb).astype(np.float32)
    if not c["Symmetric"]:
        init["z"] = np.frombuffer(take(n*((nb*bits + 7)//8)), np.uint8).reshape(n, -1)
    x = np.frombuffer(take(4*3*k), np.float32).reshape(3, k)
    node = helper.make_node("MatMulNBits", ["x"] + list(init), ["y"], domain="com.microsoft", K=k, N=n, bits=bits, block_size=block, accuracy_level=0)
    sys.stdout.buffer.write(run(node, init, {"x": x}).astype("<f4").tobytes())
    if k % block == 0:
        init["b"] = init["b"].reshape(n, -1)
        names = list(init)
        node = helper.make_node("GatherBlockQuantized", ["b", "i"] + names[1:], ["y"], domain="com.microsoft", bits=bits, block_size=block, gather_axis=0, quantize_axis=1)
        sys.stdout.buffer.write(run(node, init, {"i": np.arange(n, dtype=np.int64)}).astype("<f4").tobytes())
`

// TestONNXRuntimeReadsOurBytes: MatMulNBits and GatherBlockQuantized see the
// weights that [matmulnbits.DequantizeRows] sees.
func TestONNXRuntimeReadsOurBytes(t *testing.T) {
	var cases []rtnCase
	var body bytes.Buffer
	var weights, inputs [][]float32
	for _, bits := range []int{2, 4, 8} {
		for _, block := range []int{16, 32, 128} {
			for _, k := range []int{3 * block, 2*block + 8} {
				for _, sym := range []bool{true, false} {
					c := rtnCase{Rows: 24, K: k, Bits: bits, Block: block, Symmetric: sym, Half: bits != 8}
					o := matmulnbits.Options{Bits: bits, Block: block, Symmetric: sym, ScaleType: tensor.F32}
					if c.Half {
						o.ScaleType = tensor.F16
					}
					c.Name = fmt.Sprintf("%v, K %d", o.Scheme(), k)
					r, _ := quantize(t, gaussian(c.Rows*k, uint64(k*bits)), c.Rows, k, o)
					x := gaussian(3*k, uint64(block))
					body.Write(r.Data)
					body.Write(r.Scales)
					if !sym {
						body.Write(r.Zeros)
					}
					if err := binary.Write(&body, binary.LittleEndian, x); err != nil {
						t.Fatal(err)
					}
					cases, weights, inputs = append(cases, c), append(weights, dequantize(t, r, c.Rows, k, o)), append(inputs, x)
				}
			}
		}
	}
	head, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	answer := oracle.Run(t, runScript, append(append(head, '\n'), body.Bytes()...))
	floats := make([]float32, len(answer)/4)
	if err := tensor.Decode(floats, answer, tensor.F32); err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		w, x := weights[i], inputs[i]
		for m := range 3 {
			for n := range c.Rows {
				var want, size float64
				for k := range c.K {
					p := float64(x[m*c.K+k]) * float64(w[n*c.K+k])
					want, size = want+p, size+math.Abs(p)
				}
				if got := float64(floats[m*c.Rows+n]); math.Abs(got-want) > 1e-6*size {
					t.Fatalf("%s: MatMulNBits gives %v for row %d, want %v", c.Name, got, n, want)
				}
			}
		}
		floats = floats[3*c.Rows:]
		if c.K%c.Block != 0 {
			continue
		}
		if j := firstFloatDifference(w, floats); j >= 0 {
			t.Errorf("%s: GatherBlockQuantized gives %v for weight %d, want %v", c.Name, floats[j], j, w[j])
		}
		floats = floats[len(w):]
	}
	if len(floats) != 0 {
		t.Errorf("the oracle wrote %d values more than expected", len(floats))
	}
}
