package cli

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/llama-pajamas/llama-pajamas/bench"
	"github.com/llama-pajamas/llama-pajamas/eval"
	"github.com/llama-pajamas/llama-pajamas/hardware"
	"github.com/llama-pajamas/llama-pajamas/report"
	"github.com/llama-pajamas/llama-pajamas/verify"
)

// comparison is everything that compare has found.
type comparison struct {
	*evidence
	bench *bench.Report // nil where speed was not asked for
	eval  *eval.Report  // nil where no questions were
}

// page makes the page of a comparison.
func (v *comparison) page(ctx context.Context, c *common, cmd *cobra.Command, o compareOptions) *report.Page {
	p := &report.Page{
		Model: v.modelName(o.model), Command: commandLine(cmd), Program: "llama-pajamas " + Version,
		Date: time.Now().UTC().Truncate(time.Minute),
	}
	v.reference(p)
	missing := reasons{}
	for _, a := range v.Artifacts {
		p.Rows = append(p.Rows, v.row(a, missing))
	}
	p.Machine, p.Versions, p.Settings = v.machine(ctx), v.versions(), v.settings(c, o)
	if v.eval != nil {
		p.Categories = categories(v.eval)
		p.Notes = append(p.Notes, v.eval.Notes...)
	}
	if b := v.bench; b != nil {
		p.Warnings, p.Notes = v.warnings(), append(p.Notes, b.Notes...)
		if busy := b.Machine.Busy; busy != nil && len(b.Warnings) == 0 {
			p.Calm = fmt.Sprintf("%.0f %% of the cores in the median of the rounds", 100*busy.Median)
		}
	} else {
		missing.add("speed", "it was not asked for (--rounds 0)")
	}
	if v.eval == nil {
		missing.add("questions", "they were not asked for (--num-questions 0)")
	}
	p.Missing = missing.list()
	p.Notes = append(p.Notes, v.Notes...)
	return p
}

// warnings of the benchmark, in the words of this command.
func (v *comparison) warnings() (out []string) {
	if v.bench != nil {
		for _, w := range v.bench.Warnings {
			out = append(out, strings.ReplaceAll(w, "--repetitions", "--rounds"))
		}
	}
	return out
}

