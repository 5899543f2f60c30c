// Command generate picks the 120 questions of package questions out of the
// source files, and writes one file per source:
//
//	go run ./eval/questions/_generate SOURCE_FOLDER eval/questions/data
//
// The choice is deterministic: every rule below orders rows by the sha256 of
// seed, source and row number. Rows are stored as they are in the source.
package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// seed names the selection; another seed is another set.
const seed = "llama-pajamas questions 1"

type row struct {
	number int // 0-based line of the source file
	text   json.RawMessage
	key    uint64 // order of choice
	fields fields
}

// fields are the fields of all sources together.
type fields struct {
	Subject   string   `json:"subject"`
	Question  string   `json:"question"`
	Choices   []string `json:"choices"`
	Answer    any      `json:"answer"`
	Sentence  string   `json:"sentence"`
	Prompt    string   `json:"prompt"`
	Canonical string   `json:"canonical_solution"`
	TaskID    string   `json:"task_id"`
	Key       int      `json:"key"`

	InstructionIDs []string         `json:"instruction_id_list"`
	Kwargs         []map[string]any `json:"kwargs"`
}

// stored is one line of the set.
type stored struct {
	Position int             `json:"position"` // 0 to 119 in the set
	ID       string          `json:"id"`
	Source   string          `json:"source"`
	Line     int             `json:"line"` // 0-based line of the source file
	Licence  string          `json:"licence"`
	Row      json.RawMessage `json:"row"` // as in the source
}

// leftOut are rows that are wrong in themselves, found by reading what was
// picked: source, 0-based line, reason.
var leftOut = map[string]map[int]string{
	"arc_challenge": {330: "the answer given is origin; what tells gabbro from basalt is texture"},
	"humaneval":     {47: "the examples in the prompt contradict the tests"},
	"ifeval":        {33: "prompt says at least 6, arguments say less than 6"},
}

// categories in the set's order, each with its sources in turn.
var categories = [][]string{
	{"mmlu"}, {"arc_challenge"}, {"gsm8k"}, {"humaneval"}, {"openbookqa", "winogrande"}, {"ifeval"},
}

