package infer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/llama-pajamas/llama-pajamas/modeldir"
)

// SamplerOptions says how the next token is chosen. The zero value is greedy:
// always the likeliest token, the first among equals.
//
// The steps come in Hugging Face's order, so that the values in a model's
// generation_config.json mean what its makers measured: logit bias,
// repetition penalty, presence and frequency penalty, temperature, top-k,
// top-p, min-p. (llama.cpp truncates before it applies the temperature;
// the same numbers choose from a smaller set there.) Each truncation works on
// the probabilities renormalized over what the one before left.
type SamplerOptions struct {
	// Temperature divides the logits. 0 is greedy; the options below it down
	// to Seed then have no effect. 0 … 100.
	Temperature float64
	// TopK keeps the K likeliest tokens; of equal ones, those with lower ids.
	// 0 keeps all.
	TopK int
	// TopP keeps the smallest set of likeliest tokens whose probabilities sum
	// to at least P. 0 and 1 keep all. 0 … 1.
	TopP float64
	// MinP keeps tokens at least P times as likely as the likeliest. 0 keeps
	// all. 0 … 1.
	MinP float64

	// RepetitionPenalty divides the positive logits of every token seen in
	// prompt or answer and multiplies the negative ones (CTRL, section 4.1).
	// 0 and 1 have no effect. 0 … 100.
	RepetitionPenalty float64
	// PresencePenalty is subtracted from the logit of every token in the
	// answer, FrequencyPenalty once for each time it occurs there. -100 … 100.
	PresencePenalty, FrequencyPenalty float64
	// PenaltyWindow limits all three penalties to the last tokens of prompt
	// and answer. 0 means no limit.
	PenaltyWindow int

	// LogitBias is added to the logits of single tokens; -Inf forbids one.
	LogitBias map[int32]float32

	// Seed makes the choice repeatable: same seed, options and logits, same
	// tokens. 0 draws a new seed, see [Sampler.Seed].
	Seed uint64
}

// DefaultSampler is what generation_config.json asks for, with the defaults of
// transformers where it asks for sampling without saying how (temperature 1,
// top-k 50); greedy where it does not ask for sampling.
func DefaultSampler(g modeldir.Generation) SamplerOptions {
	var o SamplerOptions
	if g.RepetitionPenalty != nil {
		o.RepetitionPenalty = *g.RepetitionPenalty
	}
	if g.DoSample == nil || !*g.DoSample {
		return o
	}
	o.Temperature, o.TopK = 1, 50
	if g.Temperature != nil {
		o.Temperature = *g.Temperature
	}
	if g.TopK != nil {
		o.TopK = *g.TopK
	}
	if g.TopP != nil {
		o.TopP = *g.TopP
	}
	if g.MinP != nil {
		o.MinP = *g.MinP
	}
	return o
}

// Check reports the first option outside its range.
func (o *SamplerOptions) Check() error {
	for _, f := range []struct {
		name      string
		v, lo, hi float64
	}{
		{"temperature", o.Temperature, 0, 100},
		{"top-k", float64(o.TopK), 0, math.MaxInt32},
		{"top-p", o.TopP, 0, 1},
		{"min-p", o.MinP, 0, 1},
		{"repetition penalty", o.RepetitionPenalty, 0, 100},
		{"presence penalty", o.PresencePenalty, -100, 100},
		{"frequency penalty", o.FrequencyPenalty, -100, 100},
		{"penalty window", float64(o.PenaltyWindow), 0, math.MaxInt32},
	} {
		if !(f.v >= f.lo && f.v <= f.hi) {
			return fmt.Errorf("%s %v is out of range: use %v to %v", f.name, f.v, f.lo, f.hi)
		}
	}
	for id, b := range o.LogitBias {
		if id < 0 || b != b || math.IsInf(float64(b), 1) {
			return fmt.Errorf("logit bias %v for token %d: want a number or -Inf for an id of 0 or more", b, id)
		}
	}
	return nil
}

// Sampler chooses tokens for one sequence. It allocates when made and while
// its buffers grow, not for each token.
type Sampler struct {
	o     SamplerOptions
	vocab int
	rng   *rand.PCG
	seed  uint64

	hist history
	cand []candidate
	prob []float32 // per id, only for sampling from the whole vocabulary
}

// candidate is a token that may be chosen: its logit divided by the
// temperature, and exp(logit - largest).
type candidate struct {
	logit, weight float32
	id            int32
}

// NewSampler makes a sampler over ids below vocab: the tokenizer's count,
// where the rows of logits are padded beyond it.
func NewSampler(o SamplerOptions, vocab int) (*Sampler, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if vocab <= 0 {
		return nil, fmt.Errorf("make a sampler: a vocabulary of %d tokens", vocab)
	}
	s := &Sampler{o: o, vocab: vocab, seed: o.Seed}
	for s.seed == 0 {
		s.seed = rand.Uint64()
	}
	s.rng = rand.NewPCG(s.seed, 0x6c6c616d612d706a) // "llama-pj": a fixed second word
	s.hist.window = o.PenaltyWindow
	return s, nil
}

// Seed is the seed in use.
func (s *Sampler) Seed() uint64 { return s.seed }

