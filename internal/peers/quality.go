package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/fidelity"
	"github.com/llama-pajamas/llama-pajamas/infer"
	"github.com/llama-pajamas/llama-pajamas/infer/onnxruntime"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/tokenizer"
)

// window is the length of the sequences that a text is cut into.
const window = 512

// measured is one line of the quality table.
type measured struct {
	artifact
	Bytes         int64           `json:"weight_bytes"`
	BitsPerWeight float64         `json:"bits_per_weight"`
	Fidelity      fidelity.Result `json:"fidelity"`
}

// rows hands over the logits of every token, window by window, in order. A
// row is valid during the call.
type rows func(each func(row []float32) error) error

// judge compares artifacts with the float32 graph on one text.
type judge struct {
	shop    *workshop
	backend *onnxruntime.Backend
	threads int
	tokens  []int32

	ref   *os.File // float32 logits of the reference, [tokens, vocab]
	vocab int
}

// readTokens is the beginning of a text as the sample's token ids.
func readTokens(s *sample, text string, n int) ([]int32, error) {
	tok, err := tokenizer.Load(s.HF)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(text)
	if err != nil {
		return nil, fmt.Errorf("read the text (--text names another): %w", err)
	}
	b = b[:min(len(b), 16*n)] // more than n tokens; the end may be cut within one
	ids := tok.Encode(string(bytes.ToValidUTF8(b, nil)), tokenizer.EncodeOptions{})
	if len(ids) <= n {
		return nil, fmt.Errorf("%s has %d tokens, %d are wanted", text, len(ids), n)
	}
	return ids[:n], nil
}

// setReference computes the reference's logits once and keeps them in a file.
func (j *judge) setReference(ctx context.Context, a *artifact) (err error) {
	if j.ref, err = os.CreateTemp(j.shop.dir, "reference-*.f32"); err != nil {
		return err
	}
	logits, vocab, err := j.logits(ctx, a)
	if err != nil {
		return err
	}
	j.vocab = vocab
	buf := make([]byte, 4*vocab)
	return logits(func(row []float32) error {
		for i, x := range row {
			binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(x))
		}
		_, err := j.ref.Write(buf)
		return err
	})
}

// close removes the reference's logits.
func (j *judge) close() error {
	if j.ref == nil {
		return nil
	}
	return errors.Join(j.ref.Close(), os.Remove(j.ref.Name()))
}

// make builds an artifact, where it is not there yet, and measures it.
func (j *judge) make(ctx context.Context, s *sample, a *artifact) (*measured, error) {
	if a.path == "" {
		if err := j.shop.build(ctx, s, a); err != nil {
			return nil, err
		}
	}
	return j.measure(ctx, a, s.Parameters)
}

// failure is a peer's recipe that gave no working file.
type failure struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// lastLine is what a table has room for: the last line, where Python programs
// say what went wrong, without the folders of this machine.
func lastLine(err error) string {
	text := strings.TrimSpace(err.Error())
	words := strings.Fields(text[strings.LastIndexByte(text, '\n')+1:])
	for i, w := range words {
		if strings.Count(w, "/") > 1 { // a path
			words[i] = filepath.Base(w)
		}
	}
	return strings.Join(words, " ")
}

// measure compares one artifact.
func (j *judge) measure(ctx context.Context, a *artifact, parameters int64) (*measured, error) {
	m := &measured{artifact: *a}
	var err error
	if m.Bytes, err = a.weightBytes(); err != nil {
		return nil, err
	}
	m.BitsPerWeight = float64(m.Bytes) * 8 / float64(parameters)
	logits, vocab, err := j.logits(ctx, a)
	if err != nil {
		return nil, err
	}
	if vocab != j.vocab {
		return nil, fmt.Errorf("%s gives %d logits, the reference %d", a.label(), vocab, j.vocab)
	}
	ref := bytesToFloats{buf: make([]byte, 4*vocab), out: make([]float32, vocab)}
	var sum fidelity.Accumulator
	pos := 0
	err = logits(func(row []float32) error {
		want, err := ref.read(j.ref, int64(pos)*int64(4*vocab))
		if err != nil {
			return err
		}
		target := fidelity.NoTarget // the next token of the same window
		if pos%window != window-1 && pos+1 < len(j.tokens) {
			target = j.tokens[pos+1]
		}
		pos++
		return sum.Add(want, row, target)
	})
	if err != nil {
		return nil, fmt.Errorf("measure %s: %w", a.label(), err)
	}
	if pos != len(j.tokens) {
		return nil, fmt.Errorf("measure %s: %d rows of logits for %d tokens", a.label(), pos, len(j.tokens))
	}
	m.Fidelity = sum.Result()
	return m, nil
}

