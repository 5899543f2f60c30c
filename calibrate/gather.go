package calibrate

import (
	"fmt"
	"math"

	"github.com/llama-pajamas/llama-pajamas/arch"
)

// InputOf is the input that a layer's matrix multiplies; ok is false for
// weights that are no matrix of a layer.
func InputOf(role arch.Role) (in Input, ok bool) { return inputOf(role) }

// NewStats makes empty statistics, to be filled layer by layer and ended by
// [Stats.Finish]. source says where they come from.
func NewStats(spec *arch.Spec, source string, tokens int) *Stats {
	return &Stats{Source: source, Tokens: tokens, tied: spec.Tied, layers: make([]layerStats, spec.Layers)}
}

// Layer gives the figures of a layer for filling.
func (s *Stats) Layer(l int) Layer { return Layer{&s.layers[l]} }

// Layer fills in the figures of one layer. Its methods may be called once for
// each part of a text.
type Layer struct{ s *layerStats }

// AddWeights looks at a weight, row-major; all but matrices are ignored.
func (l Layer) AddWeights(w arch.Weight, x []float32) {
	if in, ok := inputOf(w.Role); ok {
		l.s.in[in].addWeightMax(columnMax(nil, x, w.Shape[1]))
	}
}

// AddMeanSquare counts the mean square of each channel over one of parts equal
// parts of the text.
func (l Layer) AddMeanSquare(in Input, mean []float32, parts int) {
	addMean(&l.s.in[in].MeanSquare, mean, parts)
}

// AddMeanAbs does the same for the mean magnitude.
func (l Layer) AddMeanAbs(in Input, mean []float32, parts int) {
	addMean(&l.s.in[in].MeanAbs, mean, parts)
}

func addMean(to *[]float32, mean []float32, parts int) {
	if *to == nil {
		*to = make([]float32, len(mean))
	}
	for i, v := range mean {
		(*to)[i] += v / float32(parts)
	}
}

// AddMaxAbs raises the largest magnitude of each channel.
func (l Layer) AddMaxAbs(in Input, m []float32) { l.s.in[in].MaxAbs = raise(l.s.in[in].MaxAbs, m) }

// AddKeys raises the layer's largest key to those of its channels, after RoPE.
func (l Layer) AddKeys(m []float32) {
	for _, v := range m {
		l.s.key = max(l.s.key, v)
	}
}

// AddValues raises the largest magnitude of each channel of the values.
func (l Layer) AddValues(m []float32) { l.s.value = raise(l.s.value, m) }

// raise sets each element to the larger of both; to may be nil.
func raise(to, m []float32) []float32 {
	if to == nil {
		to = make([]float32, len(m))
	}
	for i, v := range m {
		to[i] = max(to[i], v)
	}
	return to
}

// AddHead looks at inputs of the head, [tokens, hidden] row-major, all at once.
func (s *Stats) AddHead(x []float32, width int) {
	square, abs := make([]float64, width), make([]float64, width)
	s.head = Channels{MeanSquare: make([]float32, width), MeanAbs: make([]float32, width), MaxAbs: make([]float32, width)}
	for i, v := range x {
		c := i % width
		square[c] += float64(v) * float64(v)
		abs[c] += math.Abs(float64(v))
		s.head.MaxAbs[c] = max(s.head.MaxAbs[c], v, -v)
	}
	tokens := float64(len(x) / width)
	for c := range width {
		s.head.MeanSquare[c], s.head.MeanAbs[c] = float32(square[c]/tokens), float32(abs[c]/tokens)
	}
}

// Finish rounds the figures, so that they do not depend on the order of a
// runtime's sums, and refuses what is missing or not finite.
func (s *Stats) Finish() error {
	check := func(what string, x []float32) error {
		if len(x) == 0 {
			return fmt.Errorf("calibration: nothing was seen of %s", what)
		}
		for c, v := range x {
			if !(v <= math.MaxFloat32) {
				return fmt.Errorf("calibration: channel %d of %s is %v: the weights are damaged or not what the configuration says", c, what, v)
			}
			x[c] = coarse(v)
		}
		return nil
	}
	for l := range s.layers {
		for i, c := range s.layers[l].in {
			what := fmt.Sprintf("the %v input of layer %d", Input(i), l)
			for _, x := range [][]float32{c.MeanSquare, c.MeanAbs, c.MaxAbs} {
				if err := check(what, x); err != nil {
					return err
				}
			}
		}
		if err := check(fmt.Sprintf("the values of layer %d", l), s.layers[l].value); err != nil {
			return err
		}
		s.layers[l].key = coarse(s.layers[l].key)
	}
	for _, x := range [][]float32{s.head.MeanSquare, s.head.MeanAbs, s.head.MaxAbs} {
		if err := check("the head's input", x); err != nil {
			return err
		}
	}
	return nil
}
