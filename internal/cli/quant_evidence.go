package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/llama-pajamas/llama-pajamas/bench"
	"github.com/llama-pajamas/llama-pajamas/convert"
	"github.com/llama-pajamas/llama-pajamas/fidelity"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/verify"
)

// evidenceFlags say on what artifacts are compared, and with what.
type evidenceFlags struct {
	referenceLogits, source, saveLogits string
	lora                                string
	text, definition                    string
	tokens                              int
}

func (e *evidenceFlags) bind(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&e.source, "source", "", "checkpoint the artifacts were made from: its float32 graph is the reference")
	f.StringVar(&e.lora, "lora", "", "LoRA adapter that was merged into --source, as for convert")
	f.StringVar(&e.referenceLogits, "reference-logits", "", "file of --save-logits to compare with, instead of running a reference")
	f.StringVar(&e.saveLogits, "save-logits", "", "file that keeps the reference's logits: two bytes per token and vocabulary entry")
	f.StringVar(&e.text, "text", "", "text file to compare on (default: a text inside this program)")
	f.IntVar(&e.tokens, "tokens", 0, fmt.Sprintf("tokens of the text to compare on (default: %d, with --text %d)", verify.DefaultTokens, textTokens))
	f.StringVar(&e.definition, "definition", "", `how the text is cut: windows:N for back to back windows of N tokens,
huggingface:N:STRIDE and llama.cpp:N as those count perplexity (default:
windows:512, or the model's context where that is shorter)`)
	cmd.MarkFlagsMutuallyExclusive("source", "reference-logits")
	cmd.MarkFlagsMutuallyExclusive("lora", "reference-logits")
	cmd.MarkFlagsMutuallyExclusive("save-logits", "reference-logits")
}

// textTokens is how much of a user's text is compared unless told otherwise.
const textTokens = 4096

// evidence is what verify and compare report of a model folder.
type evidence struct {
	Model      string `json:"model"`
	Reference  string `json:"reference,omitempty"`
	Text       string `json:"text,omitempty"`
	Tokens     int    `json:"tokens,omitempty"` // positions that count
	Definition string `json:"definition,omitempty"`

	Artifacts []*artifactEvidence `json:"artifacts"`
	Notes     []string            `json:"notes,omitempty"`
}

func (e *evidence) note(format string, a ...any) {
	e.Notes = append(e.Notes, fmt.Sprintf(format, a...))
}

// artifactEvidence is what is known of one artifact.
type artifactEvidence struct {
	Artifact  string `json:"artifact"`
	Target    string `json:"target,omitempty"`
	Recipe    string `json:"recipe,omitempty"`
	Precision string `json:"precision,omitempty"`
	// RanOnDevice says whether the artifact was ever run on what it is for.
	RanOnDevice   string           `json:"ran_on_device,omitempty"`
	WeightBytes   int64            `json:"weight_bytes"`
	BitsPerWeight float64          `json:"bits_per_weight"`
	Floor         float64          `json:"bits_per_weight_floor"`
	Matrices      []matrixEvidence `json:"matrices,omitempty"`
	// Placements are predictions from lists, not runs on the device.
	Placements []placementEvidence `json:"placements,omitempty"`
	// Perplexity is measured with or without a reference, Fidelity with one.
	Perplexity float64            `json:"perplexity,omitempty"`
	Fidelity   *modeldir.Fidelity `json:"fidelity,omitempty"`
	// IsReference marks the artifact that the others are compared with.
	IsReference bool `json:"is_reference,omitempty"`
	// Recorded marks figures of the conversion, not of now.
	Recorded bool             `json:"fidelity_recorded,omitempty"`
	Ranges   []modeldir.Range `json:"float16_ranges,omitempty"`
	Speed    *bench.Measured  `json:"speed,omitempty"`
	// NotRun says why it was not run, though nothing is wrong with it.
	NotRun   string   `json:"not_run,omitempty"`
	OK       bool     `json:"ok"`
	Problems []string `json:"problems,omitempty"`

	dir        string
	metadata   *modeldir.Metadata
	arithmetic string // of what was measured; "" for the provider's own
}

