package reference

import (
	"math"
	"slices"
)

// Forward appends tokens to the sequence and returns their logits, one row of
// [vocab] for each: row i scores what follows tokens[i]. Token ids must lie
// below the vocabulary's size.
func (m *Model) Forward(tokens []int32) [][]float32 {
	hidden := m.Hidden(tokens)
	return linear(m.head, nil, hidden)
}

// Hidden is [Model.Forward] without the head: the normed hidden states,
// [len(tokens), hidden].
func (m *Model) Hidden(tokens []int32) [][]float32 {
	m.growTables(m.length + len(tokens))
	x := make([][]float32, len(tokens))
	for i, id := range tokens {
		x[i] = slices.Clone(m.embed.row(int(id)))
	}
	m.observe(-1, Embedded, x)
	for i := range m.layers {
		m.attention(i, x)
		m.mlp(i, x)
		m.observe(i, LayerOut, x)
	}
	m.length += len(tokens)
	x = m.norm(m.finalNorm, x)
	m.observe(-1, FinalNorm, x)
	return x
}

// attention adds the attention block of layer i to the residual stream x.
func (m *Model) attention(i int, x [][]float32) {
	l := &m.layers[i]
	h := m.norm(l.attnNorm, x)
	m.observe(i, AttnNorm, h)
	q, k, v := linear(l.q, l.qBias, h), linear(l.k, l.kBias, h), linear(l.v, l.vBias, h)
	for t := range x {
		m.normHeads(l.qNorm, q[t])
		m.normHeads(l.kNorm, k[t])
		m.rotate(q[t], m.length+t)
		m.rotate(k[t], m.length+t)
		l.keys = append(l.keys, k[t]...)
		l.values = append(l.values, v[t]...)
	}
	m.observe(i, Query, q)
	m.observe(i, Key, k)
	m.observe(i, Value, v)
	out := make([][]float32, len(x))
	parallel(len(x), func(t int) {
		out[t] = m.attend(l, q[t], m.length+t+1)
	})
	m.observe(i, AttnOut, out)
	add(x, linear(l.o, l.oBias, out))
	m.observe(i, AttnAdded, x)
}

// attend is softmax(q·Kᵀ/√head_dim)·V of one query, [heads·head_dim], over the
// first n positions of the cache. Query head h reads key head h/(heads/kv_heads).
func (m *Model) attend(l *layer, q []float32, n int) []float32 {
	d, kv := m.Spec.HeadDim, m.Spec.KVHeads*m.Spec.HeadDim
	group := m.Spec.Heads / m.Spec.KVHeads
	scale := 1 / math.Sqrt(float64(d))
	out := make([]float32, len(q))
	p := make([]float64, n)
	sum := make([]float64, d)
	for h := range m.Spec.Heads {
		qh, at := q[h*d:(h+1)*d], h/group*d
		for j := range p {
			p[j] = scale * dot(qh, l.keys[j*kv+at:j*kv+at+d])
		}
		softmax(p)
		clear(sum)
		for j, pj := range p {
			for c, v := range l.values[j*kv+at : j*kv+at+d] {
				sum[c] += pj * float64(v)
			}
		}
		for c, s := range sum {
			out[h*d+c] = float32(s)
		}
	}
	return out
}

// mlp adds down(silu(gate(norm(x)))·up(norm(x))) of layer i to x.
func (m *Model) mlp(i int, x [][]float32) {
	l := &m.layers[i]
	h := m.norm(l.ffnNorm, x)
	m.observe(i, FFNNorm, h)
	gate, up := linear(l.gate, nil, h), linear(l.up, nil, h)
	for t := range gate {
		for c, g := range gate[t] {
			silu := float64(g) / (1 + math.Exp(-float64(g)))
			gate[t][c] = float32(silu * float64(up[t][c]))
		}
	}
	m.observe(i, FFNAct, gate)
	add(x, linear(l.down, nil, gate))
}

// norm is RMSNorm of each row: x/√(mean(x²)+eps)·w.
func (m *Model) norm(w []float32, x [][]float32) [][]float32 {
	out := make([][]float32, len(x))
	for t := range x {
		out[t] = slices.Clone(x[t])
		rmsNorm(out[t], w, float64(m.Spec.NormEps))
	}
	return out
}

// normHeads applies RMSNorm to each head of x in place; w is [head_dim], nil
// where the architecture norms no heads.
func (m *Model) normHeads(w, x []float32) {
	if w == nil {
		return
	}
	for head := range slices.Chunk(x, m.Spec.HeadDim) {
		rmsNorm(head, w, float64(m.Spec.NormEps))
	}
}

// rotate applies RoPE for one position to each head of x in place. Element i
// pairs with i+head_dim/2.
func (m *Model) rotate(x []float32, position int) {
	half := m.Spec.HeadDim / 2
	cos, sin := m.cos[position*half:], m.sin[position*half:]
	for head := range slices.Chunk(x, m.Spec.HeadDim) {
		for i := range half {
			a, b := float64(head[i]), float64(head[i+half])
			c, s := float64(cos[i]), float64(sin[i])
			head[i] = float32(a*c - b*s)
			head[i+half] = float32(b*c + a*s)
		}
	}
}

// growTables makes the RoPE tables cover n positions.
func (m *Model) growTables(n int) {
	half := m.Spec.HeadDim / 2
	if have := len(m.cos) / half; n > have {
		m.cos, m.sin = m.Spec.RoPE.Table(max(n, 2*have), m.Spec.HeadDim)
	}
}

func (m *Model) observe(layer int, at Point, x [][]float32) {
	if m.Observe != nil {
		m.Observe(layer, at, x)
	}
}
