package calibrate

import (
	"slices"

	"math"

	"github.com/llama-pajamas/llama-pajamas/arch"
)

// Stats holds the mean square of each input channel of the linear layers of one
// model.
type Stats struct {
	tied   bool
	layers []layerStats
	head   []float32 // [hidden]
}

type layerStats struct {
	attn    []float32 // input of q, k and v, [hidden]
	attnOut []float32 // input of o, [heads·head_dim]
	ffn     []float32 // input of gate and up, [hidden]
	ffnAct  []float32 // input of down, [intermediate]

	key   float32   // largest magnitude of the keys, after RoPE
	value []float32 // largest magnitudes of the values, [kv_heads·head_dim]
}

// CacheMax is the largest magnitude of a layer's keys, after RoPE, and values.
func (s *Stats) CacheMax(layer int) (key, value float32) {
	return s.layers[layer].key, slices.Max(s.layers[layer].value)
}

// Importance is the mean square of the input channels of the matrix that role
// and layer name, nil for one that multiplies no activations, such as an
// embedding that is not tied to the head. It must not be changed.
func (s *Stats) Importance(role arch.Role, layer int) []float32 {
	switch {
	case role == arch.LMHead, role == arch.TokenEmbd && s.tied:
		return s.head
	case layer < 0 || layer >= len(s.layers):
		return nil
	}
	l := &s.layers[layer]
	switch role {
	case arch.AttnQ, arch.AttnK, arch.AttnV:
		return l.attn
	case arch.AttnO:
		return l.attnOut
	case arch.FFNGate, arch.FFNUp:
		return l.ffn
	case arch.FFNDown:
		return l.ffnAct
	}
	return nil
}

// meanSquares is the mean of x² over the tokens, for each channel.
func meanSquares(x panel) []float32 {
	out := make([]float32, len(x)/Tokens)
	for c := range out {
		var sum float64
		for _, v := range x[c*Tokens:][:Tokens] {
			sum += float64(v) * float64(v)
		}
		out[c] = coarse(float32(sum / Tokens))
	}
	return out
}

// coarse rounds v >= 0 to 5 significant bits. Exponentials differ in their last
// bit between processors; after rounding the results almost never do.
func coarse(v float32) float32 {
	const drop = 23 - 4
	return math.Float32frombits((math.Float32bits(v) + 1<<(drop-1)) &^ (1<<drop - 1))
}
