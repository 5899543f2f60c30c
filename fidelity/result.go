package fidelity

import "math"

// Result is what an [Accumulator] has seen so far. Standard errors take
// positions as independent; those of one text are not quite, so read them as
// lower bounds.
type Result struct {
	Tokens int `json:"tokens"` // positions compared
	Scored int `json:"scored"` // of them with a target token

	KLMean   float64 `json:"kl_mean"` // KL(reference ‖ model), nats
	KLStdErr float64 `json:"kl_stderr"`
	KLMax    float64 `json:"kl_max"`

	// Top1 is the share of positions with the same best token, Top5 of those
	// where the reference's best token is among the model's five best.
	Top1       float64 `json:"top1"`
	Top1StdErr float64 `json:"top1_stderr"`
	Top5       float64 `json:"top5"`
	Top5StdErr float64 `json:"top5_stderr"`

	// The perplexities are over the scored positions; 0 when there are none.
	RefPerplexity       float64 `json:"reference_perplexity"`
	RefPerplexityStdErr float64 `json:"reference_perplexity_stderr"`
	Perplexity          float64 `json:"perplexity"`
	PerplexityStdErr    float64 `json:"perplexity_stderr"`
	// PerplexityRatio is model over reference; its error is of the paired
	// differences, far smaller than that of either perplexity.
	PerplexityRatio       float64 `json:"perplexity_ratio"`
	PerplexityRatioStdErr float64 `json:"perplexity_ratio_stderr"`

	MaxDelta float64 `json:"max_abs_logit_delta"`
}

// Result computes the figures. All are 0 before the first Add.
func (a *Accumulator) Result() Result {
	r := Result{
		Tokens: a.kl.n, Scored: a.nllRef.n,
		KLMean: a.kl.mean, KLStdErr: a.kl.stdErr(), KLMax: a.klMax,
		MaxDelta: a.maxDelta,
	}
	if n := float64(a.kl.n); n > 0 {
		r.Top1, r.Top5 = float64(a.top1)/n, float64(a.top5)/n
		r.Top1StdErr = math.Sqrt(r.Top1 * (1 - r.Top1) / n)
		r.Top5StdErr = math.Sqrt(r.Top5 * (1 - r.Top5) / n)
	}
	if a.nllRef.n > 0 {
		r.RefPerplexity, r.RefPerplexityStdErr = a.nllRef.exp()
		r.Perplexity, r.PerplexityStdErr = a.nllGot.exp()
		r.PerplexityRatio, r.PerplexityRatioStdErr = a.nllDelta.exp()
	}
	return r
}

// moments are the running weighted mean and the sum of squared deviations
// (Welford, Technometrics 1962, with weights by West, CACM 1979; merging by Chan
// et al. 1983).
type moments struct {
	n        int
	weight   float64 // sum of the weights; n where all are 1
	mean, m2 float64
}

func (m *moments) add(x, weight float64) {
	m.n++
	m.weight += weight
	d := x - m.mean
	m.mean += d * weight / m.weight
	m.m2 += weight * d * (x - m.mean)
}

func (m *moments) merge(o moments) {
	if o.n == 0 {
		return
	}
	w := m.weight + o.weight
	d := o.mean - m.mean
	m.mean += d * o.weight / w
	m.m2 += o.m2 + d*d*m.weight*o.weight/w
	m.n += o.n
	m.weight = w
}

// stdErr is the standard error of the mean, 0 for fewer than two values.
func (m moments) stdErr() float64 {
	if m.n < 2 {
		return 0
	}
	return math.Sqrt(m.m2 / m.weight / float64(m.n-1))
}

// exp is e^mean and its standard error to first order.
func (m moments) exp() (value, stdErr float64) {
	v := math.Exp(m.mean)
	return v, v * m.stdErr()
}
