package ggml_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/internal/oracle"
	"github.com/llama-pajamas/llama-pajamas/quant/ggml"
)

var decoded = []ggml.Type{
	ggml.F32, ggml.F16, ggml.BF16, ggml.Q4_0, ggml.Q4_1, ggml.Q5_0, ggml.Q5_1, ggml.Q8_0,
	ggml.IQ4_NL, ggml.Q2_K, ggml.Q3_K, ggml.Q4_K, ggml.Q5_K, ggml.Q6_K,
}

// scaleAt gives the byte offsets of a block's f16 fields.
var scaleAt = map[ggml.Type][]int{
	ggml.Q4_0: {0}, ggml.Q4_1: {0, 2}, ggml.Q5_0: {0}, ggml.Q5_1: {0, 2}, ggml.Q8_0: {0}, ggml.IQ4_NL: {0},
	ggml.Q2_K: {80, 82}, ggml.Q3_K: {108}, ggml.Q4_K: {0, 2}, ggml.Q5_K: {0, 2}, ggml.Q6_K: {208},
}

// randomBlocks makes n blocks of random bytes; every fourth has an odd scale:
// zeros, the smallest and largest subnormal, the largest number, infinity.
func randomBlocks(t ggml.Type, n int) []byte {
	rng := rand.New(rand.NewPCG(uint64(t), 7))
	b := make([]byte, n*t.Bytes())
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	odd := []uint16{0, 0x8000, 1, 0x83ff, 0x7bff, 0xfbff, 0x7c00, 0x0400}
	for i := range n {
		for f, at := range scaleAt[t] {
			v := uint16(rng.Uint32())
			if v&0x7c00 == 0x7c00 {
				v &^= 0x4000
			}
			if i%4 == 0 {
				v = odd[(i/4+3*f)%len(odd)]
			}
			binary.LittleEndian.PutUint16(b[i*t.Bytes()+at:], v)
		}
	}
	return b
}

const dequantizeScript = `
import sys, numpy as np, gguf
np.seterr(all="ignore")
for arg in sys.argv[1:]:
    name, n = arg.split(":")
    data = np.frombuffer(sys.stdin.buffer.read(int(n)), np.uint8)
    sys.stdout.buffer.write(gguf.quants.dequantize(data, gguf.GGMLQuantizationType[name]).astype("<f4").tobytes())
`

func TestDequantizeOracle(t *testing.T) {
	const elements = 97 * 256
	var in []byte
	var args []string
	for _, typ := range decoded {
		b := randomBlocks(typ, elements/typ.Block())
		in = append(in, b...)
		args = append(args, fmt.Sprintf("%v:%d", typ, len(b)))
	}
	want := oracle.Run(t, dequantizeScript, in, args...)
	if len(want) != 4*elements*len(decoded) {
		t.Fatalf("oracle gave %d bytes for %d types", len(want), len(decoded))
	}
	for _, typ := range decoded {
		src := randomBlocks(typ, elements/typ.Block())
		got := make([]float32, elements)
		if err := ggml.Dequantize(got, src, typ); err != nil {
			t.Fatal(err)
		}
		for i, g := range got {
			w := math.Float32frombits(binary.LittleEndian.Uint32(want[4*i:]))
			if math.Float32bits(g) != math.Float32bits(w) && !(g != g && w != w) {
				t.Errorf("%v: element %d: %v (%#x), oracle has %v (%#x)", typ, i, g, math.Float32bits(g), w, math.Float32bits(w))
				break
			}
		}
		want = want[4*elements:]
	}
}

func TestTypesOracle(t *testing.T) {
	out := oracle.Run(t, "import gguf\nfor t,(b,s) in gguf.GGML_QUANT_SIZES.items(): print(t.name,int(t),b,s)", nil)
	var rows int
	for line := range lines(string(out)) {
		var name string
		var num uint32
		var block, bytes int
		if _, err := fmt.Sscan(line, &name, &num, &block, &bytes); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		typ := ggml.Type(num)
		if typ.String() != name || typ.Block() != block || typ.Bytes() != bytes {
			t.Errorf("%v: block %d bytes %d, oracle has %s", typ, typ.Block(), typ.Bytes(), line)
		}
		if p, ok := ggml.ParseType(name); !ok || p != typ {
			t.Errorf("ParseType(%q) = %v, %v", name, p, ok)
		}
		rows++
	}
	if rows < 30 {
		t.Errorf("oracle listed %d types", rows)
	}
}
