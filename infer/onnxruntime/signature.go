package onnxruntime

import (
	"fmt"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// signature is what a graph takes and gives, in this package's words.
type signature struct {
	ids, mask, position string // names; mask and position may be ""
	maskType            ort.ElementType
	logits              string
	logitsType          ort.ElementType // Float32 or Float16Type
	vocab               int             // width of a row of logits
	lastOnly            bool            // logits have one row whatever the input's length
	cache               []cachePort
}

// cachePort is one past input with its present output: shape
// [1, heads, length, dim].
type cachePort struct {
	past, present string
	elem          ort.ElementType
	heads, dim    int64
}

// bytesPerToken is the cache's size for one token.
func (s *signature) bytesPerToken() int64 {
	var n int64
	for _, p := range s.cache {
		n += p.heads * p.dim * int64(p.elem.Bits()) / 8
	}
	return n
}

// readSignature finds the roles of a graph's inputs and outputs by their
// names: those of genai_config.json, or genai's defaults without it. An input
// without a role is refused, as nothing could be fed to it.
func readSignature(folder *modeldir.Folder, inputs, outputs []ort.TensorInfo) (*signature, error) {
	inNames, outNames := modeldir.DefaultNames()
	g := folder.GenAI
	if g != nil {
		inNames, outNames = g.Model.Decoder.Inputs, g.Model.Decoder.Outputs
	}
	r := &signatureReader{g: g, in: inputs, out: outputs, used: map[string]bool{}}
	s := &signature{}
	ids := r.input(inNames.InputIDs, true)
	if mask := r.input(inNames.AttentionMask, false); mask != nil {
		s.mask, s.maskType = mask.Name, mask.Type
	}
	if pos := r.input(inNames.PositionIDs, false); pos != nil {
		s.position = pos.Name
	}
	r.logits(s, outNames.Logits)
	for layer := 0; ; layer++ {
		key := modeldir.LayerName(inNames.PastKey, layer)
		if r.find(r.in, key) == nil {
			break
		}
		r.cache(s, key, modeldir.LayerName(outNames.PresentKey, layer))
		r.cache(s, modeldir.LayerName(inNames.PastValue, layer), modeldir.LayerName(outNames.PresentValue, layer))
	}
	r.finish(s)
	if r.err != nil {
		return nil, &tensor.UnsupportedError{What: fmt.Sprintf("running %s: %s", folder.Model, r.err)}
	}
	s.ids = ids.Name
	return s, nil
}

// signatureReader keeps the first problem found.
type signatureReader struct {
	g       *modeldir.GenAI
	in, out []ort.TensorInfo
	used    map[string]bool
	err     error
}

func (r *signatureReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *signatureReader) find(ports []ort.TensorInfo, name string) *ort.TensorInfo {
	i := slices.IndexFunc(ports, func(p ort.TensorInfo) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &ports[i]
}

// input finds an int64 or int32 input.
func (r *signatureReader) input(name string, required bool) *ort.TensorInfo {
	p := r.find(r.in, name)
	if p == nil {
		if required {
			r.fail("the graph has no input %q; it has %s", name, names(r.in))
			return &ort.TensorInfo{}
		}
		return nil
	}
	r.used[name] = true
	if p.Type != ort.Int64 {
		r.fail("input %q is of type %v, want int64", name, p.Type)
	}
	return p
}

func (r *signatureReader) logits(s *signature, name string) {
	p := r.find(r.out, name)
	if p == nil {
		r.fail("the graph has no output %q; it has %s", name, names(r.out))
		return
	}
	if len(p.Shape) != 3 {
		r.fail("output %q has shape %v, want [batch, sequence, vocabulary]", name, p.Shape)
		return
	}
	if p.Type != ort.Float32 && p.Type != ort.Float16Type {
		r.fail("output %q is of type %v, want float32 or float16", name, p.Type)
	}
	s.logits, s.logitsType, s.lastOnly = name, p.Type, p.Shape[1] == 1
	s.vocab = int(p.Shape[2])
	if s.vocab <= 0 && r.g != nil {
		s.vocab = r.g.Model.VocabSize
	}
	if s.vocab <= 0 {
		r.fail("neither output %q nor genai_config.json gives the size of the vocabulary", name)
	}
}

func (r *signatureReader) cache(s *signature, past, present string) {
	in, out := r.find(r.in, past), r.find(r.out, present)
	if in == nil || out == nil {
		r.fail("the graph lacks input %q or output %q; it has the inputs %s and the outputs %s", past, present, names(r.in), names(r.out))
		return
	}
	r.used[past] = true
	p := cachePort{past: past, present: present, elem: in.Type}
	if len(in.Shape) != 4 {
		r.fail("input %q has shape %v, want [batch, kv_heads, length, head_dim]", past, in.Shape)
		return
	}
	p.heads, p.dim = in.Shape[1], in.Shape[3]
	if r.g != nil && p.heads <= 0 {
		p.heads = int64(r.g.Model.Decoder.KVHeads)
	}
	if r.g != nil && p.dim <= 0 {
		p.dim = int64(r.g.Model.Decoder.HeadSize)
	}
	switch in.Type {
	case ort.Float32, ort.Float16Type, ort.Int8, ort.Uint8:
	default:
		r.fail("input %q is of type %v, want float32, float16 or int8", past, in.Type)
	}
	if p.heads <= 0 || p.dim <= 0 {
		r.fail("neither input %q nor genai_config.json gives the cache's heads and width", past)
	}
	s.cache = append(s.cache, p)
}

func (r *signatureReader) finish(s *signature) {
	if r.err == nil && len(s.cache) == 0 {
		r.fail("the graph has no KV cache: no input %q", "past_key_values.0.key")
	}
	for _, p := range r.in {
		if !r.used[p.Name] {
			r.fail("input %q has no known role, so nothing can be fed to it", p.Name)
		}
	}
}

func names(ports []ort.TensorInfo) string {
	list := make([]string, len(ports))
	for i, p := range ports {
		list[i] = p.Name
	}
	if len(list) > 8 {
		list = append(list[:8], fmt.Sprintf("… (%d in all)", len(ports)))
	}
	return strings.Join(list, ", ")
}
