package report

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Page is everything that the comparison says.
type Page struct {
	Model string `json:"model"`
	// Command made the page; Program is its name and version.
	Command string    `json:"command,omitempty"`
	Program string    `json:"program,omitempty"`
	Date    time.Time `json:"date,omitzero"`

	Machine  []Fact `json:"machine,omitempty"`
	Versions []Fact `json:"versions,omitempty"`
	Settings []Fact `json:"settings,omitempty"`

	// Reference is what losses are against, in words; Text what they were
	// measured on.
	Reference string `json:"reference,omitempty"`
	Text      string `json:"text,omitempty"`

	Rows []Row `json:"rows"`
	// Categories of the questions, in the order of [Questions.Categories].
	Categories []string `json:"categories,omitempty"`

	// Warnings say what makes figures doubtful, such as a busy machine; Calm says
	// that nothing did, where somebody looked.
	Warnings []string  `json:"warnings,omitempty"`
	Calm     string    `json:"calm,omitempty"`
	Missing  []Missing `json:"missing,omitempty"`
	Notes    []string  `json:"notes,omitempty"`
}

// Fact is one line of the page's conditions.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Missing says what was not measured, of which artifacts, and why.
type Missing struct {
	What      string   `json:"what"` // "speed", "questions", "loss", "chart …"
	Artifacts []string `json:"artifacts,omitempty"`
	Why       string   `json:"why"`
}

// cleaned is a copy without what no text of a page may contain.
func (p *Page) cleaned() *Page {
	c := *p
	texts := func(in []string) []string {
		out := slices.Clone(in)
		for i := range out {
			out[i] = clean(out[i])
		}
		return out
	}
	for _, s := range []*string{&c.Model, &c.Command, &c.Program, &c.Reference, &c.Text, &c.Calm} {
		*s = clean(*s)
	}
	for _, l := range []*[]Fact{&c.Machine, &c.Versions, &c.Settings} {
		*l = slices.Clone(*l)
		for i, f := range *l {
			(*l)[i] = Fact{clean(f.Name), clean(f.Value)}
		}
	}
	c.Categories, c.Warnings, c.Notes = texts(c.Categories), texts(c.Warnings), texts(c.Notes)
	c.Missing = slices.Clone(c.Missing)
	for i, m := range c.Missing {
		c.Missing[i] = Missing{clean(m.What), texts(m.Artifacts), clean(m.Why)}
	}
	c.Rows = slices.Clone(c.Rows)
	for i := range c.Rows {
		r := &c.Rows[i]
		for _, s := range []*string{&r.Artifact, &r.Format, &r.Target, &r.Recipe, &r.Precision, &r.ComputedBy} {
			*s = clean(*s)
		}
		r.Problems = texts(r.Problems)
	}
	return &c
}

// Basis is how figures of an artifact's quality came about.
type Basis string

// The bases.
const (
	OnDevice   Basis = "measured on the device"
	Arithmetic Basis = "plain arithmetic only"
	NotRun     Basis = "not run on the device"
	// OnCPU is of files made for another device that their own runtime computed
	// on the CPU: MLX without Metal.
	OnCPU Basis = "by its runtime on the CPU, not on the device"
)

// elsewhere reports whether the figures are not of what the artifact is for.
func (b Basis) elsewhere() bool { return b == Arithmetic || b == OnCPU }

// Estimate is a figure with its interval of 95 %; Low and High equal Value where
// none is known.
type Estimate struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Plain is an estimate without an interval.
func Plain(v float64) *Estimate { return &Estimate{v, v, v} }

// Normal is the interval of a mean with a standard error.
func Normal(v, stderr float64) *Estimate {
	const z = 1.959964 // Φ(z) = 0.975
	return &Estimate{v, v - z*stderr, v + z*stderr}
}

// hasInterval reports whether the figure has one.
func (e *Estimate) hasInterval() bool { return e != nil && e.Low < e.High }

// finite reports whether every number of it is one.
func (e *Estimate) finite() bool {
	return e != nil && !math.IsNaN(e.Value+e.Low+e.High) && !math.IsInf(e.Value, 0) && !math.IsInf(e.Low, 0) && !math.IsInf(e.High, 0)
}

// Row is one artifact.
type Row struct {
	Artifact  string `json:"artifact"` // path in the model folder, "onnx/cpu/int4"
	Format    string `json:"format"`   // "onnx", "gguf", "mlx"
	Target    string `json:"target,omitempty"`
	Recipe    string `json:"recipe,omitempty"`
	Precision string `json:"precision,omitempty"`

	Bytes         int64   `json:"size_bytes"`
	BitsPerWeight float64 `json:"bits_per_weight,omitempty"`

	// Reference marks the artifact that the others are compared with.
	Reference bool `json:"is_reference,omitempty"`
	// Basis is of the quality figures, ComputedBy names what computed them, and
	// Recorded says that they are of the conversion, not of now.
	Basis      Basis  `json:"basis,omitempty"`
	ComputedBy string `json:"computed_by,omitempty"`
	Recorded   bool   `json:"recorded_at_conversion,omitempty"`

	KL   *Estimate `json:"kl,omitempty"`              // nats
	Top1 *Estimate `json:"top1,omitempty"`            // share
	Loss *Estimate `json:"perplexity_loss,omitempty"` // perplexity by the reference's, less 1
	// Perplexity alone, where there is no reference.
	Perplexity *Estimate  `json:"perplexity,omitempty"`
	Questions  *Questions `json:"questions,omitempty"`
	Speed      *Speed     `json:"speed,omitempty"`

	Problems []string `json:"problems,omitempty"`
}

