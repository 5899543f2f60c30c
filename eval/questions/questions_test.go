package questions_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/llama-pajamas/llama-pajamas/eval/instructions"
	"github.com/llama-pajamas/llama-pajamas/eval/questions"
)

func set(t *testing.T) []questions.Question {
	t.Helper()
	all, err := questions.Set(0)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestSetIsFixed: figures of different releases can be compared only if the
// questions are the same ones. A changed set is another benchmark: then say so
// in the changelog and in the name of the seed.
func TestSetIsFixed(t *testing.T) {
	const want = "7eca2bc0808fbc5a8540c66bdfecf5ea443ac24a951773bc694a5ad06fa230eb"
	names, err := fs.Glob(os.DirFS("data"), "*.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	for _, n := range names { // sorted
		data, err := os.ReadFile(filepath.Join("data", n))
		if err != nil {
			t.Fatal(err)
		}
		h.Write(data)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("the set's sha256 is %s, want %s", got, want)
	}
}

func TestBalance(t *testing.T) {
	all := set(t)
	if len(all) != questions.Size {
		t.Fatalf("%d questions, want %d", len(all), questions.Size)
	}
	categories := questions.Categories()
	sources, subjects, golds, kinds := map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
	ids := map[string]bool{}
	for i, q := range all {
		if q.Category != categories[i%len(categories)] {
			t.Errorf("question %d has category %s, want %s", i, q.Category, categories[i%len(categories)])
		}
		if ids[q.ID] {
			t.Errorf("%s comes twice", q.ID)
		}
		ids[q.ID] = true
		sources[q.Source]++
		if q.Source == "mmlu" {
			subjects[q.Task]++
		}
		if q.Kind == questions.KindChoice {
			golds[fmt.Sprint(q.Source, q.Gold)]++
		}
		for _, in := range q.Instructions {
			kinds[in.ID]++
		}
	}
	want := map[string]int{"mmlu": 20, "arc_challenge": 20, "gsm8k": 20, "humaneval": 20, "openbookqa": 10, "winogrande": 10, "ifeval": 20}
	if d := cmp.Diff(want, sources); d != "" {
		t.Errorf("sources (-want +got):\n%s", d)
	}
	if len(subjects) != 20 {
		t.Errorf("%d subjects of MMLU, want 20", len(subjects))
	}
	for g, n := range golds {
		if want := map[bool]int{true: 3, false: 5}[strings.HasPrefix(g, "openbookqa")]; n > want {
			t.Errorf("%d right answers at %s, want at most %d", n, g, want)
		}
	}
	for _, id := range instructions.Kinds() {
		if kinds[id] == 0 {
			t.Errorf("no prompt asks for %s", id)
		}
	}
}

func TestSmallerSets(t *testing.T) {
	all := set(t)
	for _, n := range []int{1, 6, 24, 119, 120} {
		s, err := questions.Set(n)
		if err != nil || len(s) != n {
			t.Fatalf("Set(%d): %d questions, %v", n, len(s), err)
		}
		for i := range s {
			if s[i].ID != all[i].ID {
				t.Fatalf("question %d of %d is %s, want %s", i, n, s[i].ID, all[i].ID)
			}
		}
	}
	for _, n := range []int{-1, 121} {
		if _, err := questions.Set(n); err == nil {
			t.Errorf("Set(%d): no error", n)
		}
	}
}

func TestWellFormed(t *testing.T) {
	licences := map[string]string{
		"mmlu": "MIT", "arc_challenge": "CC BY-SA 4.0", "gsm8k": "MIT", "humaneval": "MIT",
		"openbookqa": "Apache-2.0", "winogrande": "CC BY", "ifeval": "Apache-2.0",
	}
	for _, q := range set(t) {
		if q.Licence != licences[q.Source] {
			t.Errorf("%s has licence %q, want %q", q.ID, q.Licence, licences[q.Source])
		}
		g, generated := q.Generation()
		switch r := q.Requests(); q.Kind {
		case questions.KindChoice:
			if generated || len(r) != len(q.Choices) || len(r) < 2 || q.Gold < 0 || q.Gold >= len(r) || q.Chance != 1/float64(len(r)) {
				t.Errorf("%s: %d requests, choices %q, gold %d, chance %g", q.ID, len(r), q.Choices, q.Gold, q.Chance)
			}
			for i, c := range q.Choices {
				if strings.TrimSpace(c) != c || c == "" || slices.Index(q.Choices, c) != i {
					t.Errorf("%s: choice %q", q.ID, c)
				}
			}
		case questions.KindCode:
			if !generated || len(r) != 1 || g.Prompt != r[0].Context || r[0].Context+r[0].Continuation != q.Prompt+q.Canonical || !strings.Contains(q.Prompt, "def "+q.EntryPoint+"(") || g.Cut(r[0].Continuation) != r[0].Continuation {
				t.Errorf("%s: prompt %q, solution %q", q.ID, q.Prompt, q.Canonical)
			}
		case questions.KindNumber, questions.KindInstructions:
			if !generated || r != nil || g.Chat != (q.Kind == questions.KindInstructions) {
				t.Errorf("%s: %v, %+v", q.ID, r, g)
			}
		default:
			t.Errorf("%s: kind %q", q.ID, q.Kind)
		}
		for _, r := range q.Requests() {
			if strings.TrimRight(r.Context, " \n\t") != r.Context || r.Context == "" || strings.TrimSpace(r.Continuation) == "" ||
				!strings.HasPrefix(r.Continuation, " ") && !strings.HasPrefix(r.Continuation, "\n") {
				t.Errorf("%s: context %q, continuation %q", q.ID, r.Context, r.Continuation)
			}
		}
		text, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		var back questions.Question
		if err := json.Unmarshal(text, &back); err != nil {
			t.Errorf("%s: read back: %v", q.ID, err)
		}
	}
}

// pairs are what a question asks with, as _generate/render.py writes it: for
// generated answers the prompt, and what the answer is held against.
func pairs(t *testing.T, q questions.Question) [][2]string {
	switch q.Kind {
	case questions.KindNumber:
		return [][2]string{{q.Prompt, q.Answer}}
	case questions.KindInstructions:
		return [][2]string{{q.Prompt, ""}}
	case questions.KindCode:
		program, err := q.Program(q.Requests()[0].Continuation)
		if err != nil {
			t.Fatal(err)
		}
		return [][2]string{{q.Prompt, strings.TrimSuffix(program, "\n")}}
	}
	var out [][2]string
	for _, r := range q.Requests() {
		out = append(out, [2]string{r.Context, r.Continuation})
	}
	return out
}

// TestPrompts compares every prompt with lm-evaluation-harness's rendering.
func TestPrompts(t *testing.T) {
	var want map[string][][2]string
	readJSON(t, "testdata/prompts.json", &want)
	full := map[string][][2]string{}
	for _, s := range []string{"mmlu", "arc_challenge", "gsm8k", "humaneval", "openbookqa", "winogrande", "ifeval"} {
		readJSON(t, "testdata/prompts/"+s+".json", &full)
	}
	if len(want) != questions.Size || len(full) != 21 {
		t.Fatalf("%d hashes and %d full prompts", len(want), len(full))
	}
	hash := func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }
	for _, q := range set(t) {
		got := pairs(t, q)
		if f, ok := full[q.ID]; ok {
			if d := cmp.Diff(f, got); d != "" {
				t.Errorf("%s (-want +got):\n%s", q.ID, d)
			}
		}
		for i, p := range got {
			got[i] = [2]string{hash(p[0]), hash(p[1])}
		}
		if !slices.Equal(got, want[q.ID]) {
			t.Errorf("%s: the hash of a prompt differs from lm-evaluation-harness's:\n%q", q.ID, pairs(t, q))
		}
	}
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func find(t *testing.T, source string) questions.Question {
	t.Helper()
	for _, q := range set(t) {
		if q.Source == source {
			return q
		}
	}
	t.Fatalf("no question of %s", source)
	return questions.Question{}
}

func TestJudgeChoice(t *testing.T) {
	// By hand: the sums favour the short choice, the sums per character the long.
	q := questions.Question{ID: "x", Source: "arc_challenge", Kind: questions.KindChoice, Choices: []string{"yes", "é é é é é é é é é é"}, Gold: 1}
	scores := []questions.Score{{LogLikelihood: -3}, {LogLikelihood: -10}} // -1 and -0.526 a character
	v, err := q.JudgeChoice(scores)
	if err != nil {
		t.Fatal(err)
	}
	if !v.Counts || !v.Right || v.Metric != questions.AccNorm || v.Metrics[questions.Acc] != 0 || v.Metrics[questions.AccNorm] != 1 || v.Answer != q.Choices[1] {
		t.Errorf("got %+v", v)
	}
	q.Source = "mmlu" // only acc
	if v, err = q.JudgeChoice(scores); err != nil || v.Right || v.Metric != questions.Acc || len(v.Metrics) != 1 {
		t.Errorf("got %+v, %v", v, err)
	}
	// Characters, not bytes: 10 characters of 2 bytes each.
	q.Source, q.Choices = "openbookqa", []string{"éééééééééé", "abcdefghijkl"}
	if v, err = q.JudgeChoice([]questions.Score{{LogLikelihood: -10}, {LogLikelihood: -11}}); err != nil || !v.Right {
		t.Errorf("got %+v, %v", v, err)
	}
	// Equal ones: the first, as numpy's argmax.
	if v, err = q.JudgeChoice([]questions.Score{{LogLikelihood: -10}, {LogLikelihood: -12}}); err != nil || v.Metrics[questions.AccNorm] != 0 {
		t.Errorf("got %+v, %v", v, err)
	}
	for _, bad := range [][]questions.Score{nil, {{}}, {{LogLikelihood: math.NaN()}, {}}, {{LogLikelihood: 1}, {}}} {
		if _, err := q.JudgeChoice(bad); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
	for _, q := range set(t) { // the right one likeliest, then the right one alone unlikely
		if q.Kind != questions.KindChoice {
			continue
		}
		s := make([]questions.Score, len(q.Choices))
		for i := range s {
			s[i].LogLikelihood = -900
		}
		s[q.Gold].LogLikelihood = -0.01
		if v, err := q.JudgeChoice(s); err != nil || !v.Right || v.Answer != v.Expected {
			t.Errorf("%s: %+v, %v", q.ID, v, err)
		}
		s[q.Gold].LogLikelihood = -90000
		if v, err := q.JudgeChoice(s); err != nil || v.Right || v.Answer == v.Expected {
			t.Errorf("%s: %+v, %v", q.ID, v, err)
		}
	}
}

// TestNumbers compares with the filters and the metric of gsm8k.yaml.
func TestNumbers(t *testing.T) {
	var cases []map[string]any
	readJSON(t, "testdata/numbers.json", &cases)
	q := find(t, "gsm8k")
	for _, c := range cases {
		q.Answer = c["gold"].(string)
		v, err := q.JudgeText(c["text"].(string))
		if err != nil {
			t.Fatal(err)
		}
		strict, flexible := v.Metrics[questions.StrictMatch] == 1, v.Metrics[questions.FlexibleExtract] == 1
		if strict != c["strict-match"] || flexible != c["flexible-extract"] || v.Right != flexible {
			t.Errorf("%q for %s: strict %v, flexible %v, want %v", c["text"], q.Answer, strict, flexible, c)
		}
	}
	// What follows a stop does not count.
	q.Answer = "18"
	if v, err := q.JudgeText(" 6 * 3 = 18\n#### 18\n\nQuestion: What is 7 * 7?\nAnswer: 49\n#### 49"); err != nil || !v.Right {
		t.Errorf("got %+v, %v", v, err)
	}
	// The source's own answers are right.
	for _, q := range set(t) {
		if q.Kind == questions.KindNumber {
			if v, err := q.JudgeText(" So it is.\n#### " + q.Answer); err != nil || !v.Right || v.Metrics[questions.StrictMatch] != 1 {
				t.Errorf("%s: %+v, %v", q.ID, v, err)
			}
			if v, err := q.JudgeText(" So it is.\n#### 1" + q.Answer); err != nil || v.Right {
				t.Errorf("%s: %+v, %v", q.ID, v, err)
			}
		}
	}
}

func TestJudgeInstructions(t *testing.T) {
	for _, q := range set(t) {
		if q.ID != "ifeval/3672" { // one sentence about Algiers in double quotes
			continue
		}
		for _, c := range []struct {
			text          string
			strict, loose bool
		}{
			{`"Algiers is bright."`, true, true},
			{"Sure:\n\"Algiers is bright.\"", false, true},
			{`Algiers is bright.`, false, false},
			{`"Algiers is bright. It is warm."`, false, false},
			{``, false, false},
		} {
			v, err := q.JudgeText(c.text)
			if err != nil || v.Right != c.strict || v.Metrics[questions.PromptLoose] == 1 != c.loose || len(v.Strict) != 3 {
				t.Errorf("%q: %+v, %v", c.text, v, err)
			}
		}
		return
	}
	t.Error("no question ifeval/3672")
}

func TestJudgeCode(t *testing.T) {
	q := find(t, "humaneval")
	n := len(q.Requests()[0].Continuation)
	v, err := q.JudgeCanonical(questions.Score{LogLikelihood: -float64(n), Tokens: 10})
	if err != nil || v.Counts || v.Right || v.Metrics[questions.CanonicalPerByte] != -1 {
		t.Errorf("got %+v, %v", v, err)
	}
	if v, err = q.JudgeRun(q.Canonical+"\nprint(1)", true, ""); err != nil || !v.Counts || !v.Right || v.Answer != q.Canonical[:len(q.Canonical)-1] && v.Answer != q.Canonical {
		t.Errorf("got %+v, %v", v, err)
	}
	if v, err = q.JudgeRun("    pass", false, "AssertionError"); err != nil || !v.Counts || v.Right || v.Note != "AssertionError" {
		t.Errorf("got %+v, %v", v, err)
	}
}

// TestWrongKind: a judge of another kind is an error, not a verdict.
func TestWrongKind(t *testing.T) {
	for _, q := range set(t) {
		_, choice := q.JudgeChoice(make([]questions.Score, len(q.Choices)))
		_, text := q.JudgeText("x")
		_, canonical := q.JudgeCanonical(questions.Score{})
		_, run := q.JudgeRun("", false, "")
		_, program := q.Program("")
		code := q.Kind == questions.KindCode
		generated := q.Kind == questions.KindNumber || q.Kind == questions.KindInstructions
		if (choice == nil) != (q.Kind == questions.KindChoice) || (text == nil) != generated ||
			(canonical == nil) != code || (run == nil) != code || (program == nil) != code {
			t.Errorf("%s: %v, %v, %v, %v, %v", q.ID, choice, text, canonical, run, program)
		}
	}
}

// TestNotInCalibration: no 50 characters of a question occur in the texts that
// artifacts are calibrated with.
func TestNotInCalibration(t *testing.T) {
	seen := map[string]string{}
	for _, q := range set(t) {
		text := strings.TrimPrefix(q.Prompt, "The following are multiple choice questions")
		if q.Kind == questions.KindNumber {
			text = text[strings.LastIndex(text, "Question: "):]
		}
		for i := range len(text) - 50 {
			seen[text[i:i+50]] = q.ID
		}
	}
	for _, path := range []string{"../../calibrate/layerwise/text.txt", "../../verify/text.txt"} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range max(len(data)-50, 0) {
			if id := seen[string(data[i:i+50])]; id != "" {
				t.Fatalf("%s holds a part of %s: %q", path, id, data[i:i+50])
			}
		}
	}
}
