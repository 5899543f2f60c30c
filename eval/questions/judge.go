package questions

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/llama-pajamas/llama-pajamas/eval/instructions"
)

// Names of metrics in [Verdict.Metrics]. All but the last are 0 or 1 for one
// question, or a share of its instructions; their mean over questions is what
// lm-evaluation-harness calls by the same name.
const (
	Acc              = "acc"                      // the likeliest choice is the right one
	AccNorm          = "acc_norm"                 // the same, log-likelihood divided by the choice's characters
	StrictMatch      = "exact_match,strict-match" // the number after ####
	FlexibleExtract  = "exact_match,flexible-extract"
	PromptStrict     = "prompt_level_strict_acc"
	PromptLoose      = "prompt_level_loose_acc"
	Pass1            = "pass@1"
	CanonicalPerByte = "canonical solution log-likelihood per byte" // nats; not an accuracy
)

// Verdict is the judgement of one question.
type Verdict struct {
	// Counts says that Right is part of the accuracy. It is false for code that
	// was not run: a likely solution is not a right answer.
	Counts bool `json:"counts"`
	Right  bool `json:"right"`
	// Metric names what Right is: acc for MMLU and WinoGrande, acc_norm for ARC
	// and OpenBookQA, flexible-extract for GSM8K, prompt_level_strict_acc for
	// IFEval, pass@1 for code.
	Metric  string             `json:"metric"`
	Metrics map[string]float64 `json:"metrics"`
	// Answer is what was taken as the answer, Expected what was wanted.
	Answer   string `json:"answer"`
	Expected string `json:"expected"`
	// Strict and Loose are the verdicts on each of q.Instructions.
	Strict []bool `json:"strict,omitempty"`
	Loose  []bool `json:"loose,omitempty"`
	Note   string `json:"note,omitempty"`
}

var errKind = errors.New("the question is of another kind")

// JudgeChoice judges the scores of q.Requests, in their order.
//
// acc takes the largest sum of log-likelihoods, acc_norm the largest sum
// divided by the number of characters (Unicode code points, not bytes) of the
// choice without its leading blank; of equals the first. The two are
// lm-evaluation-harness's, lm_eval/api/task.py 0.4.13.
func (q Question) JudgeChoice(scores []Score) (Verdict, error) {
	if q.Kind != KindChoice {
		return Verdict{}, fmt.Errorf("judge %s by likelihoods of choices: %w (%s)", q.ID, errKind, q.Kind)
	}
	if len(scores) != len(q.Choices) {
		return Verdict{}, fmt.Errorf("judge %s: %d scores for %d choices", q.ID, len(scores), len(q.Choices))
	}
	sum, norm := 0, 0
	for i, s := range scores {
		if math.IsNaN(s.LogLikelihood) || s.LogLikelihood > 0 {
			return Verdict{}, fmt.Errorf("judge %s: the log-likelihood of choice %d is %g", q.ID, i, s.LogLikelihood)
		}
		if s.LogLikelihood > scores[sum].LogLikelihood {
			sum = i
		}
		if perCharacter(s, q.Choices[i]) > perCharacter(scores[norm], q.Choices[norm]) {
			norm = i
		}
	}
	v := Verdict{Counts: true, Metric: Acc, Expected: q.Choices[q.Gold], Answer: q.Choices[sum]}
	v.Metrics = map[string]float64{Acc: one(sum == q.Gold)}
	if q.Source == "arc_challenge" || q.Source == "openbookqa" {
		v.Metric, v.Answer = AccNorm, q.Choices[norm]
		v.Metrics[AccNorm] = one(norm == q.Gold)
	}
	v.Right = v.Metrics[v.Metric] == 1
	return v, nil
}

func perCharacter(s Score, choice string) float64 {
	return s.LogLikelihood / float64(utf8.RuneCountInString(choice))
}

func one(right bool) float64 {
	if right {
		return 1
	}
	return 0
}

// JudgeText judges a generated text of KindNumber or KindInstructions. The text
// may go on behind a stop of q.Generation; it is cut there.
func (q Question) JudgeText(text string) (Verdict, error) {
	g, _ := q.Generation()
	text = g.Cut(text)
	switch q.Kind {
	case KindNumber:
		return q.judgeNumber(text), nil
	case KindInstructions:
		return q.judgeInstructions(text), nil
	}
	return Verdict{}, fmt.Errorf("judge %s by a text: %w (%s)", q.ID, errKind, q.Kind)
}

