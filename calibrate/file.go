package calibrate

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/format/safetensors"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Metadata keys of a statistics file.
const (
	metaFormat = "format"
	metaSource = "source"
	metaTokens = "tokens"

	// fileFormat changes whenever old files must not be read as new ones.
	fileFormat = "llama-pajamas calibration 2"
)

// Vector is a named list of numbers of a statistics file.
type Vector struct {
	Name string
	Data []float32
}

// vectors lists all figures there are, in the file's order.
func (s *Stats) vectors() []Vector {
	var out []Vector
	add := func(name string, x []float32) {
		if len(x) > 0 {
			out = append(out, Vector{name, x})
		}
	}
	for l := range s.layers {
		for i, c := range s.layers[l].in {
			at := fmt.Sprintf("layers.%d.%v.", l, Input(i))
			add(at+"mean_square", c.MeanSquare)
			add(at+"mean_abs", c.MeanAbs)
			add(at+"max", c.MaxAbs)
			add(at+"weight_max", c.WeightMax)
		}
		add(fmt.Sprintf("layers.%d.value.max", l), s.layers[l].value)
		if len(s.layers[l].value) > 0 {
			add(fmt.Sprintf("layers.%d.key.max", l), []float32{s.layers[l].key})
		}
	}
	add("head.mean_square", s.head.MeanSquare)
	add("head.mean_abs", s.head.MeanAbs)
	add("head.max", s.head.MaxAbs)
	return out
}

// Save writes a statistics file: safetensors with one vector of float32 for
// each figure, such as "layers.3.qkv.mean_square". extra vectors and metadata
// are kept beside them. The file appears whole or not at all.
func (s *Stats) Save(path string, metadata map[string]string, extra ...Vector) error {
	meta := map[string]string{metaFormat: fileFormat, metaSource: s.Source, metaTokens: strconv.Itoa(s.Tokens)}
	for k, v := range metadata {
		meta[k] = v
	}
	tmp := path + ".tmp"
	f, err := os.Create(tmp)
	if err != nil {
		return fmt.Errorf("write statistics: %w", err)
	}
	b := bufio.NewWriterSize(f, 1<<20)
	err = writeVectors(b, meta, append(s.vectors(), extra...))
	if err == nil {
		err = b.Flush()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write statistics to %s: %w", path, err), os.RemoveAll(tmp))
	}
	return nil
}

func writeVectors(b *bufio.Writer, meta map[string]string, vs []Vector) error {
	w := safetensors.NewWriter(b, meta)
	for _, v := range vs {
		w.Declare(safetensors.Decl{Name: v.Name, Type: tensor.F32.String(), Shape: tensor.Shape{len(v.Data)}})
	}
	if err := w.WriteHeader(); err != nil {
		return err
	}
	for _, v := range vs {
		if err := w.WriteTensor(v.Name, tensor.Stream{R: tensor.Floats(v.Data), Elements: int64(len(v.Data)), DType: tensor.F32}); err != nil {
			return err
		}
	}
	return w.Close()
}

// Load reads a statistics file of a model. It gives the file's metadata, and
// reads the vectors of extra that the file has.
func Load(path string, spec *arch.Spec, extra ...*Vector) (*Stats, map[string]string, error) {
	r, err := safetensors.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read statistics: %w", err)
	}
	defer r.Close()
	meta := r.Metadata()
	if meta[metaFormat] != fileFormat {
		return nil, nil, &tensor.UnsupportedError{What: fmt.Sprintf("%s: format %q, want %q", path, meta[metaFormat], fileFormat), Hint: "calibrate again"}
	}
	tokens, _ := strconv.Atoi(meta[metaTokens])
	s := NewStats(spec, meta[metaSource], tokens)
	read := func(name string, n int) (x []float32) {
		t, ok := r.Tensor(name)
		if !ok || err != nil {
			return nil
		}
		if n > 0 && t.Elements() != int64(n) {
			err = fmt.Errorf("%s: %q has %d numbers, the model wants %d", path, name, t.Elements(), n)
			return nil
		}
		x = make([]float32, t.Elements())
		err = t.ReadWeights(x, 0)
		return x
	}
	width := [Inputs]int{QKV: spec.Hidden, AttnOut: spec.Heads * spec.HeadDim, GateUp: spec.Hidden, Down: spec.Intermediate}
	for l := range s.layers {
		for i := range s.layers[l].in {
			at := fmt.Sprintf("layers.%d.%v.", l, Input(i))
			s.layers[l].in[i] = Channels{
				read(at+"mean_square", width[i]), read(at+"mean_abs", width[i]), read(at+"max", width[i]), read(at+"weight_max", width[i]),
			}
		}
		s.layers[l].value = read(fmt.Sprintf("layers.%d.value.max", l), spec.KVHeads*spec.HeadDim)
		if k := read(fmt.Sprintf("layers.%d.key.max", l), 1); k != nil {
			s.layers[l].key = k[0]
		}
	}
	s.head = Channels{MeanSquare: read("head.mean_square", spec.Hidden), MeanAbs: read("head.mean_abs", spec.Hidden), MaxAbs: read("head.max", spec.Hidden)}
	for _, v := range extra {
		v.Data = read(v.Name, 0)
	}
	if err != nil {
		return nil, nil, err
	}
	return s, meta, nil
}
