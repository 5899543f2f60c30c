package reference_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/internal/reference"
	"github.com/llama-pajamas/llama-pajamas/internal/tinymodel"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// TestIncremental wants the same bits from one call, from calls of several
// sizes, and after the cache was cut back and filled again.
func TestIncremental(t *testing.T) {
	for _, v := range tinymodel.Variants() {
		t.Run(v.Name, func(t *testing.T) {
			m := load(t, v, nil)
			tokens := randomTokens(40, m.Spec.Vocab)
			want := m.Forward(tokens)
			m.Reset()
			var got [][]float32
			for _, n := range []int{1, 1, 7, 31} {
				got = append(got, m.Forward(tokens[len(got):len(got)+n])...)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("logits of several calls differ (-one +several):\n%s", diff)
			}
			m.Truncate(5)
			m.Forward([]int32{3, 3, 3})
			m.Truncate(5)
			got = append(got[:5], m.Forward(tokens[5:])...)
			if !cmp.Equal(want, got) || m.Len() != len(tokens) {
				t.Errorf("logits after Truncate differ, or Len is %d", m.Len())
			}
		})
	}
}

// TestEveryOptionMatters changes one thing of the spec at a time and wants
// other logits: a runtime that ignores it cannot pass a comparison with these
// checkpoints by chance.
func TestEveryOptionMatters(t *testing.T) {
	changes := map[string]func(*arch.Spec) bool{ // false: does not apply
		"rope theta":   func(s *arch.Spec) bool { s.RoPE.Theta *= 3; return true },
		"rope scaling": func(s *arch.Spec) bool { was := s.RoPE.Type; s.RoPE.Type = "default"; return was != "default" },
		"rope factor":  func(s *arch.Spec) bool { s.RoPE.Factor *= 2; return s.RoPE.Factor != 0 },
		"original context": func(s *arch.Spec) bool {
			s.RoPE.OriginalContext /= 2
			return s.RoPE.Type == "llama3" || s.RoPE.Type == "yarn"
		},
		"qkv bias": func(s *arch.Spec) bool { was := s.QKVBias; s.QKVBias = false; return was },
		"o bias":   func(s *arch.Spec) bool { was := s.OBias; s.OBias = false; return was },
		"q/k norm": func(s *arch.Spec) bool { was := s.QKNorm; s.QKNorm = false; return was },
		"window":   func(s *arch.Spec) bool { was := s.Window; s.Window *= 2; return was != 0 },
		"layer pattern": func(s *arch.Spec) bool {
			if s.LocalRoPE == nil && !s.PostNorms {
				return false
			}
			slices.Reverse(s.Sliding)
			return true
		},
		"local rope":    func(s *arch.Spec) bool { was := s.LocalRoPE; s.LocalRoPE = nil; return was != nil },
		"rope scale":    func(s *arch.Spec) bool { was := s.RoPE.Scale; s.RoPE.Scale = 1; return was != 0 },
		"yarn band":     func(s *arch.Spec) bool { s.RoPE.BetaSlow *= 4; return s.RoPE.Type == "yarn" },
		"long factors":  func(s *arch.Spec) bool { s.RoPE.LongFactors = s.RoPE.ShortFactors; return s.RoPE.Type == "longrope" },
		"partial rope":  func(s *arch.Spec) bool { return s.RotaryDim != 0 && s.RoPE.Type != "longrope" && zero(&s.RotaryDim) },
		"embed scale":   func(s *arch.Spec) bool { return s.EmbedScale != 0 && zero(&s.EmbedScale) },
		"query scale":   func(s *arch.Spec) bool { was := s.QueryScalar; s.QueryScalar *= 3; return was != 0 },
		"softcap":       func(s *arch.Spec) bool { return s.AttnSoftcap != 0 && zero(&s.AttnSoftcap) },
		"logit softcap": func(s *arch.Spec) bool { return s.LogitSoftcap != 0 && zero(&s.LogitSoftcap) },
		"experts used":  func(s *arch.Spec) bool { s.ExpertsUsed--; return s.Experts != 0 },
		"top-k norm":    func(s *arch.Spec) bool { was := s.NormTopK; s.NormTopK = false; return was },
		"gelu":          func(s *arch.Spec) bool { was := s.GELU; s.GELU = false; return was },
		"norm eps":      func(s *arch.Spec) bool { s.NormEps = 0.1; return true },
	}
	for _, v := range append(tinymodel.Variants(), tinymodel.Mixtures()...) {
		base := load(t, v, nil)
		tokens := randomTokens(100, base.Spec.Vocab)
		want := base.Forward(tokens)
		for name, change := range changes {
			applies := false
			m := load(t, v, func(s *arch.Spec) { applies = change(s) })
			if !applies {
				continue
			}
			if d := maxDiff(want, m.Forward(tokens)); d < 0.02 {
				t.Errorf("%s: without its %s the logits move by %g only", v.Name, name, d)
			}
		}
	}
}

