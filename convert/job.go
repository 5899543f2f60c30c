package convert

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/checkpoint"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
	"github.com/llama-pajamas/llama-pajamas/convert/toonnx"
	"github.com/llama-pajamas/llama-pajamas/format/onnx"
	"github.com/llama-pajamas/llama-pajamas/modeldir"
	"github.com/llama-pajamas/llama-pajamas/target"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Job is one planned conversion.
type Job struct {
	Spec      *arch.Spec
	Plan      *plan.Plan
	Artifacts []*Artifact // parallel to Plan.Artifacts

	failures []Failure

	ck    *checkpoint.Checkpoint
	opts  Options
	stats *calibrate.Stats  // nil until calibrated
	folds []*calibrate.Fold // parallel to Artifacts; nil for those without
}

// Artifact is what is known of one output beside its plan.
type Artifact struct {
	// Dir is relative to the output folder: "onnx/cpu/int4".
	Dir    string
	Recipe *recipe.Recipe
	// Reference marks the float32 artifact that is not published.
	Reference bool
	Metadata  modeldir.Metadata

	counts roundings
	added  []string // files beside the plan's, below Dir
}

// New plans a conversion: checks the checkpoint against its architecture,
// builds and checks every graph, lays out every file. It writes nothing. An
// artifact that cannot be planned becomes one of [Job.Failures]; it is an error
// where none is left.
func New(ctx context.Context, ck *checkpoint.Checkpoint, o Options) (*Job, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	spec, err := arch.Parse(ck.Config())
	if err != nil {
		return nil, fmt.Errorf("read the configuration of %s: %w", ck.ID(), err)
	}
	if err := ck.Check(spec.Weights()); err != nil {
		return nil, err
	}
	j := &Job{Spec: spec, Plan: &plan.Plan{}, ck: ck, opts: o}
	if err := j.applyHints(); err != nil {
		return nil, err
	}
	recipes, err := j.recipes()
	if err != nil {
		return nil, err
	}
	reads := map[string]*plan.Read{}
	for _, r := range recipes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if j.keeps(r.dir) {
			continue
		}
		if err := j.add(r, reads); err != nil {
			if r.reference {
				return nil, err
			}
			j.failures = append(j.failures, Failure{r.dir, err})
		}
	}
	for _, t := range j.opts.GGUF.Types {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if j.keeps(path.Join(ggufFolder, t.String())) {
			continue
		}
		if err := j.addGGUF(t, reads); err != nil {
			j.failures = append(j.failures, Failure{path.Join(ggufFolder, t.String()), err})
		}
	}
	for _, m := range j.opts.MLX.Folders {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if j.keeps(path.Join(mlxFolder, m.Name())) {
			continue
		}
		if err := j.addMLX(m, reads); err != nil {
			j.failures = append(j.failures, Failure{path.Join(mlxFolder, m.Name()), err})
		}
	}
	if err := j.survivors(); err != nil {
		return nil, err
	}
	for _, w := range spec.Weights() {
		for _, name := range []string{w.Name, arch.AsStored + w.Name} {
			if r := reads[name]; r != nil {
				j.Plan.Reads = append(j.Plan.Reads, r)
			}
		}
	}
	return j, j.Plan.Check()
}

// keeps reports whether an artifact stays as it is.
func (j *Job) keeps(dir string) bool { return slices.Contains(j.opts.Keep, dir) }

// wanted is a recipe and where its artifact goes.
type wanted struct {
	dir string
	*recipe.Recipe
	reference bool
	provider  *target.Target // nil for base and the reference
}

