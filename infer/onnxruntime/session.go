package onnxruntime

import (
	"context"
	"errors"
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// session is one sequence on one loaded graph. A run is prepared once as an
// ort.Call; a decode step changes one id and the length of the mask and runs
// it again, without garbage.
type session struct {
	lib     *ort.Library
	raw     *ort.Session
	weights *weights
	call    *ort.Call
	sig     *signature
	cache   kvCache
	info    infer.Info
	chunk   int
	all     bool
	closed  bool

	tokens []int32

	ids, mask, position buffer
	logitsSlot          int
	row                 *ort.Value // [1, 1, vocab], for runs that give one row
	bound               *ort.Value // what the call writes logits to; nil: its own memory
	wide                []float32  // a row widened from float16
}

// buffer is an int64 input of shape [1, n] over memory of its own.
type buffer struct {
	slot  int // in the call; -1 if the graph has no such input
	data  []int64
	value *ort.Value
	n     int
	shape [2]int64 // for Reshape, which would allocate one
}

func newSession(b *Backend, raw *ort.Session, folder *modeldir.Folder, g *graph, o infer.OpenOptions) (*session, error) {
	sig, err := readSignature(folder, raw.Inputs(), raw.Outputs())
	if err != nil {
		return nil, err
	}
	if o.AllLogits && sig.lastOnly {
		return nil, &tensor.UnsupportedError{What: "logits at every position: the graph gives those of the last one and has no nodes " + lastPositionPrefix + "… to take out"}
	}
	s := &session{
		lib: b.lib, raw: raw, weights: g.weights, sig: sig, all: o.AllLogits, chunk: o.Chunk,
		info: infer.Info{
			Backend: b.Name(), Version: b.lib.Version(), Provider: b.provider.ep, Model: folder.Model,
			Vocab: sig.vocab, Threads: o.Threads, CacheBytesPerToken: sig.bytesPerToken(),
		},
	}
	if s.chunk <= 0 {
		s.chunk = b.provider.chunk
	}
	if s.all {
		s.chunk = min(s.chunk, allLogitsChunk)
	}
	if err := s.prepare(b.env, g.shared); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

// allLogitsChunk bounds the logits of one run: 128 rows of 151 936 are 78 MB.
const allLogitsChunk = 128

// prepare makes the call and its buffers.
func (s *session) prepare(env *ort.Env, shared bool) error {
	inputs, outputs := []string{s.sig.ids}, []string{s.sig.logits}
	s.ids.slot, s.mask.slot, s.position.slot = 0, -1, -1
	add := func(name string) int {
		if name == "" {
			return -1
		}
		inputs = append(inputs, name)
		return len(inputs) - 1
	}
	s.mask.slot, s.position.slot = add(s.sig.mask), add(s.sig.position)
	c := &s.cache
	*c = kvCache{lib: s.lib, env: env, ports: s.sig.cache, shared: shared, values: make([]*ort.Value, len(s.sig.cache))}
	for _, p := range s.sig.cache {
		c.inputs = append(c.inputs, add(p.past))
		outputs = append(outputs, p.present)
		c.outputs = append(c.outputs, len(outputs)-1)
	}
	var err error
	if s.call, err = s.raw.NewCall(inputs, outputs); err != nil {
		return err
	}
	c.call = s.call
	bits := s.sig.logitsType.Bits()
	s.row, err = ort.NewTensorBytes(s.lib, s.sig.logitsType, make([]byte, s.sig.vocab*bits/8), 1, 1, int64(s.sig.vocab))
	return err
}

// Info implements infer.Session.
func (s *session) Info() infer.Info { return s.info }

// Tokens implements infer.Session.
func (s *session) Tokens() []int32 { return s.tokens }

// Len implements infer.Session.
func (s *session) Len() int { return len(s.tokens) }

// Eval implements infer.Session.
func (s *session) Eval(ctx context.Context, tokens []int32) ([]float32, error) {
	if err := s.check(tokens); err != nil {
		return nil, err
	}
	// Room for all chunks at once: the cache is not copied between them.
	if err := s.cache.reserve(len(s.tokens), len(s.tokens)+len(tokens)); err != nil {
		return nil, err
	}
	if len(tokens) > 1 {
		// Rows of the embedding table read by a prefill need not stay.
		defer s.weights.release()
	}
	for len(tokens) > s.chunk {
		if err := s.step(ctx, tokens[:s.chunk]); err != nil {
			return nil, err
		}
		tokens = tokens[s.chunk:]
	}
	if err := s.step(ctx, tokens); err != nil {
		return nil, err
	}
	out := s.call.Output(s.logitsSlot)
	rows := int(out.Shape()[1])
	return s.rowOf(out, rows-1)
}

// EvalAll implements infer.Session.
func (s *session) EvalAll(ctx context.Context, tokens []int32, each func(pos int, logits []float32) error) error {
	if !s.all {
		return errors.New("logits of every position were not asked for when the model was opened (AllLogits)")
	}
	if err := s.check(tokens); err != nil {
		return err
	}
	for at := 0; at < len(tokens); at += s.chunk {
		part := tokens[at:min(at+s.chunk, len(tokens))]
		if err := s.step(ctx, part); err != nil {
			return err
		}
		out := s.call.Output(s.logitsSlot)
		for i := range part {
			row, err := s.rowOf(out, i)
			if err != nil {
				return err
			}
			if err := each(at+i, row); err != nil {
				return err
			}
		}
	}
	return nil
}

// check refuses what would read outside of a table or beyond the context.
func (s *session) check(tokens []int32) error {
	switch {
	case s.closed:
		return errors.New("the session is closed")
	case len(tokens) == 0:
		return errors.New("no tokens to evaluate")
	case len(s.tokens)+len(tokens) > s.info.MaxContext:
		return &infer.ContextError{Prompt: len(s.tokens) + len(tokens), Context: s.info.MaxContext}
	}
	for _, id := range tokens {
		if id < 0 || int(id) >= s.sig.vocab {
			return fmt.Errorf("token id %d is not one of the model's 0 to %d", id, s.sig.vocab-1)
		}
	}
	return nil
}

// step runs one chunk and appends it to the sequence. After an error the
// sequence is as before: rows half written lie beyond its length.
func (s *session) step(ctx context.Context, chunk []int32) error {
	used, total := len(s.tokens), len(s.tokens)+len(chunk)
	if err := s.cache.reserve(used, total); err != nil {
		return err
	}
	if err := s.feed(chunk, used, total); err != nil {
		return err
	}
	var out *ort.Value // nil: the library makes room for the rows of a prefill
	if len(chunk) == 1 || s.sig.lastOnly {
		out = s.row
	}
	if out != s.bound || out == nil {
		if err := s.call.SetOutput(s.logitsSlot, out); err != nil {
			return err
		}
		s.bound = out
	}
	if err := s.call.Run(ctx, nil); err != nil {
		return err
	}
	s.tokens = append(s.tokens, chunk...)
	return s.cache.advance()
}

// feed writes a chunk's ids, positions and mask.
func (s *session) feed(chunk []int32, used, total int) error {
	if err := s.room(&s.ids, len(chunk), s.chunk, nil); err != nil {
		return err
	}
	for i, id := range chunk {
		s.ids.data[i] = int64(id)
	}
	if s.position.slot >= 0 {
		if err := s.room(&s.position, len(chunk), s.chunk, nil); err != nil {
			return err
		}
		for i := range chunk {
			s.position.data[i] = int64(used + i)
		}
	}
	if s.mask.slot < 0 {
		return nil
	}
	return s.room(&s.mask, total, max(s.cache.capacity, newCapacity(len(s.mask.data), total, s.info.MaxContext)), ones)
}

func ones(data []int64) {
	for i := range data {
		data[i] = 1
	}
}

// room gives a buffer the shape [1, n]; where its memory is too short it gets
// new memory of the given size, initialized by fill.
func (s *session) room(b *buffer, n, size int, fill func([]int64)) error {
	if n == b.n {
		return nil
	}
	if n <= len(b.data) {
		return b.reshape(n)
	}
	data := make([]int64, max(n, size))
	if fill != nil {
		fill(data)
	}
	value, err := ort.NewTensor(s.lib, data, 1, int64(len(data)))
	if err != nil {
		return err
	}
	if err := s.call.SetInput(b.slot, value); err != nil {
		value.Close()
		return err
	}
	if b.value != nil {
		b.value.Close()
	}
	b.data, b.value = data, value
	return b.reshape(n)
}

func (b *buffer) reshape(n int) error {
	b.n, b.shape = n, [2]int64{1, int64(n)}
	return b.value.Reshape(b.shape[:]...)
}

// rowOf is one row of logits [1, rows, vocab] as float32.
func (s *session) rowOf(out *ort.Value, row int) ([]float32, error) {
	if shape := out.Shape(); len(shape) != 3 || int64(row) >= shape[1] || shape[2] != int64(s.sig.vocab) {
		return nil, fmt.Errorf("the graph gave logits of shape %v, want [1, %d or more, %d]", shape, row+1, s.sig.vocab)
	}
	from, to := row*s.sig.vocab, (row+1)*s.sig.vocab
	if s.sig.logitsType == ort.Float32 {
		data, err := ort.Data[float32](out)
		if err != nil {
			return nil, err
		}
		return data[from:to:to], nil
	}
	data, err := out.Bytes()
	if err != nil {
		return nil, err
	}
	if s.wide == nil {
		s.wide = make([]float32, s.sig.vocab)
	}
	return s.wide, tensor.Decode(s.wide, data[2*from:2*to], tensor.F16)
}

// Truncate implements infer.Session.
func (s *session) Truncate(n int) error {
	if n < 0 || n > len(s.tokens) {
		return fmt.Errorf("keep %d tokens of a sequence of %d", n, len(s.tokens))
	}
	if n == len(s.tokens) {
		return nil
	}
	if err := s.cache.truncate(n); err != nil {
		return err
	}
	s.tokens = s.tokens[:n]
	return nil
}

// Close frees the model and the cache. Logits returned before are invalid.
func (s *session) Close() error {
	if s.closed {
		return nil
	}
	s.release()
	s.raw.Close()
	s.weights.close()
	return nil
}

// release frees all but the graph.
func (s *session) release() {
	s.closed = true
	if s.call != nil {
		s.call.Close()
	}
	s.cache.close()
	for _, v := range []*ort.Value{s.ids.value, s.mask.value, s.position.value, s.row} {
		if v != nil {
			v.Close()
		}
	}
}
