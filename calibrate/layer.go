package calibrate

import (
	"context"
	"math"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/arch"
)

// noBias stands for the bias of layers that never have one.
const noBias arch.Role = 0

// layer adds decoder layer l to the residual stream x and notes what its
// matrices see. The formulas are those of internal/reference.
func (p *prober) layer(ctx context.Context, l int, x panel, stats *layerStats) error {
	h, err := p.norm(arch.AttnNorm, l, x)
	if err != nil {
		return err
	}
	stats.in[QKV] = describe(h)
	a, err := p.attention(ctx, l, h, stats)
	if err != nil {
		return err
	}
	stats.in[AttnOut] = describe(a)
	y, err := p.linear(ctx, arch.AttnO, arch.AttnOBias, l, a)
	if err != nil {
		return err
	}
	if err := p.add(x, y, arch.PostAttnNorm, l); err != nil {
		return err
	}
	if h, err = p.norm(arch.FFNNorm, l, x); err != nil {
		return err
	}
	stats.in[GateUp] = describe(h)
	gate, err := p.linear(ctx, arch.FFNGate, noBias, l, h)
	if err != nil {
		return err
	}
	up, err := p.linear(ctx, arch.FFNUp, noBias, l, h)
	if err != nil {
		return err
	}
	for i, g := range gate {
		gate[i] = float32(p.activation(float64(g)) * float64(up[i]))
	}
	stats.in[Down] = describe(gate)
	if y, err = p.linear(ctx, arch.FFNDown, noBias, l, gate); err != nil {
		return err
	}
	return p.add(x, y, arch.PostFFNNorm, l)
}

// add adds y to the residual stream x, normed where the model does so.
func (p *prober) add(x, y panel, norm arch.Role, l int) error {
	if p.spec.PostNorms {
		var err error
		if y, err = p.norm(norm, l, y); err != nil {
			return err
		}
	}
	for i, v := range y {
		x[i] += v
	}
	return nil
}

// activation is the MLP's: SiLU or GELU in its tanh form.
func (p *prober) activation(x float64) float64 {
	if p.spec.GELU {
		return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+float64(0.044715*x*x)*x)))
	}
	return x / (1 + math.Exp(-x))
}

// norm is RMSNorm over the channels of each token.
func (p *prober) norm(role arch.Role, layer int, x panel) (panel, error) {
	w, err := p.vector(role, layer)
	if err != nil {
		return nil, err
	}
	out := make(panel, len(x))
	p.rmsNorm(out, x, w)
	return out, nil
}

// rmsNorm sets out to x/√(mean(x²)+eps)·w; out may be x.
func (p *prober) rmsNorm(out, x panel, w []float32) {
	var r [Tokens]float64
	for c := range w {
		for t, v := range x[c*Tokens:][:Tokens] {
			r[t] += float64(v) * float64(v)
		}
	}
	for t, sum := range r {
		r[t] = 1 / math.Sqrt(sum/float64(len(w))+float64(p.spec.NormEps))
	}
	for c, g := range w {
		for t, v := range x[c*Tokens:][:Tokens] {
			out[c*Tokens+t] = float32(float64(v) * r[t] * float64(g))
		}
	}
}

// attention is softmax(cap(q·Kᵀ·scale))·V of every head, causal, for the normed
// hidden states h: [heads·head_dim].
func (p *prober) attention(ctx context.Context, l int, h panel, stats *layerStats) (panel, error) {
	s := p.spec
	q, err := p.linear(ctx, arch.AttnQ, arch.AttnQBias, l, h)
	if err != nil {
		return nil, err
	}
	k, err := p.linear(ctx, arch.AttnK, arch.AttnKBias, l, h)
	if err != nil {
		return nil, err
	}
	v, err := p.linear(ctx, arch.AttnV, arch.AttnVBias, l, h)
	if err != nil {
		return nil, err
	}
	if err := p.position(q, arch.QNorm, l); err != nil {
		return nil, err
	}
	if err := p.position(k, arch.KNorm, l); err != nil {
		return nil, err
	}
	stats.key, stats.value = slices.Max(largest(k, len(k)/Tokens)), largest(v, len(v)/Tokens)
	size := s.HeadDim * Tokens
	out := make(panel, len(q))
	for head := range s.Heads {
		kv := head / (s.Heads / s.KVHeads)
		p.attend(l, out[head*size:][:size], q[head*size:][:size], k[kv*size:][:size], v[kv*size:][:size])
	}
	return out, nil
}

// largest is the largest magnitude of each channel of x.
func largest(x panel, channels int) []float32 {
	out := make([]float32, channels)
	for c := range out {
		for _, v := range x[c*Tokens:][:Tokens] {
			out[c] = max(out[c], v, -v)
		}
	}
	return out
}

// position norms each head of x, where the model does, and rotates it by RoPE:
// element i of the rotated ones pairs with i + rotary/2.
func (p *prober) position(x panel, norm arch.Role, l int) error {
	var w []float32
	if p.spec.QKNorm {
		var err error
		if w, err = p.vector(norm, l); err != nil {
			return err
		}
	}
	rope := p.spec.RoPEOf(l)
	if long, ok := rope.Long(); ok && Tokens > rope.OriginalContext {
		rope = long
	}
	cos, sin := rope.Table(Tokens, p.spec.Rotary())
	half := p.spec.Rotary() / 2
	for at := 0; at < len(x); at += p.spec.HeadDim * Tokens {
		head := x[at:][:p.spec.HeadDim*Tokens]
		if w != nil {
			p.rmsNorm(head, head, w)
		}
		for i := range half {
			lo, hi := head[i*Tokens:][:Tokens], head[(i+half)*Tokens:][:Tokens]
			for t := range Tokens {
				c, s := float64(cos[t*half+i]), float64(sin[t*half+i])
				a, b := float64(lo[t]), float64(hi[t])
				lo[t], hi[t] = float32(a*c-b*s), float32(b*c+a*s)
			}
		}
	}
	return nil
}

// attend is one head's attention in layer l: q, k, v and out are
// [head_dim][Tokens].
func (p *prober) attend(l int, out, q, k, v panel) {
	dim := len(q) / Tokens
	scale, limit := p.spec.AttnScale(), float64(p.spec.AttnSoftcap)
	for t := range Tokens {
		first := 0
		if w := p.spec.WindowOf(l); w > 0 {
			first = max(0, t+1-w)
		}
		var score [Tokens]float64
		top := math.Inf(-1)
		for j := first; j <= t; j++ {
			for c := range dim {
				score[j] += float64(q[c*Tokens+t]) * float64(k[c*Tokens+j])
			}
			score[j] *= scale
			if limit > 0 {
				score[j] = limit * math.Tanh(score[j]/limit)
			}
			top = max(top, score[j])
		}
		var sum float64
		for j := first; j <= t; j++ {
			score[j] = math.Exp(score[j] - top)
			sum += score[j]
		}
		for c := range dim {
			var o float64
			for j := first; j <= t; j++ {
				o += float64(score[j] * float64(v[c*Tokens+j]))
			}
			out[c*Tokens+t] = float32(o / sum)
		}
	}
}
