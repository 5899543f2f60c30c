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
	add(x, y)
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
		gate[i] = float32(float64(g) / (1 + math.Exp(-float64(g))) * float64(up[i]))
	}
	stats.in[Down] = describe(gate)
	if y, err = p.linear(ctx, arch.FFNDown, noBias, l, gate); err != nil {
		return err
	}
	add(x, y)
	return nil
}

func add(x, y panel) {
	for i, v := range y {
		x[i] += v
	}
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

// attention is softmax(q·Kᵀ/√head_dim)·V of every head, causal, for the normed
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
		attend(out[head*size:][:size], q[head*size:][:size], k[kv*size:][:size], v[kv*size:][:size])
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
// element i pairs with i + head_dim/2.
func (p *prober) position(x panel, norm arch.Role, l int) error {
	var w []float32
	if p.spec.QKNorm {
		var err error
		if w, err = p.vector(norm, l); err != nil {
			return err
		}
	}
	half := p.spec.HeadDim / 2
	for at := 0; at < len(x); at += p.spec.HeadDim * Tokens {
		head := x[at:][:p.spec.HeadDim*Tokens]
		if w != nil {
			p.rmsNorm(head, head, w)
		}
		for i := range half {
			lo, hi := head[i*Tokens:][:Tokens], head[(i+half)*Tokens:][:Tokens]
			for t := range Tokens {
				c, s := float64(p.cos[t*half+i]), float64(p.sin[t*half+i])
				a, b := float64(lo[t]), float64(hi[t])
				lo[t], hi[t] = float32(a*c-b*s), float32(b*c+a*s)
			}
		}
	}
	return nil
}

// attend is one head's attention: q, k, v and out are [head_dim][Tokens].
func attend(out, q, k, v panel) {
	dim := len(q) / Tokens
	scale := 1 / math.Sqrt(float64(dim))
	for t := range Tokens {
		var score [Tokens]float64
		top := math.Inf(-1)
		for j := range t + 1 {
			for c := range dim {
				score[j] += float64(q[c*Tokens+t]) * float64(k[c*Tokens+j])
			}
			score[j] *= scale
			top = max(top, score[j])
		}
		var sum float64
		for j := range t + 1 {
			score[j] = math.Exp(score[j] - top)
			sum += score[j]
		}
		for c := range dim {
			var o float64
			for j := range t + 1 {
				o += float64(score[j] * float64(v[c*Tokens+j]))
			}
			out[c*Tokens+t] = float32(o / sum)
		}
	}
}