// Questions are the answers of one artifact.
type Questions struct {
	Total      Score   `json:"total"`
	Categories []Score `json:"categories,omitempty"`
	// Reference marks the answers that the others are compared with: those of the
	// most exact artifact, which need not be the reference of losses.
	Reference bool `json:"is_reference,omitempty"`
	// Difference to the reference's accuracy on the same questions, and the
	// p-value of McNemar's exact test; nil where there is no reference.
	Difference *Estimate `json:"difference,omitempty"`
	P          float64   `json:"p,omitempty"`
}

// Score is how many questions were answered right.
type Score struct {
	Right    int       `json:"right"`
	Of       int       `json:"of"`
	Accuracy *Estimate `json:"accuracy,omitempty"`
}

// Speed is what an artifact costs on this machine. Times are in seconds.
type Speed struct {
	Runtime    string    `json:"runtime,omitempty"`
	Provider   string    `json:"provider,omitempty"`
	LoadCold   *Estimate `json:"load_cold,omitempty"`
	LoadWarm   *Estimate `json:"load_warm,omitempty"`
	FirstToken *Estimate `json:"first_token,omitempty"`
	Prefill    *Estimate `json:"prefill,omitempty"` // tokens per second
	Decode     *Estimate `json:"decode,omitempty"`  // tokens per second
	// Gaps between tokens.
	P50 *Estimate `json:"p50,omitempty"`
	P95 *Estimate `json:"p95,omitempty"`
	P99 *Estimate `json:"p99,omitempty"`

	Memory int64     `json:"peak_memory_bytes,omitempty"`
	Energy *Estimate `json:"joules_per_token,omitempty"`
	// Ceiling of the decode rate by memory bandwidth, and the share reached.
	Ceiling float64 `json:"ceiling,omitempty"`
	Share   float64 `json:"share_of_ceiling,omitempty"`
}

// Bound is the largest loss of perplexity that this project allows a target's
// precision.
type Bound struct {
	Target    string  `json:"target"` // as folders spell it
	Name      string  `json:"name"`
	Precision string  `json:"precision"`
	Max       float64 `json:"max_loss"`
}

// Bounds are the project's goals, against 16-bit floats.
func Bounds() []Bound {
	return []Bound{
		{"tensorrt", "TensorRT", "int8", 0.05},
		{"tensorrt", "TensorRT", "int4", 0.08},
		{"coreml", "CoreML", "int8", 0.06},
	}
}

// Verdict is one artifact beside a bound; Row is nil where there is none.
type Verdict struct {
	Bound
	Row   *Row
	Basis Basis
	Found string // "met", "not met", …
}

// verdicts judges every artifact that a bound is for.
func (p *Page) verdicts() []Verdict {
	var out []Verdict
	for _, b := range Bounds() {
		found := false
		for i := range p.Rows {
			r := &p.Rows[i]
			if r.Format != "onnx" || r.Target != b.Target || r.Precision != b.Precision {
				continue
			}
			found = true
			v := Verdict{Bound: b, Row: r, Basis: r.Basis, Found: b.judge(r.Loss)}
			if r.Loss == nil {
				v.Basis = NotRun
			}
			out = append(out, v)
		}
		if !found {
			out = append(out, Verdict{Bound: b, Basis: NotRun, Found: "no such artifact here"})
		}
	}
	return out
}

// judge sets a loss beside the bound; a bound inside the interval decides
// nothing.
func (b Bound) judge(loss *Estimate) string {
	switch {
	case !loss.finite():
		return "no figure"
	case !loss.hasInterval() && loss.Value < b.Max:
		return "met (no interval known)"
	case loss.High < b.Max:
		return "met"
	case loss.Low >= b.Max:
		return "not met"
	}
	return "undecided: the interval holds the bound"
}

// axis is one figure of a row that is compared.
type axis struct {
	of     func(*Row) *Estimate
	higher bool // more is better
}

func sizeOf(r *Row) *Estimate {
	if r.Bytes <= 0 {
		return nil
	}
	return Plain(float64(r.Bytes))
}

func klOf(r *Row) *Estimate {
	if r.Reference {
		return Plain(0)
	}
	return r.KL
}

func decodeOf(r *Row) *Estimate {
	if r.Speed == nil {
		return nil
	}
	return r.Speed.Decode
}

// front is the rows that no other one beats in both figures, from the best of
// the first to the best of the second.
func front(rows []*Row, x, y axis) []*Row {
	worse := func(a axis, r, than *Row) int { // as cmp: > 0 where r is worse
		c := cmp.Compare(a.of(r).Value, a.of(than).Value)
		if a.higher {
			return -c
		}
		return c
	}
	known := slices.DeleteFunc(slices.Clone(rows), func(r *Row) bool { return !x.of(r).finite() || !y.of(r).finite() })
	slices.SortStableFunc(known, func(a, b *Row) int { return cmp.Or(worse(x, a, b), worse(y, a, b)) })
	var out []*Row
	for _, r := range known {
		if len(out) == 0 || worse(y, r, out[len(out)-1]) < 0 {
			out = append(out, r)
		}
	}
	return out
}
