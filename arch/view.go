package arch

import "github.com/llama-pajamas/llama-pajamas/tensor"

// In finds the weight in a checkpoint whose tensors get looks up by name: the
// tensor itself, the rows of it that are the weight, or one with [Weight.Plus]
// added. ok is false where there is none of the needed size.
func (w Weight) In(get func(name string) (*tensor.Tensor, bool)) (t *tensor.Tensor, ok bool) {
	name := w.Name
	if w.Stored != "" {
		name = w.Stored
	}
	t, ok = get(name)
	if !ok || w.Stored == "" && w.Plus == 0 {
		return t, ok
	}
	part := &tensor.Tensor{Name: w.Name, Shape: w.Shape, Type: t.Type, Bytes: t.Bytes, Reader: t.Reader}
	if w.Stored != "" {
		if !t.Shape.Equal(w.storedShape()) {
			return nil, false
		}
		cols := int64(w.Shape[len(w.Shape)-1])
		part.Bytes = t.Bytes / int64(w.StoredRows) * int64(w.Shape[0])
		part.Reader = tensor.Section{Reader: t.Reader, First: int64(w.Row) * cols, N: int64(w.Shape[0]) * cols}
	}
	if w.Plus != 0 {
		if !t.Shape.Equal(w.Shape) {
			return t, true // whoever reads it says what is wrong with it
		}
		part.Type = tensor.F32.String()
		part.Reader = plus{part.Reader, w.Plus}
	}
	return part, true
}

// storedShape is the shape of the tensor that holds the weight.
func (w Weight) storedShape() tensor.Shape {
	if w.Stored == "" {
		return w.Shape
	}
	s := append(tensor.Shape{w.StoredRows}, w.Shape[1:]...)
	return s
}

// View finds weights of s by their names as the forward pass wants them, in a
// checkpoint whose tensors get finds as they are stored. Everything that
// computes with weights reads them through a view.
func (s *Spec) View(get func(name string) (*tensor.Tensor, bool)) func(name string) (*tensor.Tensor, bool) {
	byName := map[string]Weight{}
	for _, w := range s.Weights() {
		if w.Stored != "" || w.Plus != 0 {
			byName[w.Name] = w
		}
	}
	return func(name string) (*tensor.Tensor, bool) {
		if w, ok := byName[name]; ok {
			return w.In(get)
		}
		return get(name)
	}
}

// AsStored before a weight's name names the tensor as the checkpoint has it.
const AsStored = "stored:"

// StoredAs lists the tensors that a checkpoint holds for weights, in their
// order: a packed one once, with the role of its first weight.
func StoredAs(weights []Weight) []Weight {
	out := make([]Weight, 0, len(weights))
	for _, w := range weights {
		if w.Stored != "" {
			if w.Row > 0 {
				continue
			}
			w.Name, w.Shape = w.Stored, w.storedShape()
		}
		w.Stored, w.StoredRows, w.Plus = "", 0, 0
		out = append(out, w)
	}
	return out
}

// plus reads a tensor with a constant added.
type plus struct {
	tensor.Reader
	add float32
}

// ReadFloat32 implements [tensor.Reader].
func (p plus) ReadFloat32(dst []float32, offset int64) error {
	if err := p.Reader.ReadFloat32(dst, offset); err != nil {
		return err
	}
	for i := range dst {
		dst[i] += p.add
	}
	return nil
}
