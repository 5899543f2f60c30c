package reference

import (
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Model is a decoder with its weights and the KV cache of one sequence.
type Model struct {
	Spec *arch.Spec

	// Observe, when not nil, sees the intermediate tensors of every Forward
	// call, one row for each token of the call. layer is -1 for points outside
	// the layers. The rows belong to the model: copy what must stay.
	Observe func(layer int, at Point, x [][]float32)

	embed     matrix
	layers    []layer
	finalNorm []float32
	head      matrix

	tables map[string]table // RoPE tables by kind
	length int              // positions in the cache
}

// Point names a place in the forward pass where [Model.Observe] looks.
type Point string

// The points, in the order they are passed. The input of every linear layer is
// among them: AttnNorm feeds q, k and v; AttnOut feeds o; FFNNorm feeds gate
// and up; FFNAct feeds down; FinalNorm feeds the head.
const (
	Embedded  Point = "embedded"   // [hidden], layer -1
	AttnNorm  Point = "attn_norm"  // [hidden]
	Query     Point = "query"      // [heads·head_dim], after bias, norm and RoPE
	Key       Point = "key"        // [kv_heads·head_dim], after bias, norm and RoPE
	Value     Point = "value"      // [kv_heads·head_dim], after bias
	AttnOut   Point = "attn_out"   // [heads·head_dim]
	AttnAdded Point = "attn_added" // [hidden], residual stream after attention
	FFNNorm   Point = "ffn_norm"   // [hidden]
	FFNAct    Point = "ffn_act"    // [intermediate], activated gate times up
	LayerOut  Point = "layer_out"  // [hidden], residual stream after the layer
	FinalNorm Point = "final_norm" // [hidden], layer -1
)

// table holds the angles of positions, [positions, rotary/2].
type table struct{ cos, sin []float32 }

// layer is one decoder layer. Biases and further norms are nil where the
// architecture has none. keys and values are the cache, [positions,
// kv_heads·head_dim].
type layer struct {
	attnNorm, ffnNorm          []float32
	postAttn, postFFN          []float32
	q, k, v, o, gate, up, down matrix
	qBias, kBias, vBias, oBias []float32
	qNorm, kNorm               []float32
	router                     matrix
	experts                    []expert
	keys, values               []float32
}

// expert is one MLP of several.
type expert struct{ gate, up, down matrix }

// matrix is [out, in], row-major.
type matrix struct {
	out, in int
	data    []float32
}

func (m matrix) row(i int) []float32 { return m.data[i*m.in : (i+1)*m.in] }

// New reads every weight that spec names through get, which finds them as
// [arch.Spec.View] does. A missing weight or one
// of another shape is an error.
func New(spec *arch.Spec, get func(name string) (*tensor.Tensor, bool)) (*Model, error) {
	m := &Model{Spec: spec, layers: make([]layer, spec.Layers)}
	for _, w := range spec.Weights() {
		data, err := read(w, get)
		if err != nil {
			return nil, err
		}
		if err := m.place(w, data); err != nil {
			return nil, err
		}
	}
	if spec.Tied {
		m.head = m.embed
	}
	return m, nil
}

func read(w arch.Weight, get func(name string) (*tensor.Tensor, bool)) ([]float32, error) {
	t, ok := get(w.Name)
	if !ok {
		return nil, fmt.Errorf("tensor %q is missing", w.Name)
	}
	if !t.Shape.Equal(w.Shape) {
		return nil, fmt.Errorf("tensor %q has shape %v, want %v", w.Name, t.Shape, w.Shape)
	}
	data := make([]float32, t.Elements())
	if err := t.ReadFloat32(data, 0); err != nil {
		return nil, fmt.Errorf("read tensor %q: %w", w.Name, err)
	}
	return data, nil
}

// place puts the elements of w where the forward pass looks for them.
func (m *Model) place(w arch.Weight, data []float32) error {
	var mat *matrix
	var vec *[]float32
	var l *layer
	if w.Layer >= 0 {
		l = &m.layers[w.Layer]
		if l.experts == nil {
			l.experts = make([]expert, m.Spec.Experts)
		}
	}
	switch w.Role {
	case arch.TokenEmbd:
		mat = &m.embed
	case arch.LMHead:
		mat = &m.head
	case arch.FinalNorm:
		vec = &m.finalNorm
	case arch.AttnNorm:
		vec = &l.attnNorm
	case arch.AttnQ:
		mat = &l.q
	case arch.AttnK:
		mat = &l.k
	case arch.AttnV:
		mat = &l.v
	case arch.AttnO:
		mat = &l.o
	case arch.AttnQBias:
		vec = &l.qBias
	case arch.AttnKBias:
		vec = &l.kBias
	case arch.AttnVBias:
		vec = &l.vBias
	case arch.AttnOBias:
		vec = &l.oBias
	case arch.QNorm:
		vec = &l.qNorm
	case arch.KNorm:
		vec = &l.kNorm
	case arch.FFNNorm:
		vec = &l.ffnNorm
	case arch.PostAttnNorm:
		vec = &l.postAttn
	case arch.PostFFNNorm:
		vec = &l.postFFN
	case arch.FFNGate:
		mat = &l.gate
	case arch.FFNUp:
		mat = &l.up
	case arch.FFNDown:
		mat = &l.down
	case arch.Router:
		mat = &l.router
	case arch.ExpertGate:
		mat = &l.experts[w.Expert].gate
	case arch.ExpertUp:
		mat = &l.experts[w.Expert].up
	case arch.ExpertDown:
		mat = &l.experts[w.Expert].down
	default:
		return fmt.Errorf("tensor %q: the reference forward pass has no place for role %v", w.Name, w.Role)
	}
	if mat != nil {
		*mat = matrix{out: w.Shape[0], in: w.Shape[1], data: data}
	} else {
		*vec = data
	}
	return nil
}

// Len is the number of positions in the KV cache.
func (m *Model) Len() int { return m.length }

// Reset empties the KV cache: the next token is at position 0.
func (m *Model) Reset() { m.Truncate(0) }

// Truncate keeps the first n positions of the KV cache, 0 ≤ n ≤ Len.
func (m *Model) Truncate(n int) {
	kv := m.Spec.KVHeads * m.Spec.HeadDim
	for i := range m.layers {
		l := &m.layers[i]
		l.keys, l.values = l.keys[:n*kv], l.values[:n*kv]
	}
	m.length = n
}
