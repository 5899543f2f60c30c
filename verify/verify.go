package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/fidelity"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/ort"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// farKL is the divergence beyond which an artifact of a precision that should
// lose next to nothing is wrong rather than coarse: twenty times and more what
// real models measure. What 4 bits may cost depends on model and recipe, so
// they have no such bound.
// Names of GGUF types begin with a capital letter.
var farKL = map[string]float64{
	"fp32": 0.001, "fp16": 0.01, "int8": 0.1,
	"F32": 0.01, "F16": 0.01, "BF16": 0.1, "Q8_0": 0.1,
}

// Far says in what an artifact of a precision differs too much, "" where it
// does not.
func Far(precision string, kl float64) string {
	limit, ok := farKL[precision]
	if !ok || kl <= limit {
		return ""
	}
	return fmt.Sprintf("KL %.3g against the float32 graph, where %s should stay below %g: the artifact is wrong, or this model cannot be stored so", kl, precision, limit)
}

// DefaultReference names the reference that convert compares with.
const DefaultReference = "float32 graph of the same checkpoint, same runtime"

// DefaultTokens is how much of a text is compared unless asked otherwise.
const DefaultTokens = 512

// Options say what to compare.
type Options struct {
	// Library is the loaded ONNX Runtime.
	Library *ort.Library
	// Reference is the folder of the artifact that the others are compared
	// with, ReferenceName what it is called; default [DefaultReference].
	Reference, ReferenceName string
	// ReferenceLogits is a file of its logits (package fidelity), to be used
	// instead of Reference. Without either, perplexity alone is measured.
	ReferenceLogits string
	// SaveLogits is where to keep the reference's logits; "" keeps none. Without
	// Reference and ReferenceLogits it keeps those of the one artifact, which
	// then is the reference of later runs.
	SaveLogits string
	// TempDir is for the reference's logits during a run; default the
	// system's. They take two bytes per token and vocabulary entry.
	TempDir string
	// Artifacts are the folders to compare.
	Artifacts []string
	// ModelID names the checkpoint in logits files.
	ModelID string
	// Text and its name; default [Text], or that of ReferenceLogits.
	Text, TextName string
	// Tokens of the text to use; default [DefaultTokens], or all of
	// ReferenceLogits.
	Tokens int
	// Definition says how the text is cut; default windows of 512, or of the
	// model's context where that is shorter.
	Definition fidelity.Definition
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
	Dir string
	// Fidelity is what was measured. Without a reference its Reference is ""
	// and only the perplexity counts.
	Fidelity modeldir.Fidelity
	// Figures are the same with what metadata does not keep. Without a reference
	// the perplexity alone is of interest.
	Figures fidelity.Result
	// Problems say in what the artifact fails; empty for a good one.
	Problems []string
	// SelfTest holds some of the artifact's own logits, by which a device can be
	// compared with the arithmetic that was measured here.
	SelfTest *modeldir.SelfTest
}

// selfTestLengths are the prompts of a self-test: so many of the text's first
// tokens. selfTestTop is how many logits are kept of each.
var selfTestLengths = []int{8, 24, 64}

const selfTestTop = 20

// Run compares every artifact with the reference. An artifact that cannot be
// loaded or yields no finite logits is an error.
func Run(ctx context.Context, o Options) (_ []Result, err error) {
	if err := o.checkSave(); err != nil {
		return nil, err
	}
	env, err := o.Library.NewEnv(ort.EnvOptions{Name: "verify"})
	if err != nil {
		return nil, err
	}
	defer env.Close()
	v := &verifier{Options: o, runner: runner{env, o.Threads}, models: len(o.Artifacts), text: openText}
	if o.Reference != "" {
		v.models++
	}
	if err := v.prepare(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.forget()) }()
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

// checkSave refuses to keep logits of nothing in particular.
func (o *Options) checkSave() error {
	if o.SaveLogits != "" && o.Reference == "" && (o.ReferenceLogits != "" || len(o.Artifacts) != 1) {
		return errors.New("verify: logits are kept of a reference, or of one artifact that is compared with nothing")
	}
	return nil
}

