package verify

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/fidelity"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// RangeLimit is a quarter of the largest float16: a tensor that reaches beyond
// it on a text may overflow on another.
const RangeLimit = 65504.0 / 4

// rangeTokens is how much of the text ranges are measured on. Huge activations
// sit on the first tokens and on marks that every text has.
const rangeTokens = 128

// keptRanges is how many of the largest ranges a report holds.
const keptRanges = 8

// farKL is the divergence beyond which an artifact of a precision that should
// lose next to nothing is wrong rather than coarse: twenty times and more what
// real models measure. What 4 bits may cost depends on model and recipe, so
// they have no such bound.
var farKL = map[string]float64{"fp32": 0.001, "fp16": 0.01, "int8": 0.1}

// Far says in what an artifact of a precision differs too much, "" where it
// does not.
func Far(precision string, kl float64) string {
	limit, ok := farKL[precision]
	if !ok || kl <= limit {
		return ""
	}
	return fmt.Sprintf("KL %.3g against the float32 graph, where %s should stay below %g: the artifact is wrong, or this model cannot be stored so", kl, precision, limit)
}

// Options say what to compare.
type Options struct {
	// Library is the loaded ONNX Runtime.
	Library *ort.Library
	// Reference is the folder of the float32 artifact.
	Reference string
	// Artifacts are the folders to compare with it.
	Artifacts []string
	// Text and its name; default [Text].
	Text, TextName string
	// Tokens to compare on; default 512, at most the model's context.
	Tokens int
	// Threads of a session; 0 for one per physical core.
	Threads int
	// FreeMemory in bytes; where a whole model does not fit in half of it,
	// models run layer by layer. 0: not known, models run whole.
	FreeMemory int64
	// Progress is told the share of the work that is done, 0 to 1; may be nil.
	Progress func(share float64)
}

// Result is the evidence on one artifact.
type Result struct {
	Dir      string
	Fidelity modeldir.Fidelity
	// Problems say in what the artifact fails; empty for a good one.
	Problems []string
}

// Run compares every artifact with the reference. An artifact that cannot be
// loaded or yields no finite logits is an error.
func Run(ctx context.Context, o Options) ([]Result, error) {
	if o.Text == "" {
		o.Text, o.TextName = Text, TextName
	}
	if o.Tokens <= 0 {
		o.Tokens = 512
	}
	env, err := o.Library.NewEnv(ort.EnvOptions{Name: "verify"})
	if err != nil {
		return nil, err
	}
	defer env.Close()
	v := &verifier{Options: o, runner: runner{env, o.Threads}, steps: 1 + 2*len(o.Artifacts)}
	if err := v.prepare(ctx); err != nil {
		return nil, err
	}
	var out []Result
	for _, dir := range o.Artifacts {
		r, err := v.artifact(ctx, dir)
		if err != nil {
			return nil, fmt.Errorf("verify %s: %w", dir, err)
		}
		out = append(out, r)
	}
	return out, nil
}

type verifier struct {
	Options
	runner
	tokens      []int32
	ref         *model
	refHidden   [][]float32
	steps, done int
}

func (v *verifier) step() {
	v.done++
	if v.Progress != nil {
		v.Progress(float64(v.done) / float64(v.steps))
	}
}

// prepare tokenizes the text and runs the reference's layers.
func (v *verifier) prepare(ctx context.Context) error {
	folder, err := modeldir.Open(filepath.Join(v.Reference, modeldir.ModelFile))
	if err != nil {
		return err
	}
	tok, err := tokenizer.Load(v.Reference)
	if err != nil {
		return err
	}
	v.tokens = tok.Encode(v.Text, tokenizer.EncodeOptions{AddSpecial: true})
	n := v.Tokens
	if c := folder.MaxContext(); c > 0 {
		n = min(n, c)
	}
	v.tokens = v.tokens[:min(n, len(v.tokens))]
	if len(v.tokens) < 2 {
		return fmt.Errorf("the text has %d tokens: nothing to compare", len(v.tokens))
	}
	if v.ref, err = openModel(v.Reference); err != nil {
		return err
	}
	v.refHidden, err = v.layers(ctx, v.ref, 1, v.tokens, nil)
	v.step()
	return err
}

// whole reports whether a model may be loaded at once.
func (v *verifier) whole(m *model) bool {
	return v.FreeMemory <= 0 || 2*m.data < v.FreeMemory/2
}

// layers runs a model up to its last layer's output, step layers at a time.
// Where seen is given, the parts are float32 copies with observers, and it
// gets the range of each 16-bit value.
func (v *verifier) layers(ctx context.Context, m *model, step int, tokens []int32, seen func(tensor string, maxAbs float64)) ([][]float32, error) {
	st := state{tokens: tokens}
	var names []string
	for from := 0; from < m.layers; from += step {
		to := min(from+step, m.layers)
		part := m.body(from, to)
		if seen != nil {
			part = observe(part)
		}
		next := m.boundary(to)
		hidden := make([][]float32, len(next))
		err := v.run(ctx, part, m.dir, names, st, func(name string, data []float32) error {
			if tensor, ok := watched(name); ok {
				seen(tensor, float64(data[0]))
				return nil
			}
			hidden[slices.Index(next, name)] = slices.Clone(data)
			return nil
		})
		if err != nil {
			return nil, err
		}
		st.hidden, names = hidden, next
	}
	return st.hidden, nil
}

