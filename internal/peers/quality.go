package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	Imatrix       *imatrixSource  `json:"imatrix,omitempty"` // what its importance matrix is made from
	// Commit and Date are those of the measurement: a report is filled by
	// several runs.
	Commit string `json:"commit,omitempty"`
	Date   string `json:"date,omitempty"`
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

	ref *fidelity.Logits // of the reference, every token
}

// cut says which tokens are a sequence of their own: every position counts.
var cut = fidelity.Definition{Kind: fidelity.Windows, Window: window}

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
	if s.Name == storiesSample {
		return readStories(tok, string(b)), nil
	}
	b = b[:min(len(b), 16*n)] // more than n tokens; the end may be cut within one
	ids := tok.Encode(string(bytes.ToValidUTF8(b, nil)), tokenizer.EncodeOptions{})
	if len(ids) <= n {
		return nil, fmt.Errorf("%s has %d tokens, %d are wanted", text, len(ids), n)
	}
	return ids[:n], nil
}

// readStories packs stories as stories260K was trained on: one after the
// other, each behind BOS.
func readStories(tok *tokenizer.Tokenizer, text string) []int32 {
	const end = "<|endoftext|>" // closes each
	var ids []int32
	for story := range strings.SplitSeq(text, end) {
		if story = strings.TrimSpace(story); story != "" {
			ids = append(ids, tok.Encode(story, tokenizer.EncodeOptions{AddSpecial: true})...)
		}
	}
	return ids
}

// openReference opens the logits of the sample's float32 graph, which are
// computed once for each text and kept beside the sample.
func (j *judge) openReference(ctx context.Context, o qualityOptions, s *sample) error {
	path := filepath.Join(j.shop.dir, s.Name, fmt.Sprintf("reference-%.12s.logits", fidelity.TokensSHA256(j.tokens)))
	err := once(path, func(tmp string) error { return j.writeReference(ctx, o, s, tmp) })
	if err != nil {
		return fmt.Errorf("run the reference: %w", err)
	}
	j.ref, err = fidelity.OpenLogits(path)
	return err
}

// writeReference converts the sample to float32, runs it and keeps its logits.
func (j *judge) writeReference(ctx context.Context, o qualityOptions, s *sample, path string) (err error) {
	ref, remove, err := j.shop.convertReference(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	o.note("logits of the float32 graph over %d tokens", len(j.tokens))
	logits, vocab, err := j.logits(ctx, ref)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w, err := fidelity.CreateLogits(f, fidelity.Header{Model: s.Name, Reference: "float32 graph in ONNX Runtime", Text: filepath.Base(o.text),
		Definition: cut, Vocab: vocab, Tokens: j.tokens})
	if err != nil {
		return err
	}
	if err := logits(w.Add); err != nil {
		return err
	}
	return w.Close()
}

// close closes the reference's logits.
func (j *judge) close() error {
	if j.ref == nil {
		return nil
	}
	return j.ref.Close()
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
	if a.imatrix != nil {
		if m.Imatrix, err = a.imatrix.describe(); err != nil {
			return nil, err
		}
	}
	m.BitsPerWeight = float64(m.Bytes) * 8 / float64(parameters)
	logits, vocab, err := j.logits(ctx, a)
	if err != nil {
		return nil, err
	}
	if want := j.ref.Header().Vocab; vocab != want {
		return nil, fmt.Errorf("%s gives %d logits, the reference %d", a.label(), vocab, want)
	}
	var targets []int32
	for _, w := range cut.Cut(len(j.tokens)) {
		for pos := w.First; pos < w.Last; pos++ {
			targets = append(targets, w.Target(j.tokens, pos))
		}
	}
	var sum fidelity.Accumulator
	pos, want := 0, make([]float32, vocab)
	err = logits(func(row []float32) error {
		if pos == len(targets) {
			return fmt.Errorf("more than %d rows of logits", len(targets))
		}
		if err := j.ref.Row(pos, want); err != nil {
			return err
		}
		pos++
		return sum.Add(want, row, targets[pos-1])
	})
	if err != nil {
		return nil, fmt.Errorf("measure %s: %w", a.label(), err)
	}
	if pos != len(targets) {
		return nil, fmt.Errorf("measure %s: %d rows of logits for %d tokens", a.label(), pos, len(targets))
	}
	m.Fidelity = sum.Result()
	return m, nil
}

// logits opens an artifact in its own runtime.
func (j *judge) logits(ctx context.Context, a *artifact) (rows, int, error) {
	switch a.Maker {
	case llama:
		return j.peerLogits(ctx, "-c", llamaScript, j.shop.llamaLib, "logits", a.path, strconv.Itoa(window), strconv.Itoa(j.threads))
	case genai:
		return j.peerLogits(ctx, "-c", genaiScript, "logits", a.path, strconv.Itoa(window), strconv.Itoa(j.threads))
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
		for part := range slices.Chunk(j.tokens, window) {
			if err := s.Truncate(0); err != nil {
				return err
			}
			if err := s.EvalAll(ctx, part, func(_ int, row []float32) error { return each(row) }); err != nil {
				return err
			}
		}
		return nil
	}, s.Info().Vocab, nil
}

// peerLogits runs a script in a process of its own: ids in, rows out. It cuts
// them into the same windows.
func (j *judge) peerLogits(ctx context.Context, args ...string) (rows, int, error) {
	vocab := j.ref.Header().Vocab
	cmd := exec.CommandContext(ctx, j.shop.python, args...)
	var stdin []byte
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
		buf, row := make([]byte, 4*vocab), make([]float32, vocab)
		for err == nil {
			if _, err = io.ReadFull(out, buf); err == nil {
				for i := range row {
					row[i] = math.Float32frombits(binary.LittleEndian.Uint32(buf[4*i:]))
				}
				err = each(row)
			}
		}
		if err == io.EOF {
			err = nil
		} else {
			_ = cmd.Process.Kill() // it writes into a pipe nobody reads
		}
		if waitErr := cmd.Wait(); waitErr != nil {
			err = errors.Join(err, fmt.Errorf("%w\n%s", waitErr, stderr.Bytes()))
		}
		return err
	}, vocab, nil
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
	imatrix imatrixOptions
}