func (a *artifactEvidence) problem(format string, v ...any) {
	a.Problems = append(a.Problems, fmt.Sprintf(format, v...))
}

// matrixEvidence is the matrices of one name and form.
type matrixEvidence struct {
	Name    string  `json:"name"`
	Layers  []int   `json:"layers,omitempty"`
	Weights int64   `json:"weights"`
	Bits    float64 `json:"bits_per_weight"`
}

// placementEvidence is where the nodes of one graph would land.
type placementEvidence struct {
	Graph     string          `json:"graph"`
	Target    string          `json:"target"`
	Operators []operatorPlace `json:"operators"`
	Left      []string        `json:"left,omitempty"`
	Warnings  []string        `json:"warnings,omitempty"`
}

type operatorPlace struct {
	Operator string `json:"operator"`
	Fate     string `json:"fate"`
	Nodes    int    `json:"nodes"`
}

func placement(p verify.Placement) placementEvidence {
	out := placementEvidence{Graph: p.Graph, Target: p.Target, Left: p.Left, Warnings: p.Warnings}
	for _, o := range p.Operators {
		out.Operators = append(out.Operators, operatorPlace{o.Operator, o.Fate.String(), o.Nodes})
	}
	return out
}

// gather reads the artifacts below path and checks their files.
func (c *common) gather(ctx context.Context, path string) (*evidence, error) {
	dirs, err := verify.Find(path)
	if err != nil {
		return nil, err
	}
	root, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find artifacts: %w", err)
	}
	if len(dirs) == 1 {
		root = modelRoot(dirs[0])
	}
	e := &evidence{}
	bar := c.newProgress("reading  ", int64(len(dirs)))
	defer bar.stop()
	for i, dir := range dirs {
		s, err := verify.ReadStored(ctx, dir)
		if err != nil {
			return nil, err
		}
		a := &artifactEvidence{dir: dir, metadata: s.Metadata, Artifact: dir, Problems: s.Problems, WeightBytes: s.WeightBytes, BitsPerWeight: s.BitsPerWeight}
		if abs, err := filepath.Abs(dir); err == nil {
			if rel, err := filepath.Rel(root, abs); err == nil && filepath.IsLocal(rel) && rel != "." {
				a.Artifact = filepath.ToSlash(rel)
			}
		}
		if m := s.Metadata; m != nil {
			a.Target, a.Recipe, a.Precision = m.Target.Target, m.Target.Recipe, m.Target.Precision
			a.RanOnDevice, a.Floor = m.Target.RanOnDevice, m.Size.BitsPerWeightFloor
			if e.Model == "" {
				e.Model = m.Source.ID
			}
		}
		for _, m := range s.Matrices {
			a.Matrices = append(a.Matrices, matrixEvidence{m.Name, m.Layers, m.Elements, m.Bits()})
		}
		for _, p := range s.Placements {
			a.Placements = append(a.Placements, placement(p))
		}
		e.Artifacts = append(e.Artifacts, a)
		bar.set(int64(i+1), int64(len(dirs)))
	}
	return e, nil
}

// graph reports whether the artifact is one that ONNX Runtime runs.
func (a *artifactEvidence) graph() bool { return a.format() == formatONNX }

// modelRoot is the output folder of the artifact <root>/onnx/<target>/<recipe>,
// <root>/gguf/<type> or <root>/mlx/<recipe> as an absolute path, or the folder
// itself where it lies elsewhere.
func modelRoot(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return dir
	}
	if up := filepath.Dir(filepath.Dir(abs)); filepath.Base(up) == "onnx" {
		return filepath.Dir(up)
	}
	if up := filepath.Dir(abs); filepath.Base(up) == formatGGUF || filepath.Base(up) == formatMLX {
		return filepath.Dir(up)
	}
	return abs
}

// request is what a child process is asked, but for what it compares.
func (e *evidenceFlags) request(cmd *cobra.Command, c *common, library string) (verifyRequest, error) {
	req := verifyRequest{Library: library, Threads: c.Threads, TextFile: e.text, Tokens: e.tokens}
	if e.definition != "" {
		var err error
		if req.Definition, err = fidelity.ParseDefinition(e.definition); err != nil {
			return req, usagef(cmd, "--definition: %w", err)
		}
	}
	if e.tokens < 0 {
		return req, usagef(cmd, "--tokens %d: want a positive number", e.tokens)
	}
	if e.tokens == 0 && e.text != "" && e.referenceLogits == "" {
		req.Tokens = textTokens
	}
	return req, nil
}

