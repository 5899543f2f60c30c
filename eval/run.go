package eval

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/llama-pajamas/llama-pajamas/eval/questions"
)

// Options of a run.
type Options struct {
	// Settings as the report will have them; QuestionsSHA256 is filled in.
	Settings  Settings
	Questions []questions.Question // none: none are asked

	// Artifacts are what is measured, with what is known of them: Path, Format,
	// SHA256 and so on. NotRun says of one that it cannot be run here.
	Artifacts []Artifact
	// Reference is the Path of the artifact that the others are compared with,
	// "" for none. ReferenceLogits is a file of logits instead; its definition is
	// the first of Settings.Definitions, and ReferenceName what it says of itself.
	Reference       string
	ReferenceLogits string
	ReferenceName   string

	// Measure runs one artifact over the text, in one definition.
	Measure func(ctx context.Context, a Artifact, w Work) (Measured, error)
	// Ask puts questions to one artifact, as [Asker.Ask].
	Ask func(ctx context.Context, a Artifact, qs []questions.Question, each func(r Record, share float64) error) (chatTemplate bool, err error)

	// Output is the results file, "" for none; its journal lies beside it.
	Output string
	// Resume goes on with an interrupted run, or adds artifacts to a finished
	// one.
	Resume bool
	// TempDir is for the reference's logits; default the system's.
	TempDir string

	Program, Model, Machine string
	Notes                   []string
	// Progress, where not nil, is told how things are, often.
	Progress func(Progress)
}

// Work is one run over the text.
type Work struct {
	Definition string
	// ReferenceLogits is a file to compare with, SaveLogits one to write; ""
	// for none.
	ReferenceLogits, SaveLogits string
	Progress                    func(share float64)
}

// Measured is what such a run found.
type Measured struct {
	Perplexity Perplexity
	Fidelity   *Fidelity // with ReferenceLogits
}

// Progress of a run.
type Progress struct {
	Artifact string  // at work
	What     string  // "perplexity llama.cpp:512", "12 of 120 questions"
	Share    float64 // of the whole run
	// Left is about how long the rest takes; 0 while not known.
	Left time.Duration
}

// NotRunError says that an artifact cannot be run here, though nothing is wrong
// with it.
type NotRunError struct{ Why string }

func (e *NotRunError) Error() string { return e.Why }

