package arch_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// counting is a tensor whose elements are their own numbers.
type counting int64

func (n counting) ReadFloat32(dst []float32, offset int64) error {
	if offset < 0 || offset+int64(len(dst)) > int64(n) {
		return fmt.Errorf("read elements %d to %d of %d", offset, offset+int64(len(dst)), n)
	}
	for i := range dst {
		dst[i] = float32(offset) + float32(i)
	}
	return nil
}

// store holds the tensors of a checkpoint of s.
func store(s *arch.Spec) func(name string) (*tensor.Tensor, bool) {
	byName := map[string]*tensor.Tensor{}
	for _, w := range arch.StoredAs(s.Weights()) {
		n, _ := w.Shape.Elements()
		byName[w.Name] = &tensor.Tensor{Name: w.Name, Shape: w.Shape, Type: "F32", Bytes: 4 * n, Reader: counting(n)}
	}
	return func(name string) (*tensor.Tensor, bool) { t, ok := byName[name]; return t, ok }
}

// TestView wants every weight in its shape, packed ones one behind the other,
// and norms of Gemma with 1 added.
func TestView(t *testing.T) {
	for name, config := range map[string]object{"packed": phi3(object{"num_key_value_heads": 2}), "plus one": gemma3(object{"head_dim": 32})} {
		s, err := arch.Parse(text(t, config))
		if err != nil {
			t.Fatal(err)
		}
		get := s.View(store(s))
		next := map[string]float32{}
		var bytes int64
		for _, w := range s.Weights() {
			x, ok := get(w.Name)
			if !ok || !x.Shape.Equal(w.Shape) {
				t.Fatalf("%s: %s is missing or of another shape", name, w.Name)
			}
			bytes += x.Bytes
			got := make([]float32, x.Elements())
			if err := x.ReadFloat32(got, 0); err != nil {
				t.Fatal(err)
			}
			first := w.Plus
			if w.Stored != "" {
				first = next[w.Stored]
				next[w.Stored] += float32(len(got))
			}
			if last := len(got) - 1; got[0] != first || got[last] != first+float32(last) {
				t.Errorf("%s: %s goes from %v to %v, want from %v", name, w.Name, got[0], got[last], first)
			}
			tail := make([]float32, 2)
			if err := x.ReadFloat32(tail, x.Elements()-2); err != nil || !slices.Equal(tail, got[len(got)-2:]) {
				t.Errorf("%s: the end of %s reads as %v, %v", name, w.Name, tail, err)
			}
			if err := x.ReadFloat32(tail, -1); err == nil {
				t.Errorf("%s: %s can be read before its start", name, w.Name)
			}
		}
		var stored int64
		for _, w := range arch.StoredAs(s.Weights()) {
			n, _ := w.Shape.Elements()
			stored += n
		}
		if stored != s.Parameters() || bytes != 4*stored {
			t.Errorf("%s: %d elements are stored, the view has %d bytes; want %d elements", name, stored, bytes, s.Parameters())
		}
	}
	s, err := arch.Parse(text(t, phi3(nil)))
	if err != nil {
		t.Fatal(err)
	}
	all := store(s)
	const packed = "model.layers.0.self_attn.qkv_proj.weight"
	for what, get := range map[string]func(string) (*tensor.Tensor, bool){
		"a packed tensor is missing": func(n string) (*tensor.Tensor, bool) { x, ok := all(n); return x, ok && n != packed },
		"a packed tensor is short": func(n string) (*tensor.Tensor, bool) {
			x, ok := all(n)
			if n == packed {
				y := *x
				y.Shape = tensor.Shape{x.Shape[0] - 1, x.Shape[1]}
				x = &y
			}
			return x, ok
		},
	} {
		if _, ok := s.View(get)("model.layers.0.self_attn.v_proj.weight"); ok {
			t.Errorf("%s, and yet there is a weight", what)
		}
	}
}