// measure compares the artifacts with a reference, each in a process of its
// own: what ends one does not touch the others.
func (c *common) measure(ctx context.Context, cmd *cobra.Command, path string, f *evidenceFlags, e *evidence) (err error) {
	runtimes := c.runtimes(e)
	graphs := slices.ContainsFunc(e.Artifacts, (*artifactEvidence).graph)
	if !graphs && len(runtimes) == 0 {
		return nil
	}
	library, noLibrary := c.findORT()
	if noLibrary != nil && (graphs || f.source != "") {
		return noLibrary
	}
	req, err := f.request(cmd, c, library)
	if err != nil {
		return err
	}
	req.ModelID = e.Model
	tmp, err := tempFolder(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	req.TempDir = tmp
	if noLibrary != nil && f.referenceLogits == "" {
		e.note("no reference, which ONNX Runtime would compute: perplexity alone was measured; %s, or --reference-logits FILE, gives one", c.setupCommand("cpu"))
	} else if err := c.reference(ctx, cmd, f, &req, tmp, e); err != nil {
		return err
	}
	for _, a := range e.Artifacts {
		if len(a.Problems) > 0 || a.NotRun != "" {
			continue // a file that is damaged need not be run to be refused
		}
		one := req
		if !a.graph() {
			one.Format, one.Library = a.format(), runtimes[a.format()]
		}
		one.Artifacts, one.FreeMemory = []string{a.dir}, freeMemory()
		bar := c.newProgress("verifying "+a.Artifact, 1000)
		results, err := c.runVerify(ctx, one, func(share float64) { bar.set(int64(1000*share), 1000) })
		bar.stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var cannot *cannotRun
		if errors.As(err, &cannot) {
			a.NotRun = shorten(err, a.dir, a.Artifact)
			continue
		}
		if err != nil {
			a.problem("%s", shorten(err, a.dir, a.Artifact))
			continue
		}
		a.enter(results[0])
		if d := results[0].Fidelity; e.Tokens == 0 {
			e.Text, e.Tokens, e.Definition = d.Text, d.Tokens, d.Definition
		}
	}
	return nil
}

// enter takes over what was measured.
func (a *artifactEvidence) enter(r verify.Result) {
	a.Problems = append(a.Problems, r.Problems...)
	a.Perplexity, a.Ranges, a.arithmetic = r.Fidelity.Perplexity, r.Fidelity.Ranges, r.Fidelity.Arithmetic
	if r.Fidelity.Reference == "" {
		return
	}
	a.Fidelity = &r.Fidelity
	if p := verify.Far(a.Precision, r.Fidelity.KLMean); p != "" {
		a.problem("%s", p)
	}
}

// computedBy is the arithmetic of its figures, measured or recorded.
func (a *artifactEvidence) computedBy() string {
	if a.arithmetic == "" && a.Fidelity != nil {
		return a.Fidelity.Arithmetic
	}
	return a.arithmetic
}

// shorten replaces an artifact's path in an error by its name.
func shorten(err error, dir, name string) string {
	text := strings.ReplaceAll(err.Error(), "verify "+dir+": ", "")
	return strings.ReplaceAll(text, dir, name)
}

// tempFolder makes a folder for what is needed during the work: in the model's
// folder, whose disk has room for such files, else in the system's.
func tempFolder(path string) (string, error) {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		path = filepath.Dir(path)
	}
	if dir, err := os.MkdirTemp(path, ".llama-pajamas-verify-"); err == nil {
		return dir, nil
	}
	dir, err := os.MkdirTemp("", "llama-pajamas-verify-")
	if err != nil {
		return "", fmt.Errorf("make a folder for the reference: %w", err)
	}
	return dir, nil
}

