package mix

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/llama-pajamas/llama-pajamas/arch"
	"github.com/llama-pajamas/llama-pajamas/calibrate"
	"github.com/llama-pajamas/llama-pajamas/calibrate/layerwise"
	"github.com/llama-pajamas/llama-pajamas/convert/plan"
	"github.com/llama-pajamas/llama-pajamas/convert/recipe"
	"github.com/llama-pajamas/llama-pajamas/quant/matmulnbits"
	"github.com/llama-pajamas/llama-pajamas/tensor"
)

// ladder is what a matrix can be stored in, from small to large. The second is
// the form that divergences are measured in. Blocks that do not divide the row
// are left out for that matrix.
var ladder = []recipe.Rule{
	{Bits: 4, Block: 128},
	{Bits: 4, Block: 64},
	{Bits: 4, Block: 32},
	{Bits: 8, Block: 64, Symmetric: true},
	{Bits: 8, Block: 32, Symmetric: true},
}

// measured is the place of the measured form in the ladder.
const measured = 2

// Step is a form of a matrix: what it takes and what it costs.
type Step struct {
	Rule  int     `json:"rule"` // place in the ladder
	Bytes int64   `json:"bytes"`
	KL    float64 `json:"kl"`
}

// Entry is what is known of one matrix.
type Entry struct {
	Unit  layerwise.Unit `json:"unit"`
	KL    float64        `json:"kl"`    // measured, in 4-bit blocks of 32
	Steps []Step         `json:"steps"` // Bytes rising, KL falling
}

// Table is what is known of a model.
type Table struct {
	Spec    *arch.Spec `json:"-"`
	Entries []Entry    `json:"entries"`
	// Fixed is the bytes of what no rule changes.
	Fixed int64 `json:"fixed"`
}

// Options of [Measure].
type Options struct {
	Stats *calibrate.Stats
	Fold  calibrate.FoldOptions
	// Windows of token ids, all of one length; 128 to 256 tokens in all do.
	Windows [][]int32
	Workers int
	// Progress is told the work done and in all; may be nil.
	Progress func(done, total int)
}