func (j *Job) recipes() ([]wanted, error) {
	var out []wanted
	add := func(to, name string, reference bool) error {
		folder, _, _ := strings.Cut(to, "@")
		r, err := recipe.Load(folder, name)
		if err != nil {
			return err
		}
		w := wanted{dir: path.Join("onnx", folder, r.Name), Recipe: r, reference: reference}
		switch {
		case reference:
			w.dir = "reference"
		case folder != "base":
			if w.provider, err = target.Find(to); err != nil {
				return err
			}
		}
		out = append(out, w)
		return nil
	}
	if !j.opts.NoBase {
		if err := add("base", "fp16", false); err != nil {
			return nil, err
		}
	}
	for _, t := range j.opts.Targets {
		for _, name := range t.Recipes {
			if err := add(t.Name, name, false); err != nil {
				return nil, err
			}
		}
	}
	if j.opts.Reference {
		if err := add("cpu", "fp32", true); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// add plans one artifact and enters its pieces into the reads.
func (j *Job) add(w wanted, reads map[string]*plan.Read) error {
	rec, err := hinted(w, j.opts.Hints)
	if err != nil {
		return err
	}
	w.Recipe = rec
	art, err := toonnx.Build(j.Spec, w.Recipe, toonnx.Options{
		AllLogits:  j.opts.AllLogits || w.reference,
		MaxContext: j.opts.MaxContext,
		Producer:   ToolName, ProducerVersion: Version,
		Stored: j.storedType(w.reference),
	})
	if err != nil {
		return err
	}
	graph, err := checked(w, art.Model)
	if err != nil {
		return fmt.Errorf("plan the graph of %s: %w", w.dir, err)
	}
	a := &Artifact{Dir: w.dir, Recipe: w.Recipe, Reference: w.reference}
	pa := &plan.Artifact{Dir: w.dir, Data: art.Data, Files: []plan.File{{Name: modeldir.ModelFile, Data: graph}}}
	if art.Prefill != nil {
		b, err := checked(w, art.Prefill)
		if err != nil {
			return fmt.Errorf("plan the prefill graph of %s: %w", w.dir, err)
		}
		pa.Files = append(pa.Files, plan.File{Name: modeldir.PrefillFile, Data: b})
	}
	own, err := w.Recipe.File()
	if err != nil {
		return fmt.Errorf("keep the recipe of %s: %w", w.dir, err)
	}
	pa.Files = append(pa.Files, plan.File{Name: modeldir.RecipeFile, Data: own})
	support, err := j.supportFiles(art.Model)
	if err != nil {
		return err
	}
	pa.Files = append(pa.Files, support...)
	a.Metadata = j.metadata(a, pa, int64(len(graph)))
	pieces := make([]plan.Piece, len(art.Pieces))
	for i, p := range art.Pieces {
		pieces[i] = plan.Piece(p)
	}
	if err := j.enter(w, pieces, reads); err != nil {
		return err
	}
	j.Plan.Artifacts = append(j.Plan.Artifacts, pa)
	j.Artifacts = append(j.Artifacts, a)
	return nil
}

// enter adds the pieces of the artifact that comes next to the reads.
func (j *Job) enter(w wanted, pieces []plan.Piece, reads map[string]*plan.Read) error {
	for _, p := range pieces {
		if _, ok := j.ck.Tensor(p.Weight.Name); !ok {
			return fmt.Errorf("tensor %q is not in %s", p.Weight.Name, j.ck.ID())
		}
	}
	index := len(j.Plan.Artifacts)
	for _, p := range pieces {
		r := reads[p.Weight.Name]
		if r == nil {
			t, _ := j.ck.Tensor(p.Weight.Name)
			r = &plan.Read{Tensor: t, Role: p.Weight.Role, Layer: p.Weight.Layer, Rows: 1, Cols: p.Weight.Shape[0]}
			if len(p.Weight.Shape) == 2 {
				r.Rows, r.Cols = p.Weight.Shape[0], p.Weight.Shape[1]
			}
			reads[p.Weight.Name] = r
		}
		p.Output.Artifact, p.Output.Tuned = index, w.Calibration != ""
		r.Outputs = append(r.Outputs, p.Output)
	}
	return nil
}

// checked encodes a graph that has been checked, and that its execution provider
// would take whole by what is known of it.
func checked(w wanted, m *onnx.Model) ([]byte, error) {
	if err := onnx.Check(m, onnx.CheckOptions{Complete: true}); err != nil {
		return nil, err
	}
	if w.provider != nil {
		if err := w.provider.Place(m).Err(); err != nil {
			return nil, err
		}
	}
	return m.Encode()
}

// storedType lets the reference keep the checkpoint's own 16-bit floats, which
// halves what is written; other artifacts store what their recipe says.
func (j *Job) storedType(reference bool) func(arch.Weight) tensor.DType {
	if !reference {
		return nil
	}
	return func(w arch.Weight) tensor.DType {
		t, ok := j.ck.Tensor(w.Name)
		if !ok {
			return tensor.Invalid
		}
		d, _ := tensor.ParseDType(t.Type)
		return d
	}
}

// Staged is the folder that holds artifact i until it is published.
func (j *Job) Staged(i int) string {
	return filepath.Join(j.opts.Output, staging, filepath.FromSlash(j.Artifacts[i].Dir))
}

// Publish renames the finished artifacts into place and removes the staging
// folder. With Force an artifact that is there is moved away first and
// removed last.
func (j *Job) Publish() error {
	stage := filepath.Join(j.opts.Output, staging)
	for i, a := range j.Artifacts {
		if a.Reference {
			continue
		}
		final := filepath.Join(j.opts.Output, filepath.FromSlash(a.Dir))
		if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
			return fmt.Errorf("publish %s: %w", a.Dir, err)
		}
		old := filepath.Join(stage, fmt.Sprintf("replaced-%d", i))
		if err := os.Rename(final, old); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("move the old %s away: %w", a.Dir, err)
		}
		if err := os.Rename(j.Staged(i), final); err != nil {
			return errors.Join(fmt.Errorf("publish %s: %w", a.Dir, err), restore(old, final))
		}
		syncDir(filepath.Dir(final))
	}
	if err := os.RemoveAll(stage); err != nil {
		return fmt.Errorf("remove the staging folder: %w", err)
	}
	return j.writeManifests()
}

