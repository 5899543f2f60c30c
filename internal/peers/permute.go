package main

import (
	"math/rand/v2"

	"github.com/llama-pajamas/llama-pajamas/arch"
)

// permutation renumbers what a decoder does not tell apart, so that logits stay
// the same: the channels of the residual stream, those of each MLP, and those
// of each kv head's values, where all query heads of its group take part. Rows
// and columns of every matrix are mixed by it, except the rows of q and k,
// whose order RoPE knows; blocks lie along columns, which are all mixed.
//
// new[i] = old[perm[i]] throughout.
type permutation struct {
	spec     *arch.Spec
	residual []int
	mlp      [][]int // by layer
	value    [][]int // by layer; over kv_heads·head_dim, within each head
	output   [][]int // by layer; over heads·head_dim, the same seen from o
}

// newPermutation draws one from a seed.
func newPermutation(s *arch.Spec, seed uint64) *permutation {
	rng := rand.New(rand.NewPCG(seed, seed))
	p := &permutation{spec: s, residual: rng.Perm(s.Hidden)}
	for range s.Layers {
		p.mlp = append(p.mlp, rng.Perm(s.Intermediate))
		var value, output []int
		for kv := range s.KVHeads {
			head := rng.Perm(s.HeadDim)
			value = appendShifted(value, head, kv*s.HeadDim)
			for q := range s.Heads / s.KVHeads {
				output = appendShifted(output, head, (kv*(s.Heads/s.KVHeads)+q)*s.HeadDim)
			}
		}
		p.value, p.output = append(p.value, value), append(p.output, output)
	}
	return p
}

func appendShifted(dst, perm []int, by int) []int {
	for _, i := range perm {
		dst = append(dst, i+by)
	}
	return dst
}

// apply permutes the elements of one weight, a row-major matrix [out, in] or a
// vector, into a new slice.
func (p *permutation) apply(w arch.Weight, x []float32) []float32 {
	var rows, cols []int // nil: as they are
	switch w.Role {
	case arch.TokenEmbd, arch.LMHead, arch.AttnQ, arch.AttnK, arch.AttnNorm, arch.FFNNorm, arch.FinalNorm,
		arch.PostAttnNorm, arch.PostFFNNorm:
		cols = p.residual
	case arch.AttnV:
		rows, cols = p.value[w.Layer], p.residual
	case arch.AttnVBias:
		cols = p.value[w.Layer]
	case arch.AttnO:
		rows, cols = p.residual, p.output[w.Layer]
	case arch.AttnOBias:
		cols = p.residual
	case arch.FFNGate, arch.FFNUp:
		rows, cols = p.mlp[w.Layer], p.residual
	case arch.FFNDown:
		rows, cols = p.residual, p.mlp[w.Layer]
	}
	width := w.Shape[len(w.Shape)-1]
	out := make([]float32, len(x))
	for r := range len(x) / width {
		from := r
		if rows != nil {
			from = rows[r]
		}
		src, dst := x[from*width:(from+1)*width], out[r*width:(r+1)*width]
		if cols == nil {
			copy(dst, src)
			continue
		}
		for i, c := range cols {
			dst[i] = src[c]
		}
	}
	return out
}