// hash tells settings apart.
func (s Settings) hash() string {
	data, err := json.Marshal(s)
	if err != nil { // numbers and strings only
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func settingNames(ms ...map[string]json.RawMessage) []string {
	all := map[string]bool{}
	for _, m := range ms {
		for name := range m {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// questionsHash is the hash of questions as they are asked.
func questionsHash(qs []questions.Question) (string, error) {
	data, err := json.Marshal(qs)
	if err != nil {
		return "", fmt.Errorf("hash the questions: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// run is a run at work.
type run struct {
	Options
	journal *journal
	known   map[string]*known // by path
	began   time.Time
	// share of the whole that was done when this process began, and is now.
	before, done float64
}

// known is what has been found of one artifact.
type known struct {
	sha          string
	perplexities map[string]Perplexity
	fidelity     *Fidelity
	records      map[string]Record
	chat         bool
	seconds      float64
	notRun       string // the questions
	problems     []string
}

// Run evaluates all artifacts, the reference first. What fails on one artifact is
// a problem of that one. When ctx ends, what was found stays in the journal.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	r := &run{Options: o, known: map[string]*known{}, began: time.Now()}
	if len(o.Questions) > 0 {
		if r.Settings.QuestionsSHA256, err = questionsHash(o.Questions); err != nil {
			return nil, err
		}
	}
	started := r.began
	if o.Output != "" {
		if started, err = r.open(); err != nil {
			return nil, err
		}
	}
	finished := false
	defer func() { err = errors.Join(err, r.journal.close(finished)) }()
	if err := r.measureAll(ctx); err != nil {
		return nil, err
	}
	report := r.report(started)
	if o.Output != "" {
		if err := WriteReport(o.Output, report); err != nil {
			return nil, err
		}
		finished = true
	}
	return report, nil
}

// Journal is where the journal of a results file lies.
func Journal(output string) string { return output + ".journal" }

// open begins a journal, or goes on with one.
func (r *run) open() (started time.Time, err error) {
	started = r.began
	if !r.Resume {
		r.journal, err = startJournal(Journal(r.Output), r.Settings)
		return started, err
	}
	r.journal, err = resumeJournal(Journal(r.Output), r.Settings, r.recall)
	if !errors.Is(err, fs.ErrNotExist) {
		return started, err
	}
	// No journal: the run had ended, or none was begun.
	old, err := ReadReport(r.Output)
	switch {
	case err == nil:
		if err := differ(r.Output, old.Settings, r.Settings); err != nil {
			return started, err
		}
		started = old.Started
	case !errors.Is(err, fs.ErrNotExist):
		return started, err
	}
	if r.journal, err = startJournal(Journal(r.Output), r.Settings); err != nil || old == nil {
		return started, err
	}
	for _, a := range old.Artifacts {
		for _, e := range a.entries() {
			r.recall(e)
			r.journal.write(e)
		}
	}
	return started, r.journal.err
}

// entries are an artifact's figures as a journal has them.
func (a *Artifact) entries() (out []entry) {
	e := func(e entry) { e.Path, e.SHA256 = a.Path, a.SHA256; out = append(out, e) }
	for _, p := range a.Perplexities {
		p.Ratio, p.RatioStdErr = 0, 0
		one := entry{Perplexity: &p}
		if a.Fidelity != nil && a.Fidelity.Definition == p.Definition {
			one.Fidelity = a.Fidelity
		}
		e(one)
	}
	if q := a.Questions; q != nil {
		e(entry{ChatTemplate: &q.ChatTemplate})
		for _, rec := range q.Records {
			e(entry{Record: &rec})
		}
	}
	if len(out) > 0 {
		e(entry{Seconds: a.Seconds})
	}
	return out
}

// of is what is known of an artifact; figures of other files under the same path
// are forgotten.
func (r *run) of(path, sha string) *known {
	k := r.known[path]
	if k == nil || k.sha != sha {
		k = &known{sha: sha, perplexities: map[string]Perplexity{}, records: map[string]Record{}}
		r.known[path] = k
	}
	return k
}

func (r *run) recall(e entry) {
	k := r.of(e.Path, e.SHA256)
	switch {
	case e.Perplexity != nil:
		k.perplexities[e.Perplexity.Definition] = *e.Perplexity
	case e.Record != nil:
		k.records[e.Record.ID] = *e.Record
	case e.ChatTemplate != nil:
		k.chat = *e.ChatTemplate
	}
	if e.Fidelity != nil {
		k.fidelity = e.Fidelity
	}
	k.seconds += e.Seconds
}

// note enters a figure and keeps it.
func (r *run) note(a Artifact, e entry) error {
	e.Path, e.SHA256 = a.Path, a.SHA256
	r.recall(e)
	r.journal.write(e)
	if r.journal != nil {
		return r.journal.err
	}
	return nil
}

// measureAll goes through the artifacts, the reference first.
func (r *run) measureAll(ctx context.Context) (err error) {
	order := slices.Clone(r.Artifacts)
	slices.SortStableFunc(order, func(a, b Artifact) int {
		return cmp.Compare(r.rank(a), r.rank(b))
	})
	r.before = r.share(order)
	r.done = r.before
	logits := r.ReferenceLogits
	if r.Reference != "" && logits == "" && len(r.Settings.Definitions) > 0 {
		dir, err := os.MkdirTemp(r.TempDir, ".llama-pajamas-eval-")
		if err != nil {
			return fmt.Errorf("make a folder for the reference's logits: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		logits = filepath.Join(dir, "reference.logits")
	}
	for _, a := range order {
		if a.NotRun != "" {
			continue
		}
		start := time.Now()
		k := r.of(a.Path, a.SHA256)
		if err := r.perplexities(ctx, a, k, order, &logits); err != nil {
			return err
		}
		if err := r.ask(ctx, a, k); err != nil {
			return err
		}
		if err := r.note(a, entry{Seconds: time.Since(start).Seconds()}); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) rank(a Artifact) int {
	if a.Path == r.Reference {
		return 0
	}
	return 1
}

// perplexities runs one artifact over the text. A reference that fails leaves the
// others without one: *logits becomes "".
func (r *run) perplexities(ctx context.Context, a Artifact, k *known, all []Artifact, logits *string) error {
	isReference := r.Reference != "" && a.Path == r.Reference && r.ReferenceLogits == ""
	for i, d := range r.Settings.Definitions {
		w := Work{Definition: d}
		_, have := k.perplexities[d]
		if i == 0 && *logits != "" {
			if isReference {
				if !have || r.needLogits(all) {
					w.SaveLogits, have = *logits, false
				}
			} else {
				w.ReferenceLogits = *logits
				have = have && k.fidelity != nil
			}
		}
		if have {
			continue
		}
		at := r.done
		w.Progress = func(share float64) {
			r.tell(a, "perplexity "+d, at+share*r.part(r.Settings.Definitions, d))
		}
		w.Progress(0)
		m, err := r.Measure(ctx, a, w)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.done = at + r.part(r.Settings.Definitions, d)
		if err != nil {
			if w.SaveLogits != "" {
				*logits = ""
			}
			var not *NotRunError
			if errors.As(err, &not) {
				k.notRun = not.Why
				return nil
			}
			k.problems = append(k.problems, fmt.Sprintf("perplexity %s: %v", d, err))
			continue
		}
		if err := r.note(a, entry{Perplexity: &m.Perplexity, Fidelity: m.Fidelity}); err != nil {
			return err
		}
	}
	return nil
}

// needLogits reports whether an artifact is still to be compared.
func (r *run) needLogits(all []Artifact) bool {
	return slices.ContainsFunc(all, func(a Artifact) bool {
		return a.Path != r.Reference && a.NotRun == "" && r.of(a.Path, a.SHA256).fidelity == nil
	})
}

// ask puts the questions that have no answer yet.
func (r *run) ask(ctx context.Context, a Artifact, k *known) error {
	var left []questions.Question
	for _, q := range r.Questions {
		if _, ok := k.records[q.ID]; !ok {
			left = append(left, q)
		}
	}
	if len(left) == 0 || a.QuestionsNotRun != "" {
		return nil
	}
	at, n := r.done, len(r.Questions)-len(left)
	part := r.questionsPart() * float64(len(left)) / float64(len(r.Questions))
	said := func(share float64) {
		r.tell(a, fmt.Sprintf("%d of %d questions", n, len(r.Questions)), at+part*share)
	}
	said(0)
	template, err := r.Ask(ctx, a, left, func(rec Record, share float64) error {
		n++
		said(share)
		return r.note(a, entry{Record: &rec})
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.done = at + part
	var not *NotRunError
	switch {
	case errors.As(err, &not):
		k.notRun = not.Why
		return nil
	case err != nil:
		if r.journal != nil && r.journal.err != nil {
			return r.journal.err
		}
		k.problems = append(k.problems, fmt.Sprintf("questions: %v", err))
		return nil
	}
	return r.note(a, entry{ChatTemplate: &template})
}

// A run is divided among its artifacts, each into perplexities, of which each
// counts as much as textCost questions, and questions.
const textCost = 15

func (r *run) whole() float64 {
	n := 0
	for _, a := range r.Artifacts {
		if a.NotRun == "" {
			n++
		}
	}
	return float64(max(n, 1)) * float64(len(r.Questions)+textCost*len(r.Settings.Definitions))
}

func (r *run) part([]string, string) float64 { return textCost / max(r.whole(), 1) }

func (r *run) questionsPart() float64 { return float64(len(r.Questions)) / max(r.whole(), 1) }

// share is how much is known already.
func (r *run) share(all []Artifact) (s float64) {
	for _, a := range all {
		k := r.of(a.Path, a.SHA256)
		for _, d := range r.Settings.Definitions {
			if _, ok := k.perplexities[d]; ok {
				s += r.part(nil, d)
			}
		}
		s += r.questionsPart() * float64(len(k.records)) / float64(max(len(r.Questions), 1))
	}
	return s
}

func (r *run) tell(a Artifact, what string, share float64) {
	if r.Progress == nil {
		return
	}
	p := Progress{Artifact: a.Path, What: what, Share: min(share, 1)}
	if gone := share - r.before; gone > 0.01 {
		p.Left = time.Duration(float64(time.Since(r.began)) / gone * max(0, 1-share))
	}
	r.Progress(p)
}

// report makes the report of what is known.
func (r *run) report(started time.Time) *Report {
	out := &Report{
		Version: ReportVersion, Program: r.Program, Model: r.Model, Machine: r.Machine,
		Started: started.UTC().Truncate(time.Second), Finished: time.Now().UTC().Truncate(time.Second),
		Settings: r.Settings, SettingsSHA256: r.Settings.hash(),
		Reference: cmp.Or(r.ReferenceName, r.Reference), Notes: r.Notes,
	}
	for _, a := range r.Artifacts {
		out.Artifacts = append(out.Artifacts, r.artifact(a))
	}
	if ref := out.Find(r.Reference); ref != nil && r.Reference != "" {
		ref.IsReference = true
		for i := range out.Artifacts {
			if a := &out.Artifacts[i]; a != ref {
				compare(a, ref)
			}
		}
	}
	return out
}

// artifact is what is known of one.
func (r *run) artifact(a Artifact) Artifact {
	k := r.of(a.Path, a.SHA256)
	for _, d := range r.Settings.Definitions {
		if p, ok := k.perplexities[d]; ok {
			a.Perplexities = append(a.Perplexities, p)
		}
	}
	a.Fidelity, a.Seconds = k.fidelity, k.seconds
	if f := a.Fidelity; f != nil && len(a.Perplexities) > 0 {
		a.Perplexities[0].Ratio, a.Perplexities[0].RatioStdErr = f.PerplexityRatio, f.PerplexityRatioStdErr
	}
	a.Problems = append(a.Problems, k.problems...)
	if k.notRun != "" {
		if len(a.Perplexities) == 0 && len(k.records) == 0 {
			a.NotRun = k.notRun
		} else if a.QuestionsNotRun == "" {
			a.QuestionsNotRun = k.notRun
		}
	}
	q := &Questions{ChatTemplate: k.chat}
	for _, one := range r.Questions {
		if rec, ok := k.records[one.ID]; ok {
			q.Records = append(q.Records, rec)
		}
	}
	if len(q.Records) == 0 {
		return a
	}
	for _, c := range questions.Categories() {
		if s := count(string(c), q.Records); s.Total+s.Unscored > 0 {
			q.Categories = append(q.Categories, s)
		}
	}
	q.Total = count("", q.Records)
	a.Questions = q
	return a
}

// compare enters how an artifact differs from the reference.
func compare(a, ref *Artifact) {
	for i := range a.Perplexities {
		p := &a.Perplexities[i]
		if was := ref.Perplexity(p.Definition); was != nil && p.Ratio == 0 && was.Scored == p.Scored && was.Value > 0 {
			p.Ratio = p.Value / was.Value
		}
	}
	if a.Questions != nil && ref.Questions != nil {
		a.Questions.Paired = Pair(ref.Path, a.Questions.Records, ref.Questions.Records)
	}
}

// WriteReport writes a results file: whole, or not at all.
func WriteReport(path string, r *Report) (err error) {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".results-")
	if err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write the results: %w", err), os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(append(data, '\n'))
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// ReadReport reads a results file.
func ReadReport(path string) (*Report, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the results: %w", err)
	}
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("read the results %s: %w", path, err)
	}
	if r.Version != ReportVersion {
		return nil, fmt.Errorf("read the results %s: version %d, this program reads %d", path, r.Version, ReportVersion)
	}
	return &r, nil
}
