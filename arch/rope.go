package arch

import "math"

// RoPE holds the constants of rotary position embedding. Pairs are (i,
// i+dim/2) of the rotated elements, the half-rotated order of Hugging Face
// checkpoints.
type RoPE struct {
	Theta float64
	// Type is "default", "linear", "llama3", "yarn" or "longrope".
	Type string
	// Factor divides the frequencies ("linear", and the low ones of "llama3"
	// and "yarn").
	Factor float64
	// LowFreqFactor, HighFreqFactor and OriginalContext bound the band in
	// which llama3 scaling blends.
	LowFreqFactor, HighFreqFactor float64
	OriginalContext               int
	// BetaFast and BetaSlow are the rotations within OriginalContext between
	// which yarn blends; WholePairs rounds the band to whole pairs.
	BetaFast, BetaSlow float64
	WholePairs         bool
	// ShortFactors and LongFactors divide longrope's frequencies, one for each
	// pair: the long ones wherever a run ends beyond OriginalContext.
	ShortFactors, LongFactors []float64
	// Scale multiplies cosines and sines; 0 means 1. Scores grow by its square.
	Scale float64
}

// Long is the embedding of runs that end beyond OriginalContext, where that is
// another.
func (r RoPE) Long() (long RoPE, ok bool) {
	if r.Type != "longrope" {
		return r, false
	}
	r.ShortFactors = r.LongFactors
	return r, true
}

// InvFreq is the angle per position of each of the dim/2 pairs, in float32 as
// transformers holds it: theta^(-2i/dim), scaled. Of longrope it is the short
// one. Source: modeling_rope_utils.
func (r RoPE) InvFreq(dim int) []float32 {
	out := make([]float32, dim/2)
	low, high := 0.0, 0.0
	if r.Type == "yarn" {
		low, high = r.yarnBand(dim)
	}
	for i := range out {
		pair := math.Pow(r.Theta, float64(2*i)/float64(dim))
		f := float32(1 / pair)
		switch r.Type {
		case "linear":
			f = float32(float64(f) / r.Factor)
		case "llama3":
			f = r.llama3(f)
		case "yarn":
			ramp := min(max((float64(i)-low)/(high-low), 0), 1)
			f = float32(ramp/(r.Factor*pair) + (1-ramp)/pair)
		case "longrope":
			f = float32(1 / (r.ShortFactors[i] * pair))
		}
		out[i] = f
	}
	return out
}

// yarnBand is the range of pairs over which yarn goes from frequencies as they
// are to those divided by Factor (_compute_yarn_parameters; Peng et al. 2023).
func (r RoPE) yarnBand(dim int) (low, high float64) {
	pair := func(rotations float64) float64 {
		return float64(dim) * math.Log(float64(r.OriginalContext)/(rotations*2*math.Pi)) / (2 * math.Log(r.Theta))
	}
	low, high = pair(r.BetaFast), pair(r.BetaSlow)
	if r.WholePairs {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, float64(dim-1))
	if low == high {
		high += 0.001
	}
	return low, high
}

func (r RoPE) llama3(f float32) float32 {
	old := float64(r.OriginalContext)
	wavelen := 2 * math.Pi / float64(f)
	switch {
	case wavelen < old/r.HighFreqFactor:
		return f
	case wavelen > old/r.LowFreqFactor:
		return float32(float64(f) / r.Factor)
	}
	smooth := (old/wavelen - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
	return float32((1-smooth)*float64(f)/r.Factor + smooth*float64(f))
}

// CosSin is cosine and sine of an angle, times Scale.
func (r RoPE) CosSin(angle float64) (cos, sin float32) {
	s, c := math.Sincos(angle)
	if r.Scale != 0 {
		c, s = c*r.Scale, s*r.Scale
	}
	return float32(c), float32(s)
}

// Table fills cos and sin, each [positions, dim/2], from float64 products of
// the float32 frequencies.
func (r RoPE) Table(positions, dim int) (cos, sin []float32) {
	inv := r.InvFreq(dim)
	cos = make([]float32, positions*len(inv))
	sin = make([]float32, positions*len(inv))
	for p := range positions {
		for i, f := range inv {
			cos[p*len(inv)+i], sin[p*len(inv)+i] = r.CosSin(float64(p) * float64(f))
		}
	}
	return cos, sin
}