// modelName is the source's id without the folders of this machine, or the
// folder's name.
func (v *comparison) modelName(path string) string {
	if v.Model == "" {
		abs, err := filepath.Abs(path)
		if err != nil {
			return "model"
		}
		return filepath.Base(abs)
	}
	if filepath.IsAbs(v.Model) || strings.Contains(v.Model, `\`) || strings.HasPrefix(v.Model, ".") {
		return filepath.Base(filepath.FromSlash(strings.ReplaceAll(v.Model, `\`, "/")))
	}
	return v.Model
}

// reference says what the losses are against: what was measured now, or what the
// recorded figures name.
func (v *comparison) reference(p *report.Page) {
	tokens, text, cut := v.Tokens, v.Text, v.Definition
	p.Reference = v.Reference
	for _, a := range v.Artifacts {
		if f := a.Fidelity; f != nil && p.Reference == "" {
			p.Reference, tokens, text, cut = f.Reference, f.Tokens, f.Text, f.Definition
		}
	}
	if p.Reference != "" {
		p.Reference = "the " + strings.TrimPrefix(p.Reference, "the ")
	}
	if tokens > 0 {
		p.Text = fmt.Sprintf("%d tokens of the %s", tokens, text)
		if cut != "" {
			p.Text += ", cut as " + cut
		}
	}
}

// row is what the page says of an artifact.
func (v *comparison) row(a *artifactEvidence, missing reasons) report.Row {
	r := report.Row{
		Artifact: a.Artifact, Format: a.format(), Target: a.Target, Recipe: a.Recipe, Precision: a.Precision,
		Bytes: a.WeightBytes, BitsPerWeight: a.BitsPerWeight, Reference: a.IsReference,
		ComputedBy: a.computedBy(), Recorded: a.Recorded, Basis: a.basis(), Problems: a.Problems,
	}
	if f := a.Fidelity; f != nil && !a.IsReference {
		kl := report.Normal(f.KLMean, f.KLStdErr)
		kl.Low = max(0, kl.Low)
		r.KL, r.Loss = kl, report.Normal(f.PerplexityRatio-1, f.PerplexityRatioStdErr)
		r.Top1 = share(f.Top1Agreement, f.Tokens)
		if f.PerplexityRatio == 0 { // no tokens were scored
			r.Loss = nil
		}
	}
	if a.Perplexity > 0 {
		r.Perplexity = report.Plain(a.Perplexity)
	}
	if r.KL == nil && r.Perplexity == nil && !a.IsReference {
		why := a.NotRun
		if why == "" {
			why = "it was not measured now (--quick), and the conversion recorded none"
		}
		if len(a.Problems) > 0 {
			why = "it is damaged or does not run"
		}
		missing.add("loss", why, a.Artifact)
	}
	r.Speed = v.speedOf(a, missing)
	r.Questions = v.questionsOf(a, missing)
	return r
}

// basis says how the quality figures came about.
func (a *artifactEvidence) basis() report.Basis {
	switch by := a.computedBy(); {
	case a.Fidelity == nil && a.Perplexity == 0 && !a.IsReference:
		return report.NotRun
	case by == verify.Plain:
		return report.Arithmetic
	case a.format() == formatMLX && !strings.HasSuffix(by, "Metal"):
		return report.OnCPU
	case a.format() == formatONNX && a.Target != "cpu" && a.Target != "base" && a.Target != "":
		return report.Arithmetic // fused graphs of a device that is not here, on the CPU
	}
	return report.OnDevice
}

// share is a share of n with the interval of its normal approximation.
func share(p float64, n int) *report.Estimate {
	if n <= 0 {
		return report.Plain(p)
	}
	e := report.Normal(p, math.Sqrt(p*(1-p)/float64(n)))
	e.Low, e.High = max(0, e.Low), min(1, e.High)
	return e
}

// speedOf is what the benchmark found of an artifact.
func (v *comparison) speedOf(a *artifactEvidence, missing reasons) *report.Speed {
	m := a.Speed
	switch {
	case v.bench == nil:
		return nil
	case m == nil:
		why := a.NotRun
		if len(a.Problems) > 0 {
			why = "it is damaged or does not run"
		}
		missing.add("speed", why, a.Artifact)
		return nil
	case m.Error != "":
		missing.add("speed", m.Error, a.Artifact)
	}
	if m.Decode == nil {
		return nil
	}
	s := &report.Speed{
		Runtime: m.Runtime, Provider: m.Provider, Memory: m.PeakMemory,
		LoadCold: stat(m.LoadCold), LoadWarm: stat(m.LoadWarm), FirstToken: stat(m.FirstToken),
		Prefill: stat(m.Prefill), Decode: stat(m.Decode),
	}
	if g := m.Gaps; g != nil {
		s.P50, s.P95, s.P99 = percentile(g.P50), percentile(g.P95), percentile(g.P99)
	}
	if m.Energy != nil {
		s.Energy = stat(&m.Energy.PerToken)
	}
	if l := m.Roofline; l != nil {
		s.Ceiling, s.Share = l.Ceiling, l.Share
	}
	return s
}

func stat(s *bench.Stat) *report.Estimate {
	if s == nil {
		return nil
	}
	return &report.Estimate{Value: s.Median, Low: s.Low, High: s.High}
}

func percentile(p bench.Percentile) *report.Estimate {
	if p.Count == 0 {
		return nil
	}
	return &report.Estimate{Value: p.Value, Low: p.Low, High: p.High}
}

// questionsOf is how an artifact answered.
func (v *comparison) questionsOf(a *artifactEvidence, missing reasons) *report.Questions {
	if v.eval == nil {
		return nil
	}
	found := v.eval.Find(a.Artifact)
	if found == nil || found.Questions == nil {
		why := a.NotRun
		if found != nil {
			switch {
			case found.QuestionsNotRun != "":
				why = found.QuestionsNotRun
			case found.NotRun != "":
				why = found.NotRun
			case len(found.Problems) > 0:
				return nil // which stand with the artifact's problems
			}
		}
		if why == "" {
			why = "they were not put to it"
		}
		missing.add("questions", why, a.Artifact)
		return nil
	}
	q := found.Questions
	out := &report.Questions{Total: score(&q.Total), Reference: a.Artifact == v.eval.Reference}
	for _, name := range categories(v.eval) {
		out.Categories = append(out.Categories, score(q.Score(name)))
	}
	if d := q.Paired; d != nil && d.Questions > 0 {
		out.Difference, out.P = &report.Estimate{Value: d.Difference, Low: d.Low, High: d.High}, d.P
	}
	return out
}

func score(s *eval.Score) report.Score {
	if s == nil || s.Total == 0 {
		return report.Score{}
	}
	return report.Score{Right: s.Right, Of: s.Total, Accuracy: &report.Estimate{Value: s.Accuracy, Low: s.Low, High: s.High}}
}

// categories are those of the first artifact that answered.
func categories(r *eval.Report) (out []string) {
	for _, a := range r.Artifacts {
		if a.Questions == nil {
			continue
		}
		for _, s := range a.Questions.Categories {
			if !slices.Contains(out, s.Category) {
				out = append(out, s.Category)
			}
		}
	}
	return out
}

// reasons gather artifacts by what of them was not measured, and why.
type reasons map[string]*report.Missing

func (r reasons) add(what, why string, artifacts ...string) {
	key := what + "\x00" + why
	m := r[key]
	if m == nil {
		m = &report.Missing{What: what, Why: why}
		r[key] = m
	}
	m.Artifacts = append(m.Artifacts, artifacts...)
}

func (r reasons) list() (out []report.Missing) {
	for _, m := range r {
		out = append(out, *m)
	}
	slices.SortFunc(out, func(a, b report.Missing) int { return strings.Compare(a.What+"\x00"+a.Why, b.What+"\x00"+b.Why) })
	return out
}

// machine describes where this runs.
func (v *comparison) machine(ctx context.Context) []report.Fact {
	var m bench.Machine
	if v.bench != nil {
		m = v.bench.Machine
	} else {
		cpu := hardware.DetectCPU(ctx)
		m = bench.Machine{System: runtime.GOOS + "/" + runtime.GOARCH, CPU: strings.TrimSpace(cpu.Name), Cores: cpu.Threads(), Features: cpu.Features.String()}
		if mem, err := hardware.DetectMemory(ctx); err == nil {
			m.Memory = mem.Total
		}
	}
	out := []report.Fact{{Name: "processor", Value: fmt.Sprintf("%s, %d cores", m.CPU, m.Cores)}, {Name: "system", Value: m.System}}
	if m.CPU == "" {
		out[0].Value = fmt.Sprintf("%s, %d cores", runtime.GOARCH, m.Cores)
	}
	if m.Memory > 0 {
		out = append(out, report.Fact{Name: "memory", Value: humanBytes(int64(m.Memory))})
	}
	if m.Features != "" {
		out = append(out, report.Fact{Name: "processor features", Value: m.Features})
	}
	for _, d := range m.Devices {
		out = append(out, report.Fact{Name: "device", Value: d})
	}
	if m.Bandwidth > 0 {
		out = append(out, report.Fact{Name: "memory bandwidth", Value: fmt.Sprintf("%.1f GB/s read, measured", m.Bandwidth/1e9)})
	}
	return out
}

// versions are what computed the figures.
func (v *comparison) versions() (out []report.Fact) {
	var seen []string
	for _, a := range v.Artifacts {
		name := ""
		if a.Speed != nil {
			name = a.Speed.Runtime
		}
		if by := a.computedBy(); name == "" && by != "" && by != verify.Plain {
			name, _, _ = strings.Cut(by, " on ")
		}
		if name != "" && !slices.Contains(seen, name) {
			seen = append(seen, name)
		}
	}
	slices.Sort(seen)
	for _, name := range seen {
		out = append(out, report.Fact{Name: "runtime", Value: name})
	}
	return out
}

// settings are what was asked for.
func (v *comparison) settings(c *common, o compareOptions) (out []report.Fact) {
	add := func(name, format string, a ...any) {
		out = append(out, report.Fact{Name: name, Value: fmt.Sprintf(format, a...)})
	}
	if v.bench != nil {
		s := v.bench.Settings
		add("speed", "%d tokens of prompt, then %d one by one; %d rounds in turns, after one to warm up; %d threads", s.Prompt, s.Generate, s.Repetitions, s.Threads)
		add("speed figures", "medians; %s", coverage(v.bench))
	}
	if v.Tokens > 0 {
		add("loss", "%d tokens of the %s, cut as %s", v.Tokens, v.Text, v.Definition)
		add("loss intervals", "1.96 standard errors, positions taken as independent: read them as lower bounds")
	}
	if v.eval != nil {
		s := v.eval.Settings
		add("questions", "%d of %s, seed %d", s.NumQuestions, s.QuestionSet, s.Seed)
		code := "was not run: its questions count by the likelihood of the right solution"
		if s.CodeExecution {
			code = "was run"
		}
		add("model-written code", "%s", code)
		if v.eval.Reference != "" {
			add("answers beside", "those of %s, which has the most bits of those that were asked", v.eval.Reference)
		}
	}
	return out
}

// coverage says how sure the intervals of the medians are.
func coverage(r *bench.Report) string {
	least := 1.0
	for _, m := range r.Artifacts {
		if m.Decode != nil {
			least = min(least, m.Decode.Coverage)
		}
	}
	if r.Settings.Repetitions == 1 {
		return "of one round, without intervals"
	}
	return fmt.Sprintf("their intervals hold with %.0f %% at least", 100*least)
}

// commandLine is what the user asked for, with the paths of this machine left
// out.
func commandLine(cmd *cobra.Command) string {
	parts := []string{cmd.CommandPath()}
	for _, a := range cmd.Flags().Args() {
		parts = append(parts, quoteWord(ownPath(a)))
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		value := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(list.GetSlice(), ",")
		}
		switch {
		case f.Value.Type() == "bool" && value == "true":
			parts = append(parts, "--"+f.Name)
		case f.Value.Type() == "bool":
			parts = append(parts, "--"+f.Name+"="+value)
		default:
			parts = append(parts, "--"+f.Name, quoteWord(ownPath(value)))
		}
	})
	return strings.Join(parts, " ")
}

// ownPath is an absolute path as seen from here, or its last part where it lies
// elsewhere; other words stay.
func ownPath(s string) string {
	if !filepath.IsAbs(s) {
		return s
	}
	if here, err := filepath.Abs("."); err == nil {
		if rel, err := filepath.Rel(here, s); err == nil && filepath.IsLocal(rel) {
			return filepath.ToSlash(rel)
		}
	}
	return ".../" + filepath.Base(s)
}

// quoteWord puts a word into quotes where a shell would cut it.
func quoteWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:,=+@%", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