// logits opens an artifact in its own runtime.
func (j *judge) logits(ctx context.Context, a *artifact) (rows, int, error) {
	if a.Maker == llama {
		return j.llamaLogits(ctx, a)
	}
	folder, err := modeldir.Open(a.path)
	if err != nil {
		return nil, 0, err
	}
	s, err := j.backend.Open(ctx, folder, infer.OpenOptions{Context: window, Threads: j.threads, AllLogits: true, NoFitCheck: true})
	if err != nil {
		return nil, 0, err
	}
	return func(each func([]float32) error) (err error) {
		defer func() { err = errors.Join(err, s.Close()) }()
		for at := 0; at < len(j.tokens); at += window {
			if err := s.Truncate(0); err != nil {
				return err
			}
			part := j.tokens[at:min(at+window, len(j.tokens))]
			if err := s.EvalAll(ctx, part, func(_ int, row []float32) error { return each(row) }); err != nil {
				return err
			}
		}
		return nil
	}, s.Info().Vocab, nil
}

// llamaLogits runs llama.cpp in a process of its own.
func (j *judge) llamaLogits(ctx context.Context, a *artifact) (rows, int, error) {
	if j.vocab == 0 {
		return nil, 0, errors.New("llama.cpp's logits are wanted before the reference's")
	}
	cmd := exec.CommandContext(ctx, j.shop.python, "-c", llamaScript, j.shop.llamaLib, "logits", a.path, strconv.Itoa(window), strconv.Itoa(j.threads))
	stdin := make([]byte, 0, 4*len(j.tokens))
	for _, id := range j.tokens {
		stdin = binary.LittleEndian.AppendUint32(stdin, uint32(id))
	}
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, 0, err
	}
	return func(each func([]float32) error) (err error) {
		if err := cmd.Start(); err != nil {
			return err
		}
		row := bytesToFloats{buf: make([]byte, 4*j.vocab), out: make([]float32, j.vocab)}
		for err == nil {
			if _, err = io.ReadFull(out, row.buf); err == nil {
				row.decode()
				err = each(row.out)
			}
		}
		if err == io.EOF {
			err = nil
		} else {
			_ = cmd.Process.Kill() // it writes into a pipe nobody reads
		}
		if waitErr := cmd.Wait(); waitErr != nil {
			err = errors.Join(err, fmt.Errorf("llama.cpp: %w\n%s", waitErr, stderr.Bytes()))
		}
		return err
	}, j.vocab, nil
}

// bytesToFloats is a row with the buffer it is read through.
type bytesToFloats struct {
	buf []byte
	out []float32
}

func (b *bytesToFloats) read(r io.ReaderAt, offset int64) ([]float32, error) {
	if _, err := r.ReadAt(b.buf, offset); err != nil {
		return nil, fmt.Errorf("read the reference's logits: %w", err)
	}
	b.decode()
	return b.out, nil
}

func (b *bytesToFloats) decode() {
	for i := range b.out {
		b.out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b.buf[4*i:]))
	}
}

// qualityOptions are the flags of the quality command.
type qualityOptions struct {
	setup
	sample  string
	tokens  int
	text    string
	recipes []string
	match   string
	keep    bool
}