// Prompt records tokens that stand before the answer, for the penalties.
func (s *Sampler) Prompt(ids []int32) {
	if s.penalizes() {
		s.hist.add(ids, false)
	}
}

// Sample chooses the next token from a row of logits, which it may change,
// and records it for the penalties.
func (s *Sampler) Sample(logits []float32) (int32, error) {
	if len(logits) < s.vocab {
		return 0, fmt.Errorf("sample: %d logits for a vocabulary of %d tokens", len(logits), s.vocab)
	}
	logits = logits[:s.vocab]
	for id, b := range s.o.LogitBias {
		if int(id) < len(logits) {
			logits[id] += b
		}
	}
	if s.penalizes() {
		s.hist.penalize(logits, &s.o)
	}
	id, err := s.choose(logits)
	if err != nil {
		return 0, err
	}
	if s.penalizes() {
		s.hist.add([]int32{id}, true)
	}
	return id, nil
}

func (s *Sampler) penalizes() bool {
	return (s.o.RepetitionPenalty != 0 && s.o.RepetitionPenalty != 1) ||
		s.o.PresencePenalty != 0 || s.o.FrequencyPenalty != 0
}

func (s *Sampler) choose(logits []float32) (int32, error) {
	top, err := argmax(logits)
	if err != nil {
		return 0, err
	}
	if math.IsInf(float64(logits[top]), 1) {
		return 0, fmt.Errorf("the model's logit of token %d is infinite: its weights are damaged or an fp16 value overflowed; try another recipe or precision", top)
	}
	if s.o.Temperature == 0 || s.o.TopK == 1 {
		return int32(top), nil
	}
	scale := float32(1 / s.o.Temperature)
	k := s.o.TopK
	switch {
	case k > 0 && k < len(logits):
		s.cand = selectTop(s.cand, logits, k)
		total := s.weigh(logits[top], scale)
		return s.draw(s.nucleus(total))
	case s.o.TopP > 0 && s.o.TopP < 1:
		return s.draw(s.wideNucleus(logits, logits[top], scale))
	}
	return s.drawAll(logits, logits[top], scale)
}

// weigh fills in the weights of the candidates and returns their sum.
func (s *Sampler) weigh(largest, scale float32) float64 {
	var total float64
	for i := range s.cand {
		c := &s.cand[i]
		c.weight = expf((c.logit - largest) * scale)
		total += float64(c.weight)
	}
	return total
}

// nucleus cuts the candidates, sorted by falling weight and of weight total,
// by top-p and then min-p. The first always stays.
func (s *Sampler) nucleus(total float64) []candidate {
	kept := s.cand
	if p := s.o.TopP; p > 0 && p < 1 {
		var sum float64
		for i := range kept {
			if sum += float64(kept[i].weight); sum >= p*total {
				kept = kept[:i+1]
				break
			}
		}
	}
	if p := float32(s.o.MinP); p > 0 {
		n, _ := slices.BinarySearchFunc(kept, p*kept[0].weight, func(c candidate, limit float32) int {
			if c.weight >= limit {
				return -1
			}
			return 1
		})
		kept = kept[:max(n, 1)]
	}
	return kept
}

// wideNucleus is nucleus over the whole vocabulary: the total is taken over
// all tokens, then as many of the likeliest are selected as the nucleus needs.
func (s *Sampler) wideNucleus(logits []float32, largest, scale float32) []candidate {
	var total float64
	for _, v := range logits {
		total += float64(expf((v - largest) * scale))
	}
	for k := 128; ; k *= 8 {
		k = min(k, len(logits))
		s.cand = selectTop(s.cand, logits, k)
		if s.weigh(largest, scale) >= s.o.TopP*total || k == len(logits) {
			return s.nucleus(total)
		}
	}
}

// draw picks one of the candidates by weight.
func (s *Sampler) draw(kept []candidate) (int32, error) {
	var total float64
	for i := range kept {
		total += float64(kept[i].weight)
	}
	left := s.uniform() * total
	for i := range kept {
		if left -= float64(kept[i].weight); left < 0 {
			return kept[i].id, nil
		}
	}
	return kept[0].id, nil // only rounding leads here
}

// drawAll picks from the whole vocabulary, cut by min-p alone.
func (s *Sampler) drawAll(logits []float32, largest, scale float32) (int32, error) {
	if len(s.prob) < len(logits) {
		s.prob = make([]float32, len(logits))
	}
	prob := s.prob[:len(logits)]
	limit := float32(s.o.MinP) // the likeliest has weight 1
	var total float64
	for i, v := range logits {
		w := expf((v - largest) * scale)
		if w < limit {
			w = 0
		}
		prob[i] = w
		total += float64(w)
	}
	left := s.uniform() * total
	for i, w := range prob {
		if left -= float64(w); left < 0 && w > 0 {
			return int32(i), nil
		}
	}
	i, err := argmax(logits) // only rounding leads here
	return int32(i), err
}

// uniform is a number in [0, 1) with 53 random bits.
func (s *Sampler) uniform() float64 { return float64(s.rng.Uint64()>>11) * 0x1p-53 }
