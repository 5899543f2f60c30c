package quant_test

import (
	"math"
	"strings"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/quant"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

func TestSchemeCheck(t *testing.T) {
	good := quant.Scheme{Kind: quant.MatMulNBits, Bits: 4, Block: 32}
	for _, c := range []struct {
		name   string
		change func(*quant.Scheme)
		want   string // part of the error; "" for none
	}{
		{"as it is", func(s *quant.Scheme) {}, ""},
		{"float32 scales", func(s *quant.Scheme) { s.ScaleType = tensor.F32 }, ""},
		{"longest block", func(s *quant.Scheme) { s.Block = 256 }, ""},
		{"no kind", func(s *quant.Scheme) { s.Kind = 0 }, "unknown kind Kind(0)"},
		{"5 bits", func(s *quant.Scheme) { s.Bits = 5 }, "5 bits"},
		{"no bits", func(s *quant.Scheme) { s.Bits = 0 }, "0 bits"},
		{"short block", func(s *quant.Scheme) { s.Block = 8 }, "block length 8"},
		{"odd block", func(s *quant.Scheme) { s.Block = 40 }, "block length 40"},
		{"negative block", func(s *quant.Scheme) { s.Block = -32 }, "block length -32"},
		{"long block", func(s *quant.Scheme) { s.Block = 512 }, "block length 512"},
		{"bfloat16 scales", func(s *quant.Scheme) { s.ScaleType = tensor.BF16 }, "BF16"},
	} {
		s := good
		c.change(&s)
		err := s.Check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

func TestSchemeBytes(t *testing.T) {
	for _, c := range []struct {
		s                   quant.Scheme
		k                   int
		data, scales, zeros int
		bits                float64
	}{
		{quant.Scheme{Kind: quant.MatMulNBits, Bits: 4, Block: 32}, 64, 32, 4, 1, 4.625},
		{quant.Scheme{Kind: quant.MatMulNBits, Bits: 4, Block: 32, Symmetric: true}, 64, 32, 4, 0, 4.5},
		{quant.Scheme{Kind: quant.MatMulNBits, Bits: 8, Block: 32, Symmetric: true}, 576, 576, 36, 0, 8.5},
		{quant.Scheme{Kind: quant.MatMulNBits, Bits: 8, Block: 128, ScaleType: tensor.F32}, 129, 256, 8, 2, 266.0 * 8 / 129},
		{quant.Scheme{Kind: quant.MatMulNBits, Bits: 2, Block: 16}, 33, 12, 6, 1, 19.0 * 8 / 33},
		{quant.Scheme{Kind: quant.MatMulNBits, Bits: 4, Block: 32}, 0, 0, 0, 0, 0},
	} {
		if d, s, z := c.s.DataBytes(c.k), c.s.ScaleBytes(c.k), c.s.ZeroBytes(c.k); d != c.data || s != c.scales || z != c.zeros || c.s.RowBytes(c.k) != d+s+z {
			t.Errorf("%v, K %d: %d, %d, %d bytes, want %d, %d, %d", c.s, c.k, d, s, z, c.data, c.scales, c.zeros)
		}
		if got := c.s.BitsPerWeight(c.k); math.Abs(got-c.bits) > 1e-12 {
			t.Errorf("%v, K %d: %v bits a weight, want %v", c.s, c.k, got, c.bits)
		}
	}
}

func TestStats(t *testing.T) {
	var a, b, whole quant.Stats
	w, q := []float32{1, -2, 2, 4}, []float32{1, -1, 2.5, 4}
	a.AddSlices(w[:2], q[:2])
	b.AddSlices(w[2:], q[2:])
	a.Add(b)
	whole.AddSlices(w, q)
	want := quant.Stats{Weights: 4, Energy: 25, Error: 1.25, MaxError: 1}
	if a != want || whole != want {
		t.Errorf("in parts %+v, whole %+v, want %+v", a, whole, want)
	}
	if got := want.RelativeMSE(); got != 0.05 {
		t.Errorf("relative error %v, want 0.05", got)
	}
	if got := want.SNR(); math.Abs(got-13.0103) > 1e-4 {
		t.Errorf("signal to noise %v dB, want 13.0103", got)
	}
	if got := (quant.Stats{}); got.RelativeMSE() != 0 || !math.IsInf(got.SNR(), 1) {
		t.Errorf("nothing counted: %v, %v dB, want 0, +Inf", got.RelativeMSE(), got.SNR())
	}
}