// quality measures every artifact of one sample. The report is written after
// each; ours come last, since they change while the peers' do not.
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
	j := &judge{shop: shop, backend: backend, threads: o.threads}
	defer func() { err = errors.Join(err, j.close()) }()
	if j.tokens, err = readTokens(s, o.text, o.tokens); err != nil {
		return err
	}
	if err := j.openReference(ctx, o, s); err != nil {
		return err
	}
	report := qualityReport{Machine: describeMachine(ctx), Sample: s.Name, Parameters: s.Parameters,
		Tokens: len(j.tokens), Window: window, Text: filepath.Base(o.text), dir: o.out, keep: o.keep}
	b, err := os.ReadFile(o.text)
	if err != nil {
		return err
	}
	report.TextSHA256 = fmt.Sprintf("%x", sha256.Sum256(b))
	mine := o.wanted(ourArtifacts(o.recipes))
	peers := o.peers(s)
	if slices.ContainsFunc(peers, func(a *artifact) bool { return a.imatrix != nil }) {
		if report.imatrix, err = o.imatrix.describe(); err != nil {
			return err
		}
	}
	if o.keep {
		report.again = mine
		if err := report.keepOthers(); err != nil {
			return err
		}
	}
	if s.Name == permutedSample && report.PermutedDelta == 0 {
		report.Seed = permutationSeed
		if report.PermutedDelta, err = permutedDelta(ctx, o, shop, backend, s, j.tokens[:64]); err != nil {
			return err
		}
	}
	for _, a := range peers {
		if o.keep {
			if err := report.keepOthers(); err != nil {
				return err
			}
		}
		if report.has(a.label()) {
			continue
		}
		m, err := j.make(ctx, s, a)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			o.note("%s: %v", a.label(), err)
			report.Failed = append(report.Failed, failure{a.label(), lastLine(err)})
			if err := report.write(); err != nil {
				return err
			}
			continue
		}
		if err := report.add(o, m); err != nil {
			return err
		}
	}
	var notMade error
	if len(mine) > 0 {
		notMade = shop.convertOurs(ctx, s, mine)
	}
	for _, a := range mine {
		if _, err := os.Stat(a.path); err != nil && notMade != nil {
			report.Failed = append(report.Failed, failure{a.label(), lastLine(notMade)})
			continue
		}
		m, err := j.make(ctx, s, a)
		if err != nil {
			return err
		}
		if err := report.add(o, m); err != nil {
			return err
		}
	}
	if err := report.write(); err != nil {
		return err
	}
	return errors.Join(notMade, printTable(o.out, report.file()))
}

// peers are the artifacts of others that are asked for.
func (o *qualityOptions) peers(s *sample) []*artifact {
	if s.GGUF == "" {
		return nil // a sample for our own recipes
	}
	list := append(genaiArtifacts(), llamaArtifacts()...)
	list = append(list, &artifact{Maker: llama, Name: "F32", path: s.GGUF})
	list = append(list, imatrixArtifacts(o.imatrix)...)
	return o.wanted(list)
}

// wanted are the artifacts that --match lets through.
func (o *qualityOptions) wanted(list []*artifact) []*artifact {
	return slices.DeleteFunc(list, func(a *artifact) bool { return !o.wants(a, o.match) })
}

// permutedDelta is the largest difference of a logit between the float32
// graphs of the permuted and the plain sample: what rounding in another order
// makes of it. More than 1e-3 means the permutation is wrong.
func permutedDelta(ctx context.Context, o qualityOptions, shop *workshop, backend *onnxruntime.Backend, permuted *sample, tokens []int32) (delta float64, err error) {
	plain, err := makeSample(ctx, o.source, shop.dir, plainSample)
	if err != nil {
		return 0, err
	}
	var all [2][]float32
	for i, s := range []*sample{plain, permuted} {
		ref, remove, err := shop.convertReference(ctx, s)
		if err != nil {
			return 0, err
		}
		j := &judge{shop: shop, backend: backend, threads: o.threads, tokens: tokens}
		logits, _, err := j.logits(ctx, ref)
		if err == nil {
			err = logits(func(row []float32) error { all[i] = append(all[i], row...); return nil })
		}
		if err := errors.Join(err, remove()); err != nil {
			return 0, err
		}
	}
	for i, x := range all[0] {
		delta = max(delta, math.Abs(float64(x)-float64(all[1][i])))
	}
	if !(delta <= 1e-3) {
		return delta, fmt.Errorf("the permuted sample is another model: a logit differs by %g from the plain sample's", delta)
	}
	return delta, nil
}