// reference finds what to compare with and makes the file of its logits: the
// file given, the checkpoint's float32 graph, or base. Where there is none of
// these, a note says so.
func (c *common) reference(ctx context.Context, cmd *cobra.Command, f *evidenceFlags, req *verifyRequest, tmp string, e *evidence) error {
	var dir string
	switch {
	case f.referenceLogits != "":
		l, err := fidelity.OpenLogits(f.referenceLogits)
		if err != nil {
			return err
		}
		h := l.Header()
		if err := l.Close(); err != nil {
			return err
		}
		if h.Model != "" && e.Model != "" && h.Model != e.Model {
			e.note("the reference logits are of %s, the artifacts of %s", h.Model, e.Model)
		}
		e.Reference, req.ReferenceLogits = h.Reference, f.referenceLogits
		return nil
	case f.source != "":
		job, err := c.rebuild(ctx, cmd, f.source, f.lora, tmp)
		if err != nil {
			return fmt.Errorf("rebuild the reference from --source: %w", err)
		}
		dir, e.Reference = job.Staged(0), verify.DefaultReference
		if s := job.Artifacts[0].Metadata.Source.ID; e.Model != "" && s != e.Model {
			e.note("--source is %s, the artifacts were made from %s", s, e.Model)
		}
	default:
		base := baseOf(e)
		if base == "" {
			e.note("no reference: perplexity alone was measured; --source CHECKPOINT or --reference-logits FILE gives one")
			return nil
		}
		dir, e.Reference = base, "base/fp16 artifact of the same folder (weights rounded to float16), computed in float32"
	}
	one := *req
	one.Reference, one.ReferenceName, one.SaveLogits = dir, e.Reference, f.saveLogits
	if one.SaveLogits == "" {
		one.SaveLogits = filepath.Join(tmp, "reference.logits")
	}
	one.FreeMemory = freeMemory()
	bar := c.newProgress("running the reference", 1000)
	_, err := c.runVerify(ctx, one, func(share float64) { bar.set(int64(1000*share), 1000) })
	bar.stop()
	if err != nil {
		return err
	}
	// The file says what text and how many tokens; an artifact whose
	// tokenizer differs would be fed the same ids.
	req.ReferenceLogits, req.TextFile, req.Tokens = one.SaveLogits, "", 0
	return nil
}

// rebuild writes the float32 graph of a checkpoint into a folder.
func (c *common) rebuild(ctx context.Context, cmd *cobra.Command, source, lora, tmp string) (*convert.Job, error) {
	log, err := c.logger(cmd)
	if err != nil {
		return nil, err
	}
	ck, err := c.openCheckpoint(ctx, log, source, lora)
	if err != nil {
		return nil, err
	}
	defer ck.Close()
	bar := &progress{}
	job, err := convert.New(ctx, ck, convert.Options{
		Output: filepath.Join(tmp, "reference"), NoBase: true, Reference: true, Workers: c.Threads,
		Progress: func(done, total int64) { bar.set(done, total) },
	})
	if err != nil {
		return nil, err
	}
	bar = c.newProgress("rebuilding the reference", job.Plan.SourceElements())
	defer bar.stop()
	return job, job.Write(ctx)
}

// baseOf is the sound base artifact beside the others, "" where there is none.
func baseOf(e *evidence) string {
	for _, a := range e.Artifacts {
		if a.Target == "base" && len(a.Problems) == 0 {
			a.IsReference = true
			return a.dir
		}
	}
	if len(e.Artifacts) != 1 {
		return ""
	}
	base := filepath.Join(modelRoot(e.Artifacts[0].dir), "onnx", "base", "fp16")
	if _, err := os.Stat(filepath.Join(base, modeldir.ModelFile)); err != nil {
		return ""
	}
	return base
}

// close decides which artifacts are sound and returns those that are not.
func (e *evidence) close() (broken []string) {
	for _, a := range e.Artifacts {
		if a.OK = len(a.Problems) == 0; !a.OK {
			broken = append(broken, a.Artifact)
		}
	}
	slices.SortStableFunc(e.Artifacts, func(a, b *artifactEvidence) int {
		switch { // base first: the others come from it
		case a.Target == "base" && b.Target != "base":
			return -1
		case a.Target != "base" && b.Target == "base":
			return 1
		}
		return 0
	})
	return broken
}
