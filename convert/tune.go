package convert

import (
	"context"
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/convert/toonnx"
)

// probeSeed makes the random token ids of a probe the same in every run.
const probeSeed = 1

// Calibration is the most that the job's recipes want to know of activations:
// "", "probe" or "text".
func (j *Job) Calibration() string {
	most := ""
	for _, a := range j.Artifacts {
		switch a.Recipe.Calibration {
		case "text":
			return "text"
		case "probe":
			most = "probe"
		}
	}
	return most
}

// NeedsRanges reports whether an artifact quantizes activations to steps that
// are fixed at conversion: without a text they are guesses.
func (j *Job) NeedsRanges() bool {
	for _, a := range j.Plan.Artifacts {
		if len(a.Data.ActScales) > 0 {
			return true
		}
	}
	return false
}

// SetStats gives the job statistics of a text, before [Job.Write]. Without
// them, or with nil, it runs a probe where a recipe asks for any.
func (j *Job) SetStats(s *calibrate.Stats) { j.stats = s }

// Stats are those that were set, nil for none.
func (j *Job) Stats() *calibrate.Stats { return j.stats }

// calibrate learns what the activations look like, where a recipe asks for it,
// and prepares the folds.
func (j *Job) calibrate(ctx context.Context) error {
	if !j.tuned() {
		return nil
	}
	var err error
	if j.stats == nil {
		j.stats, err = calibrate.Probe(ctx, j.Spec, j.ck.Tensor, calibrate.Options{Seed: probeSeed, Workers: j.opts.Workers})
		if err != nil {
			return fmt.Errorf("probe %s with random tokens: %w", j.ck.ID(), err)
		}
	}
	j.folds = make([]*calibrate.Fold, len(j.Artifacts))
	same := map[calibrate.FoldOptions]*calibrate.Fold{}
	for i, a := range j.Artifacts {
		if a.Recipe.Calibration == "" {
			continue
		}
		o := a.Recipe.FoldOptions()
		if j.keepsBlocks(a) {
			for in, g := range o {
				if g.Method == calibrate.AWQ {
					o[in] = calibrate.Gain{}
				}
			}
			if o == (calibrate.FoldOptions{}) {
				continue
			}
		}
		if o.Smooths() {
			if err := j.stats.MeasureWeights(ctx, j.Spec, j.ck.Tensor, j.opts.Workers); err != nil {
				return err
			}
		}
		if o.Searches() {
			if j.folds[i], err = j.searchedFold(ctx, a, o); err != nil {
				return err
			}
			continue
		}
		if same[o] == nil {
			if same[o], err = j.stats.Fold(j.Spec, o); err != nil {
				return err
			}
		}
		j.folds[i] = same[o]
	}
	return nil
}

// searchedFold is a fold whose exponents are those that suit the forms of an
// artifact best.
func (j *Job) searchedFold(ctx context.Context, a *Artifact, o calibrate.FoldOptions) (*calibrate.Fold, error) {
	layers, err := j.stats.SearchAlpha(ctx, j.Spec, j.ck.Tensor, o, j.opts.Workers, func(w arch.Weight, x, importance []float32) error {
		return toonnx.Form(j.Spec, a.Recipe, w).RoundTrip(x, w.Shape[0], w.Shape[1], importance)
	})
	if err != nil {
		return nil, fmt.Errorf("tune %s: %w", a.Dir, err)
	}
	return j.stats.FoldLayers(j.Spec, layers)
}

// tuned reports whether anything the job writes depends on a calibration.
func (j *Job) tuned() bool {
	for i, a := range j.Artifacts {
		d := j.Plan.Artifacts[i].Data
		if a.Recipe.Calibration != "" || len(d.CacheScales)+len(d.ActScales) > 0 {
			return true
		}
	}
	return false
}

// cacheMargin is how far beyond the largest keys and values seen the int8 cache
// reaches: a text has larger ones than 32 random tokens.
const cacheMargin = 1.15

// cacheStep is the quantization step of one layer's cached keys or values.
func (j *Job) cacheStep(artifact int, s plan.CacheScale) float32 {
	key, value := j.stats.CacheMax(s.Layer)
	if f := j.folds[artifact]; f != nil {
		key, value = f.CacheMax(s.Layer)
	}
	step := key
	if s.Value {
		step = value
	}
	if step == 0 {
		return 1
	}
	return step * cacheMargin / 127
}

// actStep is the quantization step of the input of a matrix: symmetric int8
// over the largest magnitude seen.
func (j *Job) actStep(artifact int, s plan.ActScale) float32 {
	m := j.stats.MaxAbs(s.Role, s.Layer)
	if f := j.folds[artifact]; f != nil {
		m = f.MaxAbs(s.Role, s.Layer)
	}
	if m == 0 {
		return 1
	}
	return m / 127
}

// lossless reports whether the checkpoint stores its layers in blocks that
// MatMulNBits holds exactly (Q4_0, Q8_0); a fold would move the weights off
// their grid, and every block would lose a little for nothing.
func (j *Job) lossless() bool {
	blocks := 0
	for _, w := range j.Spec.Weights() {
		if w.Layer < 0 || !w.Role.IsMatrix() {
			continue
		}
		if t, ok := j.ck.Tensor(w.Name); ok && (t.Type == "Q4_0" || t.Type == "Q8_0") {
			blocks++
		}
	}
	return blocks > j.Spec.Layers*7/2
}
