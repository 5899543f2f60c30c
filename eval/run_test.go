package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/llama-pajamas/llama-pajamas/eval/questions"
	"github.com/llama-pajamas/llama-pajamas/fidelity"
)

// fakeRun is a model folder of two artifacts whose figures follow from names.
type fakeRun struct {
	t        *testing.T
	output   string
	answered int // questions, over all runs
	measured []string
	// stop ends the run after so many answers.
	stop   int
	cancel context.CancelFunc
	fail   map[string]error // of an artifact's measurement
}

func (f *fakeRun) options(resume bool) Options {
	qs, err := Pick(12, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	return Options{
		Settings:  Settings{NumQuestions: 12, Definitions: []string{"llama.cpp:8", "huggingface:8:4"}, Reference: "base"},
		Questions: qs, Reference: "base", Output: f.output, Resume: resume, TempDir: f.t.TempDir(), Model: "m",
		Artifacts: []Artifact{{Path: "int4", SHA256: "4"}, {Path: "base", SHA256: "b"}, {Path: "trt", SHA256: "t", NotRun: "no card"}},
		Measure: func(ctx context.Context, a Artifact, w Work) (Measured, error) {
			if err := f.fail[a.Path]; err != nil {
				return Measured{}, err
			}
			f.measured = append(f.measured, a.Path+" "+w.Definition)
			m := Measured{Perplexity: Perplexity{Definition: w.Definition, Value: 10, Scored: 5}}
			if a.Path == "int4" {
				m.Perplexity.Value = 11
			}
			if w.SaveLogits != "" {
				if err := os.WriteFile(w.SaveLogits, []byte("logits of "+a.Path), 0o600); err != nil {
					f.t.Error(err)
				}
			}
			if w.ReferenceLogits != "" {
				b, err := os.ReadFile(w.ReferenceLogits)
				if err != nil || string(b) != "logits of base" {
					f.t.Errorf("%s is compared with %q, %v", a.Path, b, err)
				}
				m.Fidelity = &Fidelity{Reference: "base", Definition: w.Definition, Result: fidelity.Result{KLMean: 0.1, PerplexityRatio: 1.1, PerplexityRatioStdErr: 0.01}}
			}
			return m, ctx.Err()
		},
		Ask: func(ctx context.Context, a Artifact, qs []questions.Question, each func(Record, float64) error) (bool, error) {
			for i, q := range qs {
				if ctx.Err() != nil {
					return false, ctx.Err()
				}
				r := Record{ID: q.ID, Category: string(q.Category), Prompt: q.Prompt, Scored: q.Category != questions.Code, Seconds: float64(f.answered)}
				r.Right = len(q.ID)%2 == 0 || a.Path == "base"
				if err := each(r, float64(i+1)/float64(len(qs))); err != nil {
					return false, err
				}
				if f.answered++; f.answered == f.stop {
					f.cancel()
				}
			}
			return true, nil
		},
	}
}

func (f *fakeRun) run(resume bool) (*Report, error) {
	ctx, cancel := context.WithCancel(f.t.Context())
	defer cancel()
	f.cancel = cancel
	return Run(ctx, f.options(resume))
}

var noTimes = cmp.Options{
	cmpopts.IgnoreFields(Report{}, "Started", "Finished"),
	cmpopts.IgnoreFields(Artifact{}, "Seconds"), cmpopts.IgnoreFields(Record{}, "Seconds"),
}

func TestRun(t *testing.T) {
	f := &fakeRun{t: t, output: filepath.Join(t.TempDir(), "r.json")}
	r, err := f.run(false)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(f.measured, ", "); got != "base llama.cpp:8, base huggingface:8:4, int4 llama.cpp:8, int4 huggingface:8:4" {
		t.Errorf("measured %s", got)
	}
	base, int4, trt := r.Find("base"), r.Find("int4"), r.Find("trt")
	if !base.IsReference || base.Fidelity != nil || base.Questions.Paired != nil || base.Questions.Total.Right != 10 || base.Questions.Total.Unscored != 2 {
		t.Errorf("base: %+v", base)
	}
	p := int4.Questions.Paired
	if int4.Fidelity == nil || p == nil || p.Reference != "base" || p.Gained != 0 || p.Lost == 0 || p.Lost != 10-int4.Questions.Total.Right || !int4.Questions.ChatTemplate {
		t.Errorf("int4: %+v, %+v", int4, p)
	}
	if int4.Perplexities[0].Ratio != 1.1 || int4.Perplexities[0].RatioStdErr != 0.01 || int4.Perplexities[1].Ratio != 1.1 || int4.Perplexities[1].RatioStdErr != 0 {
		t.Errorf("ratios: %+v", int4.Perplexities)
	}
	if trt.NotRun != "no card" || trt.Questions != nil || trt.Perplexities != nil {
		t.Errorf("trt: %+v", trt)
	}
	if len(int4.Questions.Categories) != 6 || int4.Questions.Score("code").Total != 0 || int4.Questions.Score("knowledge").Total != 2 {
		t.Errorf("categories: %+v", int4.Questions.Categories)
	}
	again, err := ReadReport(f.output)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, again); diff != "" {
		t.Errorf("the file reads otherwise (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(Journal(f.output)); !os.IsNotExist(err) {
		t.Errorf("the journal is left: %v", err)
	}
}

// TestResume stops a run after every number of answers, goes on with it, and
// wants the same results and no question asked twice.
func TestResume(t *testing.T) {
	whole := &fakeRun{t: t, output: filepath.Join(t.TempDir(), "r.json")}
	want, err := whole.run(false)
	if err != nil {
		t.Fatal(err)
	}
	for stop := 1; stop <= 24; stop += 4 {
		f := &fakeRun{t: t, output: filepath.Join(t.TempDir(), "r.json"), stop: stop}
		if _, err := f.run(false); !errors.Is(err, context.Canceled) {
			t.Fatalf("stop %d: %v", stop, err)
		}
		if _, err := os.Stat(f.output); !os.IsNotExist(err) {
			t.Errorf("stop %d: results of half a run: %v", stop, err)
		}
		if _, err := f.run(false); err == nil || !strings.Contains(err.Error(), "--resume") {
			t.Errorf("stop %d: beginning anew over the journal: %v", stop, err)
		}
		// A crash while a line was written leaves half of it.
		j, err := os.OpenFile(Journal(f.output), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := j.WriteString(`{"path":"int4","rec`); err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := f.run(true)
		if err != nil {
			t.Fatalf("stop %d: %v", stop, err)
		}
		if diff := cmp.Diff(want, got, noTimes); diff != "" {
			t.Errorf("stop %d (-whole +resumed):\n%s", stop, diff)
		}
		if f.answered != 24 {
			t.Errorf("stop %d: %d questions asked, want 24", stop, f.answered)
		}
		if _, err := os.Stat(Journal(f.output)); !os.IsNotExist(err) {
			t.Errorf("stop %d: the journal is left: %v", stop, err)
		}
	}
}

// TestResumeFinished adds an artifact to finished results.
func TestResumeFinished(t *testing.T) {
	f := &fakeRun{t: t, output: filepath.Join(t.TempDir(), "r.json")}
	o := f.options(false)
	all := o.Artifacts
	o.Artifacts = all[1:] // base, trt
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	o = f.options(true)
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if f.answered != 24 || r.Find("int4").Fidelity == nil || r.Find("base").Questions.Total.Right != 10 {
		t.Errorf("%d answers; %+v", f.answered, r)
	}
	// Once more: all is known, nothing is run.
	n := len(f.measured)
	if _, err := Run(t.Context(), f.options(true)); err != nil || f.answered != 24 || len(f.measured) != n {
		t.Errorf("%d answers, %d measurements, %v", f.answered, len(f.measured)-n, err)
	}
	// Other files under the same name are measured anew.
	o = f.options(true)
	o.Artifacts[0].SHA256 = "other"
	if _, err := Run(t.Context(), o); err != nil || f.answered != 36 {
		t.Errorf("%d answers, %v", f.answered, err)
	}
}

func TestRefuseOtherSettings(t *testing.T) {
	f := &fakeRun{t: t, output: filepath.Join(t.TempDir(), "r.json"), stop: 3}
	if _, err := f.run(false); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	before, err := os.ReadFile(Journal(f.output))
	if err != nil {
		t.Fatal(err)
	}
	o := f.options(true)
	o.Settings.Seed = 7
	_, err = Run(t.Context(), o)
	var s *SettingsError
	if !errors.As(err, &s) || s.Name != "seed" || s.Was != "0" || s.Is != "7" {
		t.Errorf("%v", err)
	}
	o = f.options(true)
	o.Questions = o.Questions[1:]
	if _, err := Run(t.Context(), o); !errors.As(err, &s) || s.Name != "questions_sha256" {
		t.Errorf("%v", err)
	}
	after, err := os.ReadFile(Journal(f.output))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the journal was changed, %v", err)
	}
	if err := os.WriteFile(Journal(f.output), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.run(true); err == nil || !strings.Contains(err.Error(), "no journal") {
		t.Errorf("%v", err)
	}
}

// TestArtifactFails keeps what others give.
func TestArtifactFails(t *testing.T) {
	f := &fakeRun{t: t, fail: map[string]error{"base": errors.New("broken graph"), "int4": &NotRunError{"too little memory"}}}
	r, err := f.run(false)
	if err != nil {
		t.Fatal(err)
	}
	base, int4 := r.Find("base"), r.Find("int4")
	if len(base.Problems) != 2 || !strings.Contains(base.Problems[0], "broken graph") || base.Questions == nil {
		t.Errorf("base: %+v", base)
	}
	if int4.QuestionsNotRun != "too little memory" && int4.NotRun != "too little memory" {
		t.Errorf("int4: %+v", int4)
	}
}

func TestPick(t *testing.T) {
	set, err := questions.Set(0)
	if err != nil {
		t.Fatal(err)
	}
	ids := func(n int, seed uint64) (out []string) {
		qs, err := Pick(n, seed)
		if err != nil {
			t.Fatal(err)
		}
		count := map[questions.Category]int{}
		for _, q := range qs {
			out = append(out, q.ID)
			count[q.Category]++
		}
		for c, k := range count {
			if k != n/6 {
				t.Errorf("%d of %d questions are of %s", k, n, c)
			}
		}
		return out
	}
	if ids(120, 0)[7] != set[7].ID {
		t.Error("seed 0 is not the set's order")
	}
	a, b, c := ids(12, 1), ids(12, 1), ids(24, 1)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("one seed, two picks:\n%s", diff)
	}
	if diff := cmp.Diff(a, c[:12]); diff != "" {
		t.Errorf("12 are not the beginning of 24:\n%s", diff)
	}
	if cmp.Diff(a, ids(12, 2)) == "" || cmp.Diff(a, ids(12, 0)) == "" {
		t.Error("the seed changes nothing")
	}
	for _, n := range []int{0, -1, 121} {
		if _, err := Pick(n, 0); err == nil {
			t.Errorf("%d questions are no error", n)
		}
	}
}

// TestAsk puts six questions to stories260K: of each kind a record that tells
// all.
func TestAsk(t *testing.T) {
	m, tok, folder := stories(t)
	qs, err := Pick(12, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAsker(t.Context(), folder, tok, qs, AskOptions{MaxTokens: 12, Context: 512})
	if err != nil {
		t.Fatal(err)
	}
	if a.Context() > 512 || a.ChatTemplate() {
		t.Errorf("context %d, template %v", a.Context(), a.ChatTemplate())
	}
	ask := func(skip map[string]bool) map[string]Record {
		out := map[string]Record{}
		last := 0.0
		err := a.Ask(t.Context(), Model{Session: &plainSession{m: m, rows: Rows}}, skip, func(r Record, share float64) error {
			if share <= last || share > 1+1e-9 {
				t.Errorf("share %v after %v", share, last)
			}
			last = share
			r.Seconds = 0
			out[r.ID] = r
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	all := ask(nil)
	if len(all) != 12 {
		t.Fatalf("%d records", len(all))
	}
	for _, q := range qs {
		r := all[q.ID]
		if r.Prompt == "" || r.Metric == "" || r.Error != "" || r.PromptTokens < 1 || r.Category != string(q.Category) || r.Task != q.Task {
			t.Errorf("%s: %+v", q.ID, r)
		}
		switch q.Kind {
		case questions.KindChoice:
			if len(r.Choices) != len(q.Choices) || !r.Scored || r.Want != q.Choices[q.Gold] || r.Choices[0].LogLikelihood >= 0 || r.Chance == 0 {
				t.Errorf("%s: %+v", q.ID, r)
			}
		case questions.KindCode:
			if r.Scored || r.Right || r.Score >= 0 || r.Metric != questions.CanonicalPerByte {
				t.Errorf("%s: %+v", q.ID, r)
			}
		default:
			if !r.Scored || r.AnswerTokens < 1 || r.AnswerTokens > 12 || r.Finish == "" {
				t.Errorf("%s: %+v", q.ID, r)
			}
		}
	}
	// What is asked alone is answered alike: a resumed run is the same run.
	skip := map[string]bool{}
	for _, q := range qs[:7] {
		skip[q.ID] = true
	}
	for id, r := range ask(skip) {
		if diff := cmp.Diff(all[id], r); diff != "" || skip[id] {
			t.Errorf("%s alone (-in company +alone):\n%s", id, diff)
		}
	}
	// An interrupt ends at once, and a model that fails is an error.
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err = a.Ask(ctx, Model{Session: &plainSession{m: m, rows: Rows}}, nil, func(Record, float64) error {
		if n++; n == 3 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || n != 3 {
		t.Errorf("%d records, %v", n, err)
	}
	errTest := errors.New("test")
	if err := a.Ask(t.Context(), Model{Session: &plainSession{m: m, rows: Rows, fails: errTest, failAt: 900}}, nil, func(Record, float64) error { return nil }); !errors.Is(err, errTest) {
		t.Errorf("%v", err)
	}
}

// TestReportJSON keeps the names that others read.
func TestReportJSON(t *testing.T) {
	data, err := json.Marshal(Report{Version: 1, Artifacts: []Artifact{{
		Path: "a", Perplexities: []Perplexity{{Definition: "llama.cpp:512"}}, Fidelity: &Fidelity{}, Questions: &Questions{Paired: &Paired{}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"settings_sha256", "perplexities", "definition", "kl_mean", "top1_stderr", "top5_stderr", "paired", "gained", "lost", "low", "high"} {
		if !bytes.Contains(data, fmt.Appendf(nil, "%q:", name)) {
			t.Errorf("%s is not in %s", name, data)
		}
	}
}