// zero sets x to zero and reports true.
func zero[T any](x *T) bool {
	var z T
	*x = z
	return true
}

// TestObserve wants every point once per layer, in order, with its width, and
// the input of the head equal to the hidden state.
func TestObserve(t *testing.T) {
	v, err := tinymodel.ByName("qwen3")
	if err != nil {
		t.Fatal(err)
	}
	m := load(t, v, nil)
	s := m.Spec
	type seen struct {
		Layer int
		At    reference.Point
		Width int
	}
	var got []seen
	var final [][]float32
	m.Observe = func(layer int, at reference.Point, x [][]float32) {
		got = append(got, seen{layer, at, len(x[0])})
		if at == reference.FinalNorm {
			final = x
		}
	}
	hidden := m.Hidden([]int32{1, 5, 9})
	want := []seen{{-1, reference.Embedded, s.Hidden}}
	for l := range s.Layers {
		want = append(want,
			seen{l, reference.AttnNorm, s.Hidden},
			seen{l, reference.Query, s.Heads * s.HeadDim},
			seen{l, reference.Key, s.KVHeads * s.HeadDim},
			seen{l, reference.Value, s.KVHeads * s.HeadDim},
			seen{l, reference.AttnOut, s.Heads * s.HeadDim},
			seen{l, reference.AttnAdded, s.Hidden},
			seen{l, reference.FFNNorm, s.Hidden},
			seen{l, reference.FFNAct, s.Intermediate},
			seen{l, reference.LayerOut, s.Hidden})
	}
	want = append(want, seen{-1, reference.FinalNorm, s.Hidden})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("points (-want +got):\n%s", diff)
	}
	if !cmp.Equal(final, hidden) {
		t.Error("Hidden and the final_norm point differ")
	}
}

func TestNewRefuses(t *testing.T) {
	v := tinymodel.Variants()[0]
	spec, get, err := tinymodel.Load(v)
	if err != nil {
		t.Fatal(err)
	}
	const name = "model.layers.1.mlp.up_proj.weight"
	for _, c := range []struct {
		name string
		get  func(string) (*tensor.Tensor, bool)
		want string
	}{
		{"missing", func(n string) (*tensor.Tensor, bool) { x, ok := get(n); return x, ok && n != name }, "is missing"},
		{"shape", func(n string) (*tensor.Tensor, bool) {
			x, ok := get(n)
			if n == name {
				y := *x
				y.Shape = tensor.Shape{x.Shape[1], x.Shape[0]}
				x = &y
			}
			return x, ok
		}, "has shape [64, 172], want [172, 64]"},
	} {
		if _, err := reference.New(spec, c.get); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v, want one that names the tensor and says %q", c.name, err, c.want)
		}
	}
}

// load makes v's model; change, when not nil, alters the spec first.
func load(t *testing.T, v tinymodel.Variant, change func(*arch.Spec)) *reference.Model {
	t.Helper()
	spec, get, err := tinymodel.Load(v)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(spec)
	}
	m, err := reference.New(spec, get)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func maxDiff(a, b [][]float32) float64 {
	var worst float64
	for i := range a {
		for j := range a[i] {
			worst = max(worst, math.Abs(float64(a[i][j])-float64(b[i][j])))
		}
	}
	return worst
}
