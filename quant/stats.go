package quant

import "math"

// Stats adds up the error of quantized weights. The zero value is ready; add
// the parts of a matrix in a fixed order, and the figures do not depend on how
// the work was split.
type Stats struct {
	// Weights is the number of weights counted.
	Weights int64 `json:"weights"`
	// Energy is the sum of w².
	Energy float64 `json:"energy"`
	// Error is the sum of (w - ŵ)², ŵ the weight as a reader of the stored
	// form sees it.
	Error float64 `json:"error"`
	// MaxError is the largest |w - ŵ|.
	MaxError float64 `json:"max_error"`
}

// Add counts o too.
func (s *Stats) Add(o Stats) {
	s.Weights += o.Weights
	s.Energy += o.Energy
	s.Error += o.Error
	s.MaxError = max(s.MaxError, o.MaxError)
}

// AddSlices counts the weights w that are read back as q; len(q) >= len(w).
func (s *Stats) AddSlices(w, q []float32) {
	q = q[:len(w)]
	s.Weights += int64(len(w))
	for i, x := range w {
		d := float64(x) - float64(q[i])
		s.Energy += float64(x) * float64(x)
		s.Error += d * d
		s.MaxError = max(s.MaxError, math.Abs(d))
	}
}

// RelativeMSE is Error/Energy: 0 is exact, 1 is as bad as storing zeros. It is
// 0 where there is nothing to lose.
func (s Stats) RelativeMSE() float64 {
	if s.Energy == 0 {
		return 0
	}
	return s.Error / s.Energy
}

// SNR is the signal-to-noise ratio in decibels, +Inf for an exact copy.
func (s Stats) SNR() float64 { return -10 * math.Log10(s.RelativeMSE()) }