var sources = map[string]struct {
	file, licence string
	pick          func([]row) []row
}{
	"mmlu":          {"mmlu_24x20.jsonl", "MIT", pickMMLU},
	"arc_challenge": {"arc_challenge_test_400.jsonl", "CC BY-SA 4.0", func(r []row) []row { return pickChoice(r, 20) }},
	"gsm8k":         {"gsm8k_test_300.jsonl", "MIT", pickGSM8K},
	"humaneval":     {"humaneval.jsonl", "MIT", pickHumanEval},
	"openbookqa":    {"openbookqa_test.jsonl", "Apache-2.0", func(r []row) []row { return pickChoice(r, 10) }},
	"winogrande":    {"winogrande_valid_300.jsonl", "CC BY", pickWinoGrande},
	"ifeval":        {"ifeval_input_data.jsonl", "Apache-2.0", pickIFEval},
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: generate SOURCE_FOLDER OUTPUT_FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(from, to string) error {
	for c, names := range categories {
		for s, name := range names {
			src := sources[name]
			rows, err := read(filepath.Join(from, src.file), name)
			if err != nil {
				return err
			}
			picked := src.pick(rows)
			if want := 20 / len(names); len(picked) != want {
				return fmt.Errorf("%s: %d rows picked, want %d", name, len(picked), want)
			}
			var out bytes.Buffer
			for i, r := range picked {
				turn := i*len(names) + s
				line, err := json.Marshal(stored{
					Position: turn*len(categories) + c, ID: id(name, r), Source: name,
					Line: r.number, Licence: src.licence, Row: r.text,
				})
				if err != nil {
					return err
				}
				out.Write(unescape(line))
				out.WriteByte('\n')
			}
			if err := os.WriteFile(filepath.Join(to, name+".jsonl"), out.Bytes(), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// unescape undoes encoding/json's escapes of <, > and &, so that rows stay as
// they are in the source.
func unescape(b []byte) []byte {
	return []byte(strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(b)))
}

func id(source string, r row) string {
	switch source {
	case "mmlu":
		return fmt.Sprintf("mmlu/%s/%d", r.fields.Subject, r.number%20)
	case "humaneval":
		return "humaneval/" + strings.TrimPrefix(r.fields.TaskID, "HumanEval/")
	case "ifeval":
		return fmt.Sprintf("ifeval/%d", r.fields.Key)
	}
	return fmt.Sprintf("%s/%d", source, r.number)
}

func read(path, source string) ([]row, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var rows []row
	for i, line := range bytes.Split(bytes.TrimSpace(data), []byte("\n")) {
		r := row{number: i, text: line}
		if err := json.Unmarshal(line, &r.fields); err != nil {
			return nil, fmt.Errorf("%s line %d: %w", path, i+1, err)
		}
		if leftOut[source][i] != "" {
			continue
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", seed, source, i))
		r.key = binary.BigEndian.Uint64(sum[:])
		rows = append(rows, r)
	}
	slices.SortFunc(rows, byKey)
	return rows, nil
}

func byKey(a, b row) int { return cmp.Compare(a.key, b.key) }

// pickMMLU takes 20 subjects of 24, one question each, with each letter the
// answer of five. A question is at most 500 bytes with its choices.
func pickMMLU(rows []row) []row {
	left := map[int]int{0: 5, 1: 5, 2: 5, 3: 5}
	seen := map[string]bool{}
	var out []row
	for _, r := range rows {
		a := gold(r)
		if len(out) == 20 || seen[r.fields.Subject] || left[a] == 0 || choiceBytes(r) > 500 {
			continue
		}
		seen[r.fields.Subject] = true
		left[a]--
		out = append(out, r)
	}
	return out
}

// pickChoice takes n questions of four choices, the position of the answer
// balanced, at most 400 bytes each.
func pickChoice(rows []row, n int) []row {
	used := map[int]int{}
	var out []row
	for _, r := range rows {
		a := gold(r)
		if len(out) == n || len(r.fields.Choices) != 4 || used[a] == (n+3)/4 || choiceBytes(r) > 400 {
			continue
		}
		used[a]++
		out = append(out, r)
	}
	return out
}

// pickWinoGrande takes ten sentences, five with each answer. Sentences come in
// twins that differ in a word, mostly as neighbours: at most one of a twin.
func pickWinoGrande(rows []row) []row {
	left := map[any]int{"1": 5, "2": 5}
	taken := map[int]bool{}
	var out []row
	for _, r := range rows {
		if len(out) == 10 || left[r.fields.Answer] == 0 || taken[r.number-1] || taken[r.number+1] || strings.Count(r.fields.Sentence, "_") != 1 {
			continue
		}
		taken[r.number] = true
		left[r.fields.Answer]--
		out = append(out, r)
	}
	return out
}

// pickGSM8K spreads the choice over the number of calculations in the answer:
// rows are ordered by it and cut into 20 parts, of each the first by key.
func pickGSM8K(rows []row) []row {
	return strata(rows, func(r row) int { return strings.Count(r.fields.Answer.(string), "<<") })
}

// pickHumanEval spreads the choice over the set's order. Problems longer
// than 1500 bytes with solution are left out.
func pickHumanEval(rows []row) []row {
	kept := slices.DeleteFunc(slices.Clone(rows), func(r row) bool {
		return len(r.fields.Prompt)+len(r.fields.Canonical) > 1500
	})
	return strata(kept, func(r row) int { return r.number })
}

// strata orders rows by what, cuts them into 20 parts of nearly equal size and
// takes the first of each by key; the result is again ordered by key.
func strata(rows []row, what func(row) int) []row {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(what(a), what(b)) })
	var out []row
	for i := range 20 {
		part := rows[i*len(rows)/20 : (i+1)*len(rows)/20]
		out = append(out, slices.MinFunc(part, byKey))
	}
	slices.SortFunc(out, byKey)
	return out
}

// long are words of prompts that ask for long answers.
var long = regexp.MustCompile(`(?i)\b(essay|long|story|stories|blog|resume|itinerary|article|novel|script|lyrics|song|rap|proposal|dialogue|paper|book|detailed|cover letter|screenplay|debate|report)\b`)

// pickIFEval takes prompts whose answers can be short, so that all 25 kinds of
// instruction occur, and then so that the rarest kinds come again.
func pickIFEval(rows []row) []row {
	rows = slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return !short(r) })
	used := map[string]int{}
	var out []row
	for len(out) < 20 {
		best, bestGain := -1, -1.0
		for i, r := range rows {
			gain := 0.0
			for _, id := range r.fields.InstructionIDs {
				gain += 1 / float64(int(1)<<(4*min(used[id], 8)))
			}
			if gain > bestGain+1e-12 {
				best, bestGain = i, gain
			}
		}
		if best < 0 {
			break
		}
		r := rows[best]
		for _, id := range r.fields.InstructionIDs {
			used[id]++
		}
		out = append(out, r)
		rows = slices.Delete(rows, best, best+1)
	}
	slices.SortFunc(out, byKey)
	return out
}

func short(r row) bool {
	if len(r.fields.Prompt) > 600 || long.MatchString(r.fields.Prompt) {
		return false
	}
	for _, k := range r.fields.Kwargs {
		n := func(name string) float64 { f, _ := k[name].(float64); return f }
		switch {
		case k["relation"] == "at least" && (n("num_words") > 80 || n("num_sentences") > 8),
			n("num_paragraphs") > 4, n("num_sections") > 3, n("num_placeholders") > 5,
			n("num_bullets") > 6, n("num_highlights") > 5, n("let_frequency") > 25,
			k["capital_relation"] == "at least" && n("capital_frequency") > 10:
			return false
		}
	}
	return true
}

func gold(r row) int { f, _ := r.fields.Answer.(float64); return int(f) }

func choiceBytes(r row) int {
	n := len(r.fields.Question)
	for _, c := range r.fields.Choices {
		n += len(c)
	}
	return n
}