// writeManifests lists all artifacts that now lie in the output folder, for
// this program's runtimes and for ONNX Runtime's model packages.
func (j *Job) writeManifests() error {
	source := modeldir.Source{ID: j.ck.ID(), Format: j.ck.Format(), Revision: j.ck.Revision()}
	if err := modeldir.WriteManifest(j.opts.Output, modeldir.Tool{Name: ToolName, Version: Version}, source); err != nil {
		return err
	}
	return modeldir.WritePackage(j.opts.Output)
}

func restore(old, final string) error {
	if _, err := os.Stat(old); err != nil {
		return nil
	}
	return os.Rename(old, final)
}

// Discard removes the staging folder: what a failed or cancelled job calls.
// Folders the job made and left empty go with it.
func (j *Job) Discard() error {
	if err := os.RemoveAll(filepath.Join(j.opts.Output, staging)); err != nil {
		return fmt.Errorf("remove the staging folder: %w", err)
	}
	_ = os.Remove(j.opts.Output) // fails unless empty, which is what is wanted
	return nil
}

// Workers is the number of goroutines that encode.
func (j *Job) Workers() int { return j.opts.Workers }

// PeakMemory is an estimate of the memory a conversion needs: the buffers of
// the workers, the matrices that are turned, the small files of the plan, and
// 24 MiB for the program.
func (j *Job) PeakMemory() int64 {
	n := int64(24<<20) + int64(j.opts.Workers)*j.BytesPerWorker()
	for _, a := range j.Plan.Artifacts {
		n += a.Bytes() - a.Data.Size
		for _, c := range a.Data.Consts {
			n += int64(len(c.Data))
		}
	}
	return n + columnMemory(j.Plan)
}
