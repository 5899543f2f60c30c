package questions

import (
	"bufio"
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/llama-pajamas/llama-pajamas/eval/instructions"
)

// The files are made by: go run ./eval/questions/_generate SOURCES eval/questions/data
//
//go:embed data/*.jsonl
var data embed.FS

// Size is the number of questions of the whole set.
const Size = 120

// Category is what a question is about.
type Category string

// The six categories, in the set's order.
const (
	Knowledge            Category = "knowledge"
	Reasoning            Category = "reasoning"
	Mathematics          Category = "mathematics"
	Code                 Category = "code"
	CommonSense          Category = "common sense"
	InstructionFollowing Category = "instruction following"
)

// Categories lists the categories in the set's order.
func Categories() []Category {
	return []Category{Knowledge, Reasoning, Mathematics, Code, CommonSense, InstructionFollowing}
}

// Kind is how a question is asked and judged.
type Kind string

const (
	// KindChoice compares the log-likelihoods of the answers: Requests, JudgeChoice.
	KindChoice Kind = "choice"
	// KindNumber reads the last number of a generated text: Generation, JudgeText.
	KindNumber Kind = "number"
	// KindInstructions checks a generated text by program: Generation, JudgeText.
	KindInstructions Kind = "instructions"
	// KindCode is judged by running a generated function (Generation, Program,
	// JudgeRun) or, where running is not permitted, by the log-likelihood of
	// the canonical solution (Requests, JudgeCanonical), which says nothing of
	// right or wrong.
	KindCode Kind = "code"
)

// Question is one question of the set.
type Question struct {
	ID       string   `json:"id"` // "mmlu/astronomy/2", unique in the set
	Category Category `json:"category"`
	Source   string   `json:"source"`  // "mmlu"
	Task     string   `json:"task"`    // task and version of lm-evaluation-harness: "mmlu_astronomy 1.0"
	Line     int      `json:"line"`    // 0-based line of the source file
	Licence  string   `json:"licence"` // of the row: "MIT", "CC BY-SA 4.0"
	Kind     Kind     `json:"kind"`
	// Chance is the probability to be right by guessing: 0.25 or 0.5 for
	// choices, 0 for generated answers.
	Chance float64 `json:"chance"`

	// Prompt is the text before the answer. WinoGrande has one per choice, in
	// Requests; here it is the sentence with its gap.
	Prompt string `json:"prompt"`
	// Choices and Gold, the right one's index, of KindChoice.
	Choices []string `json:"choices,omitempty"`
	Gold    int      `json:"gold"`
	// Answer is the right number of KindNumber, as in the source: "70000".
	Answer string `json:"answer,omitempty"`
	// Instructions of KindInstructions.
	Instructions []instructions.Instruction `json:"instructions,omitempty"`
	// Entry point, canonical solution and test of KindCode.
	EntryPoint string `json:"entry_point,omitempty"`
	Canonical  string `json:"canonical_solution,omitempty"`
	Test       string `json:"test,omitempty"`
}

// sources in the set's order, with category and kind.
var sources = []struct {
	name     string
	category Category
	parse    func(*Question, row) error
}{
	{"mmlu", Knowledge, parseMMLU},
	{"arc_challenge", Reasoning, parseARC},
	{"gsm8k", Mathematics, parseGSM8K},
	{"humaneval", Code, parseHumanEval},
	{"openbookqa", CommonSense, parseOpenBookQA},
	{"winogrande", CommonSense, parseWinoGrande},
	{"ifeval", InstructionFollowing, parseIFEval},
}

// row holds the fields of all sources; each has some of them.
type row struct {
	Subject  string
	Question string
	Choices  []string
	Answer   json.RawMessage
	Sentence string
	Option1  string
	Option2  string

	Prompt     string
	EntryPoint string `json:"entry_point"`
	Canonical  string `json:"canonical_solution"`
	Test       string

	InstructionIDs []string            `json:"instruction_id_list"`
	Kwargs         []instructions.Args `json:"kwargs"`
}