// Measure fills the table of a checkpoint.
func Measure(ctx context.Context, m *layerwise.Model, get func(name string) (*tensor.Tensor, bool), o Options) (*Table, error) {
	spec := m.Spec()
	fold, err := o.Stats.Fold(spec, o.Fold)
	if err != nil {
		return nil, err
	}
	q := &quantizer{fold: fold, raw: layerwise.FromCheckpoint(get), errors: map[layerwise.Unit][]float64{}}
	t := &Table{Spec: spec}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, o.Workers))
	for _, w := range spec.Weights() {
		if !w.Role.IsMatrix() {
			n, _ := w.Shape.Elements()
			t.Fixed += 4 * n
			continue
		}
		if w.Role == arch.TokenEmbd && !spec.Tied {
			data, scales, zeros := form(ladder[measured]).RowBytes(w.Shape[1])
			t.Fixed += int64(w.Shape[0]) * int64(data+scales+zeros)
			continue
		}
		g.Go(func() error {
			if err := gctx.Err(); err != nil {
				return err
			}
			return q.ladder(w)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	kl, err := layerwise.Sensitivity(ctx, m, get, layerwise.SensitivityOptions{
		Windows: o.Windows, Read: q.read, Progress: o.Progress,
		Quantize: func(w arch.Weight, x []float32) error { return q.replace(w, x, form(ladder[measured])) },
	})
	if err != nil {
		return nil, err
	}
	for _, w := range spec.Weights() {
		u, ok := unitOf(spec, w)
		if !ok {
			continue
		}
		t.Entries = append(t.Entries, Entry{u, kl[u], steps(w, kl[u], q.errors[u])})
	}
	return t, nil
}

// unitOf is the unit that a weight is; ok is false for those that are none.
func unitOf(spec *arch.Spec, w arch.Weight) (u layerwise.Unit, ok bool) {
	switch {
	case !w.Role.IsMatrix(), w.Role == arch.TokenEmbd && !spec.Tied:
		return u, false
	case w.Role == arch.TokenEmbd:
		return layerwise.Unit{Role: arch.LMHead, Layer: -1}, true
	}
	return layerwise.Unit{Role: w.Role, Layer: w.Layer}, true
}

// steps lists the forms that are worth having: each larger one loses less.
// The divergence of a form is the measured one times the ratio of errors.
func steps(w arch.Weight, kl float64, errs []float64) []Step {
	var out []Step
	for i, e := range errs {
		if e < 0 {
			continue
		}
		data, scales, zeros := form(ladder[i]).RowBytes(w.Shape[1])
		s := Step{Rule: i, Bytes: int64(w.Shape[0]) * int64(data+scales+zeros), KL: kl}
		if errs[measured] > 0 {
			s.KL *= e / errs[measured]
		}
		for len(out) > 0 && out[len(out)-1].KL <= s.KL && out[len(out)-1].Bytes >= s.Bytes {
			out = out[:len(out)-1]
		}
		out = append(out, s)
	}
	return hull(out)
}

// hull keeps the steps on the lower convex hull of divergence over bytes, so
// that every further byte is worth less than the one before.
func hull(s []Step) []Step {
	var out []Step
	for _, p := range s {
		if len(out) > 0 && p.KL >= out[len(out)-1].KL {
			continue
		}
		for len(out) > 1 && gain(out[len(out)-2], out[len(out)-1]) <= gain(out[len(out)-2], p) {
			out = out[:len(out)-1]
		}
		out = append(out, p)
	}
	return out
}

// gain is the divergence saved per byte from a to b.
func gain(a, b Step) float64 { return (a.KL - b.KL) / float64(b.Bytes-a.Bytes) }

// quantizer reads folded weights and puts them through forms.
type quantizer struct {
	fold   *calibrate.Fold
	raw    layerwise.Weights
	mu     sync.Mutex
	errors map[layerwise.Unit][]float64 // by place in the ladder; -1 where it does not fit
}

func (q *quantizer) read(w arch.Weight, dst []float32) error {
	if err := q.raw(w, dst); err != nil {
		return err
	}
	q.fold.Apply(dst, dst, w.Role, w.Layer, 0, w.Shape[len(w.Shape)-1])
	return nil
}

// ladder measures the error of each form of a matrix.
func (q *quantizer) ladder(w arch.Weight) error {
	n, _ := w.Shape.Elements()
	x, y := make([]float32, n), make([]float32, n)
	if err := q.read(w, x); err != nil {
		return err
	}
	role := w.Role
	if role == arch.TokenEmbd {
		role = arch.LMHead
	}
	imp := q.fold.Importance(role, w.Layer)
	errs := make([]float64, len(ladder))
	for i, r := range ladder {
		if w.Shape[1]%r.Block != 0 && i != measured {
			errs[i] = -1
			continue
		}
		copy(y, x)
		if err := q.replace(w, y, form(r)); err != nil {
			return err
		}
		for k, v := range x {
			d, c := float64(v)-float64(y[k]), k%w.Shape[1]
			if imp != nil {
				d *= d * float64(imp[c])
			} else {
				d *= d
			}
			errs[i] += d
		}
	}
	if w.Role == arch.TokenEmbd {
		w.Role = arch.LMHead
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.errors[layerwise.Unit{Role: w.Role, Layer: w.Layer}] = errs
	return nil
}

// replace sets x to what a reader of the form sees.
func (q *quantizer) replace(w arch.Weight, x []float32, f plan.Form) error {
	if err := f.RoundTrip(x, w.Shape[0], w.Shape[1], q.fold.Importance(w.Role, w.Layer)); err != nil {
		return fmt.Errorf("quantize %q: %w", w.Name, err)
	}
	return nil
}

// form is what the recipe makes of a rule of the ladder.
func form(r recipe.Rule) plan.Form {
	return plan.Form{Bits: r.Bits, Block: r.Block, Symmetric: r.Symmetric, Scale: tensor.F16, Method: matmulnbits.Search}
}

// Bits are the bits per weight of the smallest and the largest recipe.
func (t *Table) Bits() (least, most float64) {
	a, b := t.Fixed, t.Fixed
	for _, e := range t.Entries {
		a += e.Steps[0].Bytes
		b += e.Steps[len(e.Steps)-1].Bytes
	}
	n := float64(t.Spec.Parameters())
	return float64(a) * 8 / n, float64(b) * 8 / n
}

// Recipe gives base the rules that lose least among those of at most so many
// bits per weight, weights outside the layers and vectors included. kl is the
// divergence that the sum of the parts promises.
func (t *Table) Recipe(base *recipe.Recipe, bits float64) (r *recipe.Recipe, kl float64, err error) {
	least, most := t.Bits()
	if bits < least {
		return nil, 0, fmt.Errorf("%.2f bits per weight: the smallest recipe for this model takes %.2f", bits, least)
	}
	budget := int64(bits*float64(t.Spec.Parameters())/8) - t.Fixed
	chosen := make([]int, len(t.Entries))
	for _, e := range t.Entries {
		budget -= e.Steps[0].Bytes
	}
	for bits < most {
		best := -1
		for i, e := range t.Entries {
			if at := chosen[i]; at+1 < len(e.Steps) && e.Steps[at+1].Bytes-e.Steps[at].Bytes <= budget &&
				(best < 0 || gain(e.Steps[at], e.Steps[at+1]) > gain(t.Entries[best].Steps[chosen[best]], t.Entries[best].Steps[chosen[best]+1])) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		budget -= t.Entries[best].Steps[chosen[best]+1].Bytes - t.Entries[best].Steps[chosen[best]].Bytes
		chosen[best]++
	}
	for i, e := range t.Entries {
		if bits >= most {
			chosen[i] = len(e.Steps) - 1
		}
		kl += e.Steps[chosen[i]].KL
	}
	copied := *base
	copied.Rules = t.rules(chosen)
	return &copied, kl, nil
}

// rules writes the choice as a recipe's rules: the commonest form first, then
// what differs, by role, with its layers.
func (t *Table) rules(chosen []int) []recipe.Rule {
	count := make([]int64, len(ladder))
	type group struct {
		role arch.Role
		rule int
	}
	layers := map[group][]int{}
	var order []group
	for i, e := range t.Entries {
		s := e.Steps[chosen[i]]
		count[s.Rule] += s.Bytes
		g := group{e.Unit.Role, s.Rule}
		if layers[g] == nil {
			order = append(order, g)
		}
		layers[g] = append(layers[g], e.Unit.Layer)
	}
	most := slices.Index(count, slices.Max(count))
	rules := []recipe.Rule{ladder[most]}
	slices.SortStableFunc(order, func(a, b group) int { return cmp.Compare(a.rule, b.rule) })
	for _, g := range order {
		if g.rule == most {
			continue
		}
		r := ladder[g.rule]
		r.Roles = []string{g.role.String()}
		if at := layers[g]; at[0] >= 0 && len(at) < t.Spec.Layers {
			r.Layers = ranges(at)
		}
		rules = append(rules, r)
	}
	return rules
}

// ranges writes rising numbers as a list such as "0,3-5".
func ranges(x []int) string {
	var parts []string
	for i := 0; i < len(x); {
		k := i
		for k+1 < len(x) && x[k+1] == x[k]+1 {
			k++
		}
		part := strconv.Itoa(x[i])
		if k > i {
			part += "-" + strconv.Itoa(x[k])
		}
		parts = append(parts, part)
		i = k + 1
	}
	return strings.Join(parts, ",")
}