// artifact compares one artifact with the reference.
func (v *verifier) artifact(ctx context.Context, dir string) (Result, error) {
	r := Result{Dir: dir}
	m, err := openModel(dir)
	if err != nil {
		return r, err
	}
	step := m.layers
	if !v.whole(m) {
		step = 1
	}
	hidden, err := v.layers(ctx, m, step, v.tokens, nil)
	if err != nil {
		return r, err
	}
	v.step()
	acc, err := v.compareHeads(ctx, m, hidden)
	if err != nil {
		return r, err
	}
	f := acc.Result()
	r.Fidelity = modeldir.Fidelity{
		Reference: "float32 graph of the same checkpoint, same runtime", Text: v.TextName, Tokens: f.Tokens,
		KLMean: f.KLMean, KLMax: f.KLMax, Top1Agreement: f.Top1, Top5Agreement: f.Top5,
		Perplexity: f.Perplexity, PerplexityRatio: f.PerplexityRatio, MaxAbsDelta: f.MaxDelta,
		Scope: "whole model",
	}
	if step < m.layers {
		r.Fidelity.Scope = "layer by layer"
	}
	if half(m.graph) {
		if err := v.measureRanges(ctx, m, &r); err != nil {
			return r, err
		}
	}
	v.step()
	return r, nil
}

// half reports whether a graph computes in 16-bit floats: stored weights do
// not count, the cache does.
func half(m *onnx.Model) bool {
	return slices.ContainsFunc(m.Graph.Inputs, func(in onnx.Value) bool { return in.Elem == onnx.F16 })
}

func (v *verifier) measureRanges(ctx context.Context, m *model, r *Result) error {
	largestOf := map[string]float64{}
	tokens := v.tokens[:min(rangeTokens, len(v.tokens))]
	_, err := v.layers(ctx, m, 1, tokens, func(tensor string, maxAbs float64) {
		if !(maxAbs <= largestOf[tensor]) { // NaN counts
			largestOf[tensor] = maxAbs
		}
	})
	if err != nil {
		return fmt.Errorf("measure the ranges of its 16-bit tensors: %w", err)
	}
	var seen []modeldir.Range
	for tensor, maxAbs := range largestOf {
		seen = append(seen, modeldir.Range{Tensor: tensor, MaxAbs: maxAbs, Limit: RangeLimit})
	}
	slices.SortFunc(seen, func(a, b modeldir.Range) int {
		return cmp.Or(cmp.Compare(b.MaxAbs, a.MaxAbs), cmp.Compare(a.Tensor, b.Tensor))
	})
	for _, s := range seen {
		if !(s.MaxAbs <= s.Limit) {
			r.Problems = append(r.Problems, fmt.Sprintf("tensor %s reaches %.0f, beyond %.0f, a quarter of the largest 16-bit float: it may overflow where 16-bit floats are computed as such", s.Tensor, s.MaxAbs, s.Limit))
		}
	}
	r.Fidelity.Ranges = largest(seen)
	return nil
}

// largest keeps the first of sorted ranges. Sums of scores and mask say
// nothing that the scores do not say, and are left out.
func largest(sorted []modeldir.Range) []modeldir.Range {
	var out []modeldir.Range
	for _, s := range sorted {
		if !strings.Contains(s.Tensor, "mask") && len(out) < keptRanges {
			out = append(out, s)
		}
	}
	return out
}

// headChunk is how many positions' logits are held at once.
const headChunk = 64

// compareHeads runs both heads on their hidden states and adds up the
// differences of their logits.
func (v *verifier) compareHeads(ctx context.Context, m *model, hidden [][]float32) (*fidelity.Accumulator, error) {
	refHead, head := v.ref.head(), m.head()
	refSession, err := v.load(ctx, refHead, v.ref.dir)
	if err != nil {
		return nil, err
	}
	defer refSession.Close()
	session, err := v.load(ctx, head, m.dir)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	acc := &fidelity.Accumulator{}
	refNames, names := v.ref.boundary(v.ref.layers), m.boundary(m.layers)
	var refLogits []float32
	for at := 0; at < len(v.tokens); at += headChunk {
		n := min(headChunk, len(v.tokens)-at)
		err := v.runSession(ctx, refSession, refHead.Graph, refNames, v.slice(v.refHidden, at, n), func(_ string, data []float32) error {
			refLogits = append(refLogits[:0], data...)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("run the reference's head: %w", err)
		}
		err = v.runSession(ctx, session, head.Graph, names, v.slice(hidden, at, n), func(_ string, data []float32) error {
			if len(data) != len(refLogits) {
				return fmt.Errorf("%d logits, the reference has %d", len(data), len(refLogits))
			}
			vocab := len(data) / n
			for i := range n {
				target := fidelity.NoTarget
				if at+i+1 < len(v.tokens) {
					target = v.tokens[at+i+1]
				}
				if err := acc.Add(refLogits[i*vocab:(i+1)*vocab], data[i*vocab:(i+1)*vocab], target); err != nil {
					return fmt.Errorf("position %d: %w", at+i, err)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return acc, nil
}

// slice is n positions of hidden states, from position at.
func (v *verifier) slice(hidden [][]float32, at, n int) state {
	st := state{tokens: v.tokens[at : at+n]}
	for _, h := range hidden {
		width := len(h) / len(v.tokens)
		st.hidden = append(st.hidden, h[at*width:(at+n)*width])
	}
	return st
}