// quality measures every artifact of one sample.
func quality(ctx context.Context, o qualityOptions) (err error) {
	shop, backend, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer backend.Close()
	s, err := makeSample(ctx, o.source, shop.dir, o.sample)
	if err != nil {
		return err
	}
	mine := ourArtifacts(o.recipes)
	ref := &artifact{Maker: ours, Name: referenceName, args: []string{referenceName}}
	if err := shop.convertOurs(ctx, s, append(mine, ref)); err != nil {
		return fmt.Errorf("convert the sample: %w", err)
	}
	j := &judge{shop: shop, backend: backend, threads: o.threads}
	defer func() { err = errors.Join(err, j.close()) }()
	if j.tokens, err = readTokens(s, o.text, o.tokens); err != nil {
		return err
	}
	report := qualityReport{Machine: describeMachine(ctx), Sample: s.Name, Parameters: s.Parameters,
		Tokens: o.tokens, Window: window, Text: filepath.Base(o.text)}
	if s.Name == "permuted" {
		if report.PermutedDelta, err = permutedDelta(ctx, o, shop, backend, ref, j.tokens[:64]); err != nil {
			return err
		}
	}
	o.note("logits of the float32 graph over %d tokens", o.tokens)
	if err := j.setReference(ctx, ref); err != nil {
		return fmt.Errorf("run the reference: %w", err)
	}
	if o.keep {
		if err := report.keepPeers(o.out); err != nil {
			return err
		}
	}
	list := append(mine, genaiArtifacts()...)
	list = append(list, llamaArtifacts()...)
	list = append(list, &artifact{Maker: llama, Name: "F32", path: s.GGUF})
	for _, a := range list {
		if !o.wants(a, o.match) || report.has(a) {
			continue
		}
		m, err := j.make(ctx, s, a)
		if err != nil {
			if a.Maker == ours || ctx.Err() != nil {
				return err
			}
			o.note("%s: %v", a.label(), err)
			report.Failed = append(report.Failed, failure{a.label(), lastLine(err)})
			continue
		}
		f := m.Fidelity
		o.note("%-40s %5.2f bits  KL %.4f ± %.4f  top-1 %.1f %%  perplexity × %.4f", a.label(), m.BitsPerWeight, f.KLMean, f.KLStdErr, 100*f.Top1, f.PerplexityRatio)
		report.Rows = append(report.Rows, *m)
	}
	return report.write(o.out)
}

// permutedDelta is the largest difference of a logit between the float32
// graphs of the permuted and the plain sample: what rounding in another order
// makes of it. More than 1e-3 means the permutation is wrong.
func permutedDelta(ctx context.Context, o qualityOptions, shop *workshop, backend *onnxruntime.Backend, permuted *artifact, tokens []int32) (float64, error) {
	plain, err := makeSample(ctx, o.source, shop.dir, "plain")
	if err != nil {
		return 0, err
	}
	// Beside the plain sample's own artifacts, which are kept.
	plain.Name = filepath.Join("plain", "reference")
	ref := &artifact{Maker: ours, Name: referenceName, args: []string{referenceName}}
	if err := shop.convertOurs(ctx, plain, []*artifact{ref}); err != nil {
		return 0, err
	}
	defer os.RemoveAll(filepath.Join(shop.dir, plain.Name))
	var all [2][]float32
	for i, a := range []*artifact{ref, permuted} {
		j := &judge{shop: shop, backend: backend, threads: o.threads, tokens: tokens}
		logits, _, err := j.logits(ctx, a)
		if err != nil {
			return 0, err
		}
		if err := logits(func(row []float32) error { all[i] = append(all[i], row...); return nil }); err != nil {
			return 0, err
		}
	}
	delta := 0.0
	for i, x := range all[0] {
		delta = max(delta, math.Abs(float64(x)-float64(all[1][i])))
	}
	if !(delta <= 1e-3) {
		return delta, fmt.Errorf("the permuted sample is another model: a logit differs by %g from the plain sample's", delta)
	}
	return delta, nil
}
