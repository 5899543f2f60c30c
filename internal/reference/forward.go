package reference

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Forward appends tokens to the sequence and returns their logits, one row of
// [vocab] for each: row i scores what follows tokens[i]. Token ids must lie
// below the vocabulary's size.
func (m *Model) Forward(tokens []int32) [][]float32 {
	logits := linear(m.head, nil, m.Hidden(tokens))
	for _, row := range logits {
		for i, v := range row {
			row[i] = float32(softcap(float64(v), m.Spec.LogitSoftcap))
		}
	}
	return logits
}

// Hidden is [Model.Forward] without the head: the normed hidden states,
// [len(tokens), hidden].
func (m *Model) Hidden(tokens []int32) [][]float32 {
	x := make([][]float32, len(tokens))
	for i, id := range tokens {
		x[i] = slices.Clone(m.embed.row(int(id)))
	}
	if scale := m.Spec.EmbedScale; scale != 0 {
		for _, row := range x {
			for c := range row {
				row[c] *= scale
			}
		}
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
	rope := m.rope(i, m.length+len(x))
	for t := range x {
		m.normHeads(l.qNorm, q[t])
		m.normHeads(l.kNorm, k[t])
		m.rotate(rope, q[t], m.length+t)
		m.rotate(rope, k[t], m.length+t)
		l.keys = append(l.keys, k[t]...)
		l.values = append(l.values, v[t]...)
	}
	m.observe(i, Query, q)
	m.observe(i, Key, k)
	m.observe(i, Value, v)
	out := make([][]float32, len(x))
	parallel(len(x), func(t int) {
		end, start := m.length+t+1, 0
		if w := m.Spec.WindowOf(i); w > 0 {
			start = max(0, end-w)
		}
		out[t] = m.attend(l, q[t], start, end)
	})
	m.observe(i, AttnOut, out)
	add(x, m.post(l.postAttn, linear(l.o, l.oBias, out)))
	m.observe(i, AttnAdded, x)
}

// attend is softmax(cap(q·Kᵀ·scale))·V of one query, [heads·head_dim], over the
// positions [start, end) of the cache. Query head h reads key head
// h/(heads/kv_heads).
func (m *Model) attend(l *layer, q []float32, start, end int) []float32 {
	d, kv := m.Spec.HeadDim, m.Spec.KVHeads*m.Spec.HeadDim
	group := m.Spec.Heads / m.Spec.KVHeads
	scale := m.Spec.AttnScale()
	out := make([]float32, len(q))
	p := make([]float64, end-start)
	keys, values := l.keys[start*kv:], l.values[start*kv:]
	sum := make([]float64, d)
	for h := range m.Spec.Heads {
		qh, at := q[h*d:(h+1)*d], h/group*d
		for j := range p {
			p[j] = softcap(scale*dot(qh, keys[j*kv+at:j*kv+at+d]), m.Spec.AttnSoftcap)
		}
		softmax(p)
		clear(sum)
		for j, pj := range p {
			for c, v := range values[j*kv+at : j*kv+at+d] {
				sum[c] += pj * float64(v)
			}
		}
		for c, s := range sum {
			out[h*d+c] = float32(s)
		}
	}
	return out
}

// softcap bends x towards ±cap; 0 leaves it alone.
func softcap(x float64, limit float32) float64 {
	if limit == 0 {
		return x
	}
	return float64(limit) * math.Tanh(x/float64(limit))
}

// post norms what is to be added to the residual stream, where w is not nil.
func (m *Model) post(w []float32, x [][]float32) [][]float32 {
	if w == nil {
		return x
	}
	return m.norm(w, x)
}

// mlp adds down(act(gate(norm(x)))·up(norm(x))) of layer i to x; act is SiLU or
// GELU.
func (m *Model) mlp(i int, x [][]float32) {
	l := &m.layers[i]
	h := m.norm(l.ffnNorm, x)
	m.observe(i, FFNNorm, h)
	if m.Spec.Experts > 0 {
		add(x, m.mixture(l, h))
		return
	}
	act := m.activated(l.gate, l.up, h)
	m.observe(i, FFNAct, act)
	add(x, m.post(l.postFFN, linear(l.down, nil, act)))
}

// activated is act(gate(h))·up(h).
func (m *Model) activated(gate, up matrix, h [][]float32) [][]float32 {
	g, u := linear(gate, nil, h), linear(up, nil, h)
	for t := range g {
		for c, v := range g[t] {
			act := silu(float64(v))
			if m.Spec.GELU {
				act = gelu(float64(v))
			}
			g[t][c] = float32(act * float64(u[t][c]))
		}
	}
	return g
}

// mixture is the sum of the experts with the highest scores, weighted by the
// softmax of the scores, for each row of h alone.
func (m *Model) mixture(l *layer, h [][]float32) [][]float32 {
	scores := linear(l.router, nil, h)
	out := make([][]float32, len(h))
	for t := range h {
		p := make([]float64, len(scores[t]))
		widen(p, scores[t])
		softmax(p)
		order := make([]int, len(p))
		for e := range order {
			order[e] = e
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[b], p[a]) })
		order = order[:m.Spec.ExpertsUsed]
		total := 1.0
		if m.Spec.NormTopK {
			total = 0
			for _, e := range order {
				total += p[e]
			}
		}
		sum := make([]float64, m.Spec.Hidden)
		for _, e := range order {
			x := &l.experts[e]
			y := linear(x.down, nil, m.activated(x.gate, x.up, h[t:t+1]))[0]
			for c, v := range y {
				sum[c] += p[e] / total * float64(v)
			}
		}
		out[t] = make([]float32, len(sum))
		for c, v := range sum {
			out[t][c] = float32(v)
		}
	}
	return out
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

// rotate applies RoPE for one position to each head of x in place. Element i of
// the rotated ones pairs with i+rotary/2; the rest of a head stays.
func (m *Model) rotate(rope table, x []float32, position int) {
	half := m.Spec.Rotary() / 2
	cos, sin := rope.cos[position*half:], rope.sin[position*half:]
	for head := range slices.Chunk(x, m.Spec.HeadDim) {
		for i := range half {
			a, b := float64(head[i]), float64(head[i+half])
			c, s := float64(cos[i]), float64(sin[i])
			head[i] = float32(a*c - b*s)
			head[i+half] = float32(b*c + a*s)
		}
	}
}

// rope is the table of layer i for a run that ends at position n, grown to it.
// longrope has another one beyond the original context.
func (m *Model) rope(i, n int) table {
	r := m.Spec.RoPEOf(i)
	if long, ok := r.Long(); ok && n > r.OriginalContext {
		r = long
	}
	kind := fmt.Sprint(r)
	half := m.Spec.Rotary() / 2
	t := m.tables[kind]
	if have := len(t.cos) / half; n > have {
		t.cos, t.sin = r.Table(max(n, 2*have), m.Spec.Rotary())
		if m.tables == nil {
			m.tables = map[string]table{}
		}
		m.tables[kind] = t
	}
	return t
}

func (m *Model) observe(layer int, at Point, x [][]float32) {
	if m.Observe != nil {
		m.Observe(layer, at, x)
	}
}