// The two filters of gsm8k.yaml 3.0: the first number behind ####, or the last
// number of all.
var (
	strictNumber   = regexp.MustCompile(`#### (-?[0-9.,]+)`)
	flexibleNumber = regexp.MustCompile(`-?[$0-9.,]{2,}|-?[0-9]+`)
)

func (q Question) judgeNumber(text string) Verdict {
	strict, flexible := "", ""
	if m := strictNumber.FindStringSubmatch(text); m != nil {
		strict = m[1]
	}
	if m := flexibleNumber.FindAllString(text, -1); m != nil {
		flexible = m[len(m)-1]
	}
	want := cleanNumber(q.Answer)
	v := Verdict{Counts: true, Metric: FlexibleExtract, Answer: flexible, Expected: q.Answer}
	v.Metrics = map[string]float64{
		StrictMatch:     one(cleanNumber(strict) == want),
		FlexibleExtract: one(cleanNumber(flexible) == want),
	}
	v.Right = v.Metrics[v.Metric] == 1
	if flexible == "" {
		v.Note = "the text holds no number"
	}
	return v
}

// cleanNumber takes away what exact_match ignores: commas, dollar signs and a
// dot at the end.
func cleanNumber(s string) string {
	s = strings.NewReplacer(",", "", "$", "").Replace(s)
	return strings.TrimSuffix(s, ".")
}

func (q Question) judgeInstructions(text string) Verdict {
	v := Verdict{Counts: true, Metric: PromptStrict, Answer: text, Expected: "all instructions followed"}
	v.Strict, v.Loose = instructions.Judge(q.Instructions, text)
	v.Metrics = map[string]float64{PromptStrict: one(all(v.Strict)), PromptLoose: one(all(v.Loose))}
	v.Right = v.Metrics[v.Metric] == 1
	return v
}

func all(b []bool) bool {
	for _, x := range b {
		if !x {
			return false
		}
	}
	return true
}

// Program is the Python program that tests a completion of KindCode, the text that
// goes on after the prompt of q.Generation: prompt, completion, the source's tests
// and the call that runs them, as humaneval.yaml and human-eval build it. It comes
// to its end if the completion passes.
func (q Question) Program(completion string) (string, error) {
	if q.Kind != KindCode {
		return "", fmt.Errorf("program of %s: %w (%s)", q.ID, errKind, q.Kind)
	}
	g, _ := q.Generation()
	return g.Prompt + g.Cut(completion) + "\n" + q.Test + "\ncheck(" + q.EntryPoint + ")\n", nil
}

// JudgeRun judges a run of q.Program: it passed, or why not.
func (q Question) JudgeRun(completion string, passed bool, why string) (Verdict, error) {
	if q.Kind != KindCode {
		return Verdict{}, fmt.Errorf("judge %s by a run: %w (%s)", q.ID, errKind, q.Kind)
	}
	g, _ := q.Generation()
	return Verdict{
		Counts: true, Right: passed, Metric: Pass1, Metrics: map[string]float64{Pass1: one(passed)},
		Answer: g.Cut(completion), Expected: "the tests of " + q.EntryPoint + " pass", Note: why,
	}, nil
}

// JudgeCanonical judges code without running any: the log-likelihood of the
// canonical solution, per byte. It counts towards no accuracy.
func (q Question) JudgeCanonical(s Score) (Verdict, error) {
	if q.Kind != KindCode {
		return Verdict{}, fmt.Errorf("judge %s by its canonical solution: %w (%s)", q.ID, errKind, q.Kind)
	}
	if math.IsNaN(s.LogLikelihood) || s.LogLikelihood > 0 {
		return Verdict{}, fmt.Errorf("judge %s: the log-likelihood of the canonical solution is %g", q.ID, s.LogLikelihood)
	}
	n := len(q.Requests()[0].Continuation)
	return Verdict{
		Metric: CanonicalPerByte, Metrics: map[string]float64{CanonicalPerByte: s.LogLikelihood / float64(n)},
		Expected: q.Canonical, Note: "not run: how likely the canonical solution is says nothing of right or wrong",
	}, nil
}
