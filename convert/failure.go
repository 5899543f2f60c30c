package convert

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"

	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// Failure is an artifact that was asked for and could not be made; the others
// are not affected by it.
type Failure struct {
	Dir string // as in Artifact
	Err error
}

// Failures lists the artifacts that could not be planned or written. They are
// not among Artifacts, once [Job.Write] is through, and leave no folder.
func (j *Job) Failures() []Failure { return j.failures }

// survivors is nil while the job still has an artifact to publish, else what
// went wrong with all of them.
func (j *Job) survivors() error {
	if len(j.failures) == 0 || slices.ContainsFunc(j.Artifacts, func(a *Artifact) bool { return !a.Reference }) {
		return nil
	}
	if len(j.failures) == 1 {
		return j.failures[0].Err
	}
	var errs []error
	for _, f := range j.failures {
		errs = append(errs, fmt.Errorf("%s: %w", f.Dir, f.Err))
	}
	return errors.Join(errs...)
}

// failed collects the artifacts that fail while they are written.
type failed struct {
	mu   sync.Mutex
	errs map[int]error // by artifact
}

func (f *failed) add(artifact int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.errs == nil {
		f.errs = map[int]error{}
	}
	if f.errs[artifact] == nil {
		f.errs[artifact] = err
	}
}

func (f *failed) has(artifact int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.errs[artifact] != nil
}

// drop moves the artifacts that failed to Failures and removes their staged
// folders.
func (j *Job) drop(f *failed) error {
	var errs []error
	kept := 0
	for i, a := range j.Artifacts {
		err := f.errs[i]
		if err == nil {
			j.Artifacts[kept], j.Plan.Artifacts[kept] = a, j.Plan.Artifacts[i]
			if j.folds != nil {
				j.folds[kept] = j.folds[i]
			}
			kept++
			continue
		}
		if a.Reference {
			return err
		}
		j.failures = append(j.failures, Failure{a.Dir, err})
		if err := os.RemoveAll(j.Staged(i)); err != nil {
			errs = append(errs, fmt.Errorf("remove what was written of %s: %w", a.Dir, err))
		}
	}
	j.Artifacts, j.Plan.Artifacts = j.Artifacts[:kept], j.Plan.Artifacts[:kept]
	if j.folds != nil {
		j.folds = j.folds[:kept]
	}
	return errors.Join(errs...)
}

// Fail drops artifacts that turned out not to work after they were written:
// errs says why, by Dir. Call it before [Job.WriteMetadata].
func (j *Job) Fail(errs map[string]error) error {
	f := &failed{}
	for i, a := range j.Artifacts {
		if err := errs[a.Dir]; err != nil {
			f.add(i, err)
		}
	}
	return j.drop(f)
}

// checkRounding fails artifacts whose 16-bit weights overflowed.
func (j *Job) checkRounding(f *failed) {
	for i, a := range j.Artifacts {
		if a.counts.overflow > 0 {
			f.add(i, &tensor.UnsupportedError{
				What: fmt.Sprintf("%s: %d weights lie beyond 65504, the end of 16-bit floats", a.Dir, a.counts.overflow),
				Hint: "convert without base (--no-base), for targets of float32 activations",
			})
		}
		if a.counts.flushed > 0 {
			j.opts.Logger.Warn("weights too small for 16-bit floats became zero", "artifact", a.Dir, "weights", a.counts.flushed)
		}
	}
}

// finite reports whether all values are numbers: where not, the checkpoint is
// damaged, and no artifact of it is of use.
func finite(values []float32) bool {
	return !slices.ContainsFunc(values, func(v float32) bool {
		return math.IsNaN(float64(v)) || math.IsInf(float64(v), 0)
	})
}