type verifier struct {
	Options
	runner
	tokens  []int32
	windows []fidelity.Window
	ref     *fidelity.Logits // nil without a reference
	// text reads an artifact's small files and its tokenizer.
	text func(dir string) (*modeldir.Folder, *tokenizer.Tokenizer, error)
	temp string // file to remove at the end
	// models counts the models to run, done those that have.
	models, done int
}

// forget closes the reference's logits and removes them where they were not
// asked for.
func (v *verifier) forget() error {
	if v.ref == nil {
		return nil
	}
	err := v.ref.Close()
	if v.temp != "" {
		err = errors.Join(err, os.Remove(v.temp))
	}
	return err
}

// tick returns what a stream calls for each of so many steps of one model.
func (v *verifier) tick(steps int) func() {
	if v.Progress == nil {
		return nil
	}
	n, base := 0, v.done
	return func() {
		n++
		v.Progress((float64(base) + float64(min(n, steps))/float64(steps)) / float64(v.models))
	}
}

// prepare reads or makes the reference's logits.
func (v *verifier) prepare(ctx context.Context) error {
	if v.ReferenceLogits != "" {
		return v.openReference()
	}
	dir := v.Reference
	if dir == "" {
		if len(v.Artifacts) == 0 {
			return errors.New("verify: neither a reference nor an artifact is given")
		}
		dir = v.Artifacts[0]
	}
	if v.Text == "" {
		v.Text, v.TextName = Text, TextName
	}
	if v.Tokens <= 0 {
		v.Tokens = DefaultTokens
	}
	folder, tok, err := v.text(dir)
	if err != nil {
		return err
	}
	if v.Definition.Kind == "" {
		v.Definition = fidelity.Definition{Kind: fidelity.Windows, Window: 512}
		if c := folder.MaxContext(); c > 0 {
			v.Definition.Window = min(512, c)
		}
	}
	v.tokens = v.Definition.Place(readTokens(tok, v.Text, v.Tokens), beginning(tok))
	if v.windows = v.Definition.Cut(len(v.tokens)); fidelity.Rows(v.windows) < 1 || len(v.tokens) < 2 {
		return fmt.Errorf("the text has %d tokens: nothing to compare by %s", len(v.tokens), v.Definition)
	}
	if v.Reference == "" {
		return nil
	}
	return v.makeReference(ctx)
}

// openText reads the small files of an ONNX artifact.
func openText(dir string) (*modeldir.Folder, *tokenizer.Tokenizer, error) {
	folder, err := modeldir.OpenFiles(dir)
	if err != nil {
		return nil, nil, err
	}
	tok, err := tokenizer.Load(dir)
	return folder, tok, err
}

// readTokens is the first n tokens of a text, or all where it has fewer. A
// long text is read no farther than needed.
func readTokens(tok *tokenizer.Tokenizer, text string, n int) []int32 {
	for size := 8*n + 4096; ; size *= 4 {
		part := text
		if size < len(text) {
			part = strings.ToValidUTF8(text[:size], "")
		}
		ids := tok.Encode(part, tokenizer.EncodeOptions{AddSpecial: true})
		// The last tokens may depend on what was cut off, as may an end token.
		if size >= len(text) || len(ids) >= n+64 {
			return ids[:min(n, len(ids))]
		}
	}
}

// beginning is the token that a tokenizer puts before a text,
// [fidelity.NoTarget] where it puts none.
func beginning(tok *tokenizer.Tokenizer) int32 {
	plain := tok.Encode("a", tokenizer.EncodeOptions{})
	ids := tok.Encode("a", tokenizer.EncodeOptions{AddSpecial: true})
	if len(ids) > len(plain) && slices.Equal(ids[1:1+len(plain)], plain) {
		return ids[0]
	}
	return fidelity.NoTarget
}