// Set returns the first n questions of the set, all for n == 0. Question i has
// category i modulo six, so that a multiple of six is balanced, and a smaller
// set is the beginning of every larger one.
func Set(n int) ([]Question, error) {
	if n == 0 {
		n = Size
	}
	if n < 1 || n > Size {
		return nil, fmt.Errorf("the set has %d questions: ask for 1 to %d, not %d", Size, Size, n)
	}
	all := make([]Question, Size)
	for _, s := range sources {
		text, err := data.ReadFile("data/" + s.name + ".jsonl")
		if err != nil {
			return nil, fmt.Errorf("read questions of %s: %w", s.name, err)
		}
		lines := bufio.NewScanner(bytes.NewReader(text))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var line struct {
				Position int
				ID       string
				Line     int
				Licence  string
				Row      row
			}
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				return nil, fmt.Errorf("questions of %s: %w", s.name, err)
			}
			q := Question{ID: line.ID, Category: s.category, Source: s.name, Line: line.Line, Licence: line.Licence}
			if err := s.parse(&q, line.Row); err != nil {
				return nil, fmt.Errorf("question %s: %w", line.ID, err)
			}
			if line.Position < 0 || line.Position >= Size || all[line.Position].ID != "" {
				return nil, fmt.Errorf("question %s: no free position %d in the set", line.ID, line.Position)
			}
			all[line.Position] = q
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("questions of %s: %w", s.name, err)
		}
	}
	if i := slices.IndexFunc(all, func(q Question) bool { return q.ID == "" }); i >= 0 {
		return nil, fmt.Errorf("the set has no question %d", i)
	}
	return all[:n:n], nil
}

func parseMMLU(q *Question, r row) error {
	q.Task = "mmlu_" + r.Subject + " 1.0"
	subject := strings.ReplaceAll(r.Subject, "_", " ")
	if len(r.Choices) != 4 {
		return fmt.Errorf("%d choices, want 4", len(r.Choices))
	}
	q.Prompt = "The following are multiple choice questions (with answers) about " + subject + ".\n\n" +
		strings.TrimSpace(r.Question) +
		"\nA. " + r.Choices[0] + "\nB. " + r.Choices[1] + "\nC. " + r.Choices[2] + "\nD. " + r.Choices[3] + "\nAnswer:"
	return choice(q, []string{"A", "B", "C", "D"}, r.Answer)
}

func parseARC(q *Question, r row) error {
	q.Task = "arc_challenge 1.0"
	q.Prompt = "Question: " + r.Question + "\nAnswer:"
	return choice(q, r.Choices, r.Answer)
}

func parseOpenBookQA(q *Question, r row) error {
	q.Task = "openbookqa 1.0"
	q.Prompt = r.Question
	return choice(q, r.Choices, r.Answer)
}

func choice(q *Question, choices []string, answer json.RawMessage) error {
	q.Kind, q.Choices, q.Chance = KindChoice, choices, 1/float64(len(choices))
	if err := json.Unmarshal(answer, &q.Gold); err != nil {
		return fmt.Errorf("answer %s: %w", answer, err)
	}
	if q.Gold < 0 || q.Gold >= len(choices) {
		return fmt.Errorf("answer %d of %d choices", q.Gold, len(choices))
	}
	return nil
}

func parseWinoGrande(q *Question, r row) error {
	q.Task = "winogrande 1.0"
	q.Kind, q.Choices, q.Chance = KindChoice, []string{r.Option1, r.Option2}, 0.5
	q.Prompt = r.Sentence
	if strings.Count(r.Sentence, "_") != 1 {
		return errors.New("the sentence has not one gap")
	}
	switch string(r.Answer) {
	case `"1"`:
		q.Gold = 0
	case `"2"`:
		q.Gold = 1
	default:
		return fmt.Errorf("answer %s, want 1 or 2", r.Answer)
	}
	return nil
}

func parseGSM8K(q *Question, r row) error {
	q.Task = "gsm8k 3.0"
	q.Kind = KindNumber
	q.Prompt = exemplars + "Question: " + r.Question + "\nAnswer:"
	var answer string
	if err := json.Unmarshal(r.Answer, &answer); err != nil {
		return err
	}
	_, number, ok := strings.Cut(answer, "#### ")
	if !ok || cleanNumber(number) == "" {
		return errors.New("the answer ends with no number")
	}
	q.Answer = number
	return nil
}

func parseHumanEval(q *Question, r row) error {
	q.Task = "humaneval 1.0"
	q.Kind = KindCode
	q.Prompt, q.EntryPoint, q.Canonical, q.Test = r.Prompt, r.EntryPoint, r.Canonical, r.Test
	if cmp.Or(q.Prompt, q.EntryPoint) == "" || q.Canonical == "" || q.Test == "" {
		return errors.New("a field is empty")
	}
	return nil
}

func parseIFEval(q *Question, r row) error {
	q.Task = "ifeval 4.0"
	q.Kind = KindInstructions
	q.Prompt = r.Prompt
	if len(r.InstructionIDs) == 0 || len(r.InstructionIDs) != len(r.Kwargs) {
		return fmt.Errorf("%d instructions with %d arguments", len(r.InstructionIDs), len(r.Kwargs))
	}
	for i, id := range r.InstructionIDs {
		in, err := instructions.New(id, r.Kwargs[i])
		if err != nil {
			return err
		}
		q.Instructions = append(q.Instructions, in)
	}
	return nil
}
