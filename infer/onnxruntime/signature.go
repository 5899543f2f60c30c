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
	ids, mask, position ort.TensorInfo // mask and position may have no name
	logits              string
	logitsType          ort.ElementType // Float32 or Float16Type
	vocab               int             // width of a row of logits
	lastOnly            bool            // logits have one row whatever the input's length
	cache               []cachePort
}

// cachePort is one past input with its present output: shape
// [1, heads, length, dim]. A length is -1 where the graph leaves it open.
type cachePort struct {
	past, present       string
	elem                ort.ElementType
	heads, dim          int64
	pastLen, presentLen int64
}

// contract is who keeps the cache and how; see the package comment.
type contract int

const (
	growing contract = iota // present is past with the new rows behind it
	shared                  // past and present are one buffer
	hosted                  // present is the new rows alone
)

func (c contract) String() string { return [...]string{"growing", "shared", "hosted"}[c] }

// contract tells the cache contract from the shapes; inPlace says that an
// operator of the graph writes to a buffer longer than its content.
func (s *signature) contract(inPlace bool) contract {
	p := s.cache[0]
	switch {
	case p.pastLen >= 0 && p.presentLen >= 0 && p.pastLen != p.presentLen:
		if n := s.rows(); n == 0 || p.presentLen == int64(n) {
			return hosted
		}
		return growing
	case inPlace, p.pastLen >= 0 && p.pastLen == p.presentLen:
		return shared
	}
	return growing
}

// rows is the number of tokens a run takes, 0 where it takes any.
func (s *signature) rows() int {
	if n := s.ids.Shape[1]; n > 0 {
		return int(n)
	}
	return 0
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
	s.ids = r.tokens(inNames.InputIDs, true)
	s.position = r.tokens(inNames.PositionIDs, false)
	s.mask = r.mask(inNames.AttentionMask)
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

// input finds an input; one that is not there has no name.
func (r *signatureReader) input(name string, required bool) ort.TensorInfo {
	p := r.find(r.in, name)
	if p == nil {
		if required {
			r.fail("the graph has no input %q; it has %s", name, names(r.in))
		}
		return ort.TensorInfo{}
	}
	r.used[name] = true
	return *p
}

// tokens finds an input with one number per token.
func (r *signatureReader) tokens(name string, required bool) ort.TensorInfo {
	p := r.input(name, required)
	if p.Name == "" {
		return p
	}
	if p.Type != ort.Int64 && p.Type != ort.Int32 {
		r.fail("input %q is of type %v, want int64 or int32", name, p.Type)
	}
	if len(p.Shape) != 2 {
		r.fail("input %q has shape %v, want [batch, sequence]", name, p.Shape)
	}
	return p
}

// mask finds the attention mask: [batch, length] of 1 and 0, or additive
// [batch, 1, sequence, length].
func (r *signatureReader) mask(name string) ort.TensorInfo {
	p := r.input(name, false)
	if p.Name == "" {
		return p
	}
	float := p.Type == ort.Float32 || p.Type == ort.Float16Type
	switch len(p.Shape) {
	case 2:
		if p.Type != ort.Int64 && p.Type != ort.Int32 && !float && p.Type != ort.Bool {
			r.fail("input %q is of type %v, want int64, int32, float32, float16 or bool", name, p.Type)
		}
	case 4:
		if !float {
			r.fail("input %q has four dimensions and type %v, want float32 or float16", name, p.Type)
		}
	default:
		r.fail("input %q has shape %v, want [batch, length] or [batch, 1, sequence, length]", name, p.Shape)
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
	if len(in.Shape) != 4 || len(out.Shape) != 4 {
		r.fail("input %q and output %q have shapes %v and %v, want [batch, kv_heads, length, head_dim]", past, present, in.Shape, out.Shape)
		return
	}
	p.heads, p.dim = in.Shape[1], in.Shape[3]
	p.pastLen, p.presentLen = in.Shape[2], out.Shape[2]
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

// matches says how another graph of the same model differs in what both share.
func (s *signature) matches(o *signature) error {
	if s.vocab != o.vocab || s.logitsType != o.logitsType {
		return fmt.Errorf("logits of %d %v, and of %d %v", s.vocab, s.logitsType, o.vocab, o.logitsType)
	}
	if len(s.cache) != len(o.cache) {
		return fmt.Errorf("%d and %d cache tensors", len(s.cache), len(o.cache))
	}
	for i, p := range s.cache {
		q := o.cache[i]
		// A cache of fixed size serves a graph that takes any.
		if p.past != q.past || p.elem != q.elem || p.heads != q.heads || p.dim != q.dim || p.pastLen != q.pastLen && !(p.pastLen > 0 && q.pastLen < 0) {
			return fmt.Errorf("cache input %s of %v [1, %d, %d, %d], and %s of %v [1, %d, %d, %d]",
				p.past, p.elem, p.heads, p.pastLen, p.dim, q.past, q.elem, q.heads, q.pastLen, q.dim)
		}
	}
	return nil
}