// openReference opens the saved logits and checks that they are of the text
// that was asked for.
func (v *verifier) openReference() (err error) {
	if v.ref, err = fidelity.OpenLogits(v.ReferenceLogits); err != nil {
		return err
	}
	fail := func(format string, a ...any) error {
		return errors.Join(fmt.Errorf("reference logits %s: "+format, append([]any{v.ReferenceLogits}, a...)...), v.ref.Close())
	}
	h := v.ref.Header()
	switch {
	case v.Definition.Kind != "" && v.Definition != h.Definition:
		return fail("they are by %s, not %s", h.Definition, v.Definition)
	case v.Tokens > len(h.Tokens):
		return fail("they are of %d tokens, %d are wanted", len(h.Tokens), v.Tokens)
	}
	v.tokens, v.Definition, v.ReferenceName = h.Tokens, h.Definition, h.Reference
	if v.Text != "" && len(v.Artifacts) > 0 {
		_, tok, err := v.text(v.Artifacts[0])
		if err != nil {
			return errors.Join(err, v.ref.Close())
		}
		ids := h.Definition.Place(readTokens(tok, v.Text, len(h.Tokens)), beginning(tok))
		if !slices.Equal(ids, h.Tokens) {
			return fail("they are of another text (%s) or by another tokenizer", h.Text)
		}
	}
	v.TextName = h.Text
	if v.Tokens > 0 {
		v.tokens = v.tokens[:v.Tokens]
	}
	// Fewer tokens cut the last window short; whole windows stay as they are.
	v.windows = v.Definition.Cut(len(v.tokens))
	if v.Definition.Stride > 0 && len(v.tokens) < len(h.Tokens) {
		return fail("sliding windows cannot be cut to %d tokens; use all %d", len(v.tokens), len(h.Tokens))
	}
	return nil
}

// makeReference runs the reference and keeps its logits in a file.
func (v *verifier) makeReference(ctx context.Context) error {
	if v.ReferenceName == "" {
		v.ReferenceName = DefaultReference
	}
	m, err := openModel(v.Reference)
	if err != nil {
		return err
	}
	s := newStream(&v.runner, m, v.step(m))
	defer s.close()
	s.tick = v.tick(len(v.windows) * (len(s.body) + 1))
	name, err := v.keep(v.Reference, func(each eachRow) error { return s.logits(ctx, v.tokens, v.windows, each) }, nil)
	if err != nil {
		return err
	}
	v.done++
	if v.SaveLogits == "" {
		v.temp = name
	}
	v.ref, err = fidelity.OpenLogits(name)
	return err
}

// keeping is run, which keeps the logits too where an artifact itself is the
// reference of later runs: with SaveLogits and without a reference of its own.
func (v *verifier) keeping(model string, run func(eachRow) error) func(eachRow) error {
	if v.SaveLogits == "" || v.Reference != "" {
		return run
	}
	return func(each eachRow) error {
		_, err := v.keep(model, run, each)
		return err
	}
}

