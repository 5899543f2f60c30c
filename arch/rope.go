package arch

import "math"

// RoPE holds the constants of rotary position embedding. Pairs are (i,
// i+head_dim/2), the half-rotated order of Hugging Face checkpoints.
type RoPE struct {
	Theta float64
	// Type is "default", "linear" or "llama3".
	Type string
	// Factor divides the frequencies ("linear", and the low ones of "llama3").
	Factor float64
	// LowFreqFactor, HighFreqFactor and OriginalContext bound the band in
	// which llama3 scaling blends.
	LowFreqFactor, HighFreqFactor float64
	OriginalContext               int
}

// InvFreq is the angle per position of each of the dim/2 pairs, in float32 as
// transformers holds it: theta^(-2i/dim), scaled. llama3: modeling_rope_utils,
// _compute_llama3_parameters.
func (r RoPE) InvFreq(dim int) []float32 {
	out := make([]float32, dim/2)
	for i := range out {
		f := float32(1 / math.Pow(r.Theta, float64(2*i)/float64(dim)))
		switch r.Type {
		case "linear":
			f = float32(float64(f) / r.Factor)
		case "llama3":
			f = r.llama3(f)
		}
		out[i] = f
	}
	return out
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

// Table fills cos and sin, each [positions, dim/2], from float64 products of
// the float32 frequencies.
func (r RoPE) Table(positions, dim int) (cos, sin []float32) {
	inv := r.InvFreq(dim)
	cos = make([]float32, positions*len(inv))
	sin = make([]float32, positions*len(inv))
	for p := range positions {
		for i, f := range inv {
			s, c := math.Sincos(float64(p) * float64(f))
			cos[p*len(inv)+i], sin[p*len(inv)+i] = float32(c), float32(s)
		}
	}
	return cos, sin
}
