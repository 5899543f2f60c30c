package calibrate

import (
	"fmt"
	"math"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/arch"
)

// Input names what the matrices of a decoder layer multiply: four activations
// for seven matrices.
type Input uint8

const (
	QKV     Input = iota // normed hidden state, [hidden]: q, k and v
	AttnOut              // joined heads, [heads·head_dim]: o
	GateUp               // normed hidden state, [hidden]: gate and up
	Down                 // SiLU(gate)·up, [intermediate]: down

	// Inputs is their number.
	Inputs = 4
)

// String is the name recipes use.
func (i Input) String() string {
	if int(i) < Inputs {
		return [...]string{"qkv", "o", "gate_up", "down"}[i]
	}
	return fmt.Sprintf("Input(%d)", uint8(i))
}

// ParseInput finds an input by the name recipes use.
func ParseInput(name string) (Input, bool) {
	for i := range Input(Inputs) {
		if i.String() == name {
			return i, true
		}
	}
	return 0, false
}

// inputOf is the input that a layer's matrix multiplies.
func inputOf(role arch.Role) (Input, bool) {
	switch role {
	case arch.AttnQ, arch.AttnK, arch.AttnV:
		return QKV, true
	case arch.AttnO:
		return AttnOut, true
	case arch.FFNGate, arch.FFNUp:
		return GateUp, true
	case arch.FFNDown:
		return Down, true
	}
	return 0, false
}

// Channels are figures of each channel of an activation, over the tokens seen.
type Channels struct {
	MeanSquare []float32 // mean of x²
	MeanAbs    []float32 // mean of |x|
	MaxAbs     []float32 // largest |x|
	// WeightMax is the largest magnitude in the channel's column, over the
	// matrices that multiply the activation.
	WeightMax []float32
}

// Stats holds what a model's activations look like.
type Stats struct {
	// Source says how they came about, for people.
	Source string
	// Tokens is how many were seen.
	Tokens int

	tied   bool
	layers []layerStats
	head   Channels // input of the head, [hidden]
}

type layerStats struct {
	in    [Inputs]Channels
	key   float32   // largest magnitude of the keys, after RoPE
	value []float32 // largest magnitudes of the values, [kv_heads·head_dim]
}

// CacheMax is the largest magnitude of a layer's keys, after RoPE, and values.
func (s *Stats) CacheMax(layer int) (key, value float32) {
	return s.layers[layer].key, slices.Max(s.layers[layer].value)
}

// Layers is the number of decoder layers.
func (s *Stats) Layers() int { return len(s.layers) }

// Channels are the figures of one input of a layer. They must not be changed.
func (s *Stats) Channels(layer int, in Input) Channels { return s.layers[layer].in[in] }

// Head are the figures of the head's input.
func (s *Stats) Head() Channels { return s.head }

// of finds the figures of the input of the matrix that role and layer name.
func (s *Stats) of(role arch.Role, layer int) (Channels, bool) {
	switch {
	case role == arch.LMHead, role == arch.TokenEmbd && s.tied:
		return s.head, true
	case layer < 0 || layer >= len(s.layers):
		return Channels{}, false
	}
	in, ok := inputOf(role)
	if !ok {
		return Channels{}, false
	}
	return s.layers[layer].in[in], true
}

// Importance is the mean square of the input channels of the matrix that role
// and layer name, nil for one that multiplies no activations, such as an
// embedding that is not tied to the head. It must not be changed.
func (s *Stats) Importance(role arch.Role, layer int) []float32 {
	c, _ := s.of(role, layer)
	return c.MeanSquare
}

// MaxAbs is the largest magnitude of the input of the matrix that role and
// layer name; 0 where it multiplies no activations.
func (s *Stats) MaxAbs(role arch.Role, layer int) float32 {
	c, _ := s.of(role, layer)
	return largestOf(c.MaxAbs)
}

func largestOf(x []float32) float32 {
	if len(x) == 0 {
		return 0
	}
	return slices.Max(x)
}

// describe gives the figures of an activation of the probe.
func describe(x panel) Channels {
	n := len(x) / Tokens
	c := Channels{MeanSquare: make([]float32, n), MeanAbs: make([]float32, n), MaxAbs: largest(x, n)}
	for i := range n {
		var square, abs float64
		for _, v := range x[i*Tokens:][:Tokens] {
			square += float64(v) * float64(v)
			abs += math.Abs(float64(v))
		}
		c.MeanSquare[i] = coarse(float32(square / Tokens))
		c.MeanAbs[i] = coarse(float32(abs / Tokens))
		c.MaxAbs[i] = coarse(c.MaxAbs[i])
	}
	return c
}

// coarse rounds v >= 0 to 5 significant bits. Exponentials differ in their last
// bit between processors; after rounding the results almost never do.
func coarse(v float32) float32 {
	const drop = 23 - 4
	return math.Float32frombits((math.Float32bits(v) + 1<<(drop-1)) &^ (1<<drop - 1))
}
