package tinymodel

import (
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Spec is the parsed config of v.
func (v Variant) Spec() (*arch.Spec, error) {
	s, err := arch.Parse(v.ConfigJSON())
	if err != nil {
		return nil, fmt.Errorf("config of tiny checkpoint %s: %w", v.Name, err)
	}
	return s, nil
}

// Load returns the spec of v and its weights by name, in memory, as a view of
// the values that [Write] stores.
func Load(v Variant) (*arch.Spec, func(name string) (*tensor.Tensor, bool), error) {
	s, err := v.Spec()
	if err != nil {
		return nil, nil, err
	}
	byName := map[string]*tensor.Tensor{}
	for _, w := range v.weights(s) {
		byName[w.name] = &tensor.Tensor{
			Name: w.name, Shape: w.shape, Type: v.DType.String(),
			Bytes: int64(len(w.values) * v.DType.Size()), Reader: memory(w.values),
		}
	}
	get := func(name string) (*tensor.Tensor, bool) {
		t, ok := byName[name]
		return t, ok
	}
	return s, s.View(get), nil
}

// weight is one stored tensor, its values already rounded to the stored type.
type weight struct {
	name   string
	shape  tensor.Shape
	values []float32
}

func (v Variant) weights(s *arch.Spec) []weight {
	var out []weight
	for _, w := range s.Weights() {
		x := v.round(values(w))
		switch {
		case w.Row > 0:
			last := &out[len(out)-1]
			last.values = append(last.values, x...)
			last.shape = tensor.Shape{last.shape[0] + w.Shape[0], w.Shape[1]}
		case w.Stored != "":
			out = append(out, weight{w.Stored, w.Shape, x})
		default:
			out = append(out, weight{w.Name, w.Shape, x})
		}
	}
	if v.InvFreq {
		for l := range s.Layers {
			name := fmt.Sprintf("model.layers.%d.self_attn.rotary_emb.inv_freq", l)
			f := s.RoPE.InvFreq(s.HeadDim)
			out = append(out, weight{name, tensor.Shape{len(f)}, v.round(f)})
		}
	}
	return out
}

// values draws the elements of w. The spread keeps the residual stream near 1
// and makes attention, biases and norms matter to the logits: a program that
// drops one of them is seen.
func values(w arch.Weight) []float32 {
	n, _ := w.Shape.Elements()
	mean, spread := 0.0, 0.25
	switch w.Role {
	case arch.TokenEmbd:
		spread = 0.6
	case arch.AttnQ, arch.AttnK:
		spread = 1.5 / math.Sqrt(float64(w.Shape[1]))
	case arch.AttnV, arch.AttnO, arch.FFNGate, arch.FFNUp, arch.FFNDown, arch.Router, arch.ExpertGate, arch.ExpertUp, arch.ExpertDown:
		spread = 1 / math.Sqrt(float64(w.Shape[1]))
	case arch.LMHead:
		spread = 4 / math.Sqrt(float64(w.Shape[1]))
	case arch.AttnNorm, arch.FFNNorm, arch.FinalNorm, arch.QNorm, arch.KNorm, arch.PostAttnNorm, arch.PostFFNNorm:
		mean = 1 - float64(w.Plus)
	}
	r := source(w.Name)
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(mean + float64(spread*bell(r)))
	}
	return out
}

// source is seeded by the tensor's name, so that a tensor's bytes depend on no
// other tensor.
func source(name string) *rand.Rand {
	h := fnv.New64a()
	io.WriteString(h, name) //nolint:errcheck // a hash never fails
	return rand.New(rand.NewPCG(h.Sum64(), 1))
}

// bell is near to a normal deviate of mean 0 and spread 1: four uniform ones,
// which are the same on every machine, where NormFloat64 calls math.Log.
func bell(r *rand.Rand) float64 {
	return (r.Float64() + r.Float64() + r.Float64() + r.Float64() - 2) * math.Sqrt(3)
}

// round rounds x, in place, to the stored type.
func (v Variant) round(x []float32) []float32 {
	for i, f := range x {
		switch v.DType {
		case tensor.F16:
			x[i] = tensor.F16ToF32(tensor.F32ToF16(f))
		case tensor.BF16:
			x[i] = tensor.BF16ToF32(tensor.F32ToBF16(f))
		}
	}
	return x
}

// memory is a [tensor.Reader] over float32 values.
type memory []float32

func (m memory) ReadFloat32(dst []float32, offset int64) error {
	if offset < 0 || offset > int64(len(m)) || int64(len(dst)) > int64(len(m))-offset {
		return fmt.Errorf("read elements %d to %d of %d", offset, offset+int64(len(dst)), len(m))
	}
	copy(dst, m[offset:])
	return nil
}
