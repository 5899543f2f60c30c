package convert

import (
	"context"
	"fmt"

	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
)

// probeSeed makes the random token ids of a probe the same in every run.
const probeSeed = 1

// probe learns which input channels matter, where a recipe asks for it.
func (j *Job) probe(ctx context.Context) error {
	if !j.tuned() {
		return nil
	}
	stats, err := calibrate.Probe(ctx, j.Spec, j.ck.Tensor, calibrate.Options{Seed: probeSeed, Workers: j.opts.Workers})
	if err != nil {
		return fmt.Errorf("probe %s with random tokens: %w", j.ck.ID(), err)
	}
	j.stats, j.fold = stats, stats.Fold(j.Spec, calibrate.DefaultAlpha)
	return nil
}

// tuned reports whether anything the job writes depends on a probe.
func (j *Job) tuned() bool {
	for _, a := range j.Plan.Artifacts {
		if len(a.Data.CacheScales) > 0 {
			return true
		}
	}
	for _, r := range j.Plan.Reads {
		for _, o := range r.Outputs {
			if o.Tuned {
				return true
			}
		}
	}
	return false
}

// cacheMargin is how far beyond the probe's largest keys and values the int8
// cache reaches: a text has larger ones than 32 random tokens.
const cacheMargin = 1.15

// cacheStep is the quantization step of one layer's cached keys or values.
func (j *Job) cacheStep(artifact int, s plan.CacheScale) float32 {
	max := j.stats.CacheMax
	if j.Artifacts[artifact].Recipe.Importance != "" && !j.lossless() {
		max = j.fold.CacheMax
	}
	step, value := max(s.Layer)
	if s.Value {
		step = value
	}
	if step == 0 {
		return 1
	}
	return step * cacheMargin / 127
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

// calibration describes the probe in metadata.
func (j *Job) calibration() string {
	return fmt.Sprintf("probe: %d random token ids (seed %d), no text; scales folded with exponent %g", calibrate.Tokens, probeSeed, calibrate.DefaultAlpha)
}