// keep runs a model whose logits go into a file, SaveLogits or a temporary one,
// and returns the file's name. More, where not nil, gets each row too.
func (v *verifier) keep(model string, run func(eachRow) error, more eachRow) (name string, err error) {
	var f *os.File
	if v.SaveLogits != "" {
		f, err = os.Create(v.SaveLogits)
	} else {
		f, err = os.CreateTemp(v.TempDir, "reference-*.logits")
	}
	if err != nil {
		return "", fmt.Errorf("keep the reference's logits: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	var w *fidelity.LogitsWriter
	err = run(func(win fidelity.Window, pos int, row []float32) error {
		if w == nil {
			var err error
			if w, err = fidelity.CreateLogits(f, fidelity.Header{
				Model: v.ModelID, Reference: v.ReferenceName, Text: v.TextName,
				Definition: v.Definition, Vocab: len(row), Tokens: v.tokens,
			}); err != nil {
				return err
			}
		}
		if err := w.Add(row); err != nil {
			return fmt.Errorf("position %d of the reference: %w", pos, err)
		}
		if more != nil {
			return more(win, pos, row)
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("run the reference %s: %w", model, err)
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		return "", fmt.Errorf("keep the reference's logits: %w", err)
	}
	return f.Name(), nil
}

// segmentElements bounds the weights that are loaded at once: as float32, which
// the CPU computes in, 128 MiB, and as much again for its own order of them.
const segmentElements = 32 << 20

// step is the number of layers of a model to load at once.
func (v *verifier) step(m *model) int {
	if v.FreeMemory > 0 && 2*m.data > v.FreeMemory/2 {
		return 1
	}
	n := elements(m.graph) / int64(m.layers)
	if n*int64(m.layers) <= 2*segmentElements {
		return m.layers
	}
	return int(min(int64(m.layers), max(1, segmentElements/n)))
}

// elements is how many stored weights a graph has, at most: a byte of packed
// blocks is taken for two.
func elements(m *onnx.Model) (n int64) {
	for _, t := range m.Graph.Initializers {
		if t.External == nil {
			continue
		}
		size := int64(1)
		for _, d := range t.Dims {
			size *= d
		}
		if t.Elem == onnx.U8 {
			size *= 2
		}
		n += size
	}
	return n
}

// artifact compares one artifact with the reference.
func (v *verifier) artifact(ctx context.Context, dir string) (Result, error) {
	r := Result{Dir: dir}
	m, err := openModel(dir)
	if err != nil {
		return r, err
	}
	s := newStream(&v.runner, m, v.step(m))
	defer s.close()
	s.tick = v.tick(len(v.windows) * (len(s.body) + 1))
	r.SelfTest = &modeldir.SelfTest{Reference: "the same file, " + cmp.Or(m.arithmetic, "on the CPU") + ", ONNX Runtime " + v.Library.Version()}
	acc, err := v.compare(v.keeping(dir, func(each eachRow) error { return s.logits(ctx, v.tokens, v.windows, each) }), r.SelfTest)
	if err != nil {
		return r, err
	}
	s.close()
	r.Figures = acc.Result()
	r.Fidelity = v.fidelity(r.Figures, m.arithmetic)
	if !s.keep {
		r.Fidelity.Scope = "layer by layer"
		if n := v.step(m); n > 1 {
			r.Fidelity.Scope = fmt.Sprintf("%d layers at a time", n)
		}
	}
	if half(m.graph) {
		if err := v.measureRanges(ctx, m, &r); err != nil {
			return r, err
		}
	}
	v.done++
	return r, nil
}

// fidelity is what was measured as metadata has it; without a reference the
// perplexity alone.
func (v *verifier) fidelity(f fidelity.Result, arithmetic string) modeldir.Fidelity {
	d := modeldir.Fidelity{
		Text: v.TextName, Tokens: f.Tokens, Definition: v.Definition.String(), Arithmetic: arithmetic,
		Perplexity: f.Perplexity, Scope: "whole model",
	}
	if v.ref == nil {
		return d
	}
	d.Reference = v.ReferenceName
	d.KLMean, d.KLStdErr, d.KLMax = f.KLMean, f.KLStdErr, f.KLMax
	d.Top1Agreement, d.Top5Agreement = f.Top1, f.Top5
	d.PerplexityRatio, d.PerplexityRatioStdErr = f.PerplexityRatio, f.PerplexityRatioStdErr
	d.MaxAbsDelta = f.MaxDelta
	return d
}

// eachRow takes the logits of one position that counts.
type eachRow func(w fidelity.Window, pos int, row []float32) error

// compare runs a model and adds up the differences of its logits from the
// reference's; without a reference from themselves, which leaves the
// perplexity. own, where not nil, receives some of its logits.
func (v *verifier) compare(run func(eachRow) error, own *modeldir.SelfTest) (*fidelity.Accumulator, error) {
	acc := &fidelity.Accumulator{}
	var want []float32
	if v.ref != nil {
		want = make([]float32, v.ref.Header().Vocab)
	}
	i := 0
	err := run(func(w fidelity.Window, pos int, row []float32) error {
		if n := pos + 1; own != nil && w.Start == 0 && slices.Contains(selfTestLengths, n) && len(own.Cases) < len(selfTestLengths) {
			own.Cases = append(own.Cases, modeldir.SelfTestCase{
				Tokens: slices.Clone(v.tokens[:n]), Top: modeldir.LargestLogits(row, selfTestTop),
			})
		}
		ref := row
		if v.ref != nil {
			if len(row) != len(want) {
				return fmt.Errorf("%d logits, the reference has %d", len(row), len(want))
			}
			if err := v.ref.Row(i, want); err != nil {
				return err
			}
			ref = want
		}
		i++
		if err := acc.AddWeighted(ref, row, w.Target(v.tokens, pos), v.Definition.Weight(w)); err != nil {
			return fmt.Errorf("position %d: %w", pos, err)
		}
		return nil
	})
	return acc, err
}

// half reports whether a graph computes in 16-bit floats: stored weights do
// not count, the cache does.
func half(m *onnx.Model) bool {
	return slices.ContainsFunc(m.Graph.Inputs, func(in onnx.Value) bool { return in.Elem == onnx.F16 })
}
